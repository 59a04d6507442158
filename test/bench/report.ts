import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Results, Round } from './backup.js';
import type { TimedActivity } from './guardia-run.js';
import type { KilledRun } from './killed-run.js';
import { pairedRatio, summary, type Summary } from './statistics.js';

/** The limits that guardia is held to, and further goals. */
const limits = {
  overFloor: { times: 1.7, goal: 1.3, plusSeconds: 5 },
  overScript: { times: 2, goal: 3 },
  /** Bytes that the worker's process may need for a large backup on top of a small one. */
  workerMemory: 30e6,
};
/** From this share of the processors in other hands, the seconds say little. */
const NOISY = 0.1;
/** Half of the smallest part that guardia sends: so many bytes on the wire more than usual would be a part sent twice. */
const HALF_A_PART = 8 * 2 ** 20;

export interface Verdict {
  what: string;
  limit: string;
  measured: string;
  passed: boolean;
  goal?: 'reached' | 'not reached';
}

/** Holds what was measured against the limits; what was not measured is left out. Pure. */
export function judge({ rounds, kills }: Pick<Results, 'rounds' | 'kills'>): Verdict[] {
  const verdicts: Verdict[] = [];
  const complete = rounds.map(({ guardia }) => guardia.completeSeconds);
  const verified = rounds.map(({ guardia }) => guardia.verifiedSeconds);

  const floor = measuredIn(rounds, ({ floor }) => floor?.completeSeconds);
  if (floor) {
    const { times, goal, plusSeconds } = limits.overFloor;
    const allowed = (factor: number) => floor.map((seconds) => factor * seconds + plusSeconds);
    const share = pairedRatio(complete, allowed(times));
    verdicts.push({
      what: 'complete soon after what pg_dump alone takes',
      limit: `${times} × floor + ${plusSeconds} s (goal ${goal} ×)`,
      measured: `${decimals(summary(complete).median)} s of ${decimals(summary(allowed(times)).median)} s allowed; the run takes ${multiple(pairedRatio(complete, floor))} the floor`,
      passed: share.median <= 1,
      goal: reached(pairedRatio(complete, allowed(goal)).median <= 1),
    });
  }
  const script = measuredIn(rounds, ({ script }) => script?.completeSeconds);
  if (script) {
    const faster = pairedRatio(script, complete);
    verdicts.push({
      what: "complete before the manual's script",
      limit: `${limits.overScript.times} times as fast (goal ${limits.overScript.goal})`,
      measured: multiple(faster),
      passed: faster.median >= limits.overScript.times,
      goal: reached(faster.median >= limits.overScript.goal),
    });
    const margin = pairedRatio(verified, script);
    verdicts.push({
      what: 'verified before the script is done, unverified',
      limit: 'below 1 × the script',
      measured: multiple(margin),
      passed: margin.median < 1,
    });
  }
  const growth = rounds.map(({ guardia }) => guardia.peakMemory - guardia.warmUp.peakMemory);
  verdicts.push({
    what: "peak memory of the worker's process, less its peak in a backup of 10 MB",
    limit: `at most ${megabytes(limits.workerMemory)} in every round`,
    measured: range(summary(growth), (bytes) => decimals(bytes / 1e6), ' MB'),
    passed: Math.max(...growth) <= limits.workerMemory,
  });
  if (kills.length > 0) {
    const again = kills.reduce((sum, { bytesSentAgain }) => sum + bytesSentAgain, 0);
    const excess = kills.map((kill) => overhead(kill) - usualOverhead(rounds));
    verdicts.push({
      what: 'sent again after kill -9 of the worker at half way',
      limit: '0 bytes',
      measured: `${again} bytes in ${kills.reduce((sum, { partsSentAgain }) => sum + partsSentAgain, 0)} parts; on the wire ${range(summary(excess), (bytes) => decimals(bytes / 1e6), ' MB')} more than in a run without a kill; ${kills.map(({ dumps }) => dumps).join(', ')} dump`,
      passed: again === 0 && excess.every((bytes) => bytes < HALF_A_PART) && kills.every(({ dumps }) => dumps === 1),
    });
  }
  return verdicts;
}

