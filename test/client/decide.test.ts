import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { decide, signDecision, statusOf } from '../../client/decisions.js';
import { withTemporal } from '../../client/temporal-access.js';
import { recoverChoices } from '../../workflows/contracts/hold.js';
import { fails, held } from '../workflows/acts.js';
import { lane, stage } from '../workflows/toy-plan.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from '../workflows/scripted-runs.js';
import { smallSystem } from '../workflows/small-system.js';
import { runMain } from './command-run.js';
import { DOWN, typedCommand } from './typed-command.js';

jest.setTimeout(60_000);

const keys = mkdtempSync(path.join(tmpdir(), 'guardia-keys-'));
const key = (name: string) => path.join(keys, name);
let runs: ScriptedRuns;
beforeAll(async () => {
  for (const name of ['ana', 'ben', 'eva', 'kim'])
    await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', key(name)]);
  runs = await openScriptedRuns();
}, 120_000);
afterEach(() => runs.settle(), 30_000);
afterAll(async () => {
  await runs?.close();
  rmSync(keys, { recursive: true });
});

const asking = (policy: string) => (name: string) => `${smallSystem(name)}approvers:
${['ana', 'ben', 'eva', 'kim'].map((who) => `  ${who}: { email: ${who}@example.org, signingKey: '${readFileSync(`${key(who)}.pub`, 'utf8').trim()}' }`).join('\n')}
approvals: { backup: ${policy} }
`;

/** The command as a person calls it who goes by this name and has this key. */
const as = (name: string, withKey = name) =>
  ({
    PATH: process.env['PATH'],
    TEMPORAL_ADDRESS: runs.server.address,
    TEMPORAL_NAMESPACE: runs.server.namespace,
    GUARDIA_SYSTEMS: runs.systemsDirectory,
    GUARDIA_STATE: path.join(keys, 'state'),
    GUARDIA_APPROVER: name,
    GUARDIA_SIGNING_KEY: key(withKey),
  }) as const;

let counter = 0;
/** A run that somebody starts with the command and that waits in its gate. */
async function startedBy(
  name: string,
  policy: string,
  env: ReturnType<typeof as> = as(name),
): Promise<ScriptedRun & { said: string }> {
  const system = runs.system(asking(policy));
  const suffix = `by-command-${++counter}`;
  let said = '';
  const run = await runs.startedBy(
    async () => {
      const begun = await runMain(['run', 'backup', system, '--id', suffix, '--no-follow'], env);
      expect(begun).toMatchObject({ exitCode: 0 });
      said = begun.stderr;
    },
    { system, workflowId: `backup/${system}/${suffix}` },
  );
  await until(async () => (await run.status()).gates.length === 1, 'the gate is open');
  return { ...run, said };
}

const approve = (run: ScriptedRun, env: Record<string, string | undefined>, ...options: string[]) =>
  runMain(['approve', run.workflowId, '--reason', 'looks right', ...options], env);

describe('guardia run', () => {
  test('signs the start where signatures count: nobody more has to agree', async () => {
    const run = await startedBy('kim', '{ signed: true }');
    expect(run.said).not.toContain('not signed');
    expect(await run.status()).toMatchObject({ requester: `kim@${hostname()}`, gates: [{ approvals: 1 }] });
    expect((await run.status()).gates[0]?.oneMore).toBeUndefined();
    expect(await approve(run, as('ana'))).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('approved') as unknown,
    });
    expect((await run.report()).gates).toMatchObject([{ decisions: [{ approver: 'ana', signed: true }] }]);
  });

  test('says what an unsigned start costs; the gate asks one more', async () => {
    const run = await startedBy('kim', '{ signed: true }', { ...as('kim'), GUARDIA_SIGNING_KEY: key('nowhere') });
    expect(run.said).toMatch(/the start is not signed \(there is no key .*nowhere\): one more person than usual/);
    expect(await run.status()).toMatchObject({
      gates: [{ approvals: 2, oneMore: 'it was started without a signature' }],
    });
    expect((await approve(run, as('ana'))).stdout).toContain('counted: 1 of 2');
    await approve(run, as('ben'));
    expect((await run.report()).end).toBe('succeeded');
  });
});

