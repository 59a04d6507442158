import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  configuredTarget,
  connectClient,
  connectWorker,
  explainTemporalError,
  findTarget,
  TemporalConnectionError,
} from '../../../activities/temporal/connection.js';
import { devServerDirectory, runningDevServer, stateDirectory } from '../../../activities/temporal/dev-server-state.js';
import { identify, isRunning } from '../../../activities/temporal/process-identity.js';
import { startDevServer, type DevServer } from '../../../infra/temporal/dev-server.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const home = mkdtempSync(path.join(tmpdir(), 'guardia-connection-'));
/** An environment without the developer's own files. */
const clean = { HOME: home, XDG_CONFIG_HOME: path.join(home, 'config') };

const profiles = path.join(home, 'profiles.toml');
writeFileSync(
  profiles,
  `[profile.default]
address = "default.example:7233"
[profile.prod]
address = "prod.example:7233"
namespace = "ops"
api_key = "k-1234"
[profile.nowhere]
namespace = "ops"
`,
);

afterAll(() => rmSync(home, { recursive: true, force: true }));

describe('which Temporal', () => {
  test('none is configured: localhost', () => {
    expect(configuredTarget(clean)).toBeUndefined();
    expect(findTarget(clean)).toMatchObject({
      address: 'localhost:7233',
      namespace: 'default',
      source: 'default address',
    });
  });

  test('TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE', () => {
    const env = { ...clean, TEMPORAL_ADDRESS: 'a.example:7233', TEMPORAL_NAMESPACE: 'ops' };
    expect(findTarget(env)).toEqual({
      address: 'a.example:7233',
      namespace: 'ops',
      source: 'TEMPORAL_ADDRESS',
      connection: { address: 'a.example:7233' },
    });
  });

  test('the default profile, a named one with an API key over TLS, and variables over profiles', () => {
    const file = { ...clean, TEMPORAL_CONFIG_FILE: profiles };
    expect(findTarget(file)).toMatchObject({ address: 'default.example:7233', source: 'profile "default"' });
    expect(findTarget({ ...file, TEMPORAL_PROFILE: 'prod' })).toMatchObject({
      address: 'prod.example:7233',
      namespace: 'ops',
      source: 'profile "prod"',
      connection: { apiKey: 'k-1234', tls: true },
    });
    expect(findTarget({ ...file, TEMPORAL_PROFILE: 'prod', TEMPORAL_NAMESPACE: 'other' })).toMatchObject({
      namespace: 'other',
    });
    expect(findTarget({ ...file, TEMPORAL_ADDRESS: 'b.example:7233' })).toMatchObject({
      address: 'b.example:7233',
      source: 'TEMPORAL_ADDRESS',
    });
  });

  test.each([
    [
      { TEMPORAL_CONFIG_FILE: '/nonexistent/t.toml' },
      /TEMPORAL_CONFIG_FILE names \/nonexistent\/t\.toml, which does not exist/,
    ],
    [
      { TEMPORAL_CONFIG_FILE: profiles, TEMPORAL_PROFILE: 'prd' },
      /'prd' not found.*Profiles there: default, prod, nowhere/,
    ],
    [{ TEMPORAL_CONFIG_FILE: profiles, TEMPORAL_PROFILE: 'nowhere' }, /profile "nowhere" names no address/],
    [{ TEMPORAL_ADDRESS: 'a:1', TEMPORAL_TLS_CLIENT_CERT_PATH: '/nonexistent.pem' }, /\/nonexistent\.pem/],
  ])('%j is a readable error', (env, message) => {
    expect(() => findTarget({ ...clean, ...env })).toThrow(TemporalConnectionError);
    expect(() => findTarget({ ...clean, ...env })).toThrow(message);
  });

  test('a profile file that is not TOML is named', () => {
    const broken = path.join(home, 'broken.toml');
    writeFileSync(broken, '[profile.default\naddress=');
    expect(() => findTarget({ ...clean, TEMPORAL_CONFIG_FILE: broken })).toThrow(/broken\.toml/);
  });
});

