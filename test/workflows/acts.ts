import { cancellationSignal, heartbeat } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { failure, type FailureType } from '../../workflows/contracts/errors.js';
import type { CallContext } from '../../workflows/contracts/calls.js';

/** What a scripted activity is told. */
export interface Scripted {
  /** As in the log of the run (scripted-runs.ts). */
  name: string;
  /** Type of the activity. */
  activity: string;
  input: Record<string, unknown>;
  context?: CallContext;
  attempt: number;
}
export type Act = (call: Scripted) => unknown;

/** Fails as guardia fails on purpose. What cannot be helped by another try ends the step at once. */
export const fails =
  (type: FailureType = 'CommandFailed', message = 'it broke', remedy?: string): Act =>
  () => {
    throw failure(type, message, remedy === undefined ? {} : { remedy });
  };

/** Fails the first `times` times, then succeeds. */
export function failsFirst(times: number, type: FailureType, message = 'it broke'): Act {
  let left = times;
  return () => {
    if (left-- > 0) throw failure(type, message);
    return {};
  };
}

/** A failure that Temporal tries again, for as long as the activity's policy says. */
export const stumbles =
  (message = 'for a moment'): Act =>
  () => {
    throw ApplicationFailure.create({ type: 'HostUnreachable', message });
  };

/** Ends in a mistake of the activity's own code. */
export const mistaken: Act = () => (undefined as unknown as { at: string }).at;

export interface Held {
  act: Act;
  /** Resolves when the activity has begun. */
  begun: Promise<void>;
  /** Lets it end well. */
  release(result?: Record<string, unknown>): void;
}

/**
 * An activity that lasts until it is released or cancelled. When it is cancelled it takes `cancelSeconds` to come to rest, as a
 * command that is stopped does.
 */
export function held({ cancelSeconds = 0 }: { cancelSeconds?: number } = {}): Held {
  let begin: () => void;
  let release: (result?: Record<string, unknown>) => void;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const released = new Promise<Record<string, unknown> | undefined>((resolve) => (release = resolve));
  return {
    begun,
    release: (result) => release(result),
    act: async () => {
      begin();
      const signal = cancellationSignal();
      const beat = setInterval(() => heartbeat(), 200);
      const cancelled = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => setTimeout(() => reject(signal.reason as Error), cancelSeconds * 1000));
      });
      try {
        return (await Promise.race([released, cancelled])) ?? {};
      } finally {
        clearInterval(beat);
      }
    },
  };
}
