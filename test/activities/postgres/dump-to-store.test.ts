import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { dumpJob, globalsJob } from '../../../activities/postgres/dump-job.js';
import { abortUpload, listUploads, openUpload } from '../../../activities/object-store/multipart-upload.js';
import { explainJobFailure } from '../../../activities/object-store/job-failures.js';
import type { AccessKey } from '../../../activities/object-store/object-store.js';
import { headObject } from '../../../activities/object-store/objects.js';
import { failure } from '../../../workflows/contracts/errors.js';
import { DatabaseResult, GlobalsResult } from '../../../workflows/contracts/recovery-point.js';
import {
  descendant,
  descendants,
  isRunning,
  killTree,
  runJob,
  startJob,
  watchProcesses,
} from '../object-store/artifact-job-process.js';
import { type FaultyRelay, type Gateway, startGateway, startRelay } from '../object-store/versity-gateway.js';
import { complete, fillDatabase, makeAgeKey, MiB, newTarget, peerSource } from './stored-dump.js';
import { type Cluster, startCluster } from './throwaway-cluster.js';

const recipients = [makeAgeKey().recipient, makeAgeKey().recipient];
const PASSWORD = 'planted:pass\\word=4711';
let gateway: Gateway;
let cluster: Cluster;
let relay: FaultyRelay;
let hostKey: AccessKey;

// Real servers on a machine that may be busy
jest.setTimeout(120_000);

beforeAll(async () => {
  gateway = await startGateway();
  relay = await startRelay(gateway.address);
  hostKey = await gateway.hostKey('app1', 'proofpass/');
  cluster = await startCluster();
  fillDatabase(cluster, 'proofpass', 40);
  cluster.sql(
    `create role app login password '${PASSWORD}'; grant usage on schema audit to app;
     grant select on all tables in schema public, audit to app;`,
    'proofpass',
  );
});
afterEach(() => relay.flow());
afterAll(async () => {
  cluster?.remove();
  await relay?.close();
  await gateway?.remove();
});

/** A dump that stands still in mid-stream, behind the relay, with a part on its way. */
async function stalledDump(options: { retrySeconds?: number; scratch?: string } = {}) {
  const { upload, target } = await newTarget(gateway, 'database', recipients, { address: relay.address, ...options });
  relay.stallAfter(8 * MiB);
  const job = startJob(dumpJob(peerSource(cluster, 'proofpass'), target, hostKey, { run: 'stalled' }), options);
  await relay.stalled();
  return { upload, target, job };
}

/** What must hold after every failed dump. */
async function expectNothingStored(key: string): Promise<void> {
  expect(await headObject(gateway.bucket, key)).toBeUndefined();
  expect(cluster.sql("select count(*) from pg_stat_activity where application_name like 'guardia%'")).toBe('0');
}

