import { adoptPlanner } from '../workflows/adopt/plan.js';
import { backupPlanner } from '../workflows/backup/plan.js';
import { healthCheckPlanner } from '../workflows/health-check/plan.js';
import { deployPlanner } from '../workflows/deploy/plan.js';
import { restartServicePlanner } from '../workflows/restart-service/plan.js';
import { rollbackPlanner } from '../workflows/rollback/plan.js';
import type { RunbookName } from '../workflows/contracts/runbooks.js';
import { provisionHostPlanner } from '../workflows/provision-host/plan.js';
import type { Planner } from '../workflows/contracts/planning.js';
import { repairPlanner } from '../workflows/repair/plan.js';

/** The planner of every runbook. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each planner takes the input of its own runbook
export const planners: Record<RunbookName, Planner<any>> = {
  adopt: adoptPlanner,
  backup: backupPlanner,
  repair: repairPlanner,
  deploy: deployPlanner,
  rollback: rollbackPlanner,
  'restart-service': restartServicePlanner,
  'health-check': healthCheckPlanner,
  'provision-host': provisionHostPlanner,
};
