import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { WorkflowFailedError, type Client, type Connection } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { createNotifyActivities } from '../../activities/notify/notify-activities.js';
import { createSecrets } from '../../activities/secrets/resolve.js';
import { connectClient } from '../../activities/temporal/connection.js';
import { startDevServer, type DevServer } from '../../infra/temporal/dev-server.js';
import { activityInterceptor } from '../../workers/activity-interceptor.js';
import { bundle } from '../../workers/bundle.js';
import { activityWorkerOptions, workflowWorkerOptions } from '../../workers/worker-options.js';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { notice, type Notice } from '../../workflows/contracts/notice.js';
import { System } from '../../workflows/contracts/system.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../../workflows/contracts/task-queues.js';
import { startWebReceiver, type WebReceiver } from '../../infra/lab/notice-receivers.js';
import { rootKey, startGateway, type Gateway } from '../activities/object-store/versity-gateway.js';
import { smallSystem } from './small-system.js';

jest.setTimeout(60_000);

const root = path.resolve(import.meta.dirname, '../..');
const QUEUE = 'notices-test';

/** A workflow that tells, works for a moment, and returns the notes. In the checkout: packages are looked for upwards from the workflows. */
const TRIAL = `
import { sleep, CancellationScope } from '@temporalio/workflow';
import { createNotices } from '../../../workflows/lib/notices.js';
export async function trial(system, notice, seconds) {
  const notes = [];
  const { tell, settled } = createNotices(() => system, (text) => notes.push(text));
  const before = Date.now();
  tell(notice);
  tell(notice);
  const delayed = Date.now() - before;
  try {
    if (seconds > 0) await sleep(seconds * 1000);
  } finally {
    await settled();
  }
  return { notes, delayed };
}
export async function trialOfTwo(system, first, second, seconds) {
  const notes = [];
  const { tell, settled } = createNotices(() => system, (text) => notes.push(text));
  tell(first);
  await sleep(seconds * 1000);
  tell(second);
  await settled();
  return notes;
}
`;

let directory: string;
let server: DevServer;
let client: Client;
let connection: Connection;
let native: NativeConnection;
let gateway: Gateway;
let web: WebReceiver;
let stopWorkers: () => Promise<void>;
let system: System;
/** What the activity does instead of the real one. */
let instead: FrameActivities['sendNotice'] | undefined;
let attempts = 0;
let real: Pick<FrameActivities, 'sendNotice'>;

