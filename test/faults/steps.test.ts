import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { RunReport } from '../../workflows/contracts/run.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import type { BackupLab } from '../backup/harness.js';
import { observeHosts, type Observed } from './host-observation.js';
import type { PlantedFault } from './planted-fault.js';
import { cellsOf, runCell, whatIsWrong, type Cell, type Scenario } from './step-cells.js';
import { grounds, terminatedDeploy } from './step-scenarios.js';

jest.setTimeout(300_000);

test('every runbook is in the campaign', () => {
  const listed = grounds.flatMap(({ scenarios }) => scenarios.map(({ runbook }) => runbook));
  expect(Object.keys(runbooks).filter((name) => !listed.some((one) => one === name))).toEqual([]);
});

// A sample of `npm run campaign -- steps`, each runbook and each fault, on one host that is never put back: what was rolled back is what the next one
// starts from.
describe('a step fails once', () => {
  let here: BackupLab;
  const ground = grounds[0];
  const scenario = (name: string): Scenario => {
    const found = ground?.scenarios.find((one) => one.name === name);
    if (!found) throw new Error(`no scenario ${name}`);
    return found;
  };

  beforeAll(async () => {
    if (!ground) throw new Error('there is no ground');
    here = await ground.start();
    for (const [from, to] of ground.inventory) here.changeInventory(from, to);
  }, 300_000);
  afterAll(() => here?.down());

  /** The fault in the last step of this activity. Returns what is not allowed, with how it ended. */
  async function fails(name: string, activity: string, kind: PlantedFault['kind'], after?: Observed): Promise<string> {
    const of = scenario(name);
    const before = await observeHosts(here.lab, of.hosts);
    const { report } = await here.run({ ...of.input, plan: true }, of.runbook);
    const plan = RunReport.parse(report).plan;
    const cell =
      plan && cellsOf(of, plan, { all: true }).findLast((one) => one.activity === activity && one.kind === kind);
    if (!cell) throw new Error(`the plan of ${name} has no ${activity} to ${kind}`);
    // Of those that succeed here only a repair changes what is looked at.
    const { end, message, wrong, differences } = await runCell(
      here,
      cell,
      { before, after: after ?? before },
      { restore: false, awaySeconds: 10 },
    );
    return [end, ...(wrong === '' ? [] : [wrong, message, ...differences])].join('\n');
  }
  async function does(name: string): Promise<void> {
    await here.worker().kill();
    await here.startWorker();
    const { runbook, input } = scenario(name);
    const { end, message } = await here.run(input, runbook);
    expect(`${end}: ${message}`).toMatch(/^succeeded/);
  }

  test('health-check: its look fails', async () => {
    expect(await fails('health-check', 'probeHost', 'fail')).toBe('failed');
  });
  test('backup: the worker is killed', async () => {
    expect(await fails('backup', 'dumpDatabase', 'kill')).toBe('succeeded');
  });
  test('adopt: its last start fails', async () => {
    expect(await fails('adopt', 'setUnit', 'fail')).toBe('rolled back');
  });
  test('adopt back: the link that becomes a directory again', async () => {
    await does('adopt');
    expect(await fails('adopt back', 'putBackPath', 'fail')).toBe('rolled back');
  });
  test('provision-host: all of it is done, on a host that serves, and then what worked does not', async () => {
    expect(await fails('provision-host after adopt', 'checkHealth', 'fail')).toBe('rolled back');
  });
  test('deploy: the start of the new release', async () => {
    expect(await fails('deploy', 'startServices', 'fail')).toBe('rolled back');
  });
  test('deploy: its migrations, and the worker dies while they are taken back', async () => {
    expect(await fails('deploy', 'applyMigrations', 'undo')).toBe('rolled back');
  });
  test('repair of a deploy that was terminated: a second run makes a failed one good', async () => {
    const before = await observeHosts(here.lab, ['app']);
    await terminatedDeploy(here);
    expect(await fails('repair', 'switchBack', 'fail', before)).toBe('failed, then succeeded');
  });
  test('rollback: the switch', async () => {
    await does('deploy');
    expect(await fails('rollback', 'switchRelease', 'fail')).toBe('rolled back');
  });
  test('restart-service: the host is lost', async () => {
    expect(await fails('restart-service', 'restartServices', 'lose')).toBe('succeeded');
  });
});

describe('what is wrong', () => {
  const cell = (more: Partial<Cell>): Cell => ({ kind: 'fail', stands: false, scenario: {}, ...more }) as Cell;
  const wrong = (more: Partial<Cell>, end: string, differences: string[] = [], planted = true): string =>
    whatIsWrong(cell(more), { end, planted, differences });

  test('nothing, where it ended as item by item allowed', () => {
    expect(wrong({}, 'rolled back')).toBe('');
    expect(wrong({}, 'failed')).toBe('');
    expect(wrong({ kind: 'kill' }, 'succeeded')).toBe('');
    expect(wrong({ stands: true }, 'failed', ['app files: + x'])).toBe('');
    expect(wrong({ tolerated: true }, 'succeeded', ['app files: + x'])).toBe('');
  });
  test.each([
    [wrong({}, 'succeeded'), 'a step failed, and yet it succeeded'],
    [wrong({}, 'rolled back', ['app files: + x']), 'it is not as before'],
    [wrong({}, 'failed', ['app files: + x']), 'it is not as before'],
    [wrong({ kind: 'lose' }, 'succeeded', ['x']), 'it succeeded, and does not look as it does without the fault'],
    [wrong({}, 'rollback incomplete'), 'it ended as rollback incomplete'],
    [wrong({ stands: true }, 'rolled back'), 'behind the point of no return it ended as rolled back'],
    [wrong({}, 'rolled back', [], false), 'the step was never reached, and it ended as rolled back'],
  ])('%s', (found, expected) => expect(found).toBe(expected));
});
