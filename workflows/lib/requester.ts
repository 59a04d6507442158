import { TemporalFailure } from '@temporalio/common';
import { isCancellation, proxyActivities } from '@temporalio/workflow';
import type { FrameActivities } from '../contracts/frame-activities.js';
import { nameOfRequester, PROOF_MINUTES, type RequestPlace } from '../contracts/requester.js';
import type { RunInput } from '../contracts/run.js';
import type { System } from '../contracts/system.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../contracts/task-queues.js';
import { isUnset } from '../contracts/unset.js';
import { isFailure } from '../contracts/errors.js';
import { applicationFailureIn, reasonOf } from './progress.js';

/**
 * Why it is not proved who asked for the run; undefined when it is. What the requester calls himself is a claim, as it comes from the Web UI
 * and from schedules; a signature of the start is a proof.
 */
export async function whyUnproved(run: {
  place: RequestPlace;
  runId: string;
  input: RunInput;
  /** The input as it was sent, which is what was signed. */
  raw: unknown;
  startedAt: Date;
  system: System;
}): Promise<string | undefined> {
  const { requester, requesterProof: proof } = run.input;
  if (!proof) return 'it was started without a signature';
  const name = nameOfRequester(requester);
  const signingKey = run.system.approvers[name]?.signingKey;
  if (signingKey === undefined || isUnset(signingKey)) return `the inventory has no signing key of ${name}`;
  if (Math.abs(run.startedAt.getTime() - Date.parse(proof.at)) > PROOF_MINUTES * 60_000)
    return `its start was signed at ${proof.at}, and it was started at ${run.startedAt.toISOString()}`;
  const { verifyRequest } = proxyActivities<Pick<FrameActivities, 'verifyRequest'>>({
    taskQueue: taskQueueOfSite(DEFAULT_SITE),
    startToCloseTimeout: '30 seconds',
    retry: { initialInterval: '1 second', maximumAttempts: 5 },
    summary: 'verify who asked for the run',
  });
  try {
    const input = run.raw as Record<string, unknown>;
    await verifyRequest({ place: run.place, runId: run.runId, input, proof, name, signingKey });
    return undefined;
  } catch (error) {
    if (!(error instanceof TemporalFailure) || isCancellation(error)) throw error;
    if (isFailure(applicationFailureIn(error), 'DecisionRefused')) return reasonOf(error);
    // One more person is asked: no reason to end a run.
    return `it could not be verified: ${reasonOf(error)}`;
  }
}
