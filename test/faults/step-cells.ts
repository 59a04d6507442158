// Every step fails once: the cells of the table, generated from the plans of the runbooks, and what has to come of each.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import type { HealthCheckResult } from '../../workflows/contracts/health-check.js';
import { recoverUpdate, type Hold, type RecoverChoice } from '../../workflows/contracts/hold.js';
import { SYSTEM_LANE, WORKER_HOST } from '../../workflows/contracts/names.js';
import { placeOf, stepsOf, type Plan } from '../../workflows/contracts/plan.js';
import { isFailing } from '../../workflows/contracts/probe-result.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { runbooks, type Runbook, type RunbookName } from '../../workflows/contracts/runbooks.js';
import { until, type BackupLab, type Ended } from '../backup/harness.js';
import {
  differencesSoon,
  observeHosts,
  startsOf,
  standing,
  withoutGenerated,
  withoutWayOn,
  withoutRunNames,
  type Observed,
} from './host-observation.js';
import { goOnFile, PLANTED, type PlantedFault } from './planted-fault.js';

/** A runbook in a certain state of the hosts. */
export interface Scenario {
  name: string;
  runbook: RunbookName;
  input: Record<string, unknown>;
  /** State of the lab that every cell starts from. */
  from: string;
  hosts: string[];
  /** Only these steps fail: the others do so in another scenario. Each has to be in the plan. */
  steps?: string[];
  /** How it ends with nothing planted, where that is not a success. */
  ends?: 'failed';
  /** What it does is undoing, which has no undo: a run that failed is started again, and has to succeed then. */
  again?: true;
  /** The point of no return that its plan has to have, and at which the hosts are looked at. */
  commits?: string;
  /** What comes once for each kind of step comes in the last one of the kind, not in the first. */
  late?: true;
  /** Hosts that are lost while a step is at work that acts elsewhere and needs them. */
  alsoLost?: { step: string; host: string }[];
  /** Its hosts are bare: it makes up secrets, other ones each time. */
  bare?: true;
  /** Units that it has to start anew, by host. */
  restarts?: Record<string, string>;
  /** What people do on the hosts while it runs, over and over: it may fail, and does nothing where there is nothing to do. */
  byHand?: (here: BackupLab) => Promise<void>;
}

/** `accept` and `rollback`: the step fails as with `fail`, the run holds behind its point of no return, and that is what a person says. */
export const cellKinds = ['fail', 'kill', 'lose', 'undo', 'accept', 'rollback'] as const;
export type CellKind = (typeof cellKinds)[number];

export interface Cell {
  scenario: Scenario;
  step: string;
  /** As its activity is told it: of what is undone for another run, that run's. */
  calledAs: string;
  title: string;
  activity: string;
  /** Its undo; none where it has none. */
  undo: string | undefined;
  /** Where it acts; of a lost host, that host. */
  on: string;
  kind: CellKind;
  /** It is the point of no return. */
  commits: boolean;
  /** Behind the point of no return: nothing before it is undone. */
  stands: boolean;
  /** A person decides behind the point of no return, and about an undo that fails. */
  attended: boolean;
  /** Its stage goes on without it: what the run is for has been reached by then. */
  tolerated: boolean;
  /** By then something was done that has an undo. */
  changed: boolean;
}

/** What the hosts of a scenario look like without any fault, and what is reported. */
export interface Undisturbed {
  before: Observed;
  /** What the steps up to the point of no return have made of them, with nothing left over. */
  committed?: Observed;
  /** Where the runbook has come to its end. */
  after: Observed;
  /** Of a runbook that only looks: the probes that fail. */
  failing?: string[];
}

export interface Outcome {
  /** With what a person said, where it held. */
  end: string;
  message: string;
  seconds: number;
  /** Against how it was before, after a success against how it is without the fault, and behind the point of no return against what stands. */
  differences: string[];
  /** Why the outcome is not allowed; empty where it is. */
  wrong: string;
}

