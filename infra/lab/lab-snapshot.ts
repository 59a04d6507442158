// Snapshots of a lab: the disks of its hosts and the data of its servers. Taking one makes what a host has written so far a layer that is
// only read from then on; going back to it drops what was written since. Nothing of a disk is copied either time.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ToolboxError } from '../packaging/toolbox.js';
import { shown } from '../packaging/toolbox-cache.js';
import { command } from './command.js';
import { copyDocker } from './docker-directory.js';
import { hostDirectory } from './host-access.js';
import { powerOff, shutDown, startHost } from './lab-host.js';
import { startServices } from './lab-services.js';
import { directoryOf, NAME, writeState, type HostState, type LabState } from './lab-state.js';
import { unmountBelow } from './mounts.js';
import { end } from './recorded-process.js';
import { waitForAll } from './wait-for-all.js';

/** What belongs to a snapshot besides the hosts, below the lab's directory: data of servers, and shares of OpenBao. */
const SERVERS = ['s3', 'secrets/openbao'];

/** Of `hosts.json` in a snapshot: each host's layers at that time, its own writes on top. */
type SavedLayers = Record<string, string[]>;

async function whileStopped(
  state: LabState,
  stop: (state: LabState, host: HostState) => Promise<void>,
  work: () => Promise<void>,
): Promise<void> {
  await waitForAll(state.hosts.map((host) => stop(state, host)));
  for (const [name, recorded] of Object.entries(state.services)) {
    await end(recorded);
    delete state.services[name];
  }
  await unmountBelow(directoryOf(state.name));
  await work();
  writeState(state);
  await startServices(state);
  await waitForAll([...state.hosts.map((host) => startHost(state, host)), removeDropped(state)]);
}

export async function takeSnapshot(state: LabState, name: string): Promise<void> {
  if (!NAME.test(name))
    throw new ToolboxError(
      `not a name for a snapshot: ${JSON.stringify(name)}; use lower-case letters, digits and hyphens`,
    );
  const directory = directoryOf(state.name);
  const target = path.join(directory, 'snapshots', name);
  if (existsSync(target)) throw new ToolboxError(`the lab ${state.name} has a snapshot ${name} already`);
  // What a killed process has left of one is not used by anything.
  const part = `${target}.part`;
  rmSync(part, { recursive: true, force: true });
  await shown(`taking the snapshot ${name} of the lab ${state.name}`, () =>
    whileStopped(state, shutDown, async () => {
      await copyServers(directory, part);
      const saved: SavedLayers = {};
      for (const host of state.hosts) {
        const at = hostDirectory(state, host);
        const to = path.join(part, 'hosts', host.name);
        mkdirSync(to, { recursive: true });
        for (const kind of ['docker', 'containerd']) await copyDocker(path.join(at, kind), path.join(to, kind));
        saved[host.name] = [path.join(target, 'hosts', host.name, 'upper'), ...host.layers];
      }
      writeFileSync(path.join(part, 'hosts.json'), JSON.stringify(saved));
      for (const host of state.hosts)
        await command(['mv', path.join(hostDirectory(state, host), 'upper'), path.join(part, 'hosts', host.name)]);
      await command(['mv', part, target]);
      for (const host of state.hosts) emptyDisk(state, host, saved[host.name] ?? host.layers);
    }),
  );
}

export async function restoreSnapshot(state: LabState, name: string): Promise<void> {
  const directory = directoryOf(state.name);
  const source = path.join(directory, 'snapshots', name);
  if (!existsSync(source)) throw new ToolboxError(`the lab ${state.name} has no snapshot ${name}`);
  const saved = JSON.parse(readFileSync(path.join(source, 'hosts.json'), 'utf8')) as SavedLayers;
  await shown(`restoring the snapshot ${name} of the lab ${state.name}`, () =>
    // What they have written is dropped: there is nothing to end in order.
    whileStopped(state, powerOff, async () => {
      for (const part of SERVERS) rmSync(path.join(directory, part), { recursive: true, force: true });
      await copyServers(source, directory);
      await waitForAll(
        state.hosts.map(async (host) => {
          emptyDisk(state, host, saved[host.name] ?? host.layers);
          for (const kind of ['docker', 'containerd']) {
            drop(state, host, kind);
            await copyDocker(path.join(source, 'hosts', host.name, kind), path.join(hostDirectory(state, host), kind));
          }
        }),
      );
    }),
  );
}

/** A disk with nothing written on it over the layers. */
function emptyDisk(state: LabState, host: HostState, layers: string[]): void {
  for (const kind of ['upper', 'work']) drop(state, host, kind);
  host.layers = layers;
}

const dropped = (state: LabState, host: HostState): string => path.join(hostDirectory(state, host), 'dropped');

/** Puts a directory of the host aside: it is removed while the host boots. */
function drop(state: LabState, host: HostState, kind: string): void {
  const from = path.join(hostDirectory(state, host), kind);
  if (!existsSync(from)) return;
  mkdirSync(dropped(state, host), { recursive: true });
  renameSync(from, mkdtempSync(path.join(dropped(state, host), `${kind}-`)));
}

const removeDropped = (state: LabState): Promise<string> =>
  command(['rm', '-rf', ...state.hosts.map((host) => dropped(state, host))]);

async function copyServers(from: string, to: string): Promise<void> {
  for (const part of SERVERS) {
    if (!existsSync(path.join(from, part))) continue;
    mkdirSync(path.dirname(path.join(to, part)), { recursive: true });
    await command(['cp', '--archive', '--reflink=auto', path.join(from, part), path.join(to, part)]);
  }
}
