import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory } from '../packaging/toolbox.js';
import { builtOnce } from '../packaging/toolbox-cache.js';
import { command } from './command.js';
import { unpackPackage } from './npm-package.js';
import { npm } from './own-packages.js';

const source = fileURLToPath(new URL('./fixtures/proofpass/application', import.meta.url));

/** A version of the application: what `application/versions/TAG` holds, laid over the version it comes from. */
interface Version {
  tag: string;
  from?: string;
  /** The commit's message. */
  message: string;
}

/** In the order in which they are committed. The first is `application/base`. */
export const proofpassVersions: readonly Version[] = [
  { tag: 'v1', message: 'Credentials, uploads, sessions' },
  { tag: 'v2', from: 'v1', message: 'Attestations have a code to verify them by' },
  { tag: 'v3-bad-health', from: 'v2', message: 'Reads a column that no migration makes' },
  { tag: 'v3-bad-migration', from: 'v2', message: 'A migration that fails inside its transaction' },
  { tag: 'v3-broken-build', from: 'v2', message: 'Does not compile' },
  { tag: 'v4-irreversible', from: 'v2', message: 'Drops a column, with no way back' },
  { tag: 'v4-irreversible-bad-health', from: 'v4-irreversible', message: 'Reads a column that no migration makes' },
];

/** Name of the repository below the served directory. */
export const PROOFPASS_REPOSITORY = 'proofpass-platform.git';

export interface Application {
  /** Directory of bare repositories, as a git server serves it. */
  repositories: string;
  /** npm's cache with every package of the application's lock file. */
  npmCache: string;
}

/** ProofPass's repository, the same commits at every place, and the npm packages that it is built with; made when the cache has none of this recipe. */
export async function ensureApplication(): Promise<Application> {
  const hash = createHash('sha256').update(JSON.stringify([proofpassVersions, npm]));
  for (const file of filesBelow(source)) hash.update(`${path.relative(source, file)}\0`).update(readFileSync(file));
  const at = await builtOnce(
    path.join(cacheDirectory(), 'lab', `application-${hash.digest('hex').slice(0, 12)}`),
    "making ProofPass's repository and its npm cache",
    build,
    async (temporary) => rmSync(temporary, { recursive: true, force: true }),
  );
  return { repositories: path.join(at, 'repositories'), npmCache: path.join(at, 'npm') };
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

async function build(directory: string): Promise<void> {
  const work = path.join(directory, 'work');
  mkdirSync(work, { recursive: true });
  for (const [i, version] of proofpassVersions.entries()) {
    if (version.from === undefined) await git(work, i, 'init', '-q', '-b', 'main');
    else await git(work, i, 'checkout', '-q', version.from);
    const from = version.from === undefined ? 'base' : path.join('versions', version.tag);
    cpSync(path.join(source, from), work, { recursive: true });
    await git(work, i, 'add', '--all');
    await git(work, i, 'commit', '-q', '-m', version.message);
    await git(work, i, 'tag', version.tag);
  }
  await git(work, 0, 'checkout', '-q', '-B', 'main', 'v2');
  const repository = path.join(directory, 'repositories', PROOFPASS_REPOSITORY);
  await git(directory, 0, 'clone', '-q', '--bare', '--template=', work, repository);
  await git(repository, 0, 'config', 'uploadpack.allowAnySHA1InWant', 'true');

  await git(work, 0, 'checkout', '-q', 'v1');
  // With the npm of the hosts: another one would ask its cache for other things.
  const program = path.join(directory, 'program');
  await unpackPackage(npm, program);
  const cache = path.join(directory, 'npm');
  const settings = ['--silent', '--no-audit', '--ignore-scripts', '--prefix', work, '--cache', cache];
  await command([process.execPath, path.join(program, 'bin/npm-cli.js'), 'ci', ...settings]);
  for (const one of [program, path.join(cache, '_logs')]) rmSync(one, { recursive: true, force: true });
  await command(['chmod', '-R', 'a+rX', directory]);
  rmSync(work, { recursive: true });
}

/** Runs git without the settings of this machine, at a fixed time: the `i`th day of the application. */
async function git(cwd: string, i: number, ...argv: string[]): Promise<void> {
  const date = new Date(Date.UTC(2026, 9, 1 + i, 12)).toISOString();
  await execa('git', argv, {
    cwd,
    env: {
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_AUTHOR_NAME: 'ProofPass',
      GIT_AUTHOR_EMAIL: 'dev@proofpass.test',
      GIT_AUTHOR_DATE: date,
      GIT_COMMITTER_NAME: 'ProofPass',
      GIT_COMMITTER_EMAIL: 'dev@proofpass.test',
      GIT_COMMITTER_DATE: date,
    },
  });
}
