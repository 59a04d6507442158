import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import type { RunbookName } from '../../workflows/contracts/runbooks.js';
import { backTo, grounds, type Ground } from '../faults/step-scenarios.js';
import { cellsOf, nameOf, runCell, runUndisturbed, type Cell, type Outcome } from '../faults/step-cells.js';
import { readLines } from './json-lines.js';

const RESULT = fileURLToPath(new URL('../../../test/campaigns/steps.md', import.meta.url));
const KEPT = '.build/campaigns';
const UNFINISHED = 'Not run to the end:';

export interface StepsOptions {
  /** Only these scenarios, by name or by runbook. */
  only?: string[] | undefined;
  /** At most so many cells of each scenario, spread over its plan. */
  sample?: number | undefined;
  /** Labs that share the cells. */
  labs: number;
  /** Commits whose good cells count, too, from here or from the table; the table says which cell is of which. */
  keepFrom?: string[] | undefined;
  say: (line: string) => void;
}

interface Line {
  scenario: string;
  step: string;
  kind: Cell['kind'];
  on: string;
  title: string;
  commit: string;
  /** How many cells the scenario has. */
  of: number;
  outcome: Outcome;
}

/**
 * Makes every step of every runbook fail, each from a snapshot of the lab, kills the worker and loses the host. What is done is kept by commit below
 * `.build/campaigns`: interrupted, it goes on where it was. Writes the table. Returns whether every cell ended in a state that is allowed.
 */
export async function everyStepFails(options: StepsOptions): Promise<boolean> {
  const { say } = options;
  const { stdout: head } = await execa('git', ['rev-parse', '--short=12', 'HEAD']);
  const { stdout: changed } = await execa('git', ['status', '--porcelain', '--untracked-files=no', '--', ':!*.md']);
  const commit = `${head}${changed === '' ? '' : '-changed'}`;
  const file = fileOf(commit);
  mkdirSync(KEPT, { recursive: true });
  const known = new Set(readLines<Line>(file).map(keyOf));
  for (const line of (options.keepFrom ?? []).flatMap(linesOf)) {
    if (line.outcome.wrong !== '' || known.has(keyOf(line))) continue;
    known.add(keyOf(line));
    appendFileSync(file, `${JSON.stringify(line)}\n`);
  }
  say(`results are kept in ${file}: ${known.size} so far`);
  for (const ground of grounds) {
    const wanted = ({ name, runbook }: { name: string; runbook: RunbookName }) =>
      options.only === undefined || options.only.includes(name) || options.only.includes(runbook);
    const scenarios = ground.scenarios.filter(wanted);
    const claimed = new Set<string>();
    const on: OnGround = { ground: { ...ground, scenarios }, file, commit, claimed, options };
    if (scenarios.length > 0) await Promise.all(Array.from({ length: options.labs }, () => inLab(on)));
  }
  const lines = readLines<Line>(file);
  const text = report(lines);
  writeFileSync(RESULT, text);
  say(`\n${text.slice(0, text.indexOf('\n## Cells'))}\nwritten to ${path.relative(process.cwd(), RESULT)}`);
  return lines.length > 0 && lines.every(({ outcome }) => outcome.wrong === '');
}

/** What is known of a commit's cells: kept here, or, where they were run on another machine, in the table. */
function linesOf(commit: string): Line[] {
  const here = readLines<Line>(fileOf(commit));
  if (here.length > 0) return here;
  const table = readFileSync(RESULT, 'utf8');
  const lines = linesOfTable(table.split('\n')).filter((line) => line.commit !== '' && commit.startsWith(line.commit));
  if (lines.length === 0) throw new Error(`neither ${fileOf(commit)} nor ${RESULT} holds a cell of ${commit}`);
  return lines.map((line) => ({ ...line, commit }));
}

/** The good cells of a table that `report` has written. */
function linesOfTable(table: readonly string[]): Line[] {
  const good = table
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => cells.at(-2) === 'as it should be')
    .map(([, scenario = '', step = '', kind = '', on = '', end = '', seconds = '', commit = '']) => ({
      ...{ scenario, step, kind: kind as Cell['kind'], on, title: '', commit },
      outcome: { end, message: '', seconds: Number(seconds), differences: [], wrong: '' },
    }));
  const unfinished = table.find((line) => line.startsWith(UNFINISHED)) ?? '';
  const of = (scenario: string): number => {
    const whole = unfinished.split(/, |: /).find((each) => each.startsWith(`${scenario} (`));
    return whole === undefined
      ? good.filter((line) => line.scenario === scenario).length
      : Number(/ of (\d+) cells/.exec(whole)?.[1]);
  };
  return good.map((line) => ({ ...line, of: of(line.scenario) }));
}

interface OnGround {
  ground: Ground;
  file: string;
  commit: string;
  /** Cells that a lab has taken. */
  claimed: Set<string>;
  options: StepsOptions;
}

