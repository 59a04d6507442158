import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createFenceActivities } from '../../../activities/hosts/fence-activities.js';
import { createHosts } from '../../../activities/hosts/hosts.js';
import { createSshPool } from '../../../activities/hosts/ssh-pool.js';
import { workerHost } from '../../../workflows/contracts/host-target.js';
import { newId, promisesOfRunAndJob, type HostUnderTest } from './job-behaviour.js';

jest.setTimeout(300_000);

describe('this machine, without systemd', () => {
  let under: HostUnderTest;
  let state: string;
  beforeAll(() => {
    state = mkdtempSync('/tmp/guardia-local-');
    const ssh = createSshPool({ readIdentity: () => Promise.reject(new Error('no SSH here')) });
    under = {
      hosts: createHosts({ ssh, workerStateDirectory: state, scrub: (text) => text }),
      target: workerHost,
      shell: async (line) => (await execa('/bin/sh', ['-c', line], { stripFinalNewline: false })).stdout,
      follower: { GUARDIA_TEST_TARGET: JSON.stringify(workerHost), GUARDIA_TEST_STATE: state },
    };
  });
  afterAll(() => rmSync(state, { recursive: true, force: true }));

  promisesOfRunAndJob(() => under);

  describe('a caller that dies while it sends standard input', () => {
    const script = readFileSync('activities/hosts/host.sh', 'utf8');
    const call = (...args: string[]) =>
      execa('/bin/sh', ['-c', script, 'guardia', args[0] ?? '', state, ...args.slice(1)], {
        reject: false,
        stdin: 'pipe',
      });
    const cut = async (...args: string[]) => {
      const child = call(...args);
      child.stdin.end('half');
      return child;
    };
    const refused = { exitCode: 94, stderr: 'guardia: standard input ended after 4 of 8 bytes' };

    test('has no command begun', async () => {
      const file = path.join(state, 'file');
      writeFileSync(file, 'the old file');
      const write = ['sh', '-c', 'cat >"$1"', 'write', file];
      expect(await cut('run', '-', '10', '8', ...write)).toMatchObject(refused);
      const { number } = await under.hosts.raiseFence(workerHost, { runId: 'cut', workflowId: 'test/cut' });
      expect(await cut('run', String(number), '10', '8', ...write)).toMatchObject(refused);
      expect(readFileSync(file, 'utf8')).toBe('the old file');
      await under.hosts.closeFence(workerHost, 'cut');
    });

    test('leaves no journal entry, and no job', async () => {
      const run = newId();
      expect(await cut('journal-put', '-', run, 'a', '8')).toMatchObject(refused);
      expect(await under.hosts.journalGet(workerHost, run, 'a')).toBeUndefined();
      expect(await cut('start', '-', run, '10', 'no', '2', '2', '2', '2')).toMatchObject(refused);
      expect((await under.hosts.inspectJob(workerHost, run)).state).toBe('absent');
      expect(
        readdirSync(`/dev/shm/guardia-${process.getuid?.()}`).filter((name) => name.startsWith('arriving')),
      ).toEqual([]);
    });

    test('or whose link hangs holds no lock', async () => {
      const run = newId();
      const hanging = [
        call('journal-put', '-', run, 'a', '8'),
        call('start', '-', run, '10', 'no', '2', '2', '2', '2'),
      ];
      for (const child of hanging) child.stdin.write('half');
      const began = Date.now();
      await delay(500);
      await under.hosts.journalPut(workerHost, { run, step: 'b', content: Buffer.from('whole') });
      expect(Date.now() - began).toBeLessThan(5_000);
      for (const child of hanging) child.stdin.end();
      expect((await Promise.all(hanging)).map(({ exitCode }) => exitCode)).toEqual([94, 94]);
      await under.hosts.journalForget(workerHost, run);
    });
  });

  test('what a terminated run and the steps of it that were runs have at work on the worker is stopped and tidied away', async () => {
    const { raiseFence, joinFence, closeFence } = createFenceActivities(under.hosts);
    const [dead, child, next] = [newId(), newId(), newId()];
    const { number: fence } = await raiseFence({ target: workerHost, runId: dead, workflowId: 'deploy/shop/1' });
    await joinFence({ target: workerHost, fence, runId: child, workflowId: 'backup/shop/2' });
    const jobs = [dead, child].map((run) => `${run}-verify-g1`);
    const command = { script: 'sleep 1000', args: [] };
    for (const id of jobs) await under.hosts.startJob(workerHost, { id, command, timeoutSeconds: 2000 });
    expect(await raiseFence({ target: workerHost, runId: next, workflowId: 'deploy/shop/3' })).toMatchObject({
      left: dead,
      leftWith: [child],
    });
    const left = (await under.hosts.listJobs(workerHost)).map(({ id }) => id);
    expect(left.filter((id) => jobs.includes(id))).toEqual([]);
    await closeFence({ target: workerHost, runId: next, keepJournal: false, inherited: false, again: false });
    await under.hosts.closeFence(workerHost, next);
  });

  test('a run that takes it over stops no command of another fence: of another worker, or in a container here', async () => {
    const [run, other] = [newId(), newId()];
    const { number } = await under.hosts.raiseFence(workerHost, { runId: newId(), workflowId: `test/${run}` });
    const ssh = createSshPool({ readIdentity: () => Promise.reject(new Error('no SSH here')) });
    const hosts = createHosts({ ssh, workerStateDirectory: `${state}-other`, scrub: (text) => text });
    const { number: fence } = await hosts.raiseFence(workerHost, { runId: other, workflowId: `test/${other}` });
    expect(fence).toBeLessThanOrEqual(number);
    const elsewhere = hosts.run(workerHost, { argv: ['sh', '-c', 'sleep 2; echo done'] }, { fence });
    const inside = execa('unshare', [
      '--pid',
      '--fork',
      'env',
      `GUARDIA_FENCE=0 ${state}`,
      'sh',
      '-c',
      'sleep 2; echo done',
    ]);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { stopped } = await under.hosts.raiseFence(workerHost, { runId: run, workflowId: `test/${run}` });
    expect(stopped).toEqual([]);
    expect([(await elsewhere).stdout, (await inside).stdout]).toEqual(['done\n', 'done']);
    await under.hosts.closeFence(workerHost, run);
    rmSync(`${state}-other`, { recursive: true });
  });
});
