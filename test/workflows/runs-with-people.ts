// Runs that hold for people, and what a person says to them.
import { recoverUpdate, type RecoverChoice } from '../../workflows/contracts/hold.js';
import type { Lane, Plan, Stage } from '../../workflows/contracts/plan.js';
import type { Act } from './acts.js';
import { until, type Script, type ScriptedRun, type ScriptedRuns } from './scripted-runs.js';
import { toyPlan } from './toy-plan.js';

export type WithPeople = [
  parts: (Stage | Lane)[],
  acts: Record<string, Act>,
  options?: { plan?: Partial<Plan>; input?: object; script?: Script },
];

/** A run whose plan holds for people. */
export async function startWithPeople(
  runs: ScriptedRuns,
  ...[parts, acts, options = {}]: WithPeople
): Promise<ScriptedRun> {
  const system = runs.system();
  return runs.start(
    { plan: (name) => toyPlan(name, parts, { unattended: false, ...options.plan }), acts, ...options.script },
    { system, input: { system, requester: 'kim', ...options.input } },
  );
}

export const holds = (run: ScriptedRun, count = 1): Promise<void> =>
  until(async () => (await run.status()).holds.length === count, `the run holds at ${count} place(s)`);

export const say = (run: ScriptedRun, decision: RecoverChoice, hold?: string) =>
  run.handle.executeUpdate(recoverUpdate, {
    args: [{ decision, reason: 'because', by: 'ana', ...(hold === undefined ? {} : { hold }) }],
  });

/** The steps that were done and undone, in their order. */
export const work = (run: ScriptedRun): string[] => run.names().filter((name) => /^(do|undo) /.test(name));
