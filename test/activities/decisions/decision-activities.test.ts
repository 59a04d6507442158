import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createDecisionActivities } from '../../../activities/decisions/decision-activities.js';
import { canonicalJson } from '../../../activities/inventory/canonical-json.js';
import { signText } from '../../../client/signing.js';
import { SIGNATURE_NAMESPACE, signedText, type Decision } from '../../../workflows/contracts/gate.js';
import { REQUEST_NAMESPACE, requestText } from '../../../workflows/contracts/requester.js';

const keys = mkdtempSync(path.join(tmpdir(), 'guardia-keys-'));
const key = (name: string) => path.join(keys, name);
const publicKey = (name: string) => readFileSync(`${key(name)}.pub`, 'utf8').trim();
beforeAll(async () => {
  for (const name of ['ana', 'ben'])
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', key(name)]);
});
afterAll(() => rmSync(keys, { recursive: true }));

describe('the signature of a start', () => {
  const started = ['run-1'];
  const { verifyRequest } = createDecisionActivities({ runsOf: () => Promise.resolve(started) });
  const place = { namespace: 'default', workflowId: 'deploy/shop/1', runbook: 'deploy' };
  const input = { system: 'shop', requester: 'ana@laptop', ref: 'v2' };
  const at = '2026-01-31T02:00:00.000Z';
  const proofBy = async (name: string, namespace = REQUEST_NAMESPACE) => {
    const signed = await signText(requestText(place, canonicalJson(input), at), { key: key(name), namespace });
    return { at, signature: String(signed.signature) };
  };
  const verify = async (change: Partial<Parameters<typeof verifyRequest>[0]>) =>
    verifyRequest({
      ...{ place, runId: 'run-1', input, proof: await proofBy('ana') },
      ...{ name: 'ana', signingKey: publicKey('ana'), ...change },
    });
  const wrong = 'the signature of the start is not that of ana over this input';

  test('counts for this start, whatever the order of its fields', async () => {
    const proof = await proofBy('ana');
    await verify({ input: { ref: 'v2', requesterProof: proof, requester: 'ana@laptop', system: 'shop' } });
  });

  test.each([
    ['another run', { place: { ...place, workflowId: 'deploy/shop/2' } }],
    ['another namespace of Temporal', { place: { ...place, namespace: 'other' } }],
    ['another runbook', { place: { ...place, runbook: 'rollback' } }],
    ['another input', { input: { ...input, ref: 'v3' } }],
  ])('%s: it does not count', async (_, change) => {
    await expect(verify(change)).rejects.toMatchObject({ type: 'DecisionRefused', message: wrong });
  });

  test('made for a run that was started before under this id: it does not count', async () => {
    started.push('run-0');
    await expect(verify({})).rejects.toMatchObject({
      type: 'DecisionRefused',
      message: 'the signature of the start has started a run before: run-0',
    });
    started.pop();
  });

  test('made with another key, for another purpose, at another time, or none at all: it does not count', async () => {
    for (const proof of [
      await proofBy('ben'),
      await proofBy('ana', 'guardia-decision'),
      { ...(await proofBy('ana')), at: '2026-01-31T03:00:00.000Z' },
      { at, signature: 'none' },
    ])
      await expect(verify({ proof })).rejects.toMatchObject({ type: 'DecisionRefused', message: wrong });
  });
});

describe('the signature of a decision', () => {
  const { verifyDecision } = createDecisionActivities({ runsOf: () => Promise.resolve([]) });
  const place = { namespace: 'default', workflowId: 'deploy/shop/1', runId: 'run-1' };
  const said: Omit<Decision, 'signature'> = {
    gate: 'apply',
    planDigest: 'd'.repeat(64),
    decision: 'approve',
    approver: 'ana',
    reason: 'looks right',
    system: 'shop',
    expiry: '2026-01-31T04:00:00.000Z',
  };
  const signedBy = async (name: string, namespace = SIGNATURE_NAMESPACE): Promise<Decision> => {
    const { signature } = await signText(signedText(place, said), { key: key(name), namespace });
    return { ...said, signature: String(signature) };
  };
  const verify = async (change: { place?: object; decision?: object; signingKey?: string } = {}) =>
    verifyDecision({
      place: { ...place, ...change.place },
      decision: { ...(await signedBy('ana')), ...change.decision },
      signingKey: change.signingKey ?? publicKey('ana'),
    });
  const refused = {
    type: 'DecisionRefused',
    message: expect.stringMatching(/^the signature is not that of \w+ over this decision: /) as unknown,
  };

  test('counts for exactly this', async () => {
    await verify();
  });

  test.each([
    ['another namespace of Temporal', { place: { namespace: 'other' } }],
    ['another workflow', { place: { workflowId: 'deploy/shop/2' } }],
    ['another run', { place: { runId: 'run-2' } }],
    ['another gate', { decision: { gate: 'dns' } }],
    ['another plan', { decision: { planDigest: 'e'.repeat(64) } }],
    ['the other answer', { decision: { decision: 'reject' } }],
    ['another approver', { decision: { approver: 'ben' } }],
    ['another reason', { decision: { reason: 'looks wrong' } }],
    ['another typed name', { decision: { system: 'shpo' } }],
    ['no typed name', { decision: { system: undefined } }],
    ['a later end', { decision: { expiry: '2026-02-28T04:00:00.000Z' } }],
    ['no end', { decision: { expiry: undefined } }],
  ])('%s: it does not count', async (_, change) => {
    await expect(verify(change)).rejects.toMatchObject(refused);
  });

  test('made with another key, for another purpose, or none at all: it does not count', async () => {
    for (const decision of [
      await signedBy('ben'),
      await signedBy('ana', REQUEST_NAMESPACE),
      { ...said, signature: 'none' },
    ])
      await expect(verify({ decision })).rejects.toMatchObject(refused);
  });

  test('a field cannot flow into the next one', async () => {
    const moved = { decision: { gate: 'apply\n', reason: 'looks right' } };
    await expect(verify(moved)).rejects.toMatchObject(refused);
  });
});
