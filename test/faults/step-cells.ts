// Every step fails once: the cells of the table, generated from the plans of the runbooks, and what has to come of each.
import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { recoverUpdate } from '../../workflows/contracts/hold.js';
import { SYSTEM_LANE, WORKER_HOST } from '../../workflows/contracts/names.js';
import { placeOf, stepsOf, type Plan } from '../../workflows/contracts/plan.js';
import { RunReport } from '../../workflows/contracts/run.js';
import type { RunbookName } from '../../workflows/contracts/runbooks.js';
import type { BackupLab, Ended } from '../backup/harness.js';
import { differencesSoon, observeHosts, withoutRunNames, type Observed } from './host-observation.js';
import type { PlantedFault } from './planted-fault.js';

/** A runbook in a certain state of the hosts. */
export interface Scenario {
  name: string;
  runbook: RunbookName;
  input: Record<string, unknown>;
  /** Snapshot of the lab that every cell starts from. */
  from: string;
  hosts: string[];
  /** Only these steps fail: the others do so in another scenario. */
  steps?: string[];
  /** How it ends with nothing planted, where that is not a success. */
  ends?: 'failed';
  /** What it does is undoing, which has no undo: a run that failed is started again, and has to succeed then. */
  again?: true;
}

export interface Cell {
  scenario: Scenario;
  step: string;
  /** As its activity is told it: of what is undone for another run, that run's. */
  calledAs: string;
  title: string;
  activity: string;
  /** Its undo; none where it has none. */
  undo: string | undefined;
  on: string;
  kind: PlantedFault['kind'];
  /** Behind the point of no return: a failure there leaves what was done, and says so. */
  stands: boolean;
  /** Its stage goes on without it: what the run is for has been reached by then. */
  tolerated: boolean;
}

/** What the hosts of a scenario look like without any fault. */
export interface Undisturbed {
  before: Observed;
  /** Where the runbook has succeeded. */
  after: Observed;
}

export interface Outcome {
  end: string;
  message: string;
  seconds: number;
  /** Against how it was before; after a success against how it is without the fault. */
  differences: string[];
  /** Why the outcome is not allowed; empty where it is. */
  wrong: string;
}

/** Runs a scenario once from its snapshot with nothing planted: its plan, and what the hosts look like before and after. */
export async function runUndisturbed(
  here: BackupLab,
  scenario: Scenario,
): Promise<{ plan: Plan; undisturbed: Undisturbed }> {
  const before = await observeHosts(here.lab, scenario.hosts);
  const { end, message, report } = await here.run(scenario.input, scenario.runbook);
  const plan = RunReport.safeParse(report).data?.plan;
  if (end !== (scenario.ends ?? 'succeeded') || !plan)
    throw new Error(`${scenario.name}, with nothing planted: ${end}: ${message}`);
  // What has been started meanwhile comes to rest.
  await delay(3000);
  return { plan, undisturbed: { before, after: await observeHosts(here.lab, scenario.hosts) } };
}

/**
 * Every step fails once; the worker is killed, the host lost and the undo cut off once for each kind of step (its activity), or in every step
 * with `all`. Pure.
 */
export function cellsOf(scenario: Scenario, plan: Plan, options: { all?: boolean } = {}): Cell[] {
  const steps = stepsOf(plan);
  const commit = steps.findIndex(({ step }) => step.id === plan.pointOfNoReturn);
  const kinds = new Set<string>();
  return steps.flatMap(({ stage, lane, step }, index): Cell[] => {
    if (scenario.steps?.includes(step.id) === false) return [];
    const on = placeOf(lane, step);
    const { activity } = step.do;
    const calledAs = step.repairs?.step ?? step.id;
    const stands = commit >= 0 && index > commit;
    const cell = {
      scenario,
      step: step.id,
      calledAs,
      title: step.title,
      activity,
      undo: 'activity' in step.undo ? step.undo.activity : undefined,
      on,
      stands,
      tolerated: stage.errorBudget > 0,
    };
    const isNew = options.all === true || !kinds.has(activity);
    kinds.add(activity);
    const isOnHost = on !== SYSTEM_LANE && on !== WORKER_HOST;
    return [
      { ...cell, kind: 'fail' },
      ...(isNew ? [{ ...cell, kind: 'kill' as const }] : []),
      ...(isNew && isOnHost ? [{ ...cell, kind: 'lose' as const }] : []),
      // Behind the point of no return nothing is undone unless a person says so.
      ...(isNew && isOnHost && cell.undo !== undefined && !stands ? [{ ...cell, kind: 'undo' as const }] : []),
    ];
  });
}

