import { createHash } from 'node:crypto';
import { UploadPartCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import {
  abortUpload,
  compareParts,
  completeUpload,
  listParts,
  listUploads,
  openUpload,
  type OpenUpload,
  type SentParts,
} from '../../../activities/object-store/multipart-upload.js';
import { type Bucket, openBucket } from '../../../activities/object-store/object-store.js';
import { deleteObject, getSmallObject, headObject, putOnce } from '../../../activities/object-store/objects.js';
import {
  BUCKET,
  type FaultyRelay,
  freePort,
  type Gateway,
  rootKey,
  startGateway,
  startRelay,
} from './versity-gateway.js';

const MiB = 1024 * 1024;
let gateway: Gateway;
let relay: FaultyRelay;
let bucket: Bucket;

// Real servers on a machine that may be busy
jest.setTimeout(120_000);

beforeAll(async () => {
  gateway = await startGateway();
  relay = await startRelay(gateway.address);
  bucket = gateway.bucket;
});
afterAll(async () => {
  await relay?.close();
  await gateway?.remove();
});

/** Sends parts of 5 MiB and a short one, as a host would, and says what a host would say. */
async function send(upload: OpenUpload, sizes = [5 * MiB, 5 * MiB, 100], fill = 7): Promise<SentParts> {
  const digest = createHash('sha256');
  const composite = createHash('sha256');
  for (const [index, size] of sizes.entries()) {
    const body = Buffer.alloc(size, fill + index);
    const sha = createHash('sha256').update(body).digest();
    const { ETag } = await bucket.client.send(
      new UploadPartCommand({
        Bucket: BUCKET,
        Key: upload.key,
        UploadId: upload.uploadId,
        PartNumber: index + 1,
        Body: body,
        ChecksumSHA256: sha.toString('base64'),
      }),
    );
    digest.update(`${index + 1} ${(ETag ?? '').replaceAll('"', '')} ${size}\n`);
    composite.update(sha);
  }
  return {
    bytes: { stored: sizes.reduce((sum, size) => sum + size, 0) },
    parts: {
      size: 5 * MiB,
      count: sizes.length,
      compositeSha256: `${composite.digest('base64')}-${sizes.length}`,
      digest: digest.digest('hex'),
    },
  };
}

describe('an upload', () => {
  test('is made once for a key, and found again', async () => {
    const first = await openUpload(bucket, 'once/a');
    expect(await openUpload(bucket, 'once/a')).toMatchObject(first);
    // Another key that begins the same is not it
    expect((await openUpload(bucket, 'once/a.b')).uploadId).not.toBe(first.uploadId);
    expect((await listUploads(bucket, 'once/')).map(({ key }) => key).sort()).toEqual(['once/a', 'once/a.b']);
  });

  test('is aborted any number of times, and then made anew', async () => {
    const first = await openUpload(bucket, 'abort/a');
    await send(first, [100]);
    await abortUpload(bucket, first);
    await abortUpload(bucket, first);
    expect(await listUploads(bucket, 'abort/')).toEqual([]);
    expect((await openUpload(bucket, 'abort/a')).uploadId).not.toBe(first.uploadId);
  });

  test('lists what was sent', async () => {
    const upload = await openUpload(bucket, 'list/a');
    await send(upload);
    expect((await listParts(bucket, upload)).map(({ number, bytes }) => [number, bytes])).toEqual([
      [1, 5 * MiB],
      [2, 5 * MiB],
      [3, 100],
    ]);
  });
});

describe('completing', () => {
  test('makes the object, and again finds it made', async () => {
    const upload = await openUpload(bucket, 'complete/a');
    const sent = await send(upload);
    const made = await completeUpload(bucket, upload, sent);
    expect(made).toMatchObject({ key: 'complete/a', bytes: 10 * MiB + 100, versionId: expect.any(String) });
    expect(await headObject(bucket, 'complete/a')).toMatchObject({
      bytes: made.bytes,
      sha256: sent.parts.compositeSha256,
    });
    expect(await completeUpload(bucket, upload, sent)).toEqual(made);
    expect(await listUploads(bucket, 'complete/')).toEqual([]);
  });

  test('whose answer got lost finds the object made', async () => {
    const upload = await openUpload(bucket, 'lost-answer/a');
    const sent = await send(upload);
    const through = openBucket({ ...relay.address }, rootKey);
    // The lists pass, the answers to completing do not
    await listParts(through, upload);
    through.close();
    const again = openBucket({ ...relay.address }, rootKey);
    relay.cutAnswersAfter(1500);
    expect(await completeUpload(again, upload, sent)).toMatchObject({ bytes: sent.bytes.stored });
    again.close();
    expect((await headObject(bucket, 'lost-answer/a'))?.bytes).toBe(sent.bytes.stored);
  });

  test('never writes over another object, and leaves the upload for its abort', async () => {
    await putOnce(bucket, 'taken/a', 'of somebody else');
    const upload = await openUpload(bucket, 'taken/a');
    const sent = await send(upload);
    await expect(completeUpload(bucket, upload, sent)).rejects.toMatchObject({
      type: 'ObjectConflict',
      nonRetryable: true,
    });
    expect((await getSmallObject(bucket, 'taken/a'))?.toString()).toBe('of somebody else');
    await abortUpload(bucket, upload);
  });

  test('works where an earlier object was deleted', async () => {
    for (let round = 0; round < 2; round++) {
      const upload = await openUpload(bucket, 'deleted/a');
      await completeUpload(bucket, upload, await send(upload, [100], round));
      await deleteObject(bucket, 'deleted/a');
    }
    expect(await headObject(bucket, 'deleted/a')).toBeUndefined();
  });

  test('an object of the same size and other content is refused too', async () => {
    const first = await openUpload(bucket, 'twin/a');
    await completeUpload(bucket, first, await send(first));
    const second = await openUpload(bucket, 'twin/a');
    const sent = await send(second, undefined, 50);
    await expect(completeUpload(bucket, second, sent)).rejects.toThrow(/its checksum is another one/);
    await abortUpload(bucket, second);
  });

  test('is refused when what is stored is not what was sent', async () => {
    const upload = await openUpload(bucket, 'other/a');
    const sent = await send(upload);
    const wrong: [SentParts, RegExp][] = [
      [{ ...sent, bytes: { stored: sent.bytes.stored + 1 } }, /10485860 bytes are stored, 10485861 were sent/],
      [{ ...sent, parts: { ...sent.parts, count: 4 } }, /3 parts are stored, 4 were sent/],
      [{ ...sent, parts: { ...sent.parts, digest: '0'.repeat(64) } }, /ETags/],
      [{ ...sent, parts: { ...sent.parts, compositeSha256: 'x-3' } }, /checksums/],
      [{ bytes: { stored: 0 }, parts: { ...sent.parts, count: 0 } }, /nothing was sent/],
    ];
    for (const [claim, message] of wrong) {
      await expect(completeUpload(bucket, upload, claim)).rejects.toMatchObject({
        type: 'VerificationFailed',
        message: expect.stringMatching(message),
      });
    }
    expect(await headObject(bucket, 'other/a')).toBeUndefined();
    await completeUpload(bucket, upload, sent);
  });

  test('an upload that is gone without an object is an error that says so', async () => {
    const upload = await openUpload(bucket, 'gone/a');
    const sent = await send(upload, [100]);
    await abortUpload(bucket, upload);
    await expect(completeUpload(bucket, upload, sent)).rejects.toThrow(/NoSuchUpload.*start the backup again/);
  });
});

test('parts compare equal only when nothing is missing, added, moved or of another size', () => {
  const sizes = fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 1, max: 10 }));
  const parts = ([whole, last]: [number, number]) =>
    [...Array<number>(whole).fill(10), last].map((bytes, index) => ({
      number: index + 1,
      bytes,
      etag: `e${index}`,
      sha256: Buffer.from(`s${index}`).toString('base64'),
    }));
  const claim = (list: ReturnType<typeof parts>): SentParts => ({
    bytes: { stored: list.reduce((sum, { bytes }) => sum + bytes, 0) },
    parts: {
      size: 10,
      count: list.length,
      digest: createHash('sha256')
        .update(list.map(({ number, etag, bytes }) => `${number} ${etag} ${bytes}\n`).join(''))
        .digest('hex'),
      compositeSha256: `${createHash('sha256')
        .update(Buffer.concat(list.map(({ sha256 }) => Buffer.from(sha256, 'base64'))))
        .digest('base64')}-${list.length}`,
    },
  });
  fc.assert(
    fc.property(
      sizes,
      fc.nat(),
      fc.constantFrom('drop', 'renumber', 'resize', 'etag', 'checksum', 'repeat'),
      (shape, where, how) => {
        const sent = parts(shape);
        expect(compareParts(sent, claim(sent))).toEqual([]);
        const at = where % sent.length;
        const stored = sent.map((part) => ({ ...part }));
        const part = stored[at] as (typeof stored)[number];
        if (how === 'drop') stored.splice(at, 1);
        if (how === 'renumber') part.number += 1;
        if (how === 'resize') part.bytes += 1;
        if (how === 'etag') part.etag += 'x';
        if (how === 'checksum') part.sha256 = Buffer.from('other').toString('base64');
        if (how === 'repeat') stored.push({ ...part, number: stored.length + 1 });
        expect(compareParts(stored, claim(sent))).not.toEqual([]);
      },
    ),
  );
});

