import { describe, expect, test } from '@jest/globals';
import { ActivityFailure, ApplicationFailure, CancelledFailure, RetryState, TimeoutFailure } from '@temporalio/common';
import fc from 'fast-check';
import { failure } from '../../workflows/contracts/errors.js';
import { StepState, type RunReport, type RunStatus, type StepStatus } from '../../workflows/contracts/run.js';
import { reportMarkdown } from '../../workflows/contracts/run-report.js';
import { applicationFailureIn, details, reasonOf } from '../../workflows/lib/progress.js';
import { lane, toyPlan } from './toy-plan.js';

const aStep = (change: Partial<StepStatus> = {}): StepStatus => ({
  id: 'a',
  title: 'dump the database',
  on: 'app',
  stage: 'save',
  state: 'waiting',
  generation: 1,
  ...change,
});

const aRun = (change: Partial<RunReport> = {}): RunReport => ({
  runbook: 'backup',
  system: 'proofpass',
  workflowId: 'backup/proofpass/1',
  runId: '01a20274-f7dc-748a-ada0-34e139a74494',
  requester: 'ana',
  phase: 'applying',
  startedAt: '2026-01-31T02:00:00.000Z',
  steps: [],
  gates: [],
  holds: [],
  recoveries: [],
  notes: [],
  remaining: [],
  ...change,
});

const bytes = (text: string) => Buffer.byteLength(text);

describe('the current details', () => {
  test('tell where the run stands: each step on its line, with its host and what came out', () => {
    const text = details(
      aRun({
        planDigest: 'abcdef0123456789',
        reason: 'before the release',
        steps: [
          aStep({ state: 'done', note: '17 MB' }),
          aStep({ id: 'b', title: 'write the manifest', on: 'system', state: 'running' }),
          aStep({ id: 'c', title: 'read it back', on: 'worker' }),
        ],
        notes: ['The hosts changed.'],
      }),
    );
    expect(text.split('\n')).toEqual([
      '**backup of proofpass: applying** (1 of 3 steps done)',
      '',
      '- ✔ dump the database *(app)*: 17 MB',
      '- ▶ write the manifest *(system, running)*',
      '- ☐ read it back *(worker)*',
      '',
      '> The hosts changed.',
      '',
      'Requested by ana: before the release. Plan `abcdef012345`',
      '',
      '---',
    ]);
  });

  test('say what the run waits for, and at the end how it ended and what is left to people', () => {
    const waiting = aRun({ phase: 'waiting for the lock', waitingFor: 'proofpass is held by deploy 7' });
    expect(details(waiting)).toContain('**backup of proofpass: waiting for the lock** (proofpass is held by deploy 7)');
    const ended = aRun({
      end: 'rollback incomplete',
      message: 'the disk is full',
      remaining: ['undo of "x" on app: y'],
    });
    expect(details(ended)).toContain('**backup of proofpass: rollback incomplete**  \nthe disk is full');
    expect(details(ended)).toContain('**To be done by hand**\n- undo of "x" on app: y');
    const succeeded = aRun({ end: 'succeeded', result: { recoveryPoint: '20260131T020000Z-1a2b3c4d', bytes: 17 } });
    expect(details(succeeded)).toContain(
      '**backup of proofpass: succeeded**  \nrecoveryPoint 20260131T020000Z-1a2b3c4d, bytes 17',
    );
  });

  test('keep a step on its line, whatever its note holds', () => {
    const text = details(aRun({ steps: [aStep({ state: 'failed', note: 'line one\nline two\r\n# three' }), aStep()] }));
    expect(text.split('\n').filter((line) => line.startsWith('- '))).toHaveLength(2);
    expect(text).toContain('line one line two # three');
  });

  test('of a thousand steps fit 20,000 bytes and still tell what runs, what failed and what is left', () => {
    const steps = Array.from({ length: 1000 }, (_, n) =>
      aStep({ id: `s${n}`, title: `step number ${n} of many`, state: n < 600 ? 'done' : 'waiting' }),
    );
    steps[600] = aStep({ id: 's600', title: 'this one runs', state: 'running' });
    steps[601] = aStep({ id: 's601', title: 'this one failed', state: 'failed', note: 'no space' });
    const text = details(aRun({ steps, remaining: ['undo of "z" on app'], notes: ['a note'] }));
    expect(bytes(text)).toBeLessThanOrEqual(20_000);
    for (const part of [
      'this one runs',
      'this one failed',
      'no space',
      '600 done',
      '398 waiting',
      'undo of "z"',
      'a note',
      'Requested by ana',
    ])
      expect(text).toContain(part);
  });

  test('are never longer than 20,000 bytes, never cut a character in two, and use the room', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 60 });
    const step = fc.record({
      title: text,
      note: fc.option(text, { nil: undefined }),
      state: fc.constantFrom(...StepState.options),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.integer({ min: 1, max: 100 }), text, (some, times, word) => {
        const steps = Array.from({ length: times }, () => some)
          .flat()
          .map(({ title, note, state }) => aStep({ title, state, ...(note === undefined ? {} : { note }) }));
        const status: RunStatus = aRun({ steps, remaining: Array.from({ length: times }, () => `${word} left`) });
        const shown = details(status);
        expect(bytes(shown)).toBeLessThanOrEqual(20_000);
        expect(Buffer.from(shown).toString()).toBe(shown);
        if (shown.endsWith('(cut)')) expect(bytes(shown)).toBeGreaterThan(19_000);
      }),
    );
  });
});

