import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { CommandEnvironment, ReleaseCommand, SharedPath } from '../../workflows/contracts/deployment.js';
import { failure } from '../../workflows/contracts/errors.js';
import { Commit, ReleaseId, type ReleaseObservation, type ResolvedRef } from '../../workflows/contracts/release.js';
import { StoreReference } from '../../workflows/contracts/store-reference.js';
import { ServiceReference } from '../../workflows/contracts/service-reference.js';
import { cancelStepJobs, runStepJob, targetOf } from '../activity-context.js';
import type { Hosts, RunResult } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';
import { headObject, readAddress } from '../object-store/objects.js';
import { withBucket } from '../object-store/open-store.js';
import type { Secrets } from '../secrets/resolve.js';
import { serviceArgument, serviceStates } from '../services/service-script.js';
import {
  commandArguments,
  countedCommand,
  environmentArguments,
  environmentSecrets,
  scripts,
  sharedArguments,
} from './release-script.js';

const place = { directory: z.string(), releases: z.string(), user: z.string() };
const ObserveRelease = z.object({
  ...place,
  shared: z.array(SharedPath),
  services: z.array(ServiceReference),
});
const ResolveRef = z.object({
  url: z.string(),
  ref: z.string(),
  user: z.string(),
  releases: z.string(),
  migrations: z.object({ directory: z.string(), up: z.string(), down: z.string() }).optional(),
});
const ResolveArchive = z.object({ store: StoreReference, key: z.string(), digest: Commit });
const release = { ...place, id: ReleaseId };
const FetchRelease = z.object({
  ...release,
  commit: Commit,
  source: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('git'), url: z.string() }),
    z.object({ kind: z.literal('archive'), store: StoreReference, key: z.string() }),
  ]),
  shared: z.array(SharedPath),
  timeoutSeconds: z.number(),
});
const BuildRelease = z.object({
  ...release,
  commit: Commit,
  commands: z.array(ReleaseCommand),
  environment: CommandEnvironment,
  timeoutSeconds: z.number(),
});
const DiscardRelease = z.object(release);
const RunInRelease = z.object({
  ...release,
  command: ReleaseCommand,
  environment: CommandEnvironment,
  timeoutSeconds: z.number(),
});
const SwitchRelease = z.object({
  directory: z.string(),
  releases: z.string(),
  from: ReleaseId.nullable(),
  to: ReleaseId.nullable(),
});
const PruneReleases = z.object({
  directory: z.string(),
  releases: z.string(),
  keep: z.int(),
  protect: z.array(ReleaseId),
});

/** Exit code of the scripts for a state that guardia did not make. */
const THIRD_STATE = 3;

