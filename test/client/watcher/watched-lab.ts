import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import type { Client, Connection, WorkflowHandleWithFirstExecutionRunId } from '@temporalio/client';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import type { Bounds } from '../../../activities/notify/attempt.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import { connectClient } from '../../../activities/temporal/connection.js';
import { createLockActivities } from '../../../activities/temporal/lock-activities.js';
import { emptyMemory, type WatcherMemory } from '../../../client/watcher/memory.js';
import { watchRound, type Round, type RoundOptions } from '../../../client/watcher/round.js';
import { startDevServer, type DevServer } from '../../../infra/temporal/dev-server.js';
import { activityInterceptor } from '../../../workers/activity-interceptor.js';
import { createPlanningActivities } from '../../../workers/planning-activities.js';
import { activityWorkerOptions, workflowWorkerOptions } from '../../../workers/worker-options.js';
import { calls } from '../../../workflows/contracts/calls.js';
import type { Notice } from '../../../workflows/contracts/notice.js';
import type { Plan } from '../../../workflows/contracts/plan.js';
import type { Planner } from '../../../workflows/contracts/planning.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../../../workflows/contracts/task-queues.js';
import { startWebReceiver, type Posted, type WebReceiver } from '../../../infra/lab/notice-receivers.js';
import { freePort, rootKey, startGateway, type Gateway } from '../../activities/object-store/versity-gateway.js';
import { smallSystem } from '../../workflows/small-system.js';
import { lane, toyPlan } from '../../workflows/toy-plan.js';

/*
 * What the watcher looks at, for real: a Temporal server that can be stopped and started, workers with this or another bundle of the real
 * workflows, a bucket, and a receiver for notices and heartbeats. What the steps of a run do is written down by the test.
 */

const QUICK: Bounds = { attemptMs: 2_000, targetMs: 4_000, attempts: 2, pauseMs: 50 };

export interface WatchedLab {
  client: Client;
  gateway: Gateway;
  env: Record<string, string>;
  memory: WatcherMemory;
  /** What the next runs plan, and what their steps wait for. */
  script: { plan: (system: string, runbook: string) => Plan; act: (step: string) => Promise<unknown> };
  system(name: string, more?: object): void;
  start(
    system: string,
    id: string,
    options?: { timeout?: string; taskTimeout?: string; runbook?: 'backup' | 'repair'; input?: object },
  ): Promise<WorkflowHandleWithFirstExecutionRunId>;
  round(more?: Partial<RoundOptions>): Promise<Round>;
  /** The notices that arrived since the last time that this was asked. */
  notices(): Notice[];
  /** The heartbeats that arrived since: `ok`, or the text of the failure. */
  beats(): string[];
  /** What the receiver of notices answers. */
  answer: { status: number; second?: number };
  worker: { start(bundle?: string): Promise<void>; stop(): Promise<void> };
  server: { stop(): Promise<void>; start(): Promise<void> };
  close(): Promise<void>;
}

