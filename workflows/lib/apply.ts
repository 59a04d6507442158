import { ActivityFailure, TemporalFailure } from '@temporalio/common';
import { isCancellation } from '@temporalio/workflow';
import { calls, isCallName, type CallContext } from '../contracts/calls.js';
import type { HostTarget } from '../contracts/host-target.js';
import { placeOf, type Call, type Lane, type Plan, type Stage, type Step } from '../contracts/plan.js';
import type { System } from '../contracts/system.js';
import { laneTarget, resolveReferences, runCall } from './calls.js';
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
  /** Keeps the whole log of a step's failed job; never throws for a failure of its own. */
  keepLog: (target: HostTarget, step: string, generation: number) => Promise<void>;
  /** Filled here: which step a failure belongs to. */
  failedAt: Map<unknown, { step: Step; on: string }>;
}

/** Failures of a command itself, after which a step may run anew where it says so. */
const worthAnotherRun = new Set(['JobFailed', 'JobTimedOut', 'JobLost', 'CommandFailed', 'VerificationFailed']);

/**
 * The one interpreter of plans: stages one after the other, the lanes of a stage side by side, the steps of a lane in order.
 * Registers each undo before its step. Throws the first failure once every lane has come to rest.
 */
export async function apply(run: Applying): Promise<void> {
  for (const stage of run.plan.stages) await applyStage(run, stage);
}

async function applyStage(run: Applying, stage: Stage): Promise<void> {
  const waiting = [...stage.lanes];
  const failed: unknown[] = [];
  // A cancel ends the stage whatever its budget is.
  const over = (): boolean => failed.length > stage.errorBudget || failed.some(isCancellation);
  const worker = async (): Promise<void> => {
    for (let lane = waiting.shift(); lane && !over(); lane = waiting.shift()) {
      try {
        await applyLane(run, lane, over);
      } catch (error) {
        // A mistake in guardia parks the run where it stands: at once, in the workflow task that made it. A task that was completed
        // without the step could not be taken up by corrected code.
        if (!(error instanceof TemporalFailure)) throw error;
        failed.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(stage.atOnce, stage.lanes.length) }, worker));
  if (over()) throw failed.find(isCancellation) ?? failed[0];
}

/** A lane begins no further step once its stage is over: all of it would only be undone. */
async function applyLane(run: Applying, lane: Lane, over: () => boolean): Promise<void> {
  for (const step of lane.steps) {
    if (over()) return;
    await applyStep(run, lane, step);
  }
}

async function applyStep(run: Applying, lane: Lane, step: Step): Promise<void> {
  const { progress, saga, results } = run;
  let generation = 1;
  const on = placeOf(lane, step);
  const target = laneTarget(run.system, on);
  const context = (): CallContext => ({
    system: run.system.system,
    runbook: run.plan.runbook,
    workflowId: run.workflowId,
    runId: run.runId,
    step: step.id,
    generation,
    runAgainIfLost: step.runAgainIfLost ?? false,
    ...(target ? { target } : {}),
    ...(run.fences.has(on) ? { fence: run.fences.get(on) } : {}),
  });
  const argument = (call: Call): Call => ({ ...call, with: resolveReferences(call.with, results) as Call['with'] });

  const { undo } = step;
  if ('activity' in undo)
    saga.register({
      step,
      on,
      run: async () => {
        progress.step(step.id, { state: 'undoing' });
        try {
          await runCall(undo, context(), { summary: `undo: ${step.title}`, undo: true });
          progress.step(step.id, { state: 'undone' });
        } catch (error) {
          progress.step(step.id, { state: 'undo failed', note: reasonOf(error) });
          throw error;
        }
      },
    });

  progress.step(step.id, { state: 'running' });
  for (;;) {
    try {
      const result = await runCall(argument(step.do), context(), { summary: step.title });
      results.set(step.id, result);
      if (step.verify) await runCall(argument(step.verify), context(), { summary: `verify: ${step.title}` });
      const said = result?.['summary'];
      progress.step(step.id, { state: 'done', ...(typeof said === 'string' ? { note: said } : {}) });
      break;
    } catch (error) {
      const type = error instanceof ActivityFailure ? applicationFailureIn(error)?.type : undefined;
      progress.step(step.id, { state: 'failed', note: reasonOf(error) });
      run.failedAt.set(error, { step, on });
      if (target && type && isCallName(step.do.activity) && calls[step.do.activity] === 'job')
        await run.keepLog(target, step.id, generation);
      if (generation < (step.attempts ?? 1) && type && worthAnotherRun.has(type)) {
        const note = `run ${generation} failed: ${reasonOf(error)}`;
        generation += 1;
        progress.step(step.id, { state: 'running', generation, note });
        continue;
      }
      throw error;
    }
  }
  if (run.plan.pointOfNoReturn === step.id) {
    saga.commit(step);
    for (const { id, state } of progress.status.steps) if (state === 'done') progress.step(id, { state: 'kept' });
  }
}
