import { describe, expect, test } from '@jest/globals';
import { canonicalJson } from '../../../activities/inventory/canonical-json.js';
import type { Gate } from '../../../workflows/contracts/gate.js';
import { approvedPart, type Plan, type Step } from '../../../workflows/contracts/plan.js';
import { lane, stage, step, toyPlan } from '../toy-plan.js';

const gate: Gate = {
  ...{ id: 'switch', title: 'switch the traffic', approvals: 2, signed: true, typedSystemName: false },
  ...{ timeoutMinutes: 60, onTimeout: 'reject', remindEveryMinutes: 60 },
};
const first: Step = step('a', { expectedSeconds: 5, diff: '-old\n+new', with: { path: '/etc/one' } });
const plan: Plan = {
  ...toyPlan('shop', [stage([lane('app', first, 'b')], { gate })]),
  pointOfNoReturn: 'b',
  downtime: [{ service: 'api', seconds: 10 }],
};
const approved = (of: Plan): string => canonicalJson(approvedPart(of));
const withStep = (change: Partial<Step>): Plan => ({
  ...plan,
  stages: [stage([lane('app', { ...first, ...change }, 'b')], { gate })],
});
const withStage = (change: Parameters<typeof stage>[1]): Plan => ({
  ...plan,
  stages: [stage([lane('app', first, 'b')], { gate, ...change })],
});

describe('what people approve', () => {
  test.each<[string, Plan]>([
    ['what is done', withStep({ do: { ...first.do, with: { path: '/etc/two' } } })],
    ['by which activity', withStep({ do: { ...first.do, activity: 'writeFile' } })],
    ['its undo', withStep({ undo: { none: 'nothing to undo' } })],
    ['how it is verified', withStep({ verify: { activity: 'verifyArtifact', with: {} } })],
    ['where', { ...plan, stages: [stage([lane('db', first, 'b')], { gate })] }],
    ['in which order', { ...plan, stages: [stage([lane('app', 'b', first)], { gate })] }],
    ['how many may fail', withStage({ errorBudget: 1 })],
    ['a gate on the way', withStage({ gate: { ...gate, approvals: 1 } })],
    ['the gate before the first step', { ...plan, gate: { ...gate, id: 'apply' } }],
    ['the point of no return', { ...plan, pointOfNoReturn: 'a' }],
    ['the downtime', { ...plan, downtime: [{ service: 'api', seconds: 20 }] }],
    ['that nobody is asked when it fails', { ...plan, unattended: false }],
  ])('%s', (_, other) => {
    expect(approved(other)).not.toBe(approved(plan));
  });

  test.each<[string, Plan]>([
    ['notes', { ...plan, notes: ['the disk is at 79 %'] }],
    ['how long it took before', withStep({ expectedSeconds: 90 })],
    ['the diff, which only shows what is done', withStep({ diff: '' })],
  ])('but not: %s', (_, other) => {
    expect(approved(other)).toBe(approved(plan));
  });
});
