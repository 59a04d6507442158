import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import type { ApplicationFailure } from '@temporalio/common';
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { decideSignal, decideUpdate, signedText, type Decision, type Gate } from '../../workflows/contracts/gate.js';
import { fails, held } from './acts.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns, type Script } from './scripted-runs.js';
import { smallSystem } from './small-system.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

const keys = mkdtempSync(path.join(tmpdir(), 'guardia-keys-'));
const publicKeys: Record<string, string> = {};
let runs: ScriptedRuns;
beforeAll(async () => {
  for (const name of ['ana', 'ben', 'eva']) {
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path.join(keys, name)]);
    publicKeys[name] = readFileSync(path.join(keys, `${name}.pub`), 'utf8').trim();
  }
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(async () => {
  await runs.close();
  rmSync(keys, { recursive: true });
});

const askingSystem = (policy: string) => (name: string) =>
  `${smallSystem(name)}approvers:
${['ana', 'ben', 'eva'].map((who) => `  ${who}: { email: ${who}@example.org, signingKey: '${publicKeys[who]}' }`).join('\n')}
approvals:
  backup: ${policy}
`;

async function start(policy: string, script: Script = {}, input: object = {}): Promise<ScriptedRun> {
  const system = runs.system(askingSystem(policy));
  const run = await runs.start(script, { system, input: { system, requester: 'kim', ...input } });
  await until(async () => (await run.status()).gates.some(({ state }) => state === 'open'), 'the gate is open');
  return run;
}

async function decisionOn(run: ScriptedRun, change: Partial<Decision> = {}): Promise<Decision> {
  const gate = (await run.status()).gates.at(-1);
  return {
    gate: gate?.id ?? '',
    planDigest: gate?.planDigest ?? '',
    decision: 'approve',
    approver: 'ana',
    reason: 'looks right',
    ...change,
  };
}

async function signed(
  run: ScriptedRun,
  decision: Decision,
  options: { key?: string; runId?: string } = {},
): Promise<Decision> {
  const full = { ...decision, expiry: new Date(Date.now() + 600_000).toISOString() };
  const runId = options.runId ?? (await run.status()).runId;
  const text = signedText({ namespace: 'default', workflowId: run.workflowId, runId }, full);
  const argv = ['-Y', 'sign', '-n', 'guardia-decision', '-f', path.join(keys, options.key ?? decision.approver)];
  const { stdout } = await execa('ssh-keygen', argv, { input: text });
  return { ...full, signature: `${stdout}\n` };
}

const decide = (run: ScriptedRun, decision: Decision) => run.handle.executeUpdate(decideUpdate, { args: [decision] });
const refusal = async (run: ScriptedRun, decision: Decision): Promise<string> => {
  const error = await decide(run, decision).catch((failed: unknown) => failed);
  expect(error).toBeInstanceOf(WorkflowUpdateFailedError);
  expect((error as { cause: ApplicationFailure }).cause.type).toBe('DecisionRefused');
  return (error as { cause: ApplicationFailure }).cause.message;
};

