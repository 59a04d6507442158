import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process that was started here: the id alone may belong to another process later. */
export interface RecordedProcess {
  pid: number;
  /** Clock ticks after boot at which it began, field 22 of /proc/PID/stat. */
  startTime: number;
}

/** When the process began, or undefined when there is none (or only its unreaped rest). */
export function startTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name, in parentheses, may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

export function record(pid: number): RecordedProcess {
  const startTime = startTimeOf(pid);
  if (startTime === undefined) throw new Error(`process ${pid} ended at once`);
  return { pid, startTime };
}

export function isRunning(recorded: RecordedProcess): boolean {
  return startTimeOf(recorded.pid) === recorded.startTime;
}

/** Ends exactly this process: SIGTERM, and SIGKILL when it is still there after `patience` milliseconds. */
export async function end(recorded: RecordedProcess, patience = 5000): Promise<void> {
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
