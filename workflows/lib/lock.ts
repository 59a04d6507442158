import {
  CancellationScope,
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  WorkflowIdReusePolicy,
  proxyActivities,
  startChild,
  workflowInfo,
  type ChildWorkflowHandle,
} from '@temporalio/workflow';
import { CancelledFailure, WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { FrameActivities } from '../contracts/frame-activities.js';
import { failure } from '../contracts/errors.js';

import { releaseSignal, type LockHolder } from '../contracts/lock.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../contracts/task-queues.js';
import type { System } from '../contracts/system.js';
import { lockWorkflowId, type Lockable } from '../contracts/workflow-ids.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import type { lock as lockWorkflow } from '../lock/workflow.js';

export interface Lock {
  /** Ends the lock. Call it after the last undo, in a non-cancellable scope. */
  release(): Promise<void>;
}

/**
 * What a run that changes a system holds: the system, then every host of it in the order of their names. Everybody takes them in this order, so
 * that nobody waits in a circle. Pure.
 */
export function lockablesOf({ system, hosts }: System): Lockable[] {
  const names = Object.keys(hosts).sort();
  return [{ system }, ...names.map((host) => ({ system, host }))];
}

/** For people: `proofpass`, or `host app of proofpass`. */
const textOf = ({ system, host }: Lockable): string => (host === undefined ? system : `host ${host} of ${system}`);

/**
 * Takes locks one after the other, waiting for their holders at most `waitSeconds` in all. `onWait` hears whom it waits for. Throws
 * `HostLocked` when the time is over, and then holds none. They stay held when the run is cancelled, until `release`.
 */
export async function acquireLocks(
  lockables: readonly Lockable[],
  holder: Omit<LockHolder, 'since' | 'system' | 'host'>,
  options: { waitSeconds: number; onWait: (why: string) => void },
): Promise<Lock> {
  const deadline = Date.now() + options.waitSeconds * 1000;
  const held: Lock[] = [];
  const release = async (): Promise<void> => {
    for (let lock = held.pop(); lock; lock = held.pop()) await lock.release();
  };
  try {
    for (const lockable of lockables) {
      held.push(await acquireLock(lockable, holder, { ...options, deadline }));
      throwIfCancelled();
    }
  } catch (error) {
    await CancellationScope.nonCancellable(release);
    throw error;
  }
  return { release };
}

/** What could not be cancelled is behind the run: a cancel that came meanwhile counts now. */
export function throwIfCancelled(): void {
  if (CancellationScope.current().consideredCancelled) throw new CancelledFailure('the run was cancelled');
}

async function acquireLock(
  lockable: Lockable,
  holder: Omit<LockHolder, 'since' | 'system' | 'host'>,
  options: { waitSeconds: number; deadline: number; onWait: (why: string) => void },
): Promise<Lock> {
  const workflowId = lockWorkflowId(lockable);
  const what = textOf(lockable);
  for (;;) {
    const since = new Date(Date.now()).toISOString();
    let child: ChildWorkflowHandle<typeof lockWorkflow>;
    try {
      // Never cancelled: a cancelled holder keeps the lock until its last undo, and a cancel while it starts would never be answered (SDK 1.24, core's
      // child_workflow_state_machine: an abandoned child that is cancelled between its initiation and its start resolves nothing).
      child = await CancellationScope.nonCancellable(() =>
        startChild<typeof lockWorkflow>('lock', {
          workflowId,
          args: [{ ...lockable, ...holder, since }],
          taskQueue: workflowInfo().taskQueue,
          parentClosePolicy: ParentClosePolicy.TERMINATE,
          cancellationType: ChildWorkflowCancellationType.ABANDON,
          workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
          staticSummary: `${what} held by ${holder.workflowId}`,
        }),
      );
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      const left = Math.floor((options.deadline - Date.now()) / 1000);
      const shared = {
        taskQueue: taskQueueOfSite(DEFAULT_SITE),
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        summary: `wait for the lock of ${what}`,
      };
      const { describeLock } = proxyActivities<Pick<FrameActivities, 'describeLock'>>({
        ...shared,
        startToCloseTimeout: '1 minute',
        retry: { initialInterval: '1 second', maximumInterval: '10 seconds', maximumAttempts: 20 },
      });
      // The time bounds it: a worker that dies while a run waits is no failure of the waiting.
      const { awaitLock } = proxyActivities<Pick<FrameActivities, 'awaitLock'>>({
        ...shared,
        scheduleToCloseTimeout: `${Math.max(left, 1) + 60} seconds`,
        retry: { initialInterval: '1 second', maximumInterval: '10 seconds' },
      });
      const other = await describeLock({ workflowId });
      const who = other
        ? `${other.runbook} ${other.workflowId} of ${other.requester}, since ${other.since}`
        : 'a run that is just ending';
      if (left <= 0)
        throw failure('HostLocked', `${what} is held by ${who}; waited ${options.waitSeconds} s for it`, {
          remedy: other
            ? `Wait for it (guardia watch ${other.workflowId}), or cancel it (guardia cancel ${other.workflowId})`
            : 'Start the run again',
        });
      options.onWait(`${what} is held by ${who}`);
      await awaitLock({ workflowId, seconds: left });
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
