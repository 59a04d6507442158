import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import path from 'node:path';
import { connectClient, type TemporalTarget } from '../../activities/temporal/connection.js';
import {
  devServerStateFile,
  readDevServerState,
  type DevServerState,
} from '../../activities/temporal/dev-server-state.js';
import { identify, isRunning, type ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { DirectoryLocked, lockDirectory } from './directory-lock.js';
import { prepareNamespace } from './namespace.js';
import { endsWithParent } from './parent-death.js';
import { findServerExecutable, type ServerExecutable } from './server-executable.js';

export const DEFAULT_PORT = 7233;
export const DEFAULT_UI_PORT = 8233;
/** The server takes any retention; ten years is "keep it" for a development machine. */
const RETENTION_DAYS = 3650;
const IP = '127.0.0.1';
const NAMESPACE = 'default';
const READY_SECONDS = 60;
/** The server takes about two seconds to stop in good order. */
const STOP_SECONDS = 15;
const LOG_BYTES = 10 * 1024 * 1024;

/** Queues of the server's one shard. It reads each 20 times a second by default, so that all runs together would make ten steps a second. */
const QUEUES = ['transfer', 'timer', 'visibility'];
const QUEUE_READS = 500;

type Log = (line: string) => void;

/** `guardia dev` cannot start as asked. The message says why and what to do. */
export class DevServerError extends Error {
  override readonly name: string = 'DevServerError';
}

export interface DevServer {
  address: string;
  namespace: string;
  uiUrl: string;
  pid: number;
  /** The server's log. */
  logFile: string;
  /** Resolves when the server has ended, for whatever reason. */
  ended: Promise<void>;
  /** Notes which worker belongs to it, so that a later start finds it. */
  setWorker(worker: ProcessIdentity | undefined): void;
  /** Stops the server in good order and removes the state file; the database stays. Idempotent. `force` does not wait. */
  stop(options?: { force?: boolean }): Promise<void>;
}

/**
 * Starts a persistent Temporal development server: SQLite file and log in `directory`, Web UI, our search attributes, on the loopback
 * address only. Ports: absent for 7233 and 8233, 0 for a free one. What an earlier start left running in the directory, killed without a
 * chance to clean up, is stopped first. The server stops with this process, on Linux also when that is killed.
 * Throws DevServerError when the directory or a port is taken or the server does not come up; NoTemporalServer when there is none.
 */
export async function startDevServer(options: {
  directory: string;
  port?: number;
  uiPort?: number;
  log?: Log;
  /** Default: looked for on PATH, downloaded or built. */
  executable?: ServerExecutable;
}): Promise<DevServer> {
  const directory = path.resolve(options.directory);
  const log = options.log ?? (() => undefined);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = await take(directory);
  let server: Running | undefined;
  try {
    // The lock is ours: whoever wrote a state is gone.
    const left = readDevServerState(directory);
    if (left !== undefined) await stopLeft(directory, left, log);
    const executable = options.executable ?? (await findServerExecutable({ log }));
    // A port that was free a moment ago may be gone when the server binds it.
    for (let attempt = 1; server === undefined; attempt++) {
      const port = await choosePort(options.port ?? DEFAULT_PORT, '--port');
      const uiPort = await choosePort(options.uiPort ?? DEFAULT_UI_PORT, '--ui-port', port);
      const candidate = launch(directory, executable, port, uiPort);
      try {
        await untilReady(candidate);
        server = candidate;
      } catch (error) {
        await candidate.stop(true);
        const portTaken = /address already in use|bind:/.test(tail(candidate.logFile, candidate.logOffset));
        if (!portTaken || attempt >= 5 || (options.port !== 0 && options.uiPort !== 0)) throw error;
      }
    }
    return finish(server, lock.release);
  } catch (error) {
    await server?.stop(true);
    rmSync(devServerStateFile(directory), { force: true });
    lock.release();
    throw error;
  }
}

interface Running {
  directory: string;
  address: string;
  uiUrl: string;
  identity: ProcessIdentity;
  child: ChildProcess;
  ended: Promise<void>;
  logFile: string;
  /** Where this server's own lines begin. */
  logOffset: number;
  stop(force: boolean): Promise<void>;
}

async function take(directory: string): Promise<{ release: () => void }> {
  try {
    return await lockDirectory(directory);
  } catch (error) {
    if (!(error instanceof DirectoryLocked)) throw error;
    const state = readDevServerState(directory);
    throw new DevServerError(
      `\`guardia dev\` runs already in ${directory}: process ${error.holder.pid}` +
        (state === undefined ? ', still starting' : `, Temporal at ${state.address}, Web UI at ${state.uiUrl}`) +
        '. Use it, stop it, or set GUARDIA_STATE to another directory',
      { cause: error },
    );
  }
}

/**
 * Ends what a supervisor that was killed left running in the directory, worker first. Does nothing while a supervisor lives.
 * Processes are known by number and start time: another one that got the number is left alone. Idempotent.
 */
export async function stopLeftovers(directory: string, log: Log = () => undefined): Promise<void> {
  const state = readDevServerState(directory);
  if (state !== undefined && !isRunning(state.supervisor)) await stopLeft(directory, state, log);
}

async function stopLeft(directory: string, state: DevServerState, log: Log): Promise<void> {
  for (const [what, left] of [
    ['worker', state.worker],
    ['server', state.server],
  ] as const) {
    if (left === undefined || !isRunning(left)) continue;
    log(`stopping the ${what} (process ${left.pid}) that an earlier \`guardia dev\` left behind`);
    await stopProcess(left, STOP_SECONDS);
  }
  rmSync(devServerStateFile(directory), { force: true });
}

/** SIGTERM, then SIGKILL after `seconds`; returns when the process is gone. */
export async function stopProcess(target: ProcessIdentity, seconds: number): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  for (let signal: NodeJS.Signals | undefined = 'SIGTERM'; isRunning(target);) {
    if (signal !== undefined) {
      try {
        process.kill(target.pid, signal);
      } catch {
        return;
      }
    }
    signal = Date.now() > deadline ? 'SIGKILL' : undefined;
    await pause(50);
  }
}

