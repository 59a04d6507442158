import { ActivityCancellationType, type ActivityOptions } from '@temporalio/workflow';
import type { CallKind } from '../contracts/calls.js';

/** Extra time for a job beyond its own limit: a night without any worker costs time, not the job. Seconds. */
const WITHOUT_WORKER_SECONDS = 24 * 3600;

/** What changes something has come to rest before its undo begins: else a step that ends late would outlive its own undo. */
const atRestWhenCancelled = { cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED };

/**
 * After this time without a sign of life the worker of an activity is taken for dead, and another attempt begins. The sign is given by
 * every worker (workers/activity-interceptor.ts), every 5 s: three may go missing. A worker that was only slow
 * does no harm: the other attempt attaches to its job.
 */
export const HEARTBEAT_TIMEOUT = '15 seconds';

/** How long an undo is tried: `brief` where one before it has waited for the same host in vain. */
export type Patience = 'patient' | 'brief';

/** About 25 minutes of pauses, so that a host may reboot or come back by itself; and a few seconds. */
const UNDO_ATTEMPTS: Record<Patience, number> = { patient: 30, brief: 3 };

/**
 * Timeouts and retries of a call. Typed failures that cannot be helped by trying again are non-retryable by themselves
 * (contracts/errors.ts).
 */
export function activityOptions(
  kind: Exclude<CallKind, 'runbook'>,
  options: { timeoutSeconds?: number; undo?: Patience } = {},
): ActivityOptions {
  if (options.undo)
    return {
      // What took long to do may take as long to undo.
      startToCloseTimeout: `${600 + (options.timeoutSeconds ?? 0)} seconds`,
      heartbeatTimeout: HEARTBEAT_TIMEOUT,
      retry: {
        initialInterval: '1 second',
        backoffCoefficient: 2,
        maximumInterval: '1 minute',
        maximumAttempts: UNDO_ATTEMPTS[options.undo],
      },
    };
  switch (kind) {
    case 'observe':
      return {
        startToCloseTimeout: '2 minutes',
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        retry: {
          initialInterval: '1 second',
          backoffCoefficient: 2,
          maximumInterval: '10 seconds',
          maximumAttempts: 5,
        },
      };
    case 'watch':
      return {
        startToCloseTimeout: `${options.timeoutSeconds ?? 600} seconds`,
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        // A worker that dies in mid-watch costs an attempt: the next one watches anew.
        retry: {
          initialInterval: '1 second',
          backoffCoefficient: 2,
          maximumInterval: '10 seconds',
          maximumAttempts: 10,
        },
      };
    case 'change':
      return {
        ...atRestWhenCancelled,
        startToCloseTimeout: '10 minutes',
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        retry: {
          initialInterval: '1 second',
          backoffCoefficient: 2,
          maximumInterval: '30 seconds',
          // Ten minutes of pauses: a machine may take its time to boot.
          maximumAttempts: 25,
        },
      };
    case 'job': {
      const seconds = (options.timeoutSeconds ?? 3600) + WITHOUT_WORKER_SECONDS;
      // Attempts are not counted: a follower that died is no failure of the job. The time bounds them.
      return {
        ...atRestWhenCancelled,
        startToCloseTimeout: `${seconds} seconds`,
        scheduleToCloseTimeout: `${seconds} seconds`,
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '15 seconds' },
      };
    }
  }
}
