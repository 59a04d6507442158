import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import * as searchAttributes from '../../workflows/contracts/search-attributes.js';
import { fails, failsFirst, held, mistaken, stumbles, type Act } from './acts.js';
import { scheduled } from './run-history.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from './scripted-runs.js';
import { smallSystem } from './small-system.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

jest.setTimeout(30_000);

let runs: ScriptedRuns;
/** Its activity has a mistake: its tries take a quarter of a minute. */
let mistakenRun: ScriptedRun;
beforeAll(async () => {
  runs = await openScriptedRuns();
  mistakenRun = await runs.start({
    plan: [lane('app', 'a', step('b', { kind: 'look' }))],
    acts: { 'do b': mistaken },
  });
  runs.mayStayOpen(mistakenRun);
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

const states = ({ steps }: { steps: { id: string; state: string }[] }) =>
  Object.fromEntries(steps.map(({ id, state }) => [id, state]));

describe('a run in which everything goes well', () => {
  test('does its steps in order, with references filled in, and tells where it stands', async () => {
    const b = held();
    const run = await runs.start({
      plan: [
        lane('app', step('a'), step('b', { kind: 'job', with: { id: { from: 'a', path: 'made.id' } } })),
        lane(
          'system',
          step('c', {
            with: {
              all: [
                { from: 'a', path: 'made' },
                { from: 'b', path: '' },
              ],
            },
          }),
        ),
      ],
      acts: { 'do a': () => ({ made: { id: 17 }, summary: '17 made' }), 'do b': b.act },
    });

    await b.begun;
    expect(await run.status()).toMatchObject({ phase: 'applying', system: run.system, requester: 'ana' });
    expect(states(await run.status())).toEqual({ a: 'done', b: 'running', c: 'waiting' });
    expect(await run.details()).toMatch(
      /: applying\*\* \(1 of \d+ steps done\)\n\n- ✔ do a .*17 made\n- ▶ do b .*running.*\n- ☐ do c /,
    );
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    b.release({ bytes: 5 });

    const report = await run.report();
    expect(report).toMatchObject({ end: 'succeeded', phase: 'ended', workflowId: run.workflowId, remaining: [] });
    expect(report.steps).toMatchObject([{ id: 'a', note: '17 made', state: 'done', generation: 1 }, {}, {}]);
    expect(report.plan?.stages.map(({ lanes }) => lanes[0]?.on)).toEqual(['app', 'system']);
    expect(await run.status()).toEqual({ ...report, plan: undefined });
    expect(await run.details()).toMatch(/: succeeded\*\*/);
    expect(run.names()).toEqual([
      ...['look', 'fence app', 'fence db', 'look', 'record plan', 'do a', 'do b', 'do c'],
      ...['record end', 'leave app', 'leave db'],
    ]);
    expect(run.happened('do b')[0]?.input).toMatchObject({ with: { id: 17 } });
    expect(run.happened('do c')[0]?.input).toMatchObject({ with: { all: [{ id: 17 }, { bytes: 5 }] } });
    await until(async () => !(await runs.lockIsHeld(run.system)), 'the lock is free');
  });

  test('every activity is told run, step, host and fence; the record is told the plan before, the end after', async () => {
    const run = await runs.start({
      plan: [lane('app', step('a', { runAgainIfLost: true })), lane('worker', 'b'), lane('system', 'c')],
      acts: { 'fence app': () => ({ number: 12, stopped: [], unrepaired: [] }) },
    });
    const { runId, workflowId } = await run.report();

    const context = (name: string) => run.happened(name)[0]?.input['context'];
    const always = { system: run.system, runbook: 'backup', workflowId, runId, generation: 1 };
    expect(context('do a')).toMatchObject({
      ...always,
      step: 'a',
      runAgainIfLost: true,
      fence: 12,
      target: { name: 'app', connection: { address: `app.${run.system}.example` } },
    });
    // The worker's machine serves every system: it has no fence. A lane of no host has no target.
    expect(context('do b')).toEqual({
      ...always,
      step: 'b',
      runAgainIfLost: false,
      target: expect.objectContaining({ name: 'worker' }),
    });
    expect(context('do c')).toEqual({ ...always, step: 'c', runAgainIfLost: false });

    const [plan, end] = [run.happened('record plan')[0], run.happened('record end')[0]];
    expect(plan?.input['report']).toMatchObject({ phase: 'applying', plan: { system: run.system } });
    expect(plan?.input['report']).not.toHaveProperty('end');
    expect(end?.input['report']).toMatchObject({ end: 'succeeded', endedAt: expect.any(String), plan: {} });
    expect(run.names().slice(-4)).toEqual(['record end', 'leave app', 'leave db', 'leave worker']);
    expect(run.happened('leave app')[0]?.input).toMatchObject({ runId, keepJournal: false });
  });

  test('carries search attributes that tell it from others', async () => {
    const b = held();
    const run = await runs.start({ plan: [lane('db', 'a'), lane('app', 'b')], acts: { 'do b': b.act } });
    await b.begun;
    const read = async () => (await run.handle.describe()).typedSearchAttributes;
    const open = await read();
    expect(open.get(searchAttributes.GuardiaRunbook)).toBe('backup');
    expect(open.get(searchAttributes.GuardiaSystem)).toBe(run.system);
    expect(open.get(searchAttributes.GuardiaRequester)).toBe('ana');
    expect(open.get(searchAttributes.GuardiaPhase)).toBe('applying');
    expect(open.get(searchAttributes.GuardiaHosts)?.sort()).toEqual(['app', 'db']);
    expect(open.get(searchAttributes.GuardiaEnd)).toBeUndefined();
    b.release();
    await run.report();
    const closed = await read();
    expect(closed.get(searchAttributes.GuardiaPhase)).toBe('ended');
    expect(closed.get(searchAttributes.GuardiaEnd)).toBe('succeeded');
  });

  test('what the Web UI shows of it is what its steps are called, also where that is long and not Latin', async () => {
    const title = '備份資料庫'.repeat(60);
    const workflowId = `started in the Web UI ${'with a long id '.repeat(40)}`;
    const run = await runs.start({ plan: [lane('app', step('a', { title }), step('b'))] }, { workflowId });
    expect((await run.report()).steps[0]?.title).toBe(title);
    const summaries = scheduled(await run.history());
    expect(summaries).toContain('do b');
    expect(summaries.some((summary) => summary.startsWith('備份資料庫備份資料庫'))).toBe(true);
  });

  test('takes every host of the system over before it looks again, also those that it has no step for', async () => {
    const run = await runs.start({ plan: [lane('system', 'a')] });
    expect((await run.report()).end).toBe('succeeded');
    expect(run.names()).toEqual([
      ...['look', 'fence app', 'fence db', 'look', 'record plan', 'do a', 'record end', 'leave app', 'leave db'],
    ]);
  });

  test('a host that it has no step for may be away: that is said, and nothing waits for it', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a')],
      acts: { 'fence db': stumbles('no route to db') },
    });
    expect(await run.report()).toMatchObject({
      end: 'succeeded',
      notes: ['What a terminated run may have left at work on db goes on: no route to db'],
    });
    expect(run.happened('fence db')).toHaveLength(2);
    expect(run.names()).not.toContain('leave db');
  });

  test('a host that is not filled in yet is none to be taken over', async () => {
    const address = '{ unset: address of the database server }';
    const system = runs.system((name) => smallSystem(name).replace(`db.${name}.example`, address));
    const run = await runs.start({ plan: [lane('app', 'a')] }, { system });
    expect(await run.report()).toMatchObject({ end: 'succeeded', notes: [] });
    expect(run.names()).not.toContain('fence db');
  });

  test('nor is one behind a jump host that is not, and the others are left all the same', async () => {
    const bastion = `  bastion:
    connection: { address: { unset: address of the bastion }, user: guardia, identity: file:ssh/id, hostKeys: ['ssh-ed25519 AAAA'] }
objectStore:`;
    const system = runs.system((name) =>
      smallSystem(name)
        .replace(`db.${name}.example,`, `db.${name}.example, jump: bastion,`)
        .replace('objectStore:', bastion),
    );
    const run = await runs.start({ plan: [lane('app', 'a')] }, { system });
    expect(await run.report()).toMatchObject({ end: 'succeeded', notes: [] });
    expect(run.names().filter((name) => /^(fence|leave) /.test(name))).toEqual(['fence app', 'leave app']);
  });

  test('a run whose record cannot be written succeeds and says so', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a')],
      acts: { 'record end': fails('ObjectStoreRefused', 'the bucket is closed') },
    });
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    expect(report.notes).toEqual([expect.stringContaining('the bucket is closed')]);
  });

  test('a host that cannot be left cleanly does not spoil the run', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a'), lane('db', 'b')],
      acts: { 'leave app': fails('HostUnusable', 'the disk is gone') },
    });
    expect(await run.report()).toMatchObject({
      end: 'succeeded',
      notes: [expect.stringMatching(/app .*the disk is gone/)],
    });
    expect(run.names()).toContain('leave db');
  });
});

