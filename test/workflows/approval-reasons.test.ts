import { describe, expect, test } from '@jest/globals';
import type { Decision, Gate, GateStatus } from '../../workflows/contracts/gate.js';
import type { Approver } from '../../workflows/contracts/system.js';
import { reasonToRefuse, whatIsAsked, type Judging } from '../../workflows/lib/approval.js';

const key = 'ssh-ed25519 AAAA';
const person = (change: Partial<Approver> = {}): Approver => ({
  tier: 1,
  email: 'someone@example.org',
  signingKey: key,
  ...change,
});
const gate = (change: Partial<GateStatus> = {}): GateStatus => ({
  id: 'apply',
  title: 'deploy of shop',
  planDigest: 'd'.repeat(64),
  state: 'open',
  approvals: 1,
  approvers: ['ana', 'ben', 'eva'],
  signed: false,
  typedSystemName: false,
  openedAt: '2026-01-31T02:00:00.000Z',
  closesAt: '2026-02-01T02:00:00.000Z',
  onTimeout: 'reject',
  decisions: [],
  ...change,
});
const decision = (change: Partial<Decision> = {}): Decision => ({
  gate: 'apply',
  planDigest: 'd'.repeat(64),
  decision: 'approve',
  approver: 'ana',
  reason: 'looks right',
  ...change,
});
const signed = { signature: 'one', expiry: '2026-01-31T04:00:00.000Z' };
const judged = (said: Partial<Decision> = {}, change: Partial<Judging> = {}): string | undefined =>
  reasonToRefuse(decision(said), {
    gate: gate(),
    open: 'apply',
    approvers: { ana: person(), ben: person(), eva: person({ email: 'eva@example.org' }), guest: person() },
    requester: 'kim@laptop',
    system: 'shop',
    now: '2026-01-31T03:00:00.000Z',
    forgeries: 0,
    counted: false,
    ...change,
  });

describe('what counts', () => {
  const counting: [string, Partial<Decision>, Partial<Judging>?][] = [
    ['an approval without a signature', {}],
    ['a rejection', { decision: 'reject' }],
    ['one with a signature', signed],
    [
      'a second person, signed, after one that was not',
      { approver: 'ben', ...signed },
      {
        gate: gate({
          approvals: 2,
          decisions: [{ approver: 'ana', decision: 'approve', reason: 'x', at: 'then', signed: false }],
        }),
      },
    ],
    ['one that ends later, written in another way', { ...signed, expiry: '2026-01-31T03:00:00.5Z' }],
    ['one with the typed name', { system: 'shop' }, { gate: gate({ typedSystemName: true }) }],
    ['a rejection without the typed name', { decision: 'reject' }, { gate: gate({ typedSystemName: true }) }],
  ];
  test.each(counting.map(([name, said, change]) => ({ name, said, change })))('$name', ({ said, change }) => {
    expect(judged(said, change)).toBeUndefined();
  });
});

