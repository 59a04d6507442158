import { createHash } from 'node:crypto';
import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import {
  Durations,
  durationsKey,
  recordKeys,
  RunRecord,
  type LeftRecord,
  type RecordEntry,
} from '../../workflows/contracts/run-record.js';
import { reportMarkdown } from '../../workflows/contracts/run-report.js';
import { StoreReference, storeReference } from '../../workflows/contracts/store-reference.js';
import { withBucket } from '../object-store/open-store.js';
import type { Bucket } from '../object-store/object-store.js';
import { getSmallObject, putOnce, replaceSmallObject } from '../object-store/objects.js';
import { jobId, targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Secrets } from '../secrets/resolve.js';
import { jsonOf } from './record-json.js';

/** How much of each stream of a failed job is kept. Bytes. */
const LOG_BYTES = 8 * 1024 * 1024;
/** Of how many runs the durations of a step are kept. */
const KEPT_DURATIONS = 7;

const ObserveLeftRuns = z.object({ store: StoreReference });
const ForgetLeftRun = z.object({ run: z.string() });

interface Dependencies {
  hosts: Hosts;
  secrets: Secrets;
  /** Whether a run is still under way. */
  isOpen: (run: { workflowId: string; runId: string }) => Promise<boolean>;
}

/** Writes what a run did into the object store, where it outlives Temporal's history. */
export function createRunRecordActivities({ hosts, secrets, isOpen }: Dependencies) {
  const frame: Pick<FrameActivities, 'recordRun' | 'recordLog' | 'readExpectedDurations'> = {
    /** Idempotent by (run, entry): the first one that was written stays. */
    async recordRun({ system, entry, report }) {
      const store = storeReference(system);
      const keys = recordKeys(store.prefix, store.system, report);
      const signal = cancellationSignal();
      return withBucket(secrets, store, async (bucket) => {
        const before = await entryBefore(bucket, keys, entry, signal);
        const record: RunRecord = {
          schemaVersion: 1,
          entry,
          previous: before ? createHash('sha256').update(before).digest('hex') : null,
          report,
        };
        if ((await getSmallObject(bucket, keys.entry(entry), signal)) === undefined)
          await putOnce(
            bucket,
            keys.entry(entry),
            `${JSON.stringify(record, undefined, 2)}\n`,
            'application/json',
            signal,
          );
        if (entry === 'end' && (await getSmallObject(bucket, keys.report, signal)) === undefined)
          await putOnce(bucket, keys.report, reportMarkdown(report), 'text/markdown; charset=utf-8', signal);
        if (entry === 'end' && report.end === 'succeeded') await keepDurations(bucket, store, report, signal);
        return { location: `s3://${store.bucket}/${keys.base}` };
      });
    },

    async readExpectedDurations({ system, runbook }) {
      const store = storeReference(system);
      const signal = cancellationSignal();
      return withBucket(secrets, store, async (bucket) => {
        const durations = await readDurations(bucket, durationsKey(store.prefix, store.system, runbook), signal);
        return Object.fromEntries(Object.entries(durations).map(([step, seconds]) => [step, median(seconds)]));
      });
    },

    async recordLog({ system, target, step, generation, ...run }) {
      const store = storeReference(system);
      const signal = cancellationSignal();
      const log = await hosts.readJobLog(target, jobId({ runId: run.runId, step }, generation), LOG_BYTES, { signal });
      if (log === undefined || log === '') return undefined;
      const key = recordKeys(store.prefix, store.system, run).log(step, generation);
      return withBucket(secrets, store, async (bucket) => {
        await putOnce(bucket, key, log, 'text/plain; charset=utf-8', signal);
        return { location: `s3://${store.bucket}/${key}` };
      });
    },
  };
  return {
    ...frame,

    /** What runs that never left a host have left there, each with its record: terminated ones, or such that lost it at their end. Reads only. */
    async observeLeftRuns({ with: raw, context }: CallInput) {
      const { store } = ObserveLeftRuns.parse(raw);
      const signal = cancellationSignal();
      const seen = await hosts.leftRuns(targetOf(context));
      const ended = await Promise.all(seen.map(async ({ open, ...run }) => (open && (await isOpen(run)) ? [] : [run])));
      const left = ended.flat();
      if (left.length === 0) return { left };
      return withBucket(secrets, store, async (bucket) => ({
        left: await Promise.all(
          left.map(async (run): Promise<LeftRecord & { steps: string[] }> => {
            const keys = recordKeys(store.prefix, store.system, run);
            const plan = await getSmallObject(bucket, keys.entry('plan'), signal);
            const committed = await getSmallObject(bucket, keys.entry('committed'), signal);
            const parsed = plan && RunRecord.safeParse(jsonOf(plan));
            return {
              ...run,
              plan: (parsed?.success && parsed.data.report.plan) || null,
              committed: committed !== undefined,
              ended: (await getSmallObject(bucket, keys.entry('end'), signal)) !== undefined,
            };
          }),
        ),
      }));
    },

    /** What a run has left on a host was seen to: its mark and its journal go. Idempotent by run. */
    async forgetLeftRun({ with: raw, context }: CallInput) {
      const { run } = ForgetLeftRun.parse(raw);
      await hosts.markRepaired(targetOf(context), run, { fence: context.fence });
      return {};
    },
  };
}

/** The entry that this one is chained to. */
async function entryBefore(
  bucket: Bucket,
  keys: ReturnType<typeof recordKeys>,
  entry: RecordEntry,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  if (entry === 'plan') return undefined;
  const committed = entry === 'end' ? await getSmallObject(bucket, keys.entry('committed'), signal) : undefined;
  return committed ?? (await getSmallObject(bucket, keys.entry('plan'), signal));
}

async function readDurations(bucket: Bucket, key: string, signal: AbortSignal): Promise<Durations> {
  const object = await getSmallObject(bucket, key, signal);
  if (object === undefined) return {};
  // Only for people to read: what somebody else has put there is as good as nothing.
  const parsed = Durations.safeParse(jsonOf(object));
  return parsed.success ? parsed.data : {};
}

/** Adds a run to the last ones. Two runs at once may lose one another's figures, which are only for people to read. */
async function keepDurations(
  bucket: Bucket,
  store: StoreReference,
  report: RunReport,
  signal: AbortSignal,
): Promise<void> {
  const key = durationsKey(store.prefix, store.system, report.runbook);
  const durations = await readDurations(bucket, key, signal);
  for (const { id, startedAt, endedAt } of report.steps)
    if (startedAt !== undefined && endedAt !== undefined)
      durations[id] = [...(durations[id] ?? []), (Date.parse(endedAt) - Date.parse(startedAt)) / 1000].slice(
        -KEPT_DURATIONS,
      );
  await replaceSmallObject(bucket, key, JSON.stringify(durations), 'application/json', signal);
}

/** The middle one: a run that waited for a host that was away says little about the next. Seconds, one decimal. */
function median(seconds: readonly number[]): number {
  const sorted = [...seconds].sort((a, b) => a - b);
  return Math.round((sorted[Math.floor(sorted.length / 2)] ?? 0) * 10) / 10;
}