describe('a step that fails', () => {
  test('is undone with all before it, newest first, its own undo included', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a', step('b', { undo: false }), 'c'), lane('db', 'd', 'e')],
      acts: { 'do d': fails('CommandFailed', 'pg_dump ended with 1', 'Look at the log') },
    });
    const { type, message, report } = await run.failure();

    expect(type).toBe('rolled back');
    expect(message).toBe(
      `backup of ${run.system}: step "do d" on db failed: pg_dump ended with 1. Look at the log; everything before it was undone`,
    );
    expect(run.names().slice(1)).toEqual([
      ...['fence app', 'fence db', 'look', 'record plan', 'do a', 'do b', 'do c', 'do d'],
      ...['undo d', 'undo c', 'undo a', 'record end', 'leave app', 'leave db'],
    ]);
    expect(report).toMatchObject({ end: 'rolled back', message, remaining: [] });
    expect(states(report as never)).toEqual({ a: 'undone', b: 'done', c: 'undone', d: 'undone', e: 'waiting' });
    expect(report?.steps[3]?.note).toContain('pg_dump ended with 1');
    expect(await run.status()).toMatchObject({ end: 'rolled back', phase: 'ended' });
    expect((await run.handle.describe()).status.name).toBe('FAILED');
    expect(run.happened('leave app')[0]?.input).toMatchObject({ keepJournal: false });
    await until(async () => !(await runs.lockIsHeld(run.system)), 'the lock is free');
  });

  test('an undo needs no result of its step, and gets its fence', async () => {
    const run = await runs.start({
      plan: [lane('app', step('a', { kind: 'job' }))],
      acts: { 'do a': fails('JobTimedOut') },
    });
    await run.failure();
    expect(run.happened('undo a')[0]?.input).toMatchObject({
      with: { part: 'undo' },
      context: { step: 'a', fence: 7, target: { name: 'app' } },
    });
    expect(scheduled(await run.history())).toContain('undo: do a');
  });

  test('a verification that fails is a failed step', async () => {
    const run = await runs.start({
      plan: [lane('app', step('a', { verify: { seen: { from: 'a', path: 'id' } } }))],
      acts: { 'do a': () => ({ id: 3 }), 'verify a': fails('VerificationFailed', 'nobody answers') },
    });
    expect((await run.failure()).message).toContain('nobody answers');
    expect(run.happened('verify a')[0]?.input).toMatchObject({ with: { seen: 3 } });
    expect(run.names()).toContain('undo a');
  });

  test('a result that lacks what a later step needs fails that step, and says which', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a', step('b', { with: { id: { from: 'a', path: 'made.id' } } }))],
    });
    const { type, message } = await run.failure();
    expect(type).toBe('rolled back');
    expect(message).toContain('step a gave no made.id');
    expect(run.names()).not.toContain('do b');
  });

  test('a host that cannot be taken over: no step runs, nothing is undone, both are left', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a'), lane('db', 'b')],
      acts: { 'fence db': fails('SudoMissing', 'no sudo on db') },
    });
    const { type, message } = await run.failure();
    expect(type).toBe('failed');
    expect(message).toContain('no sudo on db');
    expect(run.names().slice(1)).toEqual(['fence app', 'fence db', 'record end', 'leave app', 'leave db']);
  });

  test('what passes by itself is tried again, and nothing is undone', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a')],
      acts: { 'do a': ({ attempt }) => (attempt < 3 ? stumbles()({} as never) : {}) },
    });
    expect((await run.report()).end).toBe('succeeded');
    expect(run.happened('do a').map(({ outcome }) => outcome)).toEqual(['failed', 'failed', 'ok']);
  });
});