describe('what guardia approve refuses, and the reason that the person reads', () => {
  let run: ScriptedRun;
  beforeEach(async () => {
    run = await startedBy('kim', '{ approvals: 2, approvers: [ana, ben, kim] }');
  });
  const refused = async (reason: RegExp, env: Record<string, string | undefined>, ...options: string[]) => {
    const { exitCode, stderr } = await approve(run, env, ...options);
    expect(stderr).toMatch(reason);
    expect(exitCode).toBe(3);
  };

  test('each, and none of them counts', async () => {
    await refused(/kim asked for this run and may not decide about it; others who may: ana, ben/, as('kim'));
    await refused(/eva may not decide here; who may: ana, ben, kim/, as('eva'));
    await refused(/zoe may not decide here/, as('zoe', 'eva'));
    await refused(
      /the signature is not that of ana over this decision: it was made with another key/,
      as('ana', 'eva'),
    );
    await refused(/this gate counts signed decisions only/, as('ana'), '--unsigned');
    const other = '0'.repeat(12);
    await refused(/the plan is [0-9a-f]{12}, not 0{12}; nothing was decided/, as('ana'), '--digest', other);
    // Fewer digits, and above all none, fit every plan.
    for (const digest of ['', (await run.status()).gates[0]?.planDigest.slice(0, 11) ?? '', 'latest'])
      expect(await approve(run, as('ana'), '--digest', digest)).toMatchObject({
        exitCode: 2,
        stderr: expect.stringContaining('--digest takes the first 12 to 64 hex digits') as unknown,
      });
    await refused(/the gate "dns" of backup\/.* is not open; open: apply/, as('ana'), '--gate', 'dns');
    expect((await run.status()).gates[0]?.decisions).toEqual([]);

    expect((await approve(run, as('ana'))).stdout).toContain('counted: 1 of 2');
    await refused(/ana has decided already: approve, at /, as('ana'));
    await approve(run, as('ben'));
    await run.report();
    await refused(/too late: the run has ended/, as('ana'));
  });
});

describe('too late', () => {
  test('for a gate that was closed while the run goes on: which gate it was, and who has closed it', async () => {
    const work = held();
    const system = runs.system(asking('{ approvals: 2 }'));
    const run = await runs.start({ acts: { 'do a': work.act } }, { system, input: { system, requester: 'kim' } });
    await until(async () => (await run.status()).gates.length === 1, 'the gate is open');
    await approve(run, as('ana'));
    await approve(run, as('ben'));
    // Nobody has signed the start: one more than two.
    await approve(run, as('eva'));
    await work.begun;
    try {
      for (const gate of [[], ['--gate', 'apply']])
        expect(await approve(run, as('kim'), ...gate)).toMatchObject({
          exitCode: 3,
          stderr: expect.stringContaining(
            `too late: the gate "apply" of ${run.workflowId} is closed: approved by ana, ben, eva; the run is applying`,
          ) as unknown,
        });
      expect(await approve(run, as('kim'), '--gate', 'dns')).toMatchObject({
        exitCode: 3,
        stderr: expect.stringContaining(`${run.workflowId} does not wait for an approval (it is applying)`) as unknown,
      });
    } finally {
      work.release();
    }
    expect((await run.report()).gates).toMatchObject([
      { decisions: [{ approver: 'ana' }, { approver: 'ben' }, { approver: 'eva' }] },
    ]);
  });

  test('for a decision that has lain about until it expired; the same one signed anew counts', async () => {
    const run = await startedBy('kim', '{ signed: true }');
    await withTemporal(as('ana'), async (access) => {
      const plain = {
        ...{ gate: 'apply', planDigest: (await run.status()).gates[0]?.planDigest ?? '', decision: 'approve' as const },
        ...{ approver: 'ana', reason: 'signed yesterday' },
      };
      const yesterday = Date.now() - 24 * 3_600_000;
      const status = await statusOf(access, run);
      const good = (from: number) => ({ key: key('ana'), expiry: new Date(from + 3_600_000).toISOString() });
      const old = await signDecision(access, status, plain, good(yesterday));
      await expect(decide(access, run, old)).rejects.toMatchObject({
        cause: {
          message: expect.stringMatching(
            new RegExp(`^too late: the decision expired at ${new Date(yesterday + 3_600_000).toISOString()}, it is `),
          ) as unknown,
        },
      });
      expect((await run.status()).gates).toMatchObject([{ state: 'open', decisions: [] }]);
      await decide(access, run, await signDecision(access, status, plain, good(Date.now())));
    });
    expect((await run.report()).end).toBe('succeeded');
  });
});

