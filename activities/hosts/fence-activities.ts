import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { workerHost, type HostTarget } from '../../workflows/contracts/host-target.js';
import { WORKER_HOST } from '../../workflows/contracts/names.js';
import type { Hosts } from './hosts.js';

/** How a run takes a host over and leaves it. */
export function createFenceActivities(hosts: Hosts): Pick<FrameActivities, 'raiseFence' | 'joinFence' | 'closeFence'> {
  /** Stops the jobs of a run that are still running, and removes the files of all of them. */
  const tidyJobs = async (target: HostTarget, runId: string): Promise<void> => {
    for (const { id, state } of await hosts.listJobs(target))
      if (id.startsWith(`${runId}-`) && state === 'running') await hosts.cancelJob(target, id);
    await hosts.forgetJobs(target, `${runId}-`);
  };
  return {
    async raiseFence({ target, runId, workflowId }) {
      const raised = await hosts.raiseFence(target, { runId, workflowId });
      // A run that was terminated could not tidy up. The worker's machine has no fence that would have stopped its jobs there.
      const { left, leftWith = [] } = raised;
      for (const run of left === undefined ? [] : [left, ...leftWith])
        for (const machine of [target, workerHost]) await tidyJobs(machine, run);
      return raised;
    },
    async joinFence({ target, fence, ...run }) {
      await hosts.joinFence(target, fence, run);
    },
    async closeFence({ target, runId, keepJournal, inherited, again }) {
      if (inherited) await hosts.partFence(target, runId);
      else if (target.name !== WORKER_HOST) await hosts.closeFence(target, runId, { again });
      await tidyJobs(target, runId);
      if (!keepJournal) await hosts.journalForget(target, runId);
    },
  };
}
