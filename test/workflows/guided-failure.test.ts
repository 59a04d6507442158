import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { recoverSignal, recoverUpdate, type RecoverChoice } from '../../workflows/contracts/hold.js';
import { fails, failsFirst, held, type Act } from './acts.js';
import { doctoredBundle } from './doctored-bundle.js';
import { holds, say, startWithPeople, work, type WithPeople } from './runs-with-people.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from './scripted-runs.js';
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
const refusal = async (run: ScriptedRun, decision: RecoverChoice, hold?: string): Promise<string> => {
  const error = await say(run, decision, hold).catch((failed: unknown) => failed);
  expect(error).toBeInstanceOf(WorkflowUpdateFailedError);
  return (error as { cause: Error }).cause.message;
};
const hold = { onFailure: 'hold' };

describe('a step that fails in a run that was started with onFailure: hold', () => {
  test('holds with its locks and tells how to go on; retry does it again and the run succeeds', async () => {
    const run = await start(
      [lane('app', 'a', 'b', 'c')],
      { 'do b': failsFirst(1, 'CommandFailed', 'b broke') },
      { input: hold },
    );
    await holds(run);
    expect(await run.status()).toMatchObject({
      phase: 'waiting for a person',
      waitingFor: 'do b (app)',
      holds: [{ id: 'b', kind: 'step failed', reason: 'b broke', choices: ['retry', 'skip', 'rollback'] }],
    });
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    const details = await run.details();
    for (const choice of ['retry', 'skip', 'rollback'])
      expect(details).toContain(`\`guardia recover ${run.workflowId} ${choice} --hold b --reason "WHY"\``);
    const told = run.log.find(({ name }) => name === 'tell needs a person');
    expect(told?.input['notice']).toMatchObject({ command: `guardia recover ${run.workflowId} --hold b` });
    const json = JSON.parse(/```json\n(.*)\n```/.exec(details)?.[1] ?? '{}') as never;
    await run.handle.executeUpdate(recoverUpdate, { args: [json] });
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    expect(report.recoveries).toMatchObject([{ id: 'b', decision: 'retry', why: 'WHY' }]);
    expect(work(run)).toEqual(['do a', 'do b', 'do b', 'do c']);
    expect(run.happened('do b').map(({ input }) => (input['context'] as { generation: number }).generation)).toEqual([
      1, 2,
    ]);
  });

  test('skip goes on without it, and says so', async () => {
    const run = await start([lane('app', 'a', 'b', 'c')], { 'do b': fails() }, { input: hold });
    await holds(run);
    await say(run, 'skip');
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    expect(report.steps.map(({ state }) => state)).toEqual(['done', 'skipped', 'done']);
    expect(report.notes).toContainEqual('ana said skip at "do b": because');
  });

  test('rollback undoes as ever', async () => {
    const run = await start([lane('app', 'a', 'b')], { 'do b': fails() }, { input: hold });
    await holds(run);
    await say(run, 'rollback');
    expect((await run.failure()).type).toBe('rolled back');
    expect(work(run)).toEqual(['do a', 'do b', 'undo b', 'undo a']);
  });

  test('two lanes may hold at once, and each is answered by its name', async () => {
    const run = await start(
      [stage([lane('app', 'a'), lane('db', 'b')])],
      { 'do a': failsFirst(1, 'CommandFailed'), 'do b': fails() },
      { input: hold },
    );
    await holds(run, 2);
    expect(await refusal(run, 'retry')).toMatch(/^the run holds at 2 places; name one: (a, b|b, a)$/);
    expect(await refusal(run, 'retry', 'c')).toContain('the run does not hold at "c"; it holds at: ');
    expect(await refusal(run, 'accept', 'a')).toContain(
      'accept is no choice at "do a"; choices: retry (do it again), skip',
    );
    await say(run, 'retry', 'a');
    await holds(run, 1);
    await say(run, 'skip');
    expect((await run.report()).end).toBe('succeeded');
    await expect(say(run, 'retry')).rejects.toThrow('workflow execution already completed');
  });

  test('cancelled while it holds: it rolls back', async () => {
    const run = await start([lane('app', 'a', 'b')], { 'do b': fails() }, { input: hold });
    await holds(run);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(work(run)).toEqual(['do a', 'do b', 'undo b', 'undo a']);
  });

  test('the signal counts too; what is refused shows in the details', async () => {
    const run = await start([lane('app', 'a')], { 'do a': failsFirst(1, 'CommandFailed') }, { input: hold });
    await holds(run);
    await run.handle.signal(recoverSignal, { decision: 'done', reason: 'x' });
    await until(async () => (await run.details()).includes('done is no choice at'), 'the refusal is shown');
    await run.handle.signal(recoverSignal, { decision: 'retry', reason: 'x' });
    expect((await run.report()).end).toBe('succeeded');
  });

  test('a run that does not hold refuses', async () => {
    const a = held();
    const run = await start([lane('app', 'a')], { 'do a': a.act });
    await a.begun;
    expect(await refusal(run, 'retry')).toBe('the run does not wait for a person: there is nothing to decide');
    a.release();
    await run.report();
  });
});

