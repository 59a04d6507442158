import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { jobFailureIn } from '../../../activities/object-store/job-failures.js';
import type { ArtifactJob } from '../../../activities/object-store/job-text.js';

export interface EndedJob {
  exitCode: number | null;
  stdout: string;
  stderr: string;
  /** Of the `guardia:error` line. */
  failure?: { code: string; message: string };
  /** What it left in its scratch directory. */
  leftBehind: string[];
}

export interface RunningJob {
  process: ChildProcess;
  pid: number;
  scratch: string;
  ended: Promise<EndedJob>;
}

/** Starts a job's script as the job frame would: a file, arguments, secrets on stdin, a scratch directory in memory. */
export function startJob(job: ArtifactJob, options: { scratch?: string } = {}): RunningJob {
  const scratch = options.scratch ?? mkdtempSync('/dev/shm/guardia-scratch-');
  const directory = mkdtempSync('/dev/shm/guardia-job-');
  const script = path.join(directory, 'script');
  writeFileSync(script, job.script, { mode: 0o600 });
  const child = spawn('/bin/bash', [script, ...job.args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/root',
      LANG: 'C.UTF-8',
      GUARDIA_JOB_SCRATCH: scratch,
    },
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(job.stdin);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<EndedJob>((resolve) => {
    child.on('close', (exitCode) => {
      const leftBehind = readdirSync(scratch);
      if (options.scratch === undefined) rmSync(scratch, { recursive: true });
      rmSync(directory, { recursive: true });
      const failure = jobFailureIn(stderr);
      resolve({ exitCode, stdout, stderr, leftBehind, ...(failure ? { failure } : {}) });
    });
  });
  return { process: child, pid: child.pid ?? 0, scratch, ended };
}

export const runJob = (job: ArtifactJob): Promise<EndedJob> => startJob(job).ended;

/** The ids of all processes that descend from one, with their command lines. */
export function descendants(pid: number): { pid: number; command: string }[] {
  const lines = execFileSync('ps', ['-e', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  const all = lines.flatMap((line) => {
    const [, id, parent, command] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    return id === undefined ? [] : [{ pid: Number(id), parent: Number(parent), command: command ?? '' }];
  });
  const found: { pid: number; command: string }[] = [];
  const walk = (of: number) => {
    for (const each of all) {
      if (each.parent !== of) continue;
      found.push({ pid: each.pid, command: each.command });
      walk(each.pid);
    }
  };
  walk(pid);
  return found;
}

/** kill -9 for a process and its descendants, those that end by themselves meanwhile included. */
export function killTree(pid: number): void {
  for (const each of [{ pid }, ...descendants(pid)]) {
    try {
      process.kill(each.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Whether a process is there and no zombie. */
export function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

/** The one descendant whose command line matches. */
export async function descendant(pid: number, command: RegExp): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const found = descendants(pid).filter((each) => command.test(each.command));
    if (found[0]) return found[0].pid;
    await delay(50);
  }
  throw new Error(
    `no process ${String(command)} below ${pid}:\n${descendants(pid)
      .map((each) => each.command)
      .join('\n')}`,
  );
}

/** Looks into every process's arguments and environment until stopped, for texts that must be in none. */
export function watchProcesses(
  planted: readonly string[],
  own: readonly number[],
): { stop: () => { sightings: string[]; looked: number } } {
  const sightings = new Set<string>();
  let looked = 0;
  let stopped = false;
  const look = () => {
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid) || own.includes(Number(pid))) continue;
      for (const file of ['cmdline', 'environ']) {
        let text: string;
        try {
          text = readFileSync(`/proc/${pid}/${file}`, 'latin1');
        } catch {
          continue;
        }
        looked++;
        for (const secret of planted) {
          if (text.includes(secret))
            sightings.add(`${secret.slice(0, 4)}... in ${file} of ${text.slice(0, 80).replaceAll('\0', ' ')}`);
        }
      }
    }
    if (!stopped) setImmediate(look);
  };
  look();
  return {
    stop: () => {
      stopped = true;
      return { sightings: [...sightings], looked };
    },
  };
}
