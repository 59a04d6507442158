import {
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  WorkflowIdReusePolicy,
  proxyActivities,
  startChild,
  workflowInfo,
  type ChildWorkflowHandle,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { FrameActivities } from '../contracts/frame-activities.js';
import { failure } from '../contracts/errors.js';

import { releaseSignal, type LockHolder } from '../contracts/lock.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../contracts/task-queues.js';
import { lockWorkflowId } from '../contracts/workflow-ids.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import type { lock as lockWorkflow } from '../lock/workflow.js';

export interface Lock {
  /** Ends the lock. Call it after the last undo, in a non-cancellable scope. */
  release(): Promise<void>;
}

/**
 * Takes the lock of a system, waiting for its holder at most `waitSeconds`. `onWait` hears whom it waits for.
 * Throws `HostLocked` when the time is over. The lock stays held when the run is cancelled, until `release`.
 */
export async function acquireLock(
  holder: Omit<LockHolder, 'since'>,
  options: { waitSeconds: number; onWait: (why: string) => void },
): Promise<Lock> {
  const workflowId = lockWorkflowId(holder.system);
  const deadline = Date.now() + options.waitSeconds * 1000;
  for (;;) {
    const since = new Date(Date.now()).toISOString();
    let child: ChildWorkflowHandle<typeof lockWorkflow>;
    try {
      child = await startChild<typeof lockWorkflow>('lock', {
        workflowId,
        args: [{ ...holder, since }],
        taskQueue: workflowInfo().taskQueue,
        parentClosePolicy: ParentClosePolicy.TERMINATE,
        // A cancelled holder keeps the lock until its last undo.
        cancellationType: ChildWorkflowCancellationType.ABANDON,
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
        staticSummary: `${holder.system} held by ${holder.workflowId}`,
      });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      const left = Math.floor((deadline - Date.now()) / 1000);
      const waiting = proxyActivities<Pick<FrameActivities, 'describeLock' | 'awaitLock'>>({
        taskQueue: taskQueueOfSite(DEFAULT_SITE),
        startToCloseTimeout: `${Math.max(left, 1) + 60} seconds`,
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        retry: { initialInterval: '1 second', maximumInterval: '10 seconds', maximumAttempts: 20 },
        summary: `wait for the lock of ${holder.system}`,
      });
      const other = await waiting.describeLock({ workflowId });
      const who = other
        ? `${other.runbook} ${other.workflowId} of ${other.requester}, since ${other.since}`
        : 'a run that is just ending';
      if (left <= 0)
        throw failure('HostLocked', `${holder.system} is held by ${who}; waited ${options.waitSeconds} s for it`, {
          remedy: other
            ? `Wait for it (guardia watch ${other.workflowId}), or cancel it (guardia cancel ${other.workflowId})`
            : 'Start the run again',
        });
      options.onWait(`${holder.system} is held by ${who}`);
      await waiting.awaitLock({ workflowId, seconds: left });
      continue;
    }
    return {
      async release() {
        try {
          await child.signal(releaseSignal, { runId: holder.runId });
          await child.result();
        } catch {
          // The lock workflow was terminated by somebody: there is nothing left to release.
        }
      },
    };
  }
}
