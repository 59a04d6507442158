import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import type { ApplicationFailure } from '@temporalio/common';
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { canonicalJson } from '../../activities/inventory/canonical-json.js';
import { recoverUpdate, type RecoverChoice } from '../../workflows/contracts/hold.js';
import { requestText } from '../../workflows/contracts/requester.js';
import { decideSignal, decideUpdate, signedText, type Decision, type Gate } from '../../workflows/contracts/gate.js';
import { fails, held } from './acts.js';
import { doctoredBundle } from './doctored-bundle.js';
import {
  openScriptedRuns,
  UNLISTED,
  until,
  type ScriptedRun,
  type ScriptedRuns,
  type Script,
} from './scripted-runs.js';
import { Notice } from '../../workflows/contracts/notice.js';
import { smallSystem } from './small-system.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

jest.setTimeout(20_000);

const keys = mkdtempSync(path.join(tmpdir(), 'guardia-keys-'));
const publicKeys: Record<string, string> = {};
let runs: ScriptedRuns;
beforeAll(async () => {
  for (const name of ['ana', 'ben', 'eva', 'kim']) {
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

const withApprovers = (name: string) =>
  `${smallSystem(name)}approvers:
${['ana', 'ben', 'eva', 'kim'].map((who) => `  ${who}: { email: ${who}@example.org, signingKey: '${publicKeys[who]}' }`).join('\n')}
`;
const askingSystem = (policy: string) => (name: string) => `${withApprovers(name)}approvals:
  backup: ${policy}
`;
const everybody = 'approvers: [ana, ben, eva]';

/** A run that kim has asked for, and not signed. */
async function begin(policy: string, script: Script = {}, input: object = {}): Promise<ScriptedRun> {
  const system = runs.system(askingSystem(`{ ${everybody}, ${policy} }`));
  return runs.start(script, { system, input: { system, requester: 'kim', ...input } });
}
const isOpen = (run: ScriptedRun) =>
  until(async () => (await run.status()).gates.some(({ state }) => state === 'open'), 'the gate is open');
async function start(policy: string, script: Script = {}, input: object = {}): Promise<ScriptedRun> {
  const run = await begin(policy, script, input);
  await isOpen(run);
  return run;
}

let counter = 0;
interface SignedStart {
  key?: string;
  at?: string;
  workflowId?: string;
  prefix?: string;
  input?: object;
  system?: string;
}
/** A start that kim has signed, unless something about that is different. */
async function signedStart(policy: string, change: SignedStart = {}) {
  const system = change.system ?? runs.system(askingSystem(`{ ${everybody}, ${policy} }`));
  const workflowId = `${change.prefix ?? ''}signed-${++counter}`;
  const asked = { system, requester: 'kim@laptop' };
  const at = change.at ?? new Date().toISOString();
  const place = { namespace: 'default', workflowId: change.workflowId ?? workflowId, runbook: 'backup' };
  const signature = await sign(change.key ?? 'kim', 'guardia-request', requestText(place, canonicalJson(asked), at));
  return { system, workflowId, input: { ...asked, ...change.input, requesterProof: { at, signature } } };
}
async function startSigned(policy: string, { script, ...change }: SignedStart & { script?: Script } = {}) {
  const run = await runs.start(script ?? {}, await signedStart(policy, change));
  await isOpen(run);
  return run;
}
/** What stands in the input of a run starts another one, under the same id. */
async function startAgain(policy: string): Promise<ScriptedRun> {
  const asked = await signedStart(policy);
  const first = await runs.start({}, asked);
  await isOpen(first);
  await first.handle.cancel();
  await first.failure();
  const run = await runs.start({}, asked);
  await isOpen(run);
  return run;
}

async function sign(key: string, namespace: string, text: string): Promise<string> {
  const argv = ['-Y', 'sign', '-n', namespace, '-f', path.join(keys, key)];
  const { stdout } = await execa('ssh-keygen', argv, { input: text });
  return `${stdout}\n`;
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
  return { ...full, signature: await sign(options.key ?? decision.approver, 'guardia-decision', text) };
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
    const run = await start('approvals: 1');
    expect(await runs.lockIsHeld(run.system)).toBe(false);
    const status = await run.status();
    expect(status).toMatchObject({
      phase: 'waiting for approval',
      waitingFor: `backup of ${run.system}: 1 of ana, ben, eva`,
    });
    const details = await run.details();
    const { planDigest } = await decisionOn(run);
    for (const decision of ['approve', 'reject'])
      expect(details).toContain(
        `\`guardia ${decision} ${run.workflowId} --gate apply --digest ${planDigest.slice(0, 12)}\``,
      );
    const json = JSON.parse(/```json\n(.*)\n```/.exec(details)?.[1] ?? '{}') as Decision;
    // The text is to be pasted as it is, with a name and a reason.
    await decide(run, { ...json, approver: 'ben', reason: 'go' });
    const report = await run.report();
    expect(report.gates).toMatchObject([
      { state: 'approved', decisions: [{ approver: 'ben', reason: 'go', signed: false }] },
    ]);
    expect(run.names().slice(0, 4)).toEqual(['look', 'fence app', 'fence db', 'look']);
  });

  test('one no is a veto: the run ends as rejected, nothing was started', async () => {
    const run = await startSigned('approvals: 2');
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
    const run = await startSigned('approvals: 2');
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

  test('twenty wrong signatures, and the gate counts no further ones, not even a right one', async () => {
    const run = await startSigned('approvals: 1, signed: true');
    const forged = await signed(run, await decisionOn(run), { key: 'eva' });
    const wrong = 'the signature is not that of ana over this decision';
    for (let i = 0; i < 20; i += 5)
      for (const reason of await Promise.all(Array.from({ length: 5 }, () => refusal(run, forged))))
        expect(reason).toContain(wrong);
    const right = await signed(run, await decisionOn(run));
    for (const decision of [forged, right])
      expect(await refusal(run, decision)).toBe(
        '20 decisions with a wrong signature were sent to this gate; it counts no further ones. Cancel the run and start it again',
      );
    expect((await run.status()).gates).toMatchObject([{ state: 'open', decisions: [] }]);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
  });

  test("a decision on another run's identical plan does not count here", async () => {
    const first = await startSigned('approvals: 1, signed: true');
    const second = await startSigned('approvals: 1, signed: true', { system: first.system });
    const decision = await signed(first, await decisionOn(first));
    expect((await decisionOn(second)).planDigest).toBe(decision.planDigest);
    expect(await refusal(second, decision)).toContain('the signature is not that of ana over this decision');
    for (const run of [first, second]) await decide(run, await signed(run, await decisionOn(run)));
    for (const run of [first, second]) expect((await run.report()).end).toBe('succeeded');
  });

  test('the signal counts as the update does; what is refused shows in the details', async () => {
    const run = await start('typedSystemName: true');
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

  test('a policy of `none` asks nobody', async () => {
    const system = runs.system(askingSystem('none'));
    const report = await (await runs.start({}, { system, input: { system, requester: 'kim' } })).report();
    expect(report).toMatchObject({ end: 'succeeded', gates: [] });
  });

  test('nobody asks the requester', async () => {
    const run = await start('approvals: 1', {}, { requester: 'ana@laptop' });
    expect(await refusal(run, await decisionOn(run))).toContain('ana asked for this run');
    await decide(run, await decisionOn(run, { approver: 'ben' }));
    await run.report();
  });

  test('cancelled while it waits: nothing was started, and a decision comes too late', async () => {
    const run = await start('approvals: 1');
    const decision = await decisionOn(run);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names()).toEqual(['look']);
    // The command says it in guardia's words (test/client/decide.test.ts).
    await expect(decide(run, decision)).rejects.toThrow('workflow execution already completed');
    expect((await run.status()).gates).toMatchObject([{ state: 'withdrawn', decisions: [] }]);
  });

  test('where several have to agree, the first answer acknowledges: those who were told hear who is at it', async () => {
    const run = await startSigned('approvals: 2');
    await decide(run, await signed(run, await decisionOn(run)));
    await until(async () => Promise.resolve(run.happened('tell taken up').length > 0), 'they were told');
    await decide(run, await signed(run, await decisionOn(run, { approver: 'ben' })));
    await run.report();
    const told = run.log
      .filter(({ name }) => name.startsWith('tell '))
      .map(({ input }) => Notice.parse(input['notice']));
    expect(told.map(({ event }) => event)).toEqual(['waits for a person', 'taken up', 'recovered']);
    expect(new Set(told.map(({ incident }) => incident)).size).toBe(1);
    expect(told[1]).toMatchObject({
      about: 'waits for a person',
      title: expect.stringMatching(/^ana is at it: backup of /) as unknown,
      text: 'ana has answered; more people have to.',
    });
  });

  test('what changed meanwhile is planned anew, and people are asked again about the new plan', async () => {
    let seen = 'one';
    const script: Script = {
      facets: () => seen,
      plan: (name) => toyPlan(name, [lane('app', step('a', { with: { seen } }))]),
    };
    const run = await start('approvals: 1', script);
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

describe('who asked, where signatures count', () => {
  const approvedBy = async (run: ScriptedRun, ...names: string[]): Promise<void> => {
    for (const approver of names) await decide(run, await signed(run, await decisionOn(run, { approver })));
  };

  test('proved by a signature of the start: as many as the policy wants', async () => {
    const run = await startSigned('approvals: 1, signed: true');
    expect((await run.status()).gates[0]).toMatchObject({ approvals: 1, signed: true });
    expect((await run.status()).gates[0]?.oneMore).toBeUndefined();
    await approvedBy(run, 'ana');
    expect((await run.report()).end).toBe('succeeded');
  });

  test('ana signs a start and may not agree to it herself', async () => {
    const system = runs.system(askingSystem('{ signed: true }'));
    const asked = { system, requester: 'ana@laptop' };
    const at = new Date().toISOString();
    const place = { namespace: 'default', workflowId: `of-ana`, runbook: 'backup' };
    const signature = await sign('ana', 'guardia-request', requestText(place, canonicalJson(asked), at));
    const run = await runs.start(
      {},
      { system, workflowId: 'of-ana', input: { ...asked, requesterProof: { at, signature } } },
    );
    await isOpen(run);
    expect(await refusal(run, await signed(run, await decisionOn(run)))).toBe(
      'ana asked for this run and may not decide about it; others who may: ben, eva, kim',
    );
    await approvedBy(run, 'ben');
    expect((await run.report()).end).toBe('succeeded');
  });

  const unproved: [string, () => Promise<ScriptedRun>, RegExp][] = [
    ['no signature', () => start('signed: true'), /^it was started without a signature$/],
    [
      'another input than was signed',
      () => startSigned('signed: true', { input: { onFailure: 'hold' } }),
      /^the signature of the start is not that of kim over this input$/,
    ],
    [
      'an old signature',
      () => startSigned('signed: true', { at: '2026-01-31T02:00:00Z' }),
      /^its start was signed at 2026-01-31T02:00:00Z, and it was started at /,
    ],
    [
      'a signature that has started a run before',
      () => startAgain('signed: true'),
      /^the signature of the start has started a run before: [0-9a-f-]{36}$/,
    ],
    [
      'a signature that cannot be verified',
      () => startSigned('signed: true', { prefix: UNLISTED }),
      /^it could not be verified: the list of runs does not answer$/,
    ],
  ];
  test.each(unproved.map(([name, begun, why]) => ({ name, begun, why })))(
    '$name: one more has to agree, and it is told why',
    async ({ begun, why }) => {
      const run = await begun();
      const [gate] = (await run.status()).gates;
      expect(gate).toMatchObject({ approvals: 2, oneMore: expect.stringMatching(why) as unknown });
      expect(await run.details()).toContain(`because it is not proved who asked: ${gate?.oneMore}`);
      await approvedBy(run, 'ana');
      expect((await run.status()).phase).toBe('waiting for approval');
      await approvedBy(run, 'ben');
      expect((await run.report()).end).toBe('succeeded');
    },
  );

  test('where nobody is left to agree the run is refused at once, and says what helps', async () => {
    const { type, message } = await (await begin('approvals: 3')).failure();
    expect(type).toBe('refused');
    expect(message).toContain(
      'needs 4 to agree, one more than usual because it is not proved who asked (it was started without a signature); who may beside kim, who asked: ana, ben, eva. Start it with the command, which signs',
    );
    const alone = runs.system(askingSystem('{ approvers: [ana] }'));
    const own = await (await runs.start({}, { system: alone, input: { system: alone, requester: 'ana' } })).failure();
    expect(own.type).toBe('refused');
    expect(own.message).toContain(
      'needs 1 to agree; who may beside ana, who asked: nobody. Have somebody else ask for it',
    );
  });
});

describe('when nobody answers in time', () => {
  /** A minute of the policy is a tenth of a second. */
  const quick = () => runs.worker.start({ bundle: quickBundle() });
  const quickBundle = () =>
    doctoredBundle({
      'closesAfterSeconds: wanted.timeoutMinutes * 60,': 'closesAfterSeconds: wanted.timeoutMinutes * 0.1,',
      'remindEverySeconds: wanted.remindEveryMinutes * 60,': 'remindEverySeconds: wanted.remindEveryMinutes * 0.1,',
      'afterMinutes * 60': 'afterMinutes * 0.1',
      'wanted.timeoutMinutes * 60_000': 'wanted.timeoutMinutes * 100',
      'REMIND_SECONDS = 30 * 60': 'REMIND_SECONDS = 30 * 0.1',
    });
  const says = (run: ScriptedRun, decision: RecoverChoice) =>
    run.handle.executeUpdate(recoverUpdate, { args: [{ decision, reason: 'because', by: 'eva' }] });
  const holds = (run: ScriptedRun) => until(async () => (await run.status()).holds.length === 1, 'the run holds');
  const gated = (onTimeout: Gate['onTimeout'], timeoutMinutes = 5) => [
    lane('app', 'a'),
    stage([lane('app', 'b')], {
      gate: {
        ...{ id: 'switch', title: 'the switch', approvals: 1, signed: false, typedSystemName: false },
        ...{ timeoutMinutes, onTimeout, remindEveryMinutes: 60 },
      },
    }),
  ];
  beforeAll(quick);
  afterAll(() => runs.worker.start());
  const ran = (run: ScriptedRun): ScriptedRun => {
    runs.replaysWith(run, quickBundle());
    return run;
  };

  const noticesOf = (run: ScriptedRun): Notice[] =>
    run.log.filter(({ name }) => name.startsWith('tell ')).map(({ input }) => Notice.parse(input['notice']));
  const eventsOf = (run: ScriptedRun): string[] => noticesOf(run).map(({ event, tier }) => `${event}, tier ${tier}`);

  test('those who were told are reminded, and the next tier is told after its delay', async () => {
    const ladder = 'escalation: [{ tier: 1, title: one, afterMinutes: 0 }, { tier: 2, title: two, afterMinutes: 30 }]';
    const policy = `{ ${everybody}, timeoutMinutes: 50, remindEveryMinutes: 20 }`;
    const system = runs.system((name) => `${askingSystem(policy)(name)}${ladder}\n`);
    const run = ran(await runs.start({}, { system, input: { system, requester: 'kim' } }));
    await run.failure(); // at 20, 30, 40 and 50 minutes: the server's timers know whole seconds
    const notices = noticesOf(run);
    // Each has a key of its own: a target that was told of one is told of the next.
    expect(new Set(notices.map(({ dedupeKey }) => dedupeKey)).size).toBe(notices.length);
    const told = eventsOf(run);
    expect(told.slice(0, 4)).toEqual([
      'waits for a person, tier 1',
      'reminder, tier 1',
      'escalation, tier 2',
      'reminder, tier 2',
    ]);
    expect(told.slice(4).sort()).toEqual(['recovered, tier 2', 'rejected, tier 1']);
  });

  test('of a run that holds: they are reminded, and the next tier is told; once somebody has answered, nobody is told any more', async () => {
    const ladder = 'escalation: [{ tier: 1, title: one, afterMinutes: 0 }, { tier: 2, title: two, afterMinutes: 45 }]';
    const system = runs.system((name) => `${smallSystem(name)}${ladder}\n`);
    const run = ran(
      await runs.start(
        { plan: [lane('app', 'a')], acts: { 'do a': fails('CommandFailed', 'a broke') } },
        { system, input: { system, requester: 'kim', onFailure: 'hold' } },
      ),
    );
    // At 0, 30, 45 and 60 minutes.
    await until(() => eventsOf(run).length >= 4, 'the second tier is reminded');
    expect(eventsOf(run).slice(0, 4)).toEqual([
      'needs a person, tier 1',
      'reminder, tier 1',
      'escalation, tier 2',
      'reminder, tier 2',
    ]);
    const notices = noticesOf(run);
    expect(new Set(notices.map(({ dedupeKey }) => dedupeKey)).size).toBe(notices.length);
    // Whoever reads only the last of them can answer.
    for (const { title, text, command } of notices) {
      expect(title).toContain('do a on app');
      expect(text).toContain('a broke');
      expect(command).toBe(`guardia recover ${run.workflowId} --hold a`);
    }
    await says(run, 'rollback');
    expect((await run.failure()).type).toBe('rolled back');
    expect(eventsOf(run).filter((event) => event.startsWith('recovered'))).toEqual(['recovered, tier 2']);
  });

  test('reject: the run ends as rejected', async () => {
    const run = ran(await begin('timeoutMinutes: 5'));
    const { type, message } = await run.failure();
    expect(type).toBe('rejected');
    expect(message).toMatch(/nobody decided about "backup of .*" until .*; nothing was started$/);
  });

  test('a decision that comes after the closing time does not count, though no worker was there to close the gate', async () => {
    const run = ran(await begin('timeoutMinutes: 30'));
    await isOpen(run);
    const decision = await decisionOn(run);
    const closesAt = (await run.status()).gates[0]?.closesAt ?? '';
    await runs.worker.stop();
    await new Promise((resolve) => setTimeout(resolve, Math.max(Date.parse(closesAt) - Date.now(), 0) + 100));
    await run.handle.signal(decideSignal, decision);
    await quick();
    const { type, report } = await run.failure();
    expect(type).toBe('rejected');
    expect(report?.gates).toMatchObject([{ state: 'timed out', decisions: [] }]);
    const closedAt = report?.gates[0]?.closesAt ?? '';
    // A workflow task that is given to another worker may be some milliseconds younger.
    expect(Math.abs(Date.parse(closedAt) - Date.parse(closesAt))).toBeLessThan(1000);
    expect(report?.notes).toContain(`A decision was refused: too late: the gate "apply" closed at ${closedAt}`);
  });

  test('rollback: what was done is undone, and the run ends as rolled back', async () => {
    const run = ran(await runs.start({ plan: gated('rollback') }, { system: runs.system(withApprovers) }));
    const { type, message } = await run.failure();
    expect(type).toBe('rolled back');
    expect(message).toContain('nobody decided about "the switch"');
    expect(run.names()).toContain('undo a');
  });

  test('rollback before the first step: there is nothing to undo, and the run ends as rejected', async () => {
    const run = ran(await begin('timeoutMinutes: 5, onTimeout: rollback'));
    const { type, message } = await run.failure();
    expect(type).toBe('rejected');
    expect(message).toMatch(/nobody decided about .*; nothing was started$/);
  });

  test('behind the point of no return silence ends nothing by itself: a person decides, and reads what is not done', async () => {
    const plan = (name: string) => toyPlan(name, gated('reject'), { unattended: false, pointOfNoReturn: 'a' });
    const run = ran(await runs.start({ plan }, { system: runs.system(withApprovers) }));
    await holds(run);
    expect((await run.status()).holds).toMatchObject([
      {
        kind: 'point of no return',
        reason: expect.stringContaining('nobody decided about "the switch"') as unknown,
        byHand: ['"do b" on app: not begun'],
        choices: ['retry', 'rollback', 'accept'],
      },
    ]);
    await says(run, 'accept');
    const { type, message, report } = await run.failure();
    expect(type).toBe('rejected');
    expect(message).toContain('everything up to "do a" stands; to be done by hand: "do b" on app: not begun');
    expect(report?.remaining).toEqual(['"do b" on app: not begun']);
    expect(run.names()).not.toContain('undo a');
  });

  test('hold: the run stays open with its locks; it is asked again, and goes on when somebody agrees', async () => {
    const system = runs.system(askingSystem('{ approvals: 1 }'));
    // Long enough to be answered when it is asked again, on a busy machine too.
    const run = ran(await runs.start({ plan: gated('hold', 50) }, { system, input: { system, requester: 'kim' } }));
    await isOpen(run);
    await decide(run, await decisionOn(run));
    await holds(run);
    expect(await runs.lockIsHeld(run.system)).toBe(true);
    const status = await run.status();
    expect(status).toMatchObject({
      phase: 'waiting for a person',
      gates: [{ state: 'approved' }, { id: 'switch', state: 'timed out' }],
      holds: [{ id: 'switch', kind: 'gate timed out', choices: ['retry', 'rollback'] }],
    });
    for (const choice of ['retry', 'rollback'])
      expect(await run.details()).toContain(
        `\`guardia recover ${run.workflowId} ${choice} --hold switch --reason "WHY"\``,
      );
    // Nobody agrees in this way.
    await expect(says(run, 'skip')).rejects.toMatchObject({
      cause: { message: expect.stringContaining('skip is no choice') as unknown },
    });
    expect(await refusal(run, await decisionOn(run))).toBe('too late: the gate "switch" is closed, it was timed out');
    await says(run, 'retry');
    await until(async () => (await run.status()).gates.length === 3, 'people are asked again');
    await decide(run, await decisionOn(run, { approver: 'ben' }));
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    expect(report.recoveries).toMatchObject([{ id: 'switch', kind: 'gate timed out', decision: 'retry', by: 'eva' }]);
  });

  test('hold before the first step: ended by a person, it is a rejection, and nothing was started', async () => {
    const run = ran(await begin('timeoutMinutes: 5, onTimeout: hold'));
    await holds(run);
    expect(await runs.lockIsHeld(run.system)).toBe(false);
    await says(run, 'rollback');
    const { type, message } = await run.failure();
    expect(type).toBe('rejected');
    expect(message).toMatch(/nobody decided about .*, and eva ended the run: because; nothing was started$/);
  });

  test('cancelled while it holds: what was done is undone', async () => {
    const run = ran(await runs.start({ plan: gated('hold') }, { system: runs.system(withApprovers) }));
    await holds(run);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
    expect(run.names()).toContain('undo a');
  });
});

describe('a gate between two stages', () => {
  const gate: Gate = {
    ...{ id: 'switch', title: 'the switch', approvals: 1, signed: false, typedSystemName: false },
    ...{ timeoutMinutes: 60, onTimeout: 'reject' as const, remindEveryMinutes: 60 },
  };
  const gated = [lane('app', 'a'), stage([lane('app', 'b')], { gate })];

  test('is asked under the lock; a no undoes what was done and ends as rejected', async () => {
    const run = await start('approvals: 1', { plan: gated });
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

  describe('behind the point of no return', () => {
    const behind = [lane('app', 'a'), lane('app', 'c'), ...gated.slice(1)];
    const begun = async (): Promise<ScriptedRun> => {
      const plan = (name: string) => toyPlan(name, behind, { unattended: false, pointOfNoReturn: 'a' });
      const system = runs.system(withApprovers);
      const run = await runs.start({ plan }, { system, input: { system, requester: 'kim' } });
      await isOpen(run);
      return run;
    };
    const say = (run: ScriptedRun, decision: RecoverChoice) =>
      run.handle.executeUpdate(recoverUpdate, { args: [{ decision, reason: 'because', by: 'eva' }] });
    const undone = (run: ScriptedRun) => run.names().filter((name) => name.startsWith('undo'));
    const held = async (run: ScriptedRun, reason: string): Promise<void> => {
      await until(async () => (await run.status()).holds.length === 1, 'the run holds');
      expect((await run.status()).holds).toMatchObject([
        { id: 'switch', kind: 'point of no return', reason: expect.stringContaining(reason) as unknown },
      ]);
      expect(undone(run)).toEqual([]);
    };

    test('neither a no nor a cancel ends it by itself; a person has it asked again, and nobody agrees in that way', async () => {
      const run = await begun();
      await decide(run, await decisionOn(run, { decision: 'reject', reason: 'wrong day' }));
      await held(run, 'wrong day');
      await expect(say(run, 'skip')).rejects.toMatchObject({
        cause: { message: expect.stringContaining('skip is no choice') as unknown },
      });
      await say(run, 'retry');
      await isOpen(run);
      await run.handle.cancel();
      await held(run, 'cancelled');
      await say(run, 'retry');
      await isOpen(run);
      await decide(run, await decisionOn(run));
      expect((await run.report()).end).toBe('succeeded');
      expect(undone(run)).toEqual([]);
    });

    test('what was said before the gate was opened again does not count there: it is to be said anew', async () => {
      const wanted = { ...gate, approvals: 2, signed: true };
      const plan = (name: string) =>
        toyPlan(name, [lane('app', 'a'), stage([lane('app', 'b')], { gate: wanted })], {
          ...{ unattended: false, pointOfNoReturn: 'a' },
        });
      const system = runs.system(withApprovers);
      const run = await runs.start({ plan }, { system, input: { system, requester: 'kim' } });
      await isOpen(run);
      const agreed = await signed(run, await decisionOn(run));
      await decide(run, agreed);
      await decide(
        run,
        await signed(run, await decisionOn(run, { approver: 'ben', decision: 'reject', reason: 'not yet' })),
      );
      await held(run, 'not yet');
      await say(run, 'retry');
      await isOpen(run);
      expect(await refusal(run, agreed)).toBe(
        'this very decision of ana has counted before, and the gate was opened again since: decide anew',
      );
      for (const approver of ['ana', 'ben', 'eva'])
        await decide(run, await signed(run, await decisionOn(run, { approver })));
      expect((await run.report()).end).toBe('succeeded');
    });

    test.each([
      ['rollback', ['undo c']],
      ['accept', []],
    ] as const)('a person ends it: %s', async (choice, expected) => {
      const run = await begun();
      await decide(run, await decisionOn(run, { decision: 'reject', reason: 'wrong day' }));
      await held(run, 'wrong day');
      await say(run, choice);
      const { type, message } = await run.failure();
      expect(type).toBe('rejected');
      expect(message).toContain('everything up to "do a" stands');
      expect(undone(run)).toEqual(expected);
    });
  });
});

test('a step that was approved and fails rolls back as ever', async () => {
  const run = await start('approvals: 1', { plan: [lane('app', 'a', 'b')], acts: { 'do b': fails() } });
  await decide(run, await decisionOn(run));
  expect((await run.failure()).type).toBe('rolled back');
});

test('a gate that is open when the worker is replaced is still open', async () => {
  const a = held();
  const run = await start('approvals: 1', { acts: { 'do a': a.act } });
  await runs.worker.start();
  await decide(run, await decisionOn(run));
  await a.begun;
  a.release();
  expect((await run.report()).end).toBe('succeeded');
});
