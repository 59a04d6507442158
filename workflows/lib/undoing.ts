import { TemporalFailure } from '@temporalio/common';
import { sleep } from '@temporalio/workflow';
import { isFailure } from '../contracts/errors.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { PlannedRun } from '../contracts/planning.js';
import { undoText } from '../contracts/undo-text.js';
import type { Holds } from './holds.js';
import type { Observing } from './observing.js';
import { applicationFailureIn, reasonOf, type Progress } from './progress.js';
import type { Compensation, FailedUndo, Saga } from './saga.js';

/** How often, and after how many seconds again, a run looks whether all is as before its undo, before it holds for a person. */
const LOOKS_AFTER_UNDO = 5;
const LOOK_AGAIN_SECONDS = 6;

/** The way back of a run, with a person where it does not go on by itself. To be called in a scope that cannot be cancelled. */
export interface Undoing {
  /** Undoes everything, and holds for a person where an undo fails. Fills what remains to be done by hand. */
  all(): Promise<void>;
  /** Whether something was left that could not be undone. */
  readonly incomplete: boolean;
  /** What was undone has to look as it did before: seen, not believed. What is coming up again gets a while. */
  seeThatItIsAsBefore(before: PlannedRun): Promise<void>;
}

/** `unattended`: nobody is asked; what could not be undone remains to be done by hand. */
export function createUndoing(run: {
  progress: Progress;
  observing: Observing;
  saga: Saga;
  holds: Holds;
  unattended: () => boolean;
}): Undoing {
  const { progress, observing, saga, holds, unattended } = run;
  let incomplete = false;
  const leave = (what: string): void => {
    incomplete = true;
    progress.status.remaining.push(what);
  };

  const undoOf = ({ step, on }: Compensation): string =>
    `undo of "${step.title}" on ${on}${'activity' in step.undo ? ` (${undoText(step.undo)})` : ''}`;
  const lineOf = ({ compensation, error }: FailedUndo): string => `${undoOf(compensation)}: ${reasonOf(error)}`;

  /** Nobody gets requests from what was left as it is: whose undo would let them in again, that is left as well. */
  const leaveClosed = ({ stage, lane, step: skipped }: Compensation): void => {
    for (const one of saga.left.filter(
      (other) => other.stage === stage && other.lane === lane && other.step.undoOpens,
    )) {
      leave(`${undoOf(one)}: left, because the undo of "${skipped.title}" was`);
      saga.forget(one);
    }
  };

  /** Asks what is to be done about one of some undos that failed, and does it; the next attempt tries what is left. */
  const decide = async (failed: readonly FailedUndo[], first: FailedUndo): Promise<void> => {
    const { compensation } = first;
    const { step, on } = compensation;
    const reason = reasonOf(first.error);
    const waiting = saga.left.filter((one) => !failed.some((other) => other.compensation === one));
    const byHand = [...failed.map(lineOf), ...waiting.map((one) => `${undoOf(one)}: waits for that`)];
    const { decision, by, why } = await holds.ask({
      // An answer to the hold of the step itself is none to this one.
      ...{ id: `undo-${step.id}`, kind: 'undo failed', title: `undo of "${step.title}"`, on, reason, byHand },
      ...{ atStake: [], choices: ['retry', 'done', 'skip', 'accept'] },
    });
    progress.note(`${by} said ${decision} at the undo of "${step.title}": ${why}`);
    if (decision === 'retry') return;
    if (decision === 'accept') {
      byHand.forEach(leave);
      return saga.keep();
    }
    if (decision === 'done') progress.step(step.id, { state: 'undone', note: `by hand: ${why}` });
    else {
      leave(lineOf(first));
      leaveClosed(compensation);
    }
    saga.forget(compensation);
  };

  return {
    get incomplete() {
      return incomplete;
    },
    async all() {
      for (;;) {
        const failed = await saga.compensate();
        // A server that nobody can take the place of waits for another one to be back: that comes first.
        const first = failed.find(({ error }) => !isFailure(applicationFailureIn(error), 'NoServerLeft')) ?? failed[0];
        if (!first) return;
        if (!unattended()) await decide(failed, first);
        else
          for (const one of failed) {
            leave(lineOf(one));
            saga.forget(one.compensation);
          }
      }
    },
    async seeThatItIsAsBefore(before) {
      for (let looks = 1; ; looks++) {
        let reason: string;
        try {
          const changed = await observing.changedSince(before);
          if (changed.length === 0) return;
          reason = `everything was undone, and yet it does not look as before: ${changed.join(', ')}`;
        } catch (error) {
          if (!(error instanceof TemporalFailure)) throw error;
          reason = `everything was undone, but it cannot be seen: ${reasonOf(error)}`;
        }
        if (looks < LOOKS_AFTER_UNDO) {
          await sleep(`${LOOK_AGAIN_SECONDS} seconds`, { summary: 'look again whether all is as before' });
          continue;
        }
        const { decision, by, why } = await holds.ask({
          ...{
            id: 'as-before',
            kind: 'not as before',
            title: 'look whether all is as before',
            on: SYSTEM_LANE,
            reason,
          },
          ...{ atStake: [], byHand: [reason], choices: ['retry', 'done', 'accept'] },
        });
        progress.note(`${by} said ${decision} about what is not as before: ${why}`);
        if (decision === 'done') return;
        if (decision === 'accept') return leave(reason);
      }
    },
  };
}
