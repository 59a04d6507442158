import type { HealthCheckInput } from '../contracts/health-check.js';
import { WORKER_HOST } from '../contracts/names.js';
import { PLAN_FORMAT } from '../contracts/plan.js';
import type { Planner } from '../contracts/planning.js';
import { probeNeeds, probesOf } from '../contracts/system-probes.js';
import { look } from '../steps/health.js';

/** Every place that is looked from, with its probes: the hosts side by side, and the worker for what is seen from outside. */
export const healthCheckPlanner: Planner<HealthCheckInput> = {
  needs: () => probeNeeds,

  // Looking is the plan itself: nothing has to be known before.
  observe: () => [],

  plan(_, system) {
    const probes = probesOf(system);
    const hosts = Object.keys(system.hosts);
    const lanes = [...hosts, WORKER_HOST]
      .map((on) => ({ on, probes: probes.filter((probe) => probe.on === on) }))
      .filter((place) => place.probes.length > 0)
      .map(({ on, probes: some }) => ({ on, steps: [look(system, on, some)] }));
    return {
      format: PLAN_FORMAT,
      runbook: 'health-check',
      system: system.system,
      stages: lanes.length === 0 ? [] : [{ title: 'look', atOnce: Math.min(lanes.length, 10), errorBudget: 0, lanes }],
      downtime: [],
      notes: [],
    };
  },

  facets: () => ({}),
};
