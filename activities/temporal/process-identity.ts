import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** A process that cannot be mistaken for a later one with the same number. */
export interface ProcessIdentity {
  pid: number;
  /** When it started, in the words of this operating system; only compared, never read. */
  startTime: string;
}

/** What identifies the process with this number now, undefined when there is none (or only a zombie). */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    if (process.platform === 'linux') {
      // The command name stands in parentheses and may hold anything: count from the last one. Field 3 is the state, 22 the start.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const startTicks = fields[19];
      if (startTicks === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined;
      // Ticks count from the boot: without the boot, a number could come back after a restart of the machine.
      const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      return { pid, startTime: `${boot}/${startTicks}` };
    }
    const started = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return started.trim() === '' ? undefined : { pid, startTime: started.trim() };
  } catch {
    return undefined;
  }
}

/** Whether exactly this process is still running. */
export function isRunning(process: ProcessIdentity): boolean {
  return identify(process.pid)?.startTime === process.startTime;
}