/**
 * Runs a scenario once from its snapshot with nothing planted: its plan, and what the hosts look like before, at the point of no return, where the
 * run is paused for it, and after. Throws where the plan or the end is not what the scenario says.
 */
export async function runUndisturbed(
  here: BackupLab,
  scenario: Scenario,
): Promise<{ plan: Plan; undisturbed: Undisturbed }> {
  const before = await observe(here, scenario);
  const first = scenario.commits === undefined ? undefined : await firstBehind(here, scenario);
  const running = await restarted(here, scenario);
  const handle = await here.start(scenario.input, scenario.runbook);
  const over = new AbortController();
  const people = byHand(here, scenario, over.signal);
  let committed: Observed | undefined;
  let ended: Ended;
  try {
    if (first) committed = nothingLeft(await whilePaused(here, scenario, first), before);
    ended = await here.ended(handle);
  } finally {
    over.abort();
    await people;
  }
  const { end, message, report } = ended;
  const plan = RunReport.safeParse(report).data?.plan;
  if (end !== (scenario.ends ?? 'succeeded') || !plan)
    throw new Error(`${scenario.name}, with nothing planted: ${end}: ${message}`);
  if (scenario.commits !== undefined && plan.pointOfNoReturn !== scenario.commits)
    throw new Error(`${scenario.name} has the point of no return ${plan.pointOfNoReturn ?? 'none'}`);
  const same = await running();
  if (same.length > 0) throw new Error(`${scenario.name}, with nothing planted: ${same.join('; ')}`);
  if (first) await here.restartWorker();
  // What has been started meanwhile comes to rest.
  await delay(3000);
  const undisturbed: Undisturbed = {
    ...{ before, after: await observe(here, scenario) },
    ...(committed ? { committed } : {}),
    ...(isLook(scenario) ? { failing: failingIn(report) } : {}),
  };
  return { plan, undisturbed };
}

/** The first step behind the point of no return, and starts a worker that waits there. */
async function firstBehind(here: BackupLab, scenario: Scenario): Promise<string> {
  const { report } = await here.run({ ...scenario.input, plan: true }, scenario.runbook);
  const plan = RunReport.parse(report).plan;
  const steps = plan ? stepsOf(plan) : [];
  const next = steps[steps.findIndex(({ step }) => step.id === scenario.commits) + 1];
  if (!next || next === steps[0]) throw new Error(`${scenario.name}: nothing comes behind ${scenario.commits}`);
  const reached = faultFile(here);
  await startFaulty(here, {
    ...{ kind: 'pause', runbook: scenario.runbook, reached },
    ...{ step: next.step.id, activity: next.step.do.activity },
  });
  return reached;
}

async function whilePaused(here: BackupLab, scenario: Scenario, reached: string): Promise<Observed> {
  await until('the point of no return is behind the run', () => existsSync(reached), { seconds: 600 });
  try {
    return await observe(here, scenario);
  } finally {
    writeFileSync(goOnFile(reached), '');
  }
}

/** File of a fault that is not there yet. */
function faultFile(here: BackupLab): string {
  const reached = path.join(here.state, 'fault-reached');
  for (const file of [reached, goOnFile(reached)]) rmSync(file, { force: true });
  return reached;
}

async function startFaulty(here: BackupLab, fault: PlantedFault): Promise<void> {
  await here.worker().kill();
  await here.startWorker({
    program: 'test/faults/faulty-worker.js',
    env: { GUARDIA_TEST_FAULT: JSON.stringify(fault) },
  });
}

/** The hosts, and, of a backup, its store. */
async function observe(here: BackupLab, { hosts, runbook }: Scenario): Promise<Observed> {
  const seen = await observeHosts(here.lab, hosts);
  if (runbook !== 'backup') return seen;
  const points = (await here.points()).map(({ manifest, proofs }) =>
    [...manifest.artifacts.map(({ kind, name }) => `${kind} ${name}`).sort(), `${proofs.length} proofs`].join(', '),
  );
  return { ...seen, 'store points': points, 'store orphans': await here.orphans() };
}

