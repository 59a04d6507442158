import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { ActivityInboundCallsInterceptor, ActivityInterceptorsFactory } from '@temporalio/worker';
import { beat, HOST_AWAY_SECONDS } from '../activities/activity-context.js';
import { calls, isCallName, type CallInput } from '../workflows/contracts/calls.js';
import { failure, isFailure } from '../workflows/contracts/errors.js';

/** How often an activity gives a sign of life. Milliseconds. */
const BEAT_MS = 5_000;
/** A failure that nobody foresaw is tried this often: the attempts of a job are not counted, and it would hold its locks for a day. */
const UNFORESEEN_ATTEMPTS = 10;
/**
 * What changes something is given up after so long where its host does not answer, which is as long as an undo waits for one that is away: each attempt at a
 * host that hangs takes minutes, and attempts alone would be hours. Seconds.
 */
const CHANGE_AWAY_SECONDS = 30 * 60;
/** A worker that was away itself has tried so often before that counts. */
const CHANGE_AWAY_ATTEMPTS = 4;

/**
 * What every activity needs at its edge: a sign of life while it works, so that a dead worker is noticed soon and a cancel arrives; a cancel, a pause or a shutdown leaves it as what it is (an AbortError of a library
 * would look like a failure), and no message or detail carries a secret into the history.
 */
export function activityInterceptor(scrub: (text: string) => string): ActivityInterceptorsFactory {
  return () => {
    const inbound: ActivityInboundCallsInterceptor = {
      async execute(input, next) {
        const stop = beating();
        try {
          return await next(input);
        } catch (error) {
          if (cancellationSignal().aborted && !(error instanceof CancelledFailure)) throw cancellationSignal().reason;
          const call = input.args[0] as Partial<CallInput> | undefined;
          throw scrubbed(lastWord(error, call, { ...activityInfo(), now: Date.now() }), scrub);
        } finally {
          stop();
        }
      },
    };
    return { inbound };
  };
}

/** Beats until it is stopped. */
function beating(): () => void {
  const { heartbeatTimeoutMs, isLocal } = activityInfo();
  if (isLocal || heartbeatTimeoutMs === undefined) return () => undefined;
  const timer = setInterval(beat, Math.min(BEAT_MS, heartbeatTimeoutMs / 4));
  return () => clearInterval(timer);
}

/**
 * A job is attempted for as long as it may take and a day more, as workers may be away that long; what is no fault of a worker ends sooner: a host
 * that stays away, and what nobody foresaw. A change is attempted for half an hour at a host that does not answer. Pure.
 */
export function lastWord(
  error: unknown,
  call: Partial<CallInput> | undefined,
  at: { activityType: string; attempt: number; scheduledTimestampMs: number; now: number },
): unknown {
  const { activityType, attempt, scheduledTimestampMs, now } = at;
  if (!isCallName(activityType)) return error;
  const away = isFailure(error, 'HostUnreachable');
  const waited = (now - scheduledTimestampMs) / 1000;
  if (calls[activityType] === 'change' && away && attempt >= CHANGE_AWAY_ATTEMPTS && waited >= CHANGE_AWAY_SECONDS)
    return ApplicationFailure.nonRetryable(error.message, error.type, ...(error.details ?? []));
  if (calls[activityType] !== 'job') return error;
  if (!(error instanceof ApplicationFailure))
    return attempt < UNFORESEEN_ATTEMPTS ? error : ApplicationFailure.nonRetryable(...wordsOf(error));
  const seconds = Number(call?.with?.['timeoutSeconds'] ?? 0) + HOST_AWAY_SECONDS;
  if (!away || waited < seconds) return error;
  const host = call?.context?.target?.name;
  return failure('JobLost', `the host stays away: ${error.message}`, host === undefined ? {} : { host });
}

/** Message and type of an error that is none of ours. */
function wordsOf(error: unknown): [message: string, type: string] {
  const plain = error instanceof Error ? error : new Error(String(error));
  return [plain.message, plain.name];
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
  const [message, type] = wordsOf(error);
  return ApplicationFailure.create({ message: scrub(message), type, nonRetryable: false });
}

function scrubDeep(value: unknown, scrub: (text: string) => string): unknown {
  if (typeof value === 'string') return scrub(value);
  if (Array.isArray(value)) return value.map((item) => scrubDeep(item, scrub));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, scrubDeep(item, scrub)]));
  return value;
}
