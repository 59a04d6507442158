import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import type { BackupLab } from '../backup/harness.js';
import { bringTo, grounds, type Ground } from '../faults/step-scenarios.js';
import { cellsOf, nameOf, runCell, runUndisturbed, type Cell, type Scenario } from '../faults/step-cells.js';
import { readLines } from './json-lines.js';
import { keyOf, linesOfTable, report, row, type Line } from './steps-table.js';

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

/** What is run, and where it is kept. */
export interface StepsWork {
  grounds: readonly Ground[];
  table: string;
  kept: string;
  commit: () => Promise<string>;
  bringTo: (here: BackupLab, ground: Ground, state: string, kept: Set<string>) => Promise<void>;
  runUndisturbed: typeof runUndisturbed;
  runCell: (...cell: Parameters<typeof runCell>) => ReturnType<typeof runCell>;
}

const REAL: StepsWork = {
  grounds,
  table: fileURLToPath(new URL('../../../test/campaigns/steps.md', import.meta.url)),
  kept: '.build/campaigns',
  async commit() {
    const { stdout: head } = await execa('git', ['rev-parse', '--short=12', 'HEAD']);
    const { stdout: changed } = await execa('git', ['status', '--porcelain', '--untracked-files=no', '--', ':!*.md']);
    return `${head}${changed === '' ? '' : '-changed'}`;
  },
  ...{ bringTo, runUndisturbed, runCell },
};

/**
 * Makes every step of every runbook fail, each from a snapshot of the lab, kills the worker and loses the host. What is done is kept by commit below
 * `.build/campaigns`: interrupted, it goes on where it was. Writes the table. Returns whether every cell ended in a state that is allowed. A scenario
 * that cannot be run does not keep the others from it; throws then in the end.
 */
export async function everyStepFails(options: StepsOptions, work: StepsWork = REAL): Promise<boolean> {
  const { say } = options;
  const board = await openBoard(options, work);
  say(`results are kept in ${board.file}: ${board.lines.length} so far`);
  await Promise.all(Array.from({ length: options.labs }, () => inLabs(board)));
  const text = board.report();
  writeFileSync(work.table, text);
  say(`\n${text.slice(0, text.indexOf('\n## Cells'))}\nwritten to ${path.relative(process.cwd(), work.table)}`);
  if (board.troubles.length > 0) throw new Error(board.troubles.join('\n'));
  return board.lines.length > 0 && board.lines.every(({ outcome }) => outcome.wrong === '');
}

/** What the labs of a campaign share. */
interface Board {
  options: StepsOptions;
  work: StepsWork;
  file: string;
  commit: string;
  lines: Line[];
  places: Place[];
  /** Why a scenario could not be run. */
  troubles: string[];
  add(line: Line): void;
  report(): string;
}

/** A scenario, and how far it is. */
interface Place {
  scenario: Scenario;
  ground: Ground;
  /** Keys of its cells, in the order of the plan; undefined until a lab has planned it. */
  cells: string[] | undefined;
  /** Cells that a lab has taken or that are done. */
  taken: Set<string>;
  labs: number;
  failures: number;
}

/** The cells of a scenario, by commit: so that nobody has to plan it to see that nothing is left of it. */
interface CellList {
  scenario: string;
  cells: string[];
}

async function openBoard(options: StepsOptions, work: StepsWork): Promise<Board> {
  const commit = await work.commit();
  const fileOf = (of: string): string => path.resolve(work.kept, `steps-${of}.jsonl`);
  const file = fileOf(commit);
  mkdirSync(work.kept, { recursive: true });
  const lines = readLines<Line>(file);
  const add = (line: Line): void => {
    lines.push(line);
    appendFileSync(file, `${JSON.stringify(line)}\n`);
  };
  for (const line of (options.keepFrom ?? []).flatMap((of) => keptLines(of, fileOf(of), work.table))) {
    if (line.outcome.wrong !== '' || lines.some((one) => keyOf(one) === keyOf(line))) continue;
    add(line);
  }
  const lists = readLines<CellList>(listsFile(file));
  const isWanted = ({ name, runbook }: Scenario): boolean =>
    options.only === undefined || options.only.includes(name) || options.only.includes(runbook);
  const places = work.grounds.flatMap((ground) =>
    ground.scenarios.filter(isWanted).map((scenario): Place => ({
      ...{ scenario, ground, labs: 0, failures: 0 },
      cells: lists.findLast((list) => list.scenario === scenario.name)?.cells,
      taken: new Set(lines.filter((line) => line.scenario === scenario.name).map(keyOf)),
    })),
  );
  const inOrder = work.grounds.flatMap(({ scenarios }) => scenarios.map(({ name }) => name));
  const today = (): string => new Date().toISOString().slice(0, 10);
  return {
    ...{ options, work, file, commit, lines, places, troubles: [], add },
    report: () => report(lines, inOrder, today()),
  };
}

const listsFile = (results: string): string => results.replace(/\.jsonl$/, '-lists.jsonl');

/** What is known of a commit's cells: kept here, or, where they were run on another machine, in the table. */
function keptLines(commit: string, file: string, table: string): Line[] {
  const here = readLines<Line>(file);
  if (here.length > 0) return here;
  const lines = linesOfTable(readFileSync(table, 'utf8')).filter(
    (line) => line.commit !== '' && commit.startsWith(line.commit),
  );
  if (lines.length === 0) throw new Error(`neither ${file} nor ${table} holds a cell of ${commit}`);
  return lines.map((line) => ({ ...line, commit }));
}

