import { TemporalFailure } from '@temporalio/common';
import { isCancellation, proxyActivities, upsertSearchAttributes } from '@temporalio/workflow';
import type { FrameActivities, LeftRun } from '../contracts/frame-activities.js';
import { hostTarget, workerHost, type HostTarget } from '../contracts/host-target.js';
import { SYSTEM_LANE, WORKER_HOST } from '../contracts/names.js';
import { placeOf, stepsOf, type Plan } from '../contracts/plan.js';
import { GuardiaHosts } from '../contracts/search-attributes.js';
import type { System } from '../contracts/system.js';
import { unsetNeeded } from '../contracts/unset.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { taskQueueFor } from './calls.js';
import type { Inheritance } from './child-runbook.js';
import { reasonOf, type Progress } from './progress.js';

/** The hosts that a run has taken over. */
export interface HostsHeld {
  /** The run's fence numbers, by host. */
  readonly fences: ReadonlyMap<string, number>;
  /**
   * Raises the fence on every host of the system: calls of older runs are refused there from now on, and what those left running is stopped. A host
   * that the plan has no step for may be away: that is a note. Returns the terminated runs whose changes nobody has seen to yet, with their hosts.
   */
  takeOver(plan: Plan, system: System): Promise<Map<string, { run: LeftRun; hosts: string[] }>>;
  /** Closes the fences and tidies up. Never throws for a host that cannot be left cleanly: it becomes a note. */
  leave(options: Leaving): Promise<void>;
}

export interface Leaving {
  keepJournal: boolean;
  /** The run only asks people once more, without locks: it may take the hosts over again. */
  again?: boolean;
}

export function createHostsHeld(run: {
  runId: string;
  workflowId: string;
  progress: Progress;
  inherited: Inheritance | undefined;
}): HostsHeld {
  const { runId, workflowId, progress } = run;
  const fences = new Map<string, number>(Object.entries(run.inherited?.fences ?? {}));
  const visited: { target: HostTarget; inherited: boolean; patience?: Patience }[] = [];
  return {
    fences,
    async takeOver(plan, system) {
      const lanes = [...new Set(stepsOf(plan).map(({ lane, step }) => placeOf(lane, step)))];
      const hosts = lanes.filter((lane) => lane !== SYSTEM_LANE && lane !== WORKER_HOST).sort();
      // The worker's machine serves every system at once: it has no fence, only jobs to tidy away.
      if (lanes.includes(WORKER_HOST)) visited.push({ target: workerHost, inherited: false });
      upsertSearchAttributes([{ key: GuardiaHosts, value: hosts }]);
      const unrepaired = new Map<string, { run: LeftRun; hosts: string[] }>();

      const raise = async (host: string, patience: Patience): Promise<void> => {
        const target = hostTarget(system, host);
        visited.push({ target, inherited: false, patience });
        const fence = await activities(target, `take ${host} over`, patience).raiseFence({ target, runId, workflowId });
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
      };
      const join = async (host: string, fence: number): Promise<void> => {
        const target = hostTarget(system, host);
        visited.push({ target, inherited: true });
        await activities(target, `join on ${host}`).joinFence({ target, fence, runId, workflowId });
      };
      /** The locks are those of the whole system: nothing of an older run is to go on anywhere in it. */
      const raiseElsewhere = async (host: string): Promise<void> => {
        try {
          await raise(host, 'brief');
        } catch (error) {
          if (!(error instanceof TemporalFailure) || isCancellation(error)) throw error;
          visited.splice(0, visited.length, ...visited.filter(({ target }) => target.name !== host));
          progress.note(`What a terminated run may have left at work on ${host} goes on: ${reasonOf(error)}`);
        }
      };

      const others = Object.entries(system.hosts).flatMap(([host, { connection }]) => {
        const way = [host, ...(connection === 'local' || connection.jump === undefined ? [] : [connection.jump])];
        const open = unsetNeeded(
          system,
          way.map((one) => `hosts.${one}.connection`),
        );
        return hosts.includes(host) || open.length > 0 ? [] : [host];
      });
      // All come to rest first: a host that is left has to be taken over no more after that.
      const taken = await Promise.allSettled([
        ...hosts.map((host) => {
          const parents = run.inherited?.fences[host];
          return parents === undefined ? raise(host, 'patient') : join(host, parents);
        }),
        ...(run.inherited ? [] : others.sort().map(raiseElsewhere)),
      ]);
      const failed = taken.find((one) => one.status === 'rejected');
      if (failed) throw failed.reason;
      return unrepaired;
    },
    async leave({ keepJournal, again = false }) {
      const leaveOne = async ({ target, inherited, patience }: (typeof visited)[number]): Promise<void> => {
        if (!inherited) fences.delete(target.name);
        await activities(target, `leave ${target.name}`, patience)
          .closeFence({ target, runId, keepJournal, inherited, again })
          .catch((error: unknown) => progress.note(`${target.name} could not be left cleanly: ${reasonOf(error)}`));
      };
      await Promise.all(visited.splice(0).map(leaveOne));
    },
  };
}

/** `brief`: for a host that the run can do without. */
type Patience = 'patient' | 'brief';

function activities(target: HostTarget, summary: string, patience: Patience = 'patient') {
  return proxyActivities<Pick<FrameActivities, 'raiseFence' | 'joinFence' | 'closeFence'>>({
    taskQueue: taskQueueFor(target),
    startToCloseTimeout: '3 minutes',
    heartbeatTimeout: HEARTBEAT_TIMEOUT,
    retry: {
      initialInterval: '1 second',
      backoffCoefficient: 2,
      maximumInterval: '30 seconds',
      maximumAttempts: patience === 'brief' ? 2 : 10,
    },
    summary,
  });
}
