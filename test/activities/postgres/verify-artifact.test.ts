import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { archiveJob } from '../../../activities/configuration-files/archive-job.js';
import { verifyJob } from '../../../activities/postgres/verify-job.js';
import { type Artifact, VerifyResult } from '../../../workflows/contracts/recovery-point.js';
import { descendant, runJob, startJob, watchProcesses } from '../object-store/artifact-job-process.js';
import {
  BUCKET,
  type FaultyRelay,
  type Gateway,
  rootKey,
  startGateway,
  startRelay,
} from '../object-store/versity-gateway.js';
import { fillDatabase, makeAgeKey, MiB, storeArtifact, storeDump, storeGlobals } from './stored-dump.js';
import { type Cluster, startCluster } from './throwaway-cluster.js';

const operations = makeAgeKey();
const escrow = makeAgeKey();
const recipients = [operations.recipient, escrow.recipient];
let gateway: Gateway;
let cluster: Cluster;
let relay: FaultyRelay;
let dump: Artifact;
let globals: Artifact;
let configuration: Artifact;
let dumpBytes: Buffer;

// Real servers on a machine that may be busy
jest.setTimeout(120_000);

beforeAll(async () => {
  gateway = await startGateway();
  relay = await startRelay(gateway.address);
  cluster = await startCluster();
  fillDatabase(cluster, 'proofpass', 10);
  dump = await storeDump(gateway, cluster, 'proofpass', rootKey, recipients);
  globals = await storeGlobals(gateway, cluster, 'proofpass', rootKey, recipients);
  const files = mkdtempSync(path.join(tmpdir(), 'guardia-files-'));
  writeFileSync(path.join(files, '.env'), 'JWT_SECRET=x\n');
  configuration = await storeArtifact(gateway, 'configuration', recipients, (target) =>
    archiveJob({ paths: [files], optional: [] }, target, rootKey),
  );
  rmSync(files, { recursive: true });
  dumpBytes = await bytesOf(dump);
});
afterAll(async () => {
  cluster?.remove();
  await relay?.close();
  await gateway?.remove();
});

async function bytesOf(artifact: Artifact): Promise<Buffer> {
  const answer = await gateway.bucket.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: artifact.key }));
  return Buffer.from((await answer.Body?.transformToByteArray()) ?? []);
}

/** The artifact as the manifest has it, with other bytes in the bucket. */
async function withBytes(artifact: Artifact, bytes: Buffer): Promise<Artifact> {
  const key = `${artifact.key}.altered`;
  const { VersionId } = await gateway.bucket.client.send(
    new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: bytes }),
  );
  return { ...artifact, key, versionId: VersionId };
}

/** As if these bytes had been written by the source: the manifest agrees with them. */
async function writtenAs(artifact: Artifact, bytes: Buffer): Promise<Artifact> {
  const sha256 = execFileSync('openssl', ['dgst', '-sha256', '-r'], { input: bytes, encoding: 'utf8' }).slice(0, 64);
  const altered = await withBytes(artifact, bytes);
  return { ...altered, sha256, bytes: { ...artifact.bytes, stored: bytes.length } };
}

const verify = (
  artifact: Artifact,
  identity = operations.identity,
  address = gateway.address,
  key = rootKey,
  retrySeconds = 3,
) => runJob(verifyJob(artifact, address, key, identity, { retrySeconds }));

describe('an artifact reads back', () => {
  test.each([
    ['a dump', () => dump],
    ['roles', () => globals],
    ['configuration', () => configuration],
  ])('%s, with any one of the identities', async (_what, artifact) => {
    for (const { identity } of [operations, escrow]) {
      const ended = await verify(artifact(), identity);
      expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
      const result = VerifyResult.parse(JSON.parse(ended.stdout));
      expect(result).toMatchObject({ kind: artifact().kind, bytes: artifact().bytes, sha256: artifact().sha256 });
    }
  });

  test('over connections that break in mid-stream, from where they broke', async () => {
    const before = relay.answered();
    // In the body, twice, and within the header
    relay.cutAnswersAfter(3 * MiB, MiB, 20, 180, 340);
    const ended = await verify(dump, operations.identity, relay.address, rootKey, 100);
    expect(ended).toMatchObject({ exitCode: 0 });
    expect(ended.stderr).toMatch(/going on in/);
    // Nothing is read twice but what was lost on the way
    expect(relay.answered() - before).toBeLessThan(dump.bytes.stored + MiB);
  });

  test('and shows no secret in any process, argument, environment or output', async () => {
    const planted = [rootKey.secretAccessKey, /AGE-SECRET-KEY-1\w+/.exec(operations.identity)?.[0] ?? 'none'];
    const watch = watchProcesses([planted[1] as string], [process.pid]);
    const ended = await verify(dump);
    expect(watch.stop().sightings).toEqual([]);
    for (const secret of planted) expect(ended.stdout + ended.stderr).not.toContain(secret);
  });
});

