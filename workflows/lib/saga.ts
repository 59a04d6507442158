import { TemporalFailure } from '@temporalio/common';
import type { Step } from '../contracts/plan.js';

/** The undo of one step, registered before the step runs. */
export interface Compensation {
  step: Step;
  /** The lane that it runs in. */
  on: string;
  run: () => Promise<void>;
}

export interface RollbackReport {
  undone: string[];
  failed: { step: string; title: string; on: string; reason: string }[];
}

/** What has to be undone if the run fails, newest last. */
export interface Saga {
  register(compensation: Compensation): void;
  /** The point of no return is behind the run: nothing registered so far will be undone. */
  commit(at: Step): void;
  /** The point of no return, once it is behind the run: everything up to this step stands. */
  readonly committed: Step | undefined;
  readonly size: number;
  /**
   * Undoes everything, newest first; goes on past an undo that fails. Call it in a non-cancellable scope.
   * Throws what is no failure but a mistake in guardia: the run waits, with the rest still to be undone.
   */
  compensate(reasonOf: (error: unknown) => string): Promise<RollbackReport>;
}

export function createSaga(): Saga {
  let registered: Compensation[] = [];
  let committed: Step | undefined;
  return {
    register: (compensation) => void registered.push(compensation),
    commit(at) {
      registered = [];
      committed = at;
    },
    get committed() {
      return committed;
    },
    get size() {
      return registered.length;
    },
    async compensate(reasonOf) {
      const report: RollbackReport = { undone: [], failed: [] };
      for (let next = registered.pop(); next; next = registered.pop()) {
        try {
          await next.run();
          report.undone.push(next.step.id);
        } catch (error) {
          if (!(error instanceof TemporalFailure)) throw error;
          report.failed.push({ step: next.step.id, title: next.step.title, on: next.on, reason: reasonOf(error) });
        }
      }
      return report;
    },
  };
}
