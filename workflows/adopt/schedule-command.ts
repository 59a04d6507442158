import { WORKFLOW_TASK_QUEUE } from '../contracts/task-queues.js';
import type { System } from '../contracts/system.js';

/**
 * The command line of Temporal's own CLI that makes a schedule of the inventory, for a POSIX shell. Its runs are called RUNBOOK/SYSTEM/SCHEDULE-TIME;
 * one that is due while the one before it is still open is left out. Throws TypeError for a schedule that the system does not have. Pure.
 */
export function scheduleCommand({ system, timezone, schedules }: System, name: string): string {
  const schedule = schedules[name];
  if (schedule === undefined) throw new TypeError(`${system} has no schedule ${name}`);
  const { runbook, cron, input } = schedule;
  return [
    ...['temporal', 'schedule', 'create', '--schedule-id', `${system}/${name}`],
    ...['--cron', quoted(cron), '--time-zone', timezone, '--overlap-policy', 'Skip'],
    ...['--type', runbook, '--task-queue', WORKFLOW_TASK_QUEUE, '--workflow-id', `${runbook}/${system}/${name}`],
    ...['--input', quoted(JSON.stringify({ ...input, system, requester: 'schedule' }))],
  ].join(' ');
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
