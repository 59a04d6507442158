import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import { GuardiaEnd, GuardiaPhase, GuardiaWaitingFor } from '../../workflows/contracts/search-attributes.js';
import { holderQuery } from '../../workflows/contracts/lock.js';
import type { System } from '../../workflows/contracts/system.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { lockWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import { lockablesOf } from '../../workflows/lib/lock.js';
import { fails, held } from './acts.js';
import { doctoredBundle } from './doctored-bundle.js';
import { attributesOf, scheduled, summaryOf } from './run-history.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from './scripted-runs.js';
import { smallSystem } from './small-system.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

jest.setTimeout(30_000);

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

const waits = (run: ScriptedRun) =>
  until(async () => (await run.status()).waitingFor !== undefined, `${run.workflowId} waits for the lock`);
const isFree = (system: string) => until(async () => !(await runs.lockIsHeld(system)), 'the lock is free');
const undone = (run: ScriptedRun) => run.names().filter((name) => name.startsWith('undo'));

describe('a run that is cancelled', () => {
  test('in the middle of a step: the step comes to rest, all is undone, and only then the lock is free', async () => {
    const b = held({ cancelSeconds: 0.3 });
    const undo = held();
    const run = await runs.start({
      plan: [lane('app', 'a', 'b', 'c')],
      acts: { 'do b': b.act, 'undo a': undo.act },
    });
    await b.begun;
    await run.handle.cancel();
    await undo.begun;

    expect(run.happened('do b')[0]?.outcome).toBe('cancelled');
    expect(run.happened('undo b')[0]?.from).toBeGreaterThanOrEqual(run.happened('do b')[0]?.to ?? Infinity);
    // Undoing, it still holds the lock.
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    expect(await run.status()).toMatchObject({ phase: 'undoing' });
    undo.release();

    expect((await run.failure()).type).toBe('CANCELED');
    expect((await run.handle.describe()).status.name).toBe('CANCELLED');
    expect(undone(run)).toEqual(['undo b', 'undo a']);
    expect(run.names()).not.toContain('do c');
    expect(run.names().slice(-3)).toEqual(['record end', 'leave app', 'leave db']);
    expect(await run.status()).toMatchObject({
      end: 'cancelled',
      message: `backup of ${run.system}: it was cancelled; everything before it was undone`,
      steps: [{ state: 'undone' }, { state: 'undone' }, { state: 'waiting' }],
    });
    expect(run.happened('record end')[0]?.input['report']).toMatchObject({ end: 'cancelled' });
    expect((await run.handle.describe()).typedSearchAttributes.get(GuardiaEnd)).toBe('cancelled');
    await isFree(run.system);
  });

  test('is cancelled also where its worker dies in the step that is stopped: nobody says how that ended', async () => {
    const b = held({ cancelSeconds: 6 });
    // The time of a change, and with it the word of a worker that is gone, in the place of ten minutes.
    const quick = doctoredBundle({ "startToCloseTimeout: '10 minutes'": "startToCloseTimeout: '3 seconds'" });
    await runs.worker.start({ bundle: quick });
    try {
      const run = await runs.start({ plan: [lane('app', 'a', 'b', 'c')], acts: { 'do b': b.act } });
      runs.replaysWith(run, quick);
      await b.begun;
      await run.handle.cancel();
      expect((await run.failure()).type).toBe('CANCELED');
      expect(undone(run)).toEqual(['undo b', 'undo a']);
      expect(await run.status()).toMatchObject({ end: 'cancelled' });
      const kinds = (await run.history()).events?.map((event) => Object.keys(event)).flat();
      expect(kinds).toContain('activityTaskTimedOutEventAttributes');
    } finally {
      await runs.worker.start();
    }
  });

  test('while it undoes after a failure: the undo goes on to its end, and the failure is told', async () => {
    const undo = held();
    const run = await runs.start({
      plan: [lane('app', 'a', 'b')],
      acts: { 'do b': fails('CommandFailed', 'b broke'), 'undo b': undo.act },
    });
    await undo.begun;
    await run.handle.cancel();
    await until(
      async () => attributesOf(await run.history(), 'workflowExecutionCancelRequestedEventAttributes').length === 1,
      'the cancel has arrived',
    );
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    undo.release();
    const { type, message } = await run.failure();
    expect(type).toBe('rolled back');
    expect(message).toContain('b broke');
    expect(undone(run)).toEqual(['undo b', 'undo a']);
    expect(run.happened('undo b')[0]?.outcome).toBe('ok');
  });

  test('twice: as once', async () => {
    const [b, undo] = [held(), held()];
    const run = await runs.start({ plan: [lane('app', 'a', 'b')], acts: { 'do b': b.act, 'undo b': undo.act } });
    await b.begun;
    await run.handle.cancel();
    await undo.begun;
    await run.handle.cancel();
    undo.release();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(undone(run)).toEqual(['undo b', 'undo a']);
  });

  test('and whose undo fails: its end is that something remains', async () => {
    const b = held();
    const run = await runs.start({
      plan: [lane('app', 'a', 'b')],
      acts: { 'do b': b.act, 'undo b': fails('CommandFailed', 'in use') },
    });
    await b.begun;
    await run.handle.cancel();
    const { type, message } = await run.failure();
    expect(type).toBe('rollback incomplete');
    expect(message).toContain(
      'it was cancelled; not everything could be undone: undo of "do b" on app (take the manifest out again: the recovery point counts no more): in use',
    );
    expect(undone(run)).toEqual(['undo b', 'undo a']);
  });

  test('behind its point of no return: what stands is named', async () => {
    const b = held();
    const run = await runs.start({
      plan: (system) => toyPlan(system, [lane('app', 'a', step('b', { undo: false }))], { pointOfNoReturn: 'a' }),
      acts: { 'do b': b.act },
    });
    await b.begun;
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect((await run.status()).message).toMatch(/it was cancelled; everything up to "do a" stands$/);
    expect(undone(run)).toEqual([]);
  });

  test('with a stage that forgives failures: it forgives no cancel', async () => {
    const a = held();
    const run = await runs.start({
      plan: [stage([lane('app', 'a'), lane('db', 'b')], { atOnce: 1, errorBudget: 2 })],
      acts: { 'do a': a.act },
    });
    await a.begun;
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names()).not.toContain('do b');
    expect(undone(run)).toEqual(['undo a']);
  });

  test('with lanes side by side: all of them come to rest before the first undo', async () => {
    const [a, b] = [held({ cancelSeconds: 0.4 }), held()];
    const run = await runs.start({
      plan: [stage([lane('app', 'a'), lane('db', 'b')])],
      acts: { 'do a': a.act, 'do b': b.act },
    });
    await Promise.all([a.begun, b.begun]);
    await run.handle.cancel();
    await run.failure();
    const first = run.log.find(({ name }) => name.startsWith('undo'));
    for (const name of ['do a', 'do b'])
      expect(first?.from).toBeGreaterThanOrEqual(run.happened(name)[0]?.to ?? Infinity);
    expect(undone(run).sort()).toEqual(['undo a', 'undo b']);
  });

  test('while it looks: nothing was started', async () => {
    const look = held();
    const run = await runs.start({ plan: [lane('app', 'a')], acts: { look: look.act } });
    await look.begun;
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect((await run.status()).message).toMatch(/it was cancelled; nothing was started$/);
    expect(run.names()).toEqual(['look']);
  });

  test('while it takes its hosts over: what it has taken is left again', async () => {
    const fence = held();
    const run = await runs.start({ plan: [lane('app', 'a'), lane('db', 'b')], acts: { 'fence db': fence.act } });
    await fence.begun;
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names().slice(1)).toEqual(['fence app', 'fence db', 'record end', 'leave app', 'leave db']);
    await isFree(run.system);
  });

  test('while it takes its locks, at whatever moment: it ends, and they are free', async () => {
    const many = (name: string): string => {
      const [db = ''] = /^ {2}db:\n.*\n/m.exec(smallSystem(name)) ?? [];
      const more = Array.from({ length: 10 }, (_, n) => db.replaceAll('db', `db${n}`)).join('');
      return smallSystem(name).replace(db, db + more);
    };
    await Promise.all(
      Array.from({ length: 6 }, async (_, n) => {
        const run = await runs.start({}, { system: runs.system(many) });
        await until(async () => (await run.status()).phase === 'waiting for the lock', 'it takes its locks');
        await delay(12 * n);
        await run.handle.cancel();
        expect((await run.failure()).type).toBe('CANCELED');
        await isFree(run.system);
      }),
    );
  });

  test('while it leaves its hosts to plan anew: they are left, and the locks are free', async () => {
    let looks = 0;
    const leaving = held({ cancelSeconds: 0.3 });
    const run = await runs.start({ acts: { look: () => ({ look: ++looks }), 'leave app': leaving.act } });
    await leaving.begun;
    await run.handle.cancel();
    await delay(500);
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    leaving.release();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names()).toEqual(['look', 'fence app', 'fence db', 'look', 'leave app', 'leave db']);
    expect(run.happened('leave app')[0]?.outcome).toBe('ok');
    expect((await run.status()).notes).toEqual([]);
    await isFree(run.system);
  });

  test('while it waits for the lock: it ends at once, and the holder does not notice', async () => {
    const a = held();
    const system = runs.system();
    const holder = await runs.start({ acts: { 'do a': a.act } }, { system });
    await a.begun;
    const run = await runs.start({}, { system });
    await waits(run);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(await run.status()).toMatchObject({
      end: 'cancelled',
      message: expect.stringMatching(/nothing was started$/),
    });
    expect(run.names()).toEqual(['look']);
    expect(await runs.lockIsHeld(system)).toBe(true);
    a.release();
    expect((await holder.report()).end).toBe('succeeded');
  });
});

