import { randomUUID } from 'node:crypto';
import {
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  ListObjectsV2Command,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { ApplicationFailure } from '@temporalio/common';
import { splitRemedy } from '../../workflows/contracts/errors.js';
import { storeNeeds, storeReference, type StoreReference } from '../../workflows/contracts/store-reference.js';
import { recoveryPointsPrefix } from '../../workflows/contracts/recovery-point.js';
import type { System } from '../../workflows/contracts/system.js';
import { unsetNeeded } from '../../workflows/contracts/unset.js';
import { abortUpload, openUpload } from '../object-store/multipart-upload.js';
import { openBucket, request, type Bucket } from '../object-store/object-store.js';
import { listPrefixes } from '../object-store/objects.js';
import { addressOf, hostKeyOf, withBucket } from '../object-store/open-store.js';
import type { Secrets } from '../secrets/resolve.js';
import type { Finding } from './findings.js';

const ANSWER_MS = 20_000;

/**
 * Whether this machine reaches a system's bucket with the worker's key, whether the bucket keeps what is in it, and whether the key of
 * each host may do what it has to and no more. Leaves nothing: the one byte that each host's key sends belongs to an upload that
 * is aborted.
 */
export async function examineStore(system: System, secrets: Secrets): Promise<Finding[]> {
  const id = 'store';
  const title = "object store with the worker's key";
  if (unsetNeeded(system, storeNeeds([])).length > 0) return [{ id, title, state: 'skipped', found: 'not filled in' }];
  const store = storeReference(system);
  try {
    return await withBucket(secrets, store, async (bucket) => {
      const points = await listPrefixes(bucket, recoveryPointsPrefix(store.prefix, store.system), answer());
      const found = `${store.bucket} at ${store.endpoint}, ${points.length} recovery point${points.length === 1 ? '' : 's'}`;
      return [
        { id, title, state: 'ok', found },
        await versioning(bucket),
        await objectLock(bucket),
        ...(await Promise.all(
          Object.keys(system.objectStore.keys.hosts).map((host) => hostKey(system, host, bucket, secrets)),
        )),
      ];
    });
  } catch (error) {
    if (error instanceof ApplicationFailure && error.type === 'SecretUnavailable')
      return [{ id, title, state: 'skipped', found: 'needs its secrets' }];
    return [{ id, title, state: 'missing', ...inWords(error) }];
  }
}

async function versioning(bucket: Bucket): Promise<Finding> {
  const finding = { id: 'store-versions', title: 'versions of objects' };
  try {
    const { Status } = await request(bucket, 'GetBucketVersioning', undefined, answer(), (client, options) =>
      client.send(new GetBucketVersioningCommand({ Bucket: bucket.bucket }), options),
    );
    if (Status === 'Enabled') return { ...finding, state: 'ok', found: 'kept' };
    return {
      ...finding,
      state: 'warning',
      found: 'not kept: what is overwritten or deleted is gone',
      remedy: 'Switch versioning on for the bucket',
    };
  } catch (error) {
    return { ...finding, state: 'skipped', found: inWords(error).found };
  }
}

async function objectLock(bucket: Bucket): Promise<Finding> {
  const finding = { id: 'store-lock', title: 'object lock' };
  try {
    const { ObjectLockConfiguration: lock } = await request(
      bucket,
      'GetObjectLockConfiguration',
      undefined,
      answer(),
      (client, options) => client.send(new GetObjectLockConfigurationCommand({ Bucket: bucket.bucket }), options),
    );
    const { Mode, Days, Years } = lock?.Rule?.DefaultRetention ?? {};
    if (Mode !== undefined)
      return { ...finding, state: 'ok', found: `${Mode.toLowerCase()}, ${Years ? `${Years} years` : `${Days} days`}` };
  } catch (error) {
    // A bucket without a lock answers with an error, too.
    if (!/ObjectLockConfigurationNotFound/i.test(inWords(error).found))
      return { ...finding, state: 'skipped', found: inWords(error).found };
  }
  return {
    ...finding,
    state: 'warning',
    found: 'none: who gets hold of a key that deletes can delete every backup',
    remedy: 'Make the bucket with object lock and a default retention',
  };
}

/** The key of a host has to send parts, and should not be able to look around: the host may be in somebody else's hands one day. */
async function hostKey(system: System, host: string, bucket: Bucket, secrets: Secrets): Promise<Finding> {
  const finding = { id: `store-key-${host}`, title: `access key of host ${host}` };
  if (unsetNeeded(system, [`objectStore.keys.hosts.${host}`]).length > 0)
    return { ...finding, state: 'skipped', found: 'not filled in' };
  const store = storeReference(system, host);
  try {
    const own = openBucket(addressOf(store), await hostKeyOf(secrets, store));
    try {
      await sendPart(bucket, own, `${store.prefix}${store.system}/doctor/${randomUUID()}`);
      if (!(await mayList(own, store))) return { ...finding, state: 'ok', found: 'may write, and may not look around' };
    } finally {
      own.close();
    }
  } catch (error) {
    return { ...finding, state: 'missing', ...inWords(error) };
  }
  return {
    ...finding,
    state: 'warning',
    found: 'may write, but may look around in the bucket, too',
    remedy: `Give it s3:PutObject below ${store.prefix}${store.system}/ and nothing else: who takes the host over has its key`,
  };
}

/** One byte with the host's key into an upload that the worker opens and gives up again, as a backup would go if it failed. */
async function sendPart(bucket: Bucket, own: Bucket, key: string): Promise<void> {
  const upload = await openUpload(bucket, key, answer());
  try {
    await request(own, 'UploadPart', key, answer(), (client, options) =>
      client.send(
        new UploadPartCommand({
          Bucket: own.bucket,
          Key: key,
          UploadId: upload.uploadId,
          PartNumber: 1,
          Body: Buffer.from('?'),
          ...(own.profile.storedChecksum ? { ChecksumAlgorithm: 'SHA256' as const } : {}),
        }),
        options,
      ),
    );
  } finally {
    await abortUpload(bucket, upload, answer());
  }
}

async function mayList(bucket: Bucket, store: StoreReference): Promise<boolean> {
  try {
    await request(bucket, 'ListObjectsV2', undefined, answer(), (client, options) =>
      client.send(
        new ListObjectsV2Command({
          Bucket: bucket.bucket,
          Prefix: recoveryPointsPrefix(store.prefix, store.system),
          MaxKeys: 1,
        }),
        options,
      ),
    );
    return true;
  } catch {
    return false;
  }
}

const answer = (): AbortSignal => AbortSignal.timeout(ANSWER_MS);

function inWords(error: unknown): { found: string; remedy?: string } {
  const { message: found, ...rest } = splitRemedy(error);
  return { found, ...rest };
}
