import { ActivityFailure, CancelledFailure, ChildWorkflowFailure, TemporalFailure } from '@temporalio/common';
import { CancellationScope, isCancellation } from '@temporalio/workflow';
import { calls, isCallName, type CallContext } from '../contracts/calls.js';
import type { Gate } from '../contracts/gate.js';
import type { HostTarget } from '../contracts/host-target.js';
import { placeOf, type Call, type Lane, type Plan, type Stage, type Step } from '../contracts/plan.js';
import type { System } from '../contracts/system.js';
import { laneTarget, resolveReferences, runCall } from './calls.js';
import { runChild } from './child-runbook.js';
import { applicationFailureIn, reasonOf, type Progress } from './progress.js';
import type { Saga } from './saga.js';

export interface Applying {
  plan: Plan;
  system: System;
  saga: Saga;
  progress: Progress;
  workflowId: string;
  runId: string;
  /** The run's fence numbers, by host. */
  fences: ReadonlyMap<string, number>;
  /** Results of the steps so far, by step. */
  results: Map<string, unknown>;
  /** Asks people to agree; throws when they do not. */
  ask: (gate: Gate) => Promise<void>;
  /** Keeps the whole log of a step's failed job; never throws for a failure of its own. */
  keepLog: (target: HostTarget, step: string, generation: number) => Promise<void>;
  /** What to do about a step that has failed for good; `forgiven`: its stage may fail as a whole. `fail` ends the lane. */
  onFailure: (failed: FailedStep, forgiven: boolean) => Promise<'retry' | 'skip' | 'fail'>;
  /** The point of no return is behind the run. */
  onCommit: () => Promise<void>;
  /** Filled here: hosts that an undo has waited for in vain. */
  lost: Set<string>;
  /** Filled here: which step a failure belongs to. */
  failedAt: Map<unknown, FailedStep>;
  /** A cancel was answered by going on: what follows is not cancelled by it. */
  pastCancel: boolean;
  /** A person has ended the run at a step that failed: no error budget makes it go on. */
  ended: boolean;
}

/** Where a failure happened. */
export interface FailedStep {
  step: Step;
  on: string;
  error: unknown;
}

/** Failures of a command itself, after which a step may run anew where it says so. */
const worthAnotherRun = new Set(['JobFailed', 'JobTimedOut', 'JobLost', 'CommandFailed', 'VerificationFailed']);

/**
 * The one interpreter of plans: stages one after the other, the lanes of a stage side by side, the steps of a lane in order.
 * Registers each undo before its step. Throws the first failure once every lane has come to rest.
 */
export async function apply(run: Applying): Promise<void> {
  for (const stage of run.plan.stages) {
    const { gate } = stage;
    if (gate) await past(run, () => run.ask(gate));
    await applyStage(run, stage);
  }
}

async function applyStage(run: Applying, stage: Stage): Promise<void> {
  const waiting = [...stage.lanes];
  const failed: unknown[] = [];
  let underWay = 0;
  let wake: () => void = () => undefined;
  let stuck = false;
  // A cancel ends the stage whatever its budget is, and so does a person, or a lane that cannot be put back.
  const over = (): boolean => run.ended || stuck || failed.length > stage.errorBudget || failed.some(isCancellation);
  // Every lane under way may still fail: with this one more the budget would be overdrawn by more than the failure that ends the stage.
  const overdrawn = (): boolean =>
    stage.rolling === true && underWay > 0 && failed.length + underWay > stage.errorBudget;
  const worker = async (): Promise<void> => {
    for (;;) {
      while (!over() && waiting.length > 0 && overdrawn())
        await new Promise<void>((resolve) => {
          const before = wake;
          wake = () => {
            before();
            resolve();
          };
        });
      const lane = waiting.shift();
      if (!lane || over()) return;
      underWay += 1;
      const mark = run.saga.mark();
      try {
        await applyLane(run, stage, lane, over);
      } catch (error) {
        // A mistake in guardia parks the run where it stands: at once, in the workflow task that made it. A task that was completed
        // without the step could not be taken up by corrected code.
        if (!(error instanceof TemporalFailure)) throw error;
        failed.push(error);
        if (!over()) stuck = !(await giveLaneUp(run, lane, mark, error));
      } finally {
        underWay -= 1;
        wake();
        wake = () => undefined;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(stage.atOnce, stage.lanes.length) }, worker));
  if (over()) throw failed.find(isCancellation) ?? failed[0];
}

/** A lane that failed within the error budget is undone at once, so that its host is as it was. False where it could not be. */
async function giveLaneUp(run: Applying, lane: Lane, mark: number, error: unknown): Promise<boolean> {
  const failed = await CancellationScope.nonCancellable(() => run.saga.compensate({ since: mark, lane }));
  if (failed.length > 0) return false;
  run.progress.note(`${lane.on} was left as it was, within the error budget: ${reasonOf(error)}`);
  return true;
}

