import { PLAN_FORMAT, type Lane, type Plan, type Stage, type Step } from '../contracts/plan.js';

/*
 * The words that a planner is written in. A stage without steps is no stage: what there is nothing to do in does not stand in the plan.
 */

/** Steps one after the other in one place: a host, the worker's machine or the system. */
export function once(title: string, on: string, steps: Step[]): Stage[] {
  return sideBySide(title, [on], () => steps);
}

/** The same steps on several hosts at the same time. All must succeed. */
export function sideBySide(title: string, hosts: readonly string[], steps: (host: string) => Step[]): Stage[] {
  const lanes = lanesOf(hosts, steps);
  return lanes.length === 0 ? [] : [allOf(title, lanes)];
}

/** Lanes at the same time. All must succeed. */
export const allOf = (title: string, lanes: Lane[]): Stage => ({
  title,
  atOnce: Math.max(lanes.length, 1),
  errorBudget: 0,
  lanes,
});

/**
 * Host after host, or a few at once: never more than may fail, and one more. A host that fails within the budget is put back and left out; beyond
 * it everything is undone.
 */
export function rolling(
  title: string,
  hosts: readonly string[],
  { atOnce, errorBudget }: { atOnce: number; errorBudget: number },
  steps: (host: string) => Step[],
): Stage[] {
  const lanes = lanesOf(hosts, steps);
  return lanes.length === 0
    ? []
    : [{ title, atOnce: Math.min(atOnce, errorBudget + 1, lanes.length), errorBudget, rolling: true, lanes }];
}

/** Tidying that comes after the goal: a host where it fails keeps what it would have lost, and nothing is undone for that. */
export function afterwards(title: string, hosts: readonly string[], steps: (host: string) => Step[]): Stage[] {
  const lanes = lanesOf(hosts, steps);
  return lanes.length === 0 ? [] : [{ title, atOnce: lanes.length, errorBudget: lanes.length, lanes }];
}

function lanesOf(hosts: readonly string[], steps: (host: string) => Step[]): Lane[] {
  return hosts.map((on) => ({ on, steps: steps(on) })).filter((lane) => lane.steps.length > 0);
}

/** A plan out of its stages. */
export function plan(
  runbook: string,
  system: string,
  stages: Stage[][],
  more: Omit<Partial<Plan>, 'stages'> = {},
): Plan {
  return { format: PLAN_FORMAT, runbook, system, stages: stages.flat(), downtime: [], notes: [], ...more };
}

/** Nothing to do, and why. */
export const nothingToDo = (runbook: string, system: string, ...why: string[]): Plan =>
  plan(runbook, system, [], { notes: why });
