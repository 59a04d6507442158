import { TemporalFailure } from '@temporalio/common';
import { sleep } from '@temporalio/workflow';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { PlannedRun } from '../contracts/planning.js';
import { undoText } from '../contracts/undo-text.js';
import type { Holds } from './holds.js';
import type { Observing } from './observing.js';
import { reasonOf, type Progress } from './progress.js';
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
  const lineOf = ({ compensation, reason }: FailedUndo): string => `${undoOf(compensation)}: ${reason}`;

  /** Asks what is to be done about the first of some undos that failed, and does it; the next attempt tries what is left. */
  const decide = async (failed: [FailedUndo, ...FailedUndo[]]): Promise<void> => {
    const [{ compensation, reason }] = failed;
    const { step, on } = compensation;
    const waiting = saga.left.filter((one) => !failed.some((other) => other.compensation === one));
    const byHand = [...failed.map(lineOf), ...waiting.map((one) => `${undoOf(one)}: waits for that`)];
    const { decision, by, why } = await holds.ask({
      ...{ id: step.id, kind: 'undo failed', title: `undo of "${step.title}"`, on, reason, byHand },
      ...{ atStake: [], choices: ['retry', 'done', 'skip', 'accept'] },
    });
    progress.note(`${by} said ${decision} at the undo of "${step.title}": ${why}`);
    if (decision === 'retry') return;
    if (decision === 'accept') {
      byHand.forEach(leave);
      return saga.keep();
    }
    if (decision === 'done') progress.step(step.id, { state: 'undone', note: `by hand: ${why}` });
    else leave(lineOf({ compensation, reason }));
    saga.forget(compensation);
  };

  return {
    get incomplete() {
      return incomplete;
    },
    async all() {
      for (;;) {
        const [first, ...others] = await saga.compensate(reasonOf);
        if (!first) return;
        if (!unattended()) await decide([first, ...others]);
        else
          for (const one of [first, ...others]) {
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
