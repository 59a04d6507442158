import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { fails, held } from './acts.js';
import { openScriptedRuns, until, type ScriptedRuns } from './scripted-runs.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

const child = {
  ...step('child'),
  do: { activity: 'runRunbook', with: { runbook: 'backup', input: {} } },
  undo: { none: 'it cleans up after itself' },
};

describe('a runbook that runs as a step of another one', () => {
  test('works under the locks and fences of its parent, and takes none', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a', child, 'b')],
      child: { plan: [lane('app', 'x'), lane('db', 'y')], acts: { 'do x': () => ({ id: 1 }) } },
    });
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    const left = ['leave app', 'leave db'];
    expect(run.names().filter((name) => /^(fence|join|leave|do) /.test(name))).toEqual([
      ...['fence app', 'fence db', 'do a', 'join app', 'join db', 'do x', 'do y', ...left, 'do b', ...left],
    ]);
    const contexts = run.happened('do x').map(({ input }) => input['context'] as { fence: number; runId: string });
    expect(contexts[0]?.fence).toBe(7);
    expect(contexts[0]?.runId).not.toBe(report.runId);
    expect(run.happened('leave app').map(({ input }) => input['inherited'])).toEqual([true, false]);
    expect(report.steps[1]).toMatchObject({ state: 'done', note: `backup of ${run.system} succeeded` });
  });

  test('that fails has undone itself; its step has failed and the parent rolls back', async () => {
    const run = await runs.start({
      plan: [lane('app', 'a', child)],
      child: { plan: [lane('app', 'x', 'y')], acts: { 'do y': fails('CommandFailed', 'y broke') } },
    });
    const { type, message } = await run.failure();
    expect(type).toBe('rolled back');
    expect(message).toContain('step "do child" on app failed: backup of');
    expect(message).toContain('y broke');
    expect(run.names().filter((name) => /^(do|undo) /.test(name))).toEqual([
      ...['do a', 'do x', 'do y', 'undo y', 'undo x', 'undo a'],
    ]);
  });

  test('a cancel of the parent waits for the last undo of the child', async () => {
    const x = held({ cancelSeconds: 0.5 });
    const run = await runs.start({
      plan: [lane('app', 'a', child)],
      child: { plan: [lane('app', 'x')], acts: { 'do x': x.act } },
    });
    await x.begun;
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names().filter((name) => /^(do|undo) /.test(name))).toEqual(['do a', 'do x', 'undo x', 'undo a']);
  });

  test('that somebody cancels is a step that failed, and no cancel of the parent', async () => {
    const x = held({ cancelSeconds: 0.1 });
    const run = await runs.start({
      plan: [lane('app', 'a'), stage([lane('system', child)], { errorBudget: 1 }), lane('app', 'b')],
      child: { plan: [lane('app', 'x')], acts: { 'do x': x.act } },
    });
    await x.begun;
    const { workflowId } = run.happened('do x')[0]?.input['context'] as { workflowId: string };
    await runs.client.workflow.getHandle(workflowId).cancel();
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    expect(report.steps.find(({ id }) => id === 'child')).toMatchObject({
      state: 'failed',
      note: expect.stringContaining('was cancelled'),
    });
  });

  test('nobody can pretend to be its parent', async () => {
    const system = runs.system();
    const run = await runs.start({}, { system });
    const { runId } = await run.report();
    const pretended = await runs.client.workflow.start('backup', {
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowId: 'pretended',
      args: [{ system }, { workflowId: run.workflowId, runId, fences: { app: 7 } }],
    });
    const failed: unknown = await pretended.result().catch((error: unknown) => error);
    expect((failed as { cause: Error }).cause.message).toContain('backup takes one argument');
  });
});

test('a parent that is terminated takes its child with it, and the locks are free', async () => {
  const x = held();
  const run = await runs.start({
    plan: (name) => toyPlan(name, [lane('app', child)]),
    child: { plan: [lane('app', 'x')], acts: { 'do x': x.act } },
  });
  await x.begun;
  await run.handle.terminate('by hand');
  await until(async () => !(await runs.lockIsHeld(run.system)), 'the lock is free');
  const children = runs.client.workflow.list({ query: `WorkflowType = 'backup' AND ExecutionStatus = 'Running'` });
  await until(async () => {
    for await (const _ of children) return false;
    return true;
  }, 'nothing runs any more');
  x.release();
});
