import { z } from 'zod';
import type { DecisionPlace } from './gate.js';

/** Proves who asks for a run. The command makes it, with the SSH key of the requester. */
export const RequesterProof = z.strictObject({
  at: z.iso.datetime().describe('When it was signed. ISO 8601, UTC'),
  signature: z.string().max(8192).describe('`ssh-keygen -Y sign -n guardia-request` over the text of the request'),
});
export type RequesterProof = z.infer<typeof RequesterProof>;

/** Namespace of the signatures: keeps a signature made for something else from counting here. */
export const REQUEST_NAMESPACE = 'guardia-request';

/** A signature counts for a run that starts within so many minutes of it: one that was kept cannot be used for another start. */
export const PROOF_MINUTES = 15;

/** What is asked for: a start has no run id yet. */
export interface RequestPlace extends Pick<DecisionPlace, 'namespace' | 'workflowId'> {
  runbook: string;
}

/** The text that a requester signs. `input` is the canonical JSON of the run's input without the proof. Pure. */
export function requestText(place: RequestPlace, input: string, at: string): string {
  return `${JSON.stringify(['guardia-request-1', place.namespace, place.workflowId, place.runbook, input, at])}\n`;
}

/** The name in the system's `approvers` that a requester goes by: `ana` of `ana@laptop`. Pure. */
export const nameOfRequester = (requester: string): string => requester.split('@')[0] ?? requester;