describe('an undo that fails', () => {
  const undoChoices = ['retry', 'done', 'skip', 'accept'];
  const broken = { 'do b': fails('CommandFailed', 'b broke'), 'undo a': fails('CommandFailed', 'a does not go back') };

  test('leaves the run open with its locks; what came before it waits, until a retry has undone it', async () => {
    let left = 1;
    const undo: Act = (call) => (left-- > 0 ? fails('CommandFailed', 'b does not go back')(call) : {});
    const run = await start([lane('db', 'z'), lane('app', 'y', 'a', 'b', 'c')], {
      ...{ 'do c': fails('CommandFailed', 'c broke'), 'undo b': undo },
    });
    await holds(run);
    expect(await run.status()).toMatchObject({
      phase: 'waiting for a person',
      holds: [{ id: 'undo-b', kind: 'undo failed', reason: 'b does not go back', choices: undoChoices }],
    });
    // A host whose old release does not come back gets no requests, and the database no old schema.
    expect(work(run).slice(5)).toEqual(['undo c', 'undo b']);
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    await say(run, 'retry');
    expect((await run.failure()).type).toBe('rolled back');
    expect(work(run).slice(7)).toEqual(['undo b', 'undo a', 'undo y', 'undo z']);
    expect(await runs.lockIsHeld(run.system)).toBe(false);
  });

  test('other lanes of its stage are undone meanwhile', async () => {
    const run = await start(
      [lane('db', 'z'), stage([lane('app', 'a', 'b'), lane('db', 'c', 'd')], { atOnce: 1 }), lane('app', 'e')],
      { 'do e': fails('CommandFailed', 'e broke'), 'undo d': failsFirst(2, 'CommandFailed', 'd does not go back') },
    );
    await holds(run);
    // Tried once more behind them: it may have failed for want of them.
    expect(work(run).slice(6)).toEqual(['undo e', 'undo d', 'undo b', 'undo a', 'undo d']);
    await say(run, 'retry');
    expect((await run.failure()).type).toBe('rolled back');
    expect(work(run).slice(11)).toEqual(['undo d', 'undo c', 'undo z']);
  });

  test('a server that nobody could take the place of goes back once another one is back; people are asked about that one', async () => {
    let broken = true;
    let back = false;
    const run = await start([stage([lane('app', 'a'), lane('db', 'b')], { atOnce: 1 }), lane('app', 'c')], {
      'do c': fails('CommandFailed', 'c broke'),
      'undo b': (call) => (back ? {} : fails('NoServerLeft', 'b is the last server')(call)),
      'undo a': (call) => {
        if (broken) return fails('HostUnusable', 'a is not there')(call);
        back = true;
        return {};
      },
    });
    await holds(run);
    expect((await run.status()).holds).toMatchObject([
      { id: 'undo-a', byHand: [expect.stringContaining('b is the last server'), expect.anything()] },
    ]);
    broken = false;
    await say(run, 'retry');
    // Without a second question about b.
    expect((await run.failure()).type).toBe('rolled back');
    expect(work(run).slice(3)).toEqual(['undo c', 'undo b', 'undo a', 'undo b', 'undo a', 'undo b']);
  });

  test('what failed only for its sake is undone after the answer, without another question', async () => {
    let solved = false;
    const undo: Act = (call) => (solved ? {} : fails('CommandFailed', 'still needed')(call));
    const run = await start([stage([lane('app', 'a'), lane('db', 'b')], { atOnce: 1 }), lane('app', 'c')], {
      ...{ 'do c': fails('CommandFailed', 'c broke'), 'undo b': undo, 'undo a': undo },
    });
    await holds(run);
    solved = true;
    await say(run, 'done');
    expect((await run.failure()).type).toBe('rolled back');
    expect(work(run).slice(3)).toEqual(['undo c', 'undo b', 'undo a', 'undo a']);
  });

  test('lists all that is left to be done by hand, in the run, its details and the notice; accept leaves all of it', async () => {
    const run = await start([lane('db', 'z'), lane('app', 'a', 'b')], broken);
    await holds(run);
    const undo = '(take the manifest out again: the recovery point counts no more)';
    const left = [`undo of "do a" on app ${undo}: a does not go back`, `undo of "do z" on db ${undo}: waits for that`];
    expect((await run.status()).holds).toMatchObject([{ id: 'undo-a', byHand: left }]);
    expect(await run.details()).toContain(`Left to be done by hand, if it ends here:\n- ${left.join('\n- ')}`);
    const told = run.log.find(({ name }) => name === 'tell needs a person')?.input['notice'] as { text: string };
    for (const line of left) expect(told.text).toContain(`Left to be done by hand, if it ends here: ${line}`);
    await say(run, 'accept');
    const { type, report } = await run.failure();
    expect(type).toBe('rollback incomplete');
    expect(report?.remaining).toEqual(left);
    expect(work(run)).not.toContain('undo z');
    expect(run.happened('leave app')[0]?.input).toMatchObject({ keepJournal: true });
  });

  test('left out by a person, what waited for it is undone, and it remains to be done by hand', async () => {
    const run = await start([lane('db', 'z'), lane('app', 'a', 'b')], {
      ...broken,
      'undo z': fails('CommandFailed', 'z does not go back'),
    });
    for (const id of ['undo-a', 'undo-z']) {
      await holds(run);
      expect((await run.status()).holds).toMatchObject([{ id }]);
      await say(run, 'skip');
    }
    const { type, report } = await run.failure();
    expect(type).toBe('rollback incomplete');
    expect(report?.remaining).toMatchObject([
      expect.stringContaining('a does not go back'),
      expect.stringContaining('z does not go back'),
    ]);
    expect(run.happened('leave app')[0]?.input).toMatchObject({ keepJournal: true });
  });

  test('left out by a person, nobody is let in to what was left', async () => {
    const run = await start(
      [
        lane('db', 'z'),
        stage(
          [lane('app', step('drain-1', { undoOpens: true }), 'a'), lane('db', step('drain-2', { undoOpens: true }))],
          {
            atOnce: 1,
          },
        ),
        lane('app', 'b'),
      ],
      broken,
    );
    await holds(run);
    expect(await run.details()).toContain('skip: leave this one as it is, and undo what waits for it');
    await say(run, 'skip');
    const { type, report } = await run.failure();
    expect(type).toBe('rollback incomplete');
    expect(work(run).slice(5)).toEqual(['undo b', 'undo drain-2', 'undo a', 'undo z']);
    expect(report?.remaining).toEqual([
      expect.stringContaining('a does not go back'),
      expect.stringMatching(/^undo of "do drain-1" on app .*: left, because the undo of "do a" was$/),
    ]);
  });

  test('an answer that was meant for the failure of its step does not count', async () => {
    const run = await start([lane('app', 'a', 'b')], { 'do b': fails(), 'undo b': fails() }, { input: hold });
    await holds(run);
    await say(run, 'rollback', 'b');
    await until(async () => (await run.status()).holds[0]?.kind === 'undo failed', 'the undo holds');
    expect(await refusal(run, 'skip', 'b')).toContain('the run does not hold at "b"; it holds at: undo-b');
    await say(run, 'done');
    expect((await run.failure()).type).toBe('rolled back');
  });

  test('after a cancel holds too; once a person has seen to it, the run ends as cancelled', async () => {
    const b = held();
    const run = await start([lane('app', 'a', 'b')], { 'do b': b.act, 'undo a': broken['undo a'] });
    await b.begun;
    await run.handle.cancel();
    await holds(run);
    expect((await run.status()).holds).toMatchObject([{ id: 'undo-a', kind: 'undo failed' }]);
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    await say(run, 'done');
    expect((await run.failure()).type).toBe('CANCELED');
    expect(await runs.lockIsHeld(run.system)).toBe(false);
  });

  test('done by hand counts as undone', async () => {
    const run = await start([lane('app', 'a', 'b')], broken);
    await holds(run);
    await say(run, 'done');
    const { type, report } = await run.failure();
    expect(type).toBe('rolled back');
    expect(report?.steps[0]).toMatchObject({ state: 'undone', note: 'by hand: because' });
  });
});

