import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory, ToolboxError } from '../packaging/toolbox.js';
import { builtOnce, ifUnlocked } from '../packaging/toolbox-cache.js';
import { command } from './command.js';
import { killControlGroup } from './control-group.js';
import { runInTree } from './machine.js';
import { unmountBelow } from './mounts.js';
import { makeOwnPackages, ownPackagesRecipe } from './own-packages.js';

const here = path.dirname(fileURLToPath(import.meta.url));

const SUITE = 'bookworm';

/** What debootstrap installs: enough to boot and to log in. */
const BOOTSTRAP = [
  'systemd',
  'systemd-sysv',
  'dbus',
  'libpam-systemd',
  'openssh-server',
  'sudo',
  'iproute2',
  'ca-certificates',
  'procps',
  'curl',
];

/** On every host, also on a bare one. */
const STANDARD = ['iputils-ping', 'iptables', 'cron', 'logrotate', 'less', 'psmisc', 'netbase'];

/** On every host but a bare one. Their services do not start unless a fixture or a test enables them. */
const INSTALLED = [
  ...['postgresql-15', 'nginx', 'redis-server', 'docker.io'],
  ...['zstd', 'age', 'openssl', 'restic', 'jq'],
];

/** In the hosts' own package source, for runbooks that install them. */
const OFFERED = [
  ...['certbot', 'python3-certbot-nginx', 'libnginx-mod-http-modsecurity', 'modsecurity-crs', 'haproxy'],
  ...['ufw', 'fail2ban', 'python3-systemd', 'auditd', 'unattended-upgrades'],
  ...['git', 'rsync', 'socat', 'lsof', 'awscli', 'docker-compose', 'postgresql-client'],
  ...['prometheus', 'prometheus-alertmanager', 'prometheus-node-exporter', 'prometheus-postgres-exporter'],
];

export interface BaseTree {
  /** Root directory of the tree: the lowest layer of every host that is not bare. */
  tree: string;
  /** The same before anything that a runbook would install: the lowest layer of a bare host. */
  bare: string;
  /** A Debian package source, bound read-only into every host at PACKAGE_SOURCE. */
  packages: string;
  /** Digest of the recipe. */
  digest: string;
}

/** Where a host sees its package source. */
export const PACKAGE_SOURCE = '/var/lib/lab-packages';

/** The tree that every host starts from, and its package source; built when the cache has none of this recipe. */
export async function ensureBaseTree(): Promise<BaseTree> {
  const recipe = JSON.stringify([SUITE, process.arch, BOOTSTRAP, STANDARD, INSTALLED, OFFERED, ownPackagesRecipe]);
  const hash = createHash('sha256').update(recipe);
  hash.update(readFileSync(path.join(here, 'base-tree.sh')));
  const digest = hash.digest('hex').slice(0, 12);
  const name = `base-${digest}`;
  const at = await builtOnce(
    path.join(cacheDirectory(), 'lab', name),
    'building the Debian tree of the lab hosts (about 3 to 6 minutes the first time)',
    (temporary) => build(temporary),
    discardBuild,
  );
  return { tree: path.join(at, 'tree'), bare: path.join(at, 'bare'), packages: path.join(at, 'packages'), digest };
}

/** Control group of what runs while a tree is built. */
export const buildGroup = (directory: string): string => `build-${path.basename(directory, '.building')}`;

/** Removes what a killed build has left: its processes, mounts and files. Idempotent. */
export async function discardBuild(directory: string): Promise<void> {
  await killControlGroup(buildGroup(directory));
  await unmountBelow(directory);
  rmSync(directory, { recursive: true, force: true });
}

/** Discards every build that nobody is at any more. */
export async function discardAbandonedBuilds(): Promise<void> {
  for (const at of cachedTrees().filter((one) => one.endsWith('.building'))) {
    await ifUnlocked(at.replace(/building$/, 'lock'), () => discardBuild(at));
  }
}

/** Removes the cached trees and layers that none of these paths lies in; they are built again when they are needed. */
export function removeUnusedTrees(used: readonly string[]): string[] {
  const unused = cachedTrees().filter(
    (at) => !at.endsWith('.building') && !used.some((one) => one === at || one.startsWith(`${at}/`)),
  );
  for (const at of unused) rmSync(at, { recursive: true, force: true });
  return unused;
}

