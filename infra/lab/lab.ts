// Test hosts that are real: Debian 12 with its own systemd, sshd, PostgreSQL, nginx, Redis and Docker, on a private bridge, with an S3
// server beside them. README.md tells how it is used and what to mind.
import { execa } from 'execa';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensurePackages, ensureTool, ToolboxError } from '../packaging/toolbox.js';
import { shown, withLock } from '../packaging/toolbox-cache.js';
import { discardAbandonedBuilds, ensureBaseTree, PACKAGE_SOURCE, type BaseTree } from './base-tree.js';
import { command } from './command.js';
import { killControlGroup, populated } from './control-group.js';
import { ensureFixtureLayer, type Fixture } from './fixture-layers.js';
import { identityFile, makeSecrets, overlayDirectory, secretsDirectory, writeOverlay } from './inventory-overlay.js';
import { services } from './lab-services.js';
import {
  allLabs,
  directoryOf,
  groupOf,
  hostGroupOf,
  hostState,
  isStale,
  labsDirectory,
  readState,
  writeHost,
  writeState,
  type HostState,
  type LabState,
} from './lab-state.js';
import { boot, forgetMachine, leaderOf } from './machine.js';
import { mountOverlay, unmountBelow } from './mounts.js';
import { addNetwork, addressOf, applyFaults, bridgeOf, cardOf, isIndexFree, removeNetwork } from './network.js';
import { isRunning } from '../../activities/temporal/process-identity.js';
import { end, record } from './recorded-process.js';
import { s3Of, type LabS3 } from './s3-server.js';

export type { Fixture } from './fixture-layers.js';
export type { LabS3, S3Key } from './s3-server.js';
export { rootClient } from './s3-server.js';
export { allLabs, isStale, labsDirectory, type LabState } from './lab-state.js';

/** A host that a lab shall have. */
export interface HostSpec {
  /** As the inventory names it. */
  name: string;
  fixture?: Fixture;
  /** Units that start with the host beside sshd, such as `docker.service`; a fixture enables its own. */
  enable?: string[];
}

export interface LabRequest {
  /** Lower-case letters, digits and hyphens; drawn when missing. */
  name?: string;
  hosts: HostSpec[];
  /** Systems that the hosts belong to: an inventory overlay and keys are made for each. */
  systems: string[];
  /** True: the lab ends with this process; what a killed one leaves is removed by the next start of any lab. */
  owner: boolean;
}

/** How to reach a host. */
export interface LabHost {
  name: string;
  address: string;
  port: 22;
  user: 'guardia';
  identityFile: string;
  /** `ssh-ed25519 AAAA...` */
  hostKeys: string[];
}

export interface Output {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface Lab {
  name: string;
  /** Everything of this lab on disk. */
  directory: string;
  hosts: Record<string, LabHost>;
  s3: LabS3;
  overlayDirectory: string;
  secretsDirectory: string;
  /** What a worker or the command needs in its environment to look after this lab. */
  environment: Record<'GUARDIA_OVERLAY' | 'GUARDIA_SECRETS', string>;
  /** Runs a command on the host as `guardia` over SSH. Never throws for an exit code; 255 means that SSH itself failed. */
  ssh(host: string, argv: readonly string[], options?: { stdin?: string | Buffer }): Promise<Output>;
  /** Runs a command on the host as root, past its network: for looking at what a host cannot tell. */
  exec(host: string, argv: readonly string[], options?: { stdin?: string | Buffer }): Promise<Output>;
  /** Takes the host off the network. Idempotent, kept over a reboot. */
  cut(host: string): Promise<void>;
  /** Undoes cut and slow. Idempotent. */
  heal(host: string): Promise<void>;
  /** Limits the host's network, both ways, to a rate as `tc` spells it: `10mbit`, `500kbit`. */
  slow(host: string, rate: string): Promise<void>;
  /** A power cut: everything on the host is gone at once, its disk stays as it is. Idempotent. */
  poweroff(host: string): Promise<void>;
  /** Boots the host and waits until it takes logins. Idempotent. */
  poweron(host: string): Promise<void>;
  /** An orderly reboot, as `systemctl reboot` on the host; waits until it takes logins again. */
  reboot(host: string): Promise<void>;
  /** Saves hosts and servers under a name; they are stopped for it and started again. */
  snapshot(name: string): Promise<void>;
  /** Puts hosts and servers back to a snapshot. */
  restore(name: string): Promise<void>;
  /** Removes the lab: processes, mounts, network, rules and files. Idempotent. */
  down(): Promise<void>;
}

const NAME = /^[a-z][a-z0-9-]{0,39}$/;
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
  const layers = new Map<string, string[]>();
  for (const host of request.hosts) {
    layers.set(host.name, [
      ...(host.fixture === undefined ? [] : [await ensureFixtureLayer(base, host.fixture)]),
      base.tree,
    ]);
  }

