import { describe, expect, test } from '@jest/globals';
import { failure } from '../../workflows/contracts/errors.js';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { lastWord } from '../../workers/activity-interceptor.js';

const call = { with: { timeoutSeconds: 60 }, context: { target: { name: 'app' } } } as unknown as CallInput;
const at = (more: object) => ({ activityType: 'fetchRelease', attempt: 1, scheduledTimestampMs: 0, now: 0, ...more });
const unreachable = failure('HostUnreachable', 'app does not answer');

describe('the attempts of a job, which are not counted', () => {
  test('end for what nobody foresaw', () => {
    const mistake = new RangeError('bad');
    expect(lastWord(mistake, call, at({ attempt: 9 }))).toBe(mistake);
    expect(lastWord(mistake, call, at({ attempt: 10 }))).toMatchObject({
      type: 'RangeError',
      message: 'bad',
      nonRetryable: true,
    });
  });

  test('end for a host that stays away for longer than the job may take, and a quarter of an hour', () => {
    expect(lastWord(unreachable, call, at({ now: 959_000 }))).toBe(unreachable);
    expect(lastWord(unreachable, call, at({ now: 961_000 }))).toMatchObject({
      type: 'JobLost',
      nonRetryable: true,
      message: 'the host stays away: app does not answer',
      details: [{ host: 'app' }],
    });
  });
});

test('those of other activities are counted by Temporal', () => {
  const mistake = new RangeError('bad');
  expect(lastWord(mistake, call, at({ activityType: 'writeFile', attempt: 20 }))).toBe(mistake);
  expect(lastWord(unreachable, call, at({ activityType: 'writeFile', attempt: 20, now: 1799_000 }))).toBe(unreachable);
  expect(lastWord(unreachable, call, at({ activityType: 'observeUnits', attempt: 20, now: 1e9 }))).toBe(unreachable);
});

test('a change is given up after half an hour at a host that does not answer, unless it was the worker that was away', () => {
  const late = { activityType: 'writeFile', now: 1801_000 };
  expect(lastWord(unreachable, call, at({ ...late, attempt: 3 }))).toBe(unreachable);
  expect(lastWord(unreachable, call, at({ ...late, attempt: 4 }))).toMatchObject({
    type: 'HostUnreachable',
    message: 'app does not answer',
    nonRetryable: true,
  });
});
