import { setMaxListeners } from 'node:events';
import { S3Client } from '@aws-sdk/client-s3';
import type { ObjectStore as ObjectStoreEntry } from '../../workflows/contracts/system.js';
import { type ProviderProfile, providerProfiles } from './provider-profile.js';
import { explainStoreError } from './store-failure.js';

// The SDK warns at every start that it will leave this Node one day: that is for who chooses the Node.
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';

/** Where a bucket is: the inventory's entry with nothing unset any more. */
export interface BucketAddress {
  provider: ObjectStoreEntry['provider'];
  /** `http(s)://host[:port]`, without a path. */
  endpoint: string;
  region: string;
  bucket: string;
}

/** Secret: never to be logged or returned from an activity. */
export interface AccessKey {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** A bucket with a key to it. Cheap to make; `close` ends its idle connections. */
export interface Bucket extends BucketAddress {
  profile: ProviderProfile;
  client: S3Client;
  close(): void;
}

/**
 * Opens a bucket. Nothing is sent yet. The client tries each request three times by itself; longer outages are left to
 * the retries of the activity, which an operator can see.
 */
export function openBucket(address: BucketAddress, key: AccessKey): Bucket {
  const profile = providerProfiles[address.provider];
  const client = new S3Client({
    endpoint: address.endpoint,
    region: address.region,
    forcePathStyle: profile.pathStyle,
    credentials: key,
    maxAttempts: 3,
    // The client's default adds CRC32 checksums that several servers reject; we name the checksum where we want one.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: 10_000, requestTimeout: 60_000 },
  });
  return { ...address, profile, client, close: () => client.destroy() };
}

/** URL of an object for curl. Keys consist of characters that need no encoding. */
export function objectUrl(address: BucketAddress, key: string): string {
  if (!/^[A-Za-z0-9/._-]+$/.test(key)) throw new RangeError(`not a key of guardia's layout: ${key}`);
  const url = new URL(address.endpoint);
  if (!providerProfiles[address.provider].pathStyle) {
    url.hostname = `${address.bucket}.${url.hostname}`;
    return `${url.origin}/${key}`;
  }
  return `${url.origin}/${address.bucket}/${key}`;
}

/**
 * Makes one request. Every error becomes one of `store-failure.ts`, naming endpoint, bucket, operation and key; a
 * cancelled signal wins over all. `accept` may turn an error into a result first.
 */
export async function request<T>(
  bucket: Bucket,
  operation: string,
  key: string | undefined,
  signal: AbortSignal | undefined,
  send: (client: S3Client, options: { abortSignal?: AbortSignal }) => Promise<T>,
  accept?: (error: unknown) => Promise<T> | undefined,
): Promise<T> {
  const place = { endpoint: bucket.endpoint, bucket: bucket.bucket, operation, ...(key === undefined ? {} : { key }) };
  // One activity makes many requests at once, each with a listener on the same signal
  if (signal) setMaxListeners(0, signal);
  try {
    signal?.throwIfAborted();
    try {
      return await send(bucket.client, signal ? { abortSignal: signal } : {});
    } catch (error) {
      const accepted = signal?.aborted ? undefined : accept?.(error);
      if (accepted !== undefined) return await accepted;
      throw error;
    }
  } catch (error) {
    throw explainStoreError(error, place, signal);
  }
}