  const state = await allocation(async () => {
    if (existsSync(directoryOf(name)))
      throw new ToolboxError(`there is a lab ${name} already. Remove it with: npm run lab -- down --lab ${name}`);
    const fresh: LabState = {
      format: 1,
      name,
      index: await freeIndex(),
      createdAt: new Date().toISOString(),
      // Also for a lab that stays: until it is ready, it is this process that makes it.
      owner: record(process.pid),
      systems: request.systems,
      hosts: request.hosts.map((host, i) => ({
        name: host.name,
        machine: '',
        address: String(11 + i),
        layers: layers.get(host.name) ?? [],
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
    await every([
      startServices(state),
      ...request.hosts.map((spec) => prepareHost(state, hostState(state, spec.name), base, spec)),
    ]);
    writeState(state);
    await writeOverlay(state);
    writeKnownHosts(state);
    const names = state.hosts.map((host) => host.name).join(', ');
    await shown(`booting ${names} in the lab ${name}`, () =>
      every(state.hosts.map((host) => startHost(state, host, base.packages))),
    );
    if (!request.owner) delete state.owner;
    writeState(state);
  } catch (error) {
    await removeLab(state);
    throw error;
  }
  return labOf(state);
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
  const { packages } = await ensureBaseTree();
  await every(state.hosts.map((host) => startHost(state, host, packages)));
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

/** Waits for all of them, also when one has failed: nothing may still be at work when the lab is removed. Throws the first error. */
async function every(works: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === 'rejected') throw result.reason;
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
  for (const host of request.hosts) check('host', host.name);
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

async function startServices(state: LabState): Promise<void> {
  for (const service of services) {
    await shown(`starting ${service.name} of the lab ${state.name}`, async () => {
      const running = state.services[service.name];
      if (running === undefined || !isRunning(running)) {
        state.services[service.name] = await service.start(state);
        writeState(state);
      }
      await service.ready(state);
    });
  }
}

const hostDirectory = (state: LabState, host: HostState): string =>
  path.join(directoryOf(state.name), 'hosts', host.name);

/** Makes the host's disk: its name, keys and network over the layers. */
async function prepareHost(state: LabState, host: HostState, base: BaseTree, spec: HostSpec): Promise<void> {
  const at = hostDirectory(state, host);
  for (const name of ['', 'upper', 'work', 'root', 'docker', 'containerd'])
    mkdirSync(path.join(at, name), { recursive: true });
  chmodSync(path.join(at, 'upper'), 0o755);
  // PostgreSQL opens its files for writing, which makes overlayfs copy each one whole at first touch: better now than in mid-run.
  for (const layer of host.layers.filter((one) => one !== base.tree)) {
    const data = path.join(layer, 'var/lib/postgresql');
    if (!existsSync(data)) continue;
    const to = path.join(at, 'upper/var/lib/');
    mkdirSync(to, { recursive: true });
    const copy = () => command(['cp', '--archive', '--no-preserve=xattr', '--reflink=auto', data, to]);
    await ((spec.fixture?.megabytes ?? 0) > 500 ? shown(`copying the database of ${host.name}`, copy) : copy());
  }
  const root = await mountOverlay(at, host.layers);
  const write = (file: string, text: string, mode = 0o644) => {
    writeFileSync(path.join(root, file), text, { mode });
    chmodSync(path.join(root, file), mode);
  };
  write('etc/hostname', `${host.name}\n`);
  write('etc/machine-id', `${randomBytes(16).toString('hex')}\n`, 0o444);
  const others = state.hosts.map((one) => `${one.address} ${one.name}\n`).join('');
  write('etc/hosts', `127.0.0.1 localhost\n::1 localhost\n${others}`);
  // Before 80-container-host0.network, which would ask for an address by DHCP.
  const network = [
    '[Match]',
    'Name=host0',
    '',
    '[Network]',
    `Address=${host.address}/24`,
    'LinkLocalAddressing=no',
    'IPv6AcceptRA=no',
  ];
  write(
    'etc/systemd/network/10-host0.network',
    [...network, 'ConfigureWithoutCarrier=yes', 'IgnoreCarrierLoss=yes', ''].join('\n'),
  );
  const ssh = path.join(root, 'home/guardia/.ssh');
  mkdirSync(ssh, { mode: 0o700, recursive: true });
  cpSync(`${identityFile(state)}.pub`, path.join(ssh, 'authorized_keys'));
  const [uid, gid] =
    /^guardia:[^:]*:(\d+):(\d+):/m
      .exec(readFileSync(path.join(root, 'etc/passwd'), 'utf8'))
      ?.slice(1)
      .map(Number) ?? [];
  if (uid === undefined || gid === undefined) throw new Error(`no user guardia in ${root}`);
  for (const file of [ssh, path.join(ssh, 'authorized_keys')]) chownSync(file, uid, gid);
  const keyFile = path.join(root, 'etc/ssh/ssh_host_ed25519_key');
  await command(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', `root@${host.name}`, '-f', keyFile]);
  host.hostKeys = [readFileSync(`${keyFile}.pub`, 'utf8').split(' ').slice(0, 2).join(' ')];
  if ((spec.enable ?? []).length > 0)
    await command(['systemctl', '--quiet', `--root=${root}`, 'enable', ...(spec.enable ?? [])]);
}

function writeKnownHosts(state: LabState): void {
  const lines = state.hosts.flatMap((host) => host.hostKeys.map((key) => `${host.address} ${key}\n`));
  writeFileSync(path.join(directoryOf(state.name), 'known_hosts'), lines.join(''));
}

/** Boots the host and waits until it takes logins and its services run; a host that is cut off is only booted. */
async function startHost(state: LabState, host: HostState, packages: string): Promise<void> {
  const at = hostDirectory(state, host);
  const group = hostGroupOf(state.index, host);
  if (!populated(group)) {
    const root = await mountOverlay(at, host.layers);
    host.supervisor = boot({
      group,
      root,
      machine: host.machine,
      hostname: host.name,
      bridge: bridgeOf(state.index),
      // dockerd cannot stack its own overlay on an overlay.
      binds: [`${at}/docker:/var/lib/docker`, `${at}/containerd:/var/lib/containerd`],
      readOnlyBinds: [`${packages}:${PACKAGE_SOURCE}`],
      log: path.join(at, 'console.log'),
    });
    writeHost(state, host);
    await faultsAgain(state, host);
  }
  if (!host.cut) await hasBooted(state, host);
}

/** A new boot has a new network card: it gets the faults of the old one. */
async function faultsAgain(state: LabState, host: HostState): Promise<void> {
  if (!host.cut && host.rate === undefined) return;
  const ready = () =>
    leaderOf(hostGroupOf(state.index, host)) !== undefined && existsSync(`/sys/class/net/${cardOf(host)}`);
  await until('its network card', 30_000, ready, state, host);
  await applyFaults(state, host);
}

async function until(
  what: string,
  patience: number,
  test: () => boolean | Promise<boolean>,
  state: LabState,
  host: HostState,
): Promise<void> {
  const end = Date.now() + patience;
  while (!(await test())) {
    if (Date.now() > end) {
      const log = path.join(hostDirectory(state, host), 'console.log');
      const tail = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n').slice(-15).join('\n') : '';
      throw new Error(
        `the lab's host ${host.name} did not get to ${what} within ${patience / 1000} s. The end of ${log}:\n${tail}`,
      );
    }
    await sleep(25);
  }
}

async function hasBooted(state: LabState, host: HostState): Promise<void> {
  await until('its sshd', 60_000, () => greets(host.address), state, host);
  // While a host boots, its sshd answers and refuses everyone but root.
  await until('a login', 60_000, async () => (await ssh(state, host, ['true'])).exitCode === 0, state, host);
  // And it takes logins before its services answer.
  await captured(...split(execArguments(state, host, ['timeout', '60', 'systemctl', 'is-system-running', '--wait'])));
}

/** True when an SSH server answers there. */
function greets(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: address, port: 22, timeout: 500 });
    const answer = (value: boolean) => {
      socket.destroy();
      resolve(value);
    };
    socket.once('data', (data) => answer(data.toString('latin1').startsWith('SSH-')));
    socket.once('error', () => answer(false));
    socket.once('timeout', () => answer(false));
    socket.once('close', () => answer(false));
  });
}

/** Arguments of `ssh` that reach the host with the lab's key, and no other settings of this machine. */
export function sshArguments(state: LabState, host: HostState): string[] {
  return [
    ...[
      '-F',
      'none',
      '-i',
      identityFile(state),
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      'BatchMode=yes',
      '-o',
      'ConnectTimeout=10',
      '-o',
      'LogLevel=ERROR',
    ],
    ...[
      '-o',
      `UserKnownHostsFile=${path.join(directoryOf(state.name), 'known_hosts')}`,
      '-o',
      'GlobalKnownHostsFile=/dev/null',
    ],
    ...['-o', 'StrictHostKeyChecking=yes', `guardia@${host.address}`],
  ];
}

/** One argument for a POSIX shell. */
const quoted = (argument: string): string => `'${argument.replaceAll("'", `'\\''`)}'`;

function ssh(state: LabState, host: HostState, argv: readonly string[], stdin?: string | Buffer): Promise<Output> {
  return captured('ssh', [...sshArguments(state, host), argv.map(quoted).join(' ')], stdin);
}

async function captured(program: string, argv: string[], stdin?: string | Buffer): Promise<Output> {
  const result = await execa(program, argv, {
    reject: false,
    stripFinalNewline: false,
    ...(stdin === undefined ? { stdin: 'ignore' as const } : { input: stdin }),
  });
  return { exitCode: result.exitCode ?? 255, stdout: result.stdout, stderr: result.stderr };
}

/** The command line that runs a program as root inside the host, past its network. */
export function execArguments(state: LabState, host: HostState, argv: readonly string[]): [string, ...string[]] {
  const leader = leaderOf(hostGroupOf(state.index, host));
  if (leader === undefined)
    throw new ToolboxError(
      `the host ${host.name} of the lab ${state.name} is off. Boot it with: npm run lab -- poweron ${host.name}`,
    );
  const environment = [
    'env',
    '-i',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'HOME=/root',
    'LANG=C.UTF-8',
    'TERM=xterm',
  ];
  return ['nsenter', '--target', String(leader), '--all', ...environment, ...argv];
}

async function powerOff(state: LabState, host: HostState): Promise<void> {
  await killControlGroup(hostGroupOf(state.index, host));
  forgetMachine(host.machine, path.join(hostDirectory(state, host), 'root'));
  delete host.supervisor;
  writeHost(state, host);
}

/** An orderly shutdown; pulls the plug when the host does not end. */
async function shutDown(state: LabState, host: HostState): Promise<void> {
  if (host.supervisor !== undefined && isRunning(host.supervisor)) {
    await captured(...split(execArguments(state, host, ['systemctl', 'poweroff', '--no-block'])));
    const patience = Date.now() + 60_000;
    while (isRunning(host.supervisor) && Date.now() < patience) await sleep(50);
  }
  await powerOff(state, host);
}

const split = ([program, ...argv]: [string, ...string[]]): [string, string[]] => [program, argv];

async function rebootHost(state: LabState, host: HostState): Promise<void> {
  const group = hostGroupOf(state.index, host);
  const before = leaderOf(group);
  await captured(...split(execArguments(state, host, ['systemctl', 'reboot', '--no-block'])));
  await until('its next boot', 120_000, () => ![undefined, before].includes(leaderOf(group)), state, host);
  await faultsAgain(state, host);
  if (!host.cut) await hasBooted(state, host);
}

/** What a snapshot holds, below the lab's directory. */
const saved = (state: LabState): string[] => [
  's3',
  ...state.hosts.flatMap((host) => ['upper', 'docker', 'containerd'].map((name) => `hosts/${host.name}/${name}`)),
];

async function whileStopped(state: LabState, work: () => Promise<void>): Promise<void> {
  await every(state.hosts.map((host) => shutDown(state, host)));
  for (const [name, recorded] of Object.entries(state.services)) {
    await end(recorded);
    delete state.services[name];
  }
  await unmountBelow(directoryOf(state.name));
  await work();
  await startServices(state);
  const { packages } = await ensureBaseTree();
  await every(state.hosts.map((host) => startHost(state, host, packages)));
}

async function snapshot(state: LabState, name: string): Promise<void> {
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

async function restore(state: LabState, name: string): Promise<void> {
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
    environment: { GUARDIA_OVERLAY: overlayDirectory(initial), GUARDIA_SECRETS: secretsDirectory(initial) },
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
    poweron: async (host) => {
      const { packages } = await ensureBaseTree();
      await on(host, (now, one) => startHost(now, one, packages));
    },
    reboot: (host) => on(host, rebootHost),
    snapshot: (as) => snapshot(state(), as),
    restore: (from) => restore(state(), from),
    down: async () => {
      const current = readState(name);
      if (current !== undefined && current.createdAt === initial.createdAt) await removeLab(current);
    },
  };
}
