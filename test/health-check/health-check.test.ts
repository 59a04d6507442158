import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { Client, Connection } from '@temporalio/client';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { getSmallObject } from '../../activities/object-store/objects.js';
import { connectClient } from '../../activities/temporal/connection.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { compiled } from '../../infra/temporal/server-executable.js';
import { details } from '../../workflows/lib/progress.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { recordKeys } from '../../workflows/contracts/run-record.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { lockWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import { rootKey, startGateway, type Gateway } from '../activities/object-store/versity-gateway.js';
import { runMain } from '../client/command-run.js';
import { smallSystem } from '../workflows/small-system.js';

jest.setTimeout(120_000);
// Each command that is run in this process listens to Ctrl-C.
process.setMaxListeners(30);

/** The runbook through a real Temporal server and a real worker, on this machine as its host: one service, one file, the memory. */
let directory: string;
let server: Awaited<ReturnType<typeof startDevServer>>;
let connection: Connection;
let client: Client;
let gateway: Gateway;
let worker: ChildProcess;
let service: http.Server;
let env: Record<string, string>;
/** What the service answers. */
let status = 'healthy';

const guardia = (...argv: string[]): ReturnType<typeof runMain> => runMain(argv, env);
const marker = (): string => path.join(directory, 'marker');

const system = (name: string, port: number): string =>
  smallSystem(name, { bucket: gateway.address.bucket })
    .replace(/provider: \w+/, 'provider: versitygw')
    .replace(/endpoint: \S+/, `endpoint: ${gateway.address.endpoint}`)
    .replace('file:s3/worker', 'env:WORKER_SECRET')
    .replace(/hosts:\n.*\n.*\n.*\n.*\n/, 'hosts:\n  here: { connection: local, become: none }\n').concat(`endpoints:
  service: { url: 'http://127.0.0.1:${port}/health', body: healthy }
probes:
  marker: { kind: file, on: here, path: ${marker()}, source: the test }
  secret: { kind: http, on: worker, endpoint: service, sendSecret: { X-API-Key: env:API_KEY }, source: the test }
  slow: { kind: http, on: here, endpoint: service, severity: warning, json: { speed: fast }, source: the test }
thresholds:
  memoryUsedPercent: { critical: 100, source: the test }
`);

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'guardia-health-'));
  mkdirSync(path.join(directory, 'systems'));
  gateway = await startGateway();
  service = http.createServer((request, response) => {
    response.end(JSON.stringify({ status, speed: 'slow', key: request.headers['x-api-key'] }));
  });
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
  const { port } = service.address() as AddressInfo;
  writeFileSync(path.join(directory, 'systems/shop.yaml'), system('shop', port));
  writeFileSync(
    path.join(directory, 'systems/open.yaml'),
    `${smallSystem('open')}endpoints: { service: { url: { unset: the address of the service } } }\n`,
  );
  server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
  env = {
    PATH: process.env['PATH'] ?? '',
    HOME: directory,
    GUARDIA_STATE: path.join(directory, 'state'),
    GUARDIA_SYSTEMS: path.join(directory, 'systems'),
    TEMPORAL_ADDRESS: server.address,
    TEMPORAL_NAMESPACE: server.namespace,
    WORKER_ID: rootKey.accessKeyId,
    WORKER_SECRET: rootKey.secretAccessKey,
    API_KEY: 'a-key-that-nobody-may-see',
  };
  ({ client, connection } = await connectClient({ env }));
  worker = spawn(process.execPath, [compiled('workers/main.js')], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    let said = '';
    worker.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('serving')) resolve();
    });
    worker.once('exit', () => reject(new Error(said)));
  });
  writeFileSync(marker(), '');
}, 120_000);

afterAll(async () => {
  if (worker?.exitCode === null) {
    const gone = new Promise((resolve) => worker.once('exit', resolve));
    worker.kill('SIGTERM');
    await gone;
  }
  await connection?.close();
  await server?.stop({ force: true });
  service?.closeAllConnections();
  await new Promise((resolve) => service?.close(resolve));
  await gateway?.remove();
  rmSync(directory, { recursive: true, force: true });
}, 60_000);

interface Found {
  run: string;
  healthy: boolean;
  ok: number;
  warning: number;
  critical: number;
  unknown: number;
  probes: { id: string; on: string; state: string; message?: string }[];
}