/** Walks through the states of a ground, and takes cells that no other lab has taken. */
async function inLab({ ground, file, commit, claimed, options }: OnGround): Promise<void> {
  const last = ground.states.findLastIndex(({ name }) => ground.scenarios.some(({ from }) => from === name));
  const here = await ground.start();
  try {
    for (const [from, to] of ground.inventory) here.changeInventory(from, to);
    for (const state of ground.states.slice(0, last + 1)) {
      await state.reach(here);
      await here.worker().stop();
      await here.lab.snapshot(state.name);
      await here.startWorker();
      for (const scenario of ground.scenarios.filter(({ from }) => from === state.name)) {
        const { plan, undisturbed } = await runUndisturbed(here, scenario);
        const all = cellsOf(scenario, plan);
        const cells = sampled(all, options.sample);
        const done = (): Line[] => readLines<Line>(file).filter((line) => line.scenario === scenario.name);
        const known = new Set(done().map(keyOf));
        for (const cell of cells) {
          const name = nameOf(cell);
          if (claimed.has(name) || known.has(name)) continue;
          claimed.add(name);
          const { step, kind, on, title } = cell;
          const outcome = await runCell(here, cell, undisturbed);
          const line: Line = { scenario: scenario.name, step, kind, on, title, commit, of: all.length, outcome };
          appendFileSync(file, `${JSON.stringify(line)}\n`);
          writeFileSync(RESULT, report(readLines<Line>(file)));
          options.say(`${progress(scenario.name, cells.length, done(), options.labs)} ${row(line)}`);
        }
        await backTo(here, state.name);
      }
    }
  } finally {
    await here.down();
  }
}

/** Seconds that a cell takes beside its run: the lab goes back, the worker starts, the hosts are looked at. */
const AROUND_SECONDS = 12;

function progress(scenario: string, all: number, done: readonly Line[], labs: number): string {
  const each = done.reduce((sum, { outcome }) => sum + outcome.seconds + AROUND_SECONDS, 0) / done.length;
  const minutes = Math.ceil(((all - done.length) * each) / 60 / labs);
  return `${scenario} ${done.length}/${all}, about ${minutes} min more:`;
}

/** Evenly over the plan, so that every part of it is there. */
function sampled(cells: Cell[], most: number | undefined): Cell[] {
  if (most === undefined || cells.length <= most) return cells;
  return Array.from({ length: most }, (_, index) => cells[Math.floor((index * cells.length) / most)] as Cell);
}

const fileOf = (commit: string): string => path.resolve(KEPT, `steps-${commit}.jsonl`);
const keyOf = ({ scenario, step, kind }: Line): string => `${scenario}: ${step}: ${kind}`;

function row({ scenario, step, kind, on, commit, outcome }: Line): string {
  const { end, seconds, wrong, differences, message } = outcome;
  const verdict = wrong === '' ? 'as it should be' : `**${wrong}**: ${differences.slice(0, 3).join('; ') || message}`;
  return `| ${[scenario, step, kind, on, end, seconds.toFixed(0), commit.slice(0, 7), verdict.replaceAll(/[|\n]/g, ' ')].join(' | ')} |`;
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? 0;

function report(lines: readonly Line[]): string {
  const good = lines.filter(({ outcome }) => outcome.wrong === '').length;
  const inOrder = grounds.flatMap(({ scenarios }) => scenarios.map(({ name }) => name));
  const sorted = inOrder.flatMap((name) => lines.filter(({ scenario }) => scenario === name));
  const groups = inOrder.flatMap((name) =>
    (['fail', 'kill', 'lose', 'undo'] as const).flatMap((kind) => {
      const of = sorted.filter((line) => line.scenario === name && line.kind === kind);
      return of.length === 0 ? [] : [{ name, kind, of }];
    }),
  );
  const listed = new Set(lines.map(({ scenario }) => scenario));
  const missing = inOrder.filter((name) => !listed.has(name));
  const unfinished = inOrder.flatMap((name) => {
    const of = lines.filter(({ scenario }) => scenario === name);
    const whole = of.at(-1)?.of ?? 0;
    return of.length < whole ? [`${name} (${of.length} of ${whole} cells)`] : [];
  });
  const commits = [...new Set(lines.map(({ commit }) => commit))];
  return [
    '# Every step fails once',
    '',
    `${good} of ${lines.length} cells ended in a state that is allowed: \`npm run campaign -- steps\`, ${new Date().toISOString().slice(0, 10)}, commit ${commits.join(', ')}.`,
    ...(missing.length > 0 ? ['', `Not run yet: ${missing.join(', ')}.`] : []),
    ...(unfinished.length > 0 ? ['', `${UNFINISHED} ${unfinished.join(', ')}.`] : []),
    '',
    '`fail`: the step does its work and then fails. `kill`: the worker does the work and dies before anybody hears of it. `lose`: the host goes off the network',
    'just before, for 60 s. `undo`: the step fails, and the worker dies in the middle of its undo. Every step fails once; the worker is killed, the host lost and the undo cut off once for each kind of step. Each cell starts from a snapshot of the lab.',
    'Allowed: `succeeded` after a kill or a lost host, with the hosts as they are after an undisturbed run; `rolled back`, or `failed` before anything was changed, with',
    'files, modes, owners, links, accounts, packages, units, ports, containers, volumes, firewall rules, crontabs, roles, settings and schema of the database as before; behind the',
    'point of no return `failed`. Compared by an observer that is not guardia (`test/faults/host-observation.sh`), which also looks for what a run has left over.',
    '',
    '| runbook | fault | cells | ended | median seconds | not allowed |',
    '|---|---|---|---|---|---|',
    ...groups.map(({ name, kind, of }) => {
      const ends = [...new Set(of.map(({ outcome }) => outcome.end))];
      const counted = ends.map((end) => `${of.filter(({ outcome }) => outcome.end === end).length} ${end}`).join(', ');
      const wrong = of.filter(({ outcome }) => outcome.wrong !== '').length;
      return `| ${name} | ${kind} | ${of.length} | ${counted} | ${median(of.map(({ outcome }) => outcome.seconds)).toFixed(0)} | ${wrong} |`;
    }),
    '',
    '## Cells',
    '',
    '| runbook | step | fault | on | ended | seconds | commit | |',
    '|---|---|---|---|---|---|---|---|',
    ...sorted.map(row),
    '',
  ].join('\n');
}