describe('the reason of a failure', () => {
  const activity = (cause: Error) =>
    new ActivityFailure('Activity task failed', 'dumpDatabase', '1', RetryState.NON_RETRYABLE_FAILURE, 'worker', cause);

  test('is the sentence that was said first, however deep it lies', () => {
    const error = activity(failure('JobFailed', 'pg_dump ended with 1', { remedy: 'Look at the log' }));
    expect(reasonOf(error)).toBe('pg_dump ended with 1. Look at the log');
    expect(applicationFailureIn(error)?.type).toBe('JobFailed');
  });

  test('of a time that ran out names the activity, the limit, and what was wrong before', () => {
    const timedOut = new TimeoutFailure('activity timeout', undefined, 'HEARTBEAT');
    expect(reasonOf(activity(timedOut))).toBe('dumpDatabase did not end in its time (heartbeat)');
    const before = failure('HostUnreachable', 'app does not answer');
    expect(reasonOf(activity(Object.assign(timedOut, { cause: before })))).toBe(
      'dumpDatabase did not end in its time (heartbeat): app does not answer',
    );
  });

  test('of a cancel, of an unknown error, of something that is no error', () => {
    expect(reasonOf(activity(new CancelledFailure('x')))).toBe('it was cancelled');
    expect(reasonOf(ApplicationFailure.create({ message: 'plain' }))).toBe('plain');
    expect(reasonOf('text')).toBe('text');
    expect(applicationFailureIn(new Error('x'))).toBeUndefined();
  });
});

describe('the report in Markdown', () => {
  const report = aRun({
    phase: 'ended',
    end: 'rolled back',
    message: 'backup of proofpass: step "dump" on app failed: no space; everything before it was undone',
    endedAt: '2026-01-31T02:01:30.500Z',
    planDigest: 'abc',
    result: { recoveryPoint: '20260131T020000Z-1a2b3c4d', bytes: 17 },
    steps: [
      aStep({
        state: 'undone',
        generation: 2,
        startedAt: '2026-01-31T02:00:01.000Z',
        endedAt: '2026-01-31T02:00:03.250Z',
        note: 'a | b\nc',
      }),
      aStep({ id: 'b', title: 'grep x | wc', on: 'db', stage: 'first | second' }),
    ],
    notes: ['The hosts changed.'],
    remaining: ['look at app'],
    plan: toyPlan('proofpass', [lane('app', 'a', 'b')]),
  });

  test('says how it ended, when, what each step took, what is left and why each step is there', () => {
    const text = reportMarkdown(report);
    for (const part of [
      '# backup of proofpass: rolled back',
      'failed: no space',
      '(90.5 s)',
      '- Plan: `abc`',
      '- recoveryPoint: 20260131T020000Z-1a2b3c4d',
      '- bytes: 17',
      '| save | app | dump the database | undone (run 2) | 2.3 s | a \\| b c |',
      '## To be done by hand\n\n- look at app',
      '## Notes\n\n- The hosts changed.',
      '- **dump the database**: because of a',
    ])
      expect(text).toContain(part);
  });

  test('has one row for each step, with as many cells as the head, whatever a title holds', () => {
    const rows = reportMarkdown(report)
      .split('\n')
      .filter((line) => line.startsWith('|'));
    expect(rows).toHaveLength(4);
    for (const row of rows) expect(row.replaceAll('\\|', '').split('|')).toHaveLength(8);
  });

  test('of a run that is still open has no end', () => {
    const text = reportMarkdown(aRun({ steps: [aStep({ state: 'running', startedAt: '2026-01-31T02:00:01.000Z' })] }));
    expect(text).toContain('# backup of proofpass: applying');
    expect(text).toMatch(/- Started 2026-01-31T02:00:00.000Z\n/);
    expect(text).toContain('| running |  |  |');
  });
});
