import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../workflows/contracts/task-queues.js';
import type { TemporalAccess } from './temporal-access.js';
import { millisecondsOf } from './protobuf-time.js';

/** A worker asks the server at least once a minute: who has not for longer than this is gone. Seconds. */
const GONE_SECONDS = 90;

export interface QueueWorkers {
  taskQueue: string;
  /** Workflow tasks (the runs themselves) or activity tasks (the work on hosts). */
  kind: 'workflow' | 'activity';
  workers: { identity: string; lastSeen: string }[];
}

/** TaskQueueType of Temporal's API. */
const QUEUE_TYPE = { workflow: 1, activity: 2 } as const;

/** The workers that ask for tasks on the queues that runs of these sites need. A worker that was killed is seen for 90 s. */
export async function workersSeen(
  access: TemporalAccess,
  sites: readonly string[] = [DEFAULT_SITE],
): Promise<QueueWorkers[]> {
  const queues: { taskQueue: string; kind: QueueWorkers['kind'] }[] = [
    { taskQueue: WORKFLOW_TASK_QUEUE, kind: 'workflow' },
    ...[...new Set(sites)].map((site) => ({ taskQueue: taskQueueOfSite(site), kind: 'activity' as const })),
  ];
  const now = Date.now();
  return Promise.all(
    queues.map(async ({ taskQueue, kind }) => {
      const { pollers } = await access.client.workflowService.describeTaskQueue({
        namespace: access.target.namespace,
        taskQueue: { name: taskQueue },
        taskQueueType: QUEUE_TYPE[kind],
      });
      const workers = (pollers ?? [])
        .map(({ identity, lastAccessTime }) => ({ identity: identity ?? '', at: millisecondsOf(lastAccessTime) ?? 0 }))
        .filter(({ at }) => now - at < GONE_SECONDS * 1000)
        .map(({ identity, at }) => ({ identity, lastSeen: new Date(at).toISOString() }));
      return { taskQueue, kind, workers };
    }),
  );
}

/** One sentence when some queue has no worker, and what to do; undefined when each has one. */
export function withoutWorker(queues: readonly QueueWorkers[]): string | undefined {
  const empty = queues.filter(({ workers }) => workers.length === 0).map(({ taskQueue }) => taskQueue);
  if (empty.length === 0) return undefined;
  return `no worker asks for tasks of ${empty.join(' and ')}: start one with \`guardia dev\`, or the guardia worker's service`;
}
