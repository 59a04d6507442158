import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Plan } from '../../workflows/contracts/plan.js';
import type { BackupLab } from '../backup/harness.js';
import { cellsOf, type Scenario } from '../faults/step-cells.js';
import type { Ground } from '../faults/step-scenarios.js';
import { everyStepFails, type StepsOptions, type StepsWork } from './steps.js';
import { linesOfTable, report, type Line } from './steps-table.js';

const line = (more: Partial<Line> = {}): Line => ({
  ...{ scenario: 'deploy', step: 'build-app', kind: 'fail', on: 'app', title: '', commit: 'abcdef012345', of: 2 },
  outcome: { end: 'rolled back', message: '', seconds: 12, differences: [], wrong: '' },
  ...more,
});
const bad = { end: 'failed', message: 'a | sentence', seconds: 3, differences: ['app files: + x'], wrong: 'no' };
const table = (lines: Line[], scenarios = ['deploy']): string => report(lines, scenarios, '2026-01-01');

describe('the table', () => {
  const second = line({ step: 'stop-app', kind: 'lose', on: 'db' });

  test('is read back as it was written, cells that were not good excepted', () => {
    const lines = [line(), second];
    const short = lines.map((one) => ({ ...one, commit: 'abcdef0' }));
    expect(linesOfTable(table(lines))).toEqual(short);
    expect(linesOfTable(table([line(), { ...second, outcome: bad }]))).toEqual([short[0]]);
    expect(table(linesOfTable(table(lines)))).toBe(table(short));
  });
  test('tells of a scenario that was not run to the end how many cells it has, also when it is read back', () => {
    const some = table([line({ of: 7 }), line({ scenario: 'adopt', of: 1 })], ['adopt', 'deploy', 'backup']);
    expect(some).toContain('Not run yet: backup.');
    expect(some).toContain('Not run to the end: deploy (1 of 7 cells).');
    expect(linesOfTable(some).map(({ scenario, of }) => `${scenario} ${of}`)).toEqual(['adopt 1', 'deploy 7']);
  });
  test('counts a cell that was not good when it is read back: it has to be run again', () => {
    const again = linesOfTable(table([line(), { ...second, outcome: bad }]));
    expect(table(again)).toContain('Not run to the end: deploy (1 of 2 cells).');
  });
  test('is called complete only where every cell was run, and on one commit only where all were', () => {
    const other = { ...second, commit: '0123456789ab' };
    expect(table([line(), second])).toContain('**Complete on one commit**: abcdef012345 (2 cells).');
    expect(table([line(), other])).toContain(
      '**Complete, but not on one commit**: abcdef012345 (1 cells), 0123456789ab (1 cells). Each row names its own.',
    );
    expect(table([line()])).toContain('**Not complete**: abcdef012345 (1 cells).');
    expect(table([line(), second], ['deploy', 'adopt'])).toContain('**Not complete**: abcdef012345 (2 cells).');
  });
  test('does not pass files that were changed for their commit', () => {
    expect(linesOfTable(table([line({ commit: 'abcdef012345-changed' }), second])).map(({ commit }) => commit)).toEqual(
      ['abcdef0-changed', 'abcdef0'],
    );
  });
});

