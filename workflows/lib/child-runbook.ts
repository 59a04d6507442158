import {
  CancellationScope,
  ChildWorkflowCancellationType,
  executeChild,
  isCancellation,
  ParentClosePolicy,
} from '@temporalio/workflow';
import type { Call, Plan } from '../contracts/plan.js';
import { failure } from '../contracts/errors.js';
import type { RunReport, RunStatus } from '../contracts/run.js';
import { runbooks } from '../contracts/runbooks.js';
import type { System } from '../contracts/system.js';
import { runWorkflowId } from '../contracts/workflow-ids.js';

/**
 * What a runbook that runs as a step of another one gets from it: locks are the parent's, and so are the fences on its hosts.
 * Handed over as a second argument, which nobody can give from the Web UI, and believed only when the server says that this is the parent.
 */
export interface Inheritance {
  workflowId: string;
  runId: string;
  fences: Record<string, number>;
}

/** Runs a whole runbook as one step. Ends when the child has ended, also when this run is cancelled: it cleans up after itself. */
export async function runChild(
  call: Call,
  run: {
    plan: Plan;
    system: System;
    workflowId: string;
    runId: string;
    fences: ReadonlyMap<string, number>;
    progress: { status: RunStatus };
    step: string;
    generation: number;
    summary: string;
  },
): Promise<Record<string, unknown>> {
  const { runbook, input } = call.with as { runbook: string; input: Record<string, unknown> };
  if (!Object.hasOwn(runbooks, runbook))
    throw failure('InvalidPlan', `the plan runs ${runbook}, which this version does not have`);
  const system = run.system.system;
  const inheritance: Inheritance = {
    workflowId: run.workflowId,
    runId: run.runId,
    fences: Object.fromEntries(run.fences),
  };
  const workflowId = runWorkflowId(runbook, system, `${run.runId}-${run.step}-g${run.generation}`);
  const report = await executeChild<(input: unknown, inheritance: Inheritance) => Promise<RunReport>>(runbook, {
    workflowId,
    args: [
      {
        ...input,
        system,
        requester: run.progress.status.requester,
        reason: `step "${run.step}" of ${run.workflowId}`,
      },
      inheritance,
    ],
    parentClosePolicy: ParentClosePolicy.TERMINATE,
    cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    staticSummary: run.summary,
  }).catch((error: unknown) => {
    // Somebody has cancelled the child, and not this run: the step failed.
    if (isCancellation(error) && !CancellationScope.current().consideredCancelled)
      throw failure('ChildCancelled', `${workflowId} was cancelled`);
    throw error;
  });
  return { ...report.result, workflowId: report.workflowId, end: report.end, summary: report.message };
}
