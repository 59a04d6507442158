import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { Client, Connection, WorkflowHandle } from '@temporalio/client';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectClient } from '../../activities/temporal/connection.js';
import { startDevServer, type DevServer } from '../../infra/temporal/dev-server.js';
import { compiled } from '../../infra/temporal/server-executable.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { stepsOf } from '../../workflows/contracts/plan.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { doctoredBundle } from './doctored-bundle.js';
import { attributesOf, replay, unnamed } from './run-history.js';
import { sixSteps } from './six-steps.js';
import { smallSystem } from './small-system.js';
import { until } from './scripted-runs.js';

const RUNS = 4;
const KILLS = 5;
jest.setTimeout(150_000);

const directory = mkdtempSync(path.join(tmpdir(), 'guardia-killed-'));
const systemsDirectory = path.join(directory, 'systems');
const effects = path.join(directory, 'effects');
let server: DevServer;
let client: Client;
let connection: Connection;
let child: ChildProcess | undefined;
let bundle: string;

beforeAll(async () => {
  Runtime.install({
    logger: new DefaultLogger('ERROR'),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
  });
  for (const each of [systemsDirectory, effects]) mkdirSync(each);
  // The real limit is too long for a test: the same code, with fewer seconds.
  bundle = doctoredBundle({ "HEARTBEAT_TIMEOUT = '15 seconds'": "HEARTBEAT_TIMEOUT = '3 seconds'" });
  server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
  ({ client, connection } = await connectClient({
    target: { ...server, source: 'test', connection: { address: server.address } },
  }));
}, 120_000);
afterAll(async () => {
  await kill();
  await connection.close();
  await server.stop({ force: true });
  rmSync(directory, { recursive: true, force: true });
});

async function startWorker(): Promise<void> {
  const { address, namespace } = server;
  const argument = JSON.stringify({ address, namespace, systemsDirectory, effects, bundle });
  child = spawn(process.execPath, [compiled('test/workflows/worker-process.js'), argument], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text));
  await until(() => said.includes('serving') || child?.exitCode !== null, 'the worker serves', 60);
  expect(said).toContain('serving');
}

async function kill(): Promise<void> {
  const victim = child;
  child = undefined;
  if (!victim || victim.exitCode !== null || victim.signalCode !== null) return;
  victim.kill('SIGKILL');
  await once(victim, 'exit');
}

const eventsOf = async (handles: WorkflowHandle[]): Promise<number> =>
  (await Promise.all(handles.map((handle) => handle.describe()))).reduce((sum, run) => sum + run.historyLength, 0);

test(`a worker killed ${KILLS} times, after any event of its runs: each run ends well, and nothing was done twice`, async () => {
  await startWorker();
  const handles: WorkflowHandle[] = [];
  for (let n = 0; n < RUNS; n++) {
    const system = `system-${n}`;
    writeFileSync(path.join(systemsDirectory, `${system}.yaml`), smallSystem(system));
    handles.push(
      await client.workflow.start('backup', {
        taskQueue: WORKFLOW_TASK_QUEUE,
        workflowId: `run-${n}`,
        args: [{ system }],
      }),
    );
  }

  // A run of this plan has at least this many events when nothing goes wrong.
  const about = 90 * RUNS;
  const moments = Array.from({ length: KILLS }, () => Math.floor(Math.random() * about)).sort((a, b) => a - b);
  for (const moment of moments) {
    await until(async () => (await eventsOf(handles)) >= moment, `event ${moment} of ${moments.join()}`, 60);
    await kill();
    await startWorker();
  }

  const steps = stepsOf(sixSteps('any')).map(({ step }) => step.id);
  for (const [n, handle] of handles.entries()) {
    const report = RunReport.parse(await handle.result());
    expect(report).toMatchObject({ end: 'succeeded', notes: [], remaining: [] });
    expect(report.steps.map(({ generation }) => generation)).toEqual(steps.map(() => 1));
    const left = readdirSync(effects).filter((name) => name.startsWith(`run-${n}.`) && !name.endsWith('.order'));
    expect(left.map((name) => name.split('.')[1]).sort()).toEqual([...steps].sort());
    expect(left.every((name) => name.endsWith('.g1'))).toBe(true);
    // What was tried again after a death was the step that the death had interrupted: first ends are in the order of the plan.
    const order = [
      ...new Set(
        readFileSync(path.join(effects, `run-${n}.order`), 'utf8')
          .trim()
          .split('\n'),
      ),
    ];
    expect(order.filter((id) => id !== 'three')).toEqual(['one', 'two', 'four', 'five', 'six']);
    expect(order.indexOf('three')).toBeGreaterThan(1);
    expect(order.indexOf('three')).toBeLessThan(5);

    const history = await handle.fetchHistory();
    expect(attributesOf(history, 'activityTaskCompletedEventAttributes')).toHaveLength(
      attributesOf(history, 'activityTaskScheduledEventAttributes').length,
    );
    expect(unnamed(history)).toEqual([]);
    expect(await replay([{ workflowId: handle.workflowId, history }])).toEqual([]);
  }
});