describe('errors', () => {
  test('of the network are retryable and name endpoint, bucket, operation and key', async () => {
    const nowhere = openBucket({ ...gateway.address, endpoint: `http://127.0.0.1:${await freePort()}` }, rootKey);
    await expect(openUpload(nowhere, 'a/b')).rejects.toMatchObject({
      type: 'ObjectStoreUnavailable',
      nonRetryable: false,
      message: expect.stringMatching(
        /^ListMultipartUploads of guardia-test\/a\/b at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*Check that the endpoint/,
      ),
    });
    nowhere.close();
  });

  test('of a wrong key are not retryable and hold no secret', async () => {
    const stranger = openBucket(gateway.address, { ...rootKey, secretAccessKey: 'planted-secret' });
    const error = await headObject(stranger, 'a/b').catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({ type: 'ObjectStoreRefused', nonRetryable: true });
    expect(JSON.stringify(error) + String((error as Error).stack) + (error as Error).message).not.toContain(
      'planted-secret',
    );
    stranger.close();
  });

  test('of a missing bucket say so, also where a missing key is no error', async () => {
    const elsewhere = openBucket({ ...gateway.address, bucket: 'no-such-bucket' }, rootKey);
    await expect(getSmallObject(elsewhere, 'a/b')).rejects.toMatchObject({
      type: 'ObjectStoreRefused',
      message: expect.stringMatching(/NoSuchBucket.*Check endpoint, region and bucket in the inventory/),
    });
    elsewhere.close();
  });

  test('of a cancelled activity are the reason of its signal', async () => {
    const reason = new Error('cancelled by the operator');
    await expect(headObject(bucket, 'a', AbortSignal.abort(reason))).rejects.toBe(reason);
    const slow = await startRelay(gateway.address);
    const through = openBucket(slow.address, rootKey);
    slow.holdAnswersAfter(0);
    const controller = new AbortController();
    const waiting = headObject(through, 'a', controller.signal);
    await slow.answersHeld();
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    through.close();
    await slow.close();
  });
});
