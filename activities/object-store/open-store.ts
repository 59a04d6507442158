import type { StoreReference } from '../../workflows/contracts/store-reference.js';
import { failure } from '../../workflows/contracts/errors.js';
import type { Secrets } from '../secrets/resolve.js';
import { openBucket, type AccessKey, type Bucket, type BucketAddress } from './object-store.js';
import type { RecoveryPointPlace } from './recovery-point-store.js';

export const addressOf = ({ provider, endpoint, region, bucket }: StoreReference): BucketAddress => ({
  provider,
  endpoint,
  region,
  bucket,
});
export const placeOf = ({ prefix, system }: StoreReference): RecoveryPointPlace => ({ prefix, system });

/** The bucket with the worker's key, for as long as `use` runs. */
export async function withBucket<T>(
  secrets: Secrets,
  store: StoreReference,
  use: (bucket: Bucket) => Promise<T>,
): Promise<T> {
  const bucket = openBucket(addressOf(store), await resolveKey(secrets, store.workerKey));
  try {
    return await use(bucket);
  } finally {
    bucket.close();
  }
}

/** The key that the step's host uploads with: what a host may do, not what the worker may. */
export async function hostKeyOf(secrets: Secrets, store: StoreReference): Promise<AccessKey> {
  if (!store.hostKey)
    throw failure('InvalidPlan', `the plan names no access key for the host in bucket ${store.bucket}`);
  return resolveKey(secrets, store.hostKey);
}

export async function resolveKey(secrets: Secrets, key: StoreReference['workerKey']): Promise<AccessKey> {
  const [id, secret] = await Promise.all([secrets.resolve(key.accessKeyId), secrets.resolve(key.secretAccessKey)]);
  return { accessKeyId: id.reveal(), secretAccessKey: secret.reveal() };
}
