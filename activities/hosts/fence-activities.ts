import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { WORKER_HOST } from '../../workflows/contracts/names.js';
import type { Hosts } from './hosts.js';

/** How a run takes a host over and leaves it. */
export function createFenceActivities(hosts: Hosts): Pick<FrameActivities, 'raiseFence' | 'closeFence'> {
  return {
    async raiseFence({ target, runId }) {
      return hosts.raiseFence(target, runId);
    },
    async closeFence({ target, runId, keepJournal }) {
      if (target.name !== WORKER_HOST) await hosts.closeFence(target, runId);
      await hosts.forgetJobs(target, `${runId}-`);
      if (!keepJournal) await hosts.journalForget(target, runId);
    },
  };
}
