import { z } from 'zod';
import { NoticeEvent, noticeEvents, type Notice } from './notice.js';
import { SecretReference } from './secret-reference.js';
import { settable } from './unset.js';

const Port = z.int().min(1).max(65535);
const HOST_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._:-]*[A-Za-z0-9])?$/;

/** Tier of the escalation. */
export const Tier = z.int().min(1).max(9).default(1).describe('Tier of the escalation: 1 is told first');

/** The server that hands e-mail on. */
export const Mail = z
  .strictObject({
    host: settable(z.string().regex(HOST_NAME, 'a host name or an IP address')).describe('SMTP server'),
    port: Port.optional().describe('TCP port; default: 587 with starttls, 465 with tls, 25 with none'),
    security: z
      .enum(['starttls', 'tls', 'none'])
      .default('starttls')
      .describe('`starttls`: refuses to go on without it; `tls`: from the first byte; `none`: in clear'),
    user: settable(z.string().min(1)).optional().describe('Login name; without it nobody logs in'),
    password: settable(SecretReference).optional(),
    from: settable(z.email('an e-mail address')).describe('Address of the sender'),
    authorities: z
      .string()
      .regex(/^\/[^\0\n]*$/, 'an absolute path')
      .optional()
      .describe(
        "PEM file on the worker: the authorities of the server's certificate, where it has none of the usual ones",
      ),
  })
  .superRefine((mail, context) => {
    if ((mail.user === undefined) !== (mail.password === undefined))
      context.addIssue('give `user` and `password`, or neither');
    if (mail.security === 'none' && mail.user !== undefined)
      context.addIssue({ code: 'custom', path: ['security'], message: 'would send the password in clear' });
  });
export type Mail = z.infer<typeof Mail>;

const shared = {
  tier: Tier,
  events: z
    .array(NoticeEvent)
    .min(1)
    .optional()
    .describe(
      'What this target is told of; reminders, escalations and recoveries follow their event. Default: everything but `rejected` and `cancelled`, for PagerDuty only what is an error or critical; an escalation is an error, and with it comes what follows it',
    ),
};

export const NotificationTarget = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('email'),
    to: settable(z.email('an e-mail address')).describe('Address'),
    mail: Mail.optional().describe("A server of this target's own, in place of the system's"),
    ...shared,
  }),
  z.strictObject({
    kind: z.literal('slack'),
    channel: z
      .string()
      .regex(/^#\S+$/, 'a channel: "#name"')
      .describe('Channel that the webhook belongs to, for people; quote it, # starts a comment in YAML'),
    webhook: settable(SecretReference).describe('Incoming webhook URL, which is a secret'),
    ...shared,
  }),
  z.strictObject({
    kind: z.literal('webhook'),
    url: settable(SecretReference).describe('URL, which may hold a token'),
    signingSecret: settable(SecretReference)
      .optional()
      .describe('Secret that the receiver checks the signature with (Standard Webhooks); unsigned without it'),
    ...shared,
  }),
  z.strictObject({
    kind: z.literal('pagerduty'),
    routingKey: settable(SecretReference).describe('Events API routing key'),
    endpoint: settable(z.url({ protocol: /^https?$/, error: 'a URL that starts with https:// or http://' }))
      .default('https://events.pagerduty.com/v2/enqueue')
      .describe('URL of the Events API v2, or of something that speaks it'),
    ...shared,
  }),
]);
export type NotificationTarget = z.infer<typeof NotificationTarget>;

/** The secrets that a target needs, by their fields; unset ones too. Pure. */
export function targetSecrets(target: NotificationTarget): Record<string, unknown> {
  switch (target.kind) {
    case 'email':
      return target.mail === undefined ? {} : { 'mail.password': target.mail.password };
    case 'slack':
      return { webhook: target.webhook };
    case 'webhook':
      return { url: target.url, signingSecret: target.signingSecret };
    case 'pagerduty':
      return { routingKey: target.routingKey };
  }
}

/** What a target is told of where it does not say so itself. Pure. */
export function eventsOf(target: Pick<NotificationTarget, 'kind' | 'events'>): readonly NoticeEvent[] {
  if (target.events) return target.events;
  return NoticeEvent.options.filter((name) => {
    const { told, severity } = noticeEvents[name];
    return told && (target.kind !== 'pagerduty' || severity === 'error' || severity === 'critical');
  });
}

/**
 * Whether a notice is for a target: its tier has been reached, and it wants the event or the one that it is about. An escalation is also for those who want
 * escalations, and so is all that follows it. A trial is for everybody. Pure.
 */
export function isFor(target: Pick<NotificationTarget, 'kind' | 'events' | 'tier'>, notice: Notice): boolean {
  const { event, about = event, escalated = event === 'escalation' } = notice;
  if (about === 'trial') return true;
  const events = eventsOf(target);
  const wanted =
    events.includes(about) || (target.events?.includes(event) ?? false) || (escalated && events.includes('escalation'));
  return target.tier <= notice.tier && wanted;
}
