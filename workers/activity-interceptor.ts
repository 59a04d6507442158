import { activityInfo, cancellationSignal, heartbeat } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { ActivityInboundCallsInterceptor, ActivityInterceptorsFactory } from '@temporalio/worker';
import { calls, isCallName } from '../workflows/contracts/calls.js';

/** How often an activity gives a sign of life. Milliseconds. */
const BEAT_MS = 5_000;

/**
 * What every activity needs at its edge: a sign of life while it works, so that a dead worker is noticed soon and a cancel arrives; a cancel, a pause or a shutdown leaves it as what it is (an AbortError of a library
 * would look like a failure), and no message or detail carries a secret into the history.
 */
export function activityInterceptor(scrub: (text: string) => string): ActivityInterceptorsFactory {
  return () => {
    const inbound: ActivityInboundCallsInterceptor = {
      async execute(input, next) {
        const stop = beat();
        try {
          return await next(input);
        } catch (error) {
          if (cancellationSignal().aborted && !(error instanceof CancelledFailure)) throw cancellationSignal().reason;
          throw scrubbed(error, scrub);
        } finally {
          stop();
        }
      },
    };
    return { inbound };
  };
}

/** Beats until it is stopped. Not for a job: that speaks for itself, and a follower that hangs must be noticed. */
function beat(): () => void {
  const { activityType, heartbeatTimeoutMs, isLocal } = activityInfo();
  const isJob = isCallName(activityType) && calls[activityType] === 'job';
  if (isLocal || isJob || heartbeatTimeoutMs === undefined) return () => undefined;
  const timer = setInterval(() => heartbeat(), Math.min(BEAT_MS, heartbeatTimeoutMs / 4));
  return () => clearInterval(timer);
}

/** The same failure, without secrets in its messages and details. Its cause and stack are left out: they may hold anything. */
export function scrubbed(error: unknown, scrub: (text: string) => string): unknown {
  if (error instanceof CancelledFailure) return error;
  if (error instanceof ApplicationFailure)
    return ApplicationFailure.create({
      message: scrub(error.message),
      ...(error.type ? { type: error.type } : {}),
      nonRetryable: error.nonRetryable ?? false,
      details: scrubDeep(error.details ?? [], scrub) as unknown[],
      ...(error.category ? { category: error.category } : {}),
    });
  const plain = error instanceof Error ? error : new Error(String(error));
  return ApplicationFailure.create({ message: scrub(plain.message), type: plain.name, nonRetryable: false });
}

function scrubDeep(value: unknown, scrub: (text: string) => string): unknown {
  if (typeof value === 'string') return scrub(value);
  if (Array.isArray(value)) return value.map((item) => scrubDeep(item, scrub));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, scrubDeep(item, scrub)]));
  return value;
}
