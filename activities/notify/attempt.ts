import { setTimeout as delay } from 'node:timers/promises';

/** How long and how often one target is tried. Milliseconds. */
export interface Bounds {
  /** One try: connecting, sending, the answer. */
  attemptMs: number;
  /** All tries with their pauses. */
  targetMs: number;
  attempts: number;
  /** Before the second try; twice as long before each further one. */
  pauseMs: number;
}

/** A target is given up after half a minute: a run may wait for its notices, and others wait behind a slow one for nothing. */
export const BOUNDS: Bounds = { attemptMs: 10_000, targetMs: 30_000, attempts: 3, pauseMs: 1_000 };

/** A notice could not be handed over. The message names neither the address nor a secret. */
export class DeliveryFailure extends Error {
  override readonly name = 'DeliveryFailure';
  /** Whether another try can help. */
  readonly retry: boolean;
  /** What the target asks for before the next try. */
  readonly afterMs: number | undefined;

  constructor(message: string, options: { retry: boolean; afterMs?: number | undefined; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.retry = options.retry;
    this.afterMs = options.afterMs;
  }
}

/**
 * Tries until it works, cannot be helped, or the bounds are reached. Throws the last failure, and `signal`'s reason when it is aborted.
 * `tried` is told before each try.
 */
export async function tryWithin(
  bounds: Bounds,
  signal: AbortSignal | undefined,
  tried: () => void,
  send: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const end = Date.now() + bounds.targetMs;
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    tried();
    const time = AbortSignal.timeout(Math.max(1, Math.min(bounds.attemptMs, end - Date.now())));
    try {
      await send(signal ? AbortSignal.any([signal, time]) : time);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      const failure =
        error instanceof DeliveryFailure
          ? error
          : time.aborted
            ? new DeliveryFailure(`no answer within ${bounds.attemptMs / 1000} s`, { retry: true, cause: error })
            : error;
      const pause = Math.max(
        bounds.pauseMs * 2 ** (attempt - 1),
        failure instanceof DeliveryFailure ? (failure.afterMs ?? 0) : 0,
      );
      const again = failure instanceof DeliveryFailure && failure.retry && attempt < bounds.attempts;
      if (!again || Date.now() + pause >= end) throw failure;
      await delay(pause, undefined, signal ? { signal } : {});
    }
  }
}
