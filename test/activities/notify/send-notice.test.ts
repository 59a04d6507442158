import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import { examineNotices } from '../../../activities/doctor/notice-examination.js';
import type { Bounds } from '../../../activities/notify/attempt.js';
import { sendNotice } from '../../../activities/notify/send-notice.js';
import { claimDelivery, deliveryId } from '../../../activities/notify/sent-notices.js';
import { webhookHeaders } from '../../../activities/notify/webhook.js';
import { listObjects } from '../../../activities/object-store/objects.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import { notice, Notice, type NoticeReport, type NoticeWords } from '../../../workflows/contracts/notice.js';
import { storeReference } from '../../../workflows/contracts/store-reference.js';
import { System } from '../../../workflows/contracts/system.js';
import { smallSystem } from '../../workflows/small-system.js';
import { freePort, rootKey, startGateway, type Gateway } from '../object-store/versity-gateway.js';
import {
  startMailReceiver,
  startWebReceiver,
  type MailReceiver,
  type WebReceiver,
} from '../../../infra/lab/notice-receivers.js';

jest.setTimeout(60_000);

const QUICK: Bounds = { attemptMs: 700, targetMs: 4_000, attempts: 3, pauseMs: 50 };
const TOKEN = 'T0K3N-of-the-hook-4711';
const ROUTING_KEY = 'R0ut1ng-key-of-the-service-42';
const PASSWORD = 'p4ssw0rd-of-the-mail-server';

let gateway: Gateway;
let web: WebReceiver;
let mail: MailReceiver;
let nobodysPort: number;
let counter = 0;

/** What each path of the receiver answers. */
const answers: Record<string, (response: ServerResponse, times: number) => void> = {
  '/slow': () => undefined,
  '/broken': (response) => void response.writeHead(500).end('no such thing'),
  '/stumbles': (response, times) => void response.writeHead(times < 2 ? 503 : 200).end(),
  '/refuses': (response) => void response.writeHead(403).end(`invalid token ${TOKEN}`),
  '/redirects': (response) => void response.writeHead(302, { location: `${web.url}/elsewhere` }).end(),
  '/pagerduty': (response) => void response.writeHead(202).end('{"status":"success"}'),
};

beforeAll(async () => {
  gateway = await startGateway();
  nobodysPort = await freePort();
  web = await startWebReceiver(({ path }, response, earlier) => {
    const answer = Object.entries(answers).find(([beginning]) => path.startsWith(beginning))?.[1];
    if (answer) answer(response, earlier.length);
    else response.end('ok');
  });
  mail = await startMailReceiver({
    security: 'starttls',
    login: { user: 'guardia', password: PASSWORD },
    refuse: (to, times) =>
      to.startsWith('nobody')
        ? { code: 550, message: 'no such mailbox' }
        : to.startsWith('busy') && times === 1
          ? { code: 451, message: 'try again later' }
          : undefined,
  });
});
afterAll(async () => {
  await mail?.close();
  await web?.close();
  await gateway?.remove();
});
afterEach(() => {
  web.posted.length = 0;
  mail.mails.length = 0;
});

/** A system with these targets, whose bucket is the gateway's. */
function systemWith(notifications: Record<string, object>, more: object = {}): System {
  const name = `notified-${++counter}`;
  const base = parse(smallSystem(name)) as { objectStore: object };
  return System.parse({
    ...base,
    objectStore: {
      ...base.objectStore,
      provider: 'versitygw',
      endpoint: gateway.address.endpoint,
      bucket: gateway.address.bucket,
      keys: { worker: { accessKeyId: 'env:STORE_ID', secretAccessKey: 'env:STORE_SECRET' }, hosts: {} },
    },
    mail: {
      host: '127.0.0.1',
      port: mail.port,
      user: 'guardia',
      password: 'env:MAIL_PASSWORD',
      from: 'guardia@example.org',
      authorities: mail.authorities,
    },
    escalation: [
      { tier: 1, title: 'first', afterMinutes: 0 },
      { tier: 2, title: 'second', afterMinutes: 30 },
    ],
    notifications,
    ...more,
  });
}

