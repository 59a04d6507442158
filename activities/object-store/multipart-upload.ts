import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3';
import { type Bucket, request } from './object-store.js';
import { headObject } from './objects.js';
import { codeOf, problemOf, statusOf, storeFailure } from './store-failure.js';

/** An upload that has begun and is not complete. */
export interface OpenUpload {
  key: string;
  uploadId: string;
  /** ISO time. */
  startedAt?: string;
}

/** What the host says it sent: the members of a job's result that the store is compared with. */
export interface SentParts {
  bytes: { stored: number };
  parts: {
    /** Bytes of every part but the last. */
    size: number;
    count: number;
    /** base64 SHA-256 over the parts' SHA-256, then `-count`, as S3 computes it. */
    compositeSha256: string;
    /** hex SHA-256 over the lines `number etag bytes`, as the server answered the host. */
    digest: string;
  };
}

export interface CompletedObject {
  key: string;
  /** Where the bucket keeps versions. */
  versionId?: string;
  bytes: number;
  etag: string;
}

/** Uploads below a prefix that are neither complete nor aborted. All pages. */
export async function listUploads(bucket: Bucket, prefix: string, signal?: AbortSignal): Promise<OpenUpload[]> {
  const found: OpenUpload[] = [];
  let after: { KeyMarker?: string; UploadIdMarker?: string } = {};
  for (;;) {
    const page = await request(bucket, 'ListMultipartUploads', prefix, signal, (client, options) =>
      client.send(new ListMultipartUploadsCommand({ Bucket: bucket.bucket, Prefix: prefix, ...after }), options),
    );
    for (const upload of page.Uploads ?? []) {
      if (upload.Key === undefined || upload.UploadId === undefined) continue;
      found.push({
        key: upload.Key,
        uploadId: upload.UploadId,
        ...(upload.Initiated ? { startedAt: upload.Initiated.toISOString() } : {}),
      });
    }
    if (!page.IsTruncated || page.NextKeyMarker === undefined) return found;
    after = {
      KeyMarker: page.NextKeyMarker,
      ...(page.NextUploadIdMarker ? { UploadIdMarker: page.NextUploadIdMarker } : {}),
    };
  }
}

/**
 * The upload for a key: the oldest open one if there is one, otherwise a new one; further ones are aborted.
 * Idempotent by key: keys hold the recovery point's id, so an open upload for the key is an earlier attempt of the same
 * step, and parts that are sent again replace parts of the same number.
 */
export async function openUpload(bucket: Bucket, key: string, signal?: AbortSignal): Promise<OpenUpload> {
  const open = (await listUploads(bucket, key, signal))
    .filter((upload) => upload.key === key)
    .sort((a, b) => (a.startedAt ?? '').localeCompare(b.startedAt ?? '') || a.uploadId.localeCompare(b.uploadId));
  const [first, ...surplus] = open;
  for (const upload of surplus) await abortUpload(bucket, upload, signal);
  if (first) return first;
  const created = await request(bucket, 'CreateMultipartUpload', key, signal, (client, options) =>
    client.send(
      new CreateMultipartUploadCommand({
        Bucket: bucket.bucket,
        Key: key,
        ContentType: 'application/octet-stream',
        ...(bucket.profile.storedChecksum ? { ChecksumAlgorithm: 'SHA256' } : {}),
      }),
      options,
    ),
  );
  if (created.UploadId === undefined) {
    throw storeFailure('misconfigured', place(bucket, 'CreateMultipartUpload', key), 'the answer has no upload id');
  }
  return { key, uploadId: created.UploadId };
}

/** Aborts an upload and frees its parts. Idempotent by upload id: one that is gone already is fine. */
export async function abortUpload(bucket: Bucket, upload: OpenUpload, signal?: AbortSignal): Promise<void> {
  await request<unknown>(
    bucket,
    'AbortMultipartUpload',
    upload.key,
    signal,
    (client, options) =>
      client.send(
        new AbortMultipartUploadCommand({ Bucket: bucket.bucket, Key: upload.key, UploadId: upload.uploadId }),
        options,
      ),
    (error) =>
      statusOf(error) === 404 && codeOf(error) !== 'NoSuchBucket' ? Promise.resolve(undefined as unknown) : undefined,
  );
}

export interface StoredPart {
  number: number;
  bytes: number;
  /** Without quotes. */
  etag: string;
  /** base64, where the provider stores it. */
  sha256?: string;
}

/** The parts of an upload as the server has them, in order. All pages. */
export async function listParts(bucket: Bucket, upload: OpenUpload, signal?: AbortSignal): Promise<StoredPart[]> {
  const found: StoredPart[] = [];
  let marker: string | undefined;
  for (;;) {
    const page = await request(bucket, 'ListParts', upload.key, signal, (client, options) =>
      client.send(
        new ListPartsCommand({
          Bucket: bucket.bucket,
          Key: upload.key,
          UploadId: upload.uploadId,
          ...(marker === undefined ? {} : { PartNumberMarker: marker }),
        }),
        options,
      ),
    );
    for (const part of page.Parts ?? []) {
      found.push({
        number: part.PartNumber ?? 0,
        bytes: part.Size ?? 0,
        etag: unquote(part.ETag),
        ...(part.ChecksumSHA256 ? { sha256: part.ChecksumSHA256 } : {}),
      });
    }
    if (!page.IsTruncated || page.NextPartNumberMarker === undefined) return found.sort((a, b) => a.number - b.number);
    marker = page.NextPartNumberMarker;
  }
}

