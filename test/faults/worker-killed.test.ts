import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { startBackupLab, until, type BackupLab } from '../backup/harness.js';
import { backupWithKill, countDumps } from './worker-killed.js';

jest.setTimeout(180_000);

let here: BackupLab;
beforeAll(async () => {
  here = await startBackupLab({ bulkMegabytes: 60 });
  await countDumps(here);
}, 900_000);
afterAll(() => here?.down(), 120_000);

const good = { dumps: 1, bytesAgain: 0, left: [], verified: true, ended: { end: 'succeeded' } };

test('killed in mid-dump, with parts in the bucket: the dump goes on without a worker, and the next one finds it', async () => {
  await here.lab.slow('app', '80mbit');
  const killed = await backupWithKill(here, () => here.untilPartStored());
  await here.lab.heal('app');
  expect(killed).toMatchObject({ ...good, during: expect.stringContaining('database-main') as unknown });
  expect(killed.ended.report?.steps.map(({ generation }) => generation)).toEqual([1, 1, 1, 1, 1, 1, 1, 1]);
});

test('killed while the backup is read back: it is read back, and the run ends well', async () => {
  const killed = await backupWithKill(here, () => until('it is read back', () => here.workerJobs().length > 0));
  expect(killed).toMatchObject({ ...good, during: expect.stringContaining('verify-database-main') as unknown });
});
