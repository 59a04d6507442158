import { execa } from 'execa';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { controlGroup, groupDirectory, killControlGroup, startDetached } from './control-group.js';
import type { ProcessIdentity } from '../../activities/temporal/process-identity.js';

/** What every systemd-nspawn gets. The machine's kernel refuses nspawn's own system-call filter, and hosts see one hierarchy of control groups. */
const environment = { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1', SYSTEMD_SECCOMP: '0' };
const common = ['--quiet', '--register=no', '--keep-unit', '--timezone=off'];

/** Runs one program as root inside a tree that is not booted, and returns what it printed. */
export async function runInTree(options: {
  group: string;
  root: string;
  network: 'machine' | 'none';
  binds?: string[];
  readOnlyBinds?: string[];
  argv: string[];
}): Promise<string> {
  const nspawn = [
    'systemd-nspawn',
    ...common,
    ...['-D', options.root, '--as-pid2', `--machine=guardia-${options.group}`, '--console=pipe'],
    ...(options.network === 'none' ? ['--private-network', '--resolv-conf=off'] : ['--resolv-conf=replace-host']),
    ...(options.binds ?? []).map((bind) => `--bind=${bind}`),
    ...(options.readOnlyBinds ?? []).map((bind) => `--bind-ro=${bind}`),
    ...options.argv,
  ];
  const result = await execa(
    '/bin/sh',
    ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', controlGroup(options.group), ...nspawn],
    {
      env: { ...environment, LC_ALL: 'C.UTF-8' },
      stdin: 'ignore',
      all: true,
      reject: false,
    },
  );
  await killControlGroup(options.group);
  if (result.failed) {
    throw new Error(
      `${options.argv.slice(0, 3).join(' ')} failed in ${options.root} (${result.exitCode ?? result.shortMessage}):\n${result.all.split('\n').slice(-40).join('\n')}`,
    );
  }
  return result.stdout;
}

/** Boots a host: a systemd of its own in its own namespaces, its network card `host0` on the bridge. */
export function boot(options: {
  group: string;
  root: string;
  machine: string;
  hostname: string;
  bridge: string;
  binds: string[];
  readOnlyBinds: string[];
  log: string;
}): ProcessIdentity {
  const argv = [
    'systemd-nspawn',
    ...common,
    ...[
      '-D',
      options.root,
      '--boot',
      `--machine=${options.machine}`,
      `--hostname=${options.hostname}`,
      '--console=pipe',
    ],
    ...[`--network-bridge=${options.bridge}`, '--resolv-conf=off', '--link-journal=no'],
    // Docker needs nearly all of them; the clock and the kernel's modules are the machine's.
    ...['--capability=all', '--drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE'],
    ...options.binds.map((bind) => `--bind=${bind}`),
    ...(existsSync('/dev/fuse') ? ['--bind=/dev/fuse'] : []),
    ...options.readOnlyBinds.map((bind) => `--bind-ro=${bind}`),
  ];
  // With --keep-unit systemd-nspawn leaves a reboot to who started it, and says so by exit code 133.
  return startDetached(
    options.group,
    ['/bin/sh', '-c', 'while "$@"; test $? -eq 133; do :; done', 'host', ...argv],
    options.log,
    environment,
  );
}

/** Removes what a systemd-nspawn that was killed leaves under /run. Call it before the root is unmounted. Idempotent. */
export function forgetMachine(machine: string, root: string): void {
  for (const kind of ['propagate', 'unix-export'])
    rmSync(path.join('/run/systemd/nspawn', kind, machine), { recursive: true, force: true });
  const { dev, ino } = statSync(root, { throwIfNoEntry: false }) ?? {};
  if (dev !== undefined) rmSync(`/run/systemd/nspawn/locks/inode-${dev}:${ino}`, { force: true });
}

/** Process id, on this machine, of the host's systemd; undefined while it has none. */
export function leaderOf(group: string): number | undefined {
  // Where systemd-nspawn starts it, and where it then puts itself.
  for (const below of ['payload/init.scope', 'payload']) {
    for (const pid of linesOf(path.join(groupDirectory(group), below, 'cgroup.procs'))) {
      if (linesOf(`/proc/${pid}/status`).some((line) => /^NSpid:\t\d+\t1$/.test(line))) return Number(pid);
    }
  }
  return undefined;
}

/** Lines of a file of the kernel; none when it is gone, as that may happen at any time. */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n');
  } catch {
    return [];
  }
}
