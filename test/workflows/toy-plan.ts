import { PLAN_FORMAT, type Call, type Lane, type Plan, type Stage, type Step } from '../../workflows/contracts/plan.js';

/*
 * Plans that do nothing real, made of the shipped activities' names: a step `a` does `writeManifest`, or `dumpDatabase` where it is a
 * job, and its undo and its verification have other names. What happens then is scripted (scripted-runs.ts).
 */

type Json = Call['with'];

export interface StepOptions extends Partial<Omit<Step, 'id' | 'do' | 'undo' | 'verify'>> {
  /** The argument of `do` beside what the script needs: references to earlier steps. */
  with?: Json;
  /** `job`: followed for as long as it takes. `look`: an activity with few, quick attempts. Default: a short change. */
  kind?: 'job' | 'look';
  verify?: Json;
  undo?: false;
}

const activities = { job: 'dumpDatabase', look: 'observeWorker', change: 'writeManifest' };

export function step(id: string, { with: argument, kind, verify, undo, ...rest }: StepOptions = {}): Step {
  return {
    id,
    title: `do ${id}`,
    why: `because of ${id}`,
    do: {
      activity: activities[kind ?? 'change'],
      with: { part: 'do', ...argument, ...(kind === 'job' ? { timeoutSeconds: 60 } : {}) },
    },
    undo:
      undo === false
        ? { none: 'nothing to undo' }
        : { activity: kind === 'job' ? 'discardArtifact' : 'withdrawManifest', with: { part: 'undo' } },
    ...(verify ? { verify: { activity: 'verifyArtifact', with: { part: 'verify', ...verify } } } : {}),
    ...rest,
  };
}

export const lane = (on: string, ...steps: (Step | string)[]): Lane => ({
  on,
  steps: steps.map((each) => (typeof each === 'string' ? step(each) : each)),
});

/** Lanes side by side: all at once, and no one may fail, unless said otherwise. */
export const stage = (lanes: Lane[], options: Partial<Omit<Stage, 'lanes'>> = {}): Stage => ({
  title: 'work',
  atOnce: lanes.length,
  errorBudget: 0,
  lanes,
  ...options,
});

/** A plan of stages that never holds for a person unless said otherwise; a lane stands for a stage of its own. */
export function toyPlan(system: string, parts: (Stage | Lane)[], options: Partial<Plan> = {}): Plan {
  return {
    format: PLAN_FORMAT,
    runbook: 'backup',
    system,
    stages: parts.map((part) => ('lanes' in part ? part : stage([part]))),
    downtime: [],
    notes: [],
    unattended: true,
    ...options,
  };
}
