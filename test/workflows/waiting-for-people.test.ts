import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { remindersBy } from '../../workflows/lib/waiting-for-people.js';

const DAY = 86_400;

test('twelve reminders come at the pace that was asked for, then ever fewer, down to one a day', () => {
  const at: number[] = [];
  for (let seconds = 0; at.length < 26; at.push(seconds)) seconds = remindersBy(seconds, 60).next;
  const pauses = at.map((seconds, n) => (seconds - (at[n - 1] ?? 0)) / 60);
  expect(pauses.slice(0, 12)).toEqual(Array.from({ length: 12 }, () => 1));
  expect(pauses.slice(12)).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440, 1440, 1440]);
});

test('a wait of a year stays far below what the history of a run may hold', () => {
  expect(remindersBy(365 * DAY, 60).due).toBeLessThan(400);
});

test('the next reminder is always ahead, and it is the next one', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 90 * DAY }), fc.integer({ min: 60, max: 30 * DAY }), (seconds, every) => {
      const { due, next } = remindersBy(seconds, every);
      expect(next).toBeGreaterThan(seconds);
      expect(remindersBy(next, every).due).toBe(due + 1);
      expect(remindersBy(next - 1, every).due).toBe(due);
    }),
  );
});
