import { setTimeout as delay } from 'node:timers/promises';
import { WorkflowFailedError, WorkflowNotFoundError, type WorkflowExecutionDescription } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { decodeArrayFromPayloads } from '@temporalio/common/lib/internal-non-workflow/index.js';
import { RunReport, RunStatus, statusQuery } from '../workflows/contracts/run.js';
import { GuardiaPhase, GuardiaRunbook, GuardiaSystem } from '../workflows/contracts/search-attributes.js';
import { DEFAULT_SITE, siteOfTaskQueue } from '../workflows/contracts/task-queues.js';
import { parseRunWorkflowId } from '../workflows/contracts/workflow-ids.js';
import { CommandFailure } from './command-failure.js';
import { millisecondsOf } from './protobuf-time.js';
import { endOf, endSentence, exitCodeOfEnd, stepOfJob, type RunActivity, type RunView } from './run-view.js';
import { isNoAnswer, notPassedOn, type TemporalAccess } from './temporal-access.js';
import { withoutWorker, workersSeen } from './workers-seen.js';

export interface RunReference {
  workflowId: string;
  /** Absent: the newest run of this id. */
  runId?: string | undefined;
}

const POLL_MS = 500;
/** How long Temporal may stay silent before the watcher gives up. */
const SILENCE_MS = 5 * 60_000;
/** How long Temporal may take to answer. */
const ANSWER_MS = 10_000;
/** How long a run may take to answer; after this there is no worker, or a stuck one. */
const QUERY_MS = 5_000;
/** A task that nobody has taken for this long is looked into. */
const STUCK_MS = 3_000;
/** So often a task has failed that waiting does not help: a mistake in guardia, or a worker that does not fit. */
const PARKED_ATTEMPTS = 3;
/** What Temporal's client says where somebody who terminated a run gave no reason. */
const NO_REASON = 'Workflow execution terminated';
/** Speeds are taken over this time: heartbeats come every five seconds. */
const SPEED_WINDOW_MS = 20_000;

/**
 * A run as it is now, then again whenever it has changed, until it has ended: the last view has `open: false`. Changes are
 * seen within half a second. The open run answers itself; what it left is read from its result afterwards.
 * Throws `not found` for a run that Temporal does not have, and what Temporal's errors are otherwise. Aborting `signal` ends it.
 */
