import { activityInfo } from '@temporalio/activity';
import type { Client, WorkflowHandle } from '@temporalio/client';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure, TerminatedFailure } from '@temporalio/common';
import { DefaultLogger, NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectClient } from '../../activities/temporal/connection.js';
import { createDecisionActivities } from '../../activities/decisions/decision-activities.js';
import { createLockActivities, runsOf } from '../../activities/temporal/lock-activities.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { activityInterceptor } from '../../workers/activity-interceptor.js';
import { createPlanningActivities } from '../../workers/planning-activities.js';
import { activityWorkerOptions, workflowWorkerOptions } from '../../workers/worker-options.js';
import { calls, type CallInput, type ObservationCall } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { SYSTEM_LANE } from '../../workflows/contracts/names.js';
import type { Lane, Plan, Stage } from '../../workflows/contracts/plan.js';
import type { Planner, PlanningMoment } from '../../workflows/contracts/planning.js';
import { RunReport, statusQuery, type RunStatus } from '../../workflows/contracts/run.js';
import type { System } from '../../workflows/contracts/system.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { lockWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import type { Act } from './acts.js';
import { attributesOf, replay, unnamed, type History, type RecordedRun } from './run-history.js';
import { smallSystem } from './small-system.js';
import { lane, toyPlan } from './toy-plan.js';

/*
 * The real `backup` workflow on a real Temporal server, with planner and activities that do what a test has written down for
 * the run. The lock's own activities are the real ones.
 */

export interface Script {
  /** What the planner makes; a function is asked at each planning. Default: one step `a`. */
  plan?: (Stage | Lane)[] | ((name: string, seen: unknown, moment: PlanningMoment, system: System) => Plan);
  /** What the activities do, by their names in the log. Without a word here an activity succeeds at once. */
  acts?: Record<string, Act>;
  /** Dotted paths of the inventory that the planner needs. */
  needs?: string[];
  /** What the plan rests on. Default: all that was seen. */
  facets?: (seen: unknown) => unknown;
  /** What a run does that is a step of this one. */
  child?: Script;
  /** What the planner asks for, instead of one look at the system. */
  observe?: ObservationCall[];
  /** Names of what an undo does not answer for. */
  elsewhere?: string[];
}

/** One activity that ran, or one attempt of it. */
export interface Happened {
  /**
   * `look`, `fence HOST`, `record ENTRY`, `do STEP`, `verify STEP`, `undo STEP`, `log STEP`, `leave HOST`; ACTIVITY STEP where a real
   * planner made the plan.
   */
  name: string;
  input: Record<string, unknown>;
  attempt: number;
  from: number;
  to?: number;
  outcome?: 'ok' | 'failed' | 'cancelled';
}

export interface ScriptedRun {
  system: string;
  workflowId: string;
  handle: WorkflowHandle;
  /** Every attempt of every activity, in the order in which they began. */
  log: Happened[];
  /** Their names, without the waiting for locks and the notices to people; hosts that are taken over or left side by side: in the order of their names. */
  names(): string[];
  happened(name: string): Happened[];
  status(): Promise<RunStatus>;
  /** The current details, as the Web UI shows them. */
  details(): Promise<string>;
  history(): Promise<History>;
  /** The report of a run that ends well. */
  report(): Promise<RunReport>;
  /** How a run failed. Throws when it did not. */
  failure(): Promise<{ type: string; message: string; report?: RunReport }>;
}

export interface StartOptions {
  /** An existing system; by default a new one is made. */
  system?: string;
  input?: unknown;
  workflowId?: string;
}

export interface ScriptedRuns {
  client: Client;
  /** Where the server is, with its Web UI. */
  server: { address: string; namespace: string; uiUrl: string };
  /** The inventory of the runs. */
  systemsDirectory: string;
  /** Writes a system into the inventory; a new name by default. */
  system(text?: (name: string) => string, name?: string): string;
  start(script?: Script, options?: StartOptions): Promise<ScriptedRun>;
  /** A run that `begin` starts under this id in another way: by the command. */
  startedBy(
    begin: () => Promise<unknown>,
    run: { system: string; workflowId: string },
    script?: Script,
  ): Promise<ScriptedRun>;
  /** Stops the worker of the workflows and starts another one; `stop` leaves none. */
  worker: {
    stop(): Promise<void>;
    start(options?: { bundle?: string; planner?: Planner<unknown> }): Promise<void>;
  };
  lockIsHeld(system: string): Promise<boolean>;
  /** This run goes on beyond its test: a later one settles it. */
  mayStayOpen(run: ScriptedRun): void;
  /** This run's workflow tasks may fail. */
  mayPark(run: ScriptedRun): void;
  /** This run was made by another version of the workflows, and replays with that one. */
  replaysWith(run: ScriptedRun, bundle: string): void;
  /** After each test: every run that was started has ended, is named throughout, and its report fits the schema. */
  settle(): Promise<RecordedRun[]>;
  /** After all tests: every run that was settled replays. All at once, because making a worker takes longer than a replay. */
  close(): Promise<void>;
}

