import { createHash } from 'node:crypto';
import { canonicalJson } from '../activities/inventory/canonical-json.js';
import { loadSystem } from '../activities/inventory/load.js';
import { readSources } from '../activities/inventory/sources.js';
import type { InventoryLocations } from '../activities/inventory/locations.js';
import { failure } from '../workflows/contracts/errors.js';
import type { FrameActivities } from '../workflows/contracts/frame-activities.js';
import { placeOf, stepsOf } from '../workflows/contracts/plan.js';
import type { Planner } from '../workflows/contracts/planning.js';
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
): Pick<FrameActivities, 'prepareRun' | 'planRun'> {
  const planner = (runbook: string): Planner<unknown> => {
    const found = planners[runbook];
    if (!found)
      throw failure('InvalidPlan', `this worker has no planner for ${runbook}`, { remedy: 'Update the worker' });
    return found;
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
      };
    },
    async planRun({ runbook, input, system, observation, moment }) {
      const sources = readSources(planner(runbook).sources?.(input, system) ?? [], locations);
      const plan = checkPlan(planner(runbook).plan(input, system, observation, moment, sources));
      // A host that is not there or cannot be reached is found now, not in the middle of the run.
      for (const { lane, step } of stepsOf(plan)) laneTarget(system, placeOf(lane, step));
      return { plan, digest: digest(plan), facetsDigest: digest(planner(runbook).facets(observation)) };
    },
  };
}
