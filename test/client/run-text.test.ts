import { describe, expect, test } from '@jest/globals';
import pico from 'picocolors';
import { changeTeller, progressText, runTree, windowOf } from '../../client/run-text.js';
import type { RunView } from '../../client/run-view.js';
import { after, at, step, view } from './sample-run.js';

const colors = pico.createColors(false);
const tree = (run: RunView, now = at(60), columns = 100): string[] =>
  runTree(run, { now, columns, colors }).split('\n');

describe('the tree of a run', () => {
  test('stages, lanes where there are several, steps with state and duration', () => {
    const lines = tree(
      view({
        steps: [
          step('dump', { on: 'app', state: 'done', startedAt: after(1), endedAt: after(33), note: '412 MB as 61 MB' }),
          step('files', { on: 'db', state: 'running', startedAt: after(50), expectedSeconds: 20 }),
          step('manifest', { stage: 'complete', on: 'system' }),
        ],
      }),
    );
    expect(lines).toEqual([
      'backup of proofpass  applying  1 min 00 s',
      'backup/proofpass/one',
      '',
      'save',
      '  app',
      '    ✔ do dump  32 s',
      '      412 MB as 61 MB',
      '  db',
      '    ▶ do files  10 s, of about 20 s',
      '',
      'complete',
      '  · do manifest  on system',
    ]);
  });

  test('a running step shows bytes, rate and trouble of its activity', () => {
    const run = view(
      { steps: [step('dump', { state: 'running', startedAt: after(0) })] },
      {
        activities: [
          {
            activity: 'dumpDatabase',
            step: 'dump',
            attempt: 1,
            progress: { bytes: 412e6, stored: 61.4e6 },
            bytesPerSecond: 48e6,
          },
        ],
      },
    );
    expect(tree(run)).toContain('    412 MB read, 61.4 MB stored, 48.0 MB/s');
    run.activities[0] = {
      activity: 'dumpDatabase',
      step: 'dump',
      attempt: 3,
      lastFailure: 'no route',
      unreachable: 'app does not answer',
    };
    expect(tree(run).join('\n')).toContain('host does not answer, still trying: app does not answer');
  });

  test('an activity that belongs to no step is shown once it is tried again', () => {
    const activities = [{ activity: 'raiseFence', attempt: 1 }];
    expect(tree(view({}, { activities })).join('\n')).not.toContain('raiseFence');
    activities[0] = { activity: 'raiseFence', attempt: 2, lastFailure: 'connection refused' } as never;
    expect(tree(view({}, { activities })).join('\n')).toContain('raiseFence: try 2 after: connection refused');
  });

  test('a failure is told to its end, other notes are one line', () => {
    const long = 'x'.repeat(300);
    const text = tree(
      view({
        steps: [
          step('a', { state: 'failed', note: `failed ${long}` }),
          step('b', { state: 'done', note: `done ${long}` }),
        ],
      }),
      at(1),
      80,
    );
    expect(text.some((line) => line.includes(`failed ${long}`))).toBe(true);
    expect(text.filter((line) => line.includes('done x')).every((line) => line.length <= 80)).toBe(true);
  });

  test('what a person has to know stands there: waiting, notes, remaining steps, trouble', () => {
    const text = tree(
      view(
        {
          phase: 'waiting for the lock',
          waitingFor: 'proofpass is held by backup x',
          notes: ['Run y was terminated.'],
          remaining: ['undo of "a": no'],
        },
        { trouble: { kind: 'no worker', message: 'nobody asks' } },
      ),
    ).join('\n');
    for (const part of [
      'waits: proofpass is held by backup x',
      'note: Run y was terminated.',
      '  - undo of "a": no',
      'no worker: nobody asks',
    ])
      expect(text).toContain(part);
  });

  test('each answer to a run that holds names where it holds, also where that is one place', () => {
    const hold = {
      ...{
        id: 'dump',
        kind: 'step failed' as const,
        title: 'do dump',
        on: 'app',
        reason: 'it failed',
        since: after(1),
      },
      ...{ atStake: [], byHand: [], choices: ['retry' as const, 'skip' as const] },
    };
    const lines = tree(view({ phase: 'waiting for a person', holds: [hold] })).filter((line) =>
      line.includes('recover'),
    );
    expect(lines.map((line) => line.trim().replace(/ {4}.*/, ''))).toEqual([
      'guardia recover backup/proofpass/one retry --hold dump --reason WHY',
      'guardia recover backup/proofpass/one skip --hold dump --reason WHY',
    ]);
  });

  test('the end: state, sentence, result; time stands still', () => {
    const run = view(
      { phase: 'ended', end: 'succeeded', result: { recoveryPoint: '20260131T020000Z-1a2b3c4d', bytes: 4556935 } },
      { open: false, end: 'succeeded', endedAt: after(42), message: 'backup of proofpass succeeded' },
    );
    expect(tree(run, at(9999))[0]).toBe('backup of proofpass  succeeded  42 s');
    expect(tree(run).slice(-3)).toEqual([
      'backup of proofpass succeeded',
      '  recoveryPoint: 20260131T020000Z-1a2b3c4d',
      '  bytes: 4.6 MB',
    ]);
  });

  test('a run that no worker has taken up says so', () => {
    expect(tree(view({}, { report: undefined, source: 'temporal' }))[0]).toContain('waiting for a worker');
  });
});

