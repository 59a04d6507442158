import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { putOnce } from '../../activities/object-store/objects.js';
import type { RunView } from '../../client/run-view.js';
import { keysOf, manifestText, proofText, recoveryPointId } from '../../workflows/contracts/recovery-point.js';
import { recordKeys, type RunRecord } from '../../workflows/contracts/run-record.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { connectClient } from '../../activities/temporal/connection.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { manifestOf } from '../activities/object-store/small-manifest.js';
import { rootKey, startGateway, type Gateway } from '../activities/object-store/versity-gateway.js';
import { smallSystem } from '../workflows/small-system.js';
import { until } from '../workflows/scripted-runs.js';
import { runMain } from './command-run.js';
import { status, step } from './sample-run.js';

jest.setTimeout(60_000);

/** No Temporal answers there: what is told comes from the bucket. */
const NO_TEMPORAL = '127.0.0.1:1';

describe('what the bucket tells without Temporal', () => {
  let gateway: Gateway;
  let directory: string;
  let env: Record<string, string>;
  const guardia = (...argv: string[]): ReturnType<typeof runMain> => runMain(argv, env);

  beforeAll(async () => {
    gateway = await startGateway();
    directory = mkdtempSync(path.join(tmpdir(), 'guardia-bucket-'));
    const { endpoint, bucket } = gateway.address;
    mkdirSync(path.join(directory, 'systems'));
    for (const name of ['proofpass', 'empty'])
      writeFileSync(
        path.join(directory, 'systems', `${name}.yaml`),
        smallSystem(name, { bucket })
          .replace(/provider: \w+/, 'provider: versitygw')
          .replace(/endpoint: \S+/, `endpoint: ${endpoint}`)
          .replace('file:s3/worker', 'env:WORKER_SECRET'),
      );
    env = {
      HOME: directory,
      GUARDIA_STATE: path.join(directory, 'state'),
      GUARDIA_SYSTEMS: path.join(directory, 'systems'),
      TEMPORAL_ADDRESS: NO_TEMPORAL,
      WORKER_ID: rootKey.accessKeyId,
      WORKER_SECRET: rootKey.secretAccessKey,
    };
  });
  afterAll(async () => {
    await gateway?.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  async function record(report: Partial<RunReport>, entry: RunRecord['entry'] = 'end'): Promise<void> {
    const full = status(report) as RunReport;
    const text = JSON.stringify({ schemaVersion: 1, entry, previous: null, report: full } satisfies RunRecord);
    await putOnce(gateway.bucket, recordKeys('', 'proofpass', full).entry(entry), text);
  }

  test('a run that Temporal does not have is shown from its record', async () => {
    await record({
      workflowId: 'backup/proofpass/old',
      phase: 'ended',
      end: 'rolled back',
      endedAt: '2026-01-31T02:01:00.000Z',
      message: 'backup of proofpass: no such device; everything before it was undone',
      steps: [step('dump', { state: 'undone', note: 'no such device' })],
    });
    const { exitCode, stdout, stderr } = await guardia('watch', 'backup/proofpass/old');
    expect(exitCode).toBe(5);
    expect(stdout).toContain('backup of proofpass  rolled back  1 min 00 s');
    expect(stdout).toContain('no such device');
    expect(stderr).toContain('From the record in the object store');
    const view = JSON.parse((await guardia('watch', 'backup/proofpass/old', '--json')).stdout) as RunView;
    expect(view).toMatchObject({
      source: 'record',
      open: false,
      end: 'rolled back',
      exitCode: 5,
      report: { steps: [{ id: 'dump' }] },
    });
  });

  test('the newest record of a runbook and system', async () => {
    await delay(1100); // the store's times have whole seconds
    await record({ workflowId: 'backup/proofpass/newer', phase: 'ended', end: 'succeeded', message: 'fine' });
    expect((await guardia('watch', 'backup', 'proofpass')).stdout).toContain('backup/proofpass/newer');
  });

  test('also where Temporal was set up anew and does not know its search attributes yet', async () => {
    const server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
    const target = { address: server.address, namespace: server.namespace, source: 'test' };
    const { connection } = await connectClient({ target: { ...target, connection: { address: server.address } } });
    try {
      const namespace = 'anew';
      const workflowExecutionRetentionPeriod = { seconds: 86_400 as never };
      await connection.workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod });
      const there = { ...env, TEMPORAL_ADDRESS: server.address, TEMPORAL_NAMESPACE: namespace };
      await until(async () => (await runMain(['status'], there)).exitCode === 3, 'the namespace is known');
      const { exitCode, stdout, stderr } = await runMain(['watch', 'backup', 'proofpass'], there);
      expect(stderr).toMatch(/From the record in the object store: .* does not do what it was asked for/);
      expect(stdout).toContain('backup/proofpass/newer');
      expect(exitCode).toBe(0);
    } finally {
      await connection.close();
      await server.stop();
    }
  });

  test('a record without an end says that the run was cut off', async () => {
    await record({ workflowId: 'backup/proofpass/cut', phase: 'applying' }, 'plan');
    const { exitCode, stdout } = await guardia('watch', 'backup/proofpass/cut');
    expect(exitCode).toBe(6);
    expect(stdout).toContain('wrote no end into its record');
  });

  test('a run that was started in the Web UI, with a free id, is found in every system', async () => {
    await record({ workflowId: 'ours from the UI', phase: 'ended', end: 'succeeded', message: 'fine' });
    expect((await guardia('watch', 'ours from the UI')).exitCode).toBe(0);
  });

  test('what nobody knows stays unknown, and Temporal is named as the reason', async () => {
    const { exitCode, stdout, stderr } = await guardia('watch', 'backup/proofpass/never');
    expect(exitCode).toBe(12);
    expect(stdout).toBe('');
    expect(stderr).toContain(`cannot reach Temporal at ${NO_TEMPORAL}`);
  });

  test('recovery points, newest first, with state and sizes; a manifest that cannot be read hides none', async () => {
    const ids = [1, 2, 3].map((day) =>
      recoveryPointId(new Date(Date.UTC(2026, 0, day, 2)), `0000000000000000000000000000000${day}`),
    ) as [string, string, string];
    for (const id of ids) {
      const keys = keysOf('', 'proofpass', id);
      await putOnce(
        gateway.bucket,
        keys.manifest,
        id === ids[1] ? '{}' : manifestText(manifestOf({ prefix: '', system: 'proofpass' }, id)),
      );
    }
    await putOnce(
      gateway.bucket,
      keysOf('', 'proofpass', ids[0]).proof('verified'),
      proofText({
        schemaVersion: 1,
        system: 'proofpass',
        id: ids[0],
        level: 'verified',
        at: '2026-01-01T02:10:00.000Z',
        by: 'worker',
        run: { workflowId: 'backup/proofpass/x', runId: 'r' },
        seconds: 3,
        artifacts: [],
      }),
    );
    const { exitCode, stdout } = await guardia('backups', 'proofpass', '--json');
    expect(exitCode).toBe(0);
    const list = JSON.parse(stdout) as { points: unknown[]; unreadable: string[]; warnings: string[] };
    expect(list.points).toMatchObject([
      { id: ids[2], state: 'complete', plainBytes: 2048, storedBytes: 1024, proofs: [] },
      {
        id: ids[0],
        state: 'verified',
        at: '2026-01-01T02:00:00.000Z',
        proofs: [{ level: 'verified' }],
        run: { workflowId: 'backup/proofpass/x' },
      },
    ]);
    expect(list.unreadable).toHaveLength(1);
    expect(list.warnings.join('\n')).toMatch(/the newest verified backup of proofpass is \d+ d .* old/);
    const table = await guardia('backups', 'proofpass', '--newest', '1');
    expect(table.stdout.split('\n')[1]).toMatch(
      new RegExp(`^${ids[2]} +complete +\\d+ d \\d+ h ago +2\\.0 kB +1\\.0 kB`),
    );
    expect(table.stdout).not.toContain(ids[0]);
    expect(table.stderr).toContain('warning: ');
  });

  test('a system without any backup is warned about', async () => {
    const { exitCode, stderr, stdout } = await guardia('backups', 'empty');
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
    expect(stderr).toContain('warning: empty has no backup: start one with guardia run backup empty');
  });

  test('a wrong key and a missing one say what helps, and never the key', async () => {
    const wrong = await runMain(['backups', 'proofpass'], { ...env, WORKER_SECRET: 'not-the-secret-key' });
    expect(wrong.exitCode).toBe(12);
    expect(wrong.stderr).toContain(gateway.address.endpoint);
    const missing = await runMain(['backups', 'proofpass'], { ...env, WORKER_SECRET: undefined });
    expect(missing.exitCode).toBe(3);
    expect(missing.stderr).toContain('WORKER_SECRET');
    expect(`${wrong.stderr}${missing.stderr}`).not.toContain('not-the-secret-key');
  });
});
