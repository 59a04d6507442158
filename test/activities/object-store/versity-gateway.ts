import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CreateBucketCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { endsWithParent } from '../../../infra/temporal/parent-death.js';
import {
  type AccessKey,
  type Bucket,
  type BucketAddress,
  openBucket,
} from '../../../activities/object-store/object-store.js';

export const rootKey: AccessKey = { accessKeyId: 'gateway-root', secretAccessKey: 'gateway-root-secret' };
export const BUCKET = 'guardia-test';

/** The S3 server's program: GUARDIA_TOOL_VERSITYGW, or from PATH. */
function program(): string {
  const named = process.env['GUARDIA_TOOL_VERSITYGW'];
  if (named) return named;
  try {
    return execFileSync('sh', ['-c', 'command -v versitygw'], { encoding: 'utf8' }).trim();
  } catch {
    throw new Error('these tests need the S3 server versitygw: set GUARDIA_TOOL_VERSITYGW, or put it on PATH');
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export interface Gateway {
  address: BucketAddress;
  bucket: Bucket;
  /** A key that may write below `prefix` and do nothing else. */
  hostKey(name: string, prefix: string): Promise<AccessKey>;
  /** kill -9. */
  kill(): Promise<void>;
  /** With the same data on the same port. */
  start(): Promise<void>;
  remove(): Promise<void>;
}

/** A versitygw of its own with a versioned, locked bucket, on a free port of the loopback. */
export async function startGateway(): Promise<Gateway> {
  const binary = program();
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-gateway-'));
  const [data, versions, iam] = ['data', 'versions', 'iam'].map((name) => path.join(directory, name)) as [
    string,
    string,
    string,
  ];
  for (const each of [data, versions, iam]) await mkdir(each);
  const port = await freePort();
  const address: BucketAddress = {
    provider: 'versitygw',
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    bucket: BUCKET,
  };
  const bucket = openBucket(address, rootKey);
  const policies: object[] = [];
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    const args = [
      '--quiet',
      '--port',
      `127.0.0.1:${port}`,
      '--iam-dir',
      iam,
      'posix',
      '--versioning-dir',
      versions,
      data,
    ];
    child = spawn(...endsWithParent(binary, args), {
      stdio: 'ignore',
      env: { ROOT_ACCESS_KEY: rootKey.accessKeyId, ROOT_SECRET_KEY: rootKey.secretAccessKey },
    });
    for (let tries = 0; ; tries++) {
      const open = await new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => {
          socket.destroy();
          resolve(true);
        }).on('error', () => resolve(false));
      });
      if (open) return;
      if (tries > 100 || child.exitCode !== null) throw new Error(`${binary} did not start on port ${port}`);
      await delay(50);
    }
  }
  async function kill(): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child?.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  await start();
  await bucket.client.send(new CreateBucketCommand({ Bucket: BUCKET, ObjectLockEnabledForBucket: true }));
  return {
    address,
    bucket,
    start,
    kill,
    async hostKey(name, prefix) {
      const key = { accessKeyId: `host-${name}`, secretAccessKey: `secret-of-${name}-0123456789` };
      const admin = [
        'admin',
        '--access',
        rootKey.accessKeyId,
        '--secret',
        rootKey.secretAccessKey,
        '--endpoint-url',
        address.endpoint,
      ];
      execFileSync(
        binary,
        [...admin, 'create-user', '--access', key.accessKeyId, '--secret', key.secretAccessKey, '--role', 'user'],
        { stdio: 'pipe' },
      );
      policies.push({
        Effect: 'Allow',
        Principal: { AWS: [key.accessKeyId] },
        Action: ['s3:PutObject'],
        Resource: [`arn:aws:s3:::${BUCKET}/${prefix}*`],
      });
      await bucket.client.send(
        new PutBucketPolicyCommand({
          Bucket: BUCKET,
          Policy: JSON.stringify({ Version: '2012-10-17', Statement: policies }),
        }),
      );
      return key;
    },
    async remove() {
      bucket.close();
      await kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export interface FaultyRelay {
  address: BucketAddress;
  /** Holds back what clients send after this many more bytes, until `flow`. */
  stallAfter(bytes: number): void;
  /** Resolves once a connection is held back. */
  stalled(): Promise<void>;
  flow(): void;
  /** Cuts the next connections: each after this many bytes of the server's answer. */
  cutAnswersAfter(...bytes: number[]): void;
  /** Holds back the server's answers after this many more bytes, until `releaseAnswers`. */
  holdAnswersAfter(bytes: number): void;
  answersHeld(): Promise<void>;
  releaseAnswers(): void;
  /** Bytes of the server's answers that have passed. */
  answered(): number;
  close(): Promise<void>;
}

/** A TCP relay before a gateway that stalls or breaks connections on demand. Signatures hold, since clients sign its address. */
export async function startRelay(address: BucketAddress): Promise<FaultyRelay> {
  const target = Number(new URL(address.endpoint).port);
  const sockets = new Set<Socket>();
  const cuts: number[] = [];
  let allowance = Infinity;
  let answered = 0;
  let held: (() => void)[] = [];
  let onStall: (() => void)[] = [];
  let answerAllowance = Infinity;
  let heldAnswers: (() => void)[] = [];
  let onHeld: (() => void)[] = [];
  const server: Server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    sockets.add(client).add(upstream);
    const end = () => {
      client.destroy();
      upstream.destroy();
      sockets.delete(client);
      sockets.delete(upstream);
    };
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
    let room = cuts.shift() ?? Infinity;
    client.on('data', (chunk) => {
      allowance -= chunk.length;
      const pass = () => {
        if (!upstream.write(chunk)) {
          client.pause();
          upstream.once('drain', () => client.resume());
        }
      };
      if (allowance >= 0) return pass();
      client.pause();
      held.push(() => {
        client.resume();
        pass();
      });
      for (const tell of onStall.splice(0)) tell();
    });
    upstream.on('data', (chunk) => {
      answered += chunk.length;
      room -= chunk.length;
      if (room < 0) {
        // What is allowed still arrives, then the connection ends in mid-body
        client.write(chunk.subarray(0, chunk.length + room), end);
        return;
      }
      answerAllowance -= chunk.length;
      if (answerAllowance < 0) {
        upstream.pause();
        heldAnswers.push(() => {
          client.write(chunk);
          upstream.resume();
        });
        for (const tell of onHeld.splice(0)) tell();
        return;
      }
      if (!client.write(chunk)) {
        upstream.pause();
        client.once('drain', () => upstream.resume());
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    address: { ...address, endpoint: `http://127.0.0.1:${port}` },
    stallAfter(bytes) {
      allowance = bytes;
    },
    stalled: () => (held.length > 0 ? Promise.resolve() : new Promise((resolve) => onStall.push(resolve))),
    flow() {
      allowance = Infinity;
      for (const go of held.splice(0)) go();
    },
    cutAnswersAfter(...bytes) {
      cuts.push(...bytes);
    },
    holdAnswersAfter(bytes) {
      answerAllowance = bytes;
    },
    answersHeld: () => (heldAnswers.length > 0 ? Promise.resolve() : new Promise((resolve) => onHeld.push(resolve))),
    releaseAnswers() {
      answerAllowance = Infinity;
      for (const go of heldAnswers.splice(0)) go();
    },
    answered: () => answered,
    async close() {
      held = [];
      onStall = [];
      heldAnswers = [];
      onHeld = [];
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
