import { expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import fc from 'fast-check';
import { createSaga } from '../../workflows/lib/saga.js';
import { lane, stage } from './toy-plan.js';

/** Stages of lanes of steps, by their ids; and how often each undo fails before it succeeds. */
const anyWayBack = fc
  .array(
    fc.array(fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 }),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  .map((stages) => {
    const failures = new Map<string, number>();
    const made = stages.map((lanes, s) =>
      stage(
        lanes.map((steps, l) =>
          lane(
            'app',
            ...steps.map((count, n) => {
              failures.set(`${s}.${l}.${n}`, count);
              return `${s}.${l}.${n}`;
            }),
          ),
        ),
      ),
    );
    return { stages: made, failures };
  });

/** Registers all steps as they would have run, the lanes of a stage by turns. */
function registered({ stages, failures }: typeof anyWayBack extends fc.Arbitrary<infer T> ? T : never) {
  const saga = createSaga();
  const left = new Map(failures);
  const tried: { id: string; well: boolean }[] = [];
  for (const each of stages)
    for (let n = 0; n < 4; n++)
      for (const one of each.lanes) {
        const step = one.steps[n];
        if (!step) continue;
        saga.register({
          ...{ step, stage: each, lane: one, on: 'app' },
          run: () => {
            const failuresLeft = left.get(step.id) ?? 0;
            left.set(step.id, failuresLeft - 1);
            tried.push({ id: step.id, well: failuresLeft <= 0 });
            return failuresLeft > 0 ? Promise.reject(ApplicationFailure.create({ message: 'no' })) : Promise.resolve();
          },
        });
      }
  return { saga, tried };
}

test('an undo runs only once all that came after its step, in its lane and in later stages, is undone', async () => {
  await fc.assert(
    fc.asyncProperty(anyWayBack, async (way) => {
      const { saga, tried } = registered(way);
      for (let attempts = 0; saga.size > 0; attempts++) {
        expect(attempts).toBeLessThan(1000);
        const failed = await saga.compensate();
        expect(failed.length > 0).toBe(saga.size > 0);
        for (const { compensation } of failed) expect(saga.left).toContain(compensation);
      }
      const undone = new Set<string>();
      for (const { id, well } of tried) {
        expect(undone).not.toContain(id);
        const [s = 0, l, n = 0] = id.split('.').map(Number);
        for (const other of way.failures.keys()) {
          const [otherS = 0, otherL, otherN = 0] = other.split('.').map(Number);
          if (otherS > s || (otherS === s && otherL === l && otherN > n)) expect(undone).toContain(other);
        }
        if (well) undone.add(id);
      }
      expect(undone.size).toBe(way.failures.size);
    }),
    { numRuns: 100 },
  );
});

test('an attempt goes on with every lane that does not wait for an undo that fails', async () => {
  await fc.assert(
    fc.asyncProperty(anyWayBack, async (way) => {
      const { saga, tried } = registered(way);
      const failed = await saga.compensate();
      // Nothing that failed was left before something else was undone: it may have waited for that.
      const lastUndone = tried.findLastIndex(({ well }) => well);
      for (const { compensation } of failed)
        expect(tried.findLastIndex(({ id }) => id === compensation.step.id)).toBeGreaterThan(lastUndone);
      const stages = new Set(failed.map(({ compensation }) => compensation.stage));
      expect(stages.size).toBeLessThanOrEqual(1);
      for (const { stage: of, lane: one } of saga.left)
        expect(
          failed.some(({ compensation }) => compensation.lane === one) || (!stages.has(of) && stages.size === 1),
        ).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test('what a person has seen to is not undone, and what waited for it is', async () => {
  const way = { stages: [stage([lane('app', '0.0.0', '0.0.1')])], failures: new Map([['0.0.1', 99]]) };
  const { saga, tried } = registered(way);
  const [failed] = await saga.compensate();
  expect(failed?.compensation.step.id).toBe('0.0.1');
  if (failed) saga.forget(failed.compensation);
  expect(await saga.compensate()).toEqual([]);
  expect(tried).toEqual([
    { id: '0.0.1', well: false },
    { id: '0.0.0', well: true },
  ]);
});