/** Why the parts in the store are not those that the host sent; empty when they are. Pure. */
export function compareParts(stored: readonly StoredPart[], sent: SentParts): string[] {
  const problems: string[] = [];
  if (stored.length !== sent.parts.count)
    problems.push(`${stored.length} parts are stored, ${sent.parts.count} were sent`);
  const gap = stored.findIndex((part, index) => part.number !== index + 1);
  if (gap >= 0) problems.push(`part ${gap + 1} is missing`);
  const odd = stored.find((part, index) =>
    index < stored.length - 1 ? part.bytes !== sent.parts.size : part.bytes > sent.parts.size,
  );
  if (odd) problems.push(`part ${odd.number} has ${odd.bytes} bytes, ${sent.parts.size} were sent`);
  const bytes = stored.reduce((sum, part) => sum + part.bytes, 0);
  if (bytes !== sent.bytes.stored) problems.push(`${bytes} bytes are stored, ${sent.bytes.stored} were sent`);
  if (problems.length > 0) return problems;
  const digest = createHash('sha256');
  for (const part of stored) digest.update(`${part.number} ${part.etag} ${part.bytes}\n`);
  if (digest.digest('hex') !== sent.parts.digest)
    problems.push('the ETags of the stored parts are not those that the host was given');
  if (
    stored.length > 0 &&
    stored.every((part) => part.sha256 !== undefined) &&
    composite(stored) !== sent.parts.compositeSha256
  ) {
    problems.push('the checksums of the stored parts are not those that the host computed');
  }
  return problems;
}

/**
 * Completes an upload after comparing every stored part with what the host sent, and never over an object that is
 * already there. Idempotent by key and content: when an earlier attempt has completed it, that object is looked at,
 * compared and returned.
 * @throws VerificationFailed (other parts than were sent), ObjectStoreRefused (upload gone), ObjectConflict (something else under the key)
 */
export async function completeUpload(
  bucket: Bucket,
  upload: OpenUpload,
  sent: SentParts,
  signal?: AbortSignal,
): Promise<CompletedObject> {
  if (sent.parts.count === 0 || sent.bytes.stored === 0) {
    throw storeFailure('incomplete', place(bucket, 'CompleteMultipartUpload', upload.key), 'nothing was sent');
  }
  let stored: StoredPart[];
  try {
    stored = await listParts(bucket, upload, signal);
  } catch (error) {
    if (problemOf(error) !== 'upload-lost') throw error;
    return alreadyComplete(bucket, upload, sent, error, signal);
  }
  const problems = compareParts(stored, sent);
  if (problems.length > 0) {
    throw storeFailure('incomplete', place(bucket, 'CompleteMultipartUpload', upload.key), problems.join('; '));
  }
  if (!bucket.profile.conditionalWrite && (await headObject(bucket, upload.key, signal))) {
    return alreadyComplete(bucket, upload, sent, undefined, signal);
  }
  const parts: CompletedPart[] = stored.map((part) => ({
    PartNumber: part.number,
    ETag: part.etag,
    ...(part.sha256 ? { ChecksumSHA256: part.sha256 } : {}),
  }));
  const send = (condition: { IfNoneMatch?: '*' }) =>
    request(bucket, 'CompleteMultipartUpload', upload.key, signal, (client, options) =>
      client.send(
        new CompleteMultipartUploadCommand({
          Bucket: bucket.bucket,
          Key: upload.key,
          UploadId: upload.uploadId,
          MultipartUpload: { Parts: parts },
          ...condition,
        }),
        options,
      ),
    );
  try {
    await send(bucket.profile.conditionalWrite ? { IfNoneMatch: '*' } : {});
  } catch (error) {
    const problem = problemOf(error);
    if (problem !== 'exists' && problem !== 'upload-lost') throw error;
    if (problem === 'upload-lost' || (await headObject(bucket, upload.key, signal))) {
      return alreadyComplete(bucket, upload, sent, error, signal);
    }
    // Refused for an object that is not there: versitygw counts a delete marker as one, Amazon does not
    await send({});
  }
  return alreadyComplete(bucket, upload, sent, undefined, signal);
}

/** Looks at the object itself: it is ours when size and checksum agree. */
async function alreadyComplete(
  bucket: Bucket,
  upload: OpenUpload,
  sent: SentParts,
  error: unknown,
  signal?: AbortSignal,
): Promise<CompletedObject> {
  const head = await headObject(bucket, upload.key, signal);
  if (!head) {
    if (error) throw error;
    throw storeFailure('upload-lost', place(bucket, 'HeadObject', upload.key), 'the completed object cannot be found');
  }
  const problems: string[] = [];
  if (head.bytes !== sent.bytes.stored) problems.push(`it has ${head.bytes} bytes, ${sent.bytes.stored} were sent`);
  if (head.sha256 !== undefined && head.sha256 !== sent.parts.compositeSha256)
    problems.push('its checksum is another one');
  if (problems.length > 0) {
    throw storeFailure(
      'exists',
      place(bucket, 'HeadObject', upload.key),
      `an object is there, but ${problems.join(' and ')}`,
    );
  }
  return {
    key: upload.key,
    bytes: head.bytes,
    etag: head.etag,
    ...(head.versionId ? { versionId: head.versionId } : {}),
  };
}

function composite(parts: readonly StoredPart[]): string {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(Buffer.from(part.sha256 ?? '', 'base64'));
  return `${digest.digest('base64')}-${parts.length}`;
}

const unquote = (etag: string | undefined): string => (etag ?? '').replaceAll('"', '');
const place = (bucket: Bucket, operation: string, key: string) => ({
  endpoint: bucket.endpoint,
  bucket: bucket.bucket,
  operation,
  key,
});