/** A lane begins no further step once its stage is over: all of it would only be undone. */
async function applyLane(run: Applying, stage: Stage, lane: Lane, over: () => boolean): Promise<void> {
  for (const step of lane.steps) {
    if (over()) return;
    await applyStep(run, stage, lane, step);
  }
}

async function applyStep(run: Applying, stage: Stage, lane: Lane, step: Step): Promise<void> {
  const { progress, saga, results } = run;
  let generation = 1;
  const on = placeOf(lane, step);
  const target = laneTarget(run.system, on);
  const context = (): CallContext => ({
    system: run.system.system,
    runbook: run.plan.runbook,
    workflowId: step.repairs?.workflowId ?? run.workflowId,
    runId: step.repairs?.runId ?? run.runId,
    step: step.repairs?.step ?? step.id,
    generation,
    runAgainIfLost: step.runAgainIfLost ?? false,
    ...(target ? { target } : {}),
    ...(run.fences.has(on) ? { fence: run.fences.get(on) } : {}),
  });
  const argument = (call: Call): Call => ({ ...call, with: resolveReferences(call.with, results) as Call['with'] });
  const perform = (call: Call, summary: string): Promise<Record<string, unknown> | undefined> =>
    past(run, () =>
      call.activity === 'runRunbook'
        ? runChild(argument(call), { ...run, step: step.id, generation, summary })
        : runCall(argument(call), context(), { summary }),
    );

  const { undo } = step;
  if ('activity' in undo)
    saga.register({
      step,
      stage,
      lane,
      on,
      run: async () => {
        progress.step(step.id, { state: 'undoing' });
        try {
          const undoing = run.lost.has(on) ? 'brief' : 'patient';
          const result = await runCall(undo, context(), { summary: `undo: ${step.title}`, undo: undoing });
          run.lost.delete(on);
          const said = result?.['summary'];
          progress.step(step.id, { state: 'undone', ...(typeof said === 'string' ? { note: said } : {}) });
        } catch (error) {
          if (error instanceof ActivityFailure && applicationFailureIn(error)?.type === 'HostUnreachable')
            run.lost.add(on);
          progress.step(step.id, { state: 'undo failed', note: reasonOf(error) });
          throw error;
        }
      },
    });

  progress.step(step.id, { state: 'running' });
  for (;;) {
    try {
      const result = await perform(step.do, step.title);
      results.set(step.id, result);
      if (step.verify) await perform(step.verify, `verify: ${step.title}`);
      const said = result?.['summary'];
      progress.step(step.id, { state: 'done', ...(typeof said === 'string' ? { note: said } : {}) });
      break;
    } catch (raised) {
      if (!(raised instanceof TemporalFailure)) throw raised;
      const type =
        raised instanceof ActivityFailure || raised instanceof ChildWorkflowFailure
          ? applicationFailureIn(raised)?.type
          : undefined;
      // What a step says that is stopped, or whose worker died meanwhile, is no reason: the run was cancelled.
      const stopped = !run.pastCancel && CancellationScope.current().consideredCancelled && !isCancellation(raised);
      const error = stopped ? new CancelledFailure('the run was cancelled', [], raised) : raised;
      const failed: FailedStep = { step, on, error };
      progress.step(step.id, { state: 'failed', note: reasonOf(raised) });
      run.failedAt.set(error, failed);
      if (target && type && isCallName(step.do.activity) && calls[step.do.activity] === 'job')
        await CancellationScope.nonCancellable(() => run.keepLog(target, step.id, generation));
      if (generation < (step.attempts ?? 1) && type && worthAnotherRun.has(type)) {
        const note = `run ${generation} failed: ${reasonOf(error)}`;
        generation += 1;
        progress.step(step.id, { state: 'running', generation, note });
        continue;
      }
      const next = await run.onFailure(failed, stage.errorBudget >= stage.lanes.length);
      if (next === 'fail') throw error;
      if (next === 'skip') {
        progress.step(step.id, { state: 'skipped' });
        break;
      }
      generation += 1;
      progress.step(step.id, { state: 'running', generation, note: `again, after: ${reasonOf(error)}` });
    }
  }
  if (run.plan.pointOfNoReturn === step.id) {
    saga.commit(step);
    for (const { id, state } of progress.status.steps) if (state === 'done') progress.step(id, { state: 'kept' });
    await CancellationScope.nonCancellable(run.onCommit);
  }
}

/** Runs in the scope of the run, or past the cancel that a person has answered by going on. */
const past = <T>(run: Applying, act: () => Promise<T>): Promise<T> =>
  run.pastCancel ? CancellationScope.nonCancellable(act) : act();
