import { z } from 'zod';
import { SecretReference } from './secret-reference.js';
import { settable } from './unset.js';

const Minutes = z.int().min(1).max(100_000);

/** How `guardia watcher` looks after a system. */
export const Watching = z.strictObject({
  heartbeat: settable(SecretReference)
    .optional()
    .describe(
      'URL, which is a secret, of a dead-man switch outside (healthchecks.io and the like): asked for after every good round, with /fail behind it after another one',
    ),
  missedAfterMinutes: Minutes.default(30).describe('Minutes after its time at which a scheduled run counts as missed'),
  overdueAfterMinutes: z
    .record(z.string().regex(/^[a-z][a-z0-9-]*$/, 'the name of a runbook'), Minutes)
    .default({})
    .describe(
      'Minutes of work, by runbook, after which a run is overdue. Default: three times the longest of its last ten good runs, at least 15; 240 while there are fewer than three',
    ),
  waitingAfterMinutes: Minutes.default(1440).describe(
    'Minutes that a run may wait for a person or a lock before it is overdue; they do not count as work',
  ),
});
export type Watching = z.infer<typeof Watching>;