test('the typed name of the system, and a veto', async () => {
  const run = await startedBy('kim', '{ typedSystemName: true }');
  const missing = await approve(run, as('ana'));
  expect(missing).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--typed is missing') as unknown });
  const other = await approve(run, as('ana'), '--typed', 'shop');
  expect(other).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining('the typed name "shop" is not the system of this run') as unknown,
  });
  const veto = await runMain(['reject', run.workflowId, '--reason', 'not today'], as('ben'));
  expect(veto).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('rejected') as unknown });
  expect((await run.failure()).message).toContain('ben said no');
});

describe('on a terminal', () => {
  /** Who sits there has a key, and no name that the command could know. */
  const nobody = (withKey: string) => ({ ...as('kim', withKey), GUARDIA_APPROVER: undefined, HOME: keys });

  test('approve shows the plan, then asks who decides, why, and for the name of the system', async () => {
    const run = await startedBy('kim', '{ typedSystemName: true, signed: true }');
    const { shown, exitCode } = await typedCommand(
      ['approve', run.workflowId],
      [
        ['Who are you?', '\r'],
        ['Why?', '\r'],
        // An empty answer is none.
        ['say it in a few words', 'looks right\r'],
        ['Type the name of the system to approve:', `${run.system}\r`],
      ],
      nobody('ana'),
    );
    expect(shown).toMatch(/Plan of backup for .*gate "backup of .*1\. do a .*digest: [0-9a-f]{64}.*Who are you\?/s);
    // Above the plan: what a signature names beside it.
    const { runId, gates } = await run.status();
    const about = shown.slice(0, shown.indexOf('Plan of backup'));
    for (const part of [
      `${run.workflowId}, run id ${runId}, namespace ${runs.server.namespace}`,
      `kim@${hostname()}`,
      `apply, "backup of ${run.system}", open until ${gates[0]?.closesAt}`,
      '0 of 1 have agreed; who may: ana, ben, eva, kim',
    ])
      expect(about).toContain(part);
    const [, until = ''] = /counts until (\S+)/.exec(about) ?? [];
    expect(Math.round((Date.parse(until) - Date.now()) / 60_000)).toBe(60);
    expect(shown).toContain(`backup of ${run.system}: approved`);
    expect(exitCode).toBe(0);
    expect((await run.report()).gates).toMatchObject([
      { state: 'approved', decisions: [{ approver: 'ana', reason: 'looks right', signed: true }] },
    ]);
  });

  test('approve with another name typed than that of the system is refused, and nothing counts', async () => {
    const run = await startedBy('kim', '{ typedSystemName: true }');
    const { shown, exitCode } = await typedCommand(
      ['approve', run.workflowId, '--reason', 'go'],
      [
        ['Who are you?', '\r'],
        ['Type the name of the system to approve:', 'shop\r'],
      ],
      nobody('ana'),
    );
    expect(shown).toContain('the typed name "shop" is not the system of this run');
    expect(exitCode).toBe(3);
    expect((await run.status()).gates).toMatchObject([{ state: 'open', decisions: [] }]);
    await run.handle.cancel();
    expect((await run.failure()).type).toBe('CANCELED');
  });

  test('Ctrl-C at a question decides nothing; reject asks who and why, and for no name', async () => {
    const run = await startedBy('kim', '{ typedSystemName: true }');
    const stopped = await typedCommand(
      ['reject', run.workflowId],
      [
        ['Who are you?', `${DOWN}\r`],
        ['Why?', '\u0003'],
      ],
      nobody('ben'),
    );
    expect(stopped.shown).toContain('nothing was started or decided');
    expect(stopped.exitCode).toBe(2);
    expect((await run.status()).gates).toMatchObject([{ state: 'open', decisions: [] }]);
    const { shown, exitCode } = await typedCommand(
      ['reject', run.workflowId],
      [
        ['Who are you?', `${DOWN}\r`],
        ['Why?', 'wrong day\r'],
      ],
      nobody('ben'),
    );
    expect(shown).not.toContain('Type the name');
    expect(shown).toContain(`backup of ${run.system}: rejected`);
    expect(exitCode).toBe(0);
    expect((await run.failure()).message).toContain(`ben said no to "backup of ${run.system}": wrong day`);
  });

  test('recover answers what it has shown, and not what the run holds at by then', async () => {
    const system = runs.system();
    const run = await runs.start(
      { plan: [stage([lane('app', 'a', 'b')])], acts: { 'do a': fails(), 'do b': fails() } },
      { system, input: { system, requester: 'kim', onFailure: 'hold' } },
    );
    const holdsAt = (id: string) => async () => (await run.status()).holds[0]?.id === id;
    await until(holdsAt('a'), 'the run holds at a');
    const say = (...argv: string[]) =>
      runMain(['recover', run.workflowId, ...argv, '--reason', 'why', '--no-follow'], as('ben'));
    const { shown, exitCode } = await typedCommand(
      ['recover', run.workflowId, '--no-follow'],
      [
        [
          'What now?',
          `${DOWN}\r`,
          async () => {
            await say('skip');
            await until(holdsAt('b'), 'the run holds at b');
          },
        ],
        ['Why?', 'a was done by hand\r'],
      ],
      as('kim'),
    );
    expect(shown).toContain('the run does not hold at "a"; it holds at: b');
    expect(exitCode).toBe(3);
    expect((await run.status()).recoveries).toMatchObject([{ id: 'a', by: `ben@${hostname()}` }]);
    expect((await runMain(['recover', run.workflowId, 'skip'], as('ben'))).stderr).toContain(
      `guardia recover ${run.workflowId} skip --hold b --reason WHY`,
    );
    await say('skip', '--hold', 'b');
    expect((await run.report()).recoveries).toHaveLength(2);
  });

  test('recover asks where, what now with what each choice means, and why', async () => {
    const system = runs.system();
    const run = await runs.start(
      { plan: [stage([lane('app', 'a'), lane('db', 'b')])], acts: { 'do a': fails(), 'do b': fails() } },
      { system, input: { system, requester: 'kim', onFailure: 'hold' } },
    );
    await until(async () => (await run.status()).holds.length === 2, 'the run holds at both');
    const [first, second] = (await run.status()).holds;
    const both = await typedCommand(
      ['recover', run.workflowId, '--no-follow'],
      [
        ['Where?', `${DOWN}\r`],
        ['What now?', `${DOWN}\r`],
        ['Why?', 'done by hand\r'],
      ],
      as('kim'),
    );
    expect(both.shown).toContain(`${first?.title} on ${first?.on}: ${first?.reason}`);
    for (const choice of first?.choices ?? []) expect(both.shown).toContain(`${choice}: ${recoverChoices[choice]}`);
    expect(both.exitCode).toBe(0);
    // One place is left: where is no question any more.
    const one = await typedCommand(
      ['recover', run.workflowId, '--no-follow'],
      [
        ['What now?', `${DOWN}\r`],
        ['Why?', 'this one, too\r'],
      ],
      as('kim'),
    );
    expect(one.shown).not.toContain('Where?');
    expect(one.exitCode).toBe(0);
    expect((await run.report()).recoveries).toMatchObject([
      { id: second?.id, decision: 'skip', why: 'done by hand', by: `kim@${hostname()}` },
      { id: first?.id, decision: 'skip', why: 'this one, too' },
    ]);
  });
});

describe('who has no signing key in the inventory', () => {
  test('is told that the decision is not signed; with --key it is signed, and the run says what it lacks', async () => {
    const own = readFileSync(`${key('ana')}.pub`, 'utf8').trim();
    const system = runs.system((name) => asking('{ approvals: 1 }')(name).replace(`'${own}'`, '{ unset: her key }'));
    const run = await runs.start({}, { system, input: { system, requester: 'kim' } });
    await until(async () => (await run.status()).gates.length === 1, 'the gate is open');
    expect(await approve(run, as('ana'), '--key', key('ana'))).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('the inventory has no signing key of ana') as unknown,
    });
    // On a terminal before the first question.
    const stopped = await typedCommand(['approve', run.workflowId], [['Why?', '\u0003']], as('ana'));
    const [shown = ''] = stopped.shown.split('Why?');
    expect(shown).toMatch(/signature {2}none/);
    expect(shown).not.toContain('counts until');
    expect(shown).toContain('the decision is not signed: the inventory has no signing key of ana');
    const { exitCode, stderr } = await approve(run, as('ana'));
    expect(exitCode).toBe(0);
    expect(stderr).toContain('warning: the decision is not signed: the inventory has no signing key of ana');
    expect((await run.report()).gates).toMatchObject([{ decisions: [{ approver: 'ana', signed: false }] }]);
  });
});

