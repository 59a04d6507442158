// Test hosts that are real: Debian 12 with its own systemd, sshd, PostgreSQL, nginx, Redis and Docker, on a private bridge, with an S3
// server beside them. README.md tells how it is used and what to mind.
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { ensurePackages, ensureTool, ToolboxError } from '../packaging/toolbox.js';
import { shown, withLock } from '../packaging/toolbox-cache.js';
import { discardAbandonedBuilds, ensureBaseTree, type BaseTree } from './base-tree.js';
import { authorityFile, installCertificates, makeCertificates } from './certificate-authority.js';
import { ensureImages } from './container-images.js';
import { killControlGroup } from './control-group.js';
import { ensureFixtureLayer } from './fixture-layers.js';
import { proofpassUrlOf, PROOFPASS_URL } from './git-server.js';
import { keptHost } from './kept-hosts.js';
import { identityFile, makeSecrets, overlayDirectory, writeOverlay } from './inventory-overlay.js';
import { captured, execArguments, hostDirectory, rootOf, split, ssh } from './host-access.js';
import { powerOff, prepareHost, rebootHost, startHost, writeKnownHosts } from './lab-host.js';
import type { HostSpec, Lab, LabRequest } from './lab-interface.js';
import { startServices } from './lab-services.js';
import { noticesOf } from './notices-server.js';
import { restoreSnapshot, takeSnapshot } from './lab-snapshot.js';
import {
  allLabs,
  directoryOf,
  groupOf,
  hostState,
  isStale,
  labsDirectory,
  NAME,
  readState,
  secretsDirectory,
  writeHost,
  writeState,
  type HostState,
  type LabState,
} from './lab-state.js';
import { forgetMachine } from './machine.js';
import { unmountBelow } from './mounts.js';
import { addNetwork, addressOf, applyFaults, bridgeOf, isIndexFree, removeNetwork } from './network.js';
import { startOpenbao } from './openbao.js';
import { makeProofpassSecrets } from './proofpass-secrets.js';
import { record } from './recorded-process.js';
import { ensureRunningProofpass } from './running-proofpass.js';
import { s3Of } from './s3-server.js';
import { waitForAll } from './wait-for-all.js';

export type { Fixture } from './fixture-layers.js';
export type { LabS3, S3Key } from './s3-server.js';
export type { HostSpec, Lab, LabHost, LabRequest } from './lab-interface.js';
export { rootClient } from './s3-server.js';
export { allLabs, isStale, labsDirectory, type LabState } from './lab-state.js';

/** Labs are allocated and removed one at a time on a machine, whatever their directory. */
const allocation = <T>(work: () => Promise<T>): Promise<T> => withLock('/run/lock/guardia-lab.lock', work);

/** Makes a lab and returns when its servers answer and its hosts take logins. Leaves nothing behind when it throws. */
export async function startLab(request: LabRequest): Promise<Lab> {
  const name = request.name ?? `lab-${randomBytes(4).toString('hex')}`;
  checkRequest(name, request);
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new ToolboxError('the lab needs Linux and root, for its machines and their network. Run it with sudo.');
  }
  await ensurePackages('lab');
  await ensurePackages('worker');
  await removeStaleLabs();
  const base = await ensureBaseTree();
  await ensureTool('versitygw');
  const disks = new Map<string, Disk>();
  for (const host of request.hosts) disks.set(host.name, await diskOf(host, base));

  const state = await allocation(async () => {
    if (existsSync(directoryOf(name)))
      throw new ToolboxError(`there is a lab ${name} already. Remove it with: npm run lab -- down --lab ${name}`);
    const fresh: LabState = {
      format: 2,
      name,
      index: await freeIndex(),
      createdAt: new Date().toISOString(),
      // Also for a lab that stays: until it is ready, it is this process that makes it.
      owner: record(process.pid),
      systems: request.systems,
      ...(request.layout === undefined ? {} : { layout: request.layout }),
      hosts: request.hosts.map((host, i) => ({
        name: host.name,
        machine: '',
        address: String(11 + i),
        layers: disks.get(host.name)?.layers ?? [],
        hostKeys: [],
        cut: false,
      })),
      services: {},
    };
    fresh.hosts = fresh.hosts.map((host, i) => ({
      ...host,
      machine: `g${fresh.index}-${i}`,
      address: addressOf(fresh.index, 11 + i),
    }));
    writeState(fresh);
    await addNetwork(fresh.index);
    return fresh;
  });
  try {
    await makeSecrets(state);
    await makeCertificates(state);
    for (const [host, { secrets }] of disks) if (secrets !== undefined) keepSecrets(state, host, secrets);
    if (state.systems.includes('proofpass')) makeProofpassSecrets(state);
    await waitForAll([
      startServices(state),
      ...request.hosts.map((spec) =>
        prepareHost(state, hostState(state, spec.name), spec, disks.get(spec.name)?.docker),
      ),
    ]);
    writeState(state);
    await writeOverlay(state);
    writeKnownHosts(state);
    const names = state.hosts.map((host) => host.name).join(', ');
    await shown(`booting ${names} in the lab ${name}`, () =>
      waitForAll(state.hosts.map((host) => startHost(state, host))),
    );
    if (!request.owner) delete state.owner;
    writeState(state);
  } catch (error) {
    await removeLab(state);
    throw error;
  }
  return labOf(state);
}

