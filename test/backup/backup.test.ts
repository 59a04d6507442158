import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { keysOf, type Artifact } from '../../workflows/contracts/recovery-point.js';
import { recordKeys, RunRecord } from '../../workflows/contracts/run-record.js';
import { startBackupLab, type BackupLab, type Ended } from './harness.js';

jest.setTimeout(180_000);

let here: BackupLab;
beforeAll(async () => {
  here = await startBackupLab({ bulkMegabytes: 40 });
}, 900_000);
afterAll(() => here?.down(), 120_000);

/** Decrypts and decompresses a stored artifact the way a person without guardia would. */
async function opened(artifact: Artifact, identity: 'operations' | 'escrow'): Promise<Buffer> {
  const stored = await here.object(artifact.key);
  expect(createHash('sha256').update(stored).digest('hex')).toBe(artifact.sha256);
  const identityFile = path.join(here.lab.secretsDirectory, 'age', `${identity}.txt`);
  const { stdout } = await execa('sh', ['-c', 'age --decrypt --identity "$1" | zstd -d -q', 'sh', identityFile], {
    input: stored,
    encoding: 'buffer',
    maxBuffer: 2 ** 30,
    stripFinalNewline: false,
  });
  expect(stdout.length).toBe(artifact.bytes.plain);
  return Buffer.from(stdout);
}

const ROWS = `select table_schema || '.' || table_name || ' ' ||
  (xpath('/row/c/text()', query_to_xml(format('select count(*) c from %I.%I', table_schema, table_name), false, true, '')))[1]::text
  from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') order by 1`;

