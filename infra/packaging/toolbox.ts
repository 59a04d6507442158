// The toolbox: servers and tools that guardia needs and Debian does not have, built once from pinned Go modules, and the Debian
// packages of this machine. `node .build/infra/packaging/toolbox.js TOOL...` prints the path of each tool.
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { builtOnce, cacheDirectory, say, shown, ToolboxError, withLock } from './toolbox-cache.js';
import { go, packages, tools, type GoTool, type PackageList, type ToolName } from './toolbox-tools.js';

export { cacheDirectory, ToolboxError } from './toolbox-cache.js';
export { tools, type PackageList, type ToolName } from './toolbox-tools.js';

const here = path.dirname(fileURLToPath(import.meta.url));
const architectures: Record<string, string> = { x64: 'amd64', arm64: 'arm64' };

/**
 * Path of the tool's executable; builds it when it is not in the cache yet. Idempotent by name, version, recipe and platform.
 * @throws ToolboxError when it cannot be built, with the remedy
 */
export async function ensureTool(name: ToolName): Promise<string> {
  const tool: GoTool = tools[name];
  const key = [name, tool.version, process.platform, process.arch, recipe(name, tool)].join('-');
  const directory = await builtOnce(
    path.join(cacheDirectory(), 'tools', key),
    `building ${name} ${tool.version} (about ${tool.about} the first time)`,
    (temporary) => build(name, tool, temporary),
    async (temporary) => rmSync(temporary, { recursive: true, force: true }),
  );
  return path.join(directory, name);
}

/**
 * Installs the Debian packages of a list that this machine lacks. Idempotent.
 * @throws ToolboxError when not root or when apt-get fails, naming the packages
 */
export async function ensurePackages(list: PackageList): Promise<void> {
  await install(packages[list], `guardia's ${list}`);
}

/**
 * Installs the PostgreSQL server without the cluster that Debian makes and starts with it. Idempotent.
 * @throws ToolboxError as ensurePackages
 */
export async function ensurePostgresServer(): Promise<void> {
  if ((await missingPackages(packages.postgresql)).length === 0) return;
  const settings = '/etc/postgresql-common/createcluster.d';
  if (process.getuid?.() === 0) {
    mkdirSync(settings, { recursive: true });
    writeFileSync(path.join(settings, 'guardia.conf'), 'create_main_cluster = false\n');
  }
  await ensurePackages('postgresql');
}

async function missingPackages(names: readonly string[]): Promise<string[]> {
  const query = await execa('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Package}\n', ...names], {
    reject: false,
  });
  if (query.failed && query.exitCode === undefined) {
    throw new ToolboxError(
      `this machine is not Debian (there is no dpkg-query). Needed from elsewhere: ${names.join(', ')}.`,
    );
  }
  const installed = new Set(
    query.stdout.split('\n').flatMap((line) => (line.startsWith('installed ') ? [line.slice(10)] : [])),
  );
  return names.filter((name) => !installed.has(name));
}

async function install(names: readonly string[], purpose: string): Promise<void> {
  if ((await missingPackages(names)).length === 0) return;
  if (process.getuid?.() !== 0) {
    const missing = (await missingPackages(names)).join(' ');
    throw new ToolboxError(
      `Debian packages for ${purpose} are missing: ${missing}\nRun this, then try again: sudo apt-get install -y --no-install-recommends ${missing}`,
    );
  }
  await withLock(path.join(os.tmpdir(), 'guardia-apt.lock'), async () => {
    const missing = await missingPackages(names);
    if (missing.length === 0) return;
    await shown(`installing Debian packages: ${missing.join(' ')}`, async () => {
      // A machine without package lists, or with lists of last month, fails the first time.
      let installed = await apt(['install', '--no-install-recommends', ...missing]);
      if (installed.failed) {
        await apt(['update']);
        installed = await apt(['install', '--no-install-recommends', ...missing]);
      }
      if (installed.failed || (await missingPackages(missing)).length > 0) {
        throw new ToolboxError(`apt-get could not install ${missing.join(' ')}:\n${tail(installed)}`);
      }
    });
  });
}

async function apt(argv: string[]): Promise<Finished> {
  return await execa('apt-get', ['-y', '-q', '-o', 'DPkg::Lock::Timeout=600', ...argv], {
    env: { DEBIAN_FRONTEND: 'noninteractive' },
    stdin: 'ignore',
    all: true,
    reject: false,
  });
}

async function build(name: ToolName, tool: GoTool, directory: string): Promise<void> {
  const program = await ensureGo();
  mkdirSync(directory, { recursive: true });
  const settings = Object.entries(tool.link).map(([variable, value]) => `-X ${variable}=${value}`);
  // Static, so that one build runs on the machine and on every lab host, with or without a C compiler here.
  const flags = ['-trimpath', '-buildvcs=false', '-ldflags', ['-s', '-w', ...settings].join(' ')];
  const source = tool.source;
  if (source.kind === 'own') {
    await runGo(program, ['build', ...flags, '-o', path.join(directory, name), '.'], {
      cwd: path.join(here, 'toolbox', name),
    });
  } else {
    const wanted = `${source.module}@v${tool.version}`;
    const got: unknown = JSON.parse(await runGo(program, ['mod', 'download', '-json', wanted], { cwd: directory }));
    const sum = typeof got === 'object' && got !== null && 'Sum' in got ? got.Sum : undefined;
    if (sum !== source.sum) {
      throw new ToolboxError(
        `${wanted} has the checksum ${String(sum)}, not the pinned ${source.sum}: it is not built.`,
      );
    }
    await runGo(program, ['install', ...flags, `${source.module}/${source.command}@v${tool.version}`], {
      cwd: directory,
      env: { GOBIN: directory },
    });
    // `go install` names it after the folder of its main.
    const installed = path.join(directory, path.basename(source.command));
    if (existsSync(installed)) renameSync(installed, path.join(directory, name));
  }
  if (!existsSync(path.join(directory, name)))
    throw new ToolboxError(`the build of ${name} ended well but left no ${name}`);
}

