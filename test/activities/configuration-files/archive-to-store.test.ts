import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { archiveJob } from '../../../activities/configuration-files/archive-job.js';
import { abortUpload } from '../../../activities/object-store/multipart-upload.js';
import type { AccessKey } from '../../../activities/object-store/object-store.js';
import { headObject } from '../../../activities/object-store/objects.js';
import { verifyJob } from '../../../activities/postgres/verify-job.js';
import { type Artifact, ConfigurationResult } from '../../../workflows/contracts/recovery-point.js';
import { runJob } from '../object-store/artifact-job-process.js';
import { BUCKET, type Gateway, rootKey, startGateway } from '../object-store/versity-gateway.js';
import { complete, makeAgeKey, newTarget } from '../postgres/stored-dump.js';

const operations = makeAgeKey();
const recipients = [operations.recipient, makeAgeKey().recipient];
let gateway: Gateway;
let hostKey: AccessKey;
let tree: string;

// Real servers on a machine that may be busy
jest.setTimeout(120_000);

beforeAll(async () => {
  gateway = await startGateway();
  hostKey = await gateway.hostKey('app1', 'proofpass/');
});
afterAll(async () => {
  if (tree) rmSync(tree, { recursive: true });
  await gateway.remove();
});
beforeEach(() => {
  if (tree) rmSync(tree, { recursive: true });
  tree = mkdtempSync(path.join(tmpdir(), 'guardia-etc-'));
});

const at = (...names: string[]) => path.join(tree, ...names);
const write = (name: string, content: string, mode = 0o644) => {
  mkdirSync(path.dirname(at(name)), { recursive: true });
  writeFileSync(at(name), content, { mode });
};

async function archive(paths: string[], optional: string[] = []) {
  const { upload, target } = await newTarget(gateway, 'configuration', recipients);
  const ended = await runJob(archiveJob({ paths, optional }, target, hostKey));
  if (ended.exitCode === 0) return { ended, artifact: await complete(gateway, upload, target, ended.stdout) };
  expect(await headObject(gateway.bucket, target.key)).toBeUndefined();
  await abortUpload(gateway.bucket, upload);
  return { ended, artifact: undefined };
}

/** Restores an artifact with plain tools, and returns the directory. */
async function restore(artifact: Artifact): Promise<string> {
  const answer = await gateway.bucket.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: artifact.key }));
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-restored-'));
  writeFileSync(path.join(directory, 'stored'), (await answer.Body?.transformToByteArray()) ?? '');
  writeFileSync(path.join(directory, 'identity'), operations.identity);
  execFileSync(
    'bash',
    ['-o', 'pipefail', '-ec', 'mkdir root; age -d -i identity stored | zstd -d | tar -x -p --acls --xattrs -C root'],
    { cwd: directory },
  );
  return path.join(directory, 'root');
}

describe('the configuration of a host', () => {
  test('is saved with patterns, modes, owners, odd names and the targets of links, and restores with plain tools', async () => {
    write('releases/1/app.js', 'code');
    write('shared/.env', 'JWT_SECRET=planted-in-env\n', 0o600);
    execFileSync('chown', ['12345:54321', at('shared/.env')]);
    mkdirSync(at('app'));
    symlinkSync('../shared/.env', at('app/.env'));
    write('nginx/sites/a.conf', 'a');
    write('nginx/sites/b.conf', 'b');
    write('nginx/other.txt', 'not asked for');
    write("odd/ñ with 'quotes' and\nline break $(touch x)", 'odd');
    write('odd/.hidden', 'hidden');
    symlinkSync('/nonexistent', at('odd/dangling'));

    const { ended, artifact } = await archive(
      [at('app/.env'), at('nginx/sites/*.conf'), at('odd'), at('nginx/sites/a.conf')],
      [at('missing*')],
    );
    expect(ended).toMatchObject({ exitCode: 0, leftBehind: [] });
    expect(ended.stdout + ended.stderr).not.toContain('planted');
    expect(ConfigurationResult.parse(JSON.parse(ended.stdout)).contents).toMatchObject({ entries: 8, files: 7 });

    const root = await restore(artifact as Artifact);
    const restored = (name: string) => path.join(root, tree, name);
    expect(readFileSync(restored('shared/.env'), 'utf8')).toBe('JWT_SECRET=planted-in-env\n');
    expect(statSync(restored('shared/.env'))).toMatchObject({ uid: 12345, gid: 54321 });
    expect(statSync(restored('shared/.env')).mode & 0o777).toBe(0o600);
    expect(lstatSync(restored('app/.env')).isSymbolicLink()).toBe(true);
    expect(readdirSync(restored('nginx/sites')).sort()).toEqual(['a.conf', 'b.conf']);
    expect(readdirSync(restored('nginx'))).toEqual(['sites']);
    expect(readdirSync(restored('odd')).sort()).toEqual([
      '.hidden',
      'dangling',
      "ñ with 'quotes' and\nline break $(touch x)",
    ]);
    rmSync(path.dirname(root), { recursive: true });

    const verified = await runJob(verifyJob(artifact as Artifact, gateway.address, rootKey, operations.identity));
    expect(verified).toMatchObject({ exitCode: 0 });
  });

  test('is the same archive when nothing has changed', async () => {
    for (const name of ['b', 'a', 'c/d']) write(name, name);
    const digests = await Promise.all([archive([tree]), archive([tree])]);
    const [one, other] = digests.map(({ artifact }) => artifact?.contents);
    expect(one).toEqual(other);
    expect(digests[0]?.artifact?.bytes.plain).toBe(digests[1]?.artifact?.bytes.plain);
  });

  test('grows over several parts where it must', async () => {
    writeFileSync(at('large'), execFileSync('head', ['-c', '12000000', '/dev/urandom'], { maxBuffer: 20e6 }));
    const { artifact } = await archive([at('large')]);
    expect(artifact?.parts.count).toBe(3);
  });
});

describe('it is refused', () => {
  test('naming every path that is missing, and links to nothing', async () => {
    write('there', 'x');
    symlinkSync('nothing', at('link'));
    const { ended } = await archive([at('there'), at('.env'), at('nginx/*.conf'), at('link')]);
    expect(ended).toMatchObject({ exitCode: 82, stdout: '', leftBehind: [], failure: { code: 'path-missing' } });
    for (const name of ['.env', 'nginx/*.conf', 'link']) expect(ended.failure?.message).toContain(at(name));
    expect(ended.failure?.message).not.toContain(at('there'));
  });

  test('when there is nothing to save', async () => {
    const { ended } = await archive([], [at('a'), at('b*')]);
    expect(ended).toMatchObject({ exitCode: 84, failure: { code: 'nothing-to-store' }, leftBehind: [] });
  });

  test('when a file changes while it is read', async () => {
    writeFileSync(at('growing'), Buffer.alloc(400 * 1024 * 1024));
    const writer = spawn('bash', ['-c', 'while :; do echo more; done >>"$0"', at('growing')], { stdio: 'ignore' });
    try {
      const { ended } = await archive([at('growing')]);
      expect(ended).toMatchObject({ exitCode: 83, stdout: '', failure: { code: 'archive-failed' }, leftBehind: [] });
      expect(ended.failure?.message).toMatch(/changed as we read it|shrank/);
    } finally {
      writer.kill('SIGKILL');
    }
    chmodSync(at('growing'), 0o600);
  });
});
