import { Cron } from 'croner';

/**
 * The last time at which a schedule was due, not after `until` and not before `since`; undefined where there is none. As Temporal's schedules have it: day of month
 * and day of week must both fit, and a time that the change to summer time leaves out is left out. Pure.
 */
export function lastDue(cron: string, timezone: string, since: Date, until: Date): Date | undefined {
  const times = new Cron(cron, { timezone, paused: true, domAndDow: true, mode: '5-part' });
  // `previousRuns` looks before its reference, and moves what summer time leaves out to the next hour.
  const found = times.previousRuns(3, new Date(until.getTime() + 1)).find((time) => times.match(time));
  return found !== undefined && found >= since ? found : undefined;
}