export const nameOf = ({ scenario, step, kind }: Cell): string => `${scenario.name}: ${step}: ${kind}`;

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
  const reached = path.join(here.state, 'fault-reached');
  rmSync(reached, { force: true });
  const fault: PlantedFault = {
    kind,
    runbook: scenario.runbook,
    step: cell.calledAs,
    activity,
    reached,
    ...(undo ? { undo } : {}),
  };
  await here.worker().kill();
  await Promise.all([
    restore ? here.lab.restore(scenario.from) : undefined,
    here.startWorker({
      program: 'test/faults/faulty-worker.js',
      env: { GUARDIA_TEST_FAULT: JSON.stringify(fault) },
    }),
  ]);
  const began = Date.now();
  const handle = await here.start(scenario.input, scenario.runbook);
  const over = new AbortController();
  const disturbing = disturb(here, { ...cell, reached, awaySeconds }, handle, over.signal);
  let ended: Ended;
  try {
    ended = await here.ended(handle);
  } finally {
    over.abort();
    await disturbing;
  }
  const planted = existsSync(reached);
  let end: string = ended.end;
  let { message } = ended;
  if (scenario.again && end === 'failed') {
    await here.restartWorker();
    const second = await here.run(scenario.input, scenario.runbook);
    end = `failed, then ${second.end}`;
    message += `; then: ${second.message}`;
  }
  const seconds = (Date.now() - began) / 1000;
  const succeeded = end === 'succeeded' || scenario.again === true;
  const differences = await differencesSoon(here.lab, scenario.hosts, undisturbed[succeeded ? 'after' : 'before'], {
    same: succeeded ? withoutRunNames : (seen) => seen,
  });
  return { end, message, seconds, differences, wrong: whatIsWrong(cell, { end, planted, differences }) };
}

/** What happens from outside once the fault is reached: a new worker for a dead one, a cut that heals, a person who answers a hold. */
async function disturb(
  here: BackupLab,
  { kind, on, reached, awaySeconds }: Cell & { reached: string; awaySeconds: number },
  handle: WorkflowHandle,
  over: AbortSignal,
): Promise<void> {
  const answering = answerHolds(here, handle, over);
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
  await answering;
}

/** The person of this campaign leaves things as they are: what a run cannot put right by itself shows in its end. */
async function answerHolds(here: BackupLab, handle: WorkflowHandle, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    const status = await here.status(handle).catch(() => undefined);
    for (const { id, choices } of status?.holds ?? []) {
      const decision = choices.includes('accept') ? ('accept' as const) : ('rollback' as const);
      await handle
        .executeUpdate(recoverUpdate, { args: [{ hold: id, decision, reason: 'campaign' }] })
        .catch(() => undefined);
    }
    await delay(1000, undefined, { signal: over }).catch(() => undefined);
  }
}

/**
 * Why an outcome is not allowed; empty where it is. Allowed are `succeeded`, looking as it does without the fault; `rolled back`, or `failed` where
 * nothing was to be undone, with every facet as before; behind the point of no return what the plan says; of what undoes for another run a failure
 * that a second run makes good. Pure.
 */
export function whatIsWrong(
  { kind, stands, tolerated, scenario: { again } }: Cell,
  { end, planted, differences }: { end: string; planted: boolean; differences: readonly string[] },
): string {
  if (!planted) return `the step was never reached, and it ended as ${end}`;
  if (end === 'succeeded') {
    if (kind === 'fail' || kind === 'undo') return tolerated ? '' : 'a step failed, and yet it succeeded';
    return differences.length > 0 ? 'it succeeded, and does not look as it does without the fault' : '';
  }
  if (again) {
    // What had been done already when it failed is not there to be done again.
    if (!['failed, then succeeded', 'failed, then nothing to do'].includes(end)) return `it ended as ${end}`;
    return differences.length > 0 ? 'it does not look as it does without the fault' : '';
  }
  if (stands) return end === 'failed' ? '' : `behind the point of no return it ended as ${end}`;
  if (end !== 'rolled back' && end !== 'failed') return `it ended as ${end}`;
  return differences.length > 0 ? 'it is not as before' : '';
}
