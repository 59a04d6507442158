import { getSmallObject, listObjects, type ListedObject } from '../activities/object-store/objects.js';
import type { Bucket } from '../activities/object-store/object-store.js';
import { listSystems } from '../activities/inventory/load.js';
import { inventoryLocations } from '../activities/inventory/locations.js';
import { recordsOfWorkflow, RunRecord } from '../workflows/contracts/run-record.js';
import type { StoreReference } from '../workflows/contracts/store-reference.js';
import { parseRunWorkflowId } from '../workflows/contracts/workflow-ids.js';
import { exitCodeOfEnd, runTitle, type RunEnd, type RunView } from './run-view.js';
import { withSystemStore } from './store-access.js';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * A run as its record in the object store tells it: for runs that Temporal does not know any more. `reference` is a workflow
 * id, or a runbook with its system for the newest record. Undefined when no store that can be read from here has it.
 */
export async function archivedRun(env: Environment, reference: string, system?: string): Promise<RunView | undefined> {
  const named = system ?? parseRunWorkflowId(reference)?.system;
  for (const name of named === undefined ? knownSystems(env) : [named]) {
    try {
      const found = await withSystemStore(env, name, (bucket, store) =>
        newestRecord(bucket, prefixOf(store, reference, system)),
      );
      if (found !== undefined) return viewOf(found);
    } catch (error) {
      // One store that is not filled in must not hide the others; the one that was named may say why.
      if (named !== undefined) throw error;
    }
  }
  return undefined;
}

function knownSystems(env: Environment): string[] {
  try {
    return listSystems(inventoryLocations(env));
  } catch {
    return [];
  }
}

function prefixOf(store: StoreReference, reference: string, system: string | undefined): string {
  if (system === undefined) return recordsOfWorkflow(store.prefix, store.system, reference);
  // The beginning of `RUNBOOK/SYSTEM/...` as a key.
  return recordsOfWorkflow(store.prefix, store.system, `${reference}/${system}/`).replace(/\/$/, '');
}

/** The end of the newest run below a prefix; its plan where it never wrote its end. */
async function newestRecord(bucket: Bucket, prefix: string): Promise<RunRecord | undefined> {
  const newest = new Map<string, ListedObject>();
  for await (const object of listObjects(bucket, prefix)) {
    const entry = /\/(plan|end)\.json$/.exec(object.key)?.[1];
    const before = entry === undefined ? undefined : newest.get(entry);
    if (entry !== undefined && (before === undefined || object.modifiedAt > before.modifiedAt))
      newest.set(entry, object);
  }
  const [plan, end] = [newest.get('plan'), newest.get('end')];
  const directory = (object: ListedObject): string => object.key.slice(0, object.key.lastIndexOf('/'));
  // A newer run that has a plan only was cut off: that is what there is to tell.
  const key =
    plan !== undefined && end !== undefined && directory(plan) !== directory(end) && plan.modifiedAt > end.modifiedAt
      ? plan.key
      : (end ?? plan)?.key;
  if (key === undefined) return undefined;
  const content = await getSmallObject(bucket, key);
  return content === undefined ? undefined : RunRecord.parse(JSON.parse(content.toString('utf8')));
}

function viewOf({ report }: RunRecord): RunView {
  const end: RunEnd = report.end ?? 'terminated';
  const title = runTitle(report);
  return {
    workflowId: report.workflowId,
    runId: report.runId,
    runbook: report.runbook,
    system: report.system,
    open: false,
    startedAt: report.startedAt,
    ...(report.endedAt === undefined ? {} : { endedAt: report.endedAt }),
    end,
    message:
      report.message ??
      `${title} wrote no end into its record: it was terminated, or its Temporal was lost. What it left on its hosts is told by the next run there`,
    exitCode: exitCodeOfEnd(end),
    source: 'record',
    report,
    activities: [],
  };
}
