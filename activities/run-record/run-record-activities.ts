import { createHash } from 'node:crypto';
import { cancellationSignal } from '@temporalio/activity';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { recordKeys, type RunRecord } from '../../workflows/contracts/run-record.js';
import { reportMarkdown } from '../../workflows/contracts/run-report.js';
import { storeReference } from '../../workflows/contracts/store-reference.js';
import { withBucket } from '../object-store/open-store.js';
import { getSmallObject, putOnce } from '../object-store/objects.js';
import { jobId } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Secrets } from '../secrets/resolve.js';

/** How much of each stream of a failed job is kept. Bytes. */
const LOG_BYTES = 8 * 1024 * 1024;

/** Writes what a run did into the object store, where it outlives Temporal's history. */
export function createRunRecordActivities({
  hosts,
  secrets,
}: {
  hosts: Hosts;
  secrets: Secrets;
}): Pick<FrameActivities, 'recordRun' | 'recordLog'> {
  return {
    /** Idempotent by (run, entry): the first one that was written stays. */
    async recordRun({ system, entry, report }) {
      const store = storeReference(system);
      const keys = recordKeys(store.prefix, store.system, report);
      const signal = cancellationSignal();
      return withBucket(secrets, store, async (bucket) => {
        const before = entry === 'plan' ? undefined : await getSmallObject(bucket, keys.entry('plan'), signal);
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
        return { location: `s3://${store.bucket}/${keys.base}` };
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
}
