import { TemporalFailure } from '@temporalio/common';
import type { Lane, Stage, Step } from '../contracts/plan.js';

/** The undo of one step, registered before the step runs. */
export interface Compensation {
  step: Step;
  stage: Stage;
  /** The lane that it runs in. */
  lane: Lane;
  /** Where it acts. */
  on: string;
  run: () => Promise<void>;
}

/** An undo that failed, and why. It is still to be undone. */
export interface FailedUndo {
  compensation: Compensation;
  error: TemporalFailure;
}

/** What has to be undone if the run fails, newest last. */
export interface Saga {
  register(compensation: Compensation): void;
  /** The point of no return is behind the run: nothing registered so far will be undone. */
  commit(at: Step): void;
  /** A person wants everything to stay as it is: nothing will be undone. */
  keep(): void;
  /** A person has seen to this one, or wants it left: it will not be undone, and those that waited for it can be. */
  forget(compensation: Compensation): void;
  /** The point of no return, once it is behind the run: everything up to this step stands. */
  readonly committed: Step | undefined;
  readonly size: number;
  /** What is still to be undone, newest first. */
  readonly left: readonly Compensation[];
  /** Tells what is registered from now on. */
  mark(): number;
  /**
   * The way there, backwards: the lanes of a stage one after the other, newest first, and a stage once all behind it is undone. Where an undo fails, what
   * came before it in its lane and in earlier stages stands on what is not undone, and waits; other lanes of its stage go on, and what failed before
   * is tried again after them: it may have failed for want of them. Answers with what still failed; called again it tries those once more, and goes
   * on. With `only` it undoes what one lane has registered since a mark. Call it in a non-cancellable scope. Throws what is no failure but a
   * mistake in guardia: the run waits, with the rest still to be undone.
   */
  compensate(only?: { since: number; lane: Lane }): Promise<FailedUndo[]>;
}

export function createSaga(): Saga {
  let registered: (Compensation & { number: number })[] = [];
  let count = 0;
  let committed: Step | undefined;
  const forget = (compensation: Compensation): void =>
    void (registered = registered.filter((one) => one !== compensation));
  return {
    register: (compensation) => void registered.push({ ...compensation, number: count++ }),
    commit(at) {
      registered = [];
      committed = at;
    },
    keep: () => void (registered = []),
    forget,
    get committed() {
      return committed;
    },
    get size() {
      return registered.length;
    },
    get left() {
      return registered.toReversed();
    },
    mark: () => count,
    async compensate(only) {
      let failed: FailedUndo[] = [];
      let undoneSince = false;
      const waits = ({ stage, lane }: Compensation): boolean =>
        failed.some(({ compensation: other }) => other.stage !== stage || other.lane === lane);
      for (;;) {
        const next = registered.findLast(
          (one) => (only === undefined || (one.lane === only.lane && one.number >= only.since)) && !waits(one),
        );
        if (!next && !undoneSince) return failed;
        if (!next) {
          [failed, undoneSince] = [[], false];
          continue;
        }
        try {
          await next.run();
          forget(next);
          undoneSince ||= failed.length > 0;
        } catch (error) {
          if (!(error instanceof TemporalFailure)) throw error;
          failed.push({ compensation: next, error });
        }
      }
    },
  };
}