describe('off a terminal', () => {
  test('approve names everything that is missing, with the whole command line', async () => {
    const run = await startedBy('kim', '{ typedSystemName: true }');
    const { GUARDIA_APPROVER: _, ...nobody } = as('kim');
    const { exitCode, stderr } = await runMain(['approve', run.workflowId, '--unsigned'], nobody);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('--as, --reason and --typed are missing');
    expect(stderr).toContain(
      `guardia approve ${run.workflowId} --unsigned --as NAME --reason WHY --typed SYSTEM\n     NAME: ana, ben, eva, kim\n`,
    );
    expect((await run.status()).gates[0]?.decisions).toEqual([]);
    expect(await runMain(['cancel', run.workflowId, '--no-follow'], as('kim'))).toMatchObject({ exitCode: 0 });
    expect((await run.failure()).type).toBe('CANCELED');
    const request = (await run.history()).events?.find(
      (event) => event.workflowExecutionCancelRequestedEventAttributes,
    );
    expect(request?.workflowExecutionCancelRequestedEventAttributes?.identity).toBe(`kim@${hostname()}`);
  });

  test('recover names everything that is missing; said by the name that approves', async () => {
    const system = runs.system();
    const run = await runs.start(
      { plan: [stage([lane('app', 'a'), lane('db', 'b')])], acts: { 'do a': fails(), 'do b': fails() } },
      { system, input: { system, requester: 'kim', onFailure: 'hold' } },
    );
    await until(async () => (await run.status()).holds.length === 2, 'the run holds at both');
    const missing = await runMain(['recover', run.workflowId], as('kim'));
    expect(missing.exitCode).toBe(2);
    expect(missing.stderr).toContain('DECISION, --hold and --reason are missing');
    expect(missing.stderr).toContain(`guardia recover ${run.workflowId} DECISION --hold STEP --reason WHY\n`);
    expect(missing.stderr).toMatch(/DECISION: retry, skip, rollback\n +STEP: (a, b|b, a)\n/);
    const say = (...argv: string[]) => runMain(['recover', run.workflowId, ...argv, '--reason', 'why'], as('kim'));
    expect(await say('skip', '--hold', 'c', '--no-follow')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('does not hold at "c"; it holds at: ') as unknown,
    });
    expect(await say('skip', '--hold', 'a', '--no-follow')).toMatchObject({ exitCode: 0 });
    expect((await say('skip', '--no-follow', '--json')).stdout).toMatch(/"taken": \{/);
    expect((await run.report()).recoveries).toMatchObject([{ by: `kim@${hostname()}` }, { by: `kim@${hostname()}` }]);
    expect(await say('retry')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('too late: the run has ended') as unknown,
    });
  });
});

