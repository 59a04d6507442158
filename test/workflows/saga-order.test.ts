import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import type { Plan } from '../../workflows/contracts/plan.js';
import { stepsOf } from '../../workflows/contracts/plan.js';
import { fails, type Act } from './acts.js';
import { openScriptedRuns, type Happened, type ScriptedRuns } from './scripted-runs.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

jest.setTimeout(120_000);

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 60_000);
afterAll(() => runs.close());

const HOSTS = ['app', 'db', 'worker', 'system'];

/** A plan of up to three stages, three lanes, three steps, some without an undo; and which of its steps fails, if any. */
const anyPlan = fc
  .record({
    stages: fc.array(
      fc.record({
        atOnce: fc.integer({ min: 1, max: 3 }),
        lanes: fc.array(
          fc.record({
            on: fc.constantFrom(...HOSTS),
            steps: fc.array(fc.record({ undo: fc.boolean(), milliseconds: fc.integer({ min: 0, max: 150 }) }), {
              minLength: 1,
              maxLength: 3,
            }),
          }),
          { minLength: 1, maxLength: 3 },
        ),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    fails: fc.option(fc.nat(), { freq: 6 }),
    noReturn: fc.option(fc.nat()),
  })
  .map(({ stages, ...chosen }) => {
    const milliseconds = new Map<string, number>();
    let counter = 0;
    const made = stages.map(({ atOnce, lanes }) =>
      stage(
        lanes.map(({ on, steps }) =>
          lane(
            on,
            ...steps.map((each) => {
              const id = `s${++counter}`;
              milliseconds.set(id, each.milliseconds);
              return step(id, each.undo ? {} : { undo: false });
            }),
          ),
        ),
        { atOnce },
      ),
    );
    const ids = [...milliseconds.keys()];
    const alone = made.filter(({ lanes }) => lanes.length === 1).flatMap(({ lanes }) => lanes[0]?.steps ?? []);
    const noReturn = chosen.noReturn === null ? undefined : alone[chosen.noReturn % Math.max(alone.length, 1)]?.id;
    const failing = chosen.fails === null ? undefined : ids[chosen.fails % ids.length];
    const plan = (system: string): Plan =>
      toyPlan(system, made, noReturn === undefined ? {} : { pointOfNoReturn: noReturn });
    return { plan, failing, noReturn, milliseconds };
  });

/** The first of these rules that a run broke; undefined for a good one. */
function broken(plan: Plan, failing: string | undefined, log: Happened[]): string | undefined {
  const all = stepsOf(plan);
  const indexOf = (name: string) => log.findIndex((entry) => entry.name === name);
  const started = all.filter(({ step: { id } }) => indexOf(`do ${id}`) >= 0);
  const undone = log.filter(({ name }) => name.startsWith('undo ')).map(({ name }) => name.slice(5));
  const noReturn = started.find(({ step: { id } }) => id === plan.pointOfNoReturn && id !== failing);

  if (failing === undefined) {
    if (undone.length > 0) return 'a good run undid something';
    if (started.length !== all.length) return 'a good run left a step out';
  }
  const before = noReturn ? all.indexOf(noReturn) : -1;
  const expected =
    failing === undefined ? [] : started.filter((each) => 'activity' in each.step.undo && all.indexOf(each) > before);
  if (
    undone.toSorted().join() !==
    expected
      .map(({ step: { id } }) => id)
      .toSorted()
      .join()
  )
    return `undone: ${undone.join()}; to be undone: ${expected.map(({ step: { id } }) => id).join()}`;

  const lastDo = Math.max(...log.filter(({ name }) => name.startsWith('do ')).map(({ to }) => to ?? Infinity));
  const firstUndo = Math.min(...log.filter(({ name }) => name.startsWith('undo ')).map(({ from }) => from));
  if (firstUndo < lastDo) return 'an undo began while a step still ran';

  for (const [n, each] of plan.stages.entries()) {
    for (const { steps } of each.lanes) {
      const order = steps.map(({ id }) => indexOf(`do ${id}`)).filter((at) => at >= 0);
      if (order.join() !== order.toSorted((a, b) => a - b).join()) return 'the steps of a lane ran out of order';
      const back = steps.map(({ id }) => indexOf(`undo ${id}`)).filter((at) => at >= 0);
      if (back.join() !== back.toSorted((a, b) => b - a).join())
        return 'the steps of a lane were not undone newest first';
      const at = steps.findIndex(({ id }) => id === failing);
      if (at >= 0 && steps.slice(at + 1).some(({ id }) => indexOf(`do ${id}`) >= 0))
        return 'a lane went on after its failure';
    }
    const span = (part: 'do' | 'undo', { lanes }: typeof each) =>
      log.filter(({ name }) => lanes.some(({ steps }) => steps.some(({ id }) => name === `${part} ${id}`)));
    const next = plan.stages[n + 1];
    if (!next) continue;
    const ended = Math.max(...span('do', each).map(({ to }) => to ?? Infinity));
    if (span('do', next).some(({ from }) => from < ended)) return 'a stage began before the one before it had ended';
    const begun = Math.min(...span('undo', each).map(({ from }) => from));
    if (span('undo', next).some(({ to }) => (to ?? Infinity) > begun)) return 'stages were undone out of order';
  }

  for (const each of plan.stages) {
    const changes = each.lanes
      .flatMap(({ steps }) => log.filter(({ name }) => steps.some(({ id }) => name === `do ${id}`)))
      .flatMap(({ from, to }) => [
        { at: from, by: 1 },
        { at: to ?? Infinity, by: -1 },
      ])
      .sort((a, b) => a.at - b.at || a.by - b.by);
    let open = 0;
    for (const { by } of changes) if ((open += by) > each.atOnce) return 'more lanes at once than the stage allows';
  }
  return undefined;
}

test('whatever the plan is, and whichever step fails: what was started is undone once, newest first', async () => {
  const check = async ({
    plan,
    failing,
    noReturn,
    milliseconds,
  }: (typeof anyPlan)['generate'] extends (...args: never[]) => { value: infer V } ? V : never) => {
    const pause =
      (id: string): Act =>
      () =>
        new Promise((resolve) => setTimeout(() => resolve({}), milliseconds.get(id)));
    const run = await runs.start({
      plan,
      acts: {
        ...Object.fromEntries([...milliseconds.keys()].map((id) => [`do ${id}`, pause(id)])),
        ...(failing === undefined ? {} : { [`do ${failing}`]: fails() }),
      },
    });
    const end = failing === undefined ? (await run.report()).end : (await run.failure()).type;
    return { end, failing, noReturn, plan: plan(run.system), log: run.log };
  };
  // Side by side, because most of a run is waiting; without shrinking, because it would run for minutes.
  await fc.assert(
    fc.asyncProperty(fc.array(anyPlan, { minLength: 16, maxLength: 16 }), async (plans) => {
      for (const { end, failing, plan, log } of await Promise.all(plans.map(check))) {
        const problem = broken(plan, failing, log);
        if (problem !== undefined) throw new Error(`${problem}\n${log.map(({ name }) => name).join(' ')}`);
        expect(failing === undefined ? ['succeeded'] : ['rolled back', 'failed']).toContain(end);
      }
    }),
    { numRuns: 1, endOnFailure: true },
  );
});
