// Hosts that were set up once, kept with their Docker and the secrets that go with them, and started again in other labs: what takes minutes is done once.
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cacheDirectory } from '../packaging/toolbox.js';
import { builtOnce } from '../packaging/toolbox-cache.js';
import { ensureBaseTree } from './base-tree.js';
import { command } from './command.js';
import { moveDocker } from './docker-directory.js';
import { ensureImages } from './container-images.js';
import type { Lab, LabRequest } from './lab-interface.js';
import { readState, secretsDirectory, type LabState } from './lab-state.js';
import { addressOf } from './network.js';
import { ensureApplication } from './proofpass-application.js';

/** What of a lab's secrets belongs to the hosts: values that are written on them. */
const SECRETS = ['proofpass', 'openbao'];
const SNAPSHOT = 'kept';

/** Directory of one kept host. */
export interface KeptHost {
  /** Over the bare tree. */
  layer: string;
  /** Holds the host's `docker` and `containerd`. */
  docker: string;
  /** Holds what belongs to the lab's secrets. */
  secrets: string;
  /** Number of the lab in which it was set up: its addresses are in the host's files. */
  index: number;
}

export const keptHost = (directory: string, host: string): KeptHost => ({
  layer: path.join(directory, host, 'layer'),
  docker: path.join(directory, host),
  secrets: path.join(directory, 'secrets'),
  index: Number(readFileSync(path.join(directory, 'index'), 'utf8')),
});

/**
 * Directory with hosts in the state that `setUp` brings bare ones into; made when the cache has none.
 * @param options.madeOf texts that the result depends on beside the lab itself
 * @param options.setUp starts a lab of bare hosts, sets it up, and returns it still running
 */
export async function keptHosts(options: {
  name: string;
  madeOf: readonly string[];
  start: (request: LabRequest) => Promise<Lab>;
  setUp: () => Promise<Lab>;
}): Promise<string> {
  const { name, madeOf, start, setUp } = options;
  const [base, application] = [await ensureBaseTree(), await ensureApplication()];
  const images = await ensureImages(base, start);
  const hash = createHash('sha256').update(
    [base.bare, images.directory, application.repositories, ...madeOf].join('\n'),
  );
  return await builtOnce(
    path.join(cacheDirectory(), 'lab', `kept-${name}-${hash.digest('hex').slice(0, 12)}`),
    `setting the hosts ${name} up (a few minutes the first time)`,
    async (temporary) => keep(await setUp(), temporary),
    async (temporary) => rmSync(temporary, { recursive: true, force: true }),
  );
}

async function keep(lab: Lab, directory: string): Promise<void> {
  try {
    // In order, so that databases are closed; then the disks become layers.
    await lab.snapshot(SNAPSHOT);
    const state = readState(lab.name) as LabState;
    mkdirSync(directory, { recursive: true });
    writeFileSync(path.join(directory, 'index'), String(state.index));
    for (const part of SECRETS)
      cpSync(path.join(secretsDirectory(state), part), path.join(directory, 'secrets', part), { recursive: true });
    for (const { name } of state.hosts) {
      await lab.poweroff(name);
      const made = path.join(lab.directory, 'snapshots', SNAPSHOT, 'hosts', name);
      mkdirSync(path.join(directory, name), { recursive: true });
      rmSync(path.join(made, 'upper/var/log/journal'), { recursive: true, force: true });
      await command(['mv', path.join(made, 'upper'), path.join(directory, name, 'layer')]);
      for (const kind of ['docker', 'containerd'])
        await moveDocker(path.join(made, kind), path.join(directory, name, kind));
      chmodSync(path.join(directory, name, 'layer'), 0o755);
    }
    await command(['sync', '-f', directory]);
  } finally {
    await lab.down();
  }
}

/** Puts the addresses of the lab in place of those in which the host was set up. `root`: of the host, mounted. */
export async function giveAddresses(state: LabState, root: string, { index }: KeptHost): Promise<void> {
  if (index === state.index) return;
  const [from, to] = [addressOf(index, 0), addressOf(state.index, 0)].map((address) => address.slice(0, -1));
  const places = ['etc', 'opt/proofpass/shared', 'opt/proofpass/observability', 'opt/proofpass/openbao/config']
    .map((place) => path.join(root, place))
    .filter((place) => existsSync(place));
  const escaped = String(from).replaceAll('.', '\\.');
  await command([
    'bash',
    '-c',
    `grep -rlIZ --exclude-dir=ssl -e "$1" -- "\${@:3}" | xargs -0 --no-run-if-empty sed -i "s/\\b$1/$2/g"`,
    'addresses',
    escaped,
    String(to),
    ...places,
  ]);
}
