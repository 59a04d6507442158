import { Name } from './names.js';

/** Workflows of every runbook run here: they need no access to any host. */
export const WORKFLOW_TASK_QUEUE = 'guardia';

/** The site of hosts that say nothing else. */
export const DEFAULT_SITE = 'main';

/**
 * The task queue for activities that touch the hosts of a site. A worker inside a closed network serves the queue of its
 * own site and dials out only.
 * Throws TypeError for a name that the inventory would have refused.
 */
export function taskQueueOfSite(site: string): string {
  if (!Name.safeParse(site).success) throw new TypeError(`not a site name: ${JSON.stringify(site)}`);
  return `${WORKFLOW_TASK_QUEUE}-${site}`;
}

/** The site whose activities this task queue carries; undefined for any other queue. Pure. */
export function siteOfTaskQueue(queue: string): string | undefined {
  const prefix = `${WORKFLOW_TASK_QUEUE}-`;
  return queue.startsWith(prefix) ? queue.slice(prefix.length) : undefined;
}