describe('the lock of a host that somebody else holds', () => {
  const heldByHand = async (system: string) => {
    const other = { workflowId: 'drill-1', runId: 'r-1', runbook: 'drill', requester: 'eva' };
    const lock = await runs.client.workflow.start('lock', {
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowId: lockWorkflowId({ system, host: 'db' }),
      args: [{ system, host: 'db', ...other, since: '2026-01-31T02:00:00.000Z' }],
    });
    return { lock, release: () => lock.signal('release', { runId: other.runId }) };
  };
  const says = (system: string) =>
    `host db of ${system} is held by drill drill-1 of eva, since 2026-01-31T02:00:00.000Z`;

  test('is waited for; what the run holds already is free again when it is cancelled meanwhile', async () => {
    const system = runs.system();
    const { lock, release } = await heldByHand(system);
    const run = await runs.start({}, { system });
    await until(async () => (await run.status()).waitingFor === says(system), 'it says for whom it waits');
    expect(await runs.lockIsHeld(system)).toBe(true);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names()).toEqual(['look']);
    await isFree(system);
    expect((await lock.describe()).status.name).toBe('RUNNING');
    await release();
    await lock.result();
  });

  test('refuses the run when its time is over, with what it held already free again', async () => {
    const system = runs.system();
    const { lock, release } = await heldByHand(system);
    // A minute of the input is two seconds.
    const quick = doctoredBundle({
      'waitSeconds: input.waitForLockMinutes * 60,': 'waitSeconds: input.waitForLockMinutes * 2,',
    });
    await runs.worker.start({ bundle: quick });
    try {
      const run = await runs.start({}, { system, input: { system, waitForLockMinutes: 1 } });
      runs.replaysWith(run, quick);
      const { type, message } = await run.failure();
      expect(type).toBe('refused');
      expect(message).toContain(
        `${says(system)}; waited 2 s for it. Wait for it (guardia watch drill-1), or cancel it`,
      );
      await isFree(system);
      await release();
      await lock.result();
    } finally {
      await runs.worker.start();
    }
  });

  test('everybody takes them in the same order: the system, then its hosts by their names', () => {
    const of = (hosts: string[]) =>
      ({ system: 'shop', hosts: Object.fromEntries(hosts.map((name) => [name, {}])) }) as System;
    const order = [{ system: 'shop' }, { system: 'shop', host: 'app' }, { system: 'shop', host: 'db' }];
    expect(lockablesOf(of(['db', 'app']))).toEqual(order);
    expect(lockablesOf(of(['app', 'db']))).toEqual(order);
  });
});

