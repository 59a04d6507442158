// The container images that the systems name, made without a registry: programs of Debian's packages and of the toolbox over the
// libraries that they need, in the archive format of `docker load`.
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { cacheDirectory, ensureTool, tools } from '../packaging/toolbox.js';
import { builtOnce } from '../packaging/toolbox-cache.js';
import type { BaseTree } from './base-tree.js';
import { command } from './command.js';
import { moveDocker } from './docker-directory.js';
import type { Lab, LabRequest } from './lab-interface.js';

const grafana = fileURLToPath(new URL('./fixtures/images/grafana', import.meta.url));

/** Another one when what this file does changes. */
const RECIPE = 2;

/** What the image is made of and how it starts; paths below the image's root. */
interface Image {
  /** Its name, and the tag beside `latest`: of the program inside, or of the version that it stands for. */
  name: string;
  tag: string;
  from: { debian: string; program: string } | { tool: 'openbao' } | { script: string };
  entrypoint: string[];
  command?: string[];
  /** User and group that it runs as; `directory` is theirs. */
  user: number;
  directory: string;
  ports: number[];
}

const NOBODY = 65534;

/** By the names of the manuals. A new image needs its line here, and its package in base-tree.ts. */
export const images: readonly Image[] = [
  {
    name: 'prom/prometheus',
    tag: 'v2.42.0',
    from: { debian: 'prometheus', program: 'prometheus' },
    entrypoint: ['/bin/prometheus'],
    command: ['--config.file=/etc/prometheus/prometheus.yml', '--storage.tsdb.path=/prometheus'],
    user: NOBODY,
    directory: '/prometheus',
    ports: [9090],
  },
  {
    name: 'prom/alertmanager',
    tag: 'v0.25.0',
    from: { debian: 'prometheus-alertmanager', program: 'alertmanager' },
    entrypoint: ['/bin/alertmanager'],
    command: ['--config.file=/etc/alertmanager/alertmanager.yml', '--storage.path=/alertmanager'],
    user: NOBODY,
    directory: '/alertmanager',
    ports: [9093],
  },
  {
    name: 'prom/node-exporter',
    tag: 'v1.5.0',
    from: { debian: 'prometheus-node-exporter', program: 'node_exporter' },
    entrypoint: ['/bin/node_exporter'],
    user: NOBODY,
    directory: '/home',
    ports: [9100],
  },
  {
    name: 'prometheuscommunity/postgres-exporter',
    tag: 'v0.11.1',
    from: { debian: 'prometheus-postgres-exporter', program: 'postgres_exporter' },
    entrypoint: ['/bin/postgres_exporter'],
    user: NOBODY,
    directory: '/home',
    ports: [9187],
  },
  {
    name: 'grafana/grafana',
    tag: '11.6.0',
    from: { script: path.join(grafana, 'server.js') },
    entrypoint: ['/bin/node', '/usr/share/server.js'],
    user: 472,
    directory: '/var/lib/grafana',
    ports: [3000],
  },
  {
    name: 'openbao/openbao',
    tag: '2.2.0',
    from: { tool: 'openbao' },
    entrypoint: ['/bin/bao'],
    command: ['server'],
    user: 0,
    directory: '/vault',
    ports: [8200],
  },
];

export interface LoadedImages {
  /** All of them in one archive, for `docker load`. */
  archive: string;
  /** A host's /var/lib/docker and /var/lib/containerd with all of them, below `docker` and `containerd`. */
  directory: string;
}

/**
 * The images, as an archive and as a Docker that has loaded them; made when the cache has none of this recipe.
 * @param start starts the lab whose host loads them
 */
export async function ensureImages(
  base: BaseTree,
  start: (request: LabRequest) => Promise<Lab>,
): Promise<LoadedImages> {
  const hash = createHash('sha256')
    .update(base.digest)
    .update(
      JSON.stringify([
        RECIPE,
        images.map(({ from, ...image }) => [image, 'script' in from ? '' : from]),
        tools.openbao,
      ]),
    );
  hash.update(readFileSync(path.join(grafana, 'server.js')));
  const directory = await builtOnce(
    path.join(cacheDirectory(), 'lab', `images-${hash.digest('hex').slice(0, 12)}`),
    'making the container images (about 30 s the first time)',
    async (temporary) => {
      mkdirSync(temporary, { recursive: true });
      await makeArchive(base, temporary);
      const lab = await start({ hosts: [{ name: 'images', enable: ['docker.service'] }], systems: [], owner: true });
      try {
        // Not by standard input: the archive is larger than what a string holds.
        const shared = path.join(lab.directory, 'hosts/images/docker/images.tar');
        cpSync(path.join(temporary, 'images.tar'), shared);
        const loaded = await lab.exec('images', ['docker', 'load', '--quiet', '--input', '/var/lib/docker/images.tar']);
        if (loaded.exitCode !== 0) throw new Error(`docker load failed: ${loaded.stderr}`);
        rmSync(shared);
        await lab.exec('images', ['systemctl', 'stop', 'docker.service', 'docker.socket', 'containerd.service']);
        await lab.poweroff('images');
        for (const name of ['docker', 'containerd'])
          await moveDocker(path.join(lab.directory, 'hosts/images', name), path.join(temporary, name));
      } finally {
        await lab.down();
      }
    },
    async (temporary) => rmSync(temporary, { recursive: true, force: true }),
  );
  return { archive: path.join(directory, 'images.tar'), directory };
}