/** A webhook at a path of the receiver; its address holds a token. */
const hook = (path: string, more: object = {}) => ({
  kind: 'webhook',
  url: `env:HOOK${path.replaceAll('/', '_')}`,
  ...more,
});

const secretsHere = (more: Record<string, string> = {}) =>
  createSecrets({
    directory: '/nonexistent',
    environment: {
      STORE_ID: rootKey.accessKeyId,
      STORE_SECRET: rootKey.secretAccessKey,
      ROUTING_KEY,
      MAIL_PASSWORD: PASSWORD,
      SIGNING: 'whsec_plJ3nmyCDGBKInavdOK15jsl',
      NOT_A_URL: `hooks.example.org/${TOKEN}`,
      NOBODY_THERE: `http://127.0.0.1:${nobodysPort}/${TOKEN}`,
      ...Object.fromEntries(
        ['ok', 'other', 'slow', 'broken', 'stumbles', 'refuses', 'redirects', 'slack'].map((name) => [
          `HOOK_${name}`,
          `${web.url}/${name}/${TOKEN}`,
        ]),
      ),
      ...more,
    },
  });

const failed = (more: Partial<NoticeWords> = {}): Notice =>
  notice({
    event: 'failed',
    system: 'notified',
    runbook: 'deploy',
    workflowId: 'deploy/notified/1',
    runId: 'b1a2',
    host: 'app',
    step: 'switch-app',
    title: 'deploy of notified: failed',
    text: 'step "switch" on app failed: <no> such & file; nothing had to be undone',
    command: 'guardia watch deploy/notified/1',
    dedupeKey: `end/${++counter}`,
    occurredAt: '2026-11-22T08:00:00.000Z',
    ...more,
  });

const tell = (
  system: System,
  one: Notice,
  more: Partial<Parameters<typeof sendNotice>[2]> = {},
): Promise<NoticeReport> => sendNotice(system, one, { secrets: secretsHere(), bounds: QUICK, ...more });

const outcomes = ({ deliveries }: NoticeReport) =>
  Object.fromEntries(deliveries.map(({ target, outcome, attempts }) => [target, `${outcome} ${attempts}`]));

