import { expect, test } from '@jest/globals';
import pico from 'picocolors';
import { planText } from '../../client/plan-text.js';
import { lane, stage, step, toyPlan } from '../workflows/toy-plan.js';

const colors = pico.createColors(false);

test('a plan says what, where, why, the undo, the point of no return, downtime, notes and its digest', () => {
  const plan = toyPlan(
    'proofpass',
    [
      stage([lane('app', step('dump', { attempts: 2, expectedSeconds: 90 })), lane('worker', 'check')], { atOnce: 2 }),
      lane('system', step('manifest', { verify: {} }), step('proof', { undo: false })),
    ],
    { pointOfNoReturn: 'manifest', downtime: [{ service: 'api', seconds: 30 }], notes: ['OpenBao is not in it.'] },
  );
  const text = planText(plan, { digest: 'abc123', colors });
  const lines = text.split('\n');
  expect(lines[0]).toBe('Plan of backup for proofpass');
  expect(text).toContain('Stage 1: work, 2 lanes side by side');
  for (const host of ['  host app', "  worker's machine", '  no host']) expect(lines).toContain(host);
  expect(lines).toContain('     1. do dump  about 1 min 30 s [dump]');
  expect(lines).toContain('        why: because of dump');
  expect(lines).toContain('        undo: take the manifest out again: the recovery point counts no more');
  expect(lines).toContain('        tried up to 2 times');
  expect(lines).toContain('        proved by: verifyArtifact');
  expect(lines).toContain('        undo: none needed: nothing to undo');
  // After the manifest's step, before the next.
  const line = lines.findIndex((candidate) => candidate.includes('point of no return'));
  expect(line).toBeGreaterThan(lines.findIndex((candidate) => candidate.includes('[manifest]')));
  expect(line).toBeLessThan(lines.findIndex((candidate) => candidate.includes('[proof]')));
  expect(lines).toContain('expected duration: about 1 min 30 s, and what 3 of 4 steps take that no run has done yet');
  expect(lines).toContain('downtime: api 30 s');
  expect(lines).toContain('note: OpenBao is not in it.');
  expect(lines.at(-1)).toBe('digest: abc123');
});

test('a service that stands still more than once is named once, with all of it', () => {
  const downtime = [
    { service: 'web', seconds: 20 },
    { service: 'web', seconds: 30, ifUndone: 90 },
    { service: 'db', seconds: 5 },
  ];
  expect(planText(toyPlan('shop', [lane('app', 'a')], { downtime }), { colors })).toContain(
    '\ndowntime: web 50 s (1 min 50 s if it fails and is undone), db 5 s',
  );
});

test('a stage says how many lanes run at once, and what a failure there means', () => {
  const lanes = ['app1', 'app2', 'app3'].map((on) => lane(on, step(on, { expectedSeconds: 60 })));
  const text = planText(
    toyPlan('shop', [
      stage(lanes, { atOnce: 1, errorBudget: 1 }),
      stage(lanes, { atOnce: 2 }),
      stage(lanes, { errorBudget: 3 }),
    ]),
    { colors },
  );
  expect(text).toContain('Stage 1: work, 3 lanes one after the other; goes on when no more than 1 fail');
  expect(text).toContain('Stage 2: work, 3 lanes, 2 of them at once');
  expect(text).toContain('Stage 3: work, 3 lanes side by side; a failure here undoes nothing that came before');
  // 3 min, then two rounds, then all together.
  expect(text).toContain('\nexpected duration: about 6 min 00 s\n');
});

test('a plan without a point of no return and without downtime says so', () => {
  const text = planText(toyPlan('proofpass', [lane('app', 'a')]), { colors });
  expect(text).toContain('point of no return: none');
  expect(text).toContain('downtime: none');
});

test('an empty plan has nothing to do', () => {
  expect(planText(toyPlan('proofpass', []), { colors })).toContain('There is nothing to do.');
});

test('what changes in a file is shown as a diff below its step', () => {
  const plan = toyPlan('proofpass', [lane('app', step('a'))]);
  for (const one of plan.stages[0]?.lanes[0]?.steps ?? []) one.diff = '--- /a\n+++ /a\n@@ -1 +1 @@\n-old\n+new';
  expect(planText(plan, { colors })).toContain(
    '\n        --- /a\n        +++ /a\n        @@ -1 +1 @@\n        -old\n        +new\n',
  );
});

test('a gate says who has to agree, how, and what happens when nobody does', () => {
  const gate = { id: 'apply', title: 'deploy of shop', approvals: 2, approvers: ['ana', 'ben', 'eva'], signed: false };
  const terms = { typedSystemName: true, timeoutMinutes: 480, onTimeout: 'hold' as const, remindEveryMinutes: 60 };
  const switchGate = { ...gate, ...terms, id: 'switch', title: 'the switch', approvals: 1, approvers: undefined };
  const plan = toyPlan('shop', [lane('app', 'a'), stage([lane('app', 'b')], { gate: switchGate })], {
    gate: { ...gate, ...terms },
  });
  const text = planText(plan, { colors });
  expect(text).toContain(
    'gate "deploy of shop": 2 of ana, ben, eva have to agree, signed, never who asks for it; one more where the start is not signed; the system\'s name is typed; after 8 h 00 min: hold',
  );
  expect(text).toMatch(/Stage 2: work\n {2}gate "the switch": 1 has to agree, never who asks for it; /);
});
