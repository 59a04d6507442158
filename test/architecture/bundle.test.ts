import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { DefaultLogger, Runtime, Worker, type LogEntry } from '@temporalio/worker';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { bundle, BundleError } from '../../workers/bundle.js';
import * as workflows from '../../workflows/index.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const root = path.resolve(import.meta.dirname, '../..');
const complaints: LogEntry[] = [];

/** The history of a run that has just been started: replaying it loads the bundle and runs the workflow's first lines. */
function justStarted(workflowType: string, input: unknown) {
  const payload = { metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from(JSON.stringify(input)) };
  const eventTime = { seconds: 1_700_000_000, nanos: 0 };
  return {
    events: [
      {
        eventId: 1,
        eventTime,
        eventType: 1,
        workflowExecutionStartedEventAttributes: {
          workflowType: { name: workflowType },
          taskQueue: { name: 'guardia' },
          input: { payloads: [payload] },
          workflowTaskTimeout: { seconds: 10 },
          originalExecutionRunId: '0e6a3c9e-0000-4000-8000-000000000000',
          firstExecutionRunId: '0e6a3c9e-0000-4000-8000-000000000000',
          attempt: 1,
        },
      },
      {
        eventId: 2,
        eventTime,
        eventType: 5,
        workflowTaskScheduledEventAttributes: { taskQueue: { name: 'guardia' }, attempt: 1 },
      },
      { eventId: 3, eventTime, eventType: 6, workflowTaskStartedEventAttributes: { scheduledEventId: 2 } },
    ],
  };
}

/**
 * What the sandbox complains about when it loads the bundle and starts a workflow of this type. The replay itself ends well all the same: it
 * takes a workflow that cannot be loaded for one that waits for a better worker.
 */
async function load(codePath: string, workflowType: string): Promise<string[]> {
  complaints.length = 0;
  await Worker.runReplayHistory({ workflowBundle: { codePath } }, justStarted(workflowType, {}), 'load');
  // Messages are held back for a moment, to sort them.
  await new Promise((resolve) => setTimeout(resolve, 200));
  return complaints.map(({ message, meta }) => `${message}: ${String(meta?.['error'] ?? '')}`);
}

async function bundleOf(code: string): Promise<string> {
  const at = temporary();
  writeFileSync(path.join(at, 'index.ts'), code);
  await bundle(path.join(at, 'index.ts'), path.join(at, 'bundle.js'));
  return path.join(at, 'bundle.js');
}

const directories: string[] = [];
/** In the checkout: packages are looked for upwards from the workflows. */
function temporary(): string {
  const parent = path.join(root, '.build/check');
  mkdirSync(parent, { recursive: true });
  const made = mkdtempSync(path.join(parent, 'bundle-'));
  directories.push(made);
  return made;
}

beforeAll(() => {
  Runtime.install({
    logger: new DefaultLogger('WARN', (entry) => void complaints.push(entry)),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
  });
});

afterAll(async () => {
  await Runtime.instance().shutdown();
  for (const made of directories) rmSync(made, { recursive: true, force: true });
});

describe('the workflow bundle', () => {
  let built: string;
  beforeAll(async () => {
    built = path.join(temporary(), 'workflow-bundle.js');
    await bundle(path.join(root, 'workflows/index.ts'), built);
  });

  // Code at the top of a module that the sandbox cannot run bundles well and stops every run of every type: hence each is loaded.
  test.each(Object.keys(workflows))('%s loads in the sandbox', async (workflowType) => {
    expect(await load(built, workflowType)).toEqual([]);
  });

  // Each workflow, a lock as well, makes all that is in the bundle anew: with these it took more than twice as long, and 2 MB more.
  test('holds no schema of the inventory', () => {
    const lines = readFileSync(built, 'utf8').split('\n');
    const modules = lines.flatMap((line) => /^\/\*{3}\/ "(\.[^"]+)"$/.exec(line)?.[1] ?? []);
    const contracts = modules.flatMap((module) => /workflows\/contracts\/([^/]+)\.\w+$/.exec(module)?.[1] ?? []);
    expect(contracts).toContain('run');
    const schemas = ['system', 'probe', 'deployment', 'provision', 'watching', 'notifications'];
    expect(schemas.filter((schema) => contracts.includes(schema))).toEqual([]);
  });
});

describe('a bundle that is not good', () => {
  test('one that uses what the sandbox lacks is found when it is loaded', async () => {
    const bad = await bundleOf(
      `const bytes = Buffer.from('a'); export async function trial() { return bytes.length; }`,
    );
    expect(await load(bad, 'trial')).toEqual([expect.stringContaining('ReferenceError: Buffer is not defined')]);
  });

  test('one that lacks the type is found when it is loaded', async () => {
    const bad = await bundleOf(`export async function other() {}`);
    expect(await load(bad, 'trial')).toEqual([expect.stringContaining('no such function is exported')]);
  });

  test.each([
    [
      'a module of Node',
      `import fs from 'node:fs'; export async function trial() { return fs.readdirSync('/'); }`,
      'node:fs',
    ],
    ['a package of the worker', `export { Context } from '@temporalio/activity';`, '@temporalio/activity'],
    ['a file that is not there', `export { trial } from './absent.js';`, "Can't resolve './absent.js'"],
    ['a mistake', `export async function trial() { return (`, 'index.ts'],
  ])('%s is a readable error', async (_, code, says) => {
    const error = await bundleOf(code).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BundleError);
    const { message } = error as BundleError;
    expect(message).toContain(says);
    expect(message).not.toMatch(/^\s+at /m);
    expect(message.split('\n').length).toBeLessThan(12);
  });
});
