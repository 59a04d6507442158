import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Connection } from '@temporalio/client';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectClient } from '../../../activities/temporal/connection.js';
import { readDevServerState } from '../../../activities/temporal/dev-server-state.js';
import { identify, isRunning } from '../../../activities/temporal/process-identity.js';
import {
  DevServerError,
  startDevServer,
  stopLeftovers,
  stopProcess,
  type DevServer,
} from '../../../infra/temporal/dev-server.js';
import { prepareNamespace } from '../../../infra/temporal/namespace.js';
import { compiled, findServerExecutable, type ServerExecutable } from '../../../infra/temporal/server-executable.js';
import { GuardiaHosts, GuardiaSystem, searchAttributes } from '../../../workflows/contracts/search-attributes.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const home = mkdtempSync(path.join(tmpdir(), 'guardia-dev-server-'));
const directory = () => mkdtempSync(path.join(home, 'd-'));
let executable: ServerExecutable;

beforeAll(async () => {
  executable = await findServerExecutable();
}, 900_000);
afterAll(() => rmSync(home, { recursive: true, force: true }));

const start = (at: string, ports: { port?: number; uiPort?: number } = { port: 0, uiPort: 0 }) =>
  startDevServer({ directory: at, ...ports, executable });

async function withConnection<T>(server: DevServer, work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: server.address });
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
}

async function listen(): Promise<{ port: number; close: () => void }> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return { port: address.port, close: () => void listener.close() };
}

describe('a development server', () => {
  const at = directory();
  let server: DevServer;
  beforeAll(async () => {
    server = await start(at);
  });
  afterAll(() => server.stop());

  test('answers, takes runs that carry our search attributes at once, and finds them by these', async () => {
    await withConnection(server, async (connection) => {
      const { operatorService } = connection;
      const { customAttributes } = await operatorService.listSearchAttributes({ namespace: server.namespace });
      expect(Object.keys(customAttributes).sort()).toEqual(searchAttributes.map(({ name }) => name).sort());
    });
    const target = {
      address: server.address,
      namespace: server.namespace,
      source: 'test',
      connection: { address: server.address },
    };
    const { client, connection } = await connectClient({ target });
    await client.workflow.start('nobody-runs-this', {
      taskQueue: 'nobody',
      workflowId: 'found',
      typedSearchAttributes: [
        { key: GuardiaSystem, value: 'proofpass' },
        { key: GuardiaHosts, value: ['app1', 'db1'] },
      ],
    });
    const found = async (query: string) => {
      const ids: string[] = [];
      for await (const run of client.workflow.list({ query })) ids.push(run.workflowId);
      return ids;
    };
    for (let attempt = 0; attempt < 50 && (await found(`GuardiaSystem = 'proofpass'`)).length === 0; attempt++)
      await pause(100);
    expect(await found(`GuardiaSystem = 'proofpass' AND GuardiaHosts = 'db1'`)).toEqual(['found']);
    expect(await found(`GuardiaHosts = 'db2'`)).toEqual([]);
    await connection.close();
  });

  test('keeps closed runs for ten years', async () => {
    const { config } = await withConnection(server, ({ workflowService }) =>
      workflowService.describeNamespace({ namespace: server.namespace }),
    );
    expect(Number(config?.workflowExecutionRetentionTtl?.seconds)).toBe(3650 * 86_400);
  });

  test('serves the Web UI, on this machine only', async () => {
    const page = await fetch(server.uiUrl);
    expect(page.status).toBe(200);
    expect(await page.text()).toMatch(/<html/i);
    expect(new URL(server.uiUrl).hostname).toBe('127.0.0.1');
    expect(listeningAddresses(server.pid)).toEqual(['127.0.0.1']);
  });

  test('says where it is in its state file, for the owner only', () => {
    const state = readDevServerState(at);
    expect(state).toEqual({
      address: server.address,
      namespace: 'default',
      uiUrl: server.uiUrl,
      supervisor: identify(process.pid),
      server: identify(server.pid),
      ready: true,
    });
    expect(statSync(path.join(at, 'server.json')).mode & 0o077).toBe(0);
    const worker = identify(process.ppid);
    server.setWorker(worker);
    expect(readDevServerState(at)?.worker).toEqual(worker);
    server.setWorker(undefined);
    expect(readDevServerState(at)).toEqual(state);
  });

  test('a second one in the same directory is refused, with who runs and where; the first goes on', async () => {
    await expect(start(at)).rejects.toThrow(
      `runs already in ${at}: process ${process.pid}, Temporal at ${server.address}, Web UI at ${server.uiUrl}`,
    );
    await stopLeftovers(at);
    expect(readDevServerState(at)?.ready).toBe(true);
    expect(isRunning(identify(server.pid) ?? { pid: 0, startTime: '' })).toBe(true);
  });

  test('a search attribute of our name with another type is refused', async () => {
    await withConnection(server, async (connection) => {
      await connection.workflowService.registerNamespace({
        namespace: 'other',
        workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
      });
      await retry(() =>
        connection.operatorService.addSearchAttributes({ namespace: 'other', searchAttributes: { GuardiaSystem: 4 } }),
      );
      await retry(async () => {
        const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'other' });
        if (Object.keys(customAttributes).length === 0) throw new Error('not yet');
      });
      await expect(prepareNamespace(connection, 'other')).rejects.toThrow(
        /namespace other .*GuardiaSystem should be KEYWORD/,
      );
    });
  });
});

