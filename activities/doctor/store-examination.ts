import { ApplicationFailure } from '@temporalio/common';
import { storeNeeds, storeReference } from '../../workflows/contracts/store-reference.js';
import { recoveryPointsPrefix } from '../../workflows/contracts/recovery-point.js';
import type { System } from '../../workflows/contracts/system.js';
import { unsetNeeded } from '../../workflows/contracts/unset.js';
import { listPrefixes } from '../object-store/objects.js';
import { withBucket } from '../object-store/open-store.js';
import type { Secrets } from '../secrets/resolve.js';
import type { Finding } from './findings.js';

const ANSWER_MS = 20_000;

/** Whether this machine reaches a system's bucket with the worker's key. Reads only. */
export async function examineStore(system: System, secrets: Secrets): Promise<Finding> {
  const id = 'store';
  const title = "object store with the worker's key";
  if (unsetNeeded(system, storeNeeds([])).length > 0) return { id, title, state: 'skipped', found: 'not filled in' };
  const store = storeReference(system);
  try {
    const points = await withBucket(secrets, store, (bucket) =>
      listPrefixes(bucket, recoveryPointsPrefix(store.prefix, store.system), AbortSignal.timeout(ANSWER_MS)),
    );
    return {
      id,
      title,
      state: 'ok',
      found: `${store.bucket} at ${store.endpoint}, ${points.length} recovery point${points.length === 1 ? '' : 's'}`,
    };
  } catch (error) {
    if (error instanceof ApplicationFailure && error.type === 'SecretUnavailable')
      return { id, title, state: 'skipped', found: 'needs its secrets' };
    const remedy =
      error instanceof ApplicationFailure ? (error.details?.[0] as { remedy?: string } | undefined)?.remedy : undefined;
    const message = error instanceof Error ? error.message : String(error);
    return {
      id,
      title,
      state: 'missing',
      found: remedy === undefined ? message : message.replace(`. ${remedy}`, ''),
      ...(remedy === undefined ? {} : { remedy }),
    };
  }
}
