import { randomUUID } from 'node:crypto';
import { GetObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { listUploads, openUpload } from '../../../activities/object-store/multipart-upload.js';
import {
  deleteObject,
  headObject,
  listObjects,
  listPrefixes,
  putOnce,
} from '../../../activities/object-store/objects.js';
import {
  discardArtifact,
  listOrphans,
  readRecoveryPoint,
  readRecoveryPoints,
  removeOrphans,
  withdrawManifest,
  writeManifest,
  writeProof,
} from '../../../activities/object-store/recovery-point-store.js';
import {
  keysOf,
  type Manifest,
  manifestText,
  type Proof,
  type ProofLevel,
  recoveryPointId,
} from '../../../workflows/contracts/recovery-point.js';
import { manifestOf } from './small-manifest.js';
import { BUCKET, type Gateway, startGateway } from './versity-gateway.js';

let gateway: Gateway;
// Real servers on a machine that may be busy
jest.setTimeout(120_000);

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway?.remove());

let systems = 0;
/** A system of its own for each test, beside one whose name begins the same. */
const newPlace = () => ({ prefix: 'prod/', system: `system${++systems}` });
const newId = (day: number) => recoveryPointId(new Date(Date.UTC(2026, 0, day, 2)), randomUUID());

const proofOf = (manifest: Manifest, level: ProofLevel): Proof => ({
  schemaVersion: 1,
  system: manifest.system,
  id: manifest.id,
  level,
  at: '2026-01-01T02:10:00.000Z',
  by: 'worker',
  run: manifest.run,
  seconds: 1,
  artifacts: [{ kind: 'globals', name: 'main', ok: level !== 'damaged' }],
});

async function makePoint(place: { prefix: string; system: string }, day: number): Promise<Manifest> {
  const manifest = manifestOf(place, newId(day), 5);
  await putOnce(gateway.bucket, manifest.artifacts[0]?.key ?? '', 'bytes');
  await writeManifest(gateway.bucket, place, manifest);
  return manifest;
}

