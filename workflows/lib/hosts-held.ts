import { proxyActivities, upsertSearchAttributes } from '@temporalio/workflow';
import type { FrameActivities, LeftRun } from '../contracts/frame-activities.js';
import { hostTarget, workerHost, type HostTarget } from '../contracts/host-target.js';
import { SYSTEM_LANE, WORKER_HOST } from '../contracts/names.js';
import { placeOf, stepsOf, type Plan } from '../contracts/plan.js';
import { GuardiaHosts } from '../contracts/search-attributes.js';
import type { System } from '../contracts/system.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { taskQueueFor } from './calls.js';
import type { Inheritance } from './child-runbook.js';
import { reasonOf, type Progress } from './progress.js';

/** The hosts that a run has taken over. */
export interface HostsHeld {
  /** The run's fence numbers, by host. */
  readonly fences: ReadonlyMap<string, number>;
  /**
   * Raises the fence on every host of the plan: calls of older runs are refused there from now on, and what those left running is stopped.
   * Returns the terminated runs whose changes nobody has seen to yet, with their hosts.
   */
  takeOver(plan: Plan, system: System): Promise<Map<string, { run: LeftRun; hosts: string[] }>>;
  /** Closes the fences and tidies up. Never throws for a host that cannot be left cleanly: it becomes a note. */
  leave(options: { keepJournal: boolean }): Promise<void>;
}

export function createHostsHeld(run: {
  runId: string;
  workflowId: string;
  progress: Progress;
  inherited: Inheritance | undefined;
}): HostsHeld {
  const { runId, workflowId, progress } = run;
  const fences = new Map<string, number>(Object.entries(run.inherited?.fences ?? {}));
  const visited: { target: HostTarget; inherited: boolean }[] = [];
  return {
    fences,
    async takeOver(plan, system) {
      const lanes = [...new Set(stepsOf(plan).map(({ lane, step }) => placeOf(lane, step)))];
      const hosts = lanes.filter((lane) => lane !== SYSTEM_LANE && lane !== WORKER_HOST).sort();
      // The worker's machine serves every system at once: it has no fence, only jobs to tidy away.
      if (lanes.includes(WORKER_HOST)) visited.push({ target: workerHost, inherited: false });
      upsertSearchAttributes([{ key: GuardiaHosts, value: hosts }]);
      const unrepaired = new Map<string, { run: LeftRun; hosts: string[] }>();
      for (const host of hosts) {
        const target = hostTarget(system, host);
        const parents = fences.get(host);
        visited.push({ target, inherited: parents !== undefined });
        if (parents !== undefined) {
          await activities(target, `join on ${host}`).joinFence({ target, fence: parents, runId, workflowId });
          continue;
        }
        const fence = await activities(target, `take ${host} over`).raiseFence({ target, runId, workflowId });
        fences.set(host, fence.number);
        if (fence.left !== undefined)
          progress.note(
            `Run ${fence.left} left ${host} without ending: it was terminated.${fence.stopped.length > 0 ? ` Its jobs were stopped: ${fence.stopped.join(', ')}.` : ''}`,
          );
        for (const left of fence.unrepaired) {
          const known = unrepaired.get(left.runId);
          if (known) known.hosts.push(host);
          else unrepaired.set(left.runId, { run: left, hosts: [host] });
        }
      }
      return unrepaired;
    },
    async leave({ keepJournal }) {
      for (const { target, inherited } of visited)
        await activities(target, `leave ${target.name}`)
          .closeFence({ target, runId, keepJournal, inherited })
          .catch((error: unknown) => progress.note(`${target.name} could not be left cleanly: ${reasonOf(error)}`));
    },
  };
}

function activities(target: HostTarget, summary: string) {
  return proxyActivities<Pick<FrameActivities, 'raiseFence' | 'joinFence' | 'closeFence'>>({
    taskQueue: taskQueueFor(target),
    startToCloseTimeout: '3 minutes',
    heartbeatTimeout: HEARTBEAT_TIMEOUT,
    retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '30 seconds', maximumAttempts: 10 },
    summary,
  });
}
