import { cancellationSignal, heartbeat } from '@temporalio/activity';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { holderQuery } from '../../workflows/contracts/lock.js';

/** Whether a run is still under way; one that the server does not know any more is not. */
export async function isOpen(client: Client, run: { workflowId: string; runId: string }): Promise<boolean> {
  try {
    return (await client.workflow.getHandle(run.workflowId, run.runId).describe()).status.name === 'RUNNING';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** The run ids of all runs that Temporal knows of a workflow id, by its list of runs. */
export async function runsOf(client: Client, workflowId: string): Promise<string[]> {
  const runs: string[] = [];
  for await (const { runId } of client.workflow.list({ query: `WorkflowId = ${JSON.stringify(workflowId)}` }))
    runs.push(runId);
  return runs;
}

/** How a run that wants a lock sees who holds it and waits for the end of it. */
export function createLockActivities(client: Client): Pick<FrameActivities, 'describeLock' | 'awaitLock'> {
  return {
    async describeLock({ workflowId }) {
      try {
        const handle = client.workflow.getHandle(workflowId);
        const { status } = await handle.describe();
        return status.name === 'RUNNING' ? await handle.query(holderQuery) : undefined;
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return undefined;
        throw error;
      }
    },
    async awaitLock({ workflowId, seconds }) {
      const beat = setInterval(() => heartbeat(), 5_000);
      const deadline = AbortSignal.timeout(seconds * 1000);
      const stop = AbortSignal.any([cancellationSignal(), deadline]);
      try {
        const ended = client.withAbortSignal(stop, () => client.workflow.getHandle(workflowId).result());
        await ended.catch(() => undefined); // however it ended: it is free, or the time is over
        cancellationSignal().throwIfAborted();
      } finally {
        clearInterval(beat);
      }
    },
  };
}