/** Begins the id of a run of which nobody can say whether its id was in use before. */
export const UNLISTED = 'unlisted-';
const QUICK_STOP = { shutdownGraceTime: '100ms', shutdownForceTime: '20s' } as const;

export async function openScriptedRuns(
  options: { identity?: string; scrub?: (text: string) => string } = {},
): Promise<ScriptedRuns> {
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-runs-'));
  const systemsDirectory = path.join(directory, 'systems');
  mkdirSync(systemsDirectory);
  Runtime.install({
    // Failed workflow tasks and attempts are what many tests are about.
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
    shutdownSignals: [],
  });
  const server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
  const { client, connection } = await connectClient({
    target: { ...server, source: 'test', connection: { address: server.address } },
    ...(options.identity ? { client: { identity: options.identity } } : {}),
  });
  const native = await NativeConnection.connect({ address: server.address });

  const scripts = new Map<string, { script: Script; log: Happened[] }>();
  const ofThisRun = () => {
    const id = activityInfo().workflowExecution?.workflowId ?? '';
    const found = scriptedAs(id);
    if (!found) throw new Error(`no script for ${id}`);
    return found;
  };
  /** A run that is a step of another one has that one's run id in its own id, and writes into the same log. */
  const scriptedAs = (id: string) => {
    const own = scripts.get(id);
    if (own) return own;
    const parent = [...parents].find(([runId]) => id.includes(runId))?.[1];
    return parent && { script: parent.script.child ?? {}, log: parent.log };
  };
  const parents = new Map<string, { script: Script; log: Happened[] }>();

  const perform = async (name: string, input: object, otherwise: unknown): Promise<never> => {
    const { script, log } = ofThisRun();
    const { attempt, activityType: activity } = activityInfo();
    const entry: Happened = { name, input: input as Record<string, unknown>, attempt, from: Date.now() };
    log.push(entry);
    try {
      const { context } = input as { context?: CallInput['context'] };
      const act = script.acts?.[name];
      const result = act
        ? await act({ name, activity, input: entry.input, attempt, ...(context ? { context } : {}) })
        : otherwise;
      entry.outcome = 'ok';
      return result as never;
    } catch (error) {
      entry.outcome = error instanceof CancelledFailure ? 'cancelled' : 'failed';
      throw error;
    } finally {
      entry.to = Date.now();
    }
  };

  const frame: Omit<FrameActivities, 'prepareRun' | 'planRun' | 'facetsOf' | 'describeLock' | 'awaitLock'> = {
    raiseFence: (input) => perform(`fence ${input.target.name}`, input, { number: 7, stopped: [], unrepaired: [] }),
    joinFence: (input) => perform(`join ${input.target.name}`, input, undefined),
    closeFence: (input) => perform(`leave ${input.target.name}`, input, undefined),
    recordLog: (input) => perform(`log ${input.step}`, input, undefined),
    recordRun: (input) => perform(`record ${input.entry}`, input, { location: 'somewhere' }),
    ...createDecisionActivities({
      runsOf: (workflowId) =>
        workflowId.startsWith(UNLISTED)
          ? Promise.reject(failure('HostUnusable', 'the list of runs does not answer'))
          : runsOf(client, workflowId),
    }),
    readExpectedDurations: () => Promise.resolve({}),
    sendNotice: (input) => perform(`tell ${input.notice.event}`, input, { deliveries: [], notes: [] }),
  };
  const call = (input: CallInput) =>
    perform(
      input.context.step === 'observe'
        ? 'look'
        : `${typeof input.with['part'] === 'string' ? input.with['part'] : activityInfo().activityType} ${input.context.step}`,
      input,
      {},
    );
  const activities = {
    ...frame,
    ...createLockActivities(client),
    ...Object.fromEntries(Object.keys(calls).map((name) => [name, call])),
  };

  let planned = '';
  const planner: Planner<unknown> = {
    needs: (_, system) => scriptOf(system.system).needs ?? [],
    observe: (_, __, moment) =>
      scriptedAs(moment.workflowId)?.script.observe ?? [
        { as: 'system', on: SYSTEM_LANE, call: { activity: 'observeWorker', with: {} } },
      ],
    plan(_, system, seen, moment) {
      planned = moment.workflowId;
      const { plan = [lane('app', 'a')] } = scriptedAs(moment.workflowId)?.script ?? {};
      return typeof plan === 'function' ? plan(system.system, seen, moment, system) : toyPlan(system.system, plan);
    },
    // What follows is asked right after `plan`, and is not told the run.
    get elsewhere() {
      return scriptedAs(planned)?.script.elsewhere ?? [];
    },
    facets: (seen) => ({ seen: scriptedAs(planned)?.script.facets?.(seen) ?? seen }),
  };
  /** `needs` is not told the run: the last one of the system. */
  const scriptOf = (system: string): Script =>
    [...scripts].filter(([id]) => systems.get(id) === system).at(-1)?.[1].script ?? {};
  const systems = new Map<string, string>();

  const shared = { connection: native, namespace: server.namespace };
  const interceptors = { activity: [activityInterceptor(options.scrub ?? ((text) => text))] };
  const identity = options.identity === undefined ? {} : { identity: options.identity };
  const running = async (workerOptions: WorkerOptions): Promise<() => Promise<void>> => {
    const worker = await Worker.create({ ...workerOptions, interceptors, ...QUICK_STOP, ...identity });
    const done = worker.run();
    return async () => {
      worker.shutdown();
      await done;
    };
  };
  let stopWorkflows: (() => Promise<void>) | undefined;
  const worker: ScriptedRuns['worker'] = {
    async stop() {
      await stopWorkflows?.();
      stopWorkflows = undefined;
    },
    async start({ bundle, planner: other = planner } = {}) {
      await worker.stop();
      stopWorkflows = await running(
        workflowWorkerOptions({
          ...shared,
          taskQueue: WORKFLOW_TASK_QUEUE,
          activities: createPlanningActivities({ backup: other }, { systemsDirectory }),
          ...(bundle === undefined ? {} : { bundle }),
        }),
      );
    },
  };
  let stopActivities: (() => Promise<void>) | undefined;
  const close = async (): Promise<void> => {
    await worker.stop();
    await stopActivities?.();
    await native.close();
    await connection.close();
    await server.stop({ force: true });
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await worker.start();
    stopActivities = await running(
      activityWorkerOptions({ ...shared, taskQueue: taskQueueOfSite(DEFAULT_SITE), activities }),
    );
  } catch (error) {
    await close();
    throw error;
  }

  let started: ScriptedRun[] = [];
  let written: string[] = [];
  const settled: RecordedRun[] = [];
  const mayBeOpen = new Set<ScriptedRun>();
  const otherBundles = new Map<string, string>();
  const mayParkRuns = new Set<ScriptedRun>();
  let counter = 0;

  const scripted: ScriptedRuns = {
    client,
    server,
    systemsDirectory,
    worker,
    system(text = smallSystem, name = `system-${++counter}`) {
      writeFileSync(path.join(systemsDirectory, `${name}.yaml`), text(name));
      written.push(name);
      return name;
    },
    async start(script = {}, { system: given, input, workflowId = `run-${++counter}` } = {}) {
      const system = given ?? scripted.system();
      const args = [input === undefined ? { system, requester: 'ana' } : input];
      const begin = () => client.workflow.start('backup', { taskQueue: WORKFLOW_TASK_QUEUE, workflowId, args });
      return scripted.startedBy(begin, { system, workflowId }, script);
    },
    async startedBy(begin, { system, workflowId }, script = {}) {
      const log: Happened[] = [];
      scripts.set(workflowId, { script, log });
      systems.set(workflowId, system);
      await begin();
      const { runId } = await client.workflow.getHandle(workflowId).describe();
      parents.set(runId, { script, log });
      const handle = client.workflow.getHandle(workflowId, undefined, { firstExecutionRunId: runId });
      const run = scriptedRun(client, { system, workflowId, handle, log });
      started.push(run);
      return run;
    },
    async lockIsHeld(system) {
      try {
        return (await client.workflow.getHandle(lockWorkflowId({ system })).describe()).status.name === 'RUNNING';
      } catch {
        return false;
      }
    },
    mayStayOpen: (run) => void mayBeOpen.add(run),
    replaysWith: (run, bundle) => void otherBundles.set(run.workflowId, bundle),
    mayPark: (run) => void mayParkRuns.add(run),
    async settle() {
      const problems: string[] = [];
      const recorded: RecordedRun[] = [];
      const stillOpen: ScriptedRun[] = [];
      for (const run of started) {
        const { status } = await run.handle.describe();
        if (status.name === 'RUNNING') {
          if (mayBeOpen.has(run)) {
            stillOpen.push(run);
            continue;
          }
          problems.push(`${run.workflowId} has not ended`);
          await run.handle.terminate('the test is over');
        }
        const history = await run.history();
        recorded.push({ workflowId: run.workflowId, history }, ...(await locksOf(client, history)));
        if (!mayParkRuns.has(run))
          for (const { attributes } of attributesOf(history, 'workflowTaskFailedEventAttributes'))
            // Something came in while the run ended: Temporal asks again, that is all.
            if (attributes.failure?.message !== 'UnhandledCommand')
              problems.push(`${run.workflowId} failed a workflow task: ${attributes.failure?.message ?? ''}`);
      }
      for (const { workflowId, history } of recorded)
        problems.push(...unnamed(history).map((event) => `${workflowId} has no summary for ${event}`));
      settled.push(...recorded);
      for (const name of written.filter((each) => !stillOpen.some(({ system }) => system === each)))
        rmSync(path.join(systemsDirectory, `${name}.yaml`), { force: true });
      started = stillOpen;
      written = stillOpen.map(({ system }) => system);
      if (problems.length > 0) throw new Error(problems.join('\n'));
      return recorded;
    },
    async close() {
      try {
        const problems = await replay(settled.filter(({ workflowId }) => !otherBundles.has(workflowId)));
        for (const run of settled) {
          const bundle = otherBundles.get(run.workflowId);
          if (bundle) problems.push(...(await replay([run], bundle)));
        }
        if (problems.length > 0) throw new Error(problems.join('\n'));
      } finally {
        await close();
      }
    },
  };
  return scripted;
}

