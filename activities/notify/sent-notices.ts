import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isFailure } from '../../workflows/contracts/errors.js';
import type { Notice } from '../../workflows/contracts/notice.js';
import type { StoreReference } from '../../workflows/contracts/store-reference.js';
import type { Bucket } from '../object-store/object-store.js';
import { listObjects, putOnce } from '../object-store/objects.js';

/*
 * What was told to whom, in the system's bucket:
 *
 *   PREFIX SYSTEM/notices/DELIVERY/claim-N.json   who is sending it, since when; worth LEASE_MS
 *                                  failed-N.json  that sender could not hand it over: free for the next one
 *                                  sent.json      it was handed over
 */

/** How long a sender has to hand a notice over before another one may take it to be dead. Longer than the bounds of one target. Milliseconds. */
const LEASE_MS = 45_000;
const LOOK_AGAIN_MS = 1_000;
/** How long the bucket may take for one answer. Milliseconds. */
const ANSWER_MS = 10_000;

const soon = (signal: AbortSignal): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);

/** Names one notice to one target, whoever sends it. */
export function deliveryId(notice: Notice, target: string): string {
  return createHash('sha256')
    .update(JSON.stringify([notice.system, notice.dedupeKey, target]))
    .digest('hex')
    .slice(0, 40);
}

const placeOf = (store: StoreReference, id: string): string => `${store.prefix}${store.system}/notices/${id}/`;

/**
 * Makes a notice ours to send: the number of our claim, or undefined when it was sent before. While another process sends it this waits: for its end, or until
 * that process must be dead. Whoever dies between handing over and saying so makes one repetition; nothing is lost.
 * Throws as the object store does.
 */
export async function claimDelivery(
  bucket: Bucket,
  store: StoreReference,
  id: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  for (;;) {
    let newest = 0;
    let since = 0;
    const failed = new Set<number>();
    for await (const { key, modifiedAt } of listObjects(bucket, placeOf(store, id), soon(signal))) {
      const [, what, number] = /\/(sent|claim|failed)(?:-(\d+))?\.json$/.exec(key) ?? [];
      const n = Number(number);
      if (what === 'sent') return undefined;
      if (what === 'failed') failed.add(n);
      else if (what === 'claim' && n > newest) [newest, since] = [n, Date.parse(modifiedAt)];
    }
    if (failed.has(newest) || Date.now() - since > LEASE_MS) {
      const claim = JSON.stringify({ sender: randomUUID(), at: new Date().toISOString() });
      try {
        await putOnce(bucket, entry(store, id, 'claim', newest + 1), claim, 'application/json', soon(signal));
        return newest + 1;
      } catch (error) {
        // Somebody else was faster.
        if (!isFailure(error, 'ObjectConflict')) throw error;
      }
    }
    await delay(LOOK_AGAIN_MS, undefined, { signal });
  }
}

const entry = (store: StoreReference, id: string, what: 'claim' | 'failed', n: number): string =>
  `${placeOf(store, id)}${what}-${String(n).padStart(4, '0')}.json`;

/** Gives a claim up, so that the next sender need not wait. Idempotent. Throws as the object store does. */
export async function giveUpDelivery(
  bucket: Bucket,
  store: StoreReference,
  id: string,
  claim: number,
  signal: AbortSignal,
): Promise<void> {
  await putOnce(bucket, entry(store, id, 'failed', claim), '{}', 'application/json', soon(signal));
}

/** Writes down that a notice was handed over. Idempotent. Throws as the object store does. */
export async function markSent(
  bucket: Bucket,
  store: StoreReference,
  delivery: { id: string; target: string; kind: string; notice: Notice },
  signal: AbortSignal,
): Promise<void> {
  const { id, target, kind, notice } = delivery;
  const { event, title, dedupeKey } = notice;
  try {
    await putOnce(
      bucket,
      `${placeOf(store, id)}sent.json`,
      `${JSON.stringify({ schemaVersion: 1, at: new Date().toISOString(), target, kind, event, title, dedupeKey }, undefined, 2)}\n`,
      'application/json',
      soon(signal),
    );
  } catch (error) {
    if (!isFailure(error, 'ObjectConflict')) throw error;
  }
}
