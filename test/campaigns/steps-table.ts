// The table of `npm run campaign -- steps`: written for people, and read back where cells of another machine count.
import { cellKinds, keyOf as cellKey, type Cell, type Outcome } from '../faults/step-cells.js';

/** One cell, with the commit that it was run on. */
export interface Line {
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

export const keyOf = (line: Line): string => cellKey(line.scenario, line);

const UNFINISHED = 'Not run to the end:';
const GOOD = 'as it should be';

/** The good cells of a table that `report` has written. Pure. */
export function linesOfTable(table: string): Line[] {
  const rows = table.split('\n');
  const cells = rows
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter(([, , , kind]) => cellKinds.some((one) => one === kind))
    .filter(({ length }) => length === 10);
  const unfinished = rows.find((line) => line.startsWith(UNFINISHED)) ?? '';
  const of = (scenario: string): number => {
    const whole = unfinished.split(/, |: /).find((each) => each.startsWith(`${scenario} (`));
    const listed = cells.filter(([, name]) => name === scenario).length;
    return whole === undefined ? listed : Number(/ of (\d+) cells/.exec(whole)?.[1]);
  };
  return cells
    .filter((row) => row.at(-2) === GOOD)
    .map(([, scenario = '', step = '', kind = '', on = '', end = '', seconds = '', commit = '']) => ({
      ...{ scenario, step, kind: kind as Cell['kind'], on, title: '', commit, of: of(scenario) },
      outcome: { end, message: '', seconds: Number(seconds), differences: [], wrong: '' },
    }));
}

/** One line of the table. Pure. */
export function row({ scenario, step, kind, on, commit, outcome }: Line): string {
  const { end, seconds, wrong, differences, message } = outcome;
  const verdict = wrong === '' ? GOOD : `**${wrong}**: ${differences.slice(0, 3).join('; ') || message}`;
  return `| ${[scenario, step, kind, on, end, seconds.toFixed(0), short(commit), verdict.replaceAll(/[|\n]/g, ' ')].join(' | ')} |`;
}

const short = (commit: string): string => `${commit.slice(0, 7)}${commit.endsWith('-changed') ? '-changed' : ''}`;

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? 0;

/** The table of what was run, for scenarios in this order. Pure. */
export function report(lines: readonly Line[], scenarios: readonly string[], today: string): string {
  const sorted = scenarios.flatMap((name) => lines.filter(({ scenario }) => scenario === name));
  const good = sorted.filter(({ outcome }) => outcome.wrong === '').length;
  const groups = scenarios.flatMap((name) =>
    cellKinds.flatMap((kind) => {
      const of = sorted.filter((line) => line.scenario === name && line.kind === kind);
      return of.length === 0 ? [] : [{ name, kind, of }];
    }),
  );
  const listed = new Set(sorted.map(({ scenario }) => scenario));
  const missing = scenarios.filter((name) => !listed.has(name));
  const unfinished = scenarios.flatMap((name) => {
    const of = sorted.filter(({ scenario }) => scenario === name);
    const whole = of.at(-1)?.of ?? 0;
    return of.length < whole ? [`${name} (${of.length} of ${whole} cells)`] : [];
  });
  return [
    '# Every step fails once',
    '',
    `${good} of ${sorted.length} cells ended in a state that is allowed: \`npm run campaign -- steps\`, ${today}.`,
    '',
    completeness(sorted, missing.length === 0 && unfinished.length === 0),
    ...(missing.length > 0 ? ['', `Not run yet: ${missing.join(', ')}.`] : []),
    ...(unfinished.length > 0 ? ['', `${UNFINISHED} ${unfinished.join(', ')}.`] : []),
    '',
    '`fail`: the step does its work and then fails. `kill`: the worker does the work and dies before anybody hears of it. `lose`: the host goes off the network',
    'just before, for 60 s. `undo`: the step fails, and the worker dies in the middle of its undo. `accept`, `rollback`: the step fails behind the point of no return, and that is',
    'what the person says for whom the run holds there; after `fail` and `lose` the person has it done again. Every step fails once; the others come once for each kind of step.',
    'Each cell starts from a snapshot of the lab. Allowed: `succeeded` after a kill, or a lost host, with the hosts as they are after an undisturbed run; `rolled back`, or `failed`',
    'before anything was changed, with files, modes, owners, links, accounts, packages, units, ports, containers, volumes, firewall rules, crontabs, roles, settings and schema of the',
    'database as before, `after done` where a person had to be told of rows that do not come back; behind the point of no return `succeeded` after a retry, and `failed` with the hosts as an undisturbed run has them at that point, after `accept` also with what',
    'came since. A health check reports the same probes, and that it cannot look at a lost host. Compared by an observer that is not guardia (`test/faults/host-observation.sh`), which',
    'also looks for what a run has left over.',
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

/** Whether every cell there is was run, and on which commits. Pure. */
function completeness(lines: readonly Line[], whole: boolean): string {
  const commits = [...new Set(lines.map(({ commit }) => commit))];
  const counted = commits
    .map((commit) => `${commit} (${lines.filter((line) => line.commit === commit).length} cells)`)
    .join(', ');
  if (whole && commits.length === 1) return `**Complete on one commit**: ${counted}.`;
  if (whole) return `**Complete, but not on one commit**: ${counted}. Each row names its own.`;
  return `**Not complete**: ${counted}${commits.length > 1 ? '. Each row names its own' : ''}.`;
}