describe('a dump', () => {
  test('reaches the bucket in equal parts, and says what it holds', async () => {
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const ended = await runJob(
      dumpJob(peerSource(cluster, 'proofpass'), target, hostKey, {
        run: 'r1',
        expectedTables: ['public.users', 'audit.odd name', 'public.gone'],
      }),
    );
    expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
    const result = DatabaseResult.parse(JSON.parse(ended.stdout));
    expect(result.contents).toMatchObject({
      databaseName: 'proofpass',
      tables: 3,
      tablesWithData: 3,
      tableNames: ['audit.odd name', 'public.attestations', 'public.users'],
      missingTables: ['public.gone'],
    });
    expect(result.database).toMatchObject({
      name: 'proofpass',
      oid: cluster.sql("select oid from pg_database where datname = 'proofpass'"),
      systemIdentifier: cluster.sql('select system_identifier from pg_control_system()'),
      serverVersion: Number(cluster.sql('show server_version_num')),
      standby: false,
    });
    expect(result.parts.count).toBe(Math.ceil(result.bytes.stored / (5 * MiB)));
    expect(result.parts.count).toBeGreaterThan(3);
    expect(result.bytes.plain).toBeGreaterThan(76 * MiB);
    expect(Object.values(result.tools)).not.toContain('');
    expect(ended.stderr).toContain('guardia:progress {"bytes":');
    // It does not complete the upload itself
    expect(await headObject(gateway.bucket, target.key)).toBeUndefined();

    const artifact = await complete(gateway, upload, target, ended.stdout);
    expect(artifact.versionId).toBeDefined();
    expect((await headObject(gateway.bucket, target.key))?.bytes).toBe(result.bytes.stored);
  });

  test('is of one snapshot: the position in the WAL belongs to what the dump holds', async () => {
    const before = cluster.sql('select pg_current_wal_lsn()', 'proofpass');
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const ended = await runJob(dumpJob(peerSource(cluster, 'proofpass'), target, hostKey, { run: 'r2' }));
    const { database } = DatabaseResult.parse(JSON.parse(ended.stdout));
    const after = cluster.sql('select pg_current_wal_lsn()', 'proofpass');
    expect(cluster.sql(`select '${database.lsn}'::pg_lsn between '${before}' and '${after}'`)).toBe('t');
    expect(Math.abs(Date.parse(database.at) - Date.now())).toBeLessThan(60_000);
    await abortUpload(gateway.bucket, upload);
  });

  test('works for a database with a name full of traps', async () => {
    const name = `we"ird =' \\ ñ`;
    cluster.sql(`create database "${name.replaceAll('"', '""')}"`);
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const ended = await runJob(dumpJob(peerSource(cluster, name), target, hostKey, { run: 'r3' }));
    expect(ended).toMatchObject({ exitCode: 0 });
    const result = DatabaseResult.parse(JSON.parse(ended.stdout));
    expect(result.database.name).toBe(name);
    expect(result.contents).toMatchObject({ databaseName: name, tables: 0, tablesWithData: 0, tableNames: [] });
    await abortUpload(gateway.bucket, upload);
  });

  test('keeps its result small with thousands of tables', async () => {
    cluster.sql('create database many');
    cluster.sql(
      `do $$ begin for i in 1..3000 loop execute format('create table %I (id int)', 'a_table_with_a_long_name_' || i); end loop; end $$`,
      'many',
    );
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const ended = await runJob(
      dumpJob(peerSource(cluster, 'many'), target, hostKey, {
        run: 'r4',
        expectedTables: ['public.a_table_with_a_long_name_2999', 'public.no'],
      }),
    );
    const result = DatabaseResult.parse(JSON.parse(ended.stdout));
    expect(result.contents).toMatchObject({ tables: 3000, tablesWithData: 3000, missingTables: ['public.no'] });
    expect(ended.stdout.length).toBeLessThan(48 * 1024);
    await abortUpload(gateway.bucket, upload);
  });

  test('shows no secret in any process, argument, environment or output', async () => {
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const watch = watchProcesses([hostKey.secretAccessKey, PASSWORD, PASSWORD.replaceAll('\\', '\\\\')], [process.pid]);
    const ended = await runJob(
      dumpJob(
        {
          ...peerSource(cluster, 'proofpass'),
          access: { kind: 'password', address: '127.0.0.1', user: 'app', password: PASSWORD },
        },
        target,
        hostKey,
        { run: 'r5' },
      ),
    );
    const { sightings, looked } = watch.stop();
    expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
    expect(sightings).toEqual([]);
    expect(looked).toBeGreaterThan(100);
    expect(ended.stdout + ended.stderr).not.toContain(hostKey.secretAccessKey);
    expect(ended.stdout + ended.stderr).not.toContain('planted');
    await abortUpload(gateway.bucket, upload);
  });
});

describe('the roles of the server', () => {
  test('are saved, with their password hashes where the login may read them', async () => {
    for (const [access, passwords] of [
      [{ kind: 'peer', osUser: 'postgres' }, true],
      [{ kind: 'password', address: '127.0.0.1', user: 'app', password: PASSWORD }, false],
    ] as const) {
      const { upload, target } = await newTarget(gateway, 'globals', recipients);
      const ended = await runJob(
        globalsJob({ ...peerSource(cluster, 'proofpass'), access }, target, hostKey, { run: 'r6' }),
      );
      expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
      expect(GlobalsResult.parse(JSON.parse(ended.stdout)).contents).toEqual({ roles: 2, passwords });
      await complete(gateway, upload, target, ended.stdout);
    }
  });
});