async function makeArchive(base: BaseTree, directory: string): Promise<void> {
  const content = path.join(directory, 'content');
  const roots = path.join(directory, 'roots');
  mkdirSync(content, { recursive: true });
  const libraries = await layer(await libraryRoot(base, path.join(roots, 'libraries')), content);
  const manifest = [];
  for (const image of images) {
    const own = await layer(await programRoot(base, image, path.join(roots, image.name)), content);
    const config = JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      created: '2026-10-01T12:00:00Z',
      config: {
        User: image.user === 0 ? '' : `${image.user}`,
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Entrypoint: image.entrypoint,
        Cmd: image.command ?? [],
        WorkingDir: image.directory,
        ExposedPorts: Object.fromEntries(image.ports.map((port) => [`${port}/tcp`, {}])),
        Labels: { 'guardia.lab': 'made by the lab, not by the publisher of this name' },
      },
      rootfs: { type: 'layers', diff_ids: [libraries, own].map((digest) => `sha256:${digest}`) },
      history: [{ created_by: 'libraries' }, { created_by: image.name }],
    });
    const name = `${createHash('sha256').update(config).digest('hex')}.json`;
    writeFileSync(path.join(content, name), config);
    manifest.push({
      Config: name,
      RepoTags: [`${image.name}:${image.tag}`, `${image.name}:latest`],
      Layers: [libraries, own].map((digest) => `${digest}.tar`),
    });
  }
  writeFileSync(path.join(content, 'manifest.json'), JSON.stringify(manifest));
  await command(['tar', '-C', content, '-cf', path.join(directory, 'images.tar'), '.']);
  rmSync(content, { recursive: true });
  rmSync(roots, { recursive: true });
}

/** Packs a root into the directory as DIGEST.tar and returns the digest. */
async function layer(root: string, directory: string): Promise<string> {
  const file = path.join(directory, 'layer.tar');
  await command(['tar', '--sort=name', '--mtime=@0', '--numeric-owner', '-C', root, '-cf', file, '.']);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const digest = hash.digest('hex');
  renameSync(file, path.join(directory, `${digest}.tar`));
  return digest;
}

/** What a dynamically linked program needs, its loader below /lib64 among it: without it every program "does not exist". */
async function libraryRoot(base: BaseTree, root: string): Promise<string> {
  for (const name of ['usr/bin', 'usr/lib', 'etc/ssl/certs', 'tmp'])
    mkdirSync(path.join(root, name), { recursive: true });
  chmodSync(path.join(root, 'tmp'), 0o1777);
  for (const name of ['bin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, path.join(root, name));
  const usr = path.join(base.bare, 'usr');
  if (readdirSync(usr).includes('lib64')) await command(['cp', '-a', path.join(usr, 'lib64'), path.join(root, 'usr/')]);
  for (const triplet of readdirSync(path.join(usr, 'lib')).filter((name) => name.endsWith('-linux-gnu'))) {
    const to = path.join(root, 'usr/lib', triplet);
    mkdirSync(to);
    const wanted = /^(ld-linux|lib(c|m|dl|pthread|rt|resolv|nss_files|nss_dns|gcc_s|stdc\+\+)[.-])/;
    for (const file of readdirSync(path.join(usr, 'lib', triplet)).filter((name) => wanted.test(name)))
      await command(['cp', '-a', path.join(usr, 'lib', triplet, file), to]);
  }
  cpSync(
    path.join(base.bare, 'etc/ssl/certs/ca-certificates.crt'),
    path.join(root, 'etc/ssl/certs/ca-certificates.crt'),
  );
  writeFileSync(path.join(root, 'etc/passwd'), `root:x:0:0::/:\nnobody:x:${NOBODY}:${NOBODY}::/:\n`);
  writeFileSync(path.join(root, 'etc/group'), `root:x:0:\nnogroup:x:${NOBODY}:\n`);
  writeFileSync(path.join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n');
  return root;
}

async function programRoot(base: BaseTree, image: Image, root: string): Promise<string> {
  const bin = path.join(root, 'usr/bin');
  mkdirSync(bin, { recursive: true });
  symlinkSync('usr/bin', path.join(root, 'bin'));
  if ('debian' in image.from) {
    const unpacked = await unpack(base, image.from.debian, root);
    cpSync(path.join(unpacked, 'usr/bin', image.from.debian), path.join(bin, image.from.program));
    // Templates and pages that Debian's build reads from there.
    const shared = path.join(unpacked, 'usr/share/prometheus');
    if (existsSync(shared)) cpSync(shared, path.join(root, 'usr/share/prometheus'), { recursive: true });
    rmSync(unpacked, { recursive: true });
  } else if ('tool' in image.from) {
    cpSync(await ensureTool(image.from.tool), path.join(bin, 'bao'));
  } else {
    const unpacked = await unpack(base, 'nodejs', root);
    cpSync(path.join(unpacked, 'usr/bin/node'), path.join(bin, 'node'));
    rmSync(unpacked, { recursive: true });
    mkdirSync(path.join(root, 'usr/share'));
    cpSync(image.from.script, path.join(root, 'usr/share', path.basename(image.from.script)));
    writeFileSync(path.join(root, 'usr/share/package.json'), '{ "type": "module" }\n');
  }
  mkdirSync(path.join(root, image.directory), { recursive: true });
  chownSync(path.join(root, image.directory), image.user, image.user);
  return root;
}

/** Unpacks a package of the lab's source beside the root. */
async function unpack(base: BaseTree, name: string, root: string): Promise<string> {
  const file = readdirSync(base.packages).find((one) => one.startsWith(`${name}_`));
  if (file === undefined) throw new Error(`the package source has no ${name}`);
  await command(['dpkg-deb', '-x', path.join(base.packages, file), `${root}.deb`]);
  return `${root}.deb`;
}
