import { condition } from '@temporalio/workflow';
import type { EscalationTier } from '../contracts/system.js';

/** How a waiting run tells people. Never throws, never lasts. */
export interface Telling {
  /** Tells every tier up to this one. */
  tell: (event: 'opened' | 'reminder' | 'escalation', tier: number) => void;
  /** Tells those who were told that somebody is at it. */
  takenUp: (by: string, tier: number) => void;
  /** Tells those who were told that it is over, and how. */
  over: (outcome: string, tier: number) => void;
}

/** Whom a waiting run tells, and when. */
export interface Asking {
  /** What the Web UI shows for the timer. */
  summary: string;
  /** The ladder of the system: a tier is told so many minutes after the first notice. */
  tiers: readonly EscalationTier[];
  /** Seconds between the first reminders to those who were told: `remindersBy`. */
  remindEverySeconds: number;
  /** After so many seconds the question is closed; never without it. */
  closesAfterSeconds?: number;
  telling: Telling;
  /** Who has answered last, where one answer is not enough. */
  takenUpBy?: () => string | undefined;
  /** How it ended, for those who were told. */
  outcome: () => string;
}

/** So many reminders come at the pace that was asked for. */
const AT_PACE = 12;
const LONGEST_PAUSE_SECONDS = 86_400;

/**
 * How many reminders are due so many seconds after the first notice, and when the next one is. After the first twelve each pause is twice as long as the
 * one before, up to a day: a run may wait for months, and Temporal ends one whose history gets too long (51,200 events; a reminder makes about eleven). Pure.
 */
export function remindersBy(seconds: number, everySeconds: number): { due: number; next: number } {
  let pause = everySeconds;
  let due = 0;
  let next = pause;
  while (next <= seconds) {
    due += 1;
    if (due >= AT_PACE) pause = Math.max(everySeconds, Math.min(2 * pause, LONGEST_PAUSE_SECONDS));
    next += pause;
  }
  return { due, next };
}

/**
 * Waits on durable timers until people have decided, and tells them meanwhile: the first tier at once, the others after their delay,
 * all that were told again and again. False when the time is over. Throws when the run is cancelled.
 */
export async function waitForPeople(decided: () => boolean, asking: Asking): Promise<boolean> {
  const { tell, over } = asking.telling;
  const opened = Date.now();
  const tiers = [...asking.tiers].sort((a, b) => a.afterMinutes - b.afterMinutes);
  let told = 0;
  let reminders = 0;
  let heardOf: string | undefined;
  const isNew = (by: string | undefined): by is string => by !== undefined && by !== heardOf;
  try {
    return await wait();
  } finally {
    over(asking.outcome(), told);
  }

  async function wait(): Promise<boolean> {
    for (;;) {
      const seconds = (Date.now() - opened) / 1000;
      if (asking.closesAfterSeconds !== undefined && seconds >= asking.closesAfterSeconds) return decided();
      const due = tiers.filter(({ afterMinutes }) => afterMinutes * 60 <= seconds);
      const highest = Math.max(...due.map(({ tier }) => tier), 1);
      const { due: reminder, next: nextReminder } = remindersBy(seconds, asking.remindEverySeconds);
      if (told === 0) tell('opened', highest);
      else if (highest > told) tell('escalation', highest);
      else if (reminder > reminders) tell('reminder', highest);
      told = highest;
      reminders = reminder;
      const by = asking.takenUpBy?.();
      if (isNew(by)) {
        heardOf = by;
        asking.telling.takenUp(by, told);
      }

      const next = Math.min(
        asking.closesAfterSeconds ?? Infinity,
        nextReminder,
        ...tiers.map(({ afterMinutes }) => afterMinutes * 60).filter((at) => at > seconds),
      );
      const left = Math.max(Math.ceil(next * 1000 - (Date.now() - opened)), 1);
      await condition(() => decided() || isNew(asking.takenUpBy?.()), left, { summary: asking.summary });
      if (decided()) return true;
    }
  }
}