describe('a dump fails, with its reason, when', () => {
  test.each([
    ['pg_dump is killed', /\/pg_dump /, 'dump-failed'],
    ['zstd is killed', /^zstd /, 'compression-failed'],
    ['age is killed', /^age /, 'encryption-failed'],
  ])('%s in mid-stream', async (_what, command, code) => {
    const { upload, target, job } = await stalledDump();
    process.kill(await descendant(job.pid, command), 'SIGKILL');
    relay.flow();
    const ended = await job.ended;
    expect(ended).toMatchObject({ failure: { code }, stdout: '', leftBehind: [] });
    expect(ended.failure?.message).toContain('137');
    await expectNothingStored(target.key);
    await abortUpload(gateway.bucket, upload);
  });

  test("the server ends the dump's session", async () => {
    const { upload, target, job } = await stalledDump();
    cluster.sql(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'guardia stalled' and query like 'COPY%'",
    );
    relay.flow();
    const ended = await job.ended;
    expect(ended).toMatchObject({ failure: { code: 'dump-failed' }, stdout: '', leftBehind: [] });
    expect(ended.failure?.message).toMatch(/terminating connection|server closed the connection/);
    await expectNothingStored(target.key);
    await abortUpload(gateway.bucket, upload);
  });

  test('the store stays away longer than the parts are tried', async () => {
    const { upload, target, job } = await stalledDump({ retrySeconds: 3 });
    await gateway.kill();
    relay.flow();
    const ended = await job.ended;
    await gateway.start();
    expect(ended).toMatchObject({ failure: { code: 'store-unavailable' }, stdout: '', leftBehind: [] });
    expect(ended.failure?.message).toContain('tried for 3 s');
    await expectNothingStored(target.key);
    await abortUpload(gateway.bucket, upload);
  });

  test('the upload has been aborted', async () => {
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    await abortUpload(gateway.bucket, upload);
    const ended = await runJob(dumpJob(peerSource(cluster, 'proofpass'), target, hostKey, { run: 'x' }));
    expect(ended).toMatchObject({ failure: { code: 'upload-gone' }, stdout: '', leftBehind: [] });
    await expectNothingStored(target.key);
  });

  test('the key is wrong, or not allowed there', async () => {
    const wrong = { ...hostKey, secretAccessKey: 'not-the-secret' };
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const ended = await runJob(dumpJob(peerSource(cluster, 'proofpass'), target, wrong, { run: 'x' }));
    expect(ended).toMatchObject({ exitCode: 78, failure: { code: 'store-refused' } });
    expect(ended.failure?.message).toContain('SignatureDoesNotMatch');
    await abortUpload(gateway.bucket, upload);

    const other = await newTarget(gateway, 'database', recipients, { system: 'certitrack' });
    const refused = await runJob(dumpJob(peerSource(cluster, 'proofpass'), other.target, hostKey, { run: 'x' }));
    expect(refused).toMatchObject({ exitCode: 78, failure: { code: 'store-refused' } });
    expect(refused.failure?.message).toContain('AccessDenied');
    await abortUpload(gateway.bucket, other.upload);
  });

  test('the memory for parts is too small, or runs full', async () => {
    const scratch = mkdtempSync('/tmp/guardia-small-');
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${17 * MiB}`, 'tmpfs', scratch]);
      const full = await newTarget(gateway, 'database', recipients);
      const job = startJob(dumpJob(peerSource(cluster, 'proofpass'), full.target, hostKey, { run: 'x' }), { scratch });
      const somebodyElse = setInterval(() => {
        if (!existsSync(`${scratch}/part.1`) && !existsSync(`${scratch}/other`)) return;
        try {
          appendFileSync(`${scratch}/other`, Buffer.alloc(MiB));
        } catch {
          // full, for now
        }
      }, 10);
      const ended = await job.ended;
      clearInterval(somebodyElse);
      expect(ended).toMatchObject({ exitCode: 70, failure: { code: 'scratch-full' }, stdout: '' });
      await expectNothingStored(full.target.key);
      await abortUpload(gateway.bucket, full.upload);

      rmSync(`${scratch}/other`, { force: true });
      execFileSync('mount', ['-o', `remount,size=${10 * MiB}`, scratch]);
      const small = await newTarget(gateway, 'database', recipients);
      const refused = await startJob(dumpJob(peerSource(cluster, 'proofpass'), small.target, hostKey, { run: 'x' }), {
        scratch,
      }).ended;
      expect(refused).toMatchObject({ exitCode: 70, failure: { code: 'scratch-full' }, leftBehind: [] });
      await abortUpload(gateway.bucket, small.upload);
    } finally {
      execFileSync('umount', ['-l', scratch]);
      rmSync(scratch, { recursive: true });
    }
  });

  test('the server is not there, refuses the login, or has another version', async () => {
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const source = peerSource(cluster, 'proofpass');
    const attempts = [
      [{ ...source, port: 1 }, 71, /port 1/],
      [{ ...source, database: 'nope' }, 71, /database "nope" does not exist/],
      [
        { ...source, access: { kind: 'password', address: '127.0.0.1', user: 'app', password: 'wrong' } },
        71,
        /password authentication failed/,
      ],
      [{ ...source, access: { kind: 'peer', osUser: 'nobody' } }, 71, /nobody/],
      [{ ...source, version: 9 }, 69, /pg_dump 9 .*install postgresql-client-9/],
    ] as const;
    for (const [wrong, exitCode, message] of attempts) {
      const ended = await runJob(dumpJob(wrong, target, hostKey, { run: 'x' }));
      expect({ exitCode: ended.exitCode, message: ended.failure?.message }).toEqual({
        exitCode,
        message: expect.stringMatching(message),
      });
      expect(ended.leftBehind).toEqual([]);
    }
    await abortUpload(gateway.bucket, upload);
  });

  test('a table stays locked', async () => {
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    const session = cluster.session('proofpass');
    await session.send('begin; lock table users in access exclusive mode; select 1;');
    const ended = await runJob(
      dumpJob({ ...peerSource(cluster, 'proofpass'), lockWaitSeconds: 1 }, target, hostKey, { run: 'x' }),
    );
    await session.end();
    expect(ended).toMatchObject({ exitCode: 73, failure: { code: 'database-busy' }, leftBehind: [] });
    await abortUpload(gateway.bucket, upload);
  });
});

describe('a dump goes on when', () => {
  test('the store is killed and comes back', async () => {
    const { upload, target, job } = await stalledDump();
    await gateway.kill();
    relay.flow();
    await delay(1500);
    await gateway.start();
    const ended = await job.ended;
    expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
    expect(ended.stderr).toMatch(/part \d+: .*trying again/);
    await complete(gateway, upload, target, ended.stdout);
    expect((await listUploads(gateway.bucket, target.key)).length).toBe(0);
  });

  test('connections to the store break at any place', async () => {
    relay.cutAnswersAfter(0, 20, 60, 100, 140);
    const { upload, target } = await newTarget(gateway, 'database', recipients, { address: relay.address });
    const ended = await runJob(dumpJob(peerSource(cluster, 'proofpass'), target, hostKey, { run: 'x' }));
    expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
    expect(ended.stderr.match(/trying again/g)?.length).toBe(5);
    await complete(gateway, upload, target, ended.stdout);
  });

  test('the server is starting while it begins', async () => {
    const { upload, target } = await newTarget(gateway, 'database', recipients);
    cluster.stop();
    const job = startJob(
      dumpJob({ ...peerSource(cluster, 'proofpass'), serverWaitSeconds: 30 }, target, hostKey, { run: 'x' }),
    );
    await delay(1500);
    cluster.start();
    const ended = await job.ended;
    expect(ended).toMatchObject({ exitCode: 0 });
    await abortUpload(gateway.bucket, upload);
  });

  test('another attempt has sent parts to the same upload before', async () => {
    const first = await stalledDump();
    killTree(first.job.pid);
    relay.flow();
    await first.job.ended;
    const adopted = await openUpload(gateway.bucket, first.target.key);
    expect(adopted.uploadId).toBe(first.upload.uploadId);
    const ended = await runJob(
      dumpJob(peerSource(cluster, 'proofpass'), { ...first.target, address: gateway.address }, hostKey, {
        run: 'again',
      }),
    );
    await complete(gateway, adopted, first.target, ended.stdout);
  });
});

test('a dump that is told to end leaves no process, file or session', async () => {
  const { upload, target, job } = await stalledDump();
  const before = descendants(job.pid);
  expect(before.some(({ command }) => command.includes('pg_dump'))).toBe(true);
  job.process.kill('SIGTERM');
  const ended = await job.ended;
  relay.flow();
  expect(ended).toMatchObject({ exitCode: 143, stdout: '', leftBehind: [] });
  const alive = before.filter(({ pid }) => isRunning(pid));
  expect(alive).toEqual([]);
  await delay(200);
  await expectNothingStored(target.key);
  await abortUpload(gateway.bucket, upload);
});

test('the failure of a job becomes one that an operator can act on', async () => {
  const { upload, target } = await newTarget(gateway, 'database', recipients);
  const ended = await runJob(dumpJob({ ...peerSource(cluster, 'proofpass'), port: 1 }, target, hostKey, { run: 'x' }));
  const thrown = failure('JobFailed', 'the job ended with code 71', { host: 'app1', output: ended.stderr });
  const explained = explainJobFailure(thrown, 'the dump of database main') as Error & {
    type: string;
    nonRetryable: boolean;
  };
  expect(explained).toMatchObject({ type: 'CommandFailed', nonRetryable: true });
  expect(explained.message).toMatch(
    /^the dump of database main on app1: the database server refuses the login or does not answer: .*port 1.*Check that the server is up/,
  );
  await abortUpload(gateway.bucket, upload);
});