export async function* watchRun(
  access: TemporalAccess,
  run: RunReference,
  options: { signal?: AbortSignal | undefined } = {},
): AsyncGenerator<RunView> {
  const observer = createRunObserver(access, run);
  let before = '';
  let last: RunView | undefined;
  let heard = Date.now();
  for (;;) {
    let view: RunView;
    try {
      view = await observer.look();
      heard = Date.now();
    } catch (error) {
      if (last === undefined || !isNoAnswer(error) || Date.now() - heard > SILENCE_MS) throw error;
      const message = `Temporal at ${access.target.address} does not answer; the run does not need this command. Still trying`;
      view = { ...last, trouble: { kind: 'no answer', message } };
    }
    last = view;
    const text = JSON.stringify(view);
    if (text !== before) yield view;
    before = text;
    if (!view.open || options.signal?.aborted) return;
    await delay(POLL_MS, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
    if (options.signal?.aborted) return;
  }
}

/** One look at a run, open or closed. Throws as watchRun does. */
export async function lookAtRun(access: TemporalAccess, run: RunReference): Promise<RunView> {
  return createRunObserver(access, run).look();
}

function createRunObserver(access: TemporalAccess, run: RunReference): { look(): Promise<RunView> } {
  const { client } = access;
  const speeds = new Map<string, { at: number; bytes: number }[]>();
  let runId = run.runId;
  let status: RunStatus | undefined;
  /** Length of the history when the run answered: it says nothing new until there is a new event. */
  let answeredAt = -1;

  const describe = async (): Promise<WorkflowExecutionDescription> => {
    try {
      const handle = client.workflow.getHandle(run.workflowId, runId);
      return await client.withDeadline(Date.now() + ANSWER_MS, () => handle.describe());
    } catch (error) {
      if (error instanceof WorkflowNotFoundError)
        throw new CommandFailure('not found', { message: `Temporal has no run ${run.workflowId}` }, { cause: error });
      throw error;
    }
  };

  const ask = async (): Promise<RunStatus | undefined> => {
    const handle = client.workflow.getHandle(run.workflowId, runId);
    const answer = await client.withDeadline(Date.now() + QUERY_MS, () => handle.query(statusQuery));
    return RunStatus.safeParse(answer).data;
  };

  return {
    async look() {
      const description = await describe();
      runId = description.runId;
      const view = plainView(description);
      if (description.status.name !== 'RUNNING') return ended(access, description, view, ask);

      const { pendingWorkflowTask: task } = description.raw;
      let answered = true;
      if (description.historyLength !== answeredAt) {
        try {
          status = (await ask()) ?? status;
          answeredAt = description.historyLength;
        } catch (error) {
          // Not ours, not started yet, or nobody there to ask: what is known stays.
          answered = !isNoAnswer(error) && notPassedOn(error) === undefined;
        }
      }
      view.report = status;
      if (status?.system !== undefined) view.system = status.system;
      view.source = status === undefined ? 'temporal' : 'run';
      if (status?.end !== undefined && status.phase === 'ended')
        Object.assign(view, {
          ...{ end: status.end, endedAt: status.endedAt, exitCode: exitCodeOfEnd(status.end) },
          message: status.message ?? endSentence({ ...view, phase: status.phase }, status.end),
        } satisfies Partial<RunView>);
      view.activities = await pendingActivities(access, description, status, speeds);

      const waits = (since: number | undefined): boolean => since !== undefined && Date.now() - since > STUCK_MS;
      const taskWaits =
        task !== null && task !== undefined && isScheduled(task.state) && waits(millisecondsOf(task.scheduledTime));
      // Of one that is tried again: since it may be.
      const waiting = (description.raw.pendingActivities ?? []).filter(
        ({ state, scheduledTime }) => isScheduled(state) && waits(millisecondsOf(scheduledTime)),
      );
      if ((task?.attempt ?? 0) >= PARKED_ATTEMPTS)
        view.trouble = {
          kind: 'parked',
          message: `the worker fails whenever it takes this run up (${task?.attempt} times so far): the run waits as it is for a worker that can go on. The worker's log says why`,
        };
      else if (taskWaits || waiting.length > 0 || !answered) {
        const sites = waiting.flatMap(
          ({ activityOptions }) => siteOfTaskQueue(activityOptions?.taskQueue?.name ?? '') ?? [],
        );
        const nobody = withoutWorker(await workersSeen(access, [DEFAULT_SITE, ...sites]));
        if (nobody !== undefined)
          view.trouble = { kind: 'no worker', message: `${nobody}. The run waits and loses nothing` };
      }
      return view;
    },
  };
}

/** PendingActivityState and PendingWorkflowTaskState of Temporal's API: not taken by any worker yet. */
const isScheduled = (state: number | null | undefined): boolean => state === 1;

function plainView(description: WorkflowExecutionDescription): RunView {
  const { workflowId, runId, type, startTime, closeTime, typedSearchAttributes } = description;
  const system = typedSearchAttributes.get(GuardiaSystem) ?? parseRunWorkflowId(workflowId)?.system;
  return {
    workflowId,
    runId,
    runbook: typedSearchAttributes.get(GuardiaRunbook) ?? type,
    ...(system === undefined ? {} : { system }),
    open: closeTime === undefined,
    startedAt: startTime.toISOString(),
    ...(closeTime === undefined ? {} : { endedAt: closeTime.toISOString() }),
    source: 'temporal',
    activities: [],
  };
}

async function ended(
  access: TemporalAccess,
  description: WorkflowExecutionDescription,
  view: RunView,
  ask: () => Promise<RunStatus | undefined>,
): Promise<RunView> {
  const { workflowId, runId } = description;
  view.open = false;
  let end = endOf(description);
  let words: string | undefined;
  let reason: string | undefined;
  let report: RunReport | RunStatus | undefined;
  try {
    const result: unknown = await access.client.workflow.result(workflowId, runId, { followRuns: false });
    report = RunReport.safeParse(result).data;
  } catch (error) {
    if (!(error instanceof WorkflowFailedError)) throw error;
    const { cause } = error;
    if (cause instanceof ApplicationFailure || cause instanceof CancelledFailure) {
      report = RunReport.safeParse(cause.details?.[0]).data;
      words = cause instanceof ApplicationFailure ? cause.message : undefined;
      // Bad input is refused before there is any report.
      if (
        cause instanceof ApplicationFailure &&
        report === undefined &&
        end === 'failed' &&
        cause.type === 'InvalidInput'
      )
        end = 'refused';
    } else if (end === 'terminated' && error.message !== NO_REASON) reason = error.message;
  }
  view.source = report === undefined ? 'temporal' : 'result';
  if (report === undefined) {
    // A run that was cancelled or terminated left no result, but a worker can still take it up and tell.
    report = await ask().catch(() => undefined);
    if (report !== undefined) view.source = 'run';
  }
  view.report = report;
  view.end = report?.end ?? end;
  const phase = report?.phase ?? description.typedSearchAttributes.get(GuardiaPhase) ?? 'starting';
  view.message = report?.message ?? words ?? endSentence({ ...view, phase }, view.end, reason);
  view.exitCode = exitCodeOfEnd(view.end);
  if (report !== undefined) view.system = report.system;
  return view;
}

async function pendingActivities(
  access: TemporalAccess,
  description: WorkflowExecutionDescription,
  status: RunStatus | undefined,
  speeds: Map<string, { at: number; bytes: number }[]>,
): Promise<RunActivity[]> {
  const found: RunActivity[] = [];
  for (const pending of description.raw.pendingActivities ?? []) {
    const [beat]: unknown[] = await decodeArrayFromPayloads(
      access.client.options.loadedDataConverter,
      pending.heartbeatDetails?.payloads,
    ).catch((): unknown[] => []);
    const { job, position } = (beat ?? {}) as {
      job?: unknown;
      position?: { progress?: unknown; unreachable?: unknown };
    };
    const progress = isFields(position?.progress) ? position.progress : undefined;
    const speed =
      typeof job === 'string' && progress !== undefined && !isScheduled(pending.state)
        ? speedOf(speeds, job, progress, millisecondsOf(pending.lastHeartbeatTime))
        : undefined;
    let reason = pending.lastFailure ?? undefined;
    while (reason?.cause) reason = reason.cause;
    found.push({
      activity: pending.activityType?.name ?? '',
      attempt: pending.attempt ?? 1,
      ...(typeof job === 'string' && status !== undefined
        ? { step: stepOfJob(job, description.runId, status.steps) }
        : {}),
      ...(reason?.message ? { lastFailure: reason.message } : {}),
      ...(typeof position?.unreachable === 'string' ? { unreachable: position.unreachable } : {}),
      ...(progress === undefined ? {} : { progress }),
      ...(speed === undefined ? {} : { bytesPerSecond: speed }),
    });
  }
  // A short activity sends no heartbeat: where one step and one activity are left, they belong together.
  const busy = (status?.steps ?? []).filter(
    ({ id, state }) => (state === 'running' || state === 'undoing') && !found.some(({ step }) => step === id),
  );
  const unnamed = found.filter(({ step }) => step === undefined);
  if (busy.length === 1 && unnamed.length === 1 && unnamed[0] !== undefined) unnamed[0].step = busy[0]?.id;
  return found;
}

function speedOf(
  speeds: Map<string, { at: number; bytes: number }[]>,
  job: string,
  progress: Record<string, unknown>,
  at: number | undefined,
): number | undefined {
  const { bytes } = progress;
  if (typeof bytes !== 'number' || at === undefined) return undefined;
  const samples = speeds.get(job) ?? [];
  speeds.set(job, samples);
  if (samples.at(-1)?.at !== at) samples.push({ at, bytes });
  while (samples.length > 2 && at - (samples[0]?.at ?? at) > SPEED_WINDOW_MS) samples.shift();
  const [first] = samples;
  if (first === undefined || first.at === at || bytes < first.bytes) return undefined;
  return Math.round(((bytes - first.bytes) * 1000) / (at - first.at));
}

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
