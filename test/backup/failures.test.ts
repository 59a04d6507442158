import { GetBucketPolicyCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { closeSync, copyFileSync, openSync, readSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { StoredRecoveryPoint } from '../../activities/object-store/recovery-point-store.js';
import { keysOf, type ArtifactKind } from '../../workflows/contracts/recovery-point.js';
import { startBackupLab, until, type BackupLab, type Ended } from './harness.js';

jest.setTimeout(180_000);

/** Incompressible, so that the dump is some four parts, and most of it. */
const BULK_MEGABYTES = 40;
/** The dump then takes about five seconds. */
const SLOW = '80mbit';

let here: BackupLab;
let before: StoredRecoveryPoint[];
/** Undoes what a test has done to the system, whatever came of the test. */
let restore: (() => unknown)[] = [];

beforeAll(async () => {
  here = await startBackupLab({ bulkMegabytes: BULK_MEGABYTES });
  expect((await here.run()).end).toBe('succeeded');
}, 900_000);
afterAll(() => here?.down(), 120_000);
beforeEach(async () => {
  before = await here.points();
  restore = [];
});
afterEach(async () => {
  for (const act of restore.reverse()) await act();
});

const slowly = async (): Promise<void> => {
  await here.lab.slow('app', SLOW);
  restore.push(() => here.lab.heal('app'));
};
/** From now on reading back comes to a halt at the decryption, until the end of the test. */
const holdDecryption = async (): Promise<void> => {
  const file = (name: string): string => path.join(here.state, name);
  copyFileSync('/usr/bin/age', file('age-itself'));
  writeFileSync(file('hold'), '');
  const held = `[ "$1" = --decrypt ] && while [ -e ${file('hold')} ]; do sleep 0.1; done`;
  writeFileSync(file('age-held'), `#!/bin/sh\n${held}\nexec ${file('age-itself')} "$@"\n`, { mode: 0o755 });
  restore.push(() => here.restartWorker());
  restore.push(() => rmSync(file('hold'), { force: true }));
  await here.restartWorker({ before: `mount --bind ${file('age-held')} /usr/bin/age` });
};
/** What every backup that comes to nothing has in common. */
async function expectNothingChanged(): Promise<void> {
  expect(await here.left()).toEqual([]);
  expect(await here.points()).toEqual(before);
  expect(before[0]?.state).toBe('verified');
}
/** What every backup that succeeds has in common, whatever happened on its way. */
async function expectOneGoodMore(ended: Ended): Promise<StoredRecoveryPoint> {
  expect(ended).toMatchObject({ end: 'succeeded' });
  expect(await here.left()).toEqual([]);
  const [newest, ...older] = await here.points();
  expect(newest).toMatchObject({ state: 'verified', manifest: { run: { runId: ended.runId } } });
  expect(older).toEqual(before);
  return newest as StoredRecoveryPoint;
}
/** What a terminated run wrote down for its undo stays: it is a person's to look at. */
async function expectOnlyJournalOf({ runId }: Ended): Promise<void> {
  expect(await here.shell('ls /var/lib/guardia/journal')).toBe(`${runId}\n`);
  await here.shell(`rm -r /var/lib/guardia/journal/${runId}`);
}
const step = (ended: Ended, id: string) => ended.report?.steps.find((candidate) => candidate.id === id);

/** Where the bucket keeps an artifact of the run that is under way, on this machine's disk; undefined while it is not there. */
async function storedFile(kind: ArtifactKind, name: string): Promise<string | undefined> {
  const known = new Set(before.map(({ manifest }) => manifest.id));
  for (const key of await here.objects()) {
    const id = /^proofpass\/recovery-points\/([^/]+)\//.exec(key)?.[1];
    if (id !== undefined && !known.has(id) && key === keysOf('', 'proofpass', id).artifact(kind, name))
      return path.join(here.bucketDirectory, key);
  }
  return undefined;
}

describe('a dump that is not what it should be is refused, and the last good recovery point stays', () => {
  test('an expected table is missing', async () => {
    await here.sql('alter table public.users rename to users_away');
    restore.push(() => here.sql('alter table public.users_away rename to users'));
    const ended = await here.run();
    expect(ended).toMatchObject({
      end: 'rolled back',
      message: expect.stringMatching(
        /^backup of proofpass: step "dump database proofpass_prod .*" on app failed: database main: the dump does not hold public\.users\. The last good recovery point stays\. Check the database and the inventory; everything before it was undone$/,
      ),
    });
    await expectNothingChanged();
  });

  test('an empty database', async () => {
    await here.sql('create database proofpass_empty', 'postgres');
    restore.push(() => here.sql('drop database proofpass_empty', 'postgres'));
    here.changeInventory('name: proofpass_prod', 'name: proofpass_empty');
    restore.push(here.restoreInventory);
    const ended = await here.run();
    expect(ended).toMatchObject({ end: 'rolled back', message: expect.stringMatching(/the dump holds no table/) });
    await expectNothingChanged();
  });

  test('another database than before', async () => {
    await here.sql('create database proofpass_staging template proofpass_prod', 'postgres');
    restore.push(() => here.sql('drop database proofpass_staging', 'postgres'));
    here.changeInventory('name: proofpass_prod', 'name: proofpass_staging');
    restore.push(here.restoreInventory);
    const ended = await here.run();
    expect(ended).toMatchObject({
      end: 'rolled back',
      message: expect.stringMatching(/the dump is of database "proofpass_staging", .* of "proofpass_prod"/),
    });
    await expectNothingChanged();
  });
});

describe('a part that fails ends the run with a sentence, and leaves nothing', () => {
  /** Ends the server's side of the dump as soon as it copies the largest table. */
  const killDump = (): Promise<string> =>
    here.sql(`do $$ begin
        for tries in 1..6000 loop
          perform pg_stat_clear_snapshot();
          perform pg_terminate_backend(pid) from pg_stat_activity
            where application_name like 'guardia %' and query like 'COPY public.bulk%';
          exit when found;
          perform pg_sleep(0.01);
        end loop;
      end $$`);

  test('the dump is killed in mid-stream, again and again', async () => {
    const handle = await here.start();
    await killDump();
    await killDump();
    const ended = await here.ended(handle);
    expect(ended).toMatchObject({
      end: 'rolled back',
      message: expect.stringMatching(/the dump broke off: pg_dump ended with status 1: .*table "bulk" failed/),
    });
    expect(step(ended, 'database-main')).toMatchObject({ state: 'undone', generation: 2 });
    await expectNothingChanged();
  });

  test('the dump is killed once: it is made anew, and succeeds', async () => {
    const handle = await here.start();
    await killDump();
    const ended = await here.ended(handle);
    await expectOneGoodMore(ended);
    expect(step(ended, 'database-main')).toMatchObject({ generation: 2 });
  });

  test('the object store refuses the key of the host', async () => {
    const { Policy } = await here.s3.send(new GetBucketPolicyCommand({ Bucket: here.lab.s3.bucket }));
    const policy = JSON.parse(Policy ?? '') as { Statement: { Principal: { AWS: string[] } }[] };
    const hostKey = here.lab.s3.keys.hosts['proofpass']?.['app']?.accessKeyId ?? '';
    const put = (text: string) =>
      here.s3.send(new PutBucketPolicyCommand({ Bucket: here.lab.s3.bucket, Policy: text }));
    restore.push(() => put(Policy ?? ''));
    await put(
      JSON.stringify({
        ...policy,
        Statement: policy.Statement.filter(({ Principal }) => !Principal.AWS.includes(hostKey)),
      }),
    );
    const ended = await here.run();
    expect(ended).toMatchObject({
      end: 'rolled back',
      message: expect.stringMatching(
        /(database|globals) main on app: the object store refused the request: part 1: HTTP 403 AccessDenied: .*Check the host's access key and its policy/,
      ),
    });
    await expectNothingChanged();
  });

  test('the object store is away for 20 s in mid-dump: the backup waits, and succeeds', async () => {
    await slowly();
    const handle = await here.start();
    await here.untilPartStored();
    await here.store.stop();
    await delay(20_000);
    await here.store.start();
    const ended = await here.ended(handle);
    await expectOneGoodMore(ended);
    expect(step(ended, 'database-main')).toMatchObject({ generation: 1 });
  });

  test('a configuration file that must exist is missing', async () => {
    await here.shell('mv /etc/nginx/sites-available/proofpass /root/proofpass.away');
    restore.push(() => here.shell('mv /root/proofpass.away /etc/nginx/sites-available/proofpass'));
    const ended = await here.run();
    expect(ended).toMatchObject({
      end: 'rolled back',
      message: expect.stringMatching(
        /step "save the configuration of app" on app failed: configuration app on app: configuration files are missing: not found on app, or a link to nothing: \/etc\/nginx\/sites-available\/proofpass\. Restore them/,
      ),
    });
    await expectNothingChanged();
  });

  test('PostgreSQL is stopped: nothing is started', async () => {
    await here.shell('systemctl stop postgresql');
    restore.push(() => here.shell('systemctl start postgresql'));
    const versions = await here.versions();
    const ended = await here.run();
    expect(ended).toMatchObject({
      end: 'failed',
      message: expect.stringMatching(
        /^backup of proofpass: database proofpass_prod on app: the database server refuses the login or does not answer: .*5432.*; nothing was started$/,
      ),
    });
    expect(await here.versions()).toEqual(versions);
    await expectNothingChanged();
  });

  test('the disk under /var/lib/guardia is full', async () => {
    await here.shell(
      'mount -t tmpfs -o size=64k guardia-full /var/lib/guardia && ! head -c 100k /dev/zero >/var/lib/guardia/ballast 2>/dev/null',
    );
    restore.push(() => here.shell('umount /var/lib/guardia'));
    const ended = await here.run();
    await restore.pop()?.();
    expect(ended).toMatchObject({
      end: 'failed',
      message: expect.stringMatching(/app: no space left in \/var\/lib\/guardia .*Free some space there/),
    });
    await expectNothingChanged();
  });

  test('the worker has no age: nothing is started, and the remedy is named', async () => {
    restore.push(() => here.restartWorker());
    await here.restartWorker({ before: 'mount --bind /dev/null /usr/bin/age' });
    const ended = await here.run();
    expect(ended).toMatchObject({
      end: 'failed',
      message: expect.stringMatching(
        /the worker's machine cannot read backups back: not installed: age\. apt-get install age; nothing was started$/,
      ),
    });
    await expectNothingChanged();
  });
});

describe('a run that is stopped', () => {
  test('cancelled in mid-dump: everything is undone', async () => {
    await slowly();
    const handle = await here.start();
    await here.untilPartStored();
    await handle.cancel();
    const ended = await here.ended(handle);
    expect(ended).toMatchObject({
      end: 'cancelled',
      message: 'backup of proofpass: it was cancelled; everything before it was undone',
    });
    await expectNothingChanged();
  });

  test('cancelled in mid-verification: the recovery point is complete, and stays', async () => {
    await holdDecryption();
    const handle = await here.start();
    await until('the verification has begun', () => here.workerJobs().length > 0);
    await handle.cancel();
    const ended = await here.ended(handle);
    expect(ended).toMatchObject({
      end: 'cancelled',
      message:
        'backup of proofpass: it was cancelled; everything up to "write the manifest: the recovery point is complete" stands',
    });
    const [complete, ...older] = await here.points();
    expect(complete).toMatchObject({ state: 'complete', manifest: { run: { runId: ended.runId } } });
    expect(older).toEqual(before);
    expect(await here.left()).toEqual([]);
  });

  test('terminated in mid-dump: the next run stops what was left, removes it, says so, and succeeds', async () => {
    // So slow that the dump, which goes on by itself, does not come to its end before the next run stops it.
    await here.lab.slow('app', '30mbit');
    restore.push(() => here.lab.heal('app'));
    const handle = await here.start();
    await here.untilPartStored();
    await handle.terminate('for a test');
    const terminated = await here.ended(handle);
    expect(terminated.end).toBe('terminated');
    expect(await here.left()).toContainEqual(expect.stringMatching(/^upload: .*database-main/));

    const next = await here.start();
    await here.untilStep(next, 'remove-orphans', 'done', 'kept');
    await here.lab.heal('app');
    const ended = await here.ended(next);
    await expectOnlyJournalOf(terminated);
    await expectOneGoodMore(ended);
    expect(step(ended, 'remove-orphans')).toMatchObject({
      state: 'kept',
      note: expect.stringMatching(/^1 upload\(s\) aborted, \d object\(s\) removed$/) as unknown,
    });
    expect(ended.report?.notes).toEqual([
      expect.stringMatching(new RegExp(`^Run ${terminated.runId} left app without ending: it was terminated\\.`)),
    ]);
  });

  test('terminated in mid-verification: the next run stops and removes what was left on the worker', async () => {
    await holdDecryption();
    const handle = await here.start();
    await until('the verification has begun', () => here.workerJobs().length > 0);
    await handle.terminate('for a test');
    const terminated = await here.ended(handle);
    await here.restartWorker();
    before = await here.points();
    expect(before[0]).toMatchObject({ state: 'complete' });
    expect(here.workerJobs()).not.toEqual([]);
    const ended = await here.run();
    await expectOnlyJournalOf(terminated);
    await expectOneGoodMore(ended);
  });

  test('the host loses its power in mid-dump: the dump is made anew', async () => {
    await slowly();
    const handle = await here.start();
    await here.untilPartStored();
    await here.lab.poweroff('app');
    await here.lab.poweron('app');
    await here.lab.heal('app');
    const ended = await here.ended(handle);
    await expectOneGoodMore(ended);
    expect(step(ended, 'database-main')).toMatchObject({ generation: 2 });
  });
});

test('a dump far smaller than the ones before is refused, and kept when the operator says so', async () => {
  await here.sql('truncate public.bulk');
  restore.push(() => here.fillBulk(BULK_MEGABYTES));
  const refused = await here.run();
  expect(refused).toMatchObject({
    end: 'rolled back',
    message: expect.stringMatching(
      /database main: the dump has \d+ bytes, \d+ % of the median of the last \d \(\d+\); less than 50 % is refused\. The last good recovery point stays\. If this is right, start the backup with "acceptAnomaly": true/,
    ),
  });
  expect(await here.left()).toEqual([]);
  expect(await here.points()).toEqual(before);

  const point = await expectOneGoodMore(await here.run({ acceptAnomaly: true }));
  expect(point.manifest.acceptedAnomalies).toEqual([expect.stringMatching(/% of the median/)]);
});

test('a byte that flips in the bucket is found: the recovery point is damaged, the one before stays', async () => {
  const handle = await here.start();
  let file: string | undefined;
  await until('the dump is in the bucket', async () => (file = await storedFile('database', 'main')) !== undefined);
  flipByte(file as string);
  const ended = await here.ended(handle);
  expect(ended).toMatchObject({
    end: 'failed',
    message: expect.stringMatching(
      /step "read database main back" on worker failed: database main on worker: the artifact does not read back: its SHA-256 is .*Do not rely on this recovery point/,
    ),
  });
  const [damaged, ...older] = await here.points();
  expect(damaged).toMatchObject({ state: 'damaged', manifest: { run: { runId: ended.runId } } });
  expect(damaged?.proofs.map(({ level }) => level)).toEqual(['damaged']);
  expect(older).toEqual(before);
  expect(await here.left()).toEqual([]);
});

function flipByte(file: string): void {
  const descriptor = openSync(file, 'r+');
  const position = Math.floor(statSync(file).size / 2);
  const byte = Buffer.alloc(1);
  readSync(descriptor, byte, 0, 1, position);
  writeSync(descriptor, Buffer.from([(byte[0] as number) ^ 1]), 0, 1, position);
  closeSync(descriptor);
}