describe('an undo that fails', () => {
  test('because its host is away: the next one on that host does not wait for it as long again', async () => {
    const away: Act = () => {
      throw ApplicationFailure.create({ type: 'HostUnreachable', message: 'app is away', nonRetryable: true });
    };
    const run = await runs.start({
      plan: [lane('app', 'a', 'b', 'c')],
      acts: { 'do c': fails('CommandFailed', 'no space'), 'undo c': away, 'undo b': stumbles('app is away') },
    });
    const { report } = await run.failure();
    expect(states(report as never)).toEqual({ a: 'undone', b: 'undo failed', c: 'undo failed' });
    expect(run.happened('undo b')).toHaveLength(3);
  });

  test('the others still run; what remains is named, and the journal is kept', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a', 'b', 'c')],
      acts: { 'do c': fails('CommandFailed', 'no space'), 'undo b': fails('CommandFailed', 'the file is in use') },
    });
    const { type, message, report } = await run.failure();
    expect(type).toBe('rollback incomplete');
    expect(run.names().slice(-6)).toEqual(['undo c', 'undo b', 'undo a', 'record end', 'leave app', 'leave db']);
    expect(message).toMatch(
      /no space; not everything could be undone: undo of "do b" on app \(take the manifest out again: .*\): the file is in use$/,
    );
    expect(report?.remaining).toEqual([
      'undo of "do b" on app (take the manifest out again: the recovery point counts no more): the file is in use',
    ]);
    expect(states(report as never)).toEqual({ a: 'undone', b: 'undo failed', c: 'undone' });
    expect(run.happened('leave app')[0]?.input).toMatchObject({ keepJournal: true });
    expect(await run.details()).toMatch(/To be done by hand\*\*\n- undo of "do b"/);
    expect((await run.handle.describe()).typedSearchAttributes.get(searchAttributes.GuardiaEnd)).toBe(
      'rollback incomplete',
    );
  });
});

