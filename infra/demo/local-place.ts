import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { CreateBucketCommand } from '@aws-sdk/client-s3';
import { execa } from 'execa';
import { parse, stringify } from 'yaml';
import { openBucket } from '../../activities/object-store/object-store.js';
import { ensurePackages, ensureTool, ToolboxError } from '../packaging/toolbox.js';
import { packages } from '../packaging/toolbox-tools.js';
import { say } from '../packaging/toolbox-cache.js';
import { endsWithParent } from '../temporal/parent-death.js';
import type { DemoOptions, Place } from './place.js';

/** How the demo logs in to the server that it found or was told about. */
interface Login {
  access: Record<string, unknown>;
  /** Runs SQL; the result's lines. */
  sql(database: string, text: string): Promise<string>;
  port: number;
  secrets: Record<string, string>;
}

const DEMO_DATABASE = 'guardia_demo';

/** The same backup without a lab: this machine is the host, its PostgreSQL the database, an S3 server beside it the bucket. */
export async function onThisMachine(options: DemoOptions): Promise<Place> {
  await ensureVerifyTools();
  const at = mkdtempSync(path.join(tmpdir(), 'guardia-demo-place-'));
  const ends: (() => Promise<unknown> | void)[] = [() => rmSync(at, { recursive: true, force: true })];
  const down = async (): Promise<void> => {
    for (const end of ends.reverse()) await end();
    ends.length = 0;
  };
  try {
    const login = options.database === undefined ? await findServer() : loginOf(options.database);
    const version = Number(
      (
        await login.sql(
          options.database === undefined ? 'postgres' : databaseOf(options.database),
          'show server_version_num',
        )
      )
        .trim()
        .slice(0, -4),
    );
    let database: string;
    if (options.database === undefined) {
      database = DEMO_DATABASE;
      say(
        `making the database ${database} (${options.megabytes} MB) on the PostgreSQL ${version} of this machine; it is dropped at the end`,
      );
      ends.push(() => login.sql('postgres', `drop database if exists ${DEMO_DATABASE}`));
      await login.sql('postgres', `drop database if exists ${DEMO_DATABASE}`);
      await login.sql('postgres', `create database ${DEMO_DATABASE}`);
      await login.sql(DEMO_DATABASE, sampleData(options.megabytes));
    } else database = databaseOf(options.database);
    const s3 = await startS3(path.join(at, 's3'));
    ends.push(s3.stop);

    const secrets = path.join(at, 'secrets');
    mkdirSync(secrets, { mode: 0o700 });
    const secret = (name: string, value: string): string => {
      writeFileSync(path.join(secrets, name), value, { mode: 0o600 });
      return `file:${name}`;
    };
    const key = {
      accessKeyId: secret('s3.id', s3.accessKeyId),
      secretAccessKey: secret('s3.secret', s3.secretAccessKey),
    };
    const recipients: string[] = [];
    for (const name of ['operations', 'escrow']) {
      const text = (await execa('age-keygen', [])).stdout;
      secret(`age-${name}`, `${text}\n`);
      recipients.push(/public key: (age1\S+)/.exec(text)?.[1] ?? '');
    }
    for (const [name, value] of Object.entries(login.secrets)) secret(name, value);
    const configuration = path.join(at, 'proofpass');
    mkdirSync(configuration);
    writeFileSync(path.join(configuration, '.env'), 'NODE_ENV=production\nAPI_PORT=4000\n', { mode: 0o600 });

    const shipped = parse(
      readFileSync(fileURLToPath(new URL('../../infra/systems/proofpass.yaml', import.meta.url)), 'utf8'),
    ) as Record<string, Record<string, unknown>>;
    const system = {
      ...shipped,
      hosts: {
        app: {
          description: 'this machine',
          connection: 'local',
          become: 'none',
          stateDirectory: path.join(at, 'host'),
        },
      },
      databases: {
        main: { engine: 'postgresql', on: 'app', name: database, version, port: login.port, access: login.access },
      },
      objectStore: {
        provider: 'versitygw',
        endpoint: s3.endpoint,
        bucket: s3.bucket,
        keys: { worker: key, hosts: { app: key } },
      },
      backup: {
        ...shipped['backup'],
        recipients,
        identity: 'file:age-operations',
        configuration: { app: { on: 'app', paths: [configuration], optional: ['/etc/nginx'] } },
      },
    };
    const systems = path.join(at, 'systems');
    mkdirSync(systems);
    writeFileSync(path.join(systems, 'proofpass.yaml'), stringify(system, { lineWidth: 0 }));
    return {
      environment: { GUARDIA_SYSTEMS: systems, GUARDIA_SECRETS: secrets, GUARDIA_OVERLAY: '' },
      links: [`host:    this machine`, `bucket:  ${s3.endpoint}/${s3.bucket}`],
      down,
    };
  } catch (error) {
    await down();
    throw error;
  }
}

async function ensureVerifyTools(): Promise<void> {
  if (process.getuid?.() === 0) return ensurePackages('worker');
  const missing: string[] = [];
  for (const tool of ['zstd', 'age', 'openssl', 'curl', 'psql'])
    if ((await execa('sh', ['-c', `command -v ${tool}`], { reject: false })).exitCode !== 0) missing.push(tool);
  if (missing.length > 0)
    throw new ToolboxError(
      `not installed on this machine: ${missing.join(', ')}. Run: sudo apt-get install ${packages.worker.join(' ')}`,
    );
}

