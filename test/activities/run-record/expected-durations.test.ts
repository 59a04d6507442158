import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { parse } from 'yaml';
import { replaceSmallObject } from '../../../activities/object-store/objects.js';
import { createRunRecordActivities } from '../../../activities/run-record/run-record-activities.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import { createPlanningActivities } from '../../../workers/planning-activities.js';
import { stepsOf, type Plan } from '../../../workflows/contracts/plan.js';
import { durationsKey } from '../../../workflows/contracts/run-record.js';
import type { StepStatus } from '../../../workflows/contracts/run.js';
import { System } from '../../../workflows/contracts/system.js';
import { after, status, step as stepStatus } from '../../client/sample-run.js';
import { smallSystem } from '../../workflows/small-system.js';
import { lane, step, toyPlan } from '../../workflows/toy-plan.js';
import { rootKey, startGateway, type Gateway } from '../object-store/versity-gateway.js';

let gateway: Gateway;
let system: System;
let records: ReturnType<typeof createRunRecordActivities>;
beforeAll(async () => {
  gateway = await startGateway();
  system = System.parse({
    ...(parse(smallSystem('one')) as object),
    objectStore: {
      provider: 'versitygw',
      endpoint: gateway.address.endpoint,
      bucket: gateway.address.bucket,
      keys: { worker: { accessKeyId: 'env:ID', secretAccessKey: 'env:SECRET' }, hosts: {} },
    },
  });
  records = createRunRecordActivities({
    hosts: undefined as never,
    secrets: createSecrets({
      directory: '/nonexistent',
      environment: { ID: rootKey.accessKeyId, SECRET: rootKey.secretAccessKey },
    }),
    isOpen: () => Promise.resolve(false),
  });
});
afterAll(() => gateway?.remove());

const run = <T>(body: () => Promise<T>): Promise<T> => new MockActivityEnvironment().run<[], T, () => Promise<T>>(body);

let counter = 0;
/** A run whose steps took so many seconds is over, and its record is written. */
async function ended(
  runbook: string,
  took: Record<string, number | undefined>,
  end: 'succeeded' | 'rolled back' = 'succeeded',
) {
  const steps = Object.entries(took).map(([id, seconds]): StepStatus =>
    stepStatus(
      id,
      seconds === undefined
        ? { state: 'skipped' }
        : { state: 'done', startedAt: after(10), endedAt: after(10 + seconds) },
    ),
  );
  const workflowId = `${runbook}/one/${++counter}`;
  const report = { ...status({ runbook, system: 'one', workflowId, steps, end, phase: 'ended' }), endedAt: after(600) };
  await run(() => records.recordRun({ system, entry: 'end', report }));
}
const expected = (runbook: string) => run(() => records.readExpectedDurations({ system, runbook }));

test('of a runbook that has never succeeded nothing is known', async () => {
  await ended('deploy', { fetch: 12 }, 'rolled back');
  expect(await expected('deploy')).toEqual({});
});

test('a step is expected to take what it took in the middle of the last runs that succeeded', async () => {
  await ended('backup', { dump: 10, check: 2.04 });
  expect(await expected('backup')).toEqual({ dump: 10, check: 2 });
  // One run that waited for a host that was away says little about the next.
  await ended('backup', { dump: 3000, check: undefined });
  await ended('backup', { dump: 11 });
  await ended('backup', { dump: 400 }, 'rolled back');
  expect(await expected('backup')).toEqual({ dump: 11, check: 2 });
});

test('what is long past counts no more: only the last seven', async () => {
  for (const seconds of [100, 100, 100, 100, 1, 1, 1, 1, 5, 5, 5]) await ended('repair', { undo: seconds });
  expect(await expected('repair')).toEqual({ undo: 1 });
  for (const seconds of [5, 5, 5, 5]) await ended('repair', { undo: seconds });
  expect(await expected('repair')).toEqual({ undo: 5 });
});

test('what somebody else has put in its place is as good as nothing, and the next run begins anew', async () => {
  const key = durationsKey('', 'one', 'adopt');
  for (const text of ['no JSON', '{"move": "long"}', '{"move": [-1]}']) {
    await run(() => replaceSmallObject(gateway.bucket, key, text, 'application/json', new AbortController().signal));
    expect(await expected('adopt')).toEqual({});
  }
  await ended('adopt', { move: 7 });
  expect(await expected('adopt')).toEqual({ move: 7 });
});

test('they stand in the next plan, where its planner does not know better, and nobody approves them', async () => {
  await ended('provision-host', { a: 42, bake: 5 });
  const toy: Plan = toyPlan('one', [lane('app', 'a', 'new', step('bake', { expectedSeconds: 600 }))], {
    runbook: 'provision-host',
  });
  const planner = { needs: () => [], observe: () => [], plan: () => toy, facets: () => ({}) };
  const planning = createPlanningActivities({ 'provision-host': planner }, { systemsDirectory: '/nonexistent' });
  const plan = async (known: Record<string, number>) =>
    planning.planRun({
      ...{ runbook: 'provision-host', input: { system: 'one' }, system, observation: {}, expected: known },
      moment: { workflowId: 'w', runId: 'r', now: after(0) },
    });
  const [before, now] = [await plan({}), await plan(await expected('provision-host'))];
  expect(stepsOf(now.plan).map(({ step: { id, expectedSeconds } }) => [id, expectedSeconds])).toEqual([
    ['a', 42],
    ['new', undefined],
    ['bake', 600],
  ]);
  expect(now.digest).toBe(before.digest);
});
