import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from '../object-store/versity-gateway.js';

export interface Cluster {
  port: number;
  /** Major version. */
  version: number;
  /** As the superuser. Returns what psql prints. */
  sql(text: string, database?: string): string;
  /** A session that stays open; `send` resolves when the server has answered with a row. */
  session(database: string): { send(text: string): Promise<void>; end(): Promise<void> };
  stop(): void;
  start(): void;
  remove(): void;
}

/** A PostgreSQL cluster of the newest installed version, made for one test file. Its socket lies where Debian's do. */
export async function startCluster(): Promise<Cluster> {
  const versions = readdirSync('/usr/lib/postgresql')
    .map(Number)
    .sort((a, b) => b - a);
  const version = versions[0];
  if (version === undefined) throw new Error('these tests need PostgreSQL: apt-get install postgresql');
  const bin = (name: string) => `/usr/lib/postgresql/${version}/bin/${name}`;
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-cluster-'));
  const [uid, gid] = ['-u', '-g'].map((flag) =>
    Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' })),
  ) as [number, number];
  chownSync(directory, uid, gid);
  // Where there is no systemd, nobody makes it anew after a restart of the machine.
  if (!existsSync('/var/run/postgresql')) {
    mkdirSync('/var/run/postgresql', { recursive: true });
    chownSync('/var/run/postgresql', uid, gid);
  }
  const as = (command: string, args: string[]) =>
    execFileSync(command, args, {
      uid,
      gid,
      cwd: directory,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], HOME: directory },
    });
  const data = path.join(directory, 'data');
  const port = await freePort();
  as(bin('initdb'), [
    '-D',
    data,
    '-E',
    'UTF8',
    '--locale=C.UTF-8',
    '--auth-local=peer',
    '--auth-host=scram-sha-256',
    '--no-sync',
  ]);
  appendFileSync(
    path.join(data, 'postgresql.conf'),
    `port = ${port}\nlisten_addresses = '127.0.0.1'\nfsync = off\nunix_socket_directories = '/var/run/postgresql'\n`,
  );
  const start = () => void as(bin('pg_ctl'), ['-D', data, '-l', path.join(directory, 'log'), '-w', 'start']);
  const stop = () => void as(bin('pg_ctl'), ['-D', data, '-m', 'immediate', '-w', 'stop']);
  start();
  return {
    port,
    version,
    sql: (text, database = 'postgres') =>
      as(bin('psql'), ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-p', String(port), '-d', database, '-c', text]).trim(),
    session(database) {
      const child = spawn(bin('psql'), ['-XAtq', '-p', String(port), '-d', database], {
        uid,
        gid,
        cwd: directory,
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      return {
        async send(text) {
          const answered = new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
          child.stdin.write(`${text}\n`);
          await answered;
        },
        async end() {
          const ended = new Promise((resolve) => child.once('exit', resolve));
          child.stdin.end();
          await ended;
        },
      };
    },
    start,
    stop,
    remove() {
      stop();
      rmSync(directory, { recursive: true });
    },
  };
}
