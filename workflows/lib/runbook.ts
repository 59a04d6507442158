import { ApplicationFailure, TemporalFailure } from '@temporalio/common';
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { calls, isCallName, type Observation } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import type { FrameActivities } from '../contracts/frame-activities.js';
import { hostTarget, workerHost, type HostTarget } from '../contracts/host-target.js';
import { SYSTEM_LANE, WORKER_HOST } from '../contracts/names.js';
import { stepsOf, type Plan, type Step } from '../contracts/plan.js';
import type { PlannedRun, PlanningMoment, PreparedRun } from '../contracts/planning.js';
import { statusQuery, type EndState, type RunReport, type RunStatus } from '../contracts/run.js';
import type { RecordEntry } from '../contracts/run-record.js';
import type { Runbook } from '../contracts/runbooks.js';
import {
  GuardiaEnd,
  GuardiaHosts,
  GuardiaRequester,
  GuardiaRunbook,
  GuardiaSystem,
} from '../contracts/search-attributes.js';
import type { System } from '../contracts/system.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { apply } from './apply.js';
import { laneTarget, runCall, taskQueueFor } from './calls.js';
import { parseInput } from './input.js';
import { acquireLock, type Lock } from './lock.js';
import { applicationFailureIn, createProgress, reasonOf, type Progress } from './progress.js';
import { createSaga, type Saga } from './saga.js';

/** How long a run waits for the lock of its system. Seconds. */
const LOCK_WAIT_SECONDS = 3600;
/** How often a plan is made anew because the hosts changed between its making and the lock. */
const REPLANS = 3;

const local = proxyLocalActivities<Pick<FrameActivities, 'prepareRun' | 'planRun'>>({
  startToCloseTimeout: '30 seconds',
  retry: { maximumAttempts: 3 },
});

/** The movements of a run, for the workflow of a runbook to put in order. */
export interface Run<I> {
  readonly input: I;
  /** Observes and plans. With `plan: true` in the input the run ends here. */
  plan(): Promise<PlannedRun>;
  /** Asks the people whom the policy names; returns at once where it names none. */
  approve(planned: PlannedRun): Promise<void>;
  /** Takes the lock, looks again, and does what the plan says; undoes it when a step fails. A read-only runbook takes no lock. */
  apply(planned: PlannedRun): Promise<void>;
  /** What an applied step returned. */
  resultOf(step: string): Record<string, unknown> | undefined;
  /** Part of the run's result: small, for people and for other runs. */
  result(result: Record<string, unknown>): void;
}

/** Ends the run at once in a state that is no failure. Not a TemporalFailure, so nothing is undone. */
class Ended extends Error {
  readonly end: EndState;
  constructor(end: EndState, message: string) {
    super(message);
    this.end = end;
  }
}

function endIfNothingToDo({ plan }: PlannedRun): void {
  if (plan.stages.length === 0)
    throw new Ended('nothing to do', plan.notes.join('; ') || 'everything is as it should be');
}

/** Failures before anything was started: the run was refused, it did not fail. */
const refusals = new Set([
  'InvalidInput',
  'UnknownSystem',
  'InvalidInventory',
  'UnsetValue',
  'InvalidPlan',
  'HostLocked',
]);

/**
 * Makes the workflow of a runbook from its movements. Parses the input on the first line, answers `status`, undoes on
 * failure and on cancel, holds the lock until the last undo, and writes the record.
 */
