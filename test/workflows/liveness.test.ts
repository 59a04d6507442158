import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { cancellationSignal } from '@temporalio/activity';
import type { Act } from './acts.js';
import { doctoredBundle } from './doctored-bundle.js';
import { openScriptedRuns, until, type ScriptedRuns } from './scripted-runs.js';
import { lane, stage, step } from './toy-plan.js';

jest.setTimeout(30_000);

// The real limits are too long for a test: the same code, with fewer seconds.
const HEARTBEAT_SECONDS = 2;

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
  await runs.worker.start({
    bundle: doctoredBundle({
      "HEARTBEAT_TIMEOUT = '15 seconds'": `HEARTBEAT_TIMEOUT = '${HEARTBEAT_SECONDS} seconds'`,
    }),
  });
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

/** Says nothing for longer than a worker may be silent. */
const silent: Act = async () => {
  await new Promise((resolve) => setTimeout(resolve, 2.5 * HEARTBEAT_SECONDS * 1000));
  return {};
};

describe('an activity that gives no sign of life itself', () => {
  test('is not taken for dead: it runs once', async () => {
    const run = await runs.start({
      // What is around a job takes its time, too: to look before it, to see afterwards that what it started runs.
      plan: [stage([lane('app', 'a', step('c', { kind: 'job' })), lane('db', step('b', { kind: 'look' }))])],
      acts: { 'do a': silent, 'do b': silent, 'do c': silent },
    });
    expect((await run.report()).end).toBe('succeeded');
    for (const name of ['do a', 'do b', 'do c']) expect(run.happened(name)).toHaveLength(1);
  });

  test('hears of a cancel all the same', async () => {
    let begun = false;
    const run = await runs.start({
      plan: [lane('app', 'a')],
      acts: {
        'do a': async () => {
          begun = true;
          const signal = cancellationSignal();
          await new Promise((_, reject) =>
            // As libraries do: with an error of their own, which must not look like a failure of the step.
            signal.addEventListener('abort', () =>
              reject(new DOMException('This operation was aborted', 'AbortError')),
            ),
          );
        },
      },
    });
    await until(() => begun, 'it runs');
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names()).toContain('undo a');
  });
});