describe('two runs of one system', () => {
  test('the second waits, says for whom, and goes on when the first has ended', async () => {
    const a = held();
    const system = runs.system();
    const first = await runs.start({ acts: { 'do a': a.act } }, { system });
    await a.begun;
    const lock = runs.client.workflow.getHandle(lockWorkflowId({ system }));
    expect(await lock.query(holderQuery)).toMatchObject({ workflowId: first.workflowId, requester: 'ana', system });

    const second = await runs.start({}, { system, input: { system, requester: 'ben' } });
    await waits(second);
    const says = `${system} is held by backup ${first.workflowId} of ana, since `;
    expect(await second.status()).toMatchObject({
      phase: 'waiting for the lock',
      waitingFor: expect.stringContaining(says),
    });
    expect(await second.details()).toContain(says);
    const attributes = async () => (await second.handle.describe()).typedSearchAttributes;
    expect((await attributes()).get(GuardiaWaitingFor)).toContain(says);
    expect((await attributes()).get(GuardiaPhase)).toBe('waiting for the lock');
    expect(second.names()).toEqual(['look']);

    a.release();
    expect((await first.report()).end).toBe('succeeded');
    const report = await second.report();
    expect(report.end).toBe('succeeded');
    expect(report).not.toHaveProperty('waitingFor');
    expect((await attributes()).get(GuardiaWaitingFor)).toBeUndefined();
    expect(second.happened('fence app')[0]?.from).toBeGreaterThanOrEqual(
      first.happened('leave app')[0]?.to ?? Infinity,
    );
    expect(scheduled(await second.history())).toContain(`wait for the lock of ${system}`);
    const child = attributesOf(await first.history(), 'startChildWorkflowExecutionInitiatedEventAttributes')[0];
    expect(child && summaryOf(child.event)).toBe(`${system} held by ${first.workflowId}`);
  });

  test('for whom is said within what a search attribute can hold, however long the names are', async () => {
    const a = held();
    const system = runs.system();
    const input = { system, requester: 'a requester with a long name '.repeat(6) };
    const first = await runs.start(
      { acts: { 'do a': a.act } },
      { system, input, workflowId: `long ${'id '.repeat(90)}` },
    );
    await a.begun;
    const second = await runs.start({}, { system });
    await waits(second);
    const said = (await second.handle.describe()).typedSearchAttributes.get(GuardiaWaitingFor);
    // PostgreSQL's visibility store keeps 255 characters of a keyword, and refuses the run with more.
    expect(said?.length).toBeLessThanOrEqual(255);
    expect(said).toContain(`${system} is held by backup long id id`);
    expect((await second.status()).waitingFor).toContain(input.requester);
    a.release();
    await Promise.all([first.report(), second.report()]);
  });

  test('three at once: each has the system to itself', async () => {
    const system = runs.system();
    let open = 0;
    let most = 0;
    const acts = {
      'do a': async () => {
        most = Math.max(most, ++open);
        await new Promise((resolve) => setTimeout(resolve, 100));
        open -= 1;
        return {};
      },
    };
    const three = await Promise.all([1, 2, 3].map(() => runs.start({ acts }, { system })));
    const reports = await Promise.all(three.map((run) => run.report()));
    expect(reports.map(({ end }) => end)).toEqual(['succeeded', 'succeeded', 'succeeded']);
    expect(most).toBe(1);
    const times = three.map((run) => [run.happened('fence app')[0]?.from ?? 0, run.happened('leave app')[0]?.to ?? 0]);
    times.sort(([one = 0], [other = 0]) => one - other);
    for (const [index, [from]] of times.entries())
      if (index > 0) expect(from).toBeGreaterThanOrEqual(times[index - 1]?.[1] ?? Infinity);
  });

  test('two systems do not wait for each other', async () => {
    const a = held();
    const first = await runs.start({ acts: { 'do a': a.act } });
    await a.begun;
    expect((await (await runs.start()).report()).end).toBe('succeeded');
    a.release();
    await first.report();
  });

  test('a holder that is terminated frees the lock at once; the next run says who left the host', async () => {
    const a = held();
    const system = runs.system();
    const first = await runs.start({ acts: { 'do a': a.act } }, { system });
    await a.begun;
    const second = await runs.start(
      {
        acts: {
          'fence app': () => ({ number: 8, left: first.handle.workflowId, stopped: ['one-job'], unrepaired: [] }),
        },
      },
      { system },
    );
    await waits(second);
    const terminated = Date.now();
    await first.handle.terminate('somebody pulled the plug');
    expect((await first.failure()).type).toBe('TERMINATED');
    const report = await second.report();
    expect(report.end).toBe('succeeded');
    expect(report.notes).toEqual([
      `Run ${first.workflowId} left app without ending: it was terminated. Its jobs were stopped: one-job.`,
    ]);
    expect((second.happened('fence app')[0]?.from ?? 0) - terminated).toBeLessThan(10_000);
    expect(second.happened('do a')[0]?.input).toMatchObject({ context: { fence: 8 } });
  });

  test('a lock that somebody released by hand in the name of another run stays', async () => {
    const a = held();
    const run = await runs.start({ acts: { 'do a': a.act } });
    await a.begun;
    await runs.client.workflow
      .getHandle(lockWorkflowId({ system: run.system }))
      .signal('release', { runId: 'not the holder' });
    await runs.client.workflow.getHandle(lockWorkflowId({ system: run.system })).query(holderQuery);
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    a.release();
    await run.report();
  });

  test.each([undefined, 'soon', { run: 1 }])('a signal to the lock that says %j does it no harm', async (said) => {
    const a = held();
    const run = await runs.start({ acts: { 'do a': a.act } });
    await a.begun;
    const lock = runs.client.workflow.getHandle(lockWorkflowId({ system: run.system }));
    await lock.signal('release', ...(said === undefined ? [] : [said]));
    expect(await lock.query(holderQuery)).toMatchObject({ system: run.system });
    a.release();
    expect((await run.report()).end).toBe('succeeded');
    await isFree(run.system);
  });

  test('cancelling the lock itself does not free it: its holder still works', async () => {
    const a = held();
    const run = await runs.start({ acts: { 'do a': a.act } });
    await a.begun;
    const lock = runs.client.workflow.getHandle(lockWorkflowId({ system: run.system }));
    await lock.cancel();
    await lock.query(holderQuery);
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    a.release();
    expect((await run.report()).end).toBe('succeeded');
    await isFree(run.system);
  });

  test('a lock that was terminated by hand does not hold its run up', async () => {
    const a = held();
    const run = await runs.start({ plan: [lane('app', 'a', 'b')], acts: { 'do a': a.act } });
    await a.begun;
    await runs.client.workflow.getHandle(lockWorkflowId({ system: run.system })).terminate('by hand');
    a.release();
    expect((await run.report()).end).toBe('succeeded');
    expect(run.names()).toContain('do b');
  });

  test('who has waited as long as a run may is refused, and told who holds it and what to do', async () => {
    const a = held();
    const system = runs.system();
    const first = await runs.start({ acts: { 'do a': a.act } }, { system });
    await a.begun;
    const second = await runs.start({}, { system, input: { system, requester: 'ben', waitForLockMinutes: 0 } });
    const { type, message } = await second.failure();
    expect(type).toBe('refused');
    expect(message).toMatch(
      new RegExp(
        `${system} is held by backup ${first.workflowId} of ana, since .*; waited 0 s for it\\. Wait for it \\(guardia watch ${first.workflowId}\\), or cancel it .*; nothing was started$`,
      ),
    );
    expect(second.names()).toEqual(['look']);
    a.release();
    expect((await first.report()).end).toBe('succeeded');
  });
});
