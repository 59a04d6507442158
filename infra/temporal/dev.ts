// `guardia dev`: a persistent Temporal development server, or the Temporal that is configured, and a worker beside it, until Ctrl-C.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import {
  configuredTarget,
  connectClient,
  TemporalConnectionError,
  type TemporalTarget,
} from '../../activities/temporal/connection.js';
import { devServerDirectory } from '../../activities/temporal/dev-server-state.js';
import { identify, type ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { commandExitCodes } from '../../workflows/contracts/run.js';
import { DEFAULT_PORT, DEFAULT_UI_PORT, DevServerError, startDevServer, type DevServer } from './dev-server.js';
import { prepareNamespace } from './namespace.js';
import { endsWithParent } from './parent-death.js';
import { chooseServer, compiled, NoTemporalServer, serverSources } from './server-executable.js';

/** Longer than a worker's own patience with its activities. */
const WORKER_STOP_SECONDS = 90;
const LONGEST_BACKOFF_SECONDS = 30;
/** A worker that lived this long is not failing at its start. */
const STEADY_SECONDS = 60;
/** npm and a parent process pass on the Ctrl-C that the terminal has sent to us too: that is still the first one. */
const SAME_INTERRUPT_MS = 1000;

const USAGE = `usage: guardia dev [--port N] [--ui-port N] [--no-worker]

Starts a Temporal development server that keeps its data, and a worker, until Ctrl-C. Uses the Temporal of TEMPORAL_ADDRESS
or of a profile instead, when one is set.

  --port N       port of Temporal on 127.0.0.1 (default ${DEFAULT_PORT}; 0: any free one)
  --ui-port N    port of the Web UI (default ${DEFAULT_UI_PORT}; 0: any free one)
  --no-worker    start no worker
`;

interface Options {
  port: number;
  uiPort: number;
  worker: boolean;
}

/** The command line is wrong: nothing was started. */
class WrongOptions extends DevServerError {
  override readonly name = 'WrongOptions';
}

/** Throws DevServerError that names every wrong option. */
export function parseOptions(argv: readonly string[]): Options | 'help' {
  const { values, tokens } = parseArgs({
    args: [...argv],
    options: {
      port: { type: 'string' },
      'ui-port': { type: 'string' },
      'no-worker': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  if (values.help === true) return 'help';
  const wrong: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') wrong.push(`unexpected argument ${JSON.stringify(token.value)}`);
    if (token.kind === 'option' && !['port', 'ui-port', 'no-worker', 'help'].includes(token.name))
      wrong.push(`unknown option ${token.rawName}`);
  }
  const port = (name: 'port' | 'ui-port', standard: number): number => {
    const text = values[name];
    if (text === undefined) return standard;
    const number = typeof text === 'string' && /^\d{1,5}$/.test(text) ? Number(text) : NaN;
    if (!(number <= 65535)) wrong.push(`--${name} takes a port from 0 to 65535, not ${JSON.stringify(text)}`);
    return number;
  };
  const options = {
    port: port('port', DEFAULT_PORT),
    uiPort: port('ui-port', DEFAULT_UI_PORT),
    worker: values['no-worker'] !== true,
  };
  if (wrong.length > 0) throw new WrongOptions(`${wrong.join('; ')}\n\n${USAGE}`);
  return options;
}

/** A child process that is started again, ever later, when it ends by itself. */
interface Worker {
  stop(options: { force: boolean }): Promise<void>;
}

function keepWorker(
  env: NodeJS.ProcessEnv,
  log: (line: string) => void,
  changed: (worker: ProcessIdentity | undefined) => void,
): Worker {
  const entry = compiled('workers/main.js');
  if (!existsSync(entry)) throw new DevServerError(`${entry} is missing; run npm run build`);
  let child: ChildProcess | undefined;
  let stopping = false;
  let backoff = 1;
  let retry: NodeJS.Timeout | undefined;
  let ended = Promise.resolve();

  const start = () => {
    const started = Date.now();
    // In a session of its own: Ctrl-C at the terminal reaches it through us. No standard input to fight over.
    const [file, argv] = endsWithParent(process.execPath, [entry]);
    const worker = spawn(file, argv, { env, detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
    child = worker;
    changed(worker.pid === undefined ? undefined : identify(worker.pid));
    ended = new Promise((resolve) => {
      const end = (how: string) => {
        child = undefined;
        resolve();
        changed(undefined);
        if (stopping) return;
        if (Date.now() - started > STEADY_SECONDS * 1000) backoff = 1;
        log(`the worker has ended (${how}); starting it again in ${backoff} s`);
        retry = setTimeout(start, backoff * 1000);
        backoff = Math.min(backoff * 2, LONGEST_BACKOFF_SECONDS);
      };
      worker.once('exit', (code, signal) => end(signal ?? `exit code ${code}`));
      worker.once('error', (error) => end(error.message));
    });
  };
  process.once('exit', () => child?.kill('SIGTERM'));
  start();

  return {
    async stop({ force }) {
      stopping = true;
      clearTimeout(retry);
      child?.kill(force ? 'SIGKILL' : 'SIGTERM');
      const timer = setTimeout(() => child?.kill('SIGKILL'), WORKER_STOP_SECONDS * 1000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Runs until a signal or the server's end. Returns the exit code. */
async function dev(options: Options, log: (line: string) => void): Promise<number> {
  const configured = configuredTarget();
  let server: DevServer | undefined;
  let worker: Worker | undefined;
  let interrupted = false;
  let force = false;
  let firstSignal = 0;
  let wake: () => void = () => undefined;
  const signalled = new Promise<void>((resolve) => (wake = resolve));

  const onSignal = (signal: NodeJS.Signals) => {
    if (!interrupted) {
      interrupted = true;
      firstSignal = Date.now();
      if (server === undefined && configured === undefined) process.exit(exitCodeOf(signal));
      log('stopping: first the worker, which brings its steps to a safe place; once more to force');
      wake();
    } else if (!force && Date.now() - firstSignal > SAME_INTERRUPT_MS) {
      force = true;
      log('stopping by force: steps that were running are taken up again by the next worker');
      void worker?.stop({ force: true });
      void server?.stop({ force: true });
    }
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);

  const choice = await chooseServer(configured, serverSources({ log }));
  const env = { ...process.env };
  if (choice.kind === 'running') {
    await useRunning(choice.target, log);
  } else {
    const { executable } = choice;
    server = await startDevServer({
      directory: devServerDirectory(),
      port: options.port,
      uiPort: options.uiPort,
      log,
      executable,
    });
    log(
      `Temporal ${executable.serverVersion} (${executable.source}) at ${server.address}, namespace ${server.namespace}; its log is ${server.logFile}`,
    );
    log(`Web UI: ${server.uiUrl}`);
    env['TEMPORAL_ADDRESS'] = server.address;
    env['TEMPORAL_NAMESPACE'] = server.namespace;
  }
  let failed = false;
  if (server === undefined && !options.worker) {
    log('no worker was asked for: there is nothing to keep running');
    return 0;
  }
  if (!interrupted) {
    if (options.worker) worker = keepWorker(env, log, (identity) => server?.setWorker(identity));
    log('Ctrl-C stops');
    const ended = server?.ended.then(() => {
      failed = !interrupted;
    });
    await Promise.race([signalled, ...(ended === undefined ? [] : [ended])]);
  }
  if (failed) log(`the Temporal server has ended by itself; see ${server?.logFile ?? ''}`);
  await worker?.stop({ force });
  await server?.stop({ force });
  log('stopped');
  return failed ? 1 : 0;
}

async function useRunning(target: TemporalTarget, log: (line: string) => void): Promise<void> {
  const { connection } = await connectClient({ target });
  try {
    const { added } = await prepareNamespace(connection, target.namespace);
    log(`using Temporal at ${target.address}, namespace ${target.namespace} (from ${target.source})`);
    if (added.length > 0) log(`search attributes registered there: ${added.join(', ')}`);
  } finally {
    await connection.close();
  }
}

function exitCodeOf(signal: NodeJS.Signals): number {
  return { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[signal as 'SIGINT'] ?? 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options === 'help') process.stdout.write(USAGE);
    else process.exitCode = await dev(options, (line) => process.stderr.write(`guardia: ${line}\n`));
  } catch (error) {
    const expected = [DevServerError, NoTemporalServer, TemporalConnectionError].some((kind) => error instanceof kind);
    if (!expected) throw error;
    process.stderr.write(`guardia: ${(error as Error).message}\n`);
    process.exitCode = error instanceof WrongOptions ? commandExitCodes.usage.exitCode : 1;
  }
}