function scriptedRun(
  client: Client,
  { system, workflowId, handle, log }: Pick<ScriptedRun, 'system' | 'workflowId' | 'handle' | 'log'>,
): ScriptedRun {
  return {
    system,
    workflowId,
    handle,
    log,
    names: () => sideBySide(log.map(({ name }) => name).filter((name) => !name.startsWith('tell '))),
    happened: (name) => log.filter((entry) => entry.name === name),
    status: () => handle.query(statusQuery),
    async details() {
      const { currentDetails } = await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata');
      return currentDetails ?? '';
    },
    history: () => handle.fetchHistory(),
    report: async () => RunReport.parse(await handle.result()),
    async failure() {
      try {
        await handle.result();
      } catch (error) {
        if (!(error instanceof WorkflowFailedError)) throw error;
        const { cause } = error;
        if (cause instanceof CancelledFailure) return { type: 'CANCELED', message: cause.message };
        if (cause instanceof TerminatedFailure) return { type: 'TERMINATED', message: cause.message };
        if (!(cause instanceof ApplicationFailure)) throw error;
        const [detail] = cause.details ?? [];
        const parsed = RunReport.safeParse(detail);
        return { type: cause.type ?? '', message: cause.message, ...(parsed.success ? { report: parsed.data } : {}) };
      }
      throw new Error(`${workflowId} did not fail`);
    },
  };
}

/** The locks that a run held, each by its own history. */
async function locksOf(client: Client, history: History): Promise<RecordedRun[]> {
  return Promise.all(
    attributesOf(history, 'childWorkflowExecutionStartedEventAttributes').map(async ({ attributes }) => {
      const { workflowId, runId } = attributes.workflowExecution ?? {};
      return {
        workflowId: workflowId ?? '',
        history: await client.workflow.getHandle(workflowId ?? '', runId ?? '').fetchHistory(),
      };
    }),
  );
}

/** Waits until something holds. */
export async function until(holds: () => boolean | Promise<boolean>, what: string, seconds = 20): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; !(await holds());) {
    if (Date.now() > deadline) throw new Error(`in ${seconds} s it did not come to this: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Which of several hosts is taken over or left first is chance. */
function sideBySide(names: readonly string[]): string[] {
  const together = (one: string, other: string): boolean =>
    ['fence', 'join', 'leave'].some((verb) => one.startsWith(`${verb} `) && other.startsWith(`${verb} `));
  const groups: string[][] = [];
  for (const name of names) {
    const last = groups.at(-1);
    if (last?.[0] !== undefined && together(last[0], name)) last.push(name);
    else groups.push([name]);
  }
  return groups.flatMap((group) => group.sort());
}
