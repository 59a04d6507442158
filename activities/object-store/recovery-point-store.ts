import { failure } from '../../workflows/contracts/errors.js';
import {
  keysOf,
  type Manifest,
  manifestText,
  parseManifest,
  parseProof,
  type Proof,
  ProofLevel,
  proofText,
  RecoveryPointId,
  recoveryPointOf,
  recoveryPointsPrefix,
  type RecoveryPointState,
  stateOf,
} from '../../workflows/contracts/recovery-point.js';
import { abortUpload, listUploads, type OpenUpload } from './multipart-upload.js';
import type { Bucket } from './object-store.js';
import { deleteObject, getSmallObject, headObject, listObjects, listPrefixes, putOnce } from './objects.js';
import { storeFailure } from './store-failure.js';

export interface StoredRecoveryPoint {
  manifest: Manifest;
  proofs: Proof[];
  state: RecoveryPointState;
}

/** Where a system's recovery points are. */
export interface RecoveryPointPlace {
  /** The inventory's `backup.prefix`. */
  prefix: string;
  system: string;
}

const AT_ONCE = 8;

/**
 * The newest complete recovery points, newest first. Orphans are left out. A manifest that cannot be read is reported in
 * `unreadable` and does not hide the others. Read-only.
 */
export async function readRecoveryPoints(
  bucket: Bucket,
  place: RecoveryPointPlace,
  newest: number,
  signal?: AbortSignal,
): Promise<{ points: StoredRecoveryPoint[]; unreadable: string[] }> {
  const points: StoredRecoveryPoint[] = [];
  const unreadable: string[] = [];
  const ids = (await idsIn(bucket, place, signal)).sort().reverse();
  // Orphans do not count, so go on until there are enough
  for (let at = 0; at < ids.length && points.length < newest; at += AT_ONCE) {
    const found = await Promise.all(
      ids.slice(at, at + AT_ONCE).map((id) =>
        readRecoveryPoint(bucket, place, id, signal).catch((error: unknown) => {
          if (!(error instanceof UnreadableRecoveryPoint)) throw error;
          unreadable.push(error.message);
          return undefined;
        }),
      ),
    );
    points.push(...found.filter((point) => point !== undefined));
  }
  return { points: points.slice(0, newest), unreadable };
}

class UnreadableRecoveryPoint extends Error {}

/** One recovery point, or undefined where it is not complete. Read-only. */
export async function readRecoveryPoint(
  bucket: Bucket,
  place: RecoveryPointPlace,
  id: RecoveryPointId,
  signal?: AbortSignal,
): Promise<StoredRecoveryPoint | undefined> {
  const keys = keysOf(place.prefix, place.system, id);
  const [manifestBytes, ...proofBytes] = await Promise.all(
    [keys.manifest, ...ProofLevel.options.map((level) => keys.proof(level))].map((key) =>
      getSmallObject(bucket, key, signal),
    ),
  );
  if (manifestBytes === undefined) return undefined;
  try {
    const manifest = parseManifest(manifestBytes.toString('utf8'), `${bucket.bucket}/${keys.manifest}`);
    if (manifest.system !== place.system || manifest.id !== id) {
      throw new Error(`${bucket.bucket}/${keys.manifest} is about ${manifest.system} ${manifest.id}`);
    }
    const proofs = ProofLevel.options.flatMap((level, index) => {
      const bytes = proofBytes[index];
      return bytes === undefined ? [] : [parseProof(bytes.toString('utf8'), `${bucket.bucket}/${keys.proof(level)}`)];
    });
    return { manifest, proofs, state: stateOf(manifest, proofs) };
  } catch (error) {
    throw new UnreadableRecoveryPoint((error as Error).message);
  }
}

/**
 * Makes a recovery point complete: looks for every artifact as the manifest describes it, then writes `manifest.json`,
 * never over another one. Idempotent by system, id and content; `createdAt` must therefore come from the run.
 * @throws VerificationFailed when an artifact is not there, ObjectConflict when another manifest is
 */
export async function writeManifest(
  bucket: Bucket,
  place: RecoveryPointPlace,
  manifest: Manifest,
  signal?: AbortSignal,
): Promise<{ key: string; written: boolean }> {
  const keys = keysOf(place.prefix, place.system, manifest.id);
  for (const artifact of manifest.artifacts) {
    const head = await headObject(bucket, artifact.key, signal);
    if (head?.bytes === artifact.bytes.stored) continue;
    throw storeFailure(
      'incomplete',
      { endpoint: bucket.endpoint, bucket: bucket.bucket, operation: 'HeadObject', key: artifact.key },
      head ? `the object has ${head.bytes} bytes, ${artifact.bytes.stored} were written` : 'the object is not there',
    );
  }
  const { written } = await putOnce(bucket, keys.manifest, manifestText(manifest), 'application/json', signal);
  return { key: keys.manifest, written };
}