/** A lab that is up. */
interface OpenLab {
  ground: Ground;
  here: BackupLab;
  /** States that it has snapshots of. */
  kept: Set<string>;
}

/** One lab after the other, each for the scenarios of its ground, until there is nothing more to take. */
async function inLabs(board: Board): Promise<void> {
  let lab: OpenLab | undefined;
  const close = async (): Promise<void> => {
    const { here } = lab ?? {};
    lab = undefined;
    await here?.down();
  };
  try {
    for (let place; (place = await nextPlace(board, lab?.ground));) {
      try {
        if (lab?.ground !== place.ground) {
          await close();
          lab = { ground: place.ground, here: await place.ground.start(), kept: new Set() };
          for (const [from, to] of place.ground.inventory) lab.here.changeInventory(from, to);
        }
        await inLab(board, place, lab);
      } catch (error) {
        const trouble = `${place.scenario.name}: ${String(error)}`;
        board.options.say(trouble);
        if ((place.failures += 1) === MOST_FAILURES) board.troubles.push(trouble);
        await close();
      } finally {
        place.labs -= 1;
      }
    }
  } finally {
    await close();
  }
}

/** After so many failures of the campaign itself a scenario is given up. */
const MOST_FAILURES = 2;
/** A second lab runs the scenario undisturbed first, too: worth it for so many cells. In a lab that has to be started, for more. */
const WORTH_IT = { here: 3, elsewhere: 8 };

/**
 * The scenario that a lab is to work on: one that nobody has begun, or that with the most cells left for each lab. Waits where a lab plans one: it may
 * have many. Undefined where nothing is left.
 */
async function nextPlace(board: Board, ground: Ground | undefined): Promise<Place | undefined> {
  for (;;) {
    const open = board.places.filter((place) => place.failures < MOST_FAILURES && left(place, board.options) > 0);
    const begun = open.filter(({ labs }) => labs > 0);
    const fresh = open.filter(({ labs }) => labs === 0);
    const share = (place: Place): number => left(place, board.options) / (place.labs + 1);
    const worth = begun.filter(
      (place) => place.cells && share(place) >= (place.ground === ground ? WORTH_IT.here : WORTH_IT.elsewhere),
    );
    const place =
      fresh.find((one) => one.ground === ground) ??
      fresh[0] ??
      worth.reduce<Place | undefined>((most, one) => (!most || share(one) > share(most) ? one : most), undefined);
    if (place) {
      place.labs += 1;
      return place;
    }
    if (begun.every(({ cells }) => cells !== undefined)) return undefined;
    await delay(500);
  }
}

/** How many cells nobody has taken; of a scenario that nobody has planned, at least one. */
const left = ({ cells, taken }: Place, { sample }: StepsOptions): number =>
  cells === undefined ? 1 : sampled(cells, sample).filter((cell) => !taken.has(cell)).length;

/** Runs a scenario undisturbed, and takes cells of it that no other lab has taken. */
async function inLab(board: Board, place: Place, { here, ground, kept }: OpenLab): Promise<void> {
  const { options, work } = board;
  const { scenario, taken } = place;
  await work.bringTo(here, ground, scenario.from, kept);
  const { plan, undisturbed } = await work.runUndisturbed(here, scenario);
  const all = cellsOf(scenario, plan);
  if (!place.cells) {
    place.cells = all.map(nameOf);
    const list: CellList = { scenario: scenario.name, cells: place.cells };
    appendFileSync(listsFile(board.file), `${JSON.stringify(list)}\n`);
  }
  const cells = sampled(all, options.sample);
  for (const cell of cells) {
    const name = nameOf(cell);
    if (taken.has(name)) continue;
    taken.add(name);
    try {
      const { step, kind, on, title } = cell;
      const outcome = await work.runCell(here, cell, undisturbed);
      const line: Line = {
        ...{ scenario: scenario.name, step, kind, on, title },
        ...{ commit: board.commit, of: all.length, outcome },
      };
      board.add(line);
      writeFileSync(work.table, board.report());
      options.say(`${progress(board, place, cells)} ${row(line)}`);
    } catch (error) {
      taken.delete(name);
      throw error;
    }
  }
}

/** Seconds that a cell takes beside its run: the lab goes back, the worker starts, the hosts are looked at. */
const AROUND_SECONDS = 12;

function progress(board: Board, { scenario, labs }: Place, cells: readonly Cell[]): string {
  const done = board.lines.filter((line) => line.scenario === scenario.name);
  const each = done.reduce((sum, { outcome }) => sum + outcome.seconds + AROUND_SECONDS, 0) / done.length;
  const minutes = Math.ceil(((cells.length - done.length) * each) / 60 / labs);
  return `${scenario.name} ${done.length}/${cells.length}, about ${minutes} min more:`;
}

/** Evenly over the plan, so that every part of it is there. */
function sampled<T>(cells: readonly T[], most: number | undefined): readonly T[] {
  if (most === undefined || cells.length <= most) return cells;
  return Array.from({ length: most }, (_, index) => cells[Math.floor((index * cells.length) / most)] as T);
}