describe('a gate before the first step', () => {
  test('holds the run without a lock until somebody agrees, and tells exactly how to', async () => {
    const run = await start('{}');
    expect(await runs.lockIsHeld(run.system)).toBe(false);
    const status = await run.status();
    expect(status).toMatchObject({
      phase: 'waiting for approval',
      waitingFor: `backup of ${run.system}: 1 of ana, ben, eva`,
    });
    const details = await run.details();
    expect(details).toContain(`\`guardia approve ${run.workflowId}\``);
    const json = JSON.parse(/```json\n(.*)\n```/.exec(details)?.[1] ?? '{}') as Decision;
    // The text is to be pasted as it is, with a name and a reason.
    await decide(run, { ...json, approver: 'ben', reason: 'go' });
    const report = await run.report();
    expect(report.gates).toMatchObject([
      { state: 'approved', decisions: [{ approver: 'ben', reason: 'go', signed: false }] },
    ]);
    expect(run.names().slice(0, 2)).toEqual(['look', 'look']);
  });

  test('one no is a veto: the run ends as rejected, nothing was started', async () => {
    const run = await start('{ approvals: 2 }');
    await decide(run, await signed(run, await decisionOn(run)));
    await decide(
      run,
      await signed(run, await decisionOn(run, { approver: 'ben', decision: 'reject', reason: 'not today' })),
    );
    const { type, message } = await run.failure();
    expect(type).toBe('rejected');
    expect(message).toContain(`ben said no to "backup of ${run.system}": not today; nothing was started`);
    expect(run.names()).toEqual(['look']);
  });

  test('two of three, each signed; forged, copied and altered decisions are refused with the reason', async () => {
    const run = await start('{ approvals: 2 }');
    const wrong = 'the signature is not that of ana over this decision';
    expect(await refusal(run, await signed(run, await decisionOn(run), { key: 'eva' }))).toContain(wrong);
    expect(await refusal(run, await signed(run, await decisionOn(run), { runId: 'another-run' }))).toContain(wrong);
    const rejection = await signed(run, await decisionOn(run, { decision: 'reject' }));
    expect(await refusal(run, { ...rejection, decision: 'approve' })).toContain(wrong);
    const mine = await signed(run, await decisionOn(run));
    expect(await refusal(run, { ...mine, reason: 'another reason' })).toContain(wrong);
    expect(await refusal(run, { ...mine, expiry: new Date(Date.now() + 999_000).toISOString() })).toContain(wrong);
    expect(await refusal(run, await decisionOn(run))).toContain('signed decisions only');
    expect((await run.status()).gates[0]?.decisions).toEqual([]);

    await decide(run, mine);
    expect(await refusal(run, mine)).toContain('ana has decided already');
    expect((await run.status()).phase).toBe('waiting for approval');
    await decide(run, await signed(run, await decisionOn(run, { approver: 'eva' })));
    expect((await run.report()).end).toBe('succeeded');
  });

  test("a decision on another run's identical plan does not count here", async () => {
    const [first, second] = [
      await start('{ approvals: 1, signed: true }'),
      await start('{ approvals: 1, signed: true }'),
    ];
    const decision = await signed(first, await decisionOn(first));
    const here = { ...decision, planDigest: (await decisionOn(second)).planDigest };
    expect(await refusal(second, here)).toContain('the signature is not that of ana over this decision');
    for (const run of [first, second]) await decide(run, await signed(run, await decisionOn(run)));
    for (const run of [first, second]) expect((await run.report()).end).toBe('succeeded');
  });

  test('the signal counts as the update does; what is refused shows in the details', async () => {
    const run = await start('{ typedSystemName: true }');
    await run.handle.signal(decideSignal, await decisionOn(run));
    await until(
      async () => (await run.details()).includes('the name of the system has to be typed'),
      'the refusal is shown',
    );
    await run.handle.signal('decide', { nonsense: true });
    await until(async () => (await run.details()).includes('the input of decide is wrong'), 'the mistake is shown');
    await run.handle.signal(decideSignal, await decisionOn(run, { system: run.system }));
    expect((await run.report()).end).toBe('succeeded');
  });

  test('nobody asks the requester', async () => {
    const run = await start('{}', {}, { requester: 'ana@laptop' });
    expect(await refusal(run, await decisionOn(run))).toContain('ana asked for this run');
    await decide(run, await decisionOn(run, { approver: 'ben' }));
    await run.report();
  });

  test('cancelled while it waits: nothing was started, and a decision comes too late', async () => {
    const run = await start('{}');
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
  });

  test('what changed meanwhile is planned anew, and people are asked again about the new plan', async () => {
    let seen = 'one';
    const script: Script = {
      facets: () => seen,
      plan: (name) => toyPlan(name, [lane('app', step('a', { with: { seen } }))]),
    };
    const run = await start('{}', script);
    const before = await decisionOn(run);
    seen = 'two';
    await decide(run, before);
    await until(async () => (await run.status()).gates.length === 2, 'people are asked again');
    expect(await refusal(run, before)).toContain('the decision is about another plan');
    expect(await runs.lockIsHeld(run.system)).toBe(false);
    await decide(run, await decisionOn(run));
    expect((await run.report()).end).toBe('succeeded');
    expect(run.happened('do a')[0]?.input).toMatchObject({ with: { seen: 'two' } });
  });
});

describe('a gate between two stages', () => {
  const gate: Gate = {
    ...{ id: 'switch', title: 'the switch', approvals: 1, signed: false, typedSystemName: false },
    ...{ timeoutMinutes: 60, onTimeout: 'reject' as const, remindEveryMinutes: 60 },
  };
  const gated = [lane('app', 'a'), stage([lane('app', 'b')], { gate })];

  test('is asked under the lock; a no undoes what was done and ends as rejected', async () => {
    const run = await start('{}', { plan: gated });
    await decide(run, await decisionOn(run));
    await until(async () => (await run.status()).gates.at(-1)?.id === 'switch', 'the second gate is open');
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    expect(run.names()).toContain('do a');
    expect(run.names()).not.toContain('do b');
    await decide(run, await decisionOn(run, { approver: 'ben', decision: 'reject', reason: 'wrong day' }));
    const { type, message } = await run.failure();
    expect(type).toBe('rejected');
    expect(message).toContain('everything before it was undone');
    expect(run.names()).toContain('undo a');
  });
});

test('a step that was approved and fails rolls back as ever', async () => {
  const run = await start('{}', { plan: [lane('app', 'a', 'b')], acts: { 'do b': fails() } });
  await decide(run, await decisionOn(run));
  expect((await run.failure()).type).toBe('rolled back');
});

test('a gate that is open when the worker is replaced is still open', async () => {
  const a = held();
  const run = await start('{}', { acts: { 'do a': a.act } });
  await runs.worker.start();
  await decide(run, await decisionOn(run));
  await a.begun;
  a.release();
  expect((await run.report()).end).toBe('succeeded');
});
