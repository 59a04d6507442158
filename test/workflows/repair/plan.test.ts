import { expect, test } from '@jest/globals';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import { loadSystem } from '../../../activities/inventory/load.js';
import { stepsOf } from '../../../workflows/contracts/plan.js';
import { RepairInput } from '../../../workflows/contracts/repair.js';
import type { LeftRecord } from '../../../workflows/contracts/run-record.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';
import { repairPlanner } from '../../../workflows/repair/plan.js';
import { lane, step, toyPlan } from '../toy-plan.js';

test('steps whose long names differ at their end only are all undone, newest first', () => {
  const { system } = loadSystem('proofpass', inventoryLocations({}));
  // As a host name of 40 characters makes them.
  const ids = ['api', 'web'].map((name) => `${'a-host-with-a-long-name-'.repeat(3).slice(0, 56)}-${name}`);
  const record: LeftRecord = {
    runId: '01a2b3c4-d000-7000-8000-00001a2b3c4d',
    workflowId: 'provision-host/proofpass/1',
    plan: toyPlan('proofpass', [lane('app', ...ids)]),
    committed: false,
    ended: false,
  };
  const moment = { workflowId: 'repair/proofpass/1', runId: 'r', now: '2026-11-22T02:00:00.000Z' };
  const seen = { 'host app': { left: [{ ...record, steps: ids }] } };
  const plan = checkPlan(repairPlanner.plan(RepairInput.parse({ system: 'proofpass' }), system, seen, moment));
  const steps = stepsOf(plan).map(({ step }) => step);
  expect(steps.map(({ repairs }) => repairs?.step)).toEqual([...ids.toReversed(), undefined]);
  expect(steps[0]?.id).toMatch(/^undo-1-a-host-with-a-long-name-/);
});

test('a host that left the inventory gets no requests again', () => {
  const { system } = loadSystem('proofpass', inventoryLocations({}));
  const drained = (host: string) => lane(host, step(`drain-${host}`, { on: 'app', undoOpens: true }), `switch-${host}`);
  const record: LeftRecord = {
    runId: '01a2b3c4-d000-7000-8000-00001a2b3c4d',
    workflowId: 'deploy/proofpass/1',
    plan: toyPlan('proofpass', [drained('app'), drained('gone')]),
    committed: false,
    ended: false,
  };
  const moment = { workflowId: 'repair/proofpass/1', runId: 'r', now: '2026-11-22T02:00:00.000Z' };
  // The balancer's journal tells of both, the host's own only of what is there.
  const seen = { 'host app': { left: [{ ...record, steps: ['drain-app', 'switch-app', 'drain-gone'] }] } };
  const plan = checkPlan(repairPlanner.plan(RepairInput.parse({ system: 'proofpass' }), system, seen, moment));
  expect(stepsOf(plan).map(({ step: one }) => one.repairs?.step)).toEqual(['switch-app', 'drain-app', undefined]);
  expect(plan.notes).toContain(
    'Not undone: "do drain-gone". gone is not in the inventory, and nobody sees what it has.',
  );
});