function cachedTrees(): string[] {
  const at = path.join(cacheDirectory(), 'lab');
  if (!existsSync(at)) return [];
  return readdirSync(at, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [path.join(at, entry.name)] : [],
  );
}

async function build(directory: string): Promise<void> {
  const tree = path.join(directory, 'tree');
  const bare = path.join(directory, 'bare');
  const packages = path.join(directory, 'packages');
  mkdirSync(packages, { recursive: true });
  await makeOwnPackages(packages, path.join(directory, 'own'));
  rmSync(path.join(directory, 'own'), { recursive: true });

  const source = await machinePackageSource();
  await command(['debootstrap', '--variant=minbase', `--include=${BOOTSTRAP.join(',')}`, SUITE, tree, source.mirror]);
  rmSync(path.join(tree, 'etc/apt/sources.list'), { force: true });
  writeFileSync(
    path.join(tree, 'etc/apt/sources.list.d/machine.list'),
    source.lines.map((line) => `${line}\n`).join(''),
  );
  copyProxy(tree);
  const inTree = (root: string, network: 'machine' | 'none', binds: string[], ...argv: string[]) =>
    runInTree({
      group: buildGroup(directory),
      root,
      network,
      binds,
      readOnlyBinds: [`${path.join(here, 'base-tree.sh')}:/run/base-tree.sh`],
      argv: ['/bin/sh', '/run/base-tree.sh', ...argv],
    });
  const install = (...argv: string[]) => inTree(tree, 'machine', [`${packages}:/packages`], ...argv);
  await install('bare', STANDARD.join(' '));
  await command(['cp', '--archive', '--reflink=auto', tree, bare]);
  await install('full', INSTALLED.join(' '), OFFERED.join(' '));

  const index = await execa('apt-ftparchive', ['packages', '.'], { cwd: packages, stripFinalNewline: false });
  writeFileSync(path.join(packages, 'Packages'), index.stdout);
  for (const root of [tree, bare]) {
    for (const file of ['sources.list.d/machine.list', 'apt.conf.d/20machine'])
      rmSync(path.join(root, 'etc/apt', file), { force: true });
    rmSync(path.join(root, 'var/lib/apt/lists'), { recursive: true, force: true });
    writeFileSync(path.join(root, 'etc/apt/sources.list.d/lab.list'), `deb [trusted=yes] file:${PACKAGE_SOURCE} ./\n`);
    await inTree(root, 'none', [`${packages}:${PACKAGE_SOURCE}`], 'finish');
    rmSync(path.join(root, 'etc/resolv.conf'), { force: true });
  }
  await command(['sync', '-f', tree]);
}

/** The mirror and the lines that this machine installs its own Debian packages from. */
async function machinePackageSource(): Promise<{ mirror: string; lines: string[] }> {
  const format = '$(REPO_URI)|$(CODENAME)|$(SUITE)|$(COMPONENT)|$(ORIGIN)';
  const list = async () => {
    const targets = await command(['apt-get', 'indextargets', '--format', format, 'Created-By: Packages']);
    return targets
      .split('\n')
      .map((line) => line.split('|'))
      .filter(([, codename, , , origin]) => origin === 'Debian' && codename?.split('-')[0] === SUITE);
  };
  let rows = await list();
  if (rows.length === 0) {
    await command(['apt-get', '-q', 'update']);
    rows = await list();
  }
  const mirror = rows.find(([, codename, , component]) => codename === SUITE && component === 'main')?.[0];
  if (mirror === undefined) {
    throw new ToolboxError(
      `the lab hosts are Debian 12 (${SUITE}), and apt on this machine knows no source of it. Add one below /etc/apt/sources.list.d.`,
    );
  }
  return {
    mirror,
    lines: [...new Set(rows.map(([uri, codename, , component]) => `deb ${uri} ${codename} ${component}`))],
  };
}

/** The machine's way to its package source, where it goes through a proxy. */
function copyProxy(tree: string): void {
  const directory = '/etc/apt/apt.conf.d';
  const lines = readdirSync(directory)
    .flatMap((file) => readFileSync(path.join(directory, file), 'utf8').split('\n'))
    .filter((line) => /^\s*Acquire::(https?|ftp)::proxy\b/i.test(line));
  if (existsSync('/etc/apt/apt.conf')) lines.push(readFileSync('/etc/apt/apt.conf', 'utf8'));
  writeFileSync(path.join(tree, 'etc/apt/apt.conf.d/20machine'), lines.map((line) => `${line}\n`).join(''));
}