/** Path of a Go that is new enough: the one on PATH, else the pinned toolchain, fetched as a module by an older Go. */
async function ensureGo(): Promise<string> {
  const found = await installedGo();
  if (found !== undefined && atLeast(found.version, go.least)) return found.program;
  let older = found;
  if (older === undefined) {
    await install(['golang-go', 'ca-certificates'], 'the tools that are built with Go');
    older = await installedGo();
    if (older === undefined)
      throw new ToolboxError('golang-go is installed, but there is no go on PATH or in /usr/lib/go/bin.');
  }
  const architecture = architectures[process.arch];
  if (process.platform !== 'linux' || architecture === undefined) {
    throw new ToolboxError(`Go ${go.least.join('.')} or newer is needed on PATH (found: ${older.version.join('.')}).`);
  }
  const fetcher = older.program;
  return await withLock(path.join(cacheDirectory(), 'tools', 'go.lock'), () =>
    shown(
      `fetching ${go.toolchain} (Go here is ${found?.version.join('.') ?? 'missing'}, ${go.least.join('.')} is needed)`,
      async () => {
        const module = `golang.org/toolchain@v0.0.1-${go.toolchain}.linux-${architecture}`;
        const got: unknown = JSON.parse(
          await runGo(fetcher, ['mod', 'download', '-json', module], { cwd: os.tmpdir() }),
        );
        if (typeof got !== 'object' || got === null || !('Dir' in got) || typeof got.Dir !== 'string') {
          throw new ToolboxError(`go mod download of ${module} named no directory`);
        }
        // Module archives carry no permission bits.
        for (const folder of ['bin', `pkg/tool/linux_${architecture}`]) {
          const at = path.join(got.Dir, folder);
          for (const file of existsSync(at) ? readdirSync(at) : []) chmodSync(path.join(at, file), 0o755);
        }
        return path.join(got.Dir, 'bin', 'go');
      },
    ),
  );
}

async function installedGo(): Promise<{ program: string; version: number[] } | undefined> {
  for (const program of ['go', '/usr/local/go/bin/go', '/usr/lib/go/bin/go']) {
    const answer = await execa(program, ['version'], { reject: false, env: { GOTOOLCHAIN: 'local' } });
    const version = /^go version go(\d+(?:\.\d+)*)/.exec(answer.stdout ?? '')?.[1];
    if (version !== undefined) return { program, version: version.split('.').map(Number) };
  }
  return undefined;
}

function atLeast(version: readonly number[], least: readonly number[]): boolean {
  for (const [i, wanted] of least.entries()) {
    const have = version[i] ?? 0;
    if (have !== wanted) return have > wanted;
  }
  return true;
}

async function runGo(
  program: string,
  argv: string[],
  options: { cwd: string; env?: Record<string, string> },
): Promise<string> {
  const result = await execa(program, argv, {
    cwd: options.cwd,
    // The caller's GOPROXY, GOSUMDB and caches hold; what would change the build does not.
    env: {
      GO111MODULE: 'on',
      GOWORK: 'off',
      GOFLAGS: '',
      GOTOOLCHAIN: 'local',
      CGO_ENABLED: '0',
      HOME: os.homedir(),
      ...options.env,
    },
    stdin: 'ignore',
    all: true,
    reject: false,
  });
  if (result.failed) throw new ToolboxError(`${program} ${argv[0]} failed in ${options.cwd}:\n${tail(result)}`);
  return result.stdout;
}

interface Finished {
  failed: boolean;
  all: string;
  shortMessage?: string | undefined;
}

/** The end of what a program printed, and how it ended. */
function tail(result: Finished): string {
  const lines = result.all.trimEnd().split('\n').slice(-20);
  return [...lines, result.shortMessage ?? ''].join('\n').trim();
}

/** Short digest of what the build depends on beside the version. */
function recipe(name: ToolName, tool: GoTool): string {
  const hash = createHash('sha256').update(JSON.stringify([tool.source, tool.link]));
  const own = path.join(here, 'toolbox', name);
  if (tool.source.kind === 'own') {
    for (const file of readdirSync(own).sort()) hash.update(`${file}\0`).update(readFileSync(path.join(own, file)));
  }
  return hash.digest('hex').slice(0, 12);
}

async function main(names: string[]): Promise<void> {
  const known = Object.keys(tools);
  const wrong = names.filter((name) => !known.includes(name));
  if (names.length === 0 || wrong.length > 0) {
    throw new ToolboxError(
      `${wrong.length > 0 ? `no such tool: ${wrong.join(', ')}\n` : ''}usage: toolbox TOOL...   tools: ${known.join(', ')}`,
    );
  }
  for (const name of names) process.stdout.write(`${await ensureTool(name as ToolName)}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof ToolboxError)) throw error;
    say(`guardia: ${error.message}`);
    process.exitCode = 1;
  }
}
