import type { Step } from '../contracts/plan.js';

/** The undo of one step, registered before the step runs. */
export interface Compensation {
  step: Step;
  run: () => Promise<void>;
}

export interface RollbackReport {
  undone: string[];
  failed: { step: string; title: string; reason: string }[];
}

/** What has to be undone if the run fails, newest last. */
export interface Saga {
  register(compensation: Compensation): void;
  /** The point of no return: nothing registered so far will be undone. Returns the steps that stand. */
  commit(): Step[];
  readonly size: number;
  /** Undoes everything, newest first; goes on past an undo that fails. Call it in a non-cancellable scope. */
  compensate(reasonOf: (error: unknown) => string): Promise<RollbackReport>;
}

export function createSaga(): Saga {
  let registered: Compensation[] = [];
  return {
    register: (compensation) => void registered.push(compensation),
    commit() {
      const standing = registered.map(({ step }) => step);
      registered = [];
      return standing;
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
          report.failed.push({ step: next.step.id, title: next.step.title, reason: reasonOf(error) });
        }
      }
      return report;
    },
  };
}
