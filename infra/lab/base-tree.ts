import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory, ensureTool, tools, ToolboxError } from '../packaging/toolbox.js';
import { builtOnce, ifUnlocked } from '../packaging/toolbox-cache.js';
import { command } from './command.js';
import { killControlGroup } from './control-group.js';
import { runInTree } from './machine.js';
import { unmountBelow } from './mounts.js';

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

/** On every host. Their services do not start unless a fixture or a test enables them. */
const INSTALLED = [
  ...['iputils-ping', 'iptables', 'cron', 'logrotate', 'less', 'psmisc', 'netbase'],
  ...['postgresql-15', 'nginx', 'redis-server', 'docker.io'],
  ...['zstd', 'age', 'openssl', 'restic', 'jq'],
];

/** In the hosts' own package source, for runbooks that install them. */
const OFFERED = [
  'certbot',
  'python3-certbot-nginx',
  'ufw',
  'fail2ban',
  'auditd',
  'git',
  'haproxy',
  'awscli',
  'docker-compose',
  'rsync',
  'unattended-upgrades',
];

export interface BaseTree {
  /** Root directory of the tree: the lowest layer of every host. */
  tree: string;
  /** A Debian package source, bound read-only into every host at PACKAGE_SOURCE. */
  packages: string;
  /** Digest of the recipe. */
  digest: string;
}

/** Where a host sees its package source. */
export const PACKAGE_SOURCE = '/var/lib/lab-packages';

/** The tree that every host starts from, and its package source; built when the cache has none of this recipe. */
export async function ensureBaseTree(): Promise<BaseTree> {
  const recipe = JSON.stringify([SUITE, process.arch, BOOTSTRAP, INSTALLED, OFFERED, tools['docker-compose'].version]);
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
  return { tree: path.join(at, 'tree'), packages: path.join(at, 'packages'), digest };
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
  const group = buildGroup(directory);
  const compose = await ensureTool('docker-compose');
  const tree = path.join(directory, 'tree');
  const packages = path.join(directory, 'packages');
  mkdirSync(packages, { recursive: true });
  await composePackage(compose, packages, path.join(directory, 'compose'));

  const source = await machinePackageSource();
  await command(['debootstrap', '--variant=minbase', `--include=${BOOTSTRAP.join(',')}`, SUITE, tree, source.mirror]);
  rmSync(path.join(tree, 'etc/apt/sources.list'), { force: true });
  writeFileSync(
    path.join(tree, 'etc/apt/sources.list.d/machine.list'),
    source.lines.map((line) => `${line}\n`).join(''),
  );
  copyProxy(tree);
  await runInTree({
    group,
    root: tree,
    network: 'machine',
    binds: [`${packages}:/packages`],
    readOnlyBinds: [`${path.join(here, 'base-tree.sh')}:/run/base-tree.sh`],
    argv: ['/bin/sh', '/run/base-tree.sh', INSTALLED.join(' '), OFFERED.join(' ')],
  });

  const index = await execa('apt-ftparchive', ['packages', '.'], { cwd: packages, stripFinalNewline: false });
  writeFileSync(path.join(packages, 'Packages'), index.stdout);
  rmSync(path.join(tree, 'etc/apt/sources.list.d/machine.list'));
  rmSync(path.join(tree, 'var/lib/apt/lists'), { recursive: true, force: true });
  writeFileSync(path.join(tree, 'etc/apt/sources.list.d/lab.list'), `deb [trusted=yes] file:${PACKAGE_SOURCE} ./\n`);
  await runInTree({
    group,
    root: tree,
    network: 'none',
    readOnlyBinds: [`${packages}:${PACKAGE_SOURCE}`],
    argv: ['apt-get', '-q', 'update'],
  });
  rmSync(path.join(tree, 'etc/resolv.conf'), { force: true });
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

/** Our compose v2 as a Debian package, so that hosts get it as they get everything else. */
async function composePackage(executable: string, packages: string, work: string): Promise<void> {
  const plugin = path.join(work, 'usr/libexec/docker/cli-plugins/docker-compose');
  mkdirSync(path.dirname(plugin), { recursive: true });
  mkdirSync(path.join(work, 'DEBIAN'));
  cpSync(executable, plugin);
  chmodSync(plugin, 0o755);
  const architecture = (await command(['dpkg', '--print-architecture'])).trim();
  const control = [
    'Package: docker-compose-plugin',
    `Version: ${tools['docker-compose'].version}-1`,
    `Architecture: ${architecture}`,
    'Depends: docker.io',
    'Maintainer: guardia lab <lab@guardia.invalid>',
    'Section: admin',
    'Priority: optional',
    'Description: Docker Compose v2 as a plugin of the docker command',
    '',
  ];
  writeFileSync(path.join(work, 'DEBIAN/control'), control.join('\n'));
  const file = `docker-compose-plugin_${tools['docker-compose'].version}-1_${architecture}.deb`;
  await command(['dpkg-deb', '-Zgzip', '-z1', '--root-owner-group', '--build', work, path.join(packages, file)]);
  rmSync(work, { recursive: true });
}