describe('what does not count, and the reason that the person reads', () => {
  const taken = { approver: 'ana', decision: 'approve', reason: 'x', at: '02:30', signed: true } as const;
  const refused: [string, string, Partial<Decision>, Partial<Judging>?][] = [
    [
      'no open gate',
      'no gate of this run is open: there is nothing to decide',
      {},
      { gate: undefined, open: undefined },
    ],
    ['another gate', 'the gate "dns" is not open; open is "apply"', { gate: 'dns' }, { gate: undefined }],
    [
      'a closed gate',
      'too late: the gate "apply" is closed, it was timed out',
      {},
      { gate: gate({ state: 'timed out' }) },
    ],
    [
      'another plan',
      'the decision is about another plan (eeeeeeeeeeee) than this gate (dddddddddddd): read the plan of this run, then decide again',
      { planDigest: 'e'.repeat(64) },
    ],
    [
      'an expired one',
      'too late: the decision expired at 2026-01-31T02:59:59.000Z, it is 2026-01-31T03:00:00.000Z',
      { ...signed, expiry: '2026-01-31T02:59:59.000Z' },
    ],
    [
      'an expired one whose end is written without fractions of a second',
      'too late: the decision expired at 2026-01-31T03:00:00Z, it is 2026-01-31T03:00:00.400Z',
      { ...signed, expiry: '2026-01-31T03:00:00Z' },
      { now: '2026-01-31T03:00:00.400Z' },
    ],
    ['somebody unknown', 'zoe may not decide here; who may: ana, ben, eva', { approver: 'zoe' }],
    [
      'an approver whom this gate does not ask',
      'guest may not decide here; who may: ana, ben, eva',
      { approver: 'guest' },
    ],
    [
      'the requester',
      'ana asked for this run and may not decide about it; others who may: ben, eva',
      {},
      { requester: 'ana' },
    ],
    [
      'the requester at a machine',
      'ana asked for this run and may not decide about it; others who may: ben, eva',
      {},
      { requester: 'ana@laptop' },
    ],
    [
      'the requester by e-mail address',
      'eva asked for this run and may not decide about it; others who may: ana, ben',
      { approver: 'eva' },
      { requester: 'Eva@Example.org' },
    ],
    [
      'one person twice',
      'ana has decided already: approve, at 02:30',
      signed,
      { gate: gate({ approvals: 2, decisions: [taken] }) },
    ],
    [
      'no typed name',
      'the name of the system has to be typed, as "system"',
      {},
      { gate: gate({ typedSystemName: true }) },
    ],
    [
      'another typed name',
      'the typed name "shpo" is not the system of this run',
      { system: 'shpo' },
      { gate: gate({ typedSystemName: true }) },
    ],
    [
      'no signature where one is asked for',
      'this gate counts signed decisions only: decide with the command, guardia approve',
      {},
      { gate: gate({ signed: true }) },
    ],
    [
      'a second one without a signature',
      'one decision without a signature has been counted, and no second one is: sign it with the command',
      { approver: 'ben' },
      { gate: gate({ approvals: 2, decisions: [{ ...taken, signed: false }] }) },
    ],
    ['a signature without an end', 'a signed decision has an "expiry": it would count for ever', { signature: 'one' }],
    [
      'an approver without a key',
      'the inventory has no signing key of ana',
      signed,
      { approvers: { ana: person({ signingKey: { unset: 'key' } }) } },
    ],
    [
      'one that has counted before',
      'this very decision of ana has counted before, and the gate was opened again since: decide anew',
      signed,
      { counted: true },
    ],
    [
      'guesses',
      '20 decisions with a wrong signature were sent to this gate; it counts no further ones. Cancel the run and start it again',
      signed,
      { forgeries: 20 },
    ],
  ];
  test.each(refused.map(([name, reason, said, change]) => ({ name, reason, said, change })))(
    '$name',
    ({ reason, said, change }) => {
      expect(judged(said, change)).toBe(reason);
    },
  );
});

describe('whom a gate asks', () => {
  const policy = { id: 'apply', title: 'deploy of shop', approvals: 1, signed: true } as Gate;
  const unset = { unset: 'public key' };
  const asked = (change: Partial<Gate>, approvers: Record<string, Approver>) =>
    whatIsAsked({ ...policy, ...change }, { approvers, requester: 'kim', unproved: undefined });

  test('counts signatures only where they can be verified: those without a key do not make it open', () => {
    const approvers = { ana: person(), ben: person({ signingKey: unset }), eva: person({ signingKey: unset }) };
    expect(asked({}, approvers)).toMatchObject({ approvals: 1, approvers: ['ana', 'ben', 'eva'], signed: true });
    expect(() => asked({ approvals: 2 }, approvers)).toThrow(
      '"deploy of shop" needs 2 to agree; who may beside kim, who asked: ana; without a signing key in the inventory: ben, eva. Give approvers.ben.signingKey, approvers.eva.signingKey in the inventory',
    );
  });

  test('wants no key where a mere name counts', () => {
    expect(asked({ signed: false }, { ana: person({ signingKey: unset }) })).toMatchObject({ signed: false });
  });
});
