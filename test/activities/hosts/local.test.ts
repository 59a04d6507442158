import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { mkdtempSync, rmSync } from 'node:fs';
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
