// `node infra/packaging/run.mjs test/replay/record.js` records into `test/replay/histories/` the histories that replay.test.ts replays: real runs
// of today's workflows on a real server. Files that are there stay as they are: they are runs of earlier versions, which may still be open
// somewhere. Delete one to record it anew.
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { backupPlanner } from '../../workflows/backup/plan.js';
import { decideUpdate } from '../../workflows/contracts/gate.js';
import { recoverUpdate } from '../../workflows/contracts/hold.js';
import { lockWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import { fails, failsFirst, held, stumbles } from '../workflows/acts.js';
import { attributesOf, type History } from '../workflows/run-history.js';
import { openScriptedRuns, until } from '../workflows/scripted-runs.js';
import { smallSystem } from '../workflows/small-system.js';
import { lane, stage, step, toyPlan } from '../workflows/toy-plan.js';
import { savedSystem, savingActs } from './saved-system.js';

const histories = fileURLToPath(new URL('../../../test/replay/histories/', import.meta.url));
mkdirSync(histories, { recursive: true });

const runs = await openScriptedRuns({ identity: 'recorder' });

/** Without stacks, which say where this machine keeps its files. */
function withoutStacks(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutStacks);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'stackTrace')
      .map(([key, inner]) => [key, withoutStacks(inner)]),
  );
}

function keep(name: string, history: History): void {
  const file = path.join(histories, `${name}.json`);
  const text = `${JSON.stringify(withoutStacks(JSON.parse(historyToJSON(history))), undefined, 1)}\n`;
  if (existsSync(file)) process.stdout.write(`kept      ${name}\n`);
  else {
    writeFileSync(file, text);
    process.stdout.write(`recorded  ${name}: ${history.events?.length ?? 0} events\n`);
  }
}

try {
  const everything = [
    lane(
      'app',
      step('a', { attempts: 2 }),
      step('b', { kind: 'job', with: { id: { from: 'a', path: 'id' } }, verify: {} }),
    ),
    stage([lane('app', 'c', 'd'), lane('db', step('e', { kind: 'job' })), lane('worker', step('f', { undo: false }))], {
      atOnce: 2,
    }),
    lane('system', 'g'),
    lane('system', 'h'),
  ];
  const acts = {
    'do a': failsFirst(1, 'JobFailed', 'exit code 1'),
    'do c': failsFirst(1, 'HostUnreachable', 'for a moment'),
  };
  const plan = (system: string) => toyPlan(system, everything, { pointOfNoReturn: 'g' });

  const succeeded = await runs.start({ plan, acts: { ...acts, 'do a': () => ({ id: 1 }) } });
  await succeeded.report();
  keep('succeeded', await succeeded.history());
  const [lock] = attributesOf(await succeeded.history(), 'childWorkflowExecutionStartedEventAttributes');
  const { workflowId, runId } = lock?.attributes.workflowExecution ?? {};
  keep('lock', await runs.client.workflow.getHandle(workflowId ?? '', runId ?? '').fetchHistory());

  const rolledBack = await runs.start({ plan, acts: { ...acts, 'do e': fails('JobFailed', 'no space') } });
  await rolledBack.failure();
  keep('rolled-back', await rolledBack.history());

  const incomplete = await runs.start({ plan, acts: { 'do g': fails(), 'undo d': fails('CommandFailed', 'in use') } });
  await incomplete.failure();
  keep('rollback-incomplete', await incomplete.history());

  const standing = await runs.start({
    plan,
    acts: { 'do a': () => ({ id: 1 }), 'do h': fails('BackupDamaged', 'it does not read back') },
  });
  await standing.failure();
  keep('failed-behind-the-point-of-no-return', await standing.history());

  const [e, undoing] = [held({ cancelSeconds: 0.3 }), held()];
  const cancelled = await runs.start({
    plan,
    acts: { 'do a': () => ({ id: 1 }), 'do e': e.act, 'undo e': undoing.act },
  });
  await e.begun;
  keep('open-in-a-step', await cancelled.history());
  await cancelled.handle.cancel();
  await undoing.begun;
  keep('open-undoing', await cancelled.history());
  undoing.release();
  await cancelled.failure();
  keep('cancelled', await cancelled.history());

  const a = held();
  const system = runs.system();
  const holder = await runs.start({ acts: { 'do a': a.act } }, { system });
  await a.begun;
  const waiting = await runs.start({}, { system });
  await until(async () => (await waiting.status()).waitingFor !== undefined, 'it waits');
  keep('open-waiting-for-the-lock', await waiting.history());
  keep('open-lock', await runs.client.workflow.getHandle(lockWorkflowId({ system })).fetchHistory());
  a.release();
  await Promise.all([holder.report(), waiting.report()]);
  keep('succeeded-after-waiting', await waiting.history());

  const dry = runs.system();
  const planned = await runs.start({ plan }, { system: dry, input: { system: dry, plan: true } });
  await planned.report();
  keep('planned', await planned.history());

  let looks = 0;
  const changed = await runs.start({
    plan: [lane('app', 'a')],
    acts: { look: () => ({ look: Math.min(++looks, 2) }), 'do a': stumblesOnce() },
  });
  await changed.report();
  keep('planned-anew', await changed.history());

  const refused = await runs.start({}, { input: { sistem: 'x' } });
  await refused.failure();
  keep('bad-input', await refused.history());

  const asks = runs.system(
    (name) =>
      `${smallSystem(name)}approvers: { ana: { email: ana@example.org, signingKey: 'ssh-ed25519 AAAA' } }\napprovals: { backup: {} }\n`,
  );
  const attended = await runs.start(
    {
      plan: (name) => toyPlan(name, everything, { unattended: false }),
      acts: { 'do a': () => ({ id: 1 }), 'do e': failsFirst(1, 'JobFailed') },
    },
    { system: asks, input: { system: asks, requester: 'kim', onFailure: 'hold' } },
  );
  await until(async () => (await attended.status()).gates.length === 1, 'people are asked');
  keep('open-at-a-gate', await attended.history());
  const { planDigest = '' } = await attended.status();
  const decision = { gate: 'apply', planDigest, approver: 'ana', reason: 'it is right' };
  await attended.handle.executeUpdate(decideUpdate, { args: [{ ...decision, decision: 'approve' }] });
  await until(async () => (await attended.status()).holds.length === 1, 'the run holds');
  keep('open-holding', await attended.history());
  await attended.handle.executeUpdate(recoverUpdate, { args: [{ decision: 'retry', reason: 'again', by: 'ana' }] });
  await attended.report();
  keep('approved-and-retried', await attended.history());

  await runs.worker.start({ planner: backupPlanner });
  for (const [name, more] of [
    ['backup', {}],
    [
      'backup-that-does-not-read-back',
      { 'verifyArtifact verify-globals-main': fails('BackupDamaged', 'the checksum differs') },
    ],
    ['backup-rolled-back', { 'saveConfiguration configuration-app': fails('JobFailed', 'no such file') }],
  ] as const) {
    const backup = await runs.start({ acts: { ...savingActs, ...more } }, { system: runs.system(savedSystem) });
    await (name === 'backup' ? backup.report() : backup.failure());
    keep(name, await backup.history());
  }
  await runs.settle();
} finally {
  await runs.close();
}

function stumblesOnce() {
  let done = false;
  return (call: Parameters<ReturnType<typeof stumbles>>[0]) => (done ? {} : ((done = true), stumbles()(call)));
}