export function runbook<I extends { system: string; plan: boolean; requester: string; reason?: string | undefined }>(
  definition: Runbook & { input: { parse(raw: unknown): I } },
  movements: (run: Run<I>) => Promise<void>,
): (input: unknown) => Promise<RunReport> {
  return async (raw) => {
    const input = parseInput(definition.input, raw, definition.name) as I;
    const info = workflowInfo();
    const moment: PlanningMoment = {
      workflowId: info.workflowId,
      runId: info.runId,
      now: info.startTime.toISOString(),
    };
    const progress = createProgress({
      runbook: definition.name,
      system: input.system,
      workflowId: info.workflowId,
      runId: info.runId,
      requester: input.requester,
      ...(input.reason !== undefined ? { reason: input.reason } : {}),
      phase: 'starting',
      startedAt: moment.now,
      steps: [],
      notes: [],
      remaining: [],
    });
    setHandler(statusQuery, (): RunStatus => progress.status, {
      description: 'Where the run stands: its phase, its steps, what it waits for',
    });
    upsertSearchAttributes([
      { key: GuardiaRunbook, value: definition.name },
      { key: GuardiaSystem, value: input.system },
      { key: GuardiaRequester, value: input.requester },
    ]);

    const saga = createSaga();
    const results = new Map<string, unknown>();
    const failedAt = new Map<unknown, { step: Step; on: string }>();
    const fences = new Map<string, number>();
    const visited: HostTarget[] = [];
    let prepared: PreparedRun | undefined;
    let applied: Plan | undefined;
    let plan: Plan | undefined;
    let lock: Lock | undefined;

    const observeAndPlan = async (): Promise<PlannedRun> => {
      progress.phase('observing');
      prepared = await local.prepareRun({ runbook: definition.name, input, moment });
      const { system } = prepared;
      const answers = await Promise.allSettled(
        prepared.observe.map((question) => {
          const target = laneTarget(system, question.on);
          return runCall(
            question.call,
            {
              system: system.system,
              runbook: definition.name,
              workflowId: info.workflowId,
              runId: info.runId,
              step: 'observe',
              generation: 1,
              runAgainIfLost: false,
              ...(target ? { target } : {}),
            },
            { summary: question.title ?? `look at ${question.as}` },
          );
        }),
      );
      const failed = answers.find((answer) => answer.status === 'rejected');
      if (failed) throw failed.reason;
      const observation: Observation = Object.fromEntries(
        prepared.observe.map((question, index) => [
          question.as,
          (answers[index] as PromiseFulfilledResult<unknown>).value,
        ]),
      );
      progress.phase('planning');
      const planned = await local.planRun({ runbook: definition.name, input, system, observation, moment });
      plan = planned.plan;
      progress.planned(planned.plan, planned.digest);
      return planned;
    };

    const takeOver = async (planned: PlannedRun, system: System): Promise<void> => {
      const lanes = [...new Set(planned.plan.stages.flatMap((stage) => stage.lanes.map((lane) => lane.on)))];
      const hosts = lanes.filter((lane) => lane !== SYSTEM_LANE && lane !== WORKER_HOST);
      // The worker's machine serves every system at once: it has no fence, only jobs to tidy away.
      if (lanes.includes(WORKER_HOST)) visited.push(workerHost);
      upsertSearchAttributes([{ key: GuardiaHosts, value: hosts }]);
      for (const host of hosts.sort()) {
        const target = hostTarget(system, host);
        visited.push(target);
        const fence = await frame(target, `take ${host} over`).raiseFence({ target, runId: info.runId });
        fences.set(host, fence.number);
        if (fence.left !== undefined)
          progress.note(
            `Run ${fence.left} left ${host} without ending: it was terminated.${fence.stopped.length > 0 ? ` Its jobs were stopped: ${fence.stopped.join(', ')}.` : ''}`,
          );
      }
    };

    const run: Run<I> = {
      input,
      async plan() {
        const planned = await observeAndPlan();
        if (input.plan)
          throw new Ended('planned', `the plan has ${progress.status.steps.length} steps; nothing was started`);
        endIfNothingToDo(planned);
        return planned;
      },
      async approve() {
        // No runbook has a gate yet; a policy that asks for one is refused when the inventory is read.
        return Promise.resolve();
      },
      async apply(first) {
        let planned = first;
        // A read-only runbook disturbs nobody and needs no lock.
        for (let again = 0; !definition.readOnly; again++) {
          progress.phase('waiting for the lock');
          lock = await acquireLock(
            {
              system: input.system,
              workflowId: info.workflowId,
              runId: info.runId,
              runbook: definition.name,
              requester: input.requester,
            },
            { waitSeconds: LOCK_WAIT_SECONDS, onWait: (why) => progress.phase('waiting for the lock', why) },
          );
          const systemThen = prepared?.systemDigest;
          const now = await observeAndPlan();
          // A plan holds addresses, names and references of the inventory it was made from.
          const edited = prepared?.systemDigest !== systemThen;
          if (now.facetsDigest === planned.facetsDigest && !edited) break;
          await lock.release();
          lock = undefined;
          if (again === REPLANS)
            throw failure('InvalidPlan', `${input.system} keeps changing while the run waits for its lock`, {
              remedy: 'Look who else works on it, then start the run again',
            });
          progress.note(`The ${edited ? 'inventory' : 'hosts'} changed between the plan and the lock: planned anew.`);
          endIfNothingToDo(now);
          planned = now;
          await run.approve(planned);
        }
        const { system } = prepared as { system: System };
        plan = planned.plan;
        applied = planned.plan;
        progress.planned(planned.plan, planned.digest);
        progress.phase('applying');
        if (definition.readOnly) refuseChanges(planned.plan);
        else {
          await takeOver(planned, system);
          await record('plan');
        }
        await apply({
          plan: planned.plan,
          system,
          saga,
          progress,
          workflowId: info.workflowId,
          runId: info.runId,
          fences,
          results,
          keepLog,
          failedAt,
        });
      },
      resultOf: (step) => results.get(step) as Record<string, unknown> | undefined,
      result: (result) =>
        void (progress.status.result = { ...progress.status.result, ...result } as RunStatus['result']),
    };

    const keepLog = async (target: HostTarget, step: string, generation: number): Promise<void> => {
      if (!prepared) return;
      try {
        const kept = await proxyActivities<Pick<FrameActivities, 'recordLog'>>({
          taskQueue: taskQueueFor(target),
          startToCloseTimeout: '2 minutes',
          heartbeatTimeout: HEARTBEAT_TIMEOUT,
          retry: { maximumAttempts: 3 },
          summary: `keep the log of ${step}`,
        }).recordLog({
          system: prepared.system,
          target,
          workflowId: info.workflowId,
          runId: info.runId,
          step,
          generation,
        });
        if (kept) progress.note(`Log of ${step}: ${kept.location}`);
      } catch (error) {
        if (isCancellation(error) || !(error instanceof TemporalFailure)) throw error;
        progress.note(`The log of ${step} could not be kept: ${reasonOf(error)}`);
      }
    };

    const record = async (entry: RecordEntry): Promise<void> => {
      if (!prepared) return;
      try {
        await proxyActivities<Pick<FrameActivities, 'recordRun'>>({
          taskQueue: taskQueueFor(undefined),
          startToCloseTimeout: '1 minute',
          heartbeatTimeout: HEARTBEAT_TIMEOUT,
          retry: { initialInterval: '1 second', maximumInterval: '10 seconds', maximumAttempts: 6 },
          summary: `record: ${entry}`,
        }).recordRun({ system: prepared.system, entry, report: report(progress, plan) });
      } catch (error) {
        if (isCancellation(error) || !(error instanceof TemporalFailure)) throw error;
        // A run is not lost for want of its record; it says so instead.
        progress.note(`The record of this run could not be written: ${reasonOf(error)}`);
      }
    };

    const leave = async (): Promise<void> => {
      for (const target of visited)
        await frame(target, `leave ${target.name}`)
          .closeFence({ target, runId: info.runId, keepJournal: progress.status.remaining.length > 0 })
          .catch((error: unknown) => progress.note(`${target.name} could not be left cleanly: ${reasonOf(error)}`));
    };

    const finish = async (end: EndState, message: string): Promise<void> => {
      progress.status.end = end;
      progress.status.message = message;
      progress.status.endedAt = new Date(Date.now()).toISOString();
      if (applied) {
        progress.phase('recording');
        await record('end');
      }
      await leave();
      progress.phase('ended');
      upsertSearchAttributes([{ key: GuardiaEnd, value: end }]);
      await lock?.release();
      await condition(allHandlersFinished);
    };

    try {
      await movements(run);
      await CancellationScope.nonCancellable(() =>
        finish('succeeded', `${definition.name} of ${input.system} succeeded`),
      );
      return report(progress, plan);
    } catch (error) {
      if (error instanceof Ended) {
        await CancellationScope.nonCancellable(() => finish(error.end, error.message));
        return report(progress, plan);
      }
      // A mistake in guardia or a version that does not fit: the run waits as it is for a worker that can go on.
      if (!(error instanceof TemporalFailure)) throw error;
      return CancellationScope.nonCancellable(async () => {
        const changed = saga.size > 0;
        if (changed) progress.phase('undoing');
        const undone = await saga.compensate(reasonOf);
        const reason = reasonOf(error);
        const failed = failedAt.get(error);
        const what = isCancellation(error)
          ? 'it was cancelled'
          : failed
            ? `step "${failed.step.title}" on ${failed.on} failed: ${reason}`
            : reason;
        for (const { title, on, reason: why } of undone.failed)
          progress.status.remaining.push(`undo of "${title}" on ${on}: ${why}`);
        const type = applicationFailureIn(error)?.type ?? '';
        const end: EndState =
          undone.failed.length > 0
            ? 'rollback incomplete'
            : isCancellation(error)
              ? 'cancelled'
              : changed && !saga.committed
                ? 'rolled back'
                : refusals.has(type) && !applied
                  ? 'refused'
                  : 'failed';
        const left = definition.readOnly ? '' : `; ${standing({ saga, changed, progress })}`;
        const message = `${definition.name} of ${input.system}: ${what}${left}`;
        log.warn(message);
        await finish(end, message);
        if (end === 'cancelled') throw error;
        throw ApplicationFailure.create({
          type: end,
          message,
          nonRetryable: true,
          details: [report(progress, plan)],
          cause: error,
        });
      });
    }
  };
}