/** A server of this machine that lets the current user make a database: by its socket, as root also as `postgres`. */
async function findServer(): Promise<Login> {
  const users = [userInfo().username, ...(process.getuid?.() === 0 ? ['postgres'] : [])];
  for (const osUser of users) {
    const login: Login = {
      access: { kind: 'peer', osUser },
      port: 5432,
      secrets: {},
      sql: (database, text) => psql(osUser, ['-d', database], text),
    };
    try {
      if (
        (
          await login.sql('postgres', 'select rolcreatedb or rolsuper from pg_roles where rolname = current_user')
        ).trim() === 't'
      )
        return login;
    } catch {
      // not this user
    }
  }
  throw new ToolboxError(
    `no lab can run here, and no PostgreSQL of this machine lets ${users.join(' or ')} make a database. Run it as root on Linux for the lab, or say which database to back up: npm run demo -- --database postgresql://USER:PASSWORD@HOST:PORT/NAME`,
  );
}

function loginOf(url: string): Login {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new ToolboxError('--database takes postgresql://USER:PASSWORD@HOST:PORT/NAME');
  }
  if (!/^postgres(ql)?:$/.test(parsed.protocol) || parsed.username === '' || parsed.pathname.length < 2)
    throw new ToolboxError('--database takes postgresql://USER:PASSWORD@HOST:PORT/NAME');
  const user = decodeURIComponent(parsed.username);
  const password = decodeURIComponent(parsed.password);
  const port = Number(parsed.port || 5432);
  return {
    access: { kind: 'password', address: parsed.hostname, user, password: 'file:database-password' },
    port,
    secrets: { 'database-password': password },
    sql: (database, text) =>
      psql(undefined, ['-h', parsed.hostname, '-p', String(port), '-U', user, '-d', database], text, {
        PGPASSWORD: password,
      }),
  };
}

const databaseOf = (url: string): string => decodeURIComponent(new URL(url).pathname.slice(1));

async function psql(
  osUser: string | undefined,
  args: string[],
  text: string,
  env: Record<string, string> = {},
): Promise<string> {
  const argv = ['psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', ...args];
  const change = osUser !== undefined && osUser !== userInfo().username;
  const [file, ...rest] = change ? ['runuser', '-u', osUser, '--', ...argv] : argv;
  const result = await execa(file ?? 'psql', rest, { input: text, env, reject: false, cwd: '/' });
  if (result.exitCode !== 0) throw new ToolboxError(`PostgreSQL refuses: ${result.stderr.trim().split('\n')[0] ?? ''}`);
  return result.stdout;
}

/** Tables that look like an application's; about 3,500 rows a megabyte. */
function sampleData(megabytes: number): string {
  return `create table users (id bigint primary key, email text not null, name text not null, created_at timestamptz not null);
insert into users select n, 'user' || n || '@example.org', 'User ' || n, now() - n * interval '1 minute' from generate_series(1, ${megabytes * 100}) n;
create table attestations (id bigint primary key, user_id bigint references users, payload jsonb not null, signature bytea not null, created_at timestamptz not null);
insert into attestations select n, 1 + n % ${megabytes * 100}, jsonb_build_object('type', 'attestation', 'subject', md5(n::text), 'claims', jsonb_build_array(md5((n + 1)::text), n, n % 7)), decode(md5((n * 7)::text) || md5((n * 11)::text), 'hex'), now() - n * interval '1 second' from generate_series(1, ${megabytes * 3000}) n;
analyze;`;
}

async function startS3(directory: string): Promise<{
  endpoint: string;
  bucket: string;
  accessKeyId: string;
  secretAccessKey: string;
  stop: () => Promise<void>;
}> {
  const program = await ensureTool('versitygw');
  for (const name of ['data', 'versions', 'iam'])
    mkdirSync(path.join(directory, name), { recursive: true, mode: 0o700 });
  const [accessKeyId, secretAccessKey] = [randomBytes(8).toString('hex'), randomBytes(20).toString('hex')];
  const port = await freePort();
  const child = spawn(
    ...endsWithParent(program, [
      '--quiet',
      '--port',
      `127.0.0.1:${port}`,
      '--iam-dir',
      path.join(directory, 'iam'),
      'posix',
      '--versioning-dir',
      path.join(directory, 'versions'),
      path.join(directory, 'data'),
    ]),
    {
      env: {
        ...process.env,
        ROOT_ACCESS_KEY: accessKeyId,
        ROOT_SECRET_KEY: secretAccessKey,
        ROOT_ACCESS_KEY_ID: accessKeyId,
        ROOT_SECRET_ACCESS_KEY: secretAccessKey,
      },
      detached: true,
      stdio: 'ignore',
    },
  );
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  process.once('exit', () => child.kill('SIGTERM'));
  const endpoint = `http://127.0.0.1:${port}`;
  const bucket = openBucket(
    { provider: 'versitygw', endpoint, region: 'us-east-1', bucket: 'guardia-demo' },
    { accessKeyId, secretAccessKey },
  );
  const stop = async (): Promise<void> => {
    bucket.close();
    child.kill('SIGTERM');
    await ended;
  };
  for (const until = Date.now() + 20_000; ; await delay(100)) {
    try {
      await bucket.client.send(new CreateBucketCommand({ Bucket: bucket.bucket, ObjectLockEnabledForBucket: true }));
      return { endpoint, bucket: bucket.bucket, accessKeyId, secretAccessKey, stop };
    } catch (error) {
      if (Date.now() < until) continue;
      await stop();
      throw new ToolboxError(`the S3 server does not answer: ${(error as Error).message}`);
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address ? resolve(address.port) : reject(new Error('no free port')),
      );
    });
  });
}
