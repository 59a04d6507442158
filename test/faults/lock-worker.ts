// A worker in a process of its own, for lock-chaos.ts, which kills it: the real workflows, locks and fence, on one "host" that is a directory of this
// machine. What its steps do is written into a ledger by a command that carries the fence. Prints `serving` when it takes work.
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createFenceActivities } from '../../activities/hosts/fence-activities.js';
import { createHosts } from '../../activities/hosts/hosts.js';
import { createSshPool } from '../../activities/hosts/ssh-pool.js';
import { createLockActivities } from '../../activities/temporal/lock-activities.js';
import { activityInterceptor } from '../../workers/activity-interceptor.js';
import { createPlanningActivities } from '../../workers/planning-activities.js';
import { activityWorkerOptions, workflowWorkerOptions } from '../../workers/worker-options.js';
import { calls, type CallInput } from '../../workflows/contracts/calls.js';
import { workerHost, type HostTarget } from '../../workflows/contracts/host-target.js';
import { SYSTEM_LANE } from '../../workflows/contracts/names.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { lane, toyPlan } from '../workflows/toy-plan.js';

const { address, namespace, systemsDirectory, state, ledger, bundle } = JSON.parse(process.argv[2] ?? '') as Record<
  'address' | 'namespace' | 'systemsDirectory' | 'state' | 'ledger' | 'bundle',
  string
>;

Runtime.install({
  logger: new DefaultLogger('ERROR'),
  telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
});
const connection = await NativeConnection.connect({ address });
const client = new Client({ connection: await Connection.connect({ address }), namespace });
const ssh = createSshPool({ readIdentity: () => Promise.reject(new Error('no SSH here')) });
const hosts = createHosts({ ssh, workerStateDirectory: state, scrub: (text) => text });

/** The system's only host, as a directory of this machine. */
const here = (target: HostTarget): HostTarget => ({ ...workerHost, name: target.name, stateDirectory: state });

/** One line when it begins and one when it ends: a run that does not hold the host any more must not write another one. */
async function call({ context, with: argument }: CallInput): Promise<Record<string, unknown>> {
  if (context.step === 'observe' || !context.target || argument['part'] === 'undo') return {};
  const script = 'echo "$1 begins" >>"$2"; sleep 0.1; echo "$1 ends" >>"$2"';
  await hosts.run(
    here(context.target),
    { argv: ['/bin/sh', '-c', script, 'ledger', context.runId, ledger], timeoutSeconds: 20 },
    { fence: context.fence },
  );
  return {};
}

const fence = createFenceActivities(hosts);
const activities = {
  ...createLockActivities(client),
  ...Object.fromEntries(Object.keys(calls).map((name) => [name, call])),
  raiseFence: (argument: Parameters<typeof fence.raiseFence>[0]) =>
    fence.raiseFence({ ...argument, target: here(argument.target) }),
  closeFence: (argument: Parameters<typeof fence.closeFence>[0]) =>
    fence.closeFence({ ...argument, target: here(argument.target) }),
  recordRun: () => Promise.resolve({ location: 'nowhere' }),
  readExpectedDurations: () => Promise.resolve({}),
  sendNotice: () => Promise.resolve({ deliveries: [], notes: [] }),
};
const planner = {
  needs: () => [],
  observe: () => [{ as: 'system', on: SYSTEM_LANE, call: { activity: 'observeWorker', with: {} } }],
  plan: (_: unknown, { system }: { system: string }) => toyPlan(system, [lane('app', 'a', 'b', 'c')]),
  facets: (seen: unknown) => ({ seen }),
};

const interceptors = { activity: [activityInterceptor((text) => text)] };
const workers = await Promise.all([
  Worker.create({
    ...workflowWorkerOptions({
      ...{ connection, namespace, bundle, taskQueue: WORKFLOW_TASK_QUEUE },
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
