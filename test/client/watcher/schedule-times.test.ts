import { describe, expect, test } from '@jest/globals';
import { lastDue } from '../../../client/watcher/schedule-times.js';

const due = (cron: string, timezone: string, until: string, since = '2020-01-01T00:00:00Z') =>
  lastDue(cron, timezone, new Date(since), new Date(until))?.toISOString();

describe('when a schedule was due last', () => {
  test.each([
    ['0 2 * * *', 'UTC', '2026-11-22T01:59:59Z', '2026-11-21T02:00:00.000Z'],
    ['0 2 * * *', 'UTC', '2026-11-22T02:00:00Z', '2026-11-22T02:00:00.000Z'],
    ['0 8,14,20 * * *', 'UTC', '2026-11-22T13:00:00Z', '2026-11-22T08:00:00.000Z'],
    ['*/20 * * * *', 'UTC', '2026-11-22T13:41:00Z', '2026-11-22T13:40:00.000Z'],
    ['0 3 * * *', 'America/Mexico_City', '2026-11-22T13:00:00Z', '2026-11-22T09:00:00.000Z'],
    ['0 3 * * sun', 'UTC', '2026-11-21T13:00:00Z', '2026-11-15T03:00:00.000Z'],
    // Both must fit, as Temporal has it: the first of a month that is a Monday.
    ['0 2 1 * 1', 'UTC', '2026-11-22T13:00:00Z', '2026-06-01T02:00:00.000Z'],
    // 02:30 does not exist on the last Sunday of March, and comes twice on the last one of October.
    ['30 2 * * *', 'Europe/Madrid', '2026-03-29T20:00:00Z', '2026-03-28T01:30:00.000Z'],
    ['30 2 * * *', 'Europe/Madrid', '2026-10-25T20:00:00Z', '2026-10-25T00:30:00.000Z'],
  ])('%s in %s, by %s', (cron, timezone, until, expected) => {
    expect(due(cron, timezone, until)).toBe(expected);
  });

  test('never: before the schedule was seen, or on a day that there is not', () => {
    expect(due('0 2 * * *', 'UTC', '2026-11-22T12:00:00Z', '2026-11-22T02:00:01Z')).toBeUndefined();
    expect(due('0 3 31 2 *', 'UTC', '2026-11-22T12:00:00Z')).toBeUndefined();
  });
});