/** Builds what the disks of such hosts are made of, where the cache lacks it: what takes long the first time. */
export async function ensureDisks(hosts: readonly HostSpec[]): Promise<void> {
  const base = await ensureBaseTree();
  for (const host of hosts) await diskOf(host, base);
}

/** What a host's disk is made of. */
interface Disk {
  /** The first one on top. */
  layers: string[];
  /** Directory with the `docker` and `containerd` that it starts with. */
  docker?: string;
  /** Directory of files that belong to the lab's secrets. */
  secrets?: string;
}

async function diskOf(host: HostSpec, base: BaseTree): Promise<Disk> {
  const lowest = host.bare === true ? base.bare : base.tree;
  if (host.kept !== undefined) {
    const { layer, docker, secrets } = keptHost(host.kept, host.name);
    return { layers: [layer, base.bare], docker, secrets };
  }
  const data = host.fixture === undefined ? [] : [await ensureFixtureLayer(base, host.fixture)];
  const [layer] = data;
  const running = host.fixture?.running === true;
  if (!running && host.bare !== true && host.images !== true) return { layers: [...data, lowest] };
  const images = await ensureImages(base, startLab);
  if (!running || host.fixture === undefined || layer === undefined)
    return { layers: [...data, lowest], docker: images.directory };
  const made = await ensureRunningProofpass(layer, host.fixture, images, startLab);
  return { layers: [made.layer, ...data, lowest], docker: made.directory, secrets: made.secrets };
}

/** Puts what was drawn when the running application was made to the lab's secrets. */
function keepSecrets(state: LabState, host: string, from: string): void {
  const at = secretsDirectory(state);
  mkdirSync(path.join(at, 'openbao'), { recursive: true, mode: 0o700 });
  const ofOne = path.join(from, 'openbao.json');
  if (existsSync(ofOne)) cpSync(ofOne, path.join(at, 'openbao', `${host}.json`));
  else cpSync(path.join(from, 'openbao'), path.join(at, 'openbao'), { recursive: true });
  cpSync(path.join(from, 'proofpass'), path.join(at, 'proofpass'), { recursive: true });
}

/** Starts again what is off in a lab that is not new, such as after a reboot of this machine. Idempotent. */
export async function resumeLab(name: string): Promise<Lab> {
  const lab = openLab(name);
  const state = readState(name);
  if (state === undefined) return lab;
  if (state.owner !== undefined)
    throw new ToolboxError(`the lab ${name} belongs to process ${state.owner.pid}, which still runs`);
  await allocation(async () => {
    if (!existsSync(`/sys/class/net/${bridgeOf(state.index)}`)) await addNetwork(state.index);
  });
  await startServices(state);
  await waitForAll(state.hosts.map((host) => startHost(state, host)));
  return lab;
}

/** A lab that is up, by name. */
export function openLab(name: string): Lab {
  const state = readState(name);
  if (state === undefined) {
    const known = allLabs().map((lab) => lab.name);
    throw new ToolboxError(
      `there is no lab ${name}${known.length > 0 ? `; there are: ${known.join(', ')}` : '. Make one with: npm run lab -- up'}`,
    );
  }
  return labOf(state);
}

/** Removes every lab whose owner is dead, and what was left of interrupted removals and builds. Returns the labs' names. */
export async function removeStaleLabs(): Promise<string[]> {
  await discardAbandonedBuilds();
  const stale = allLabs().filter(isStale);
  for (const state of stale) {
    await shown(`removing the lab ${state.name}, left by process ${state.owner?.pid}`, () => removeLab(state));
  }
  await allocation(async () => removeUnborn());
  return stale.map((state) => state.name);
}

