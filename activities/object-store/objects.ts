import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { type Bucket, request } from './object-store.js';
import { codeOf, statusOf, storeFailure } from './store-failure.js';

export interface ObjectHead {
  key: string;
  bytes: number;
  /** Without quotes. */
  etag: string;
  versionId?: string;
  /** base64; of a multipart object the composite, `...-parts`. */
  sha256?: string;
}

const noSuchKey = (error: unknown) => statusOf(error) === 404 && codeOf(error) !== 'NoSuchBucket';
const absent = (error: unknown) => (noSuchKey(error) ? Promise.resolve(undefined) : undefined);

/** What the store knows about an object, or undefined where there is none. */
export async function headObject(bucket: Bucket, key: string, signal?: AbortSignal): Promise<ObjectHead | undefined> {
  return request<ObjectHead | undefined>(
    bucket,
    'HeadObject',
    key,
    signal,
    async (client, options) => {
      const head = await client.send(
        new HeadObjectCommand({
          Bucket: bucket.bucket,
          Key: key,
          ...(bucket.profile.storedChecksum ? { ChecksumMode: 'ENABLED' } : {}),
        }),
        options,
      );
      return {
        key,
        bytes: head.ContentLength ?? 0,
        etag: (head.ETag ?? '').replaceAll('"', ''),
        ...(head.VersionId && head.VersionId !== 'null' ? { versionId: head.VersionId } : {}),
        ...(head.ChecksumSHA256 ? { sha256: head.ChecksumSHA256 } : {}),
      };
    },
    absent,
  );
}

/**
 * A signed URL that reads one object, and nothing else, for so many seconds. Secret: whoever has it can read. Nothing is sent.
 */
export async function readAddress(bucket: Bucket, key: string, seconds: number): Promise<string> {
  return getSignedUrl(bucket.client, new GetObjectCommand({ Bucket: bucket.bucket, Key: key }), {
    expiresIn: Math.min(seconds, 7 * 24 * 3600),
  });
}

/** Largest object that is read or written whole in the worker's memory, in bytes. Everything larger streams elsewhere. */
export const SMALL_OBJECT = 1024 * 1024;

/** Content of a small object, or undefined where there is none. @throws ObjectStoreRefused above 1 MiB. */
export async function getSmallObject(bucket: Bucket, key: string, signal?: AbortSignal): Promise<Buffer | undefined> {
  return request<Buffer | undefined>(
    bucket,
    'GetObject',
    key,
    signal,
    async (client, options) => {
      const answer = await client.send(new GetObjectCommand({ Bucket: bucket.bucket, Key: key }), options);
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of answer.Body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > SMALL_OBJECT) {
          throw storeFailure(
            'refused',
            { endpoint: bucket.endpoint, bucket: bucket.bucket, operation: 'GetObject', key },
            `the object is larger than ${SMALL_OBJECT} bytes, which no manifest or proof is`,
          );
        }
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    },
    absent,
  );
}

/**
 * Writes a small object once. Idempotent by key and content: the same bytes already there count as written; other bytes
 * are left as they are. @throws ObjectConflict
 */
export async function putOnce(
  bucket: Bucket,
  key: string,
  content: Uint8Array | string,
  contentType = 'application/json',
  signal?: AbortSignal,
): Promise<{ written: boolean }> {
  const bytes = Buffer.from(content);
  const send = (condition: { IfNoneMatch?: '*' }, accept?: (error: unknown) => Promise<boolean> | undefined) =>
    put(bucket, key, bytes, contentType, { signal, condition, accept });
  if (bucket.profile.conditionalWrite) {
    const written = await send({ IfNoneMatch: '*' }, (error) =>
      statusOf(error) === 412 ? Promise.resolve(false) : undefined,
    );
    if (written) return { written };
  }
  const there = await getSmallObject(bucket, key, signal);
  if (there?.equals(bytes)) return { written: false };
  if (there) {
    throw storeFailure(
      'exists',
      { endpoint: bucket.endpoint, bucket: bucket.bucket, operation: 'PutObject', key },
      'another object is already there',
    );
  }
  // Nothing is there: the store knows no conditions, or (versitygw, unlike Amazon) counts a delete marker as an object
  return { written: await send({}) };
}

/** Writes a small object over whatever is there: for what is only a help to people, such as how long steps take. */
export async function replaceSmallObject(
  bucket: Bucket,
  key: string,
  content: Uint8Array | string,
  contentType = 'application/json',
  signal?: AbortSignal,
): Promise<void> {
  await put(bucket, key, Buffer.from(content), contentType, { signal });
}

function put(
  bucket: Bucket,
  key: string,
  bytes: Buffer,
  contentType: string,
  options: {
    signal?: AbortSignal | undefined;
    condition?: { IfNoneMatch?: '*' };
    accept?: ((error: unknown) => Promise<boolean> | undefined) | undefined;
  },
): Promise<boolean> {
  return request(
    bucket,
    'PutObject',
    key,
    options.signal,
    async (client, clientOptions) => {
      await client.send(
        new PutObjectCommand({
          Bucket: bucket.bucket,
          Key: key,
          Body: bytes,
          ContentType: contentType,
          ...(bucket.profile.storedChecksum ? { ChecksumAlgorithm: 'SHA256' } : {}),
          ...options.condition,
        }),
        clientOptions,
      );
      return true;
    },
    options.accept,
  );
}

export interface ListedObject {
  key: string;
  bytes: number;
  /** ISO time by the store's clock. */
  modifiedAt: string;
}

/** Objects below a prefix, a page of up to 1,000 at a time. */
export async function* listObjects(bucket: Bucket, prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
  let token: string | undefined;
  do {
    const page = await request(bucket, 'ListObjectsV2', prefix, signal, (client, options) =>
      client.send(
        new ListObjectsV2Command({
          Bucket: bucket.bucket,
          Prefix: prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        options,
      ),
    );
    for (const object of page.Contents ?? []) {
      if (object.Key === undefined) continue;
      yield { key: object.Key, bytes: object.Size ?? 0, modifiedAt: object.LastModified?.toISOString() ?? '' };
    }
    token = page.IsTruncated ? page.NextContinuationToken : undefined;
  } while (token !== undefined);
}

/** "Directories" directly below a prefix, with their trailing slash. All pages. */
export async function listPrefixes(bucket: Bucket, prefix: string, signal?: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  let token: string | undefined;
  do {
    const page = await request(bucket, 'ListObjectsV2', prefix, signal, (client, options) =>
      client.send(
        new ListObjectsV2Command({
          Bucket: bucket.bucket,
          Prefix: prefix,
          Delimiter: '/',
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        options,
      ),
    );
    for (const entry of page.CommonPrefixes ?? []) if (entry.Prefix !== undefined) found.push(entry.Prefix);
    token = page.IsTruncated ? page.NextContinuationToken : undefined;
  } while (token !== undefined);
  return found;
}

/** Deletes an object (in a versioned bucket: hides it behind a delete marker). Idempotent by key. */
export async function deleteObject(bucket: Bucket, key: string, signal?: AbortSignal): Promise<void> {
  await request<unknown>(
    bucket,
    'DeleteObject',
    key,
    signal,
    (client, options) => client.send(new DeleteObjectCommand({ Bucket: bucket.bucket, Key: key }), options),
    (error) => (noSuchKey(error) ? Promise.resolve(undefined as unknown) : undefined),
  );
}
