import { ApplicationFailure } from '@temporalio/common';
import type { Notice, NoticeDelivery, NoticeReport } from '../../workflows/contracts/notice.js';
import type { NoticeSystem } from '../../workflows/contracts/notice-system.js';
import { isFor, NotificationTarget, type Mail } from '../../workflows/contracts/notifications.js';
import { storeNeeds, storeReference, type StoreReference } from '../../workflows/contracts/store-reference.js';
import type { SecretReference } from '../../workflows/contracts/secret-reference.js';
import { given, unsetNeeded, type Unset } from '../../workflows/contracts/unset.js';
import { openBucket, type Bucket } from '../object-store/object-store.js';
import { addressOf, resolveKey } from '../object-store/open-store.js';
import type { Secrets } from '../secrets/resolve.js';
import { BOUNDS, DeliveryFailure, tryWithin, type Bounds } from './attempt.js';
import { postJson } from './http-post.js';
import { sendMail } from './mail.js';
import { pagerDutyBody } from './pagerduty.js';
import { claimDelivery, deliveryId, giveUpDelivery, markSent } from './sent-notices.js';
import { slackBody } from './slack.js';
import { webhookBody, webhookHeaders } from './webhook.js';

/** How long a notice waits for another process that is sending it. Longer than that process has (sent-notices.ts). Milliseconds. */
const CLAIM_MS = 55_000;

export interface SendOptions {
  secrets: Secrets;
  signal?: AbortSignal;
  bounds?: Bounds;
  /** Only these targets. Default: all that the notice is for. */
  only?: readonly string[];
}

/**
 * Tells the system's targets that a notice is for, side by side. A target gets one of each `dedupeKey`, remembered in the system's bucket; where that does not
 * answer the notice is sent all the same, and a note says so. Throws for no target's sake, only `signal`'s reason when that is aborted.
 */
export async function sendNotice(system: NoticeSystem, notice: Notice, options: SendOptions): Promise<NoticeReport> {
  const { secrets, only } = options;
  const named = Object.entries(system.notifications)
    .filter(([name]) => only === undefined || only.includes(name))
    // Parsed anew: a run that was started by an older version has its inventory as it was then.
    .map(([name, value]) => ({ name, target: NotificationTarget.parse(value) }))
    .filter(({ target }) => isFor(target, notice));
  const notes: string[] = [];
  if (named.length === 0)
    return {
      deliveries: [],
      notes: [`Nobody was told "${notice.title}": ${system.system} has no target for "${notice.event}".`],
    };
  const clean: Notice = {
    ...notice,
    title: secrets.scrubber.scrub(notice.title),
    text: secrets.scrubber.scrub(notice.text),
    ...(notice.command === undefined ? {} : { command: secrets.scrubber.scrub(notice.command) }),
  };
  const memory = await openMemory(system, secrets);
  try {
    const deliveries = await Promise.all(named.map((each) => deliver(system, clean, each, memory, options)));
    if (memory.trouble !== undefined)
      notes.push(`Targets may be told "${clean.title}" twice: ${secrets.scrubber.scrub(memory.trouble)}`);
    const away: NoticeReport['away'] = [];
    for (const { target, kind, outcome, reason = '', away: later } of deliveries) {
      if (outcome !== 'failed' && outcome !== 'skipped') continue;
      const note = `${target} (${kind}) was not told "${clean.title}": ${reason}`;
      notes.push(note);
      if (later) away.push({ target, note });
    }
    return {
      deliveries: deliveries.map(({ away: _, ...delivery }) => delivery),
      notes,
      ...(away.length > 0 ? { away } : {}),
    };
  } finally {
    memory.bucket?.close();
  }
}

/** What the bucket remembers of earlier sendings. */
interface Memory {
  bucket?: Bucket;
  store?: StoreReference;
  /** Why it cannot be asked. From then on it is not asked any more. */
  trouble?: string;
}

async function openMemory(system: NoticeSystem, secrets: Secrets): Promise<Memory> {
  const [open] = unsetNeeded(system, storeNeeds([]));
  if (open !== undefined) return { trouble: `${open.path} is not filled in` };
  try {
    const store = storeReference(system);
    return { store, bucket: openBucket(addressOf(store), await resolveKey(secrets, store.workerKey)) };
  } catch (error) {
    return { trouble: reasonOf(error) };
  }
}

