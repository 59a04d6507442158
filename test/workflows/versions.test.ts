import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { fails, held } from './acts.js';
import { doctoredBundle } from './doctored-bundle.js';
import { attributesOf } from './run-history.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from './scripted-runs.js';
import { lane, stage, toyPlan } from './toy-plan.js';

jest.setTimeout(40_000);

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

/** A planner whose version changes as the worker is replaced. */
function versionedPlanner() {
  let version = 1;
  return {
    plan: (system: string) => toyPlan(system, [lane('app', `v${version}-a`, `v${version}-b`, `v${version}-c`)]),
    next: async () => {
      await runs.worker.stop();
      version += 1;
      await runs.worker.start();
    },
  };
}

const work = (run: ScriptedRun) => run.names().filter((name) => /^(do|undo) /.test(name));
const failedTasks = async (run: ScriptedRun) =>
  attributesOf(await run.history(), 'workflowTaskFailedEventAttributes').map(
    ({ attributes }) => attributes.failure?.message,
  );

describe('a run that one version of a planner started ends under another', () => {
  test('that came while the run waited for the lock: the recorded plan runs, not a new one', async () => {
    const system = runs.system();
    const a = held();
    const first = await runs.start({ acts: { 'do a': a.act } }, { system });
    await a.begun;
    const planner = versionedPlanner();
    const run = await runs.start({ plan: planner.plan }, { system });
    await until(async () => (await run.status()).waitingFor !== undefined, 'it waits');
    const { planDigest } = await run.status();

    await planner.next();
    a.release();
    await first.report();
    const report = await run.report();
    expect(work(run)).toEqual(['do v1-a', 'do v1-b', 'do v1-c']);
    expect(report.planDigest).toBe(planDigest);
    expect(report.steps.map(({ id }) => id)).toEqual(['v1-a', 'v1-b', 'v1-c']);
    expect(report.plan?.stages[0]?.lanes[0]?.steps[0]?.id).toBe('v1-a');
    expect(run.happened('record plan')[0]?.input['report']).toMatchObject({ planDigest });
  });

  test('that came in a long step, and is undone by it too', async () => {
    const planner = versionedPlanner();
    const b = held();
    const run = await runs.start({
      plan: planner.plan,
      acts: { 'do v1-b': b.act, 'do v1-c': fails('CommandFailed', 'c broke') },
    });
    await b.begun;
    await planner.next();
    b.release();
    expect((await run.failure()).message).toContain('step "do v1-c" on app failed: c broke');
    expect(work(run)).toEqual(['do v1-a', 'do v1-b', 'do v1-c', 'undo v1-c', 'undo v1-b', 'undo v1-a']);
  });

  test('that sees other facets: planned anew by the new version, and said', async () => {
    const system = runs.system();
    const a = held();
    const first = await runs.start({ acts: { 'do a': a.act } }, { system });
    await a.begun;
    const planner = versionedPlanner();
    let facets = 'as version 1 sees them';
    const run = await runs.start({ plan: planner.plan, facets: () => facets }, { system });
    await until(async () => (await run.status()).waitingFor !== undefined, 'it waits');
    facets = 'as version 2 sees them';
    await planner.next();
    a.release();
    await first.report();
    expect((await run.report()).notes).toEqual([expect.stringContaining('planned anew')]);
    expect(work(run)).toEqual(['do v2-a', 'do v2-b', 'do v2-c']);
  });
});

describe('a mistake in the workflow code parks the run: nothing is undone, and a worker without it goes on', () => {
  const parked = async (broken: string, script: Parameters<ScriptedRuns['start']>[0], says: string) => {
    await runs.worker.start({ bundle: broken });
    const run = await runs.start(script);
    runs.mayPark(run);
    try {
      await until(async () => (await failedTasks(run)).length > 0, 'a workflow task fails');
      expect((await failedTasks(run)).at(-1)).toContain(says);
      expect((await run.handle.describe()).status.name).toBe('RUNNING');
      expect(await runs.lockIsHeld(run.system)).toBe(true);
    } finally {
      await runs.worker.start();
    }
    return run;
  };

  test('in the middle of its steps', async () => {
    const broken = doctoredBundle({
      'async function applyStep(run, stage, lane, step) {':
        "async function applyStep(run, stage, lane, step) { if (step.id === 'b') undefined.mistake;",
    });
    const run = await parked(broken, { plan: [lane('app', 'a', 'b', 'c')] }, "reading 'mistake'");
    expect((await run.report()).end).toBe('succeeded');
    expect(work(run)).toEqual(['do a', 'do b', 'do c']);
  });

  test('while it undoes', async () => {
    const broken = doctoredBundle({
      'await next.run();': "if (next.step.id === 'a') undefined.mistake; await next.run();",
    });
    const run = await parked(
      broken,
      { plan: [lane('app', 'a', 'b')], acts: { 'do b': fails('CommandFailed', 'b broke') } },
      "reading 'mistake'",
    );
    expect((await run.failure()).message).toContain('b broke; everything before it was undone');
    expect(work(run)).toEqual(['do a', 'do b', 'undo b', 'undo a']);
  });

  test('in one of two lanes, while the other runs', async () => {
    const broken = doctoredBundle({
      'async function applyStep(run, stage, lane, step) {':
        "async function applyStep(run, stage, lane, step) { if (step.id === 'b') undefined.mistake;",
    });
    const c = held();
    const plan = [stage([lane('app', 'a', 'b'), lane('db', 'c')])];
    const run = await parked(broken, { plan, acts: { 'do c': c.act } }, "reading 'mistake'");
    c.release();
    expect((await run.report()).end).toBe('succeeded');
    expect([...new Set(work(run))].sort()).toEqual(['do a', 'do b', 'do c']);
  });

  test('and so does a version whose steps come in another order', async () => {
    const other = doctoredBundle({
      'await takeOver(before.plan);': "await record('plan'); await takeOver(before.plan);",
    });
    const a = held();
    const run = await runs.start({ plan: [lane('app', 'a', 'b')], acts: { 'do a': a.act } });
    runs.mayPark(run);
    await a.begun;
    await runs.worker.start({ bundle: other });
    try {
      a.release();
      await until(async () => (await failedTasks(run)).length > 0, 'a workflow task fails');
      expect((await failedTasks(run)).at(-1)).toMatch(/[Nn]ondeterminism|TMPRL1100/);
      expect((await run.handle.describe()).status.name).toBe('RUNNING');
    } finally {
      await runs.worker.start();
    }
    expect((await run.report()).end).toBe('succeeded');
    expect(work(run)).toEqual(['do a', 'do b']);
  });
});
