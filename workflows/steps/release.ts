import type { Application } from '../contracts/application.js';
import type { ObservationCall } from '../contracts/calls.js';
import type { Deployment, ReleaseCommand } from '../contracts/deployment.js';
import { failure } from '../contracts/errors.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { Step } from '../contracts/plan.js';
import { storeReference } from '../contracts/store-reference.js';
import type { System } from '../contracts/system.js';
import { given } from '../contracts/unset.js';
import { call } from './call.js';

/* Steps that bring a release to a host and make it the current one. */

/** A release that a plan builds: its id is made from the run, its commit from what the ref was. */
export interface NewRelease {
  id: string;
  commit: string;
}

/** A fetch gets this long, whatever the size. Seconds. */
const FETCH_SECONDS = 1800;

/** What all calls about releases name. */
export const placeOf = ({ directory, releases, user }: Deployment) => ({ directory, releases, user });

/** The source, unpacked beside the releases, with links to what is shared. */
export function fetch(
  host: string,
  { deployment }: Application,
  source: Record<string, unknown>,
  release: NewRelease,
): Step {
  const place = { ...placeOf(deployment), ...release };
  return {
    id: `fetch-${host}`,
    title: `fetch ${release.commit.slice(0, 8)} into ${deployment.releases}`,
    why: 'a release is a directory of its own: the one that runs is not touched',
    do: call('fetchRelease', { ...place, source, shared: deployment.shared, timeoutSeconds: FETCH_SECONDS }),
    undo: discard(deployment, release),
    runAgainIfLost: true,
  };
}

/** The build, as the application's user. What fails here never had a name. */
export function build(host: string, { deployment }: Application, release: NewRelease): Step {
  const commands = deployment.build;
  return {
    id: `build-${host}`,
    title: `build ${release.id}: ${commands.map(commandText).join(', ') || 'nothing to run'}`,
    why: 'it gets its name once it is whole; half a release is never seen',
    do: call('buildRelease', {
      ...placeOf(deployment),
      ...release,
      commands,
      environment: deployment.environment,
      timeoutSeconds: commands.reduce((sum, { timeoutSeconds }) => sum + timeoutSeconds, 120),
    }),
    undo: discard(deployment, release),
  };
}

/** The preflight command of the release, where the inventory has one. */
export function preflight(host: string, { deployment }: Application, release: NewRelease): Step[] {
  const command = deployment.preflight;
  if (!command) return [];
  return [
    {
      id: `preflight-${host}`,
      title: `preflight: ${commandText(command)}`,
      why: 'what would fail at the start fails here, before anything has changed',
      do: call('runInRelease', {
        ...placeOf(deployment),
        id: release.id,
        command,
        environment: deployment.environment,
        timeoutSeconds: command.timeoutSeconds + 60,
      }),
      undo: { none: 'it only looks' },
      runAgainIfLost: true,
    },
  ];
}

/** The link that units name, from one release to another. */
export function switchTo(host: string, { deployment }: Application, from: string | null, to: string): Step {
  const { directory, releases } = deployment;
  const argument = { directory, releases, from, to };
  return {
    id: `switch-${host}`,
    title: `let ${directory} point to ${to}${from === null ? ', the first release here' : ` instead of ${from}`}`,
    why: 'one rename: the path that units name is never missing',
    do: call('switchRelease', argument),
    undo: call('switchBack', argument),
  };
}

/** Old releases go: never the current one, the one before it, one that a way back may need, nor one that was taken over from a checkout. */
export function prune(host: string, { deployment }: Application, protect: readonly string[]): Step {
  const { directory, releases, keep } = deployment;
  return {
    id: `prune-${host}`,
    title: `remove all but the newest ${keep} releases and those that a rollback needs`,
    why: 'releases fill the disk',
    do: call('pruneReleases', { directory, releases, keep, protect: [...new Set(protect)] }),
    undo: { none: 'what is removed is older than any way back, and can be built again' },
  };
}

/** The source of a release as its fetch names it. Throws `UnsetValue`. */
export function sourceOf(system: System, { name, deployment }: Application, commit: string): Record<string, unknown> {
  const { source } = deployment;
  return source.kind === 'git'
    ? { kind: 'git', url: given(source.url, `deployments.${name}.source.url`) }
    : { kind: 'archive', store: storeReference(system), key: archiveKey(system, source.prefix, commit) };
}

/** The look at what a ref is now: a commit of the repository, or an archive in the bucket. Throws `InvalidInput` without a ref. */
export function lookAtSource(system: System, application: Application, wanted: string | undefined): ObservationCall {
  const { name, deployment, hosts } = application;
  const { source, migrations } = deployment;
  const ref = wanted ?? (source.kind === 'git' ? source.ref : undefined);
  if (ref === undefined)
    throw failure('InvalidInput', `name the archive of ${name} that is to be deployed`, {
      remedy: 'Give its SHA-256 as "ref"',
    });
  const look = { as: 'source', title: `look what ${ref} is` };
  if (source.kind === 'archive')
    return {
      ...look,
      on: SYSTEM_LANE,
      call: call('resolveArchive', {
        store: storeReference(system),
        key: archiveKey(system, source.prefix, ref),
        digest: ref,
      }),
    };
  const files = migrations.kind === 'none' ? undefined : migrations.files;
  return {
    ...look,
    on: hosts[0] as string,
    call: call('resolveRef', {
      ref,
      url: given(source.url, `deployments.${name}.source.url`),
      user: deployment.user,
      releases: deployment.releases,
      ...(files ? { migrations: files } : {}),
    }),
  };
}

const archiveKey = (system: System, prefix: string, digest: string): string =>
  `${system.backup.prefix}${system.system}/${prefix}${digest}.tar.zst`;
const discard = (deployment: Deployment, { id }: NewRelease) => call('discardRelease', { ...placeOf(deployment), id });
const commandText = ({ run }: ReleaseCommand): string => run.join(' ');
