import { setTimeout as sleep } from 'node:timers/promises';
import { identify, isRunning, type ProcessIdentity } from '../../activities/temporal/process-identity.js';

/** Identifies a process that was just started. Throws when it is gone already. */
export function record(pid: number): ProcessIdentity {
  const identity = identify(pid);
  if (identity === undefined) throw new Error(`process ${pid} ended at once`);
  return identity;
}

/** Ends exactly this process: SIGTERM, and SIGKILL when it is still there after `patience` milliseconds. */
export async function end(recorded: ProcessIdentity, patience = 5000): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!isRunning(recorded)) return;
    try {
      process.kill(recorded.pid, signal);
    } catch {
      return;
    }
    const until = Date.now() + patience;
    while (isRunning(recorded) && Date.now() < until) await sleep(20);
  }
}