const isLook = ({ runbook }: Scenario): boolean => (runbooks[runbook] as Runbook).readOnly === true;

/** The probes of a health check that fail. */
function failingIn(report: unknown): string[] {
  const probes = (RunReport.safeParse(report).data?.result as HealthCheckResult | undefined)?.probes;
  return probes ? probes.filter(isFailing).map(({ id, on, state }) => `probe ${id} on ${on}: ${state}`) : ['no probes'];
}

/** Looks later which units of the scenario still run as they did. */
async function restarted(here: BackupLab, { restarts = {} }: Scenario): Promise<() => Promise<string[]>> {
  const before = await startsOf(here.lab, restarts);
  return async () => {
    const now = await startsOf(here.lab, restarts);
    return Object.keys(restarts)
      .filter((host) => now[host] === before[host])
      .map((host) => `${host}: ${restarts[host]} was not started anew`);
  };
}

/**
 * Every step fails once; the worker is killed, the host lost, the undo cut off and a person asked once for each kind of step, or in every step with
 * `all`. A kind is what a step calls, whether on a host, whether it has an undo and whether it is behind the point of no return. Pure; throws for a
 * step that the scenario names and the plan does not have.
 */
export function cellsOf(scenario: Scenario, plan: Plan, options: { all?: boolean } = {}): Cell[] {
  const steps = stepsOf(plan);
  const commit = steps.findIndex(({ step }) => step.id === plan.pointOfNoReturn);
  const named = [...(scenario.steps ?? []), ...(scenario.alsoLost ?? []).map(({ step }) => step)];
  const unknown = named.filter((id) => !steps.some(({ step }) => step.id === id));
  if (unknown.length > 0) throw new Error(`the plan of ${scenario.name} has no step ${unknown.join(', ')}`);
  const all = steps.flatMap(({ stage, lane, step }, index) => {
    if (scenario.steps?.includes(step.id) === false) return [];
    const on = placeOf(lane, step);
    const undo = 'activity' in step.undo ? step.undo.activity : undefined;
    const stands = commit >= 0 && index > commit;
    const isOnHost = on !== SYSTEM_LANE && on !== WORKER_HOST;
    const cell = {
      ...{ scenario, step: step.id, calledAs: step.repairs?.step ?? step.id, title: step.title },
      ...{ activity: step.do.activity, undo, on, stands, commits: index === commit },
      attended: plan.unattended !== true,
      tolerated: stage.errorBudget > 0,
      changed: steps.slice(0, index + 1).some((one) => 'activity' in one.step.undo),
    };
    return [{ cell, isOnHost, key: [step.do.activity, isOnHost, undo !== undefined, stands].join(' ') }];
  });
  const keys = all.map(({ key }) => key);
  return all.flatMap(({ cell, isOnHost, key }, index): Cell[] => {
    const isChosen = options.all || index === (scenario.late ? keys.lastIndexOf(key) : keys.indexOf(key));
    const asks = cell.stands && cell.attended && !cell.tolerated;
    // Behind the point of no return nothing is undone unless a person says so.
    const isUndone = isOnHost && cell.undo !== undefined && !cell.stands;
    const once: CellKind[] = [
      'kill',
      ...(isOnHost ? (['lose'] as const) : []),
      ...(isUndone ? (['undo'] as const) : []),
      ...(asks ? (['accept', 'rollback'] as const) : []),
    ];
    const also = (scenario.alsoLost ?? []).filter(({ step }) => step === cell.step);
    return [
      { ...cell, kind: 'fail' },
      ...(isChosen ? once.map((kind) => ({ ...cell, kind })) : []),
      ...also.map(({ host }) => ({ ...cell, on: host, kind: 'lose' as const })),
    ];
  });
}

