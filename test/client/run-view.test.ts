import { describe, expect, test } from '@jest/globals';
import { endSentence, exitCodeOfEnd, stepOfJob } from '../../client/run-view.js';
import { RUN_ID } from './sample-run.js';

describe('the step of a job', () => {
  const steps = [{ id: 'dump' }, { id: 'dump-main' }, { id: 'verify-dump' }];
  test.each([
    [`${RUN_ID}-dump-g1`, 'dump'],
    [`${RUN_ID}-dump-main-g2`, 'dump-main'],
    [`${RUN_ID}-dump-main-upload-g12`, 'dump-main'],
    [`${RUN_ID}-verify-dump-g1`, 'verify-dump'],
    [`${RUN_ID}-dumper-g1`, undefined],
    ['another-run-dump-g1', undefined],
  ])('%s', (job, expected) => {
    expect(stepOfJob(job, RUN_ID, steps)).toBe(expected);
  });
});

test('an end that Temporal made is no success', () => {
  expect(exitCodeOfEnd('terminated')).toBe(6);
  expect(exitCodeOfEnd('timed out')).toBe(6);
  expect(exitCodeOfEnd('planned')).toBe(0);
  expect(
    endSentence({ runbook: 'backup', system: 'proofpass', startedAt: '2026-01-31T02:00:00Z' }, 'terminated'),
  ).toContain('was not undone');
});
