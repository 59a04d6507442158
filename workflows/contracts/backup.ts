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

/** Whether a plan of a backup saves databases, and not the configuration only. Pure. */
export const savesDatabases = (plan: Plan): boolean =>
  stepsOf(plan).some(({ step }) => step.do.activity === 'dumpDatabase');