async function choosePort(wanted: number, option: string, not?: number): Promise<number> {
  for (;;) {
    const port = await listenOnce(wanted).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EACCES')
        throw new DevServerError(`port ${wanted} needs rights that we do not have; choose another with ${option}`);
      if (error.code !== 'EADDRINUSE') throw error;
      throw new DevServerError(
        `port ${wanted} on ${IP} is in use by another program; choose another with ${option} (0: any free one), ` +
          `or set TEMPORAL_ADDRESS=${IP}:${wanted} if it is a Temporal that you want to use`,
      );
    });
    if (wanted !== 0 || port !== not) return port;
  }
}

/** Binds a port and lets go of it: shows that it is free, or with 0 finds a free one. */
async function listenOnce(wanted: number): Promise<number> {
  const listener = createServer();
  await new Promise<void>((resolve, reject) => listener.once('error', reject).listen(wanted, IP, resolve));
  const address = listener.address();
  const port = typeof address === 'object' && address !== null ? address.port : wanted;
  if (wanted === 0) {
    // A connection that we close first keeps the number from being given to the next one who asks for a free port (TIME_WAIT).
    await new Promise<void>((resolve) => {
      listener.once('connection', (socket) => socket.destroy());
      connect(port, IP)
        .once('close', () => resolve())
        .once('error', () => resolve());
    });
  }
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

function launch(directory: string, executable: ServerExecutable, port: number, uiPort: number): Running {
  const logFile = path.join(directory, 'server.log');
  if (sizeOf(logFile) > LOG_BYTES) renameSync(logFile, `${logFile}.1`);
  const logOffset = sizeOf(logFile);
  const output = openSync(logFile, 'a', 0o600);
  const [file, argv] = endsWithParent(executable.path, [
    ...['server', 'start-dev', '--ip', IP, '--port', String(port), '--ui-port', String(uiPort)],
    ...['--db-filename', path.join(directory, 'temporal.db')],
    // Twice as fast as the defaults. A killed server loses nothing; a power cut may lose the last transactions.
    ...['--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=NORMAL'],
    ...QUEUES.flatMap((queue) => ['--dynamic-config-value', `history.${queue}ProcessorMaxPollRPS=${QUEUE_READS}`]),
    ...['--log-level', 'warn', '--log-format', 'text'],
  ]);
  // In a session of its own: Ctrl-C at the terminal must reach it through us, after the worker has stopped.
  const child = spawn(file, argv, {
    cwd: directory,
    detached: true,
    stdio: ['ignore', output, output],
    env: withoutTemporalVariables(process.env),
  });
  closeSync(output);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()).once('error', () => resolve()));
  if (child.pid === undefined)
    throw new DevServerError(`${executable.path} could not be started${logTail(logFile, logOffset)}`);
  const identity = identify(child.pid);
  // It can end before /proc is read.
  if (identity === undefined) throw endedWhileStarting(logFile, logOffset);

  const stopWithUs = () => child.kill('SIGTERM');
  process.once('exit', stopWithUs);
  void ended.then(() => process.removeListener('exit', stopWithUs));

  const running: Running = {
    directory,
    address: `${IP}:${port}`,
    uiUrl: `http://${IP}:${uiPort}`,
    identity,
    child,
    ended,
    logFile,
    logOffset,
    stop: async (force) => {
      child.kill(force ? 'SIGKILL' : 'SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_SECONDS * 1000);
      await ended;
      clearTimeout(timer);
    },
  };
  writeState(running, { ready: false });
  return running;
}

