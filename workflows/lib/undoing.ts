import { TemporalFailure } from '@temporalio/common';
import { sleep } from '@temporalio/workflow';
import type { Hold } from '../contracts/hold.js';
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
  /** Undoes everything, and holds for a person at each undo that fails, first at those that failed `before`. Fills what remains to be done by hand. */
  all(before: readonly FailedUndo[]): Promise<void>;
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

  /** Why an undo has failed; undefined where it has not. */
  const attempt = async ({ run: undo }: Compensation): Promise<string | undefined> => {
    try {
      await undo();
      return undefined;
    } catch (error) {
      if (!(error instanceof TemporalFailure)) throw error;
      return reasonOf(error);
    }
  };

  const lineOf = ({ compensation: { step, on }, reason }: FailedUndo): string =>
    `undo of "${step.title}" on ${on}${'activity' in step.undo ? ` (${undoText(step.undo)})` : ''}: ${reason}`;

  /** Says whether the undo was done after all, with those of the earlier steps of its lane after it. `others` wait for their turn. */
  const settle = async (undo: FailedUndo, others: readonly FailedUndo[]): Promise<boolean> => {
    const { step, on } = undo.compensation;
    const older = undo.older.map((one) => `"${one.step.title}"`).join(', ');
    const after =
      older === '' ? '' : ` (the undo of ${older} was done without it; a retry does it once more afterwards)`;
    for (let reason = undo.reason; ;) {
      const by = unattended()
        ? undefined
        : await holds.ask({
            ...{ id: step.id, kind: 'undo failed' as const, title: `undo of "${step.title}"`, on },
            reason: `${reason}${after}`,
            byHand: [{ ...undo, reason }, ...others].map(lineOf),
            ...{ atStake: [], choices: ['retry', 'done', 'accept'] as Hold['choices'] },
          });
      if (by) progress.note(`${by.by} said ${by.decision} at the undo of "${step.title}": ${by.why}`);
      if (by?.decision === 'done') {
        progress.step(step.id, { state: 'undone', note: `by hand: ${by.why}` });
        return false;
      }
      if (by?.decision !== 'retry') {
        leave(lineOf({ ...undo, reason }));
        return false;
      }
      const failed = await attempt(undo.compensation);
      if (failed === undefined) break;
      reason = failed;
    }
    // A stop, say, that is done only now: the start that an earlier step's undo has made is behind it no more.
    for (const [index, compensation] of undo.older.entries()) {
      const reason = await attempt(compensation);
      if (reason === undefined) continue;
      if (await settle({ compensation, reason, older: undo.older.slice(index + 1) }, others)) break;
    }
    return true;
  };

  return {
    get incomplete() {
      return incomplete;
    },
    async all(before) {
      const { failed } = await saga.compensate(reasonOf);
      let decided = false;
      const all = [...before, ...failed];
      for (const [index, undo] of all.entries()) {
        // What a person has put right may have been all that was in the way of this one. Not where its retry brings others after it: those ask first.
        if (decided && undo.older.length === 0 && (await attempt(undo.compensation)) === undefined) continue;
        await settle(undo, all.slice(index + 1));
        decided = !unattended();
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