describe('while no worker is there', () => {
  test('plan, approve, reject and recover blame the worker and not Temporal; the run is as it was', async () => {
    const run = await startedBy('kim', '{ approvals: 1 }');
    const decision = {
      ...{ gate: 'apply', planDigest: (await run.status()).gates[0]?.planDigest ?? '', decision: 'approve' as const },
      ...{ approver: 'eva', reason: 'while nobody was there' },
    };
    await runs.worker.stop();
    try {
      const answers = await Promise.all(
        [
          ['plan', run.workflowId],
          ['approve', run.workflowId, '--reason', 'x'],
          ['reject', run.workflowId, '--reason', 'x'],
          ['recover', run.workflowId, 'retry', '--reason', 'x'],
        ].map((argv) => runMain(argv, as('ana'))),
      );
      for (const { exitCode, stderr } of answers) {
        expect(stderr).toContain(`no worker answers for ${run.workflowId}: `);
        expect(stderr).not.toContain('cannot reach Temporal');
        expect(exitCode).toBe(12);
      }
      // It was there when it was asked, and is not when it is told.
      await withTemporal(as('ana'), async (access) => {
        await expect(decide(access, run, decision, 1_000)).rejects.toMatchObject({
          reason: 'unreachable',
          message: expect.stringContaining('no worker answers') as unknown,
        });
      });
    } finally {
      await runs.worker.start();
    }
    await until(async () => (await run.status()).phase !== 'starting', 'a worker answers again');
    if ((await run.handle.describe()).status.name === 'RUNNING') await approve(run, as('ana'));
    expect((await run.report()).end).toBe('succeeded');
  });
});
