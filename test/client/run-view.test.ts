import { describe, expect, test } from '@jest/globals';
import { endSentence, exitCodeOfEnd, stepOfJob, stepsMilliseconds } from '../../client/run-view.js';
import { after, RUN_ID, step } from './sample-run.js';

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

test('the work of a run is the time in which a step was under way: no gate, no lock, and nothing twice', () => {
  const span = (from: number, until: number) => step('a', { startedAt: after(from), endedAt: after(until) });
  // 10 s of two lanes side by side, a day at a gate, 5 s; and steps that never ran or never ended.
  const steps = [
    span(86_400, 86_405),
    span(3, 10),
    span(0, 7),
    span(4, 5),
    step('b'),
    step('c', { startedAt: after(1) }),
  ];
  expect(stepsMilliseconds(steps)).toBe(15_000);
  expect(stepsMilliseconds([])).toBe(0);
});

test('an end that Temporal made is no success', () => {
  expect(exitCodeOfEnd('terminated')).toBe(6);
  expect(exitCodeOfEnd('timed out')).toBe(6);
  expect(exitCodeOfEnd('planned')).toBe(0);
});

describe('the sentence for a run that was terminated', () => {
  const run = { runbook: 'backup', system: 'proofpass', startedAt: '2026-01-31T02:00:00Z' };

  test('names the reason, and the repair of what it left', () => {
    expect(endSentence({ ...run, phase: 'applying' }, 'terminated', 'wrong system')).toBe(
      'backup of proofpass was terminated from outside (wrong system): what it had done was not undone; guardia run repair proofpass --plan says what it left, and how that is undone',
    );
  });

  test.each([
    ['before its first step', { ...run, phase: 'waiting for the lock' }],
    ['of a runbook that only reads', { ...run, runbook: 'health-check', phase: 'applying' }],
  ])('%s: it offers no repair', (_, view) => {
    expect(endSentence(view, 'timed out')).toMatch(/ran out of time: it had changed nothing$/);
  });
});
