import { execFile, spawn, type ChildProcess } from 'node:child_process';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { randomBytes, randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { configuredTarget, connectClient, type TemporalTarget } from '../../activities/temporal/connection.js';
import { ensureTool } from '../packaging/toolbox.js';
import { prepareNamespace } from './namespace.js';
import { endsWithParent } from './parent-death.js';

/** What compose.yaml gives a namespace too. */
const RETENTION_DAYS = 90;
const READY_SECONDS = 90;
const STOP_SECONDS = 30;
const NAMESPACE = 'guardia';
const HOST = '127.0.0.1';

const run = promisify(execFile);
const production = (file: string) => fileURLToPath(new URL(`production/${file}`, import.meta.url));
type Log = (line: string) => void;

export interface Postgres {
  host: string;
  port: number;
  /** May create databases. */
  user: string;
  password: string;
  stop(): Promise<void>;
}

export interface ProductionServer {
  target: TemporalTarget;
  /** TEMPORAL_* for workers and commands: address, namespace, certificates. */
  env: Record<string, string>;
  pid: number;
  logFile: string;
  stop(): Promise<void>;
}

/**
 * A PostgreSQL cluster of its own in `directory`, on the loopback address and a free port, from the newest server binaries on this machine. As
 * root it runs as user postgres, who must be able to reach the directory. Throws when there are no binaries.
 */
export async function startPostgres(directory: string): Promise<Postgres> {
  const binaries = postgresBinaries();
  const data = path.join(directory, 'data');
  const passwordFile = path.join(directory, 'password');
  const password = randomBytes(18).toString('hex');
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  writeFileSync(passwordFile, password, { mode: 0o600 });
  const user: { uid?: number; gid?: number } = process.getuid?.() === 0 ? await idsOf('postgres') : {};
  const { uid, gid } = user;
  if (uid !== undefined && gid !== undefined) for (const file of [directory, passwordFile]) chownSync(file, uid, gid);
  const asUser = { ...user, cwd: directory };
  await run(
    path.join(binaries, 'initdb'),
    ['-D', data, '-U', 'temporal', '-A', 'scram-sha-256', '-E', 'UTF8', '--pwfile', passwordFile],
    asUser,
  );
  const port = await freePorts(1);
  const child = await startChild(
    path.join(binaries, 'postgres'),
    ['-D', data, '-c', `port=${port}`, '-c', `listen_addresses=${HOST}`, '-c', `unix_socket_directories=${directory}`],
    path.join(directory, 'postgres.log'),
    asUser,
  );
  const ready = async () => {
    await run(path.join(binaries, 'pg_isready'), ['-h', HOST, '-p', String(port), '-U', 'temporal']);
  };
  await until(ready, child, 'PostgreSQL');
  // SIGINT: fast shutdown, which does not wait for those who are connected.
  return { host: HOST, port, user: 'temporal', password, stop: () => stop(child.process, 'SIGINT') };
}

/**
 * Temporal as in production/: the server of that version built from its Go module, with the very configuration, schema and certificates that
 * compose.yaml uses, on the given PostgreSQL; namespace `guardia` with our search attributes. On the loopback address and free ports.
 * Throws when the server cannot be built or does not come up; the message holds the end of its log.
 */
export async function startProductionServer(options: {
  directory: string;
  postgres: Postgres;
  log?: Log;
}): Promise<ProductionServer> {
  const { directory, postgres, log = () => undefined } = options;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const server = await ensureTool('temporal-server');
  const sqlTool = await ensureTool('temporal-sql-tool');
  const certificates = path.join(directory, 'certificates');
  const database = {
    POSTGRES_HOST: postgres.host,
    POSTGRES_PORT: String(postgres.port),
    POSTGRES_USER: postgres.user,
    POSTGRES_PASSWORD: postgres.password,
  };
  log('making certificates and the schema ...');
  await run('sh', [production('make-certificates.sh'), certificates, 'localhost', HOST]);
  await run('sh', [production('set-up-schema.sh')], {
    env: { ...process.env, ...database, TEMPORAL_SQL_TOOL: sqlTool },
    maxBuffer: 1 << 26,
  });

  const port = await freePorts(21);
  log('starting the Temporal server ...');
  const services = ['frontend', 'internal-frontend', 'history', 'matching', 'worker'].flatMap((name) => [
    '--service',
    name,
  ]);
  const child = await startChild(
    server,
    ['--root', '/', '--config', production('server'), '--env', 'production', '--allow-no-auth', 'start', ...services],
    path.join(directory, 'temporal.log'),
    {
      env: {
        ...process.env,
        ...database,
        TEMPORAL_CERTIFICATES: certificates,
        TEMPORAL_BIND: HOST,
        TEMPORAL_PORT: String(port),
      },
    },
  );
  const env = {
    TEMPORAL_ADDRESS: `localhost:${port}`,
    TEMPORAL_NAMESPACE: NAMESPACE,
    TEMPORAL_TLS_SERVER_CA_CERT_PATH: path.join(certificates, 'ca.pem'),
    TEMPORAL_TLS_CLIENT_CERT_PATH: path.join(certificates, 'client.pem'),
    TEMPORAL_TLS_CLIENT_KEY_PATH: path.join(certificates, 'client.key'),
  };
  const target = configuredTarget(env);
  if (target === undefined) throw new TypeError('no address');
  try {
    await until(() => prepare(target), child, 'the Temporal server');
  } catch (error) {
    await stop(child.process, 'SIGKILL');
    throw error;
  }
  return {
    target,
    env,
    pid: child.process.pid ?? 0,
    logFile: child.logFile,
    stop: () => stop(child.process, 'SIGTERM'),
  };
}

async function prepare(target: TemporalTarget): Promise<void> {
  const { connection } = await connectClient({ target, env: {} });
  const { workflowService } = connection;
  try {
    await workflowService.describeNamespace({ namespace: NAMESPACE }).catch(async () => {
      await workflowService.registerNamespace({
        namespace: NAMESPACE,
        workflowExecutionRetentionPeriod: { seconds: (RETENTION_DAYS * 86_400) as never },
      });
    });
    await prepareNamespace(connection, NAMESPACE, { retentionDays: RETENTION_DAYS });
  } finally {
    await connection.close();
  }
}

interface Child {
  process: ChildProcess;
  logFile: string;
}

async function startChild(
  file: string,
  argv: string[],
  logFile: string,
  options: { env?: NodeJS.ProcessEnv; cwd?: string; uid?: number; gid?: number },
): Promise<Child> {
  const output = openSync(logFile, 'a', 0o600);
  const child = spawn(...endsWithParent(file, argv), { ...options, detached: true, stdio: ['ignore', output, output] });
  closeSync(output);
  const stopWithUs = () => child.kill('SIGTERM');
  process.once('exit', stopWithUs);
  child.once('exit', () => process.removeListener('exit', stopWithUs));
  await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
  return { process: child, logFile };
}

const ended = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;

async function until(ready: () => Promise<void>, child: Child, what: string): Promise<void> {
  for (const deadline = Date.now() + READY_SECONDS * 1000; ;) {
    try {
      return await ready();
    } catch (error) {
      if (!ended(child.process) && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 250));
        continue;
      }
      const tail = readFileSync(child.logFile, 'utf8').slice(-3000);
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`${what} ${ended(child.process) ? 'ended' : 'does not answer'}: ${reason}\n${tail}`, {
        cause: error,
      });
    }
  }
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (ended(child)) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_SECONDS * 1000);
  await gone;
  clearTimeout(timer);
}

