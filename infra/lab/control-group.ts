import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ToolboxError } from '../packaging/toolbox.js';
import type { ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { record } from './recorded-process.js';

// Everything of a lab runs in control groups of its own (version 2), so that nothing of it can outlive a kill.

/** Our directory in version 2, and, on a machine that mounts both, in the `name=systemd` hierarchy, where systemd-nspawn makes its copy. */
function tops(): { unified: string; copy?: string } {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  const unified = mounts.find((fields) => fields[2] === 'cgroup2')?.[1];
  if (unified === undefined)
    throw new ToolboxError('the lab needs control groups version 2, and none are mounted on this machine.');
  const named = mounts.find((fields) => fields[2] === 'cgroup' && fields[3]?.split(',').includes('name=systemd'))?.[1];
  return {
    unified: path.join(unified, 'guardia-lab'),
    ...(named === undefined ? {} : { copy: path.join(named, 'guardia-lab') }),
  };
}

/** Directory of the control group `name`, such as `g1/g1-0`, whether it is there or not. */
export const groupDirectory = (name: string): string => path.join(tops().unified, name);

/** The same; made when missing. */
export function controlGroup(name: string): string {
  const at = groupDirectory(name);
  mkdirSync(at, { recursive: true });
  if (!existsSync(path.join(at, 'cgroup.kill')))
    throw new ToolboxError('the lab needs Linux 5.14 or newer (cgroup.kill).');
  return at;
}

/** Kills everything in the group and below at once, as a power cut does, and removes the group. Idempotent. */
export async function killControlGroup(name: string): Promise<void> {
  const { unified, copy } = tops();
  const at = path.join(unified, name);
  const until = Date.now() + 20_000;
  while (existsSync(at)) {
    if (Date.now() > until) throw new Error(`${at} cannot be emptied: processes in it survive being killed`);
    try {
      if (populated(name)) writeFileSync(path.join(at, 'cgroup.kill'), '1');
    } catch {
      // Gone between the two.
    }
    if (!populated(name)) removeEmpty(at);
    if (existsSync(at)) await sleep(10);
  }
  if (copy !== undefined) removeEmpty(path.join(copy, name));
}

/** Removes the group and those below, as far as they are empty. */
function removeEmpty(at: string): void {
  try {
    for (const entry of readdirSync(at, { withFileTypes: true }))
      if (entry.isDirectory()) removeEmpty(path.join(at, entry.name));
    rmdirSync(at);
  } catch {
    // It is gone already, or somebody in it is still ending.
  }
}

/** True when a process lives in the group or below. */
export function populated(name: string): boolean {
  try {
    return /^populated 1$/m.test(readFileSync(path.join(groupDirectory(name), 'cgroup.events'), 'utf8'));
  } catch {
    return false;
  }
}

/** Starts a program that outlives this process, in the control group `group`, with its output appended to `log`. */
export function startDetached(
  group: string,
  argv: readonly string[],
  log: string,
  env: Record<string, string> = {},
): ProcessIdentity {
  const output = openSync(log, 'a', 0o600);
  try {
    const child = spawn('/bin/sh', ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', controlGroup(group), ...argv], {
      detached: true,
      cwd: '/',
      stdio: ['ignore', output, output],
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...env },
    });
    child.unref();
    child.on('error', () => {});
    if (child.pid === undefined) throw new Error(`cannot start ${argv[0]}`);
    return record(child.pid);
  } finally {
    closeSync(output);
  }
}
