import { defineQuery, defineSignal } from '@temporalio/workflow';
import { z } from 'zod';
import { Name, SystemName } from './names.js';

/** Who holds a lock. */
export const LockHolder = z.strictObject({
  system: SystemName,
  host: Name.optional().describe('The host that is held; the system itself without it'),
  workflowId: z.string(),
  runId: z.string(),
  runbook: z.string(),
  requester: z.string(),
  since: z.string().describe('ISO 8601'),
});
export type LockHolder = z.infer<typeof LockHolder>;

export const releaseSignal = defineSignal<[{ runId: string }]>('release');
export const holderQuery = defineQuery<LockHolder>('holder');
