// A worker in a process of its own, for a test that kills it: the real workflows, a planner of six steps, and activities whose effects
// are files. Prints `serving` when it takes work.
import { activityInfo } from '@temporalio/activity';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createLockActivities } from '../../activities/temporal/lock-activities.js';
import { activityInterceptor } from '../../workers/activity-interceptor.js';
import { createPlanningActivities } from '../../workers/planning-activities.js';
import { activityWorkerOptions, workflowWorkerOptions } from '../../workers/worker-options.js';
import { calls, type CallInput } from '../../workflows/contracts/calls.js';
import { SYSTEM_LANE } from '../../workflows/contracts/names.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { sixSteps } from './six-steps.js';

const { address, namespace, systemsDirectory, effects, bundle } = JSON.parse(process.argv[2] ?? '') as Record<
  'address' | 'namespace' | 'systemsDirectory' | 'effects' | 'bundle',
  string
>;

Runtime.install({
  logger: new DefaultLogger('ERROR'),
  telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
});
const connection = await NativeConnection.connect({ address });
const client = new Client({ connection: await Connection.connect({ address }), namespace });

/** As a job: what is under way or done is found by its name, and nothing happens twice. */
async function call({ context }: CallInput): Promise<Record<string, unknown>> {
  if (context.step === 'observe') return {};
  const activity = activityInfo().activityType;
  const effect = path.join(effects, `${context.workflowId}.${context.step}.${activity}.g${context.generation}`);
  if (!existsSync(effect)) writeFileSync(effect, String(Date.now()), { flag: 'wx' });
  await delay(50);
  appendFileSync(path.join(effects, `${context.workflowId}.order`), `${context.step}\n`);
  return { fence: context.fence };
}

const activities = {
  ...createLockActivities(client),
  ...Object.fromEntries(Object.keys(calls).map((name) => [name, call])),
  sendNotice: () => Promise.resolve({ deliveries: [], notes: [] }),
  raiseFence: async () => ({ number: 3, stopped: [], unrepaired: [] }),
  closeFence: async () => undefined,
  recordRun: async () => ({ location: 'somewhere' }),
  readExpectedDurations: async () => ({}),
};
const planner = {
  needs: () => [],
  observe: () => [{ as: 'system', on: SYSTEM_LANE, call: { activity: 'observeWorker', with: {} } }],
  plan: (_: unknown, { system }: { system: string }) => sixSteps(system),
  facets: (seen: unknown) => ({ seen }),
};

const interceptors = { activity: [activityInterceptor((text) => text)] };
const workers = await Promise.all([
  Worker.create({
    ...workflowWorkerOptions({
      connection,
      namespace,
      bundle,
      taskQueue: WORKFLOW_TASK_QUEUE,
      activities: createPlanningActivities({ backup: planner }, { systemsDirectory }),
    }),
    interceptors,
    // A dead worker's own queue is not waited for longer than this.
    stickyQueueScheduleToStartTimeout: '1s',
  }),
  Worker.create({
    ...activityWorkerOptions({ connection, namespace, taskQueue: taskQueueOfSite(DEFAULT_SITE), activities }),
    interceptors,
  }),
]);
process.stdout.write('serving\n');
await Promise.all(workers.map((worker) => worker.run()));