/** Removes the directories of labs that were killed before they were recorded, or in the last moment of their removal: nothing else is in them. */
function removeUnborn(): void {
  if (!existsSync(labsDirectory())) return;
  for (const entry of readdirSync(labsDirectory(), { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const at = path.join(labsDirectory(), entry.name);
    if (readdirSync(at).every((file) => /^lab\.json\.\d+$/.test(file))) rmSync(at, { recursive: true });
  }
}

/** Ends everything of the lab and removes it. Idempotent; works on whatever a killed start or stop has left. */
export async function removeLab(state: LabState): Promise<void> {
  await allocation(async () => {
    const directory = directoryOf(state.name);
    // Another process may have removed it, and its number may be another lab's by now.
    if (readState(state.name)?.createdAt !== state.createdAt) return;
    await killControlGroup(groupOf(state.index));
    for (const host of state.hosts) forgetMachine(host.machine, path.join(hostDirectory(state, host), 'root'));
    await unmountBelow(directory);
    await removeNetwork(state.index);
    for (const name of readdirSync(directory))
      if (name !== 'lab.json') rmSync(path.join(directory, name), { recursive: true, force: true });
    rmSync(directory, { recursive: true, force: true });
  });
}

function checkRequest(name: string, request: LabRequest): void {
  const wrong: string[] = [];
  const check = (what: string, value: string) => {
    if (!NAME.test(value))
      wrong.push(
        `${what} ${JSON.stringify(value)}: use lower-case letters, digits and hyphens, at most 40, starting with a letter`,
      );
  };
  check('lab', name);
  for (const host of request.hosts) {
    check('host', host.name);
    if (host.bare === true && host.fixture !== undefined)
      wrong.push(`host ${host.name}: a bare host has no fixture, here ${host.fixture.name}`);
  }
  for (const system of request.systems) check('system', system);
  if (new Set(request.hosts.map((host) => host.name)).size !== request.hosts.length)
    wrong.push('hosts: every name only once');
  if (request.hosts.length > 200) wrong.push('hosts: at most 200');
  if (wrong.length > 0) throw new ToolboxError(`a lab cannot be made of this:\n  ${wrong.join('\n  ')}`);
}

async function freeIndex(): Promise<number> {
  const taken = new Set(allLabs().map((lab) => lab.index));
  for (let index = 1; index < 255; index++) if (!taken.has(index) && (await isIndexFree(index))) return index;
  throw new ToolboxError(
    'all 254 numbers of labs (10.77.1.0/24 to 10.77.254.0/24) are taken on this machine; see: npm run lab -- list',
  );
}

function labOf(initial: LabState): Lab {
  const name = initial.name;
  /** What is recorded now: another process may have changed it. */
  const state = (): LabState => {
    const current = readState(name);
    if (current === undefined) throw new ToolboxError(`the lab ${name} is gone`);
    return current;
  };
  /** Acts on one host, with what is recorded now. */
  const on = async <T>(host: string, act: (state: LabState, host: HostState) => Promise<T>): Promise<T> => {
    const now = state();
    return await act(now, hostState(now, host));
  };
  const fault = (host: string, change: (host: HostState) => void) =>
    on(host, async (now, one) => {
      change(one);
      writeHost(now, one);
      await applyFaults(now, one);
    });
  return {
    name,
    directory: directoryOf(name),
    hosts: Object.fromEntries(
      initial.hosts.map((host) => [
        host.name,
        {
          name: host.name,
          address: host.address,
          port: 22,
          user: 'guardia',
          identityFile: identityFile(initial),
          hostKeys: host.hostKeys,
        } as const,
      ]),
    ),
    s3: s3Of(initial),
    overlayDirectory: overlayDirectory(initial),
    secretsDirectory: secretsDirectory(initial),
    environment: {
      GUARDIA_OVERLAY: overlayDirectory(initial),
      GUARDIA_SECRETS: secretsDirectory(initial),
      NODE_EXTRA_CA_CERTS: authorityFile(initial),
    },
    ca: authorityFile(initial),
    ...(initial.systems.includes('proofpass') ? { git: { url: PROOFPASS_URL, local: proofpassUrlOf(initial) } } : {}),
    notices: noticesOf(initial),
    ssh: (host, argv, options) => on(host, (now, one) => ssh(now, one, argv, options?.stdin)),
    exec: (host, argv, options) =>
      on(host, (now, one) => captured(...split(execArguments(now, one, argv)), options?.stdin)),
    cut: (host) => fault(host, (one) => (one.cut = true)),
    heal: (host) =>
      fault(host, (one) => {
        one.cut = false;
        delete one.rate;
      }),
    slow: (host, rate) => {
      if (!/^\d+(\.\d+)?(k|m|g)?(bit|bps)$/i.test(rate))
        throw new ToolboxError(`not a rate: ${rate}; such as 10mbit, 500kbit, 2mbps (bps: bytes)`);
      return fault(host, (one) => (one.rate = rate));
    },
    poweroff: (host) => on(host, powerOff),
    poweron: (host) => on(host, startHost),
    reboot: (host) => on(host, rebootHost),
    certificates: (host) => on(host, async (now, one) => installCertificates(now, rootOf(now, one))),
    openbao: (host, listen) => on(host, (now, one) => startOpenbao(now, one, listen)),
    snapshot: (as) => takeSnapshot(state(), as),
    restore: (from) => restoreSnapshot(state(), from),
    down: async () => {
      const current = readState(name);
      if (current !== undefined && current.createdAt === initial.createdAt) await removeLab(current);
    },
  };
}