describe('the point of no return', () => {
  test('a failure after it undoes nothing before it, and the message says what stands', async () => {
    const run = await runs.start({
      plan: (system) =>
        toyPlan(system, [lane('app', step('a', { undo: false }), 'b', 'c', 'd', 'e')], { pointOfNoReturn: 'c' }),
      acts: { 'do e': fails('BackupDamaged', 'it does not read back') },
    });
    const { type, message, report } = await run.failure();
    expect(run.names().filter((name) => name.startsWith('undo'))).toEqual(['undo e', 'undo d']);
    expect(type).toBe('failed');
    expect(message).toMatch(/it does not read back; everything up to "do c" stands, what came after it was undone$/);
    expect(states(report as never)).toEqual({ a: 'kept', b: 'kept', c: 'kept', d: 'undone', e: 'undone' });
  });

  test('where there is nothing to undo after it, the run failed', async () => {
    const run = await runs.start({
      plan: (system) =>
        toyPlan(system, [lane('app', step('a', { undo: false }), step('b', { undo: false }))], {
          pointOfNoReturn: 'a',
        }),
      acts: { 'do b': fails('BackupDamaged', 'it does not read back') },
    });
    const { type, message, report } = await run.failure();
    expect(type).toBe('failed');
    expect(message).toMatch(/it does not read back; everything up to "do a" stands$/);
    expect(states(report as never)).toEqual({ a: 'kept', b: 'failed' });
  });

  test('a failure at it undoes everything', async () => {
    const run = await runs.start({
      plan: (system) => toyPlan(system, [lane('app', 'a', 'b')], { pointOfNoReturn: 'b' }),
      acts: { 'do b': fails() },
    });
    expect((await run.failure()).message).toMatch(/; everything before it was undone$/);
    expect(run.names().filter((name) => name.startsWith('undo'))).toEqual(['undo b', 'undo a']);
  });
});