/** The tables as Markdown. Pure. */
export function reportText(results: Results, verdicts: readonly Verdict[]): string {
  const { rounds, kills } = results;
  return [
    heading(results),
    '',
    ...results.machine.map((line) => `- ${line}`),
    `- ${Object.entries(results.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}`,
    `- ${rounds.length === 1 ? 'one round' : `medians of ${rounds.length} interleaved rounds, in parentheses the smallest and the largest`}`,
    ...noise(rounds),
    '',
    ...table(['', 'limit', 'measured', ''], verdicts.map(verdictRow)),
    '',
    ...contenders(rounds),
    ...warmUp(rounds),
    ...timeline(rounds),
    ...killedRuns(kills, rounds),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n');
}

/** Puts a report into a file, in place of the one of the same kind and size. Returns the file's path. */
export function saveReport(results: Results, text: string, output: string | undefined): string {
  const beside = fileURLToPath(new URL('.', import.meta.url)).replace(/\/\.build\/test\/bench\/$/, '/test/bench/');
  const file = output === undefined ? path.join(beside, 'backup.md') : path.resolve(output);
  const title = '# Benchmark of `backup`\n\nWritten by `npm run bench -- backup`; README.md tells how to read it.\n';
  const before = existsSync(file) ? readFileSync(file, 'utf8') : title;
  writeFileSync(file, withSection(before, heading(results), text));
  return file;
}

/** The document with this section in place of the one under the same heading, or at its end. Pure. */
export function withSection(document: string, title: string, text: string): string {
  const sections = document.split(/^(?=## )/m);
  const at = sections.findIndex((section) => section.startsWith(`${title}\n`));
  if (at < 0) sections.push(text);
  else sections[at] = text;
  return `${sections.map((section) => section.trimEnd()).join('\n\n')}\n`;
}

function heading({ megabytes, rounds }: Results): string {
  return `## ${rounds[0]?.floor ? 'Backup' : 'Memory of the worker for a backup'} of a database of ${megabytes} MB`;
}

function contenders(rounds: readonly Round[]): string[] {
  if (!rounds[0]?.floor) return [];
  const rows: string[][] = [];
  const add = (
    name: string,
    of: (round: Round) => {
      complete?: number | undefined;
      verified?: number | undefined;
      host?: number | undefined;
      worker?: number | undefined;
      check?: number | undefined;
      stored?: number | undefined;
      sent?: number | undefined;
    },
    unverified: string,
  ): void => {
    const cell = (field: keyof ReturnType<typeof of>, none: string, scale = 1): string => {
      const values = measuredIn(rounds, (round) => of(round)[field]);
      return values ? range(summary(values.map((value) => value / scale)), decimals) : none;
    };
    rows.push([
      name,
      cell('complete', ''),
      cell('verified', unverified),
      cell('host', ''),
      cell('worker', ''),
      cell('check', ''),
      cell('stored', '', 1e6),
      cell('sent', '', 1e6),
    ]);
  };
  add(
    '`pg_dump -Fc -Z0` to /dev/null (the floor)',
    ({ floor }) => ({ complete: floor?.completeSeconds, host: floor?.usage.processor.host }),
    '',
  );
  add(
    'guardia (also roles and configuration)',
    ({ guardia: { completeSeconds, verifiedSeconds, usage, stored } }) => ({
      complete: completeSeconds,
      verified: verifiedSeconds,
      host: usage.processor.host,
      worker: usage.processor.worker,
      check: usage.processor.verification,
      stored,
      sent: usage.sent,
    }),
    '',
  );
  add(
    "the manual's script: `pg_dump \\| gzip`, `aws s3 cp`",
    ({ script }) => ({
      complete: script?.completeSeconds,
      host: script?.usage.processor.host,
      stored: script?.stored,
      sent: script?.usage.sent,
    }),
    'never',
  );
  add(
    '`restic backup --stdin`, then `check --read-data`',
    ({ restic }) => ({
      complete: restic?.completeSeconds,
      verified: restic?.verifiedSeconds,
      host: restic?.usage.processor.host,
      check: restic?.check?.processor.host,
      stored: restic?.stored,
      sent: restic?.usage.sent,
    }),
    '',
  );
  const store = (name: string, of: (round: Round) => number | undefined): string => {
    const values = measuredIn(rounds, of);
    return values ? `${name} ${decimals(summary(values).median)} s` : '';
  };
  return [
    ...table(
      [
        '',
        'complete, s',
        'verified, s',
        'CPU on the host, s',
        'CPU of the worker, s',
        'CPU of reading back, s',
        'stored, MB',
        'sent by the host, MB',
      ],
      rows,
    ),
    '',
    `Processor time of the object store: ${[
      store('guardia (also reading back)', ({ guardia }) => guardia.usage.processor.store),
      store('script', ({ script }) => script?.usage.processor.store),
      store('restic (without `check`)', ({ restic }) => restic?.usage.processor.store),
    ].join(
      ', ',
    )}. Of the Temporal server, for guardia: ${decimals(summary(rounds.map(({ guardia }) => guardia.usage.processor.temporal)).median)} s.`,
    '',
  ];
}

function warmUp(rounds: readonly Round[]): string[] {
  const of = (pick: (round: Round) => number, scale = 1) =>
    range(summary(rounds.map((round) => pick(round) / scale)), decimals);
  return [
    `A backup of 10 MB by the same worker, before each: complete after ${of(({ guardia }) => guardia.warmUp.completeSeconds)} s, ` +
      `verified after ${of(({ guardia }) => guardia.warmUp.verifiedSeconds)} s: what a run costs whatever its size. ` +
      `Peak memory of the worker's process: ${of(({ guardia }) => guardia.warmUp.peakMemory, 1e6)} MB there, ` +
      `${of(({ guardia }) => guardia.peakMemory, 1e6)} MB at full size.`,
    '',
  ];
}

/** Where guardia's time goes, by its activities in the order in which they begin. */
function timeline(rounds: readonly Round[]): string[] {
  const labelled = rounds.map(({ guardia }) => withLabels(guardia.activities));
  const labels = [...(labelled[0]?.keys() ?? [])].filter((label) => labelled.every((run) => run.has(label)));
  const middle = (label: string, of: (one: TimedActivity) => number | undefined): string => {
    const values = labelled.map((run) => of(run.get(label) as TimedActivity));
    return values.every((value) => value !== undefined) ? summary(values).median.toFixed(2) : '';
  };
  return [
    'Where the time of guardia goes (medians, seconds):',
    '',
    ...table(
      ['activity', 'begins', 'takes', 'of it the job on a machine'],
      labels.map((label) => [
        label,
        middle(label, ({ scheduled }) => scheduled),
        middle(label, ({ scheduled, ended }) => ended - scheduled),
        middle(label, ({ job }) => job),
      ]),
    ),
    '',
  ];
}

function withLabels(activities: readonly TimedActivity[]): Map<string, TimedActivity> {
  const found = new Map<string, TimedActivity>();
  for (const one of activities) {
    const name = `\`${one.activity}\`${one.step === undefined ? '' : ` ${one.step}`}`;
    let label = name;
    for (let count = 2; found.has(label); count++) label = `${name} (${count})`;
    found.set(label, one);
  }
  return found;
}

function killedRuns(kills: readonly KilledRun[], rounds: readonly Round[]): string[] {
  if (kills.length === 0) return [];
  const seconds = (value: number) => `${decimals(value)} s`;
  return [
    'Backups whose worker was killed at half way, and another one started at once:',
    '',
    ...table(
      [
        'killed after',
        'stored then',
        'complete',
        'verified',
        'sent − stored',
        'usual sent − stored',
        'parts sent again',
      ],
      kills.map((kill) => [
        seconds(kill.killedAt),
        megabytes(kill.storedWhenKilled),
        seconds(kill.completeSeconds),
        seconds(kill.verifiedSeconds),
        megabytes(overhead(kill)),
        megabytes(usualOverhead(rounds)),
        `${kill.partsSentAgain}`,
      ]),
    ),
    '',
  ];
}

function noise(rounds: readonly Round[]): string[] {
  const shares = rounds.flatMap(({ guardia, floor, script, restic }) =>
    [guardia.usage, floor?.usage, script?.usage, restic?.usage].flatMap((usage) => (usage ? [usage.others] : [])),
  );
  const { median, max } = summary(shares);
  const words = `other programs had ${percent(median)} of the processors meanwhile, ${percent(max)} at most`;
  return [median > NOISY ? `- **Not a quiet machine: ${words}; the seconds say little**` : `- ${words}`];
}

function verdictRow({ what, limit, measured, passed, goal }: Verdict): string[] {
  return [what, limit, measured, `${passed ? 'PASS' : '**FAIL**'}${goal ? `, goal ${goal}` : ''}`];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)];
}

/** The value of every round, or undefined where it was not measured in all. */
function measuredIn(rounds: readonly Round[], of: (round: Round) => number | undefined): number[] | undefined {
  const values = rounds.map(of);
  return values.every((value) => value !== undefined) ? values : undefined;
}

/** What the host sent beside the stored bytes: headers, requests, the talk with the worker. */
const overhead = ({ sent, stored }: { sent: number; stored: number }): number => sent - stored;
const usualOverhead = (rounds: readonly Round[]): number =>
  summary(rounds.map(({ guardia }) => guardia.usage.sent - guardia.stored)).median;

const decimals = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
const percent = (share: number): string => `${Math.round(share * 100)} %`;
const megabytes = (bytes: number): string => `${decimals(bytes / 1e6)} MB`;
const range = ({ median, min, max }: Summary, text: (value: number) => string, unit = ''): string =>
  min === max ? `${text(median)}${unit}` : `${text(median)}${unit} (${text(min)}–${text(max)})`;
const multiple = (ratio: Summary): string => range(ratio, (value) => value.toFixed(2), ' ×');
const reached = (is: boolean): 'reached' | 'not reached' => (is ? 'reached' : 'not reached');
