import { TemporalFailure } from '@temporalio/common';
import type { Lane, Step } from '../contracts/plan.js';

/** The undo of one step, registered before the step runs. */
export interface Compensation {
  step: Step;
  /** The lane that it runs in. */
  lane: Lane;
  /** Where it acts. */
  on: string;
  run: () => Promise<void>;
}

/** An undo that failed, and why. */
export interface FailedUndo {
  compensation: Compensation;
  reason: string;
  /** Undos of earlier steps of its lane that were done without it: where it is done after all, they have to be done again, in this order. */
  older: Compensation[];
}

export interface RollbackReport {
  undone: string[];
  failed: FailedUndo[];
}

/** What has to be undone if the run fails, newest last. */
export interface Saga {
  register(compensation: Compensation): void;
  /** The point of no return is behind the run: nothing registered so far will be undone. */
  commit(at: Step): void;
  /** A person wants everything to stay as it is: nothing will be undone. */
  keep(): void;
  /** The point of no return, once it is behind the run: everything up to this step stands. */
  readonly committed: Step | undefined;
  readonly size: number;
  /** Tells what is registered from now on. */
  mark(): number;
  /**
   * Undoes everything, or what one lane has registered since a mark, newest first; goes on past an undo that fails. Call it in a
   * non-cancellable scope. Throws what is no failure but a mistake in guardia: the run waits, with the rest still to be undone.
   */
  compensate(reasonOf: (error: unknown) => string, only?: { since: number; lane: Lane }): Promise<RollbackReport>;
}

export function createSaga(): Saga {
  let registered: (Compensation & { number: number })[] = [];
  let count = 0;
  let committed: Step | undefined;
  return {
    register: (compensation) => void registered.push({ ...compensation, number: count++ }),
    commit(at) {
      registered = [];
      committed = at;
    },
    keep: () => void (registered = []),
    get committed() {
      return committed;
    },
    get size() {
      return registered.length;
    },
    mark: () => count,
    async compensate(reasonOf, only) {
      const report: RollbackReport = { undone: [], failed: [] };
      const wanted = (one: Compensation & { number: number }): boolean =>
        only === undefined || (one.lane === only.lane && one.number >= only.since);
      for (;;) {
        const next = registered.findLast(wanted);
        if (!next) return report;
        registered = registered.filter((one) => one !== next);
        try {
          await next.run();
          report.undone.push(next.step.id);
          for (const { compensation, older } of report.failed) if (compensation.lane === next.lane) older.push(next);
        } catch (error) {
          if (!(error instanceof TemporalFailure)) throw error;
          report.failed.push({ compensation: next, reason: reasonOf(error), older: [] });
        }
      }
    },
  };
}
