// Snapshots of a lab: the disks of its hosts and the data of its servers, taken and put back while all are stopped.
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { ToolboxError } from '../packaging/toolbox.js';
import { shown } from '../packaging/toolbox-cache.js';
import { ensureBaseTree } from './base-tree.js';
import { command } from './command.js';
import { hostDirectory, shutDown, startHost } from './lab-host.js';
import { startServices } from './lab-services.js';
import { directoryOf, NAME, type LabState } from './lab-state.js';
import { unmountBelow } from './mounts.js';
import { end } from './recorded-process.js';
import { waitForAll } from './wait-for-all.js';

/** What a snapshot holds, below the lab's directory. */
const saved = (state: LabState): string[] => [
  's3',
  ...state.hosts.flatMap((host) => ['upper', 'docker', 'containerd'].map((name) => `hosts/${host.name}/${name}`)),
];

async function whileStopped(state: LabState, work: () => Promise<void>): Promise<void> {
  await waitForAll(state.hosts.map((host) => shutDown(state, host)));
  for (const [name, recorded] of Object.entries(state.services)) {
    await end(recorded);
    delete state.services[name];
  }
  await unmountBelow(directoryOf(state.name));
  await work();
  await startServices(state);
  const { packages } = await ensureBaseTree();
  await waitForAll(state.hosts.map((host) => startHost(state, host, packages)));
}

export async function takeSnapshot(state: LabState, name: string): Promise<void> {
  if (!NAME.test(name))
    throw new ToolboxError(
      `not a name for a snapshot: ${JSON.stringify(name)}; use lower-case letters, digits and hyphens`,
    );
  const directory = directoryOf(state.name);
  const target = path.join(directory, 'snapshots', name);
  if (existsSync(target)) throw new ToolboxError(`the lab ${state.name} has a snapshot ${name} already`);
  await shown(`taking the snapshot ${name} of the lab ${state.name}`, () =>
    whileStopped(state, async () => {
      for (const part of saved(state)) await copyTree(path.join(directory, part), path.join(`${target}.part`, part));
      await command(['mv', `${target}.part`, target]);
    }),
  );
}

export async function restoreSnapshot(state: LabState, name: string): Promise<void> {
  const directory = directoryOf(state.name);
  const source = path.join(directory, 'snapshots', name);
  if (!existsSync(source)) throw new ToolboxError(`the lab ${state.name} has no snapshot ${name}`);
  await shown(`restoring the snapshot ${name} of the lab ${state.name}`, () =>
    whileStopped(state, async () => {
      for (const part of saved(state)) {
        rmSync(path.join(directory, part), { recursive: true, force: true });
        await copyTree(path.join(source, part), path.join(directory, part));
      }
      for (const host of state.hosts)
        rmSync(path.join(hostDirectory(state, host), 'work'), { recursive: true, force: true });
    }),
  );
}

async function copyTree(from: string, to: string): Promise<void> {
  mkdirSync(path.dirname(to), { recursive: true });
  await command(['cp', '--archive', '--reflink=auto', from, to]);
}
