import { activityInfo, cancellationSignal } from '@temporalio/activity';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import type { Notice } from '../../workflows/contracts/notice.js';
import { loadSystem } from '../inventory/load.js';
import type { InventoryLocations } from '../inventory/locations.js';
import type { Secrets } from '../secrets/resolve.js';
import { runPageUrl } from '../temporal/run-page.js';
import { sendNotice } from './send-notice.js';

/** Tells people. `webUi`: address of Temporal's Web UI, for the links in notices. */
export function createNotifyActivities({
  secrets,
  locations,
  webUi,
}: {
  secrets: Secrets;
  locations: InventoryLocations;
  webUi?: string | undefined;
}): Pick<FrameActivities, 'sendNotice'> {
  return {
    /** Idempotent by (target, notice.dedupeKey). */
    sendNotice: async ({ system, notice, only }) =>
      sendNotice(typeof system === 'string' ? loadSystem(system, locations).system : system, linked(notice, webUi), {
        secrets,
        signal: cancellationSignal(),
        ...(only ? { only } : {}),
      }),
  };
}

/** A workflow does not know the address of the Web UI: the worker adds it. */
function linked(notice: Notice, webUi: string | undefined): Notice {
  const { workflowId, runId } = notice;
  if (webUi === undefined || webUi === '' || notice.link !== undefined || workflowId === undefined) return notice;
  const namespace = activityInfo().namespace;
  return { ...notice, link: runPageUrl(webUi.replace(/\/+$/, ''), namespace, { workflowId, runId }) };
}
