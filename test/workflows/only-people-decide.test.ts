// Where a person's word is what counts: behind the point of no return, and against an error budget.
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { ObservationCall } from '../../workflows/contracts/calls.js';
import { SYSTEM_LANE } from '../../workflows/contracts/names.js';
import { fails, failsFirst, held } from './acts.js';
import { holds, say, startWithPeople, work, type WithPeople } from './runs-with-people.js';
import { openScriptedRuns, until, type ScriptedRuns } from './scripted-runs.js';
import { lane, stage, step } from './toy-plan.js';

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

const start = (...rest: WithPeople) => startWithPeople(runs, ...rest);

describe('behind the point of no return', () => {
  const parts = [lane('app', 'a', 'b'), lane('app', 'c', 'd')];
  const plan = { pointOfNoReturn: 'b' };

  test('a cancel while it holds undoes nothing: a person still has to decide, and can go on to the end', async () => {
    const run = await start(parts, { 'do c': failsFirst(1, 'CommandFailed', 'c broke') }, { plan });
    await holds(run);
    await run.handle.cancel();
    await until(
      async () =>
        (await run.handle.fetchHistory()).events?.some(
          (event) => event.workflowExecutionCancelRequestedEventAttributes,
        ) ?? false,
      'the cancel has arrived',
    );
    expect((await run.status()).holds).toMatchObject([{ id: 'c', reason: 'c broke' }]);
    await say(run, 'retry');
    expect((await run.report()).end).toBe('succeeded');
    expect(work(run)).toEqual(['do a', 'do b', 'do c', 'do c', 'do d']);
  });

  test('once a cancel was answered by going on, a later failure holds as any other', async () => {
    const c = held();
    let first = true;
    const run = await start(
      parts,
      {
        'do c': (call) => {
          if (!first) return {};
          first = false;
          return c.act(call);
        },
        'do d': failsFirst(1, 'CommandFailed', 'd broke'),
      },
      { plan },
    );
    await c.begun;
    await run.handle.cancel();
    await holds(run);
    await say(run, 'skip');
    await until(async () => (await run.status()).holds[0]?.id === 'd', 'the run holds at d');
    expect(work(run).filter((name) => name.startsWith('undo'))).toEqual([]);
    await say(run, 'rollback');
    // Also what was skipped: it may have come half way.
    const { type, report } = await run.failure();
    expect(type).toBe('failed');
    expect(report?.steps.map(({ state }) => state)).toEqual(['kept', 'kept', 'undone', 'undone']);
  });

  test('a cancel that arrives while the commit is recorded holds in the next step', async () => {
    const recording = held();
    const run = await start(parts, { 'record committed': recording.act }, { plan });
    await recording.begun;
    await run.handle.cancel();
    recording.release();
    await holds(run);
    expect((await run.status()).holds).toMatchObject([{ id: 'c', reason: 'the run was cancelled in this step' }]);
    await say(run, 'retry');
    expect((await run.report()).end).toBe('succeeded');
  });

  test('tidying that may fail as a whole wakes nobody', async () => {
    const run = await start(
      [lane('app', 'a', 'b'), stage([lane('app', step('tidy', { undo: false }))], { errorBudget: 1 })],
      { 'do tidy': fails('CommandFailed', 'tidy broke') },
      { plan },
    );
    const report = await run.report();
    expect(report).toMatchObject({ end: 'succeeded', recoveries: [] });
    expect(report.notes).toContainEqual('app was left as it was, within the error budget: tidy broke');
  });
});

describe('within an error budget', () => {
  const rolling = stage([lane('app', 'a'), lane('db', 'b')], { rolling: true, atOnce: 1, errorBudget: 1 });

  test('rollback ends the run: no further host is begun, and everything goes back', async () => {
    const run = await start(
      [lane('app', 'z'), rolling],
      { 'do a': fails('CommandFailed', 'a broke') },
      { input: { onFailure: 'hold' } },
    );
    await holds(run);
    await say(run, 'rollback');
    const { type, report } = await run.failure();
    expect(type).toBe('rolled back');
    expect(work(run)).toEqual(['do z', 'do a', 'undo a', 'undo z']);
    expect(report?.notes.some((note) => note.includes('within the error budget'))).toBe(false);
  });

  test('retry and skip go on', async () => {
    const run = await start([rolling], { 'do a': failsFirst(1, 'CommandFailed') }, { input: { onFailure: 'hold' } });
    await holds(run);
    await say(run, 'skip');
    expect((await run.report()).steps.map(({ state }) => state)).toEqual(['skipped', 'done']);
  });
});

test('a step that held and has no undo is told as failed in the end', async () => {
  const run = await start(
    [lane('app', 'a', step('b', { undo: false }))],
    { 'do b': fails('CommandFailed', 'b broke') },
    { input: { onFailure: 'hold' } },
  );
  await holds(run);
  await say(run, 'rollback');
  const { report } = await run.failure();
  expect(report?.steps.map(({ state }) => state)).toEqual(['undone', 'failed']);
});

test('what an undo does not answer for is not looked at again: an outage elsewhere is no reason to hold', async () => {
  let there = true;
  const observe: ObservationCall[] = [
    { as: 'seen', on: SYSTEM_LANE, call: { activity: 'observeWorker', with: { of: 'hosts' } } },
    { as: 'source', on: SYSTEM_LANE, call: { activity: 'observeRecoveryPoints', with: { of: 'git' } } },
  ];
  const run = await start(
    [lane('app', 'a', 'b')],
    {
      look: (call) =>
        there || (call.input['with'] as { of: string }).of === 'hosts'
          ? {}
          : fails('CommandFailed', 'git does not answer')(call),
      'do b': (call) => {
        there = false;
        return fails()(call);
      },
    },
    { script: { observe, elsewhere: ['source'] } },
  );
  expect((await run.failure()).type).toBe('rolled back');
});
