import { CancellationScope, condition, setCurrentDetails, setHandler } from '@temporalio/workflow';
import { holderQuery, LockHolder, releaseSignal } from '../contracts/lock.js';
import { parseInput } from '../lib/input.js';

/**
 * The lock of a system or of one of its hosts: this workflow, running, under the id `lock/SYSTEM` or `lock/SYSTEM/HOST`. Its holder starts it as a child with parent close
 * policy TERMINATE: it cannot outlive its holder, and it cannot expire under it. It ends when its holder releases it.
 */
export async function lock(input: unknown): Promise<void> {
  const holder = parseInput(LockHolder, input, 'lock');
  let released = false;
  setHandler(holderQuery, () => holder, { description: 'Who holds this lock' });
  setHandler(
    releaseSignal,
    // Anybody can send anything from the Web UI: what is not the holder's word is ignored, and must not stop the lock.
    (said?: { runId?: unknown }) => {
      if (said?.runId === holder.runId) released = true;
    },
    { description: 'Sent by the holder when its last undo is done. Never send it by hand: cancel the holder instead' },
  );
  const what = holder.host === undefined ? holder.system : `host ${holder.host} of ${holder.system}`;
  setCurrentDetails(
    `**${what}** is held by run \`${holder.workflowId}\` (${holder.runbook}, for ${holder.requester}) since ${holder.since}.\n\nTo free it, cancel that run: it cleans up and releases the lock.`,
  );
  // A cancel of the lock alone would free the system under its holder.
  await CancellationScope.nonCancellable(() => condition(() => released));
}