describe('the campaign', () => {
  let directory: string;
  beforeEach(() => void (directory = mkdtempSync(path.join(tmpdir(), 'guardia-steps-'))));
  afterEach(() => rmSync(directory, { recursive: true }));

  const plan = (steps: number): Plan => ({
    ...{ format: 1, runbook: 'backup', system: 'proofpass', downtime: [], notes: [] },
    stages: [
      {
        ...{ title: 'all', atOnce: 1, errorBudget: 0 },
        lanes: [
          {
            on: 'app',
            steps: Array.from({ length: steps }, (_, index) => ({
              ...{ id: `step-${index}`, title: 'a step', why: '', undo: { none: '' } },
              do: { activity: 'observeHost', with: {} },
            })),
          },
        ],
      },
    ],
  });
  const scenario = (name: string): Scenario => ({
    ...{ name, runbook: 'backup', input: {}, from: 'start', hosts: ['app'] },
  });
  /** Two scenarios, of three cells and of five: fail, kill and lose of the first step. */
  const STEPS: Record<string, number> = { one: 1, two: 3 };
  const ALL = ['one', 'two'].flatMap((name) => cellsOf(scenario(name), plan(STEPS[name] ?? 0)));

  function campaign(runCell: (name: string) => unknown) {
    const did: string[] = [];
    let up = 0;
    const start = () => {
      did.push('lab');
      up += 1;
      return Promise.resolve({ changeInventory: () => undefined, down: () => Promise.resolve(void (up -= 1)) });
    };
    const ground = {
      ...{ start, inventory: [], states: [{ name: 'start' }], scenarios: ['one', 'two'].map(scenario) },
    } as unknown as Ground;
    const work: StepsWork = {
      ...{ grounds: [ground], table: path.join(directory, 'steps.md'), kept: directory },
      commit: () => Promise.resolve('abcdef012345'),
      bringTo: () => Promise.resolve(),
      runUndisturbed: async (_: BackupLab, { name }: Scenario) => {
        did.push(`undisturbed ${name}`);
        await delay(5);
        return { plan: plan(STEPS[name] ?? 0), undisturbed: { before: {}, after: {} } };
      },
      runCell: async (_, cell) => {
        const name = `${cell.scenario.name}: ${cell.step}: ${cell.kind}`;
        await delay(5);
        await runCell(name);
        did.push(name);
        return line().outcome;
      },
    };
    const run = (options: Partial<StepsOptions> = {}) =>
      everyStepFails({ labs: 1, say: () => undefined, ...options }, work);
    return { did, run, work, up: () => up, table: () => readFileSync(work.table, 'utf8') };
  }
  const nothing = (): void => undefined;
  const cellsIn = (did: string[]): string[] => did.filter((one) => /: /.test(one));

  test.each([1, 3])('runs every cell once, with %d labs', async (labs) => {
    const { did, run, table: written, up } = campaign(nothing);
    expect(await run({ labs })).toBe(true);
    expect(cellsIn(did).sort()).toEqual(
      ALL.map(({ scenario: of, step, kind }) => `${of.name}: ${step}: ${kind}`).sort(),
    );
    expect(written()).toContain(`**Complete on one commit**: abcdef012345 (${ALL.length} cells).`);
    expect(up()).toBe(0);
  });

  test('interrupted, it goes on where it was: nothing is run twice, and what is done is not planned again', async () => {
    const first = campaign((name) => {
      if (name === 'two: step-1: fail') throw new Error('interrupted');
    });
    await expect(first.run()).rejects.toThrow('two: Error: interrupted');
    expect(first.up()).toBe(0);
    expect(first.table()).toContain('**Not complete**');

    const second = campaign(nothing);
    expect(await second.run()).toBe(true);
    expect(second.did).toEqual(['lab', 'undisturbed two', 'two: step-1: fail', 'two: step-2: fail']);

    const third = campaign(nothing);
    expect(await third.run()).toBe(true);
    expect(third.did).toEqual([]);
  });

  test('a scenario that cannot be run does not keep the others from it', async () => {
    const { did, run } = campaign((name) => {
      if (name.startsWith('one:')) throw new Error('no lab');
    });
    await expect(run({ labs: 2 })).rejects.toThrow('one: Error: no lab');
    expect(cellsIn(did)).toHaveLength(ALL.filter(({ scenario: { name } }) => name === 'two').length);
  });

  test('another lab does not run a scenario undisturbed for what one lab does as fast', async () => {
    const { did, run } = campaign(() => delay(20));
    await run({ labs: 4 });
    expect(did.filter((one) => one.startsWith('undisturbed')).sort()).toEqual(['undisturbed one', 'undisturbed two']);
  });

  test('good cells of another commit count where that is asked for, and keep their commit', async () => {
    const first = campaign(nothing);
    await first.run({ only: ['one'] });
    rmSync(path.join(directory, 'steps-abcdef012345.jsonl'));
    const second = campaign(nothing);
    second.work.commit = () => Promise.resolve('0123456789ab');
    expect(await second.run({ keepFrom: ['abcdef012345'] })).toBe(true);
    expect(cellsIn(second.did).some((one) => one.startsWith('one:'))).toBe(false);
    expect(second.table()).toContain(
      '**Complete, but not on one commit**: abcdef012345 (3 cells), 0123456789ab (5 cells).',
    );
    await expect(campaign(nothing).run({ keepFrom: ['fedcba'] })).rejects.toThrow('holds a cell of fedcba');
  });
});