describe('behind the point of no return', () => {
  const parts = [lane('app', 'a', 'b'), lane('app', 'c', 'd')];
  const plan = { pointOfNoReturn: 'b' };

  test('a failure holds and names what is at stake; rollback undoes only what came after', async () => {
    const run = await start(
      parts,
      {
        'do d': fails('CommandFailed', 'd broke'),
        'observeWorker at-stake': () => ({ lines: ['12 new rows in orders'] }),
      },
      { plan: { ...plan, atStake: { on: 'app', call: { activity: 'observeWorker', with: {} } } } },
    );
    await holds(run);
    expect((await run.status()).holds).toMatchObject([
      {
        kind: 'point of no return',
        choices: ['retry', 'skip', 'rollback', 'accept'],
        atStake: ['12 new rows in orders'],
      },
    ]);
    expect(await run.details()).toContain('- 12 new rows in orders');
    expect(run.names()).toContain('record committed');
    await say(run, 'rollback');
    const { type, message } = await run.failure();
    expect(type).toBe('failed');
    expect(message).toContain('everything up to "do b" stands, what came after it was undone');
    expect(work(run)).toEqual(['do a', 'do b', 'do c', 'do d', 'undo d', 'undo c']);
  });

  test('accepted, everything stays as it is', async () => {
    const run = await start(parts, { 'do d': fails() }, { plan });
    await holds(run);
    const left = ['"do d" on app: failed'];
    expect((await run.status()).holds).toMatchObject([{ byHand: left }]);
    await say(run, 'accept');
    const { type, message, report } = await run.failure();
    expect(type).toBe('failed');
    expect(message).toContain('everything up to "do b" stands; to be done by hand: "do d" on app: failed');
    expect(report?.remaining).toEqual(left);
    expect(work(run)).toEqual(['do a', 'do b', 'do c', 'do d']);
    expect(run.happened('leave app')[0]?.input).toMatchObject({ keepJournal: false });
  });

  test('a cancel holds too; retry goes on to the end in spite of it', async () => {
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
      },
      { plan },
    );
    await c.begun;
    await run.handle.cancel();
    await holds(run);
    expect((await run.status()).holds).toMatchObject([{ id: 'c', reason: 'the run was cancelled in this step' }]);
    await say(run, 'retry');
    expect((await run.report()).end).toBe('succeeded');
    expect(work(run)).toEqual(['do a', 'do b', 'do c', 'do c', 'do d']);
  });
});