/** A cell's key, also that of its line in the table: a step can lose two hosts. */
export const keyOf = (scenario: string, { step, kind, on }: Pick<Cell, 'step' | 'kind' | 'on'>): string =>
  `${scenario}: ${step}: ${kind} on ${on}`;

export const nameOf = (cell: Cell): string => keyOf(cell.scenario.name, cell);

/**
 * Puts the lab back, unless it is to start from what is there, plants the fault, runs the runbook, and judges what came of it. A lost host
 * stays away for so many seconds.
 */
export async function runCell(
  here: BackupLab,
  cell: Cell,
  undisturbed: Undisturbed,
  options: { restore?: boolean; awaySeconds?: number } = {},
): Promise<Outcome> {
  const { restore = true, awaySeconds = 60 } = options;
  const { scenario, kind, activity, undo } = cell;
  const reached = faultFile(here);
  await here.worker().kill();
  if (restore) await here.lab.restore(scenario.from);
  await startFaulty(here, {
    ...{ kind: kind === 'accept' || kind === 'rollback' ? 'fail' : kind, runbook: scenario.runbook },
    ...{ step: cell.calledAs, activity, reached },
    ...(undo ? { undo } : {}),
  });
  const running = await restarted(here, scenario);
  const began = Date.now();
  const handle = await here.start(scenario.input, scenario.runbook);
  const over = new AbortController();
  const gone = disturb(here, { ...cell, reached, awaySeconds }, over.signal);
  const person = answerHolds(here, { cell, handle, gone, over: over.signal });
  const people = byHand(here, scenario, over.signal);
  let ended: Ended;
  try {
    ended = await here.ended(handle);
  } finally {
    over.abort();
    await Promise.all([gone, people]);
  }
  const { said, held } = await person;
  const planted = existsSync(reached);
  let end = said === undefined ? ended.end : `${ended.end} after ${said}`;
  let { message } = ended;
  if (scenario.again && end === 'failed') {
    await here.restartWorker();
    const second = await here.run(scenario.input, scenario.runbook);
    end = `failed, then ${second.end}`;
    message += `; then: ${second.message}`;
  }
  const seconds = (Date.now() - began) / 1000;
  const { expected, same } = expectation(cell, end, undisturbed, held);
  const differences = await differencesSoon(() => observe(here, scenario), expected, { same });
  if (end.startsWith('succeeded')) differences.push(...(await running()));
  if (undisturbed.failing && kind !== 'fail')
    differences.push(...probeDifferences(cell, ended.report, undisturbed.failing));
  return { end, message, seconds, differences, wrong: whatIsWrong(cell, { end, message, planted, differences }) };
}

/** What the hosts have to look like after such an end, and how they are compared. Pure. */
export function expectation(
  cell: Pick<Cell, 'scenario' | 'stands' | 'commits' | 'attended' | 'undo'>,
  end: string,
  { before, committed, after }: Undisturbed,
  held: Observed | undefined,
): { expected: Observed; same: (seen: Observed) => Observed } {
  if (end.startsWith('succeeded') || cell.scenario.again)
    return {
      expected: after,
      same: cell.scenario.bare ? (seen) => withoutGenerated(withoutRunNames(seen)) : withoutRunNames,
    };
  // It cannot be taken back, and the release that knows it stays with it.
  if (cell.commits && end.startsWith('rollback incomplete'))
    return {
      expected: Object.fromEntries(
        Object.entries(before).map(([facet, lines]) => [
          facet,
          facet.endsWith(' database') ? (committed?.[facet] ?? []) : lines,
        ]),
      ),
      same: withoutWayOn,
    };
  if (!cell.stands) return { expected: before, same: (seen) => seen };
  // What it has done has no undo, and nobody is asked: it may stay.
  if (committed && !cell.attended && cell.undo === undefined)
    return { expected: committed, same: (seen) => withoutRunNames(orCommitted(seen, { committed, after })) };
  if (end !== 'failed after accept') return { expected: committed ?? before, same: withoutRunNames };
  const kept = nothingLeft(held ?? {}, before);
  return { expected: committed ? standing({ committed, after, held: kept }) : kept, same: withoutRunNames };
}