/** Releases of an application on its hosts: directories beside each other, and a link to the current one. */
export function createReleaseActivities({ hosts, secrets }: { hosts: Hosts; secrets: Secrets }) {
  const run = async (
    context: CallContext,
    script: string,
    args: readonly string[],
    options: { fenced: boolean; timeoutSeconds?: number; okCodes?: number[] },
  ): Promise<RunResult> => {
    const host = targetOf(context);
    const ended = await hosts.run(
      host,
      {
        argv: ['/bin/bash', '-c', script, 'release', ...args],
        timeoutSeconds: options.timeoutSeconds ?? 60,
        okCodes: [0, THIRD_STATE],
      },
      { signal: cancellationSignal(), ...(options.fenced ? { fence: context.fence } : {}) },
    );
    if (ended.exitCode === THIRD_STATE) {
      const [message, remedy] = ended.stderr.trim().split('\n').slice(-2);
      throw failure('ThirdState', `${host.name}: ${message}`, { host: host.name, step: context.step, remedy });
    }
    return ended;
  };
  const target = (releases: string, id: string | null): string => (id === null ? '' : `${releases}/${id}`);

  return {
    /** Link, releases, room, shared data and services of a deployment on one host. Reads only. */
    async observeRelease({ with: raw, context }: CallInput): Promise<ReleaseObservation> {
      const { services, shared, ...where } = ObserveRelease.parse(raw);
      const { stdout } = await run(
        context,
        scripts.observe,
        [...named(where), ...sharedArguments(shared), '--', ...services.map(serviceArgument)],
        { fenced: false, timeoutSeconds: 100 },
      );
      return observationOf(stdout, where.releases);
    },

    /** The commit that a ref of a git repository is now, and the migrations that it brings. Reads only. */
    async resolveRef({ with: raw, context }: CallInput): Promise<ResolvedRef> {
      const { migrations, ...rest } = ResolveRef.parse(raw);
      const { stdout } = await run(
        context,
        scripts.resolve,
        named({ ...rest, ...(migrations ? { migrations: migrations.directory } : {}) }),
        { fenced: false, timeoutSeconds: 100 },
      );
      const lines = (name: string): string[] =>
        [...stdout.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, text = '']) => text);
      return {
        commit: Commit.parse(lines('commit')[0]),
        subject: lines('subject')[0] ?? '',
        migrations: migrations ? migrationsIn(lines('file'), migrations) : null,
      };
    },

    /** An archive of the bucket, by its digest. Reads only. Throws `UnknownRelease` where it is not there. */
    async resolveArchive({ with: raw }: CallInput): Promise<ResolvedRef> {
      const { store, key, digest } = ResolveArchive.parse(raw);
      const head = await withBucket(secrets, store, (bucket) => headObject(bucket, key, cancellationSignal()));
      if (!head)
        throw failure('UnknownRelease', `the bucket ${store.bucket} has no ${key}`, {
          remedy: 'Put the archive there under its SHA-256 first, or name another one',
        });
      return { commit: digest, subject: '', migrations: null };
    },

    /**
     * Brings a commit to the host and unpacks it beside the finished releases. Idempotent by (run, step, generation).
     * Undo: `discardRelease`.
     */
    async fetchRelease({ with: raw, context }: CallInput) {
      const { shared, source, timeoutSeconds, ...rest } = FetchRelease.parse(raw);
      const host = targetOf(context);
      await remember(hosts, context, async () => {
        const look = 'for name in "$1" "$1/.mirror.git"; do if [[ -d $name ]]; then echo yes; else echo no; fi; done';
        const { stdout } = await hosts.run(
          host,
          { argv: ['/bin/bash', '-c', look, 'look', rest.releases] },
          { signal: cancellationSignal() },
        );
        const [releases, mirror] = stdout.split('\n').map((line) => line === 'yes');
        return { releases, mirror };
      });
      const from =
        source.kind === 'git'
          ? { args: { kind: 'git', url: source.url }, stdin: Buffer.alloc(0) }
          : {
              args: { kind: 'archive' },
              // One object, for as long as the job may take, and nothing else: a host's own key does not read.
              stdin: Buffer.from(
                `${await withBucket(secrets, source.store, (bucket) => readAddress(bucket, source.key, timeoutSeconds))}\n`,
              ),
            };
      const { seconds } = await runStepJob(hosts, host, context, {
        command: { script: scripts.fetch, args: [...named({ ...rest, ...from.args }), ...sharedArguments(shared)] },
        stdin: from.stdin,
        timeoutSeconds,
      });
      return { summary: `fetched in ${seconds.toFixed(0)} s` };
    },

    /**
     * Runs the build commands as the application's user and gives the release its name. A build that fails leaves what it
     * made beside the releases, for `discardRelease` to remove. Idempotent by (run, step, generation).
     */
    async buildRelease({ with: raw, context }: CallInput) {
      const { commands, environment, timeoutSeconds, ...rest } = BuildRelease.parse(raw);
      const { seconds } = await runStepJob(hosts, targetOf(context), context, {
        command: {
          script: scripts.build,
          args: [
            ...named({ ...rest, run: context.runId }),
            ...environmentArguments(environment),
            '--',
            ...commands.flatMap(countedCommand),
          ],
        },
        stdin: await environmentSecrets(secrets, environment),
        timeoutSeconds,
      });
      return { summary: `built in ${seconds.toFixed(0)} s` };
    },

    /**
     * Undo of `fetchRelease` and `buildRelease`: stops their jobs and removes the release, and the mirror where this run made
     * it. Idempotent. Throws `ThirdState` when the release is the current one.
     */
    async discardRelease({ with: raw, context }: CallInput) {
      const argument = DiscardRelease.parse(raw);
      await cancelStepJobs(hosts, targetOf(context), context);
      const before = await recall<{ releases: boolean; mirror: boolean }>(hosts, context);
      const made = { mirror: before?.mirror === false ? 'made' : '', made: before?.releases === false ? 'yes' : '' };
      await run(context, scripts.discard, named({ ...argument, ...made }), { fenced: true, timeoutSeconds: 500 });
    },

    /** Runs one command inside a finished release that changes nothing: the preflight. Idempotent by (run, step, generation). */
    async runInRelease({ with: raw, context }: CallInput) {
      const { command, environment, timeoutSeconds, ...rest } = RunInRelease.parse(raw);
      const { seconds } = await runStepJob(hosts, targetOf(context), context, {
        command: {
          script: scripts.run,
          args: [...named(rest), ...environmentArguments(environment), '--', ...commandArguments(command)],
        },
        stdin: await environmentSecrets(secrets, environment),
        timeoutSeconds,
      });
      return { summary: `passed in ${seconds.toFixed(0)} s` };
    },

    /**
     * Lets the path of the units point to another release, in one step. Idempotent by its argument; refuses when it points to a
     * third one (`ThirdState`). Undo: `switchBack` with the same argument.
     */
    async switchRelease({ with: raw, context }: CallInput) {
      const { directory, releases, from, to } = SwitchRelease.parse(raw);
      await remember(hosts, context, () => Promise.resolve({ from, to }));
      await run(
        context,
        scripts.switch,
        named({ directory, releases, from: target(releases, from), to: target(releases, to) }),
        { fenced: true },
      );
      return { summary: to === null ? 'no release' : to };
    },

    /** Undo of `switchRelease`. Idempotent; does nothing when the switch never began. */
    async switchBack({ with: raw, context }: CallInput) {
      const { directory, releases, from, to } = SwitchRelease.parse(raw);
      if ((await recall(hosts, context)) === undefined) return;
      await run(
        context,
        scripts.switch,
        named({ directory, releases, from: target(releases, to), to: target(releases, from) }),
        { fenced: true },
      );
    },

    /**
     * Removes old releases and what unfinished runs have left. Never the current one, nor one that is named, nor one that migrations still need, nor what was
     * taken over from a checkout. Idempotent. No undo.
     */
    async pruneReleases({ with: raw, context }: CallInput) {
      const { protect, ...rest } = PruneReleases.parse(raw);
      const { stdout } = await run(context, scripts.prune, [...named(rest), '--', ...protect], {
        fenced: true,
        timeoutSeconds: 500,
      });
      const removed = stdout.split('\n').filter((line) => line !== '');
      return { removed, summary: removed.length === 0 ? 'nothing to remove' : `${removed.length} removed` };
    },
  };
}

