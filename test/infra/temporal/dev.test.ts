import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Connection } from '@temporalio/client';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectClient } from '../../../activities/temporal/connection.js';
import {
  devServerDirectory,
  runningDevServer,
  type DevServerState,
} from '../../../activities/temporal/dev-server-state.js';
import { isRunning, type ProcessIdentity } from '../../../activities/temporal/process-identity.js';
import { startDevServer, stopLeftovers, type DevServer } from '../../../infra/temporal/dev-server.js';
import { parseOptions } from '../../../infra/temporal/dev.js';
import { compiled } from '../../../infra/temporal/server-executable.js';
import { searchAttributes } from '../../../workflows/contracts/search-attributes.js';
import { WORKFLOW_TASK_QUEUE } from '../../../workflows/contracts/task-queues.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const home = mkdtempSync(path.join(tmpdir(), 'guardia-dev-'));
const children: ChildProcess[] = [];
const environments: NodeJS.ProcessEnv[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  for (const env of environments.splice(0)) await stopLeftovers(devServerDirectory(env));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Running {
  child: ChildProcess;
  env: NodeJS.ProcessEnv;
  output: () => string;
  exit: Promise<number | string>;
  says: (text: RegExp) => Promise<void>;
}

function dev(argv: string[], change: NodeJS.ProcessEnv = {}): Running {
  const env = {
    ...process.env,
    HOME: home,
    XDG_CONFIG_HOME: home,
    GUARDIA_STATE: mkdtempSync(path.join(home, 'state-')),
    ...change,
  };
  for (const name of Object.keys(env))
    if (name.startsWith('TEMPORAL_') && !(name in change)) delete (env as NodeJS.ProcessEnv)[name];
  const child = spawn(process.execPath, [compiled('infra/temporal/dev.js'), ...argv], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  environments.push(env);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  // Not `close`: a worker that outlives it keeps the output open.
  const exit = once(child, 'exit').then(async ([code, signal]) => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return (code ?? signal) as number | string;
  });
  return {
    child,
    env,
    output: () => output,
    exit,
    says: (text) =>
      until(
        () => text.test(output),
        () => `${text} in:\n${output}`,
      ),
  };
}

async function until(holds: () => boolean, what: () => string, seconds = 60): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; !holds();) {
    if (Date.now() > deadline) throw new Error(`in ${seconds} s there was no ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const free = ['--port', '0', '--ui-port', '0'];

function stateOf(running: Running): DevServerState {
  const state = runningDevServer(running.env);
  if (state === undefined) throw new Error(`no state; it said:\n${running.output()}`);
  return state;
}

function gone(process: ProcessIdentity | undefined): boolean {
  return process !== undefined && !isRunning(process);
}

const leftIn = (running: Running) =>
  readdirSync(devServerDirectory(running.env)).filter((name) => !name.startsWith('temporal.db'));

/** Whether somebody polls the queue of the workflows. */
async function workerPolls(running: Running): Promise<boolean> {
  const { connection } = await connectClient({ env: running.env });
  try {
    const { pollers } = await connection.workflowService.describeTaskQueue({
      namespace: 'default',
      taskQueue: { name: WORKFLOW_TASK_QUEUE },
      taskQueueType: 1,
    });
    return pollers.length > 0;
  } finally {
    await connection.close();
  }
}

describe('guardia dev', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'server and worker run until %s, which stops both and leaves nothing',
    async (signal) => {
      const running = dev(free);
      await running.says(/serving/);
      const state = stateOf(running);
      expect(running.output()).toContain(`Web UI: ${state.uiUrl}`);
      expect((await fetch(state.uiUrl)).status).toBe(200);
      for (let polls = false; !polls;) polls = await workerPolls(running);

      running.child.kill(signal);
      expect(await running.exit).toBe(0);
      expect([state.server, state.worker].map(gone)).toEqual([true, true]);
      expect(leftIn(running)).toEqual(['server.log']);
      // The worker is stopped before the server: it never saw its connection break.
      expect(running.output()).not.toMatch(/ERROR|Connection refused/i);
    },
    120_000,
  );

  test('a worker that dies is started again', async () => {
    const running = dev(free);
    await running.says(/serving/);
    const first = stateOf(running).worker;
    process.kill(first?.pid ?? 0, 'SIGKILL');
    await running.says(/the worker has ended \(SIGKILL\); starting it again in 1 s[\s\S]*serving/);
    const second = stateOf(running).worker;
    expect(second?.pid).not.toBe(first?.pid);
    expect(second !== undefined && isRunning(second)).toBe(true);
  });

  test('a server that dies ends it, with the worker', async () => {
    const running = dev(free);
    await running.says(/serving/);
    const { server, worker } = stateOf(running);
    process.kill(server?.pid ?? 0, 'SIGKILL');
    expect(await running.exit).toBe(1);
    expect(running.output()).toMatch(/the Temporal server has ended by itself; see .*server\.log/);
    expect(gone(worker)).toBe(true);
    expect(leftIn(running)).toEqual(['server.log']);
  }, 120_000);

  test('SIGKILL takes its server and its worker along, and the next one goes on in the same directory', async () => {
    const killed = dev(free);
    await killed.says(/serving/);
    const { server, worker } = stateOf(killed);
    killed.child.kill('SIGKILL');
    await killed.exit;
    expect(runningDevServer(killed.env)).toBeUndefined();
    for (let tries = 0; tries < 300 && ![server, worker].every(gone); tries++)
      await new Promise((resolve) => setTimeout(resolve, 100));
    expect([server, worker].map(gone)).toEqual([true, true]);

    const next = dev([...free, '--no-worker'], { GUARDIA_STATE: killed.env['GUARDIA_STATE'] });
    await next.says(/Ctrl-C stops/);
    expect(next.output()).not.toMatch(/left behind/);
  }, 120_000);

  test('a second one on the same state says who runs and where, and the first goes on', async () => {
    const first = dev([...free, '--no-worker']);
    await first.says(/Ctrl-C stops/);
    const second = dev([...free, '--no-worker'], { GUARDIA_STATE: first.env['GUARDIA_STATE'] });
    expect(await second.exit).toBe(1);
    const state = stateOf(first);
    expect(second.output()).toBe(
      `guardia: \`guardia dev\` runs already in ${devServerDirectory(first.env)}: process ${first.child.pid}, Temporal at ${state.address}, Web UI at ${state.uiUrl}. ` +
        'Use it, stop it, or set GUARDIA_STATE to another directory\n',
    );
  });

  test('a Ctrl-C that reaches it twice, from the terminal and from npm, is one', async () => {
    const running = dev([...free, '--no-worker']);
    await running.says(/Ctrl-C stops/);
    running.child.kill('SIGINT');
    running.child.kill('SIGINT');
    expect(await running.exit).toBe(0);
    expect(running.output()).not.toContain('by force');
  });

  test('interrupted while it starts, it leaves no process', async () => {
    const running = dev([...free, '--no-worker']);
    await until(
      () => readdirSync(running.env['GUARDIA_STATE'] ?? '').length > 0,
      () => 'directory',
    );
    running.child.kill('SIGINT');
    await running.exit;
    const next = dev([...free, '--no-worker'], { GUARDIA_STATE: running.env['GUARDIA_STATE'] });
    await next.says(/Ctrl-C stops/);
  });

  describe('with a Temporal that is configured', () => {
    let server: DevServer;
    beforeAll(async () => {
      server = await startDevServer({ directory: mkdtempSync(path.join(home, 'server-')), port: 0, uiPort: 0 });
    });
    afterAll(() => server.stop());

    test('uses it, registers what is missing there and says so; its end leaves it running', async () => {
      const connection = await Connection.connect({ address: server.address });
      const [first] = searchAttributes;
      await connection.operatorService.removeSearchAttributes({ namespace: 'default', searchAttributes: [first.name] });

      const running = dev([], { TEMPORAL_ADDRESS: server.address });
      await running.says(/serving/);
      expect(running.output()).toContain(
        `using Temporal at ${server.address}, namespace default (from TEMPORAL_ADDRESS)`,
      );
      expect(running.output()).toContain(`search attributes registered there: ${first.name}\n`);
      running.child.kill('SIGINT');
      expect(await running.exit).toBe(0);
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'default' });
      expect(customAttributes).toHaveProperty(first.name);
      await connection.close();
    });

    test('without a worker it prepares the namespace and ends', async () => {
      const running = dev(['--no-worker'], { TEMPORAL_ADDRESS: server.address });
      expect(await running.exit).toBe(0);
      expect(running.output()).toMatch(/nothing to keep running/);
    });

    test('that does not answer: one line, and no server of our own', async () => {
      const running = dev(free, { TEMPORAL_ADDRESS: '127.0.0.1:1' });
      expect(await running.exit).toBe(1);
      expect(running.output()).toMatch(
        /^guardia: cannot reach Temporal at 127\.0\.0\.1:1 \(from TEMPORAL_ADDRESS\): connection refused.*\n$/,
      );
      expect(readdirSync(running.env['GUARDIA_STATE'] ?? '')).toEqual([]);
    });
  });
});

describe('options', () => {
  test('have defaults', () => {
    expect(parseOptions([])).toEqual({ port: 7233, uiPort: 8233, worker: true });
    expect(parseOptions(['--port=0', '--ui-port', '1234', '--no-worker'])).toEqual({
      port: 0,
      uiPort: 1234,
      worker: false,
    });
    expect(parseOptions(['-h'])).toBe('help');
  });

  test('every wrong one is named at once', () => {
    expect(() => parseOptions(['--port', '70000', '--ui-port=x', '--prot', '1', 'up'])).toThrow(
      /unknown option --prot; .*unexpected argument "up"; --port takes a port from 0 to 65535, not "70000"; --ui-port takes .* not "x"/,
    );
  });

  test('a wrong command line ends with 2, as everywhere', async () => {
    const child = spawn(process.execPath, [compiled('infra/temporal/dev.js'), '--prot', '1'], { stdio: 'ignore' });
    expect((await once(child, 'exit'))[0]).toBe(2);
  });
});
