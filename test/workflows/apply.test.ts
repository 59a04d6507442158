import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { GuardiaEnd, GuardiaHosts, GuardiaPhase, GuardiaRequester, GuardiaRunbook, GuardiaSystem, GuardiaWaitingFor } from '../../workflows/contracts/search-attributes.js';
import { failsFirst, fails, held, mistaken } from './acts.js';
import { attributesOf, scheduled, summaryOf } from './run-history.js';
import { openScriptedRuns, until, type ScriptedRuns } from './scripted-runs.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

describe('a run in which everything goes well', () => {
  test('does its steps in order, with references filled in, and tells where it stands', async () => {
    const b = held();
    const run = await runs.start({
      plan: [
        lane('app', 'a', step('b', { with: { id: { from: 'a', path: 'made.id' } } })),
        lane('system', step('c', { with: { list: [{ from: 'a', path: 'made' }, { from: 'b', path: '' }] } })),
      ],
      acts: { 'do a': () => ({ made: { id: 17 }, summary: '17 made' }), 'do b': b.act },
    });
    await b.begun;
    const status = await run.status();
    console.log(status, await run.details());
    b.release({ x: 1 });
    const report = await run.report();
    console.log(report, run.names(), await run.details(), scheduled(await run.history()));
  });
});
