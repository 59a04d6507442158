import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { alternativesOf, isInstalled, PackageSpec } from '../../workflows/contracts/provision.js';
import { cancelStepJobs, runStepJob, targetOf } from '../activity-context.js';
import { lookAtPaths } from '../files/paths.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember } from '../journal.js';

const script = readFileSync(new URL('./packages.sh', import.meta.url), 'utf8');

const InstallPackages = z.strictObject({
  packages: z.array(PackageSpec).min(1),
  timeoutSeconds: z.int().positive(),
});

/** What an installation adds, with everything that it brings along: known before it begins. */
interface PackageEntry {
  added: string[];
  changed: string[];
  /** Of LEFTOVERS those that were not there. */
  absent: string[];
  /** Of `added` those whose data was there before them: a purge must not take it. */
  keepData: string[];
  /** Of `added` those that were removed before, and whose configuration was still there; missing in entries of older workers. */
  configured?: string[];
  /** What of the network Docker changes by itself, as it was; missing where nothing of FILTERING is added. */
  network?: string;
}

/** Packages that put rules into the kernel, which stay there when they are purged. */
const FILTERING = ['docker.io', 'docker-ce', 'ufw'];

/** Where packages keep data that their purge destroys. */
const DATA: Readonly<Record<string, string>> = {
  'docker.io': '/var/lib/docker',
  'redis-server': '/var/lib/redis',
  'nginx-common': '/etc/nginx',
  certbot: '/etc/letsencrypt',
};
const dataOf = (name: string): string | undefined =>
  /^postgresql-\d+$/.test(name) ? `/var/lib/postgresql/${name.slice('postgresql-'.length)}` : DATA[name];

/** What Debian's packages leave behind when they are purged: files of their daemons, then directories, deepest first. */
const LEFTOVERS = [
  '/etc/docker/key.json',
  '/etc/letsencrypt/cli.ini',
  '/var/www/html/index.nginx-debian.html',
  '/etc/docker',
  '/etc/cni/net.d',
  '/etc/cni',
  '/etc/postgresql',
  '/var/www/html',
  '/var/www',
];

/** Installed versions of these packages, or of what provides them, by name; without those that are not installed. Reads only. */
export async function observePackages(
  hosts: Hosts,
  context: CallContext,
  names: readonly string[],
): Promise<Record<string, string>> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'packages', 'look', ...names] },
    { signal: cancellationSignal() },
  );
  return Object.fromEntries(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(' ') as [string, string]),
  );
}

/**
 * Those of these packages that apt can install under none of their alternatives, by the lists that the host has. Where it has no lists yet,
 * as a fresh image, or an installation was interrupted, nothing can be said: none. Reads only.
 */
export async function unavailablePackages(
  hosts: Hosts,
  context: CallContext,
  packages: readonly string[],
): Promise<string[]> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'packages', 'unavailable', ...packages], timeoutSeconds: 120 },
    { signal: cancellationSignal() },
  );
  return stdout.split('\n').filter((line) => line !== '');
}

export function createPackageActivities({ hosts }: { hosts: Hosts }) {
  return {
    /**
     * Installs Debian packages and nothing that they only recommend; never removes one. Of alternatives the first that apt can install. A job
     * on the host. Idempotent by (run, step, generation); undo `removePackages`.
     */
    async installPackages({ with: raw, context }: CallInput) {
      const { packages, timeoutSeconds } = InstallPackages.parse(raw);
      const target = targetOf(context);
      const { entry } = await remember<PackageEntry>(hosts, context, async () => {
        const { stdout } = await hosts.run(
          target,
          { argv: ['/bin/bash', '-c', script, 'packages', 'simulate', ...packages], timeoutSeconds: 600 },
          { fence: context.fence, signal: cancellationSignal() },
        );
        const lines = stdout.split('\n').map((line) => line.split(' '));
        const of = (word: string): string[] => lines.flatMap(([kind, name]) => (kind === word && name ? [name] : []));
        const states = await lookAtPaths(hosts, target, LEFTOVERS, 0);
        const added = of('new');
        const holders = added.flatMap((name) =>
          dataOf(name) === undefined ? [] : [[name, dataOf(name) ?? ''] as const],
        );
        const places = holders.map(([, place]) => place);
        const data = places.length === 0 ? [] : await lookAtPaths(hosts, target, places, 0);
        const network = added.some((name) => FILTERING.includes(name))
          ? await hosts.run(target, { argv: ['/bin/bash', '-c', script, 'packages', 'network'] })
          : undefined;
        return {
          ...(network ? { network: network.stdout.trim() } : {}),
          added,
          keepData: holders.flatMap(([name], i) => (data[i]?.type === 'absent' ? [] : [name])),
          configured: of('configured'),
          changed: of('changed'),
          absent: LEFTOVERS.filter((_, i) => states[i]?.type === 'absent'),
        };
      });
      await runStepJob(hosts, target, context, {
        command: { script, args: ['install', ...packages] },
        timeoutSeconds,
      });
      const names = packages.flatMap((spec) => alternativesOf(spec).map(({ name }) => name));
      const now = await observePackages(hosts, context, names);
      const missing = packages.filter((spec) => !isInstalled(spec, now));
      if (missing.length > 0)
        throw failure(
          'VerificationFailed',
          `${missing.join(', ')} cannot be seen on ${target.name} after the installation`,
          {
            host: target.name,
            step: context.step,
          },
        );
      const along = entry.added.filter((name) => !names.includes(name)).length;
      return {
        summary:
          `${entry.added.length} package(s) added${along > 0 ? `, ${along} of them brought along` : ''}` +
          (entry.changed.length > 0
            ? `; another version of ${entry.changed.join(', ')}, which stays after an undo`
            : ''),
      };
    },

    /**
     * Undo of `installPackages`: stops its job, and purges what it added, with what came along, but no data or configuration that was there before,
     * where nothing else needs it by now (`ThirdState`). Packages that were there stay. Idempotent by (run, step).
     */
    async removePackages({ context }: CallInput) {
      const target = targetOf(context);
      await cancelStepJobs(hosts, target, context);
      const entry = await recall<PackageEntry>(hosts, context);
      if (!entry || entry.added.length === 0) return;
      try {
        await hosts.run(
          target,
          {
            argv: [
              '/bin/bash',
              '-c',
              script,
              'packages',
              'remove',
              entry.keepData.join(' '),
              (entry.configured ?? []).join(' '),
              entry.network ?? '',
              ...entry.added,
            ],
            timeoutSeconds: 500,
          },
          { fence: context.fence, signal: cancellationSignal() },
        );
      } catch (error) {
        if (!isFailure(error, 'CommandFailed') || !error.message.includes('ended with code 3')) throw error;
        throw failure(
          'ThirdState',
          `packages of this step on ${target.name} are needed by others now: ${error.message}`,
          {
            host: target.name,
            step: context.step,
            remedy: 'They stay installed; remove by hand what is not needed',
          },
        );
      }
      if (entry.absent.length > 0)
        await hosts.run(
          target,
          { argv: ['/bin/bash', '-c', script, 'packages', 'tidy', ...entry.absent] },
          { fence: context.fence, signal: cancellationSignal() },
        );
    },
  };
}
