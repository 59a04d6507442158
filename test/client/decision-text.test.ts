import { expect, test } from '@jest/globals';
import pico from 'picocolors';
import { decisionText } from '../../client/decision-text.js';
import type { GateStatus } from '../../workflows/contracts/gate.js';
import { after, RUN_ID, status } from './sample-run.js';

const gate: GateStatus = {
  ...{ id: 'apply', title: 'deploy of proofpass', planDigest: 'd'.repeat(64), state: 'open', approvals: 3 },
  ...{ approvers: ['ana', 'ben', 'eva'], signed: true, typedSystemName: false, onTimeout: 'reject' },
  ...{ openedAt: after(1), closesAt: after(3600), oneMore: 'it was started without a signature' },
  decisions: [{ approver: 'ana', decision: 'approve', reason: 'read it', at: after(60), signed: true }],
};
const options = { namespace: 'ops', signs: true, expiry: after(7200), colors: pico.createColors(false) };

test('what is decided about, beside the plan: the run, who asked and why, the gate, the decisions so far, until when it counts', () => {
  expect(decisionText(status({ requester: 'kim@desk', reason: 'ticket 17' }), gate, options).split('\n')).toEqual([
    `run        backup/proofpass/one, run id ${RUN_ID}, namespace ops`,
    'asked by   kim@desk: ticket 17',
    '           who asked is not proved (it was started without a signature): one more than usual has to agree',
    `gate       apply, "deploy of proofpass", open until ${after(3600)}, then reject`,
    'decided    1 of 3 have agreed; who may: ana, ben, eva',
    `           ana: approve, ${after(60)}, signed: read it`,
    `signature  over this run, gate apply, the plan below and your answer, not over who asked and what others decided; counts until ${after(7200)}`,
  ]);
  const unsigned = decisionText(status(), gate, { ...options, signs: false });
  expect(unsigned).toContain('asked by   ana, who gave no reason');
  expect(unsigned).toMatch(/^signature {2}none$/m);
  expect(decisionText(status(), gate, { ...options, signs: undefined })).toContain(
    'signature  where the inventory has a key of yours: over this run',
  );
});

test('a reason does not change what stands beside it', () => {
  const reason = 'fine\n\u001b[2J\rrun        backup/other\u202e/one';
  const lines = decisionText(status({ reason }), gate, options).split('\n');
  expect(lines[1]).toBe('asked by   ana: fine run        backup/other /one');
  expect(lines.join('')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
});
