import { createHash } from 'node:crypto';
import { canonicalJson } from '../activities/inventory/canonical-json.js';
import { loadSystem } from '../activities/inventory/load.js';
import { readSources } from '../activities/inventory/sources.js';
import type { InventoryLocations } from '../activities/inventory/locations.js';
import type { Observation } from '../workflows/contracts/calls.js';
import { failure } from '../workflows/contracts/errors.js';
import type { FrameActivities } from '../workflows/contracts/frame-activities.js';
import { APPLY_GATE, type Gate } from '../workflows/contracts/gate.js';
import { approvedPart, placeOf, stepsOf, type Plan } from '../workflows/contracts/plan.js';
import type { Planner } from '../workflows/contracts/planning.js';
import type { System } from '../workflows/contracts/system.js';
import { laneTarget } from '../workflows/lib/calls.js';
import { checkPlan } from '../workflows/lib/check-plan.js';
import { refuseUnset } from '../workflows/contracts/unset.js';

const digest = (value: unknown): string => createHash('sha256').update(canonicalJson(value)).digest('hex');

/**
 * Planning, as local activities: what they return is in the history, so a run that has its plan keeps it, whatever
 * version of a planner is deployed meanwhile. No side effects.
 */
export function createPlanningActivities(
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each planner takes the input of its own runbook
  planners: Record<string, Planner<any>>,
  locations: InventoryLocations,
): Pick<FrameActivities, 'prepareRun' | 'planRun' | 'facetsOf'> {
  const planner = (runbook: string): Planner<unknown> => {
    const found = planners[runbook];
    if (!found)
      throw failure('InvalidPlan', `this worker has no planner for ${runbook}`, { remedy: 'Update the worker' });
    return found;
  };
  const digestsOf = (runbook: string, observation: Observation) => {
    const facets = planner(runbook).facets(observation);
    return {
      facetsDigest: digest(facets),
      facets: Object.fromEntries(
        Object.entries(facets).map(([name, facet]) => [name, digest(facet ?? null).slice(0, 16)]),
      ),
    };
  };
  return {
    async prepareRun({ runbook, input, moment }) {
      const { system, digest: systemDigest } = loadSystem(String(input['system']), locations);
      refuseUnset(system, planner(runbook).needs(input, system), runbook);
      const sources = readSources(planner(runbook).sources?.(input, system) ?? [], locations);
      return {
        system,
        systemDigest: Object.keys(sources).length === 0 ? systemDigest : digest({ systemDigest, sources }),
        observe: planner(runbook).observe(input, system, moment, sources),
        elsewhere: [...(planner(runbook).elsewhere ?? [])],
      };
    },
    async planRun({ runbook, input, system, observation, moment, expected }) {
      const sources = readSources(planner(runbook).sources?.(input, system) ?? [], locations);
      const made = planner(runbook).plan(input, system, observation, moment, sources);
      const plan = checkPlan(withExpected(withGate(made, system), expected));
      // A host that is not there or cannot be reached is found now, not in the middle of the run.
      for (const { lane, step } of stepsOf(plan)) laneTarget(system, placeOf(lane, step));
      return { plan, digest: digest(approvedPart(plan)), ...digestsOf(runbook, observation) };
    },
    async facetsOf({ runbook, observation }) {
      return { facets: digestsOf(runbook, observation).facets, elsewhere: [...(planner(runbook).elsewhere ?? [])] };
    },
  };
}

/** The gate before the first step, where the system wants one for this runbook; a plan without steps needs nobody's agreement. */
function withGate(plan: Plan, system: System): Plan {
  const policy = system.approvals[plan.runbook as keyof System['approvals']];
  if (plan.gate || policy === undefined || policy === 'none' || plan.stages.length === 0) return plan;
  const gate: Gate = { ...policy, id: APPLY_GATE, title: `${plan.runbook} of ${plan.system}` };
  return { ...plan, gate };
}

/** How long the steps took before, where the planner does not know better. */
function withExpected(plan: Plan, expected: Record<string, number>): Plan {
  return {
    ...plan,
    stages: plan.stages.map((stage) => ({
      ...stage,
      lanes: stage.lanes.map((lane) => ({
        ...lane,
        steps: lane.steps.map((step) => {
          const seconds = step.expectedSeconds ?? expected[step.id];
          return seconds === undefined ? step : { ...step, expectedSeconds: seconds };
        }),
      })),
    })),
  };
}