describe('the window', () => {
  const lines = (count: number, busy: number): string =>
    ['head', 'id', ...Array.from({ length: count }, (_, i) => (i === busy ? '▶ busy' : `line ${i}`))].join('\n');

  test('a tree that fits stays as it is', () => {
    expect(windowOf(lines(5, 2), 20)).toBe(lines(5, 2));
  });

  test.each([0, 3, 50, 99])('the step under way (line %i of 100) stays visible below the head', (busy) => {
    const shown = windowOf(lines(100, busy), 12).split('\n');
    expect(shown.length).toBeLessThanOrEqual(12);
    expect(shown.slice(0, 2)).toEqual(['head', 'id']);
    expect(shown).toContain('▶ busy');
    expect(shown.at(-1)).toBe('(91 more lines)');
  });
});

describe('one line for each change', () => {
  test('says a change once, and progress every half minute', () => {
    const tell = changeTeller();
    const running = step('dump', { state: 'running', startedAt: after(0) });
    const activity = { activity: 'dumpDatabase', step: 'dump', attempt: 1, progress: { bytes: 1e6 } };
    expect(tell(view({ phase: 'observing' }), at(0))).toEqual(['observing']);
    expect(tell(view({ phase: 'observing' }), at(1))).toEqual([]);
    expect(tell(view({ steps: [running] }, { activities: [activity] }), at(2))).toEqual([
      'applying',
      'running: do dump (app)',
    ]);
    expect(tell(view({ steps: [running] }, { activities: [activity] }), at(20))).toEqual([]);
    expect(tell(view({ steps: [running] }, { activities: [activity] }), at(33))).toEqual([
      'running: do dump (app): 1.0 MB read',
    ]);
    const done = { ...running, state: 'done' as const, endedAt: after(40), note: 'fine' };
    expect(tell(view({ steps: [done] }), at(40))).toEqual(['done: do dump (app) after 40 s: fine']);
    expect(tell(view({ steps: [{ ...done, state: 'kept' as const }] }), at(41))).toEqual([]);
  });

  test('a host that stops answering is said at once', () => {
    const tell = changeTeller();
    const steps = [step('dump', { state: 'running', startedAt: after(0) })];
    const activity = { activity: 'dumpDatabase', step: 'dump', attempt: 1 };
    tell(view({ steps }, { activities: [activity] }), at(0));
    const gone = { ...activity, unreachable: 'timed out' };
    expect(tell(view({ steps }, { activities: [gone] }), at(3))).toEqual([
      'running: do dump (app): host does not answer, still trying: timed out',
    ]);
    expect(tell(view({ steps }, { activities: [gone] }), at(4))).toEqual([]);
  });

  test('the end is the last word, with what remains to be done', () => {
    const tell = changeTeller();
    const lines = tell(
      view(
        { phase: 'ended', end: 'rollback incomplete', remaining: ['undo of "a": no'] },
        { open: false, end: 'rollback incomplete', message: 'it failed' },
      ),
      at(1),
    );
    expect(lines).toEqual(['to be done by hand: undo of "a": no', 'rollback incomplete: it failed']);
  });
});

test('progress without words is empty', () => {
  expect(progressText({ attempt: 1 })).toBe('');
  expect(progressText({ attempt: 1, progress: { tables: 3 } })).toBe('');
});
