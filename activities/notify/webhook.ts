import { createHmac } from 'node:crypto';
import type { Notice } from '../../workflows/contracts/notice.js';

/** The body of a webhook: the notice as it stands. Fields are added over time, never renamed or removed. Pure. */
export function webhookBody(notice: Notice): string {
  return JSON.stringify(notice);
}

/**
 * Headers of a webhook as standardwebhooks.com has them. The id is the same at every try, so that a receiver can tell a repetition; with a secret the signature
 * is HMAC-SHA256 over `ID.TIMESTAMP.BODY`. A secret that starts with `whsec_` is base64 behind it, any other one is taken as it is. Pure.
 */
export function webhookHeaders(
  delivery: { id: string; at: Date; body: string },
  secret: string | undefined,
): Record<string, string> {
  const timestamp = String(Math.floor(delivery.at.getTime() / 1000));
  const headers = { 'webhook-id': delivery.id, 'webhook-timestamp': timestamp };
  if (secret === undefined) return headers;
  const key = secret.startsWith('whsec_')
    ? Buffer.from(secret.slice('whsec_'.length), 'base64')
    : Buffer.from(secret, 'utf8');
  const signature = createHmac('sha256', key).update(`${delivery.id}.${timestamp}.${delivery.body}`).digest('base64');
  return { ...headers, 'webhook-signature': `v1,${signature}` };
}