const named = (values: Record<string, string | number>): string[] =>
  Object.entries(values).map(([name, value]) => `${name}=${value}`);

/** What `observe-release.sh` printed. Pure. */
export function observationOf(stdout: string, releases: string): ReleaseObservation {
  const lines = stdout.split('\n');
  const after = (name: string): string[] =>
    lines.filter((line) => line.startsWith(`${name} `)).map((line) => line.slice(name.length + 1));
  const link = after('link')[0] ?? null;
  const current = link?.startsWith(`${releases}/`) ? link.slice(releases.length + 1) : null;
  const [bytes, inodes] = (after('free')[0] ?? '').split(' ').map(Number);
  return {
    link,
    linkIsOther: lines.includes('link-is-other'),
    current: ReleaseId.safeParse(current).success ? current : null,
    releases: after('release').map((line) => {
      const [id = '', commit = ''] = line.split(' ');
      return { id, commit };
    }),
    partial: after('partial'),
    currentBytes: Number(after('current-kilobytes')[0] ?? 0) * 1024,
    freeBytes: bytes ?? 0,
    freeInodes: inodes ?? 0,
    missing: after('missing'),
    userMissing: lines.includes('user-missing'),
    services: serviceStates(stdout),
  };
}

/** The migrations among the files of a commit, in the order of their names. Pure. */
export function migrationsIn(
  files: readonly string[],
  { directory, up, down }: { directory: string; up: string; down: string },
): { name: string; reversible: boolean }[] {
  const names = files
    .filter((file) => file.startsWith(`${directory}/`) && !file.slice(directory.length + 1).includes('/'))
    .map((file) => file.slice(directory.length + 1));
  return names
    .filter((name) => name.endsWith(up) && !(down.endsWith(up) && name.endsWith(down)))
    .map((name) => name.slice(0, -up.length))
    .sort()
    .map((name) => ({ name, reversible: names.includes(`${name}${down}`) }));
}