describe('what is kept and what is not', () => {
  test('runs are there after a stop and a start, and after a kill; attributes that an older version lacked are added', async () => {
    const at = directory();
    const first = await start(at);
    const { name } = GuardiaSystem;
    await withConnection(first, async (connection) => {
      await connection.workflowService.startWorkflowExecution({
        namespace: 'default',
        workflowId: 'kept',
        requestId: 'kept',
        workflowType: { name: 'nobody-runs-this' },
        taskQueue: { name: 'nobody' },
      });
      await connection.operatorService.removeSearchAttributes({ namespace: 'default', searchAttributes: [name] });
    });
    await first.stop();

    const second = await start(at);
    await withConnection(second, async (connection) => {
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'default' });
      expect(customAttributes).toHaveProperty(name);
      await connection.workflowService.describeWorkflowExecution({
        namespace: 'default',
        execution: { workflowId: 'kept' },
      });
      expect(await prepareNamespace(connection, 'default', { retentionDays: 1 })).toEqual({
        added: [],
        retentionDays: 3650,
      });
    });
    process.kill(second.pid, 'SIGKILL');
    await second.ended;

    const third = await start(at);
    await withConnection(third, ({ workflowService }) =>
      workflowService.describeWorkflowExecution({ namespace: 'default', execution: { workflowId: 'kept' } }),
    );
    await third.stop();
  });

  test('a stop leaves the database and the log, no process, no state, no lock; a second stop is nothing', async () => {
    const at = directory();
    const server = await start(at);
    const identity = identify(server.pid);
    await server.stop();
    await server.stop();
    expect(identity !== undefined && isRunning(identity)).toBe(false);
    expect(
      readdirSync(at)
        .sort()
        .filter((name) => !name.startsWith('temporal.db')),
    ).toEqual(['server.log']);
    expect(existsSync(path.join(at, 'temporal.db'))).toBe(true);
  });

  test('a server that dies by itself is noticed, and its directory is free again', async () => {
    const at = directory();
    const server = await start(at);
    process.kill(server.pid, 'SIGKILL');
    await server.ended;
    await pause(0);
    expect(readDevServerState(at)).toBeUndefined();
    const next = await start(at);
    await next.stop();
  });
});

describe('ports', () => {
  test('one that is taken is refused, with the remedy, and nothing is left', async () => {
    const taken = await listen();
    const at = directory();
    await expect(start(at, { port: taken.port, uiPort: 0 })).rejects.toThrow(
      new RegExp(
        `port ${taken.port} on 127\\.0\\.0\\.1 is in use.*--port .*TEMPORAL_ADDRESS=127\\.0\\.0\\.1:${taken.port}`,
      ),
    );
    await expect(start(at, { port: 0, uiPort: taken.port })).rejects.toThrow(/--ui-port/);
    await expect(start(at, { port: 0, uiPort: taken.port })).rejects.toBeInstanceOf(DevServerError);
    expect(readdirSync(at)).toEqual([]);
    taken.close();
  });

  test('the one that was asked for is used', async () => {
    const free = await listen();
    free.close();
    const server = await start(directory(), { port: free.port, uiPort: 0 });
    expect(server.address).toBe(`127.0.0.1:${free.port}`);
    await server.stop();
  });

  test('four at once have eight different ones', async () => {
    const servers = await Promise.all(Array.from({ length: 4 }, () => start(directory())));
    expect(new Set(servers.flatMap(({ address, uiUrl }) => [address, new URL(uiUrl).host])).size).toBe(8);
    await Promise.all(servers.map((server) => server.stop()));
  }, 120_000);
});

