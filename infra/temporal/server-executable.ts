import { execFile, spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { TemporalTarget } from '../../activities/temporal/connection.js';
import { cacheDirectory, ensureTool, ToolboxError, tools } from '../packaging/toolbox.js';

/** The Temporal command that guardia is tested with; 1.5.1 holds server 1.29.1 and Web UI 2.42.1. */
export const TEMPORAL_CLI_VERSION = tools.temporal.version;
/** The oldest server that honours what runbooks use: pause and reset of an activity came with it. */
export const OLDEST_SERVER = '1.28.0';

/** A download that has not begun after this time is taken for impossible on this network. */
const DOWNLOAD_BEGINS_SECONDS = 10;
const DOWNLOAD_SECONDS = 600;
/** After a download failed, how long it is not tried again. */
const DOWNLOAD_AGAIN_HOURS = 24;

type Environment = Readonly<Record<string, string | undefined>>;
type Log = (line: string) => void;

export interface ServerExecutable {
  path: string;
  /** Version of the server inside, not of the command around it. */
  serverVersion: string;
  /** For messages: where it was found. */
  source: string;
}

/** One place to look. `find` answers with the reason when there is nothing usable, and throws only for bugs. */
export interface Source {
  name: string;
  find(): Promise<ServerExecutable | { reason: string }>;
}

export type ServerChoice =
  { kind: 'running'; target: TemporalTarget } | { kind: 'executable'; executable: ServerExecutable };

/** Every place was tried in vain. The message says what was found at each and names the remedies. */
export class NoTemporalServer extends Error {
  override readonly name = 'NoTemporalServer';
}

/**
 * Decides which Temporal `guardia dev` works with: the configured one wins, else the first source that has something usable. Later
 * sources are not asked: they download and compile.
 */
export async function chooseServer(
  configured: TemporalTarget | undefined,
  sources: readonly Source[],
): Promise<ServerChoice> {
  if (configured !== undefined) return { kind: 'running', target: configured };
  const reasons: string[] = [];
  for (const source of sources) {
    const found = await source.find();
    if ('path' in found) return { kind: 'executable', executable: found };
    reasons.push(`  - ${source.name}: ${found.reason}`);
  }
  throw new NoTemporalServer(
    [
      'there is no Temporal server to work with:',
      ...reasons,
      'Any one of these helps:',
      '  - set TEMPORAL_ADDRESS, or a profile, to a Temporal that runs already',
      `  - put a \`temporal\` command with server ${OLDEST_SERVER} or newer on PATH (https://docs.temporal.io/cli)`,
      '  - install Go and let this machine reach a Go module proxy, then run it again: guardia builds the server itself',
    ].join('\n'),
  );
}

/** Where an executable is looked for, in this order: PATH, the SDK's download, a build with Go. */
export function serverSources(options: { env?: Environment; log?: Log } = {}): Source[] {
  return [
    onPath(options.env ?? process.env),
    downloadedBySdk({ directory: path.join(cacheDirectory(), 'temporal-sdk'), ...options }),
    builtWithGo(),
  ];
}

/** The executable for a server of our own, whatever is configured. Throws NoTemporalServer. */
export async function findServerExecutable(options: { env?: Environment; log?: Log } = {}): Promise<ServerExecutable> {
  const choice = await chooseServer(undefined, serverSources(options));
  if (choice.kind === 'running') throw new TypeError('nothing was configured');
  return choice.executable;
}

/** A `temporal` on PATH that is new enough. */
export function onPath(env: Environment): Source {
  return {
    name: '`temporal` on PATH',
    async find() {
      const reasons: string[] = [];
      for (const directory of (env['PATH'] ?? '').split(path.delimiter)) {
        if (!path.isAbsolute(directory)) continue;
        const candidate = path.join(directory, 'temporal');
        if (!isExecutable(candidate)) continue;
        const version = await serverVersionOf(candidate);
        if (version === undefined) reasons.push(`${candidate} does not say which server it holds`);
        else if (!isNewEnough(version))
          reasons.push(`${candidate} holds server ${version}, older than ${OLDEST_SERVER}`);
        else return { path: candidate, serverVersion: version, source: 'PATH' };
      }
      return { reason: reasons.length === 0 ? 'there is none' : reasons.join('; ') };
    },
  };
}

/** The executable that the SDK downloads, kept in the cache directory. Fails fast where the network does not reach it. */
export function downloadedBySdk({
  directory,
  env = process.env,
  log = () => undefined,
}: {
  directory: string;
  env?: Environment;
  log?: Log;
}): Source {
  return {
    name: `download of ${TEMPORAL_CLI_VERSION} by the Temporal SDK`,
    async find() {
      const file = path.join(directory, `temporal-v${TEMPORAL_CLI_VERSION}`);
      const failed = path.join(directory, 'download-failed');
      if (!isExecutable(file)) {
        if (existsSync(failed) && Date.now() - statSync(failed).mtimeMs < DOWNLOAD_AGAIN_HOURS * 3_600_000) {
          return { reason: `failed within the last ${DOWNLOAD_AGAIN_HOURS} h; remove ${failed} to try again` };
        }
        const reason = await download(directory, file, env, log);
        if (reason !== undefined) {
          mkdirSync(directory, { recursive: true });
          writeFileSync(failed, `${reason}\n`);
          return { reason };
        }
        rmSync(failed, { force: true });
      }
      const version = await serverVersionOf(file);
      if (version === undefined) return { reason: `${file} does not run on this machine` };
      return { path: file, serverVersion: version, source: 'download' };
    },
  };
}

/**
 * In a process of its own: the SDK has no way to give up, and starts a server once it has the file. Undefined when the file is there, else
 * the reason.
 */
async function download(directory: string, file: string, env: Environment, log: Log): Promise<string | undefined> {
  mkdirSync(directory, { recursive: true });
  const child = spawn(
    process.execPath,
    [compiled('infra/temporal/sdk-download.js'), directory, `v${TEMPORAL_CLI_VERSION}`],
    {
      env: { ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-4000)));
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()).once('error', () => resolve()));
  const started = Date.now();
  let begun = false;
  let late: string | undefined;
  const watch = setInterval(() => {
    const seconds = (Date.now() - started) / 1000;
    if (!begun && readdirSync(directory).some((name) => name.endsWith('.downloading'))) {
      begun = true;
      log(`downloading the Temporal server ${TEMPORAL_CLI_VERSION} (about 100 MB, once) ...`);
    }
    if (!begun && !existsSync(file) && seconds > DOWNLOAD_BEGINS_SECONDS)
      late = `no answer within ${DOWNLOAD_BEGINS_SECONDS} s`;
    else if (seconds > DOWNLOAD_SECONDS) late = `not done within ${DOWNLOAD_SECONDS} s`;
    if (late !== undefined) child.kill('SIGKILL');
  }, 200);
  await closed;
  clearInterval(watch);
  if (isExecutable(file)) return undefined;
  return late ?? (lastLine(stderr) || 'it ended without a file');
}

