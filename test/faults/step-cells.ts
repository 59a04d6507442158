// Every step fails once: the cells of the table, generated from the plans of the runbooks, and what has to come of each.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { placeOf, stepsOf, type Plan } from '../../workflows/contracts/plan.js';
import { recoverUpdate } from '../../workflows/contracts/hold.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { SYSTEM_LANE, WORKER_HOST } from '../../workflows/contracts/names.js';
import type { BackupLab, Ended } from '../backup/harness.js';
import { differences, digestOf, observeHosts, type Observed } from './host-observation.js';
import type { PlantedFault } from './planted-fault.js';

/** A runbook in a certain state of the hosts. A new runbook joins by being listed in scenarios.ts. */
export interface Scenario {
  runbook: string;
  input: Record<string, unknown>;
  /** Snapshot of the lab that every cell starts from. */
  from: string;
  hosts: string[];
}

export interface Cell {
  scenario: Scenario;
  step: string;
  title: string;
  activity: string;
  on: string;
  kind: PlantedFault['kind'];
  /** Behind the point of no return, or in a plan that never rolls back: a failure there may leave what was done. */
  stands: boolean;
}

export interface Outcome {
  end: string;
  message: string;
  seconds: number;
  /** Undefined where the run succeeded. */
  same?: boolean;
  differences: string[];
  /** Why the outcome is not allowed; empty where it is. */
  wrong: string;
}

/** How long a lost host stays away. Seconds. */
const AWAY_SECONDS = 60;

/** The plan of a scenario, made and not run. */
export async function planOf(here: BackupLab, scenario: Scenario): Promise<Plan> {
  const { report } = await here.run({ ...scenario.input, plan: true }, scenario.runbook);
  const plan = RunReport.parse(report).plan;
  if (!plan || plan.stages.length === 0) throw new Error(`${scenario.runbook} from ${scenario.from} plans nothing`);
  return plan;
}

/**
 * Every step fails once; the worker is killed and the host lost once for each kind of step (its activity), or in every step with `all`. Pure.
 */
export function cellsOf(scenario: Scenario, plan: Plan, options: { all?: boolean } = {}): Cell[] {
  const steps = stepsOf(plan);
  const commit = steps.findIndex(({ step }) => step.id === plan.pointOfNoReturn);
  const kinds = new Set<string>();
  return steps.flatMap(({ lane, step }, index): Cell[] => {
    const on = placeOf(lane, step);
    const cell = {
      ...{ scenario, step: step.id, title: step.title, activity: step.do.activity, on },
      stands: commit >= 0 && index >= commit,
    };
    // A runbook that runs as a step is listed itself.
    if (step.do.activity === 'runRunbook') return [];
    const isNew = options.all === true || !kinds.has(step.do.activity);
    kinds.add(step.do.activity);
    return [
      { ...cell, kind: 'fail' },
      ...(isNew ? [{ ...cell, kind: 'kill' as const }] : []),
      ...(isNew && on !== SYSTEM_LANE && on !== WORKER_HOST ? [{ ...cell, kind: 'lose' as const }] : []),
    ];
  });
}

export const nameOf = ({ scenario, step, kind }: Cell): string => `${scenario.runbook} ${step} ${kind}`;

/** Puts the lab back, plants the fault, runs the runbook, and judges what came of it. */
export async function runCell(here: BackupLab, cell: Cell): Promise<Outcome> {
  const { scenario, kind } = cell;
  await here.worker().stop();
  await here.lab.restore(scenario.from);
  const before = await observeHosts(here.lab, scenario.hosts);
  const reached = path.join(here.state, 'fault-reached');
  rmSync(reached, { force: true });
  const fault: PlantedFault = { kind, runbook: scenario.runbook, step: cell.step, activity: cell.activity, reached };
  const env = { GUARDIA_TEST_FAULT: JSON.stringify(fault) };
  await here.startWorker({ program: 'test/faults/faulty-worker.js', env });
  const began = Date.now();
  const handle = await here.start(scenario.input, scenario.runbook);
  const watching = new AbortController();
  const disturbing = disturb(here, cell, reached, handle, watching.signal);
  let ended: Ended;
  try {
    ended = await here.ended(handle);
  } finally {
    watching.abort();
    await disturbing;
  }
  const seconds = (Date.now() - began) / 1000;
  const after = await observeHosts(here.lab, scenario.hosts);
  return judge(cell, ended, { before, after, seconds, planted: existsSync(reached) });
}

/** What happens from outside once the fault is reached: a new worker for a dead one, a cut that heals, a person who answers a hold. */
async function disturb(
  here: BackupLab,
  { kind, on }: Cell,
  reached: string,
  handle: WorkflowHandle,
  signal: AbortSignal,
): Promise<void> {
  const planted = async (): Promise<boolean> => {
    while (!signal.aborted && !existsSync(reached)) await delay(50);
    return existsSync(reached);
  };
  const answering = (async () => {
    // Behind the point of no return a run holds. The person of this campaign leaves things as they are.
    while (!signal.aborted) {
      const status = await here.status(handle).catch(() => undefined);
      for (const hold of status?.holds ?? [])
        await handle
          .executeUpdate(recoverUpdate, {
            args: [
              { hold: hold.id, decision: hold.choices.includes('accept') ? 'accept' : 'rollback', reason: 'campaign' },
            ],
          })
          .catch(() => undefined);
      await delay(1000, undefined, { signal }).catch(() => undefined);
    }
  })();
  if (kind === 'kill' && (await planted())) {
    await here.worker().kill();
    if (!signal.aborted) await here.startWorker();
  }
  if (kind === 'lose' && (await planted())) {
    await here.lab.cut(on);
    await delay(AWAY_SECONDS * 1000);
    await here.lab.heal(on);
  }
  await answering;
}

/** Item by item what is allowed: `succeeded`; `rolled back` with every facet as before; behind the point of no return what the plan says. Pure. */
export function judge(
  cell: Cell,
  ended: Ended,
  seen: { before: Observed; after: Observed; seconds: number; planted: boolean },
): Outcome {
  const changes = differences(seen.before, seen.after);
  const same = digestOf(seen.before) === digestOf(seen.after);
  const wrong = ((): string => {
    if (!seen.planted) return 'the step was never reached: nothing was planted';
    if (ended.end === 'succeeded') return cell.kind === 'fail' ? 'a failed step and yet it succeeded' : '';
    if (cell.stands) return ended.end === 'failed' ? '' : `behind the point of no return it ended as ${ended.end}`;
    if (ended.end !== 'rolled back' && ended.end !== 'failed') return `it ended as ${ended.end}`;
    return same ? '' : 'it is not as before';
  })();
  return {
    ...{ end: ended.end, message: ended.message, seconds: seen.seconds, differences: changes, wrong },
    ...(ended.end === 'succeeded' ? {} : { same }),
  };
}

/** The lines of a file of JSON lines; none where there is no file. */
export function readLines<T>(file: string): T[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}