test('a healthy system: exit code 0, a table by place, and the same as JSON; warnings do not fail it', async () => {
  const { exitCode, stdout, stderr } = await guardia('health', 'shop');
  expect(stderr).toMatch(/health-check\/shop\//);
  expect(stdout).toMatch(/^here\n/m);
  expect(stdout).toMatch(/^from outside, as the worker sees it\n/m);
  expect(stdout).toMatch(/^ {2}ok +memory used +[\d.]+ % of [\d.]+ GiB$/m);
  expect(stdout).toMatch(
    /^ {2}warning +http:\/\/127\.0\.0\.1:\d+\/health answers 200 +speed "slow", expected speed "fast"$/m,
  );
  expect(stdout).toMatch(/^5 probes: 4 ok, 1 warning$/m);
  expect(exitCode).toBe(0);

  const json = await guardia('health', 'shop', '--json');
  const found = JSON.parse(json.stdout) as Found;
  expect(found).toMatchObject({ healthy: true, ok: 4, warning: 1, critical: 0, unknown: 0 });
  expect(found.probes.map(({ id, on }) => `${id} ${on}`).sort()).toEqual([
    'endpoint-service worker',
    'marker here',
    'memory-here here',
    'secret worker',
    'slow here',
  ]);
});

test('one that is not: the sentence counts and names what is critical, and the whole report is there', async () => {
  status = 'sealed';
  rmSync(marker());
  try {
    const { exitCode, stdout } = await guardia('health', 'shop', '--json');
    const found = JSON.parse(stdout) as Found;
    expect(exitCode).toBe(1);
    expect(found).toMatchObject({ healthy: false, ok: 2, warning: 1, critical: 2 });

    const bad = await guardia('health', 'shop', '--bad');
    expect(bad.stdout).not.toMatch(/memory used/);
    expect(bad.stdout).toMatch(/^ {2}critical +\S+marker is there +not there, expected there$/m);

    const run = client.workflow.getHandle(found.run);
    const failed = await run.result().then(
      () => undefined,
      (error: Error & { cause?: Error & { details?: unknown[] } }) => error.cause,
    );
    expect(failed?.message).toMatch(
      /^health-check of shop: 2 of 5 probes are critical: .*marker is there \(from here: not there, expected there\); http:.* answers 200 \(from worker: the body "\{\\"status\\":\\"sealed\\".*expected a body with healthy\)$/,
    );
    const report = failed?.details?.[0] as RunReport;
    expect(report.result).toMatchObject({ critical: 2, probes: expect.arrayContaining([]) as unknown });
    // What the Web UI shows: small, and each place says what is wrong there.
    const shown = details(report);
    expect(shown).toMatch(
      /look at here, 3 probes.*: 1 ok, 1 warning, 1 critical: .*marker is there \(not there, expected there\)/,
    );
    expect(shown.length).toBeLessThan(3000);
    // The record for later, with every probe as a table.
    const { runId } = await run.describe();
    const keys = recordKeys('', 'shop', { workflowId: found.run, runId });
    const markdown = (await getSmallObject(gateway.bucket, keys.report))?.toString() ?? '';
    expect(markdown).toMatch(/^## probes\n\n\| id \| title \| on \|.*\n\|---/m);
    expect(markdown).toMatch(/^\| marker \| .* \| here \| critical \| critical \| not there \|/m);
  } finally {
    status = 'healthy';
    writeFileSync(marker(), '');
  }
});

test('takes no lock and waits for none', async () => {
  const lock = await client.workflow.start('lock', {
    workflowId: lockWorkflowId({ system: 'shop' }),
    taskQueue: WORKFLOW_TASK_QUEUE,
    args: [
      {
        system: 'shop',
        workflowId: 'backup/shop/other',
        runId: 'other',
        runbook: 'backup',
        requester: 'test',
        since: new Date().toISOString(),
      },
    ],
  });
  try {
    expect((await guardia('run', 'health-check', 'shop')).exitCode).toBe(0);
    expect((await lock.describe()).status.name).toBe('RUNNING');
  } finally {
    await lock.terminate();
  }
});

test('a secret that is sent is in no history', async () => {
  const { stdout } = await guardia('health', 'shop', '--json');
  const { run } = JSON.parse(stdout) as Found;
  const raw = JSON.stringify(await client.workflow.getHandle(run).fetchHistory());
  const history = raw.replaceAll(/"data":"([^"]*)"/g, (_, data: string) =>
    Buffer.from(data, 'base64').toString('utf8'),
  );
  expect(history.includes('env:API_KEY')).toBe(true);
  expect(history.includes(env['API_KEY'] ?? '')).toBe(false);
});

test('the plan says what would be looked at; what is not filled in is named', async () => {
  const plan = await guardia('run', 'health-check', 'shop', '--plan');
  expect(plan.stdout).toMatch(/host here\n +1\. look at here, 3 probes/);
  expect(plan.stdout).toMatch(/worker's machine\n +2\. look from outside, 2 probes/);
  const open = await guardia('health', 'open');
  expect(open.exitCode).toBe(3);
  expect(open.stderr).toContain('endpoints.service.url (the address of the service)');
});

test('--direct looks from here, without Temporal', async () => {
  const without = { ...env, TEMPORAL_ADDRESS: '127.0.0.1:1' };
  const { exitCode, stdout } = await runMain(['health', 'shop', '--direct', '--json'], without);
  expect(JSON.parse(stdout)).toMatchObject({ healthy: true, ok: 4, warning: 1 });
  expect(exitCode).toBe(0);
  expect((await runMain(['health', 'open', '--direct'], without)).exitCode).toBe(3);
  rmSync(marker());
  expect((await runMain(['health', 'shop', '--direct'], without)).exitCode).toBe(1);
  writeFileSync(marker(), '');
});