/** The same, where a facet is as at the end already: as at the point of no return. */
const orCommitted = (seen: Observed, { committed, after }: { committed: Observed; after: Observed }): Observed =>
  Object.fromEntries(
    Object.entries(seen).map(([facet, lines]) => [
      facet,
      lines.join('\n') === after[facet]?.join('\n') ? (committed[facet] ?? []) : lines,
    ]),
  );

/** The same without what a run keeps on its hosts while it is at work. */
const nothingLeft = (seen: Observed, before: Observed): Observed => ({
  ...seen,
  ...Object.fromEntries(Object.entries(before).filter(([facet]) => facet.endsWith(' left over'))),
});

/** What a health check says that it does not say undisturbed; of a lost host it has to say that it cannot look there. */
function probeDifferences({ kind, on }: Cell, report: unknown, undisturbed: readonly string[]): string[] {
  const found = failingIn(report);
  const isThere = (line: string): boolean => !(kind === 'lose' && line.includes(` on ${on}: `));
  const lost = found.filter((line) => !isThere(line));
  return [
    ...(kind === 'lose' && lost.length === 0 ? [`it says nothing about ${on}, which is lost`] : []),
    ...lost.filter((line) => !line.endsWith(': unknown')).map((line) => `+ ${line}, of a host that is lost`),
    // What is asked for from outside fails with the host that answers it.
    ...(kind === 'lose' ? [] : found.filter((line) => !undisturbed.includes(line)).map((line) => `+ ${line}`)),
    ...undisturbed.filter((line) => isThere(line) && !found.includes(line)).map((line) => `- ${line}`),
  ];
}

/** What happens from outside once the fault is reached: a new worker for a dead one, a cut that heals. Ends when the fault is over. */
async function disturb(
  here: BackupLab,
  { kind, on, reached, awaySeconds }: Cell & { reached: string; awaySeconds: number },
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted && !existsSync(reached)) await delay(50);
  if ((kind === 'kill' || kind === 'undo') && !over.aborted) {
    await here.worker().kill();
    await here.startWorker();
  }
  if (kind === 'lose' && existsSync(reached)) {
    await here.lab.cut(on);
    await delay(awaySeconds * 1000, undefined, { signal: over }).catch(() => undefined);
    await here.lab.heal(on);
  }
}

/** What people do while a run is under way, and once more when it is over. */
async function byHand(here: BackupLab, { byHand: act }: Scenario, over: AbortSignal): Promise<void> {
  if (!act) return;
  for (;;) {
    const isOver = over.aborted;
    // What they work on may be on its way down just then.
    await act(here).catch(() => undefined);
    if (isOver) return;
    await delay(1000, undefined, { signal: over }).catch(() => undefined);
  }
}

/** How often the person has a step done again that is behind the point of no return. */
const RETRIES = 3;
/** What a step has started is up by then. Milliseconds. */
const AT_REST_MS = 5000;

/**
 * The person of this campaign. Behind the point of no return it has the step done again once the fault is over, or says what the cell wants, and looks
 * at the hosts before. An undo that fails it leaves out, and else things as they are: what a run cannot put right by itself shows in its end.
 */
