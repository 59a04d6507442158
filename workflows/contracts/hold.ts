import { defineSignal, defineUpdate } from '@temporalio/workflow';
import { z } from 'zod';

/** What a person can say to a run that holds. */
export const recoverChoices = {
  retry: 'do it again',
  skip: 'go on without it: it was done by hand, or is not needed',
  rollback: 'undo what can be undone, and end the run',
  done: 'it was undone by hand',
  accept: 'leave it as it is, and end the run',
} as const;
export type RecoverChoice = keyof typeof recoverChoices;
export const RecoverChoice = z.enum(Object.keys(recoverChoices) as [RecoverChoice, ...RecoverChoice[]]);

/** Where a run holds for a person. */
export const Hold = z.object({
  id: z.string().describe('The step that it holds at, "undo-" and the step whose undo it is, or the gate'),
  kind: z.enum(['step failed', 'undo failed', 'point of no return', 'not as before', 'gate timed out']),
  title: z.string(),
  on: z.string(),
  reason: z.string().describe('What happened'),
  atStake: z.array(z.string()).describe('What is lost by the one or the other choice, as far as it is known'),
  byHand: z.array(z.string()).default([]).describe('What is left for a person to do by hand, if the run ends here'),
  choices: z.array(RecoverChoice),
  since: z.string(),
});
export type Hold = z.infer<typeof Hold>;

/** What a choice means at a hold, for people. Pure. */
export const choiceText = (choice: RecoverChoice, { kind }: Pick<Hold, 'kind'>): string =>
  kind === 'undo failed' && choice === 'skip'
    ? 'leave this one as it is, and undo what waits for it; it stays in the report'
    : recoverChoices[choice];

/** What somebody says to a run that holds: the argument of the update and of the signal `recover`. */
export const Recovery = z.strictObject({
  hold: z.string().optional().describe('Which of the holds; may be left out while there is one'),
  decision: RecoverChoice.describe(
    Object.entries(recoverChoices)
      .map(([choice, means]) => `${choice}: ${means}`)
      .join('; '),
  ),
  reason: z.string().trim().min(1).max(2000).describe('Why; kept in the record'),
  by: z.string().min(1).max(200).default('unknown').describe('Who says so; self-declared'),
});
export type Recovery = z.infer<typeof Recovery>;

/** A hold that somebody has ended. */
export const TakenRecovery = Hold.pick({ id: true, kind: true, title: true, on: true, reason: true }).extend({
  decision: RecoverChoice,
  why: z.string(),
  by: z.string(),
  at: z.string(),
});
export type TakenRecovery = z.infer<typeof TakenRecovery>;

/** Answers with the hold that it ended; refused with the choices otherwise. */
export const recoverUpdate = defineUpdate<TakenRecovery, [z.input<typeof Recovery>]>('recover');
/** The same for who can only send signals: a refusal shows in the run's details. */
export const recoverSignal = defineSignal<[z.input<typeof Recovery>]>('recover');