export async function openWatchedLab(): Promise<WatchedLab> {
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
    shutdownSignals: [],
  });
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-watcher-'));
  const systemsDirectory = path.join(directory, 'systems');
  mkdirSync(systemsDirectory);
  const gateway = await startGateway();
  const answer: WatchedLab['answer'] = { status: 200 };
  const web: WebReceiver = await startWebReceiver(({ path: at }, response) =>
    response
      .writeHead(
        at === '/notices/second' && answer.second ? answer.second : at.startsWith('/notices') ? answer.status : 200,
      )
      .end(),
  );
  const port = await freePort();
  const serverDirectory = path.join(directory, 'server');
  const boot = (): Promise<DevServer> => startDevServer({ directory: serverDirectory, port, uiPort: 0 });
  let server = await boot();
  const target = { address: server.address, namespace: server.namespace, source: 'test' };
  const { client, connection }: { client: Client; connection: Connection } = await connectClient({
    target: { ...target, connection: { address: server.address } },
  });
  const native = await NativeConnection.connect({ address: server.address });

  const script: WatchedLab['script'] = {
    plan: (system) => toyPlan(system, []),
    act: () => Promise.resolve(),
  };
  const call = async (input: { context: { step: string } }) => {
    await script.act(input.context.step);
    return {};
  };
  const activities = {
    ...createLockActivities(client),
    ...Object.fromEntries(Object.keys(calls).map((name) => [name, call])),
    raiseFence: () => Promise.resolve({ number: 1, stopped: [], unrepaired: [] }),
    joinFence: () => Promise.resolve(),
    closeFence: () => Promise.resolve(),
    recordLog: () => Promise.resolve(),
    recordRun: () => Promise.resolve({ location: 'nowhere' }),
    sendNotice: () => Promise.resolve({ deliveries: [], notes: [] }),
    readExpectedDurations: () => Promise.resolve({}),
  };
  const plannerOf = (runbook: string): Planner<unknown> => ({
    needs: () => [],
    observe: () => [],
    plan: (_, system) => script.plan(system.system, runbook),
    facets: () => ({ seen: 'the same' }),
  });
  let running: { workers: Worker[]; done: Promise<unknown> } | undefined;
  const worker: WatchedLab['worker'] = {
    async start(bundle) {
      await worker.stop();
      const shared = { connection: native, namespace: server.namespace };
      const quick = { shutdownGraceTime: '100ms', shutdownForceTime: '20s' } as const;
      const planning = createPlanningActivities(
        { backup: plannerOf('backup'), repair: plannerOf('repair') },
        { systemsDirectory },
      );
      const workers = await Promise.all([
        Worker.create({
          ...workflowWorkerOptions({
            ...shared,
            taskQueue: WORKFLOW_TASK_QUEUE,
            activities: planning,
            ...(bundle === undefined ? {} : { bundle }),
          }),
          ...quick,
        }),
        Worker.create({
          ...activityWorkerOptions({ ...shared, taskQueue: taskQueueOfSite(DEFAULT_SITE), activities }),
          ...quick,
          interceptors: { activity: [activityInterceptor((text) => text)] },
        }),
      ]);
      running = { workers, done: Promise.all(workers.map((each) => each.run())) };
    },
    async stop() {
      for (const each of running?.workers ?? []) each.shutdown();
      await running?.done;
      running = undefined;
    },
  };

  const env = {
    HOME: directory,
    TEMPORAL_ADDRESS: server.address,
    TEMPORAL_NAMESPACE: server.namespace,
    GUARDIA_SYSTEMS: systemsDirectory,
    GUARDIA_STATE: path.join(directory, 'state'),
    GUARDIA_WEB_UI: 'http://ui.example',
    WORKER_ID: rootKey.accessKeyId,
    WORKER_SECRET: rootKey.secretAccessKey,
    NOTICES: `${web.url}/notices/T0K3N-4711`,
    NOTICES_OF_THE_SECOND: `${web.url}/notices/second`,
    HEARTBEAT: `${web.url}/ping/4b0c-beat`,
  };
  const secrets = createSecrets({ directory: '/nonexistent', environment: env });
  const taken = (at: string): Posted[] => {
    const found = web.at(at);
    for (const one of found) web.posted.splice(web.posted.indexOf(one), 1);
    return found;
  };
  const lab: WatchedLab = {
    client,
    gateway,
    env,
    memory: emptyMemory(),
    script,
    answer,
    worker,
    system(name, more = {}) {
      const base = parse(smallSystem(name)) as { objectStore: object };
      const text = stringify({
        ...base,
        objectStore: {
          ...base.objectStore,
          provider: 'versitygw',
          endpoint: gateway.address.endpoint,
          bucket: gateway.address.bucket,
          keys: {
            worker: { accessKeyId: 'env:WORKER_ID', secretAccessKey: 'env:WORKER_SECRET' },
            hosts: { app: { accessKeyId: 'env:HOST_ID', secretAccessKey: 'env:HOST_SECRET' } },
          },
        },
        notifications: { ops: { kind: 'webhook', url: 'env:NOTICES' } },
        ...more,
      });
      writeFileSync(path.join(systemsDirectory, `${name}.yaml`), text);
    },
    start: (system, id, { timeout, taskTimeout, runbook = 'backup', input = {} } = {}) =>
      client.workflow.start(runbook, {
        taskQueue: WORKFLOW_TASK_QUEUE,
        workflowId: `${runbook}/${system}/${id}`,
        args: [{ system, requester: 'ana', ...input }],
        ...(taskTimeout === undefined ? {} : { workflowTaskTimeout: taskTimeout }),
        ...(timeout === undefined ? {} : { workflowExecutionTimeout: timeout }),
      }),
    round: (more = {}) => watchRound(lab.memory, { env, secrets, tell: true, bounds: QUICK, askAgainMs: 200, ...more }),
    notices: () => taken('/notices').map(({ body }) => JSON.parse(body) as Notice),
    beats: () => taken('/ping').map(({ path: at, body }) => (at.endsWith('/fail') ? body : 'ok')),
    server: {
      stop: () => server.stop(),
      start: async () => void (server = await boot()),
    },
    async close() {
      await worker.stop();
      await native.close();
      await connection.close();
      await server.stop({ force: true });
      await web.close();
      await gateway.remove();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return lab;
}

/** A plan of one step, whose activity the test holds. */
export const oneStep = (system: string): Plan => toyPlan(system, [lane('app', 'a')]);