describe('a recovery point', () => {
  test('is complete with its manifest, and proved by the proofs beside it', async () => {
    const place = newPlace();
    const manifest = await makePoint(place, 1);
    expect(await readRecoveryPoint(gateway.bucket, place, manifest.id)).toEqual({
      manifest,
      proofs: [],
      state: 'complete',
    });
    expect(await writeProof(gateway.bucket, place, proofOf(manifest, 'verified'))).toMatchObject({
      written: true,
      state: 'verified',
    });
    expect(await writeProof(gateway.bucket, place, proofOf(manifest, 'verified'))).toMatchObject({
      written: false,
      state: 'verified',
    });
    expect(
      await writeProof(gateway.bucket, place, { ...proofOf(manifest, 'verified'), at: '2027-01-01T00:00:00.000Z' }),
    ).toMatchObject({ written: false });
    expect(await writeProof(gateway.bucket, place, proofOf(manifest, 'damaged'))).toMatchObject({
      written: true,
      state: 'damaged',
    });
    expect((await readRecoveryPoint(gateway.bucket, place, manifest.id))?.state).toBe('damaged');
  });

  test('is not complete before every artifact is there with its size', async () => {
    const place = newPlace();
    const manifest = manifestOf(place, newId(1), 5);
    await expect(writeManifest(gateway.bucket, place, manifest)).rejects.toThrow(/the object is not there/);
    await putOnce(gateway.bucket, manifest.artifacts[0]?.key ?? '', 'of another size');
    await expect(writeManifest(gateway.bucket, place, manifest)).rejects.toThrow(/has 15 bytes, 5 were written/);
    expect(await readRecoveryPoint(gateway.bucket, place, manifest.id)).toBeUndefined();
  });

  test('has one manifest, whoever tries to write it', async () => {
    const place = newPlace();
    const manifest = await makePoint(place, 1);
    expect(await writeManifest(gateway.bucket, place, manifest)).toMatchObject({ written: false });
    const other = { ...manifest, guardia: '9.9.9' };
    await expect(writeManifest(gateway.bucket, place, other)).rejects.toMatchObject({ type: 'ObjectConflict' });
    const racing = manifestOf(place, newId(2), 5);
    await putOnce(gateway.bucket, racing.artifacts[0]?.key ?? '', 'bytes');
    const both = await Promise.allSettled(
      ['1.0.0', '2.0.0'].map((guardia) => writeManifest(gateway.bucket, place, { ...racing, guardia })),
    );
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  test('is read the newest first; orphans and unreadable ones do not hide the others', async () => {
    const place = newPlace();
    const neighbour = { ...place, system: `${place.system}-2` };
    await makePoint(neighbour, 28);
    const made: Manifest[] = [];
    for (let day = 1; day <= 12; day++) made.push(await makePoint(place, day));
    const orphan = keysOf(place.prefix, place.system, newId(20));
    await putOnce(gateway.bucket, orphan.artifact('database', 'main'), 'orphan');
    const broken = keysOf(place.prefix, place.system, newId(21));
    await putOnce(gateway.bucket, broken.manifest, '{"schemaVersion":1}');
    const lying = keysOf(place.prefix, place.system, newId(22));
    await putOnce(gateway.bucket, lying.manifest, manifestText(made[0] as Manifest));
    const { points, unreadable } = await readRecoveryPoints(gateway.bucket, place, 10);
    expect(points.map(({ manifest }) => manifest.id)).toEqual(
      made
        .map(({ id }) => id)
        .reverse()
        .slice(0, 10),
    );
    expect(unreadable.sort()).toEqual([
      expect.stringMatching(`^${BUCKET}/${broken.manifest} is not a manifest that this version reads: system: `),
      expect.stringMatching(`^${BUCKET}/${lying.manifest} is about ${place.system} ${made[0]?.id}`),
    ]);
  });
});

describe('what is left behind', () => {
  test('is found and removed: uploads, and objects without a manifest, of this system only', async () => {
    const place = newPlace();
    const neighbour = { ...place, system: `${place.system}-2` };
    const complete = await makePoint(place, 1);
    const own = keysOf(place.prefix, place.system, newId(2));
    const lost = keysOf(place.prefix, place.system, newId(3));
    const foreign = keysOf(neighbour.prefix, neighbour.system, newId(3));
    for (const keys of [own, lost, foreign]) {
      await putOnce(gateway.bucket, keys.artifact('globals', 'main'), 'orphan');
      await openUpload(gateway.bucket, keys.artifact('database', 'main'));
    }
    await putOnce(gateway.bucket, lost.proof('verified'), 'of a withdrawn manifest');
    const ownId = own.base.split('/').at(-2) ?? '';

    const orphans = await listOrphans(gateway.bucket, place, ownId);
    expect(orphans.objects.sort()).toEqual([lost.artifact('globals', 'main'), lost.proof('verified')]);
    expect(orphans.uploads.map(({ key }) => key)).toEqual([lost.artifact('database', 'main')]);
    await removeOrphans(gateway.bucket, orphans);
    await removeOrphans(gateway.bucket, orphans);
    expect(await listOrphans(gateway.bucket, place, ownId)).toEqual({ objects: [], uploads: [] });

    expect(await readRecoveryPoint(gateway.bucket, place, complete.id)).toBeDefined();
    expect(await headObject(gateway.bucket, own.artifact('globals', 'main'))).toBeDefined();
    expect((await listUploads(gateway.bucket, 'prod/')).map(({ key }) => key).sort()).toEqual(
      [own.artifact('database', 'main'), foreign.artifact('database', 'main')].sort(),
    );
  });

  test('of one artifact is discarded, but never from a complete set', async () => {
    const place = newPlace();
    const id = newId(1);
    const key = keysOf(place.prefix, place.system, id).artifact('database', 'main');
    await openUpload(gateway.bucket, key);
    await putOnce(gateway.bucket, key, 'bytes');
    await discardArtifact(gateway.bucket, place, id, key);
    await discardArtifact(gateway.bucket, place, id, key);
    expect(await headObject(gateway.bucket, key)).toBeUndefined();
    expect(await listUploads(gateway.bucket, key)).toEqual([]);

    const manifest = await makePoint(place, 2);
    const stored = manifest.artifacts[0]?.key ?? '';
    await expect(discardArtifact(gateway.bucket, place, manifest.id, stored)).rejects.toMatchObject({
      type: 'ObjectConflict',
    });
    await withdrawManifest(gateway.bucket, place, manifest.id);
    await withdrawManifest(gateway.bucket, place, manifest.id);
    expect(await readRecoveryPoint(gateway.bucket, place, manifest.id)).toBeUndefined();
    await discardArtifact(gateway.bucket, place, manifest.id, stored);
    await expect(discardArtifact(gateway.bucket, place, manifest.id, 'elsewhere/key')).rejects.toThrow(RangeError);
  });

  test('in a versioned bucket stays readable by version', async () => {
    await putOnce(gateway.bucket, 'versions/a', 'first');
    await deleteObject(gateway.bucket, 'versions/a');
    await deleteObject(gateway.bucket, 'versions/a');
    await putOnce(gateway.bucket, 'versions/a', 'second');
    const { Versions } = await gateway.bucket.client.send(
      new ListObjectVersionsCommand({ Bucket: BUCKET, Prefix: 'versions/a' }),
    );
    const contents = await Promise.all(
      (Versions ?? []).map(async ({ VersionId }) => {
        const { Body } = await gateway.bucket.client.send(
          new GetObjectCommand({ Bucket: BUCKET, Key: 'versions/a', VersionId }),
        );
        return Body?.transformToString();
      }),
    );
    expect(contents.sort()).toEqual(['first', 'second']);
  });
});

test('lists go over pages', async () => {
  const keys = Array.from({ length: 1050 }, (_, index) => `pages/${String(index).padStart(4, '0')}/x`);
  for (let at = 0; at < keys.length; at += 50) {
    await Promise.all(keys.slice(at, at + 50).map((key) => putOnce(gateway.bucket, key, 'x')));
  }
  const found: string[] = [];
  for await (const { key } of listObjects(gateway.bucket, 'pages/')) found.push(key);
  expect(found).toEqual(keys);
  expect(await listPrefixes(gateway.bucket, 'pages/')).toHaveLength(1050);
});
