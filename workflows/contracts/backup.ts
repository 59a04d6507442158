import { z } from 'zod';
import { stepsOf, type Plan } from './plan.js';
import { runInput } from './run.js';

export const BackupInput = z.strictObject({
  ...runInput,
  acceptAnomaly: z
    .boolean()
    .default(false)
    .describe(
      'Keep a dump that does not look like the ones before it (far smaller, another cluster); the reasons stay in the report',
    ),
  only: z
    .enum(['configuration'])
    .optional()
    .describe('Save the configuration and no database: what a run that changed hosts ends with'),
});
export type BackupInput = z.infer<typeof BackupInput>;

/** The databases that a plan of a backup saves, by their names in the inventory: none where it is about the configuration only. Pure. */
export const databasesSavedBy = (plan: Plan): string[] =>
  stepsOf(plan).flatMap(({ step: { do: call } }) =>
    call.activity === 'dumpDatabase' && typeof call.with['name'] === 'string' ? [call.with['name']] : [],
  );

/** Whether a backup that saved these databases saved all that the system has. Pure. */
export const savesAllDatabases = (databases: readonly string[], saved: readonly string[]): boolean =>
  databases.every((name) => saved.includes(name));