async function answerHolds(
  here: BackupLab,
  { cell, handle, gone, over }: { cell: Cell; handle: WorkflowHandle; gone: Promise<void>; over: AbortSignal },
): Promise<{ said?: RecoverChoice; held?: Observed }> {
  let answer: { said?: RecoverChoice; held?: Observed } = {};
  let retries = 0;
  const decisionAt = async ({ kind, choices }: Hold): Promise<RecoverChoice> => {
    if (kind === 'undo failed') return losesRows(cell) ? 'done' : 'skip';
    if (kind !== 'point of no return') return choices.includes('accept') ? 'accept' : 'rollback';
    if (cell.kind === 'accept' || cell.kind === 'rollback') {
      await delay(AT_REST_MS);
      answer.held = await observe(here, cell.scenario);
      return cell.kind;
    }
    await gone;
    if (cell.kind === 'fail') await here.restartWorker();
    return retries++ < RETRIES ? 'retry' : 'accept';
  };
  while (!over.aborted) {
    const status = await here.status(handle).catch(() => undefined);
    for (const hold of status?.holds ?? []) {
      const decision = await decisionAt(hold);
      await handle
        .executeUpdate(recoverUpdate, { args: [{ hold: hold.id, decision, reason: 'campaign' }] })
        .then(() => (answer = { ...answer, said: decision }))
        .catch(() => undefined);
    }
    await delay(1000, undefined, { signal: over }).catch(() => undefined);
  }
  return answer;
}

/** Its undo brings back what it has taken, and not the rows that it held: that is no way back of its own, and a person is told. */
const losesRows = ({ commits, undo }: Pick<Cell, 'commits' | 'undo'>): boolean =>
  commits && undo === 'reapplyMigrations';

/**
 * Why an outcome is not allowed; empty where it is. Allowed are, each compared with what it has to look like (`expectation`):
 * - after a kill the end of an undisturbed run, after a lost host that or `rolled back`; a health check says that it cannot look there
 * - after a failure `rolled back`, or `failed` where nothing was done by then, for that reason and no other
 * - behind the point of no return a hold: `succeeded` once the step was done again, `failed` after accept and rollback; of an unattended plan `failed`
 * - at a point of no return that was passed and has no way back a person who is told so; one who is told which rows are lost has the rest undone
 * - of what undoes for another run a failure that a second run makes good.
 * Pure.
 */
export function whatIsWrong(
  cell: Cell,
  { end, message, planted, differences }: Pick<Outcome, 'end' | 'message' | 'differences'> & { planted: boolean },
): string {
  if (!planted) return `the step was never reached, and it ended as ${end}`;
  if (!endsAllowed(cell).includes(end)) {
    if (end === 'succeeded') return 'it succeeded in spite of the fault';
    return `${cell.stands ? 'behind the point of no return ' : ''}it ended as ${end}`;
  }
  if ((cell.kind === 'fail' || cell.kind === 'undo') && !end.startsWith('succeeded') && !message.includes(PLANTED))
    return 'it failed for another reason than the one that was planted';
  if (differences.length === 0) return '';
  if (end.startsWith('succeeded') || cell.scenario.again) return 'it does not look as it does without the fault';
  return cell.stands || end.startsWith('rollback incomplete') ? 'it is not what has to stand' : 'it is not as before';
}

function endsAllowed(cell: Cell): string[] {
  const { kind, scenario, stands, commits, attended, tolerated, changed } = cell;
  const undisturbed = scenario.ends ?? 'succeeded';
  if (kind === 'kill') return [undisturbed];
  if (kind === 'lose' && isLook(scenario)) return ['failed'];
  // What had been done already when it failed is not there to be done again.
  if (scenario.again)
    return [...(kind === 'lose' ? [undisturbed] : []), 'failed, then succeeded', 'failed, then nothing to do'];
  const undone = changed ? ['rolled back'] : ['rolled back', 'failed'];
  const told = losesRows(cell) ? ['rolled back after done'] : [];
  if (kind === 'lose' && !stands) return [undisturbed, ...undone, ...told];
  if (tolerated) return [undisturbed, ...(stands ? [] : undone)];
  if (kind === 'accept' || kind === 'rollback') return [`failed after ${kind}`];
  if (stands && attended) return ['succeeded after retry', ...(kind === 'lose' ? [undisturbed] : [])];
  if (stands) return ['failed', ...(kind === 'lose' ? [undisturbed] : [])];
  if (told.length > 0) return told;
  return commits && attended ? [...undone, 'rollback incomplete after skip'] : undone;
}