describe('a server that does not come up', () => {
  test('the error holds the end of its log, and nothing is left', async () => {
    const at = directory();
    const broken = { path: '/bin/ls', serverVersion: '1.29.1', source: 'test' };
    const error = await startDevServer({ directory: at, port: 0, uiPort: 0, executable: broken }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(DevServerError);
    expect((error as Error).message).toMatch(/ended while starting; the end of .*server\.log:\n {2}.*ls:/);
    expect(readdirSync(at)).toEqual(['server.log']);
  });

  test('an executable that cannot be started', async () => {
    const absent = { path: '/nonexistent/temporal', serverVersion: '1.29.1', source: 'test' };
    await expect(startDevServer({ directory: directory(), port: 0, uiPort: 0, executable: absent })).rejects.toThrow(
      /\/nonexistent\/temporal could not be started/,
    );
  });
});

describe('a supervisor that was killed', () => {
  test('takes its server along', async () => {
    const at = directory();
    const supervisor = await startElsewhere(at);
    const left = readDevServerState(at)?.server;
    if (left === undefined) throw new Error('no state');
    supervisor.kill('SIGKILL');
    for (let attempt = 0; attempt < 200 && isRunning(left); attempt++) await pause(100);
    expect(isRunning(left)).toBe(false);
  });

  test('a server that does not end with it is found and stopped by the next start, which goes on with the same data', async () => {
    const at = directory();
    const supervisor = await startElsewhere(at);
    const left = readDevServerState(at)?.server;
    if (left === undefined) throw new Error('no state');
    // Stopped in its tracks, it cannot heed that its parent has ended.
    process.kill(left.pid, 'SIGSTOP');
    supervisor.kill('SIGKILL');
    await once(supervisor, 'exit');
    expect(isRunning(left)).toBe(true);

    const lines: string[] = [];
    const server = await startDevServer({
      directory: at,
      port: 0,
      uiPort: 0,
      executable,
      log: (line) => {
        lines.push(line);
        if (isRunning(left)) process.kill(left.pid, 'SIGCONT');
      },
    });
    expect(isRunning(left)).toBe(false);
    expect(lines).toEqual([`stopping the server (process ${left.pid}) that an earlier \`guardia dev\` left behind`]);
    await server.stop();
  });

  test('a supervisor that ends without stopping it takes its server along', async () => {
    const at = directory();
    const supervisor = await startElsewhere(at);
    const left = readDevServerState(at)?.server;
    if (left === undefined) throw new Error('no state');
    supervisor.stdin?.write('end\n');
    await once(supervisor, 'exit');
    for (let attempt = 0; attempt < 100 && isRunning(left); attempt++) await pause(100);
    expect(isRunning(left)).toBe(false);
  });

  test('a process that got the number of an old one is left alone', async () => {
    const child = spawn('sleep', ['60']);
    const identity = identify(child.pid ?? 0);
    if (identity === undefined) throw new Error('a living process has no identity');
    await stopProcess({ ...identity, startTime: 'earlier' }, 1);
    expect(isRunning(identity)).toBe(true);
    await stopProcess(identity, 5);
    expect(isRunning(identity)).toBe(false);
  });

  test('one that ignores SIGTERM is killed', async () => {
    const child = spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 1; done'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout, 'data');
    const identity = identify(child.pid ?? 0);
    if (identity === undefined) throw new Error('a living process has no identity');
    await stopProcess(identity, 0.3);
    expect(isRunning(identity)).toBe(false);
  });
});

/** A supervisor in another process; ends, without stopping its server, when it is told something. */
async function startElsewhere(at: string): Promise<ChildProcess> {
  const script = `const { startDevServer } = await import(${JSON.stringify(compiled('infra/temporal/dev-server.js'))});
    await startDevServer(${JSON.stringify({ directory: at, port: 0, uiPort: 0, executable })});
    console.log('up');
    process.stdin.once('data', () => process.exit(0));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  expect(String((await once(child.stdout, 'data'))[0])).toBe('up\n');
  return child;
}

/** The IPv4 and IPv6 addresses that a process listens on. */
function listeningAddresses(pid: number): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  const rows = ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, 'utf8').trim().split('\n').slice(1),
  );
  const addresses = rows
    .map((row) => row.trim().split(/\s+/))
    .filter((fields) => fields[3] === '0A' && inodes.has(fields[9] ?? ''))
    .map((fields) => (fields[1] ?? '').split(':')[0] ?? '')
    .map((hex) =>
      hex.length === 8
        ? (hex.match(/../g) ?? [])
            .reverse()
            .map((byte) => parseInt(byte, 16))
            .join('.')
        : hex,
    );
  return [...new Set(addresses)];
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

async function retry<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= 100) throw error;
      await pause(100);
    }
  }
}
