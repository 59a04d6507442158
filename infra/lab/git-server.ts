import { execa } from 'execa';
import { existsSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { command } from './command.js';
import { startDetached } from './control-group.js';
import { directoryOf, groupOf, type LabState } from './lab-state.js';
import { gatewayOf } from './network.js';
import { ensureApplication, PROOFPASS_REPOSITORY } from './proofpass-application.js';

const PORT = 9418;

/** git's own server over the lab's copy of ProofPass's repository, read-only. */
export const gitServer = {
  name: 'git',
  wanted: (state: LabState): boolean => state.systems.includes('proofpass'),
  async start(state: LabState): Promise<ProcessIdentity> {
    const repositories = path.join(directoryOf(state.name), 'git');
    if (!existsSync(repositories)) await command(['cp', '-r', (await ensureApplication()).repositories, repositories]);
    const { stdout: programs } = await execa('git', ['--exec-path']);
    return startDetached(
      `${groupOf(state.index)}/git`,
      [
        path.join(programs, 'git-daemon'),
        ...['--reuseaddr', '--export-all', `--base-path=${repositories}`],
        ...[`--listen=${gatewayOf(state.index)}`, `--port=${PORT}`, repositories],
      ],
      path.join(directoryOf(state.name), 'git.log'),
    );
  },
  async ready(state: LabState): Promise<void> {
    const until = Date.now() + 10_000;
    while (!(await accepts(gatewayOf(state.index)))) {
      if (Date.now() > until)
        throw new Error(`the git server does not answer; see ${path.join(directoryOf(state.name), 'git.log')}`);
      await sleep(20);
    }
  },
};

function accepts(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port: PORT });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Name by which the hosts know the machine that serves the repository. */
export const GIT_HOST = 'git.proofpass.test';

/** Where the application's repository is, as the hosts name it: the same in every lab. */
export const PROOFPASS_URL = `git://${GIT_HOST}/${PROOFPASS_REPOSITORY}`;

/** The same for programs of this machine. */
export const proofpassUrlOf = (state: LabState): string => `git://${gatewayOf(state.index)}/${PROOFPASS_REPOSITORY}`;
