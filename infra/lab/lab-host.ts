// One host of a lab: its disk, its boots and ends.
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunning } from '../../activities/temporal/process-identity.js';
import { shown } from '../packaging/toolbox-cache.js';
import { ensureBaseTree, PACKAGE_SOURCE } from './base-tree.js';
import { entranceOf, installCertificates, namesOf, trustAuthority } from './certificate-authority.js';
import { command } from './command.js';
import { killControlGroup, populated } from './control-group.js';
import { copyDocker } from './docker-directory.js';
import { captured, execArguments, hostDirectory, split, ssh } from './host-access.js';
import { GIT_HOST } from './git-server.js';
import { identityFile } from './inventory-overlay.js';
import { giveAddresses, keptHost } from './kept-hosts.js';
import type { HostSpec } from './lab-interface.js';
import { directoryOf, hostGroupOf, writeHost, type HostState, type LabState } from './lab-state.js';
import { boot, forgetMachine, leaderOf } from './machine.js';
import { mountOverlay } from './mounts.js';
import { unsealOpenbao } from './openbao.js';
import { applyFaults, bridgeOf, cardOf, gatewayOf, removeCard } from './network.js';
import { ensureApplication } from './proofpass-application.js';

/** A host's npm cache, with what ProofPass is built with. Each host has its own: npm also writes when it only reads. */
const NPM_CACHE = '/var/cache/npm';

/** Settings of npm for the whole host: it has no other registry. */
const npmSettings = ['offline=true', 'update-notifier=false', 'fund=false', 'audit=false', 'logs-max=0'];

/**
 * Makes the host's disk: its name, keys and network over the layers.
 * @param docker directory with the `docker` and `containerd` that it starts with
 */
export async function prepareHost(state: LabState, host: HostState, spec: HostSpec, docker?: string): Promise<void> {
  const at = hostDirectory(state, host);
  for (const name of ['', 'upper', 'work', 'root', 'docker', 'containerd'])
    mkdirSync(path.join(at, name), { recursive: true });
  if (docker !== undefined)
    for (const name of ['docker', 'containerd']) await copyDocker(path.join(docker, name), path.join(at, name));
  chmodSync(path.join(at, 'upper'), 0o755);
  // PostgreSQL opens its files for writing, which makes overlayfs copy each one whole at first touch: better now than in mid-run.
  // Not where a layer lies over that of the data: it holds what has changed in them since.
  for (const layer of spec.fixture?.running === true ? [] : host.layers.slice(0, -1)) {
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
  const names = [
    ...namesOf(state).map((name) => `${entranceOf(state)?.address} ${name}\n`),
    `${gatewayOf(state.index)} ${GIT_HOST}\n`,
  ];
  write('etc/hosts', `127.0.0.1 localhost\n::1 localhost\n${others}${names.join('')}`);
  if (state.systems.includes('proofpass')) {
    await command(['cp', '-rT', (await ensureApplication()).npmCache, path.join(root, NPM_CACHE)]);
    await command(['chmod', '-R', 'a+rwX', path.join(root, NPM_CACHE)]);
    write('etc/npmrc', [`cache=${NPM_CACHE}`, ...npmSettings, ''].join('\n'));
  }
  trustAuthority(state, root);
  if (spec.kept !== undefined) await giveAddresses(state, root, keptHost(spec.kept, spec.name));
  if (spec.fixture?.running === true || existsSync(path.join(root, 'etc/haproxy/certs')))
    installCertificates(state, root);
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
  for (const file of [keyFile, `${keyFile}.pub`]) rmSync(file, { force: true });
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
export async function startHost(state: LabState, host: HostState): Promise<void> {
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
      readOnlyBinds: [`${(await ensureBaseTree()).packages}:${PACKAGE_SOURCE}`],
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
  await afterBoot(state, host);
}

/** What the lab does after each boot until a runbook does it, and what takes longer than the boot. */
async function afterBoot(state: LabState, host: HostState): Promise<void> {
  await unsealOpenbao(state, host);
  // An application that is broken, on purpose perhaps, is left to who looks.
  const healthy =
    'systemctl -q is-enabled proofpass-platform.service 2> /dev/null || exit 0; for i in $(seq 100); do curl -sf -o /dev/null http://127.0.0.1:3000/health && exit; sleep 0.1; done';
  await captured(...split(execArguments(state, host, ['bash', '-c', healthy])));
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

export async function rebootHost(state: LabState, host: HostState): Promise<void> {
  const group = hostGroupOf(state.index, host);
  const before = leaderOf(group);
  await captured(...split(execArguments(state, host, ['systemctl', 'reboot', '--no-block'])));
  await until('its next boot', 120_000, () => ![undefined, before].includes(leaderOf(group)), state, host);
  await faultsAgain(state, host);
  if (!host.cut) await hasBooted(state, host);
}
