// One host of a lab: its disk, its boots and ends, the ways into it.
import { execa } from 'execa';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunning } from '../../activities/temporal/process-identity.js';
import { ToolboxError } from '../packaging/toolbox.js';
import { shown } from '../packaging/toolbox-cache.js';
import { PACKAGE_SOURCE } from './base-tree.js';
import { command } from './command.js';
import { killControlGroup, populated } from './control-group.js';
import type { Fixture } from './fixture-layers.js';
import { identityFile } from './inventory-overlay.js';
import { directoryOf, hostGroupOf, writeHost, type HostState, type LabState } from './lab-state.js';
import { boot, forgetMachine, leaderOf } from './machine.js';
import { mountOverlay } from './mounts.js';
import { applyFaults, bridgeOf, cardOf, removeCard } from './network.js';

/** A host that a lab shall have. */
export interface HostSpec {
  /** As the inventory names it. */
  name: string;
  fixture?: Fixture;
  /** True: only what every Debian host has is on it; what a runbook needs, it installs from the host's package source. */
  bare?: boolean;
  /** Units that start with the host beside sshd, such as `docker.service`; a fixture enables its own. */
  enable?: string[];
}

/** What a command on a host printed, and how it ended. */
export interface Output {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export const hostDirectory = (state: LabState, host: HostState): string =>
  path.join(directoryOf(state.name), 'hosts', host.name);

/** Makes the host's disk: its name, keys and network over the layers. */
export async function prepareHost(state: LabState, host: HostState, spec: HostSpec): Promise<void> {
  const at = hostDirectory(state, host);
  for (const name of ['', 'upper', 'work', 'root', 'docker', 'containerd'])
    mkdirSync(path.join(at, name), { recursive: true });
  chmodSync(path.join(at, 'upper'), 0o755);
  // PostgreSQL opens its files for writing, which makes overlayfs copy each one whole at first touch: better now than in mid-run.
  for (const layer of host.layers.slice(0, -1)) {
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

export function writeKnownHosts(state: LabState): void {
  const lines = state.hosts.flatMap((host) => host.hostKeys.map((key) => `${host.address} ${key}\n`));
  writeFileSync(path.join(directoryOf(state.name), 'known_hosts'), lines.join(''));
}

/** Boots the host and waits until it takes logins and its services run; a host that is cut off is only booted. */
export async function startHost(state: LabState, host: HostState, packages: string): Promise<void> {
  const at = hostDirectory(state, host);
  const group = hostGroupOf(state.index, host);
  if (!populated(group)) {
    const root = await mountOverlay(at, host.layers);
    await removeCard(host);
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

export function ssh(
  state: LabState,
  host: HostState,
  argv: readonly string[],
  stdin?: string | Buffer,
): Promise<Output> {
  return captured('ssh', [...sshArguments(state, host), argv.map(quoted).join(' ')], stdin);
}

export async function captured(program: string, argv: string[], stdin?: string | Buffer): Promise<Output> {
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

export async function powerOff(state: LabState, host: HostState): Promise<void> {
  await killControlGroup(hostGroupOf(state.index, host));
  await removeCard(host);
  forgetMachine(host.machine, path.join(hostDirectory(state, host), 'root'));
  delete host.supervisor;
  writeHost(state, host);
}

/** An orderly shutdown; pulls the plug when the host does not end. */
export async function shutDown(state: LabState, host: HostState): Promise<void> {
  if (host.supervisor !== undefined && isRunning(host.supervisor)) {
    await captured(...split(execArguments(state, host, ['systemctl', 'poweroff', '--no-block'])));
    const patience = Date.now() + 60_000;
    while (isRunning(host.supervisor) && Date.now() < patience) await sleep(50);
  }
  await powerOff(state, host);
}

export const split = ([program, ...argv]: [string, ...string[]]): [string, string[]] => [program, argv];

export async function rebootHost(state: LabState, host: HostState): Promise<void> {
  const group = hostGroupOf(state.index, host);
  const before = leaderOf(group);
  await captured(...split(execArguments(state, host, ['systemctl', 'reboot', '--no-block'])));
  await until('its next boot', 120_000, () => ![undefined, before].includes(leaderOf(group)), state, host);
  await faultsAgain(state, host);
  if (!host.cut) await hasBooted(state, host);
}
