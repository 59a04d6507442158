import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import type { Client, Connection } from '@temporalio/client';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectClient } from '../../activities/temporal/connection.js';
import { createLockActivities } from '../../activities/temporal/lock-activities.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { compiled } from '../../infra/temporal/server-executable.js';
import { createPlanningActivities } from '../../workers/planning-activities.js';
import { activityWorkerOptions, workflowWorkerOptions } from '../../workers/worker-options.js';
import { calls, type CallInput } from '../../workflows/contracts/calls.js';
import type { Plan } from '../../workflows/contracts/plan.js';
import type { Planner } from '../../workflows/contracts/planning.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { smallSystem } from '../workflows/small-system.js';

/*
 * The built command against a real Temporal server, with the real workflows of runbooks. Their plan is the test's, and its steps do what
 * the test has written down: the command does not care what a step is.
 */

export type Act = (input: CallInput) => Promise<Record<string, unknown> | undefined>;

/** A command that was started. */
export interface Started {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Waits until stdout says this. Throws after 30 s with what it said instead. */
  says(text: string | RegExp): Promise<void>;
  ended: Promise<Ended>;
}

export interface Ended {
  exitCode: number | null;
  stdout: string;
  stderr: string;
}

export interface CommandLab {
  client: Client;
  /** host:port of the server. */
  address: string;
  /** The inventory. */
  systemsDirectory: string;
  /** The plan of the next runs, and what their steps do; a step without a word here succeeds at once. */
  script: {
    plan: (system: string) => Plan;
    acts: Record<string, Act>;
    /** What each notice waits for. */
    notice?: (() => Promise<unknown>) | undefined;
    stdin?: string;
  };
  start(...argv: string[]): Started;
  guardia(...argv: string[]): Promise<Ended>;
  worker: { start(): Promise<void>; stop(): Promise<void> };
  close(): Promise<void>;
}

/** Systems of the inventory: `one` and `two`. There is no worker until `worker.start`: the server counts one that is gone for 90 s. */
export async function openCommandLab(plan: (system: string) => Plan): Promise<CommandLab> {
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-command-'));
  const systemsDirectory = path.join(directory, 'systems');
  mkdirSync(systemsDirectory);
  for (const name of ['one', 'two']) writeFileSync(path.join(systemsDirectory, `${name}.yaml`), smallSystem(name));
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
    shutdownSignals: [],
  });
  const server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
  const { client, connection }: { client: Client; connection: Connection } = await connectClient({
    target: { ...server, source: 'test', connection: { address: server.address } },
  });
  const native = await NativeConnection.connect({ address: server.address });
  const script: CommandLab['script'] = { plan, acts: {} };

  const call: Act = async (input) => (await script.acts[input.context.step]?.(input)) ?? {};
  const activities = {
    ...createLockActivities(client),
    ...Object.fromEntries(Object.keys(calls).map((name) => [name, call])),
    raiseFence: () => Promise.resolve({ number: 1, stopped: [], unrepaired: [] }),
    closeFence: () => Promise.resolve(),
    recordLog: () => Promise.resolve(),
    recordRun: () => Promise.resolve({ location: 'nowhere' }),
    sendNotice: async () => {
      await script.notice?.();
      return { deliveries: [], notes: [] };
    },
    readExpectedDurations: () => Promise.resolve({}),
  };
  const planner: Planner<unknown> = {
    needs: () => [],
    observe: () => [],
    plan: (_, system) => script.plan(system.system),
    facets: () => ({ seen: 'the same' }),
  };
  const shared = { connection: native, namespace: server.namespace };
  let running: { workers: Worker[]; done: Promise<unknown> } | undefined;
  const worker: CommandLab['worker'] = {
    async start() {
      if (running !== undefined) return;
      const quick = { shutdownGraceTime: '100ms', shutdownForceTime: '20s' } as const;
      const workers = await Promise.all([
        Worker.create({
          ...workflowWorkerOptions({
            ...shared,
            taskQueue: WORKFLOW_TASK_QUEUE,
            activities: createPlanningActivities(
              { backup: planner, deploy: planner, rollback: planner },
              { systemsDirectory },
            ),
          }),
          ...quick,
        }),
        Worker.create({
          ...activityWorkerOptions({ ...shared, taskQueue: taskQueueOfSite(DEFAULT_SITE), activities }),
          ...quick,
          // Progress is asked for as it is made.
          maxHeartbeatThrottleInterval: '200ms',
          defaultHeartbeatThrottleInterval: '200ms',
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

  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: directory,
    TEMPORAL_ADDRESS: server.address,
    TEMPORAL_NAMESPACE: server.namespace,
    GUARDIA_SYSTEMS: systemsDirectory,
    GUARDIA_STATE: path.join(directory, 'state'),
    GUARDIA_WEB_UI: server.uiUrl,
  };
  const children = new Set<ChildProcess>();
  const start = (...argv: string[]): Started => {
    const child = spawn(process.execPath, [compiled('client/main.js'), ...argv], {
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin.end(script.stdin ?? '');
    children.add(child);
    const text = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk));
    const ended = new Promise<Ended>((resolve) => child.once('close', (exitCode) => resolve({ exitCode, ...text })));
    return {
      child,
      stdout: () => text.stdout,
      stderr: () => text.stderr,
      ended,
      async says(wanted) {
        for (const deadline = Date.now() + 30_000; ;) {
          if (typeof wanted === 'string' ? text.stdout.includes(wanted) : wanted.test(text.stdout)) return;
          if (Date.now() > deadline || child.exitCode !== null)
            throw new Error(`the command never said ${String(wanted)}, but\n${text.stdout}\n${text.stderr}`);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      },
    };
  };

  return {
    client,
    address: server.address,
    systemsDirectory,
    script,
    start,
    guardia: (...argv) => start(...argv).ended,
    worker,
    async close() {
      for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await worker.stop();
      await native.close();
      await connection.close();
      await server.stop({ force: true });
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