/** Asks the bucket; `otherwise` where it cannot answer. Whatever is wrong with it holds no notice up. */
async function ask<T>(
  memory: Memory,
  signal: AbortSignal | undefined,
  question: (bucket: Bucket, store: StoreReference, signal: AbortSignal) => Promise<T>,
  otherwise: T,
): Promise<T> {
  const { bucket, store, trouble } = memory;
  if (trouble !== undefined || bucket === undefined || store === undefined) return otherwise;
  const until = AbortSignal.timeout(CLAIM_MS);
  try {
    return await question(bucket, store, signal ? AbortSignal.any([signal, until]) : until);
  } catch (error) {
    signal?.throwIfAborted();
    memory.trouble = reasonOf(error);
    return otherwise;
  }
}

async function deliver(
  system: NoticeSystem,
  notice: Notice,
  { name, target }: { name: string; target: NotificationTarget },
  memory: Memory,
  { secrets, signal, bounds = BOUNDS }: SendOptions,
): Promise<NoticeDelivery & { away?: boolean }> {
  const { kind } = target;
  let attempts = 0;
  const result = (outcome: NoticeDelivery['outcome'], reason?: string): NoticeDelivery => ({
    target: name,
    kind,
    outcome,
    attempts,
    ...(reason === undefined ? {} : { reason: secrets.scrubber.scrub(reason) }),
  });
  const missing = missingValue(system, name, target);
  if (missing !== undefined) return result('skipped', missing);
  const id = deliveryId(notice, name);
  const claim = await ask(memory, signal, (bucket, store, until) => claimDelivery(bucket, store, id, until), 0);
  if (claim === undefined) return result('sent before');
  try {
    await tryWithin(
      bounds,
      signal,
      () => void attempts++,
      (time) => handOver(system, notice, target, { id, secrets, signal: time, timeoutMs: bounds.attemptMs }),
    );
  } catch (error) {
    signal?.throwIfAborted();
    await ask(memory, signal, (bucket, store, until) => giveUpDelivery(bucket, store, id, claim, until), undefined);
    return { ...result('failed', reasonOf(error)), away: canWorkLater(error) };
  }
  const delivery = { id, target: name, kind, notice };
  await ask(memory, signal, (bucket, store, until) => markSent(bucket, store, delivery, until), undefined);
  return result('sent');
}

/** What the target lacks in the inventory, in words; undefined when nothing. Pure. */
export function missingValue(system: NoticeSystem, name: string, target: NotificationTarget): string | undefined {
  const at = `notifications.${name}`;
  const open = unsetNeeded({ notifications: { [name]: target } })[0];
  if (open !== undefined) return `${open.path} is not filled in`;
  if (target.kind !== 'email' || target.mail !== undefined) return undefined;
  if (system.mail === undefined) return `the system has no mail server: add \`mail\`, or \`mail\` below ${at}`;
  const server = unsetNeeded({ mail: system.mail })[0];
  return server === undefined ? undefined : `${server.path} is not filled in`;
}

/** One try at one target. Throws DeliveryFailure and `SecretUnavailable`. */
async function handOver(
  system: NoticeSystem,
  notice: Notice,
  target: NotificationTarget,
  { id, secrets, signal, timeoutMs }: { id: string; secrets: Secrets; signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  const secret = async (value: SecretReference | Unset, field: string): Promise<string> =>
    (await secrets.resolve(given(value, field))).reveal();
  switch (target.kind) {
    case 'webhook': {
      const { signingSecret } = target;
      const body = webhookBody(notice);
      const key = signingSecret === undefined ? undefined : await secret(signingSecret, 'signingSecret');
      return postJson(await secret(target.url, 'url'), body, webhookHeaders({ id, at: new Date(), body }, key), signal);
    }
    case 'slack':
      return postJson(await secret(target.webhook, 'webhook'), slackBody(notice), {}, signal);
    case 'pagerduty': {
      const body = pagerDutyBody(notice, await secret(target.routingKey, 'routingKey'));
      return postJson(given(target.endpoint, 'endpoint'), body, {}, signal);
    }
    case 'email': {
      const mail = given(target.mail ?? (system.mail as Mail), 'mail');
      return sendMail(notice, { to: given(target.to, 'to'), mail, id }, secrets, { signal, timeoutMs });
    }
  }
}

/** Whether what went wrong may be over in a while: what is configured wrongly stays so. */
const canWorkLater = (error: unknown): boolean =>
  error instanceof DeliveryFailure ? error.retry : error instanceof ApplicationFailure && error.nonRetryable === false;

/** What went wrong, without where in the code. Errors that nobody foresaw may hold an address: only their names are told. */
function reasonOf(error: unknown): string {
  if (error instanceof DeliveryFailure || error instanceof ApplicationFailure) return error.message;
  const name = error instanceof Error ? error.name : 'Error';
  return name === 'TimeoutError' ? 'no answer in time' : `a mistake in guardia (${name})`;
}