describe('a backup of proofpass', () => {
  let first: Ended;
  beforeAll(async () => {
    first = await here.run({ reason: 'the first one' });
  });

  test('succeeds, and the recovery point is verified', async () => {
    expect(first).toMatchObject({ end: 'succeeded', message: 'backup of proofpass succeeded' });
    const [point, ...others] = await here.points();
    expect(others).toEqual([]);
    expect(point).toMatchObject({ state: 'verified' });
    expect(first.report?.result).toMatchObject({ recoveryPoint: point?.manifest.id, state: 'verified' });
    const keys = keysOf('', 'proofpass', point?.manifest.id ?? '');
    expect((await here.objects()).filter((key) => key.startsWith(keys.base))).toEqual(
      [
        keys.artifact('configuration', 'app'),
        keys.artifact('database', 'main'),
        keys.artifact('globals', 'main'),
        keys.manifest,
        keys.proof('verified'),
      ].sort(),
    );
    expect(point?.manifest).toMatchObject({
      run: { workflowId: first.workflowId, runId: first.runId },
      acceptedAnomalies: [],
      parents: [],
    });
    // What the proof says it read is what the manifest says was written.
    expect(point?.proofs[0]?.artifacts.map(({ ok, sha256, bytes }) => ({ ok, sha256, bytes }))).toEqual(
      point?.manifest.artifacts.map(({ sha256, bytes }) => ({ ok: true, sha256, bytes })),
    );
  });

  test('every step is told as done, with what came out', () => {
    expect(first.report?.steps.map(({ id, state }) => `${id} ${state}`)).toEqual([
      'database-main kept',
      'globals-main kept',
      'configuration-app kept',
      'write-manifest kept',
      'verify-database-main done',
      'verify-globals-main done',
      'verify-configuration-app done',
      'write-proof done',
    ]);
    for (const step of first.report?.steps ?? []) expect(step.note).toMatch(/\d/);
  });

  test('either recipient opens the dump, and it restores into the same rows', async () => {
    const dump = (await here.points())[0]?.manifest.artifacts.find(({ kind }) => kind === 'database') as Artifact;
    const plain = await opened(dump, 'operations');
    expect((await opened(dump, 'escrow')).equals(plain)).toBe(true);
    await here.sql('create database scratch', 'postgres');
    try {
      const restored = await here.lab.exec(
        'app',
        ['runuser', '-u', 'postgres', '--', 'pg_restore', '--exit-on-error', '-d', 'scratch'],
        { stdin: plain },
      );
      expect(restored.stderr).toBe('');
      expect(await here.sql(ROWS, 'scratch')).toBe(await here.sql(ROWS));
    } finally {
      await here.sql('drop database scratch', 'postgres');
    }
  });

  test('the globals hold the roles', async () => {
    const globals = (await here.points())[0]?.manifest.artifacts.find(({ kind }) => kind === 'globals') as Artifact;
    expect((await opened(globals, 'escrow')).toString()).toMatch(/CREATE ROLE proofpass_user;[\s\S]*SCRAM-SHA-256/);
  });

  test('the configuration archive holds .env as it was, with mode and owner, and what links point to', async () => {
    const archive = (await here.points())[0]?.manifest.artifacts.find(
      ({ kind }) => kind === 'configuration',
    ) as Artifact;
    const tar = await opened(archive, 'escrow');
    const { stdout: list } = await execa('tar', ['--list', '--verbose', '--numeric-owner', '--file=-'], { input: tar });
    const owner = (await here.shell('stat -c %u/%g /opt/proofpass/platform/.env')).trim();
    expect(list).toMatch(new RegExp(`^-rw------- ${owner} .* opt/proofpass/platform/\\.env$`, 'm'));
    expect(list).toMatch(/ etc\/nginx\/sites-available\/proofpass$/m);
    expect(list).toMatch(/ etc\/systemd\/system\/proofpass-api\.service$/m);
    expect(list).toMatch(/ etc\/letsencrypt\/live\/api\.proofpass\.test\/privkey\.pem$/m);
    const { stdout: env } = await execa('tar', ['-xO', '--file=-', 'opt/proofpass/platform/.env'], {
      input: tar,
      stripFinalNewline: false,
    });
    expect(env).toBe(await here.shell('cat /opt/proofpass/platform/.env'));
  });

  test('leaves no unit, file, process, upload, open lock or open fence', async () => {
    expect(await here.left()).toEqual([]);
  });

  test('its record is in the bucket, chained', async () => {
    const keys = recordKeys('', 'proofpass', first);
    const plan = await here.object(keys.entry('plan'));
    const committed = await here.object(keys.entry('committed'));
    const end = RunRecord.parse(JSON.parse((await here.object(keys.entry('end'))).toString()));
    const digestOf = (entry: Buffer) => createHash('sha256').update(entry).digest('hex');
    expect(RunRecord.parse(JSON.parse(plan.toString()))).toMatchObject({
      previous: null,
      report: { phase: 'applying' },
    });
    expect(RunRecord.parse(JSON.parse(committed.toString())).previous).toBe(digestOf(plan));
    expect(end.previous).toBe(digestOf(committed));
    expect(end.report).toMatchObject({ end: 'succeeded', planDigest: first.report?.planDigest });
    const report = (await here.object(keys.report)).toString();
    expect(report).toMatch(/^# backup of proofpass: succeeded$/m);
    expect(report).toContain('the first one');
  });

  test('the dry run makes the same plan and changes nothing, in the bucket or on the host', async () => {
    const seen = async () => ({
      versions: await here.versions(),
      uploads: await here.uploads(),
      host: await here.shell(
        `find /var/lib/guardia /opt /etc /home /root -type f -printf '%p %s %m %u %T@ %C@\\n' | sort
         find /dev/shm /tmp -name '*guardia*' | sort; systemctl list-units --all --plain --no-legend | awk '{ print $1 }' | grep -v '^session-'`,
      ),
    });
    const before = await seen();
    const planned = await here.run({ plan: true });
    expect(planned.end).toBe('planned');
    expect(
      planned.report && 'plan' in planned.report ? planned.report.plan?.stages.map(({ title }) => title) : [],
    ).toEqual(['save', 'complete', 'read back', 'prove']);
    expect(await seen()).toEqual(before);
  });

  test('a second run makes a second recovery point beside it', async () => {
    const before = (await here.points())[0];
    const second = await here.run();
    expect(second.end).toBe('succeeded');
    const [newest, older, ...others] = await here.points();
    expect(newest?.manifest.run.runId).toBe(second.runId);
    expect(newest?.state).toBe('verified');
    expect(older).toEqual(before);
    expect(others).toEqual([]);
    expect(await here.left()).toEqual([]);
  });
});
