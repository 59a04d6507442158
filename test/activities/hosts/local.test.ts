import { afterAll, beforeAll, describe, jest } from '@jest/globals';
import { execa } from 'execa';
import { mkdtempSync, rmSync } from 'node:fs';
import { createHosts } from '../../../activities/hosts/hosts.js';
import { createSshPool } from '../../../activities/hosts/ssh-pool.js';
import { workerHost } from '../../../workflows/contracts/host-target.js';
import { promisesOfRunAndJob, type HostUnderTest } from './job-behaviour.js';

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
});