/** Answers, has our search attributes, keeps closed runs, and serves its Web UI. */
async function untilReady(server: Running): Promise<void> {
  const target: TemporalTarget = {
    address: server.address,
    namespace: NAMESPACE,
    source: 'guardia dev',
    connection: { address: server.address },
  };
  const deadline = Date.now() + READY_SECONDS * 1000;
  const hasEnded = () => server.child.exitCode !== null || server.child.signalCode !== null;
  for (;;) {
    try {
      const { connection } = await connectClient({ target, env: {} });
      try {
        await prepareNamespace(connection, NAMESPACE, { retentionDays: RETENTION_DAYS });
      } finally {
        await connection.close();
      }
      await listening(server.uiUrl);
      return;
    } catch (error) {
      if (hasEnded()) throw endedWhileStarting(server.logFile, server.logOffset, error);
      if (Date.now() > deadline) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new DevServerError(
          `the Temporal server does not answer after ${READY_SECONDS} s: ${reason}${logTail(server.logFile, server.logOffset)}`,
          {
            cause: error,
          },
        );
      }
      await pause(100);
    }
  }
}

function endedWhileStarting(logFile: string, logOffset: number, cause?: unknown): DevServerError {
  return new DevServerError(`the Temporal server ended while starting${logTail(logFile, logOffset)}`, { cause });
}

async function listening(url: string): Promise<void> {
  const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(5000) });
  await response.body?.cancel();
}

function finish(server: Running, release: () => void): DevServer {
  let worker: ProcessIdentity | undefined;
  let open = true;
  writeState(server, { ready: true });
  const cleanUp = () => {
    if (!open) return;
    open = false;
    rmSync(devServerStateFile(server.directory), { force: true });
    release();
  };
  void server.ended.then(cleanUp);
  let stopping: Promise<void> | undefined;
  return {
    address: server.address,
    namespace: NAMESPACE,
    uiUrl: server.uiUrl,
    pid: server.identity.pid,
    logFile: server.logFile,
    ended: server.ended,
    setWorker(identity) {
      worker = identity;
      if (open) writeState(server, { ready: true, worker });
    },
    async stop({ force = false } = {}) {
      if (force || stopping === undefined) stopping = server.stop(force);
      await stopping;
      cleanUp();
    },
  };
}

function writeState(server: Running, state: { ready: boolean; worker?: ProcessIdentity | undefined }): void {
  const supervisor = identify(process.pid);
  if (supervisor === undefined) throw new Error(`cannot tell when process ${process.pid} started`);
  const content: DevServerState = {
    address: server.address,
    namespace: NAMESPACE,
    uiUrl: server.uiUrl,
    supervisor,
    server: server.identity,
    ...(state.worker === undefined ? {} : { worker: state.worker }),
    ready: state.ready,
  };
  const file = devServerStateFile(server.directory);
  writeFileSync(`${file}.new`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The command reads TEMPORAL_* and the user's profiles too; a server of our own must not. */
function withoutTemporalVariables(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_')));
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function tail(file: string, from: number): string {
  try {
    return readFileSync(file).subarray(from).subarray(-4000).toString('utf8');
  } catch {
    return '';
  }
}

function logTail(file: string, from: number): string {
  const lines = tail(file, from).trim().split('\n').slice(-8);
  return lines.join('') === '' ? `; ${file} says nothing` : `; the end of ${file}:\n  ${lines.join('\n  ')}`;
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
