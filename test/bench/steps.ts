// What the interpreter of plans costs: steps that do nothing, through `apply` and as bare activities, in turn on the same server and worker.
import { DefaultLogger, NativeConnection, Runtime, Worker, bundleWorkflowCode } from '@temporalio/worker';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectClient } from '../../activities/temporal/connection.js';
import { say } from '../../infra/packaging/toolbox-cache.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { activityInterceptor } from '../../workers/activity-interceptor.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../../workflows/contracts/task-queues.js';
import { pairedRatio } from './statistics.js';
import type { bareActivities, stepsThroughApply } from './steps-workflows.js';

/** What a step through `apply` may cost at most, as a multiple of a bare activity. */
const LIMIT = 1.15;
const REPORT = fileURLToPath(new URL('../../../test/bench/steps.md', import.meta.url));

interface Round {
  apply: number;
  bare: number;
}

/** Runs both contenders once in each round, in changing order. Prints the ratio; writes the report. False when it is above the limit. */
export async function benchmarkSteps(options: { steps: number; rounds: number }): Promise<boolean> {
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-bench-steps-'));
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
  });
  const { code } = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('steps-workflows.js', import.meta.url)),
    logger: new DefaultLogger('ERROR'),
  });
  const server = await startDevServer({ directory: path.join(directory, 'server'), port: 0, uiPort: 0 });
  const { client, connection } = await connectClient({
    target: { ...server, source: 'bench', connection: { address: server.address } },
  });
  const native = await NativeConnection.connect({ address: server.address });
  const shared = { connection: native, namespace: server.namespace };
  const workers = await Promise.all([
    Worker.create({ ...shared, taskQueue: 'bench', workflowBundle: { code } }),
    Worker.create({
      ...shared,
      taskQueue: taskQueueOfSite(DEFAULT_SITE),
      activities: { writeManifest: () => Promise.resolve({}), withdrawManifest: () => Promise.resolve({}) },
      interceptors: { activity: [activityInterceptor((text) => text)] },
    }),
  ]);
  const running = workers.map((worker) => worker.run());
  let number = 0;
  const seconds = async (contender: 'stepsThroughApply' | 'bareActivities'): Promise<number> => {
    const from = process.hrtime.bigint();
    await client.workflow.execute<typeof stepsThroughApply | typeof bareActivities>(contender, {
      ...{ taskQueue: 'bench', workflowId: `${contender}-${number++}`, args: [options.steps] },
    });
    return Number(process.hrtime.bigint() - from) / 1e9;
  };
  const rounds: Round[] = [];
  try {
    // The first run of each pays for caches.
    await seconds('stepsThroughApply');
    await seconds('bareActivities');
    for (let round = 0; round < options.rounds; round++) {
      const first = round % 2 === 0;
      const one = await seconds(first ? 'stepsThroughApply' : 'bareActivities');
      const other = await seconds(first ? 'bareActivities' : 'stepsThroughApply');
      rounds.push(first ? { apply: one, bare: other } : { apply: other, bare: one });
      const { apply, bare } = rounds.at(-1) as Round;
      say(
        `round ${round + 1}: apply ${apply.toFixed(2)} s, bare ${bare.toFixed(2)} s, ratio ${(apply / bare).toFixed(3)}`,
      );
    }
  } finally {
    for (const worker of workers) worker.shutdown();
    await Promise.all(running);
    await native.close();
    await connection.close();
    await server.stop({ force: true });
    rmSync(directory, { recursive: true, force: true });
  }
  const ratio = pairedRatio(
    rounds.map(({ apply }) => apply),
    rounds.map(({ bare }) => bare),
  );
  const passed = ratio.median <= LIMIT;
  const text = report(options.steps, rounds, ratio.median, passed);
  process.stdout.write(`${text}\n`);
  writeFileSync(REPORT, text);
  return passed;
}

function report(steps: number, rounds: readonly Round[], ratio: number, passed: boolean): string {
  const lines = rounds.map(
    ({ apply, bare }, index) =>
      `| ${index + 1} | ${apply.toFixed(2)} | ${bare.toFixed(2)} | ${(apply / bare).toFixed(3)} |`,
  );
  return [
    '# What a step costs',
    '',
    `${steps} steps that do nothing through the interpreter of plans (\`apply\`: undo registered, progress, references) and as many bare activities`,
    'with the same options, in turn on one development server and one worker. `npm run bench -- steps` writes this page.',
    '',
    `Median of the ratios: **${ratio.toFixed(3)}** (limit ${LIMIT}): ${passed ? 'passed' : 'not passed'}.`,
    '',
    '| round | apply, s | bare, s | ratio |',
    '| ----- | -------- | ------- | ----- |',
    ...lines,
    '',
  ].join('\n');
}
