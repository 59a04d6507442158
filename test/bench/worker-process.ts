import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startDetached } from '../../infra/lab/control-group.js';
import type { Lab } from '../../infra/lab/lab.js';
import { isRunning, type ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { end } from '../../infra/lab/recorded-process.js';
import { benchGroups, labGroup } from './meters.js';

const READY_SECONDS = 60;

/** A guardia worker of the benchmark's own: the product's entry point as a process. */
export interface WorkerProcess {
  pid: number;
  /** As a crash: SIGKILL to this process, nothing else. */
  kill(): Promise<void>;
  /** Ends it in good order. */
  stop(): Promise<void>;
}

/** Starts a worker in the lab's control groups, so that it cannot outlive the lab, and returns when it serves. */
export async function startWorker(lab: Lab, environment: Record<string, string>): Promise<WorkerProcess> {
  const log = path.join(lab.directory, 'bench/worker.log');
  const from = existsSync(log) ? statSync(log).size : 0;
  const entry = fileURLToPath(new URL('../../workers/main.js', import.meta.url));
  const recorded = startDetached(labGroup(lab.name, benchGroups.worker), [process.execPath, entry], log, {
    HOME: homedir(),
    ...environment,
  });
  const said = () => readFileSync(log).subarray(from).toString('utf8');
  const until = Date.now() + READY_SECONDS * 1000;
  while (!said().includes('guardia worker: serving')) {
    if (!isRunning(recorded) || Date.now() > until)
      throw new Error(`the worker did not come up; it said:\n${said().trimEnd().split('\n').slice(-15).join('\n')}`);
    await delay(20);
  }
  return {
    pid: recorded.pid,
    async kill() {
      process.kill(recorded.pid, 'SIGKILL');
      await gone(recorded);
    },
    stop: () => end(recorded, 20_000),
  };
}

async function gone(recorded: ProcessIdentity): Promise<void> {
  while (isRunning(recorded)) await delay(5);
}

/** Sets the peak of the process's resident memory back to what it is now. */
export function forgetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch (cause) {
    throw new Error(
      `the kernel does not let us reset the peak memory of process ${pid} (writing 5 to /proc/${pid}/clear_refs); it needs root and CONFIG_PROC_PAGE_MONITOR`,
      { cause },
    );
  }
}

/** Highest resident memory of the process since the last `forgetPeak`, in bytes. */
export function peakMemory(pid: number): number {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kibibytes === undefined) throw new Error(`/proc/${pid}/status names no VmHWM`);
  return Number(kibibytes) * 1024;
}