beforeAll(async () => {
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
    shutdownSignals: [],
  });
  const parent = path.join(root, '.build/check');
  mkdirSync(parent, { recursive: true });
  directory = mkdtempSync(path.join(parent, 'notices-'));
  writeFileSync(path.join(directory, 'index.ts'), TRIAL);
  await bundle(path.join(directory, 'index.ts'), path.join(directory, 'bundle.js'));
  gateway = await startGateway();
  web = await startWebReceiver();
  system = System.parse({
    ...(parse(smallSystem('told')) as object),
    objectStore: {
      provider: 'versitygw',
      endpoint: gateway.address.endpoint,
      bucket: gateway.address.bucket,
      keys: { worker: { accessKeyId: 'env:ID', secretAccessKey: 'env:SECRET' }, hosts: {} },
    },
    notifications: { ours: { kind: 'webhook', url: 'env:HOOK' }, gone: { kind: 'webhook', url: 'env:IS_NOT_SET' } },
  });
  const secrets = createSecrets({
    directory: '/nonexistent',
    environment: { HOOK: `${web.url}/T0K3N-4711`, ID: rootKey.accessKeyId, SECRET: rootKey.secretAccessKey },
  });
  real = createNotifyActivities({
    secrets,
    locations: { systemsDirectory: directory },
    webUi: 'http://ui.example/',
  });
  server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
  const target = { address: server.address, namespace: server.namespace, source: 'test' };
  ({ client, connection } = await connectClient({ target: { ...target, connection: { address: server.address } } }));
  native = await NativeConnection.connect({ address: server.address });
  const shared = { connection: native, namespace: server.namespace };
  const activities = {
    sendNotice: async (input: Parameters<FrameActivities['sendNotice']>[0]) => {
      attempts++;
      return (instead ?? real.sendNotice)(input);
    },
  };
  const workers = await Promise.all([
    Worker.create(
      workflowWorkerOptions({
        ...shared,
        taskQueue: QUEUE,
        activities: {},
        bundle: path.join(directory, 'bundle.js'),
      }),
    ),
    Worker.create({
      ...activityWorkerOptions({ ...shared, taskQueue: taskQueueOfSite(DEFAULT_SITE), activities }),
      interceptors: { activity: [activityInterceptor((text) => secrets.scrubber.scrub(text))] },
    }),
  ]);
  const done = Promise.all(workers.map((each) => each.run()));
  stopWorkers = async () => {
    for (const each of workers) each.shutdown();
    await done;
  };
}, 120_000);
afterAll(async () => {
  await stopWorkers?.();
  await native?.close();
  await connection?.close();
  await server?.stop({ force: true });
  await web?.close();
  await gateway?.remove();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

let counter = 0;
const failed = (): Notice =>
  notice({
    event: 'failed',
    system: 'told',
    workflowId: 'deploy/told/1',
    runId: 'r1',
    title: 'deploy of told: failed',
    text: 'it broke',
    dedupeKey: `k${++counter}`,
    occurredAt: '2026-11-22T08:00:00.000Z',
  });

const start = (one: Notice, seconds = 0, of: System | string = system) => {
  attempts = 0;
  web.posted.length = 0;
  return client.workflow.start('trial', {
    taskQueue: QUEUE,
    workflowId: `trial-${one.dedupeKey}`,
    args: [of, one, seconds],
  });
};

describe('a run that tells', () => {
  test('goes on at once, tells once, and notes what could not be told', async () => {
    const one = failed();
    const run = await start(one);
    expect(await run.result()).toEqual({
      delayed: 0,
      notes: [expect.stringMatching(/^gone \(webhook\) was not told "deploy of told: failed": secret env:IS_NOT_SET/)],
    });
    expect(web.posted.map(({ body }) => JSON.parse(body) as Notice)).toEqual([
      { ...one, link: 'http://ui.example/namespaces/default/workflows/deploy%2Ftold%2F1/r1/history' },
    ]);
    const history = JSON.stringify(await run.fetchHistory());
    expect(history).not.toContain('T0K3N-4711');
  });

  test('knows only the name of its system: the worker reads the inventory, and an unknown one is a note', async () => {
    writeFileSync(path.join(directory, 'told.yaml'), stringify(JSON.parse(JSON.stringify(system))));
    await (await start(failed(), 0, 'told')).result();
    expect(web.posted).toHaveLength(1);
    const run = await start(failed(), 0, 'tolt');
    expect(await run.result()).toMatchObject({
      notes: [expect.stringContaining('The notice "failed" could not be sent: there is no system "tolt"')],
    });
  });

  test('an attempt whose worker died after it had sent: the next one does not send again', async () => {
    const one = failed();
    const { sendNotice } = createNotifyActivities({
      locations: { systemsDirectory: directory },
      secrets: createSecrets({
        directory: '/nonexistent',
        environment: { HOOK: `${web.url}/T0K3N-4711`, ID: rootKey.accessKeyId, SECRET: rootKey.secretAccessKey },
      }),
    });
    instead = async (input) => {
      const report = await sendNotice(input);
      // What Temporal sees of a worker that dies here.
      if (attempts === 1) throw ApplicationFailure.create({ message: 'the worker died', nonRetryable: false });
      return report;
    };
    try {
      const run = await start(one);
      await run.result();
      expect(attempts).toBe(2);
      expect(web.posted).toHaveLength(1);
    } finally {
      instead = undefined;
    }
  });

  test('fails for no notice: what the activity throws becomes a note', async () => {
    instead = () => {
      throw ApplicationFailure.create({ type: 'Broken', message: 'no notices today', nonRetryable: true });
    };
    try {
      const run = await start(failed());
      expect(await run.result()).toMatchObject({
        notes: ['The notice "failed" could not be sent: no notices today'],
      });
    } finally {
      instead = undefined;
    }
  });

  test('tells a target that was away again, that one only, and notes nothing of it', async () => {
    const asked: (readonly string[] | undefined)[] = [];
    instead = (input) => {
      asked.push(input.only);
      if (attempts > 1) return real.sendNotice(input);
      const note = 'ours (webhook) was not told: answers 503';
      return Promise.resolve({
        deliveries: [],
        notes: ['gone is not filled in', note],
        away: [{ target: 'ours', note }],
      });
    };
    try {
      const run = await start(failed());
      expect(await run.result()).toEqual({ delayed: 0, notes: ['gone is not filled in'] });
      expect(asked).toEqual([undefined, ['ours']]);
      expect(web.posted).toHaveLength(1);
    } finally {
      instead = undefined;
    }
  });

  test('does not tell a reminder again: the next one is the repeat', async () => {
    let asked = 0;
    instead = () => {
      asked += 1;
      const note = 'ours (webhook) was not told: answers 503';
      return Promise.resolve({ deliveries: [], notes: [note], away: [{ target: 'ours', note }] });
    };
    try {
      const run = await start({ ...failed(), event: 'reminder' });
      expect(await run.result()).toMatchObject({ notes: ['ours (webhook) was not told: answers 503'] });
      expect(asked).toBe(1);
    } finally {
      instead = undefined;
    }
  });

  test('does not tell again what another notice of the same incident has passed by: nothing is opened after its end', async () => {
    const sent: string[] = [];
    instead = ({ notice: { event } }) => {
      sent.push(event);
      const note = `ours was not told "${event}"`;
      return Promise.resolve(
        event === 'recovered'
          ? { deliveries: [], notes: [] }
          : { deliveries: [], notes: [note], away: [{ target: 'ours', note }] },
      );
    };
    try {
      const one = failed();
      const over: Notice = { ...one, event: 'recovered', dedupeKey: `${one.dedupeKey}/over` };
      const began = Date.now();
      const run = await client.workflow.start('trialOfTwo', {
        taskQueue: QUEUE,
        workflowId: `trial-of-two-${one.dedupeKey}`,
        args: [system, one, over, 2],
      });
      expect(await run.result()).toEqual(['ours was not told "failed"']);
      expect(sent).toEqual(['failed', 'recovered']);
      // It did not sleep its pause of five seconds out.
      expect(Date.now() - began).toBeLessThan(4_500);
    } finally {
      instead = undefined;
    }
  });

  test('is cancelled, and what it has told is sent all the same', async () => {
    instead = undefined;
    const run = await start(failed(), 60);
    await run.cancel();
    await expect(run.result()).rejects.toThrow(WorkflowFailedError);
    expect((await run.describe()).status.name).toBe('CANCELLED');
    expect(web.posted).toHaveLength(1);
  });
});
