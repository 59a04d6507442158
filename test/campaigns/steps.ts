import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import type { HostSpec } from '../../infra/lab/lab.js';
import { startBackupLab, type BackupLab } from '../backup/harness.js';
import {
  cellsOf,
  nameOf,
  planOf,
  readLines,
  runCell,
  type Cell,
  type Outcome,
  type Scenario,
} from '../faults/step-cells.js';

const RESULT = fileURLToPath(new URL('../../../test/campaigns/steps.md', import.meta.url));

/** A lab, the states it is brought into one after the other, each kept as a snapshot, and the runbooks that start from them. */
interface Ground {
  hosts: HostSpec[];
  states: { name: string; reach: (here: BackupLab) => Promise<void> }[];
  scenarios: Scenario[];
}

const nothing = (): Promise<void> => Promise.resolve();
const after =
  (runbook: string, input: Record<string, unknown> = {}) =>
  async (here: BackupLab): Promise<void> => {
    const { end, message } = await here.run(input, runbook);
    if (end !== 'succeeded') throw new Error(`${runbook}: ${end}: ${message}`);
  };
const on = (from: string, runbook: string, input: Record<string, unknown> = {}): Scenario => ({
  ...{ from, runbook, input, hosts: ['app'] },
});

/** A new runbook joins by being listed here. */
export const grounds: Ground[] = [
  {
    hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }],
    states: [
      { name: 'by-hand', reach: nothing },
      { name: 'adopted', reach: after('adopt') },
      { name: 'deployed', reach: after('deploy', { ref: 'v2' }) },
    ],
    scenarios: [
      on('by-hand', 'backup'),
      on('by-hand', 'adopt'),
      on('adopted', 'deploy', { ref: 'v2' }),
      on('deployed', 'rollback'),
      on('deployed', 'restart-service', { service: 'platform' }),
    ],
  },
  {
    hosts: [{ name: 'app', bare: true }],
    states: [{ name: 'bare', reach: nothing }],
    scenarios: [on('bare', 'provision-host')],
  },
];

export interface StepsOptions {
  /** Only these runbooks. */
  only?: string[] | undefined;
  /** At most so many cells of each runbook, spread over its plan. */
  sample?: number | undefined;
  say: (line: string) => void;
}

interface Line {
  cell: string;
  on: string;
  title: string;
  outcome: Outcome;
}

/**
 * Makes every step of every runbook fail, each from a snapshot of the lab, kills the worker and loses the host. What is done is kept by commit below
 * `.build/campaigns`: interrupted, it goes on where it was. Writes the table. Returns whether every cell ended in a state that is allowed.
 */
export async function everyStepFails(options: StepsOptions): Promise<boolean> {
  const { say } = options;
  const { stdout: commit } = await execa('git', ['rev-parse', '--short=12', 'HEAD']);
  const { stdout: changed } = await execa('git', ['status', '--porcelain', '--untracked-files=no']);
  const file = path.resolve('.build/campaigns', `steps-${commit}${changed === '' ? '' : '-changed'}.jsonl`);
  mkdirSync(path.dirname(file), { recursive: true });
  say(`results are kept in ${file}`);
  for (const ground of grounds) {
    const scenarios = ground.scenarios.filter(({ runbook }) => options.only?.includes(runbook) ?? true);
    if (scenarios.length > 0) await onGround(ground, scenarios, file, options);
  }
  const lines = readLines<Line>(file);
  const text = report(lines, commit);
  writeFileSync(RESULT, text);
  say(`\n${text.split('\n').slice(0, 14).join('\n')}\nwritten to ${path.relative(process.cwd(), RESULT)}`);
  return lines.length > 0 && lines.every(({ outcome }) => outcome.wrong === '');
}

async function onGround(ground: Ground, scenarios: Scenario[], file: string, options: StepsOptions): Promise<void> {
  const here = await startBackupLab({ hosts: ground.hosts });
  try {
    here.changeInventory('bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }');
    here.changeInventory('patienceSeconds: 60', 'patienceSeconds: 30');
    for (const state of ground.states) {
      await state.reach(here);
      await here.worker().stop();
      await here.lab.snapshot(state.name);
      await here.startWorker();
      for (const scenario of scenarios.filter(({ from }) => from === state.name)) {
        const plan = await planOf(here, scenario);
        const cells = sampled(cellsOf(scenario, plan), options.sample);
        for (const [index, cell] of cells.entries()) {
          const name = nameOf(cell);
          if (readLines<Line>(file).some((line) => line.cell === name)) continue;
          const outcome = await runCell(here, cell);
          const line: Line = { cell: name, on: cell.on, title: cell.title, outcome };
          appendFileSync(file, `${JSON.stringify(line)}\n`);
          options.say(`${index + 1}/${cells.length} ${row(line)}`);
        }
        await here.worker().stop();
        await here.lab.restore(state.name);
        await here.startWorker();
      }
    }
  } finally {
    await here.down();
  }
}

/** Evenly over the plan, so that every part of it is there. */
function sampled(cells: Cell[], most: number | undefined): Cell[] {
  if (most === undefined || cells.length <= most) return cells;
  return Array.from({ length: most }, (_, index) => cells[Math.floor((index * cells.length) / most)] as Cell);
}

function row({ cell, on: host, outcome }: Line): string {
  const { end, seconds, wrong, differences } = outcome;
  const verdict = wrong === '' ? 'as it should be' : `**${wrong}**: ${differences.slice(0, 2).join('; ')}`;
  return `| ${cell.replaceAll(' ', ' | ')} | ${host} | ${end} | ${seconds.toFixed(0)} s | ${verdict.replaceAll('|', '\\|')} |`;
}

function report(lines: readonly Line[], commit: string): string {
  const good = lines.filter(({ outcome }) => outcome.wrong === '').length;
  return [
    '# Every step fails once',
    '',
    `${good} of ${lines.length} cells ended in a state that is allowed (commit ${commit}, ${new Date().toISOString().slice(0, 10)}): \`npm run campaign -- steps\`.`,
    '',
    '`fail`: the step does its work and then fails. `kill`: the worker does the work and dies before anybody hears of it. `lose`: the host goes off the network',
    'just before, for 60 s. Every step fails once; the worker is killed and the host lost once for each kind of step. Each cell starts from a snapshot of the lab.',
    'Allowed: `succeeded` after a kill or a lost host; `rolled back`, or `failed` before anything was changed, with files, modes, owners, links, accounts, packages, units,',
    'containers, volumes, firewall rules, crontabs and database schema as before, compared by an observer that is not guardia; behind the point of no return `failed`.',
    '',
    '| runbook | step | fault | on | ended | took | |',
    '|---|---|---|---|---|---|---|',
    ...lines.map(row),
    '',
  ].join('\n');
}