describe('what arrives', () => {
  test('a webhook gets the notice as it stands, signed as Standard Webhooks has it', async () => {
    const one = failed();
    const report = await tell(systemWith({ ours: hook('/ok', { signingSecret: 'env:SIGNING' }) }), one);
    expect(report).toEqual({
      deliveries: [{ target: 'ours', kind: 'webhook', outcome: 'sent', attempts: 1 }],
      notes: [],
    });
    const [{ headers, body, path } = { headers: {}, body: '', path: '' }] = web.posted;
    expect(path).toBe(`/ok/${TOKEN}`);
    expect(Notice.parse(JSON.parse(body))).toEqual(one);
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'user-agent': 'guardia' });
    const at = new Date(Number(headers['webhook-timestamp']) * 1000);
    expect(Math.abs(at.getTime() - Date.now())).toBeLessThan(60_000);
    const id = String(headers['webhook-id']);
    expect(headers['webhook-signature']).toBe(
      webhookHeaders({ id, at, body }, 'whsec_plJ3nmyCDGBKInavdOK15jsl')['webhook-signature'],
    );
  });

  test('the signature is the one of the example in the specification', () => {
    const headers = webhookHeaders(
      {
        id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        at: new Date(1614265330 * 1000),
        body: '{"test": 2432232314}',
      },
      'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    );
    expect(headers).toEqual({
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  test('without a signing secret there is no signature', async () => {
    await tell(systemWith({ ours: hook('/ok') }), failed());
    expect(web.posted[0]?.headers).toHaveProperty('webhook-id');
    expect(web.posted[0]?.headers).not.toHaveProperty('webhook-signature');
  });

  test('Slack gets one text and one attachment, in which nothing is a format, a link or a mention', async () => {
    const system = systemWith({ ops: { kind: 'slack', channel: '#ops', webhook: 'env:HOOK_slack' } });
    await tell(system, failed({ text: 'see <!channel> ``` & <http://x>', link: 'http://ui.example/run' }));
    expect(JSON.parse(web.posted[0]?.body ?? '')).toEqual({
      text: '*deploy of notified: failed*',
      attachments: [
        expect.objectContaining({
          color: 'danger',
          text: expect.stringMatching(
            /^```see &lt;!channel&gt; ''' &amp; &lt;http:\/\/x&gt;\n\nWhat to do:\n {4}guardia watch deploy\/notified\/1\n[^`]*Host: app\nStep: switch-app\n[^`]*```$/,
          ),
          title_link: 'http://ui.example/run',
        }),
      ],
    });
  });

  test('e-mail goes out over STARTTLS with a login, says where and what to do, and wants no automatic answer', async () => {
    const one = failed();
    const report = await tell(systemWith({ ana: { kind: 'email', to: 'ana@example.org' } }), one);
    expect(outcomes(report)).toEqual({ ana: 'sent 1' });
    expect(mail.mails).toEqual([
      expect.objectContaining({ to: ['ana@example.org'], from: 'guardia@example.org', secure: true, user: 'guardia' }),
    ]);
    const text = mail.mails[0]?.text ?? '';
    expect(text).toContain('Subject: [error] deploy of notified: failed');
    expect(text).toContain('Auto-Submitted: auto-generated');
    expect(text).toContain('step "switch" on app failed: <no> such & file; nothing had to be undone');
    expect(text).toContain('    guardia watch deploy/notified/1');
    expect(text).toMatch(/Message-ID: <[0-9a-f]{40}@notified\.guardia>/);
  });

  test('PagerDuty gets one incident for all notices of a matter: opened, taken up, closed', async () => {
    const system = systemWith({
      duty: { kind: 'pagerduty', routingKey: 'env:ROUTING_KEY', endpoint: `${web.url}/pagerduty/v2/enqueue` },
    });
    const first = failed();
    const words = { about: 'failed', incident: first.incident } as const;
    await tell(system, first);
    await tell(system, failed({ ...words, event: 'taken up' }));
    await tell(system, failed({ ...words, event: 'recovered' }));
    const events = web.posted.map(({ body }) => JSON.parse(body) as Record<string, unknown>);
    expect(events.map(({ event_action: action, dedup_key: key }) => [action, key])).toEqual([
      ['trigger', first.incident],
      ['acknowledge', first.incident],
      ['resolve', first.incident],
    ]);
    expect(events[0]).toMatchObject({
      routing_key: ROUTING_KEY,
      client: 'guardia',
      payload: {
        summary: 'deploy of notified: failed',
        source: 'app',
        severity: 'error',
        timestamp: '2026-11-22T08:00:00.000Z',
        component: 'deploy',
        class: 'failed',
        custom_details: { command: 'guardia watch deploy/notified/1' },
      },
    });
  });
});

describe('who is told', () => {
  test('tiers up to the one of the notice', async () => {
    const system = systemWith({ first: hook('/ok'), second: hook('/other', { tier: 2 }) });
    expect(outcomes(await tell(system, failed()))).toEqual({ first: 'sent 1' });
    expect(outcomes(await tell(system, failed({ tier: 2 })))).toEqual({ first: 'sent 1', second: 'sent 1' });
  });

  test('events that a target names, and what belongs to them', async () => {
    const system = systemWith({
      all: hook('/ok'),
      rollbacks: hook('/other', { events: ['rolled back'] }),
      duty: { kind: 'pagerduty', routingKey: 'env:ROUTING_KEY', endpoint: `${web.url}/pagerduty` },
    });
    const told = async (event: Notice['event'], about?: Notice['event']) =>
      Object.keys(outcomes(await tell(system, failed({ event, ...(about ? { about } : {}) }))));
    expect(await told('rolled back')).toEqual(['all', 'rollbacks', 'duty']);
    expect(await told('overdue')).toEqual(['all']);
    expect(await told('recovered', 'overdue')).toEqual(['all']);
    expect(await told('recovered', 'rolled back')).toEqual(['all', 'rollbacks', 'duty']);
    expect(await told('cancelled')).toEqual([]);
  });

  test('a trial: everybody', async () => {
    const system = systemWith({
      second: hook('/other', { tier: 2 }),
      rollbacks: hook('/ok', { events: ['rolled back'] }),
      duty: { kind: 'pagerduty', routingKey: 'env:ROUTING_KEY', endpoint: `${web.url}/pagerduty` },
    });
    expect(Object.keys(outcomes(await tell(system, failed({ event: 'trial' }))))).toEqual([
      'second',
      'rollbacks',
      'duty',
    ]);
  });

  test('nobody: said, and no failure', async () => {
    expect(await tell(systemWith({}), failed())).toEqual({
      deliveries: [],
      notes: [expect.stringMatching(/^Nobody was told "deploy of notified: failed": notified-\d+ has no target/)],
    });
  });

  test('a target that is not filled in is passed over, by name', async () => {
    const system = systemWith(
      {
        ok: hook('/ok'),
        open: { kind: 'slack', channel: '#x', webhook: { unset: 'the webhook' } },
        ana: { kind: 'email', to: 'ana@example.org' },
      },
      { mail: undefined },
    );
    const report = await tell(system, failed());
    expect(outcomes(report)).toEqual({ ok: 'sent 1', open: 'skipped 0', ana: 'skipped 0' });
    expect(report.notes).toEqual([
      'open (slack) was not told "deploy of notified: failed": notifications.open.webhook is not filled in',
      'ana (email) was not told "deploy of notified: failed": the system has no mail server: add `mail`, or `mail` below notifications.ana',
    ]);
  });
});

describe('one target cannot hurt another', () => {
  test('dead, slow, failing, redirecting and misconfigured ones fail by themselves, in bounded time', async () => {
    const system = systemWith({
      good: hook('/ok'),
      dead: { kind: 'webhook', url: 'env:NOBODY_THERE' },
      slow: hook('/slow'),
      broken: hook('/broken'),
      stumbling: hook('/stumbles'),
      refusing: hook('/refuses'),
      redirecting: hook('/redirects'),
      wrong: { kind: 'webhook', url: 'env:NOT_A_URL' },
      secretless: { kind: 'webhook', url: 'env:IS_NOT_SET' },
      nobody: { kind: 'email', to: 'nobody@example.org' },
      busy: { kind: 'email', to: 'busy@example.org' },
    });
    const before = Date.now();
    const report = await tell(system, failed());
    expect(Date.now() - before).toBeLessThan(QUICK.targetMs + 3_000);
    expect(outcomes(report)).toEqual({
      good: 'sent 1',
      dead: 'failed 3',
      slow: 'failed 3',
      broken: 'failed 3',
      stumbling: 'sent 3',
      refusing: 'failed 1',
      redirecting: 'failed 1',
      wrong: 'failed 1',
      secretless: 'failed 1',
      nobody: 'failed 1',
      busy: 'sent 2',
    });
    // What can be better in a while, with the sentence about it.
    expect(report.away?.map(({ target }) => target)).toEqual(['dead', 'slow', 'broken']);
    expect(report.notes).toEqual(expect.arrayContaining(report.away?.map(({ note }) => note) ?? []));
    expect(web.at('/elsewhere')).toEqual([]);
    const reasons = Object.fromEntries(report.deliveries.map(({ target, reason }) => [target, reason]));
    expect(reasons).toMatchObject({
      dead: 'refuses the connection: nothing listens there',
      slow: 'no answer within 0.7 s',
      broken: 'answers 500: no such thing',
      redirecting: 'answers with a redirect (302), which is not followed: correct the address',
      wrong: 'its address is no URL that starts with https:// or http://',
      secretless: expect.stringContaining("the worker's environment has no IS_NOT_SET"),
      nobody: 'the mail server refuses the mail: 550 no such mailbox',
    });
  });

  test('no secret stands in what is answered, also when the target repeats it', async () => {
    const system = systemWith({
      refusing: hook('/refuses'),
      slow: hook('/slow'),
      dead: { kind: 'webhook', url: 'env:NOBODY_THERE' },
    });
    const text = JSON.stringify(await tell(system, failed(), { secrets: secretsHere({ LEAK: TOKEN }) }));
    expect(text).toContain('answers 403');
    expect(text).not.toContain(TOKEN);
    // A secret that guardia has met before is taken out of the notice as well.
    const secrets = secretsHere({ LEAK: 'hunter2-of-the-database' });
    await secrets.resolve('env:LEAK');
    await tell(systemWith({ ours: hook('/ok') }), failed({ text: 'login with hunter2-of-the-database refused' }), {
      secrets,
    });
    expect(JSON.parse(web.at('/ok')[0]?.body ?? '')).toMatchObject({ text: 'login with [secret env:LEAK] refused' });
  });

  test('a mail server with another certificate, without TLS or with another password gets nothing', async () => {
    const plain = await startMailReceiver({ security: 'none' });
    const other = await startMailReceiver({ security: 'tls' });
    try {
      const base = { host: '127.0.0.1', from: 'guardia@example.org' };
      const target = (server: object) => ({ kind: 'email', to: 'ana@example.org', mail: { ...base, ...server } });
      const login = { user: 'guardia', password: 'env:ROUTING_KEY' };
      const report = await tell(
        systemWith({
          plain: target({ port: plain.port }),
          stranger: target({ port: other.port, security: 'tls' }),
          known: target({ port: other.port, security: 'tls', authorities: other.authorities }),
          clear: target({ port: plain.port, security: 'none' }),
          password: target({ port: mail.port, authorities: mail.authorities, ...login }),
        }),
        failed(),
      );
      expect(outcomes(report)).toMatchObject({
        plain: expect.stringContaining('failed'),
        stranger: 'failed 1',
        known: 'sent 1',
        clear: 'sent 1',
        password: 'failed 1',
      });
      expect(report.notes.join('\n')).toMatch(/plain \(email\).*TLS/);
      expect(report.notes.join('\n')).toMatch(/password \(email\).*the mail server refuses the login: 535/);
      expect(JSON.stringify(report)).not.toContain(ROUTING_KEY);
      expect(plain.mails).toHaveLength(1);
      expect(mail.mails).toHaveLength(0);
    } finally {
      await plain.close();
      await other.close();
    }
  });
});

describe('a target is told once', () => {
  test('when the sending is repeated, and when two processes send at the same time', async () => {
    const system = systemWith({ ours: hook('/ok'), ana: { kind: 'email', to: 'ana@example.org' } });
    const one = failed();
    const reports = await Promise.all([tell(system, one), tell(system, one), tell(system, one)]);
    reports.push(await tell(system, one));
    expect(web.at('/ok')).toHaveLength(1);
    expect(mail.mails).toHaveLength(1);
    const said = reports.flatMap(({ deliveries }) => deliveries.map(({ outcome }) => outcome)).sort();
    expect(said).toEqual(['sent', 'sent', ...Array<string>(6).fill('sent before')]);
    expect(reports.flatMap(({ notes }) => notes)).toEqual([]);
    await tell(system, failed());
    expect(web.at('/ok')).toHaveLength(2);
  });

  test('one that failed is sent by a later try, the others are not repeated', async () => {
    const system = systemWith({ ours: hook('/ok'), broken: hook('/broken') });
    const one = failed();
    await tell(system, one);
    answers['/broken'] = (response) => void response.end();
    expect(outcomes(await tell(system, one))).toEqual({ ours: 'sent before 0', broken: 'sent 1' });
    expect(web.at('/ok')).toHaveLength(1);
  });

  test('a sender that died in between is waited for, then taken for dead', async () => {
    const system = systemWith({ ours: hook('/ok') });
    const one = failed();
    const store = storeReference(system);
    const id = deliveryId(one, 'ours');
    const signal = AbortSignal.timeout(30_000);
    expect(await claimDelivery(gateway.bucket, store, id, signal)).toBe(1);
    const sending = tell(system, one);
    await delay(1_500);
    expect(web.posted).toHaveLength(0);
    const later = jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 60_000);
    try {
      expect(outcomes(await sending)).toEqual({ ours: 'sent 1' });
    } finally {
      later.mockRestore();
    }
    const kept: string[] = [];
    for await (const { key } of listObjects(gateway.bucket, `${store.system}/notices/`))
      kept.push(key.split('/').at(-1) ?? '');
    expect(kept).toEqual(['claim-0001.json', 'claim-0002.json', 'sent.json']);
  });

  test('without the bucket it is sent all the same, and said', async () => {
    const system = systemWith({ ours: hook('/ok') });
    await gateway.kill();
    try {
      const report = await tell(system, failed());
      expect(outcomes(report)).toEqual({ ours: 'sent 1' });
      expect(report.notes).toEqual([
        expect.stringMatching(/^Targets may be told "deploy of notified: failed" twice: ListObjectsV2 of /),
      ]);
    } finally {
      await gateway.start();
    }
    const unset = System.parse({
      ...system,
      objectStore: { ...system.objectStore, bucket: { unset: 'a bucket' } },
    });
    expect((await tell(unset, failed())).notes).toEqual([
      'Targets may be told "deploy of notified: failed" twice: objectStore.bucket is not filled in',
    ]);
  });

  test('a sending that is cancelled stops', async () => {
    const stop = new AbortController();
    const sending = tell(systemWith({ slow: hook('/slow') }), failed(), { signal: stop.signal });
    setTimeout(() => stop.abort(new Error('the worker stops')), 300);
    await expect(sending).rejects.toThrow('the worker stops');
  });
});

describe('trying the targets', () => {
  const look = (system: System) => examineNotices(system, 'ana@console', secretsHere(), QUICK);

  test('every target is told that it is a trial, each time anew; what does not arrive is told with what helps', async () => {
    const system = systemWith({
      ours: hook('/ok', { events: ['failed'], tier: 2 }),
      chat: { kind: 'slack', channel: '#ops', webhook: 'env:HOOK_refuses' },
      open: { kind: 'webhook', url: { unset: 'the address' } },
      ana: { kind: 'email', to: 'ana@example.org' },
    });
    await look(system);
    const { findings } = await look(system);
    expect(findings.map(({ id, state }) => `${id}: ${state}`)).toEqual([
      'notice-ours: ok',
      'notice-chat: missing',
      'notice-open: skipped',
      'notice-ana: ok',
    ]);
    expect(findings[1]).toMatchObject({
      found: expect.stringContaining('403'),
      remedy: expect.stringContaining('notifications.chat'),
    });
    expect(JSON.stringify(findings)).not.toContain(TOKEN);
    expect(web.at('/ok').map(({ body }) => (JSON.parse(body) as Notice).title)).toEqual(
      Array<string>(2).fill(`${system.system}: this is a trial, nothing has happened`),
    );
    expect(mail.mails).toHaveLength(2);
  });

  test('the incident that a trial opens is closed', async () => {
    await look(
      systemWith({ duty: { kind: 'pagerduty', routingKey: 'env:ROUTING_KEY', endpoint: `${web.url}/pagerduty` } }),
    );
    const events = web.at('/pagerduty').map(({ body }) => JSON.parse(body) as Record<string, unknown>);
    expect(events.map((event) => event['event_action'])).toEqual(['trigger', 'resolve']);
    expect(new Set(events.map((event) => event['dedup_key'])).size).toBe(1);
  });

  test('no targets: nobody would be told', async () => {
    expect((await look(systemWith({}))).findings).toMatchObject([
      { state: 'warning', found: 'none: nobody is told of anything' },
    ]);
  });
});