describe('after everything was undone', () => {
  test('what does not look as before holds; it is looked at again, and then it is as it was', async () => {
    let seen = 'as before';
    const quick = doctoredBundle({ 'LOOK_AGAIN_SECONDS = 6': 'LOOK_AGAIN_SECONDS = 0.1' });
    await runs.worker.start({ bundle: quick });
    const run = await start(
      [lane('app', 'a', 'b')],
      {
        'do b': (call) => {
          seen = 'something else';
          return fails()(call);
        },
      },
      { script: { facets: () => seen } },
    );
    await holds(run);
    expect((await run.status()).holds).toMatchObject([
      { kind: 'not as before', reason: 'everything was undone, and yet it does not look as before: seen' },
    ]);
    runs.replaysWith(run, quick);
    seen = 'as before';
    await say(run, 'retry');
    expect((await run.failure()).type).toBe('rolled back');
    await runs.worker.start();
  }, 60_000);
});

describe('a rolling stage', () => {
  test('begins no lane that could overdraw the budget together with those under way', async () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    let underWay = 0;
    let failed = 0;
    const worst: number[] = [];
    const act: (name: string) => Act = (name) => async (call) => {
      underWay += 1;
      worst.push(underWay + failed);
      await new Promise((resolve) => setTimeout(resolve, 50));
      underWay -= 1;
      if (name === 'b') {
        failed += 1;
        return fails('CommandFailed', 'b broke')(call);
      }
      return {};
    };
    const run = await start(
      [
        stage(
          names.map((name) => lane(name === 'b' ? 'db' : 'app', step(name))),
          { rolling: true, atOnce: 4, errorBudget: 1 },
        ),
      ],
      Object.fromEntries(names.map((name) => [`do ${name}`, act(name)])),
    );
    const report = await run.report();
    // One may fail: two under way while none has failed, one at a time afterwards.
    expect(Math.max(...worst)).toBe(2);
    expect(report.notes).toContainEqual('db was left as it was, within the error budget: b broke');
    expect(work(run).filter((name) => name.startsWith('undo'))).toEqual(['undo b']);
    expect(report.steps.map(({ state }) => state)).toEqual(['done', 'undone', 'done', 'done', 'done']);
  });
});