/** Deletes the manifest: the set is an orphan from then on. The undo of `writeManifest`. Idempotent by system and id. */
export async function withdrawManifest(
  bucket: Bucket,
  place: RecoveryPointPlace,
  id: RecoveryPointId,
  signal?: AbortSignal,
): Promise<void> {
  await deleteObject(bucket, keysOf(place.prefix, place.system, id).manifest, signal);
}

/**
 * Writes a proof beside the manifest. The first proof of a level stays: a later one of the same level is `written: false`.
 * Idempotent by system, id and level.
 */
export async function writeProof(
  bucket: Bucket,
  place: RecoveryPointPlace,
  proof: Proof,
  signal?: AbortSignal,
): Promise<{ key: string; written: boolean; state: RecoveryPointState }> {
  const key = keysOf(place.prefix, place.system, proof.id).proof(proof.level);
  const written =
    (await getSmallObject(bucket, key, signal)) === undefined &&
    (await putOnce(bucket, key, proofText(proof), 'application/json', signal)).written;
  const point = await readRecoveryPoint(bucket, place, proof.id, signal);
  if (!point) {
    throw failure('VerificationFailed', `the proof ${bucket.bucket}/${key} has no manifest beside it`, {
      remedy: 'The recovery point was withdrawn or deleted meanwhile',
    });
  }
  return { key, written, state: point.state };
}

export interface Orphans {
  objects: string[];
  uploads: OpenUpload[];
}

/**
 * What runs that came to no end left behind: objects of recovery points without a manifest, and open uploads below the
 * system's prefix. Only to be asked while holding the system's lock, since a running backup looks the same; `except` is
 * the asking run's own recovery point. Read-only.
 */
export async function listOrphans(
  bucket: Bucket,
  place: RecoveryPointPlace,
  except: RecoveryPointId | undefined,
  signal?: AbortSignal,
): Promise<Orphans> {
  const base = recoveryPointsPrefix(place.prefix, place.system);
  const byPoint = new Map<RecoveryPointId, string[]>();
  for await (const { key } of listObjects(bucket, base, signal)) {
    const id = recoveryPointOf(key, base);
    if (id === undefined || id === except) continue;
    byPoint.set(id, [...(byPoint.get(id) ?? []), key]);
  }
  const objects = [...byPoint].flatMap(([id, keys]) =>
    keys.includes(keysOf(place.prefix, place.system, id).manifest) ? [] : keys,
  );
  const uploads = (await listUploads(bucket, base, signal)).filter((upload) => {
    const id = recoveryPointOf(upload.key, base);
    return id !== undefined && id !== except;
  });
  return { objects, uploads };
}

/** Aborts and deletes what `listOrphans` found. Idempotent; what is locked by retention is hidden by a delete marker. */
export async function removeOrphans(bucket: Bucket, orphans: Orphans, signal?: AbortSignal): Promise<void> {
  for (const upload of orphans.uploads) await abortUpload(bucket, upload, signal);
  for (const key of orphans.objects) await deleteObject(bucket, key, signal);
}

/**
 * Leaves nothing of one artifact: every open upload for its key is aborted and the object deleted. The undo of storing
 * an artifact. Idempotent by key. @throws ObjectConflict while a manifest still refers to the set
 */
export async function discardArtifact(
  bucket: Bucket,
  place: RecoveryPointPlace,
  id: RecoveryPointId,
  key: string,
  signal?: AbortSignal,
): Promise<void> {
  const keys = keysOf(place.prefix, place.system, id);
  if (!key.startsWith(keys.base)) throw new RangeError(`${key} is not part of recovery point ${id}`);
  if (await headObject(bucket, keys.manifest, signal)) {
    throw storeFailure(
      'exists',
      { endpoint: bucket.endpoint, bucket: bucket.bucket, operation: 'DeleteObject', key },
      'the recovery point is complete; its manifest must be withdrawn first',
    );
  }
  for (const upload of await listUploads(bucket, key, signal)) {
    if (upload.key === key) await abortUpload(bucket, upload, signal);
  }
  if (await headObject(bucket, key, signal)) await deleteObject(bucket, key, signal);
}

async function idsIn(bucket: Bucket, place: RecoveryPointPlace, signal?: AbortSignal): Promise<RecoveryPointId[]> {
  const base = recoveryPointsPrefix(place.prefix, place.system);
  return (await listPrefixes(bucket, base, signal)).flatMap((prefix) => {
    const id = RecoveryPointId.safeParse(prefix.slice(base.length).replace(/\/$/, ''));
    return id.success ? [id.data] : [];
  });
}