describe('Temporal that cannot be reached', () => {
  const connecting = [
    ['client', connectClient],
    ['worker', connectWorker],
  ] as const;

  test.each(connecting)('%s: nobody listens: told at once, with the address and what to do', async (_, connect) => {
    const started = Date.now();
    const error = await connect({ env: { ...clean, TEMPORAL_ADDRESS: '127.0.0.1:1' } }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(TemporalConnectionError);
    expect((error as Error).message).toBe(
      'cannot reach Temporal at 127.0.0.1:1 (from TEMPORAL_ADDRESS): connection refused, nothing listens there; ' +
        'start one with `guardia dev`, or set TEMPORAL_ADDRESS or a profile (TEMPORAL_PROFILE)',
    );
    expect(Date.now() - started).toBeLessThan(9000);
  });

  test.each(connecting)('%s: an address that is none', async (_, connect) => {
    const target = { ...findTarget(clean), address: 'no such:address:x', connection: { address: 'no such:address:x' } };
    await expect(connect({ target, env: clean })).rejects.toThrow(/cannot reach Temporal at no such:address:x/);
  });

  test('the API key stands in no message', async () => {
    const env = { ...clean, TEMPORAL_ADDRESS: '127.0.0.1:1', TEMPORAL_API_KEY: 'k-5678' };
    for (const [, connect] of connecting) await expect(connect({ env })).rejects.not.toThrow(/k-5678/);
  });

  describe('something else listens', () => {
    let server: Server;
    let address: string;
    beforeAll(async () => {
      server = createServer((socket) =>
        socket.on('error', () => undefined).on('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
      );
      await once(server.listen(0, '127.0.0.1'), 'listening');
      address = `127.0.0.1:${(server.address() as { port: number }).port}`;
    });
    afterAll(() => void server.close());

    test.each(connecting)(
      '%s: says so, and points at TLS',
      async (_, connect) => {
        await expect(connect({ env: { ...clean, TEMPORAL_ADDRESS: address } })).rejects.toThrow(
          /does not answer as Temporal without TLS/,
        );
      },
      120_000,
    );
  });

  test('refusals and missing namespaces have remedies of their own', () => {
    const target = findTarget(clean);
    const grpc = (code: number, details: string) => Object.assign(new Error('x'), { code, details });
    expect(explainTemporalError(grpc(16, 'bad key'), target).message).toMatch(
      /refuses us in namespace default: bad key\. Check the API key/,
    );
    expect(explainTemporalError(grpc(7, 'no'), target).message).toMatch(/refuses us/);
    expect(
      explainTemporalError(new Error('outer', { cause: grpc(5, 'Namespace x is not found') }), target).message,
    ).toMatch(/has no namespace default.*TEMPORAL_NAMESPACE/);
  });
});

describe('with `guardia dev`', () => {
  const env = { ...clean, GUARDIA_STATE: path.join(home, 'state') };
  let server: DevServer;
  beforeAll(async () => {
    server = await startDevServer({ directory: devServerDirectory(env), port: 0, uiPort: 0 });
  }, 600_000);
  afterAll(() => server.stop());

  test('it is found by its state file, and both connect', async () => {
    expect(findTarget(env)).toEqual({
      address: server.address,
      namespace: 'default',
      source: 'guardia dev',
      connection: { address: server.address },
    });
    const client = await connectClient({ env });
    expect((await client.client.workflow.count()).count).toBe(0);
    await client.connection.close();
    const worker = await connectWorker({ env });
    await worker.connection.close();
  });

  test('what is configured wins over it', () => {
    expect(findTarget({ ...env, TEMPORAL_ADDRESS: '127.0.0.1:1' }).source).toBe('TEMPORAL_ADDRESS');
  });

  test('a namespace that is not there has a name in the error', async () => {
    const { client, connection, target } = await connectClient({ env: { ...env, TEMPORAL_NAMESPACE: 'nope' } });
    const error = await client.workflow.count().catch((reason: unknown) => reason);
    expect(explainTemporalError(error, target).message).toMatch(/has no namespace nope/);
    await connection.close();
  });
});

describe('the state of `guardia dev`', () => {
  test('where it is kept', () => {
    expect(stateDirectory({ HOME: '/h' })).toBe('/h/.local/state/guardia');
    expect(stateDirectory({ HOME: '/h', XDG_STATE_HOME: '/x' })).toBe('/x/guardia');
    expect(stateDirectory({ HOME: '/h', XDG_STATE_HOME: '/x', GUARDIA_STATE: '/g' })).toBe('/g');
  });

  const stateWith = (text: string) => {
    const env = { ...clean, GUARDIA_STATE: mkdtempSync(path.join(home, 'state-')) };
    mkdirSync(devServerDirectory(env), { recursive: true });
    writeFileSync(path.join(devServerDirectory(env), 'server.json'), text);
    return env;
  };
  const state = (change: object) =>
    JSON.stringify({
      address: 'x:1',
      namespace: 'default',
      uiUrl: 'http://x',
      supervisor: identify(process.pid),
      ready: true,
      ...change,
    });

  test('one that lives is found, one that is starting, gone or replaced by another process is not', () => {
    expect(runningDevServer(stateWith(state({})))?.address).toBe('x:1');
    expect(runningDevServer(stateWith(state({ ready: false })))).toBeUndefined();
    expect(
      runningDevServer(stateWith(state({ supervisor: { pid: process.pid, startTime: 'earlier' } }))),
    ).toBeUndefined();
    expect(runningDevServer(stateWith(state({ server: { pid: process.pid, startTime: 'earlier' } })))).toBeUndefined();
    expect(runningDevServer(stateWith('{ half a fi'))).toBeUndefined();
    expect(runningDevServer(stateWith('{}'))).toBeUndefined();
  });

  test('a process is known by its number and its start', async () => {
    const child = spawn('sleep', ['60']);
    const identity = identify(child.pid ?? 0);
    if (identity === undefined) throw new Error('a living process has no identity');
    expect(isRunning(identity)).toBe(true);
    expect(isRunning({ ...identity, startTime: 'earlier' })).toBe(false);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(isRunning(identity)).toBe(false);
    expect(identify(2 ** 30)).toBeUndefined();
  });
});