/** The executable that the toolbox builds from the pinned Go module, or built earlier; it reports its progress on stderr. */
export function builtWithGo(): Source {
  return {
    name: `build of ${TEMPORAL_CLI_VERSION} with Go`,
    async find() {
      try {
        const file = await ensureTool('temporal');
        const version = await serverVersionOf(file);
        if (version === undefined) return { reason: `${file} does not run on this machine` };
        return { path: file, serverVersion: version, source: 'built with Go' };
      } catch (error) {
        if (!(error instanceof ToolboxError)) throw error;
        return { reason: error.message.replaceAll('\n', '\n      ') };
      }
    },
  };
}

/**
 * The version of the server inside a `temporal` command, undefined when it does not run or does not say. The command's own version is no
 * help: a build with Go calls itself 0.0.0-DEV.
 */
export async function serverVersionOf(file: string): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(file, ['--version'], { timeout: 20_000 });
    return parseServerVersion(stdout);
  } catch {
    return undefined;
  }
}

/** `temporal version 0.0.0-DEV (Server 1.29.1, UI 2.42.1)` is `1.29.1`. */
export function parseServerVersion(text: string): string | undefined {
  return /\(Server v?(\d+\.\d+\.\d+)/.exec(text)?.[1];
}

export function isNewEnough(version: string): boolean {
  const [have, need] = [version, OLDEST_SERVER].map((text) => text.split('.').map(Number));
  for (let at = 0; at < 3; at++) {
    const difference = (have?.[at] ?? 0) - (need?.[at] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}

/** A compiled entry point, also when this file itself runs uncompiled under a test. */
export function compiled(entry: string): string {
  return fileURLToPath(
    new URL((import.meta.url.endsWith('.ts') ? '../../.build/' : '../../') + entry, import.meta.url),
  );
}