describe('a step that may run anew', () => {
  test('does so after a failure of its command, as another generation; its undo is told the highest', async () => {
    const run = await runs.start({
      plan: [lane('app', step('a', { attempts: 3, kind: 'job' }), 'b')],
      acts: { 'do a': failsFirst(2, 'JobFailed', 'exit code 1'), 'do b': fails() },
    });
    const { report } = await run.failure();
    const generations = (name: string) =>
      run.happened(name).map(({ input }) => (input['context'] as { generation: number }).generation);
    expect(generations('do a')).toEqual([1, 2, 3]);
    expect(generations('undo a')).toEqual([3]);
    expect(report?.steps[0]).toMatchObject({ generation: 3, note: expect.stringContaining('exit code 1') });
  });

  test('but no more often than it says', async () => {
    const run = await runs.start({
      plan: [lane('app', step('a', { attempts: 2 }))],
      acts: { 'do a': fails('CommandFailed') },
    });
    await run.failure();
    expect(run.happened('do a')).toHaveLength(2);
    expect(run.names()).toContain('undo a');
  });

  test.each(['Fenced', 'AnomalousBackup', 'JobCancelled'] as const)('and not after %s', async (type) => {
    const run = await runs.start({
      plan: [lane('app', step('a', { attempts: 2 }))],
      acts: { 'do a': fails(type) },
    });
    await run.failure();
    expect(run.happened('do a')).toHaveLength(1);
  });

  test('also when its verification failed', async () => {
    const run = await runs.start({
      plan: [lane('app', step('a', { attempts: 2, verify: {} }))],
      acts: { 'verify a': failsFirst(1, 'VerificationFailed', 'not yet') },
    });
    expect((await run.report()).steps[0]).toMatchObject({ state: 'done', generation: 2 });
    expect(run.names().filter((name) => name.endsWith(' a'))).toEqual(['do a', 'verify a', 'do a', 'verify a']);
  });
});

describe('lanes side by side', () => {
  test('run as many at once as the stage says, and all of them', async () => {
    const ids = ['a', 'b', 'c', 'd', 'e'];
    let open = 0;
    let most = 0;
    const act = async () => {
      most = Math.max(most, ++open);
      await new Promise((resolve) => setTimeout(resolve, 150));
      open -= 1;
      return {};
    };
    const run = await runs.start({
      plan: [
        stage(
          ids.map((id) => lane('app', id)),
          { atOnce: 2 },
        ),
        lane('db', 'z'),
      ],
      acts: Object.fromEntries(ids.map((id) => [`do ${id}`, act])),
    });
    await run.report();
    expect(most).toBe(2);
    expect(run.names().slice(-3)).toEqual(['record end', 'leave app', 'leave db']);
    expect(run.names().filter((name) => name.startsWith('do'))).toHaveLength(6);
  });

  test('a lane that fails lets the others come to rest before anything is undone; no further step begins, in any lane', async () => {
    const slow = held();
    const run = await runs.start({
      plan: [stage([lane('app', 'a', 'b'), lane('db', 'c', 'd'), lane('worker', 'e')], { atOnce: 2 })],
      acts: { 'do b': fails('CommandFailed', 'b broke'), 'do c': slow.act },
    });
    await until(() => run.names().includes('do b'), 'b has failed');
    await until(async () => states(await run.status())['b'] === 'failed', 'b is known to have failed');
    expect(run.names().some((name) => name.startsWith('undo'))).toBe(false);
    slow.release();
    const { message, report } = await run.failure();
    expect(message).toContain('step "do b" on app failed: b broke');
    const undos = run.names().filter((name) => name.startsWith('undo'));
    expect(undos.sort()).toEqual(['undo a', 'undo b', 'undo c']);
    expect(run.log.find(({ name }) => name.startsWith('undo'))?.from).toBeGreaterThanOrEqual(
      run.happened('do c')[0]?.to ?? Infinity,
    );
    expect(states(report as never)).toMatchObject({ c: 'undone', d: 'waiting', e: 'waiting' });
  });

  test('lanes may fail as many as the budget says, and are undone at once; a later failure undoes the others', async () => {
    const run = await runs.start({
      plan: [
        stage([lane('app', 'a'), lane('db', 'b'), lane('worker', 'c')], { atOnce: 1, errorBudget: 1 }),
        lane('app', 'z'),
      ],
      acts: { 'do a': fails(), 'do z': fails('CommandFailed', 'z broke') },
    });
    const { message } = await run.failure();
    expect(message).toContain('step "do z" on app failed: z broke');
    expect(run.names().filter((name) => /^(do|undo) /.test(name))).toEqual([
      ...['do a', 'undo a', 'do b', 'do c', 'do z'],
      ...['undo z', 'undo c', 'undo b'],
    ]);
  });
});

test('an activity with a mistake in its code fails its step when its tries are used up', async () => {
  const { type, message } = await mistakenRun.failure();
  expect(type).toBe('rolled back');
  expect(message).toContain("Cannot read properties of undefined (reading 'at')");
  expect(mistakenRun.happened('do b').length).toBeGreaterThan(1);
  expect(mistakenRun.names()).toContain('undo a');
});