/** A runbook that holds no lock may not change anything. Throws `InvalidPlan`. */
function refuseChanges(plan: Plan): void {
  const change = stepsOf(plan).find(
    ({ step }) => 'activity' in step.undo || !isCallName(step.do.activity) || calls[step.do.activity] !== 'observe',
  );
  if (change)
    throw failure(
      'InvalidPlan',
      `${plan.runbook} only reads, but step ${change.step.id} of its plan changes something`,
    );
}

/** What a run that did not reach its goal leaves behind: the end of its sentence. */
function standing({ saga, changed, progress }: { saga: Saga; changed: boolean; progress: Progress }): string {
  const { remaining, steps } = progress.status;
  const stands = saga.committed ? `everything up to "${saga.committed.title}" stands` : undefined;
  if (remaining.length > 0) {
    const more = remaining.length > 3 ? ` and ${remaining.length - 3} more` : '';
    return `${stands ? `${stands}; ` : ''}not everything could be undone: ${remaining.slice(0, 3).join('; ')}${more}`;
  }
  if (stands) return changed ? `${stands}, what came after it was undone` : stands;
  if (changed) return 'everything before it was undone';
  return steps.some(({ state }) => state !== 'waiting') ? 'nothing had to be undone' : 'nothing was started';
}

function frame(target: HostTarget, summary: string) {
  return proxyActivities<Pick<FrameActivities, 'raiseFence' | 'closeFence'>>({
    taskQueue: taskQueueFor(target),
    startToCloseTimeout: '3 minutes',
    heartbeatTimeout: HEARTBEAT_TIMEOUT,
    retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '30 seconds', maximumAttempts: 10 },
    summary,
  });
}

function report(progress: Progress, plan: Plan | undefined): RunReport {
  const { end, message, result, ...rest } = progress.status;
  // The first thing that a reader of the raw result wants to see.
  const first = { ...(end ? { end } : {}), ...(message ? { message } : {}), ...(result ? { result } : {}) };
  return { ...first, ...rest, ...(plan ? { plan } : {}) };
}