describe('damage is found:', () => {
  const damaged = async (artifact: Artifact, message: RegExp) => {
    const ended = await verify(artifact);
    expect(ended).toMatchObject({ exitCode: 85, stdout: '', leftBehind: [] });
    expect(ended.failure?.message).toMatch(message);
  };

  test('a flipped bit', async () => {
    for (const at of [0, 200, Math.floor(dumpBytes.length / 2), dumpBytes.length - 1]) {
      const bytes = Buffer.from(dumpBytes);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      await damaged(await withBytes(dump, bytes), /its SHA-256 is/);
    }
  });

  test('a truncated object', async () => {
    for (const length of [0, 100, 64 * 1024, Math.floor(dumpBytes.length / 2), dumpBytes.length - 1]) {
      await damaged(
        await withBytes(dump, dumpBytes.subarray(0, length)),
        new RegExp(`it has ${length} bytes in the store`),
      );
    }
  });

  test('an object that is not there', async () => {
    const { versionId: _, ...rest } = dump;
    const ended = await verify({ ...rest, key: `${dump.key}.gone` });
    expect(ended).toMatchObject({ exitCode: 86, failure: { code: 'artifact-missing' }, leftBehind: [] });
  });

  test('what was broken before it was stored, so that the checksum of the object agrees', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'guardia-broken-'));
    const file = (name: string) => path.join(directory, name);
    const shell = (script: string) => execFileSync('bash', ['-o', 'pipefail', '-ec', script], { cwd: directory });
    writeFileSync(file('identity'), operations.identity, { mode: 0o600 });
    writeFileSync(file('stored'), dumpBytes);
    shell('age -d -i identity stored > compressed && zstd -dqf compressed -o plain');
    const plain = readFileSync(file('plain'));
    const encrypted = (script: string) =>
      shell(`(${script}) | age -r ${operations.recipient} > again`) && readFileSync(file('again'));

    // pg_dump ended early, the rest of the pipe in good order: pg_restore --list would not notice
    const short = await writtenAs(dump, encrypted(`head -c ${Math.floor(plain.length / 2)} plain | zstd -1 -c`));
    shell(`head -c ${Math.floor(plain.length / 2)} plain > half && pg_restore --list half`);
    await damaged(short, /cannot be read to its end as database/);
    // zstd ended early
    await damaged(await writtenAs(dump, encrypted('head -c 3000000 compressed')), /zstd does not decompress it/);
    // age ended early
    await damaged(await writtenAs(dump, dumpBytes.subarray(0, 3 * 1024 * 1024)), /age does not decrypt it/);
    // something else altogether
    await damaged(await writtenAs(dump, encrypted('echo hello | zstd -c')), /cannot be read to its end as database/);
    await damaged(
      await writtenAs(globals, encrypted('echo "CREATE ROLE x;" | zstd -c')),
      /cannot be read to its end as globals/,
    );
    await damaged(
      await writtenAs(configuration, encrypted('head -c 5000 /dev/urandom | zstd -c')),
      /cannot be read to its end as configuration/,
    );
    // a good dump of another size than was written, and with another list of contents
    await damaged({ ...dump, bytes: { ...dump.bytes, plain: dump.bytes.plain - 1 } }, /when decompressed/);
    for (const artifact of [dump, configuration]) {
      const contents = { ...artifact.contents, digest: '0'.repeat(64) };
      await damaged({ ...artifact, contents } as Artifact, /its list of contents/);
    }
    rmSync(directory, { recursive: true });
  });
});

describe('nothing is said about the artifact when', () => {
  const undecided = async (
    ended: Promise<{ exitCode: number | null; failure?: { message: string } }>,
    exitCode: number,
    message: RegExp,
  ) => {
    const { failure, ...rest } = await ended;
    expect(rest).toMatchObject({ exitCode, stdout: '', leftBehind: [] });
    expect(failure?.message).toMatch(message);
  };

  test('the identity is another one', async () => {
    await undecided(verify(dump, makeAgeKey().identity), 87, /no identity matched/);
    await undecided(verify(dump, 'AGE-SECRET-KEY-1QQQQ'), 87, /malformed secret key/);
    expect(() => verifyJob(dump, gateway.address, rootKey, 'secret text')).toThrow(/AGE-SECRET-KEY-1/);
    expect(() => verifyJob(dump, gateway.address, rootKey, 'secret text')).not.toThrow(/secret text/);
  });

  test('the key is wrong, or the bucket cannot be reached', async () => {
    await undecided(
      verify(dump, operations.identity, gateway.address, { ...rootKey, secretAccessKey: 'x' }),
      78,
      /HTTP 403/,
    );
    await undecided(
      verify(dump, operations.identity, { ...gateway.address, endpoint: 'http://127.0.0.1:1' }),
      79,
      /tried for 3 s after 0 bytes: curl: .*127.0.0.1/,
    );
  });

  test('the store stays away in mid-stream', async () => {
    relay.cutAnswersAfter(3 * MiB, ...Array<number>(10).fill(0));
    await undecided(verify(dump, operations.identity, relay.address), 79, /tried for 3 s after \d{7} bytes/);
  });

  test('pg_restore is too old', async () => {
    const newer = {
      ...dump,
      database: { ...(dump as { database: object }).database, serverVersion: 990001 },
    } as Artifact;
    await undecided(verify(newer), 69, /pg_restore 99 or newer is not installed/);
  });

  test('a checking process is killed', async () => {
    const slow = await startRelay(gateway.address);
    for (const command of [/pg_restore --file/, /^age /, /^zstd /, /^openssl /, /^curl /]) {
      slow.holdAnswersAfter(2 * MiB);
      const job = startJob(verifyJob(dump, slow.address, rootKey, operations.identity));
      await slow.answersHeld();
      process.kill(await descendant(job.pid, command), 'SIGKILL');
      slow.releaseAnswers();
      const ended = await job.ended;
      expect(ended).toMatchObject({ exitCode: 88, failure: { code: 'check-interrupted' }, stdout: '', leftBehind: [] });
    }
    await slow.close();
  });
});
