import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ToolboxError } from '../packaging/toolbox.js';
import { record, type RecordedProcess } from './recorded-process.js';

// Everything of a lab runs in control groups of its own (version 2), so that nothing of it can outlive a kill.

function top(): string {
  const mount = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find((fields) => fields[2] === 'cgroup2');
  if (mount?.[1] === undefined) throw new ToolboxError('the lab needs control groups version 2, and none are mounted on this machine.');
  return path.join(mount[1], 'guardia-lab');
}

/** Directory of the control group `name`, such as `g1/h0`; made when missing. */
export function controlGroup(name: string): string {
  const at = path.join(top(), name);
  mkdirSync(at, { recursive: true });
  if (!existsSync(path.join(at, 'cgroup.kill'))) throw new ToolboxError('the lab needs Linux 5.14 or newer (cgroup.kill).');
  return at;
}

/** Kills everything in the group and below at once, as a power cut does, and removes the group. Idempotent. */
export async function killControlGroup(name: string): Promise<void> {
  const at = path.join(top(), name);
  if (!existsSync(at)) return;
  const until = Date.now() + 20_000;
  for (;;) {
    if (populated(at)) writeFileSync(path.join(at, 'cgroup.kill'), '1');
    else {
      try {
        removeTree(at);
        return;
      } catch (error) {
        if (Date.now() > until) throw error;
      }
    }
    if (Date.now() > until) throw new Error(`processes in ${at} survive being killed`);
    await sleep(10);
  }
}

/** Names of the groups directly below `name`. */
export function controlGroupsBelow(name: string): string[] {
  const at = path.join(top(), name);
  if (!existsSync(at)) return [];
  return readdirSync(at, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
}

export function populated(at: string): boolean {
  return existsSync(at) && /^populated 1$/m.test(readFileSync(path.join(at, 'cgroup.events'), 'utf8'));
}

function removeTree(at: string): void {
  for (const entry of readdirSync(at, { withFileTypes: true })) if (entry.isDirectory()) removeTree(path.join(at, entry.name));
  rmdirSync(at);
}

/** Starts a program that outlives this process, in the control group `group`, with its output appended to `log`. */
export function startDetached(group: string, argv: readonly string[], log: string, env: Record<string, string> = {}): RecordedProcess {
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