/** Newest first below Debian's directory, else where pg_config says. */
function postgresBinaries(): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root)
    ? readdirSync(root).filter((name) => existsSync(path.join(root, name, 'bin/initdb')))
    : [];
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
  if (newest === undefined)
    throw new Error('there are no PostgreSQL server binaries on this machine (Debian: apt-get install postgresql)');
  return path.join(root, newest, 'bin');
}

async function idsOf(user: string): Promise<{ uid: number; gid: number }> {
  const id = async (option: string) => Number((await run('id', [option, user])).stdout);
  return { uid: await id('-u'), gid: await id('-g') };
}

/** The first of `count` consecutive ports that are free now. Below 32768: Temporal keeps its membership ports in a column of two bytes. */
async function freePorts(count: number): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const first = randomInt(12_000, 32_000 - count);
    let free = true;
    for (let port = first; free && port < first + count; port++) free = await canBind(port);
    if (free) return first;
  }
  throw new Error(`there are no ${count} consecutive free ports`);
}

async function canBind(port: number): Promise<boolean> {
  const listener = createServer();
  try {
    await new Promise<void>((resolve, reject) => listener.once('error', reject).listen(port, HOST, resolve));
    return true;
  } catch {
    return false;
  } finally {
    await new Promise((resolve) => listener.close(resolve));
  }
}
