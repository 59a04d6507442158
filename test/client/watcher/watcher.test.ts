import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { putOnce } from '../../../activities/object-store/objects.js';
import { emptyMemory, memoryFile, readMemory } from '../../../client/watcher/memory.js';
import type { Round } from '../../../client/watcher/round.js';
import { watch } from '../../../client/watcher/watcher.js';
import { recordKeys } from '../../../workflows/contracts/run-record.js';
import { WORKFLOW_TASK_QUEUE } from '../../../workflows/contracts/task-queues.js';
import { freePort } from '../../activities/object-store/versity-gateway.js';
import { doctoredBundle } from '../../workflows/doctored-bundle.js';
import { lane, step, toyPlan } from '../../workflows/toy-plan.js';
import { runMain } from '../command-run.js';
import { status } from '../sample-run.js';
import { oneStep, openWatchedLab, type WatchedLab } from './watched-lab.js';

jest.setTimeout(90_000);

let lab: WatchedLab;
beforeAll(async () => {
  lab = await openWatchedLab();
  lab.system('one', { watcher: { heartbeat: 'env:HEARTBEAT', overdueAfterMinutes: { backup: 30 } } });
}, 120_000);
afterAll(() => lab?.close());
afterEach(() => {
  lab.notices();
  lab.beats();
});

const minutesFromNow = (minutes: number) => new Date(Date.now() + minutes * 60_000);
const shown = ({ findings }: Round) => findings.map(({ key, event, state }) => [key.split('/')[0], event, state]);
const told = () => lab.notices().map(({ event, about, title }) => [event, about, title]);

/** Rounds until one fits: Temporal's list follows with a delay. */
async function roundUntil(
  fits: (round: Round) => boolean,
  more: Parameters<WatchedLab['round']>[0] = {},
): Promise<Round> {
  for (let tries = 0; ; tries++) {
    const round = await lab.round(more);
    if (fits(round) || tries > 60) return round;
    await delay(250);
  }
}
const sees = (event: string) => (round: Round) => round.findings.some((one) => one.event === event);
const seesNothing = (round: Round) => round.findings.length === 0;

describe('what no run can tell by itself is told once, and once when it is over', () => {
  test('nothing is wrong: nobody is told, and the heartbeat beats', async () => {
    const round = await lab.round();
    expect(round).toMatchObject({ findings: [], trouble: [] });
    expect(lab.notices()).toEqual([]);
    expect(lab.beats()).toEqual(['ok']);
  });

  test('no worker while a run is open', async () => {
    // Only its input says what this one is about: an id from the Web UI may be any.
    const typed = await lab.client.workflow.start('backup', {
      ...{ taskQueue: WORKFLOW_TASK_QUEUE, workflowId: 'typed into the form' },
      args: [{ system: 'one', requester: 'ana' }],
    });
    const now = () => minutesFromNow(2);
    const round = await roundUntil(sees('no worker'), { now });
    const run = await lab.start('one', 'waits');
    const listed = await runMain(['status', 'one', '--json'], lab.env);
    expect((JSON.parse(listed.stdout) as { open: unknown[] }).open).toContainEqual(
      expect.objectContaining({ workflowId: 'typed into the form', system: 'one' }),
    );
    expect(shown(round)).toEqual([
      ['no-worker', 'no worker', 'new'],
      ['no-worker', 'no worker', 'new'],
    ]);
    expect(shown(await lab.round({ now }))).toEqual([
      ['no-worker', 'no worker', 'open'],
      ['no-worker', 'no worker', 'open'],
    ]);
    const notices = lab.notices();
    expect(notices.map(({ title }) => title).sort()).toEqual([
      'No worker for one: nobody asks for tasks of guardia',
      'No worker for one: nobody asks for tasks of guardia-main',
    ]);
    expect(notices[0]).toMatchObject({
      severity: 'critical',
      system: 'one',
      command: 'systemctl restart guardia-worker',
    });
    expect(notices[0]?.text).toContain('the oldest is typed into the form');

    await lab.worker.start();
    await Promise.all([run.result(), typed.result()]);
    expect(shown(await roundUntil(({ findings }) => findings.every(({ state }) => state === 'over'), { now }))).toEqual(
      [
        ['no-worker', 'no worker', 'over'],
        ['no-worker', 'no worker', 'over'],
      ],
    );
    const over = lab.notices();
    expect(over.map(({ event, about }) => [event, about])).toEqual([
      ['recovered', 'no worker'],
      ['recovered', 'no worker'],
    ]);
    expect(over.map(({ incident }) => incident).sort()).toEqual(notices.map(({ incident }) => incident).sort());
    expect(shown(await lab.round({ now }))).toEqual([]);
    expect(lab.notices()).toEqual([]);
  });

  test('a run that was terminated and one that timed out, until a later one ends well', async () => {
    await lab.worker.stop();
    const terminated = await lab.start('one', 'terminated');
    await terminated.terminate('the disk was full');
    await lab.start('one', 'timed-out', { timeout: '1s' });
    // Of one that was only to make a plan nothing is lost.
    await (await lab.start('one', 'a-plan', { input: { plan: true } })).terminate('it took too long');
    const round = await roundUntil((each) => sees('terminated')(each) && sees('timed out')(each));
    expect(shown(round).sort()).toEqual([
      ['lost', 'terminated', expect.any(String)],
      ['lost', 'timed out', 'new'],
    ]);
    await lab.round();
    const notices = lab.notices().sort((a, b) => (a.event < b.event ? -1 : 1));
    expect(notices).toEqual([
      expect.objectContaining({
        event: 'terminated',
        severity: 'warning',
        title: 'backup of one: terminated',
        workflowId: 'backup/one/terminated',
        command: 'guardia watch backup/one/terminated',
        link: expect.stringContaining('http://ui.example/namespaces/default/workflows/backup%2Fone%2Fterminated/'),
      }),
      expect.objectContaining({ event: 'timed out', severity: 'error', workflowId: 'backup/one/timed-out' }),
    ]);
    expect(notices[0]?.text).toContain('the disk was full. Nothing undid what it had done.');

    // A watcher that has forgotten everything does not tell again: the bucket remembers.
    const { memory } = lab;
    lab.memory = emptyMemory();
    expect((await lab.round()).findings).toHaveLength(2);
    expect(lab.notices()).toEqual([]);
    lab.memory = memory;

    await lab.worker.start();
    await (await lab.start('one', 'better')).result();
    await roundUntil(seesNothing);
    expect(told().sort()).toEqual([
      ['recovered', 'terminated', 'Over: backup of one: terminated'],
      ['recovered', 'timed out', 'Over: backup of one: timed out'],
    ]);
  });

  test('a run whose input nobody can read is told as any other one, and hides none', async () => {
    await lab.worker.stop();
    const workflowId = 'backup/one/unreadable';
    await lab.client.workflowService.startWorkflowExecution({
      ...{ namespace: lab.env['TEMPORAL_NAMESPACE'] ?? 'default', workflowId, requestId: workflowId },
      ...{ workflowType: { name: 'backup' }, taskQueue: { name: WORKFLOW_TASK_QUEUE } },
      input: { payloads: [{ metadata: { encoding: Buffer.from('binary/encrypted') }, data: Buffer.from('x') }] },
    });
    await lab.client.workflow.getHandle(workflowId).terminate('for the test');
    await (await lab.start('one', 'readable')).terminate('for the test');
    const round = await roundUntil(({ findings }) => findings.length === 2);
    expect(round.trouble).toEqual([]);
    expect(round.findings.map((one) => [one.event, one.workflowId]).sort()).toEqual([
      ['terminated', 'backup/one/readable'],
      ['terminated', workflowId],
    ]);
    await lab.worker.start();
    await (await lab.start('one', 'after-the-unreadable')).result();
    await roundUntil(seesNothing);
  });

  test('a run that could not start, because its input was refused, until a later one ends well', async () => {
    const start = (workflowId: string, input: object) =>
      lab.client.workflow.start('backup', { taskQueue: WORKFLOW_TASK_QUEUE, workflowId, args: [input] });
    const refused = [
      await lab.start('one', 'from-a-schedule', { input: { sistem: 'one' } }),
      await start('mistyped', { system: 'one', onFailure: 'pray' }),
      // Of one that was only to make a plan nothing is lost, and of one without a system nobody can be told.
      await lab.start('one', 'a-plan-of-it', { input: { plan: true, sistem: 'one' } }),
      await start('nowhere', { sistem: 'one' }),
    ];
    for (const run of refused) await expect(run.result()).rejects.toThrow();
    const seen = ({ findings }: Round) => findings.map(({ event, workflowId }) => [event, workflowId]).sort();
    const both = [
      ['refused', 'backup/one/from-a-schedule'],
      ['refused', 'mistyped'],
    ];
    expect(seen(await roundUntil(({ findings }) => findings.length === 2))).toEqual(both);
    // The others come into the list with them.
    await delay(1_500);
    expect(seen(await lab.round())).toEqual(both);
    const notices = lab.notices().sort((a, b) => ((a.workflowId ?? '') < (b.workflowId ?? '') ? -1 : 1));
    expect(notices).toEqual([
      expect.objectContaining({
        event: 'refused',
        severity: 'warning',
        title: 'backup of one could not start: its input was refused',
        text: expect.stringContaining('the input of backup is wrong: unknown field "sistem"') as unknown,
        command: 'guardia runbooks backup',
      }),
      expect.objectContaining({ event: 'refused', text: expect.stringContaining('"onFailure"') as unknown }),
    ]);
    await (await lab.start('one', 'typed-rightly')).result();
    await roundUntil(seesNothing);
    expect(told()).toEqual(
      Array(2).fill(['recovered', 'refused', 'Over: backup of one could not start: its input was refused']),
    );
  });

  test('a run that was terminated while it worked: over once a repair has seen to this run, or a later one has succeeded', async () => {
    const { plan } = lab.script;
    const terminated = async (id: string): Promise<string> => {
      let release: () => void = () => undefined;
      const begun = new Promise<void>((begin) => {
        lab.script.plan = oneStep;
        lab.script.act = () => (begin(), new Promise<void>((resolve) => (release = resolve)));
      });
      const run = await lab.start('one', id);
      await begun;
      await run.terminate('by mistake');
      release();
      Object.assign(lab.script, { plan, act: () => Promise.resolve() });
      return run.firstExecutionRunId;
    };
    const open = ({ findings }: Round) =>
      findings.flatMap(({ workflowId, state }) => (state === 'over' ? [] : [workflowId?.split('/')[2]])).sort();
    const first = await terminated('in-the-middle');
    await terminated('in-the-middle-again');
    await roundUntil((round) => open(round).length === 2);
    expect(lab.notices()).toEqual(
      Array(2).fill(
        expect.objectContaining({
          event: 'terminated',
          command: 'guardia run repair one --plan',
          text: expect.stringContaining(
            'This is over when a repair has seen to this run, or a later backup of one has succeeded.',
          ) as unknown,
        }),
      ),
    );
    // One that had nothing to do has not looked at what was left, and one of the configuration only is about less.
    expect(await (await lab.start('one', 'looked')).result()).toMatchObject({ end: 'nothing to do' });
    lab.script.plan = oneStep;
    await (await lab.start('one', 'a-part', { input: { only: 'configuration' } })).result();
    lab.script.plan = (system) =>
      toyPlan(
        system,
        [lane('app', { ...step('forget', { undo: false }), do: { activity: 'forgetLeftRun', with: { run: first } } })],
        { runbook: 'repair' },
      );
    await (await lab.start('one', 'mended', { runbook: 'repair' })).result();
    expect(open(await roundUntil((round) => open(round).length === 1))).toEqual(['in-the-middle-again']);
    expect(lab.notices()).toMatchObject([{ event: 'recovered', workflowId: 'backup/one/in-the-middle' }]);
    lab.script.plan = plan;
    // No terminated run has left anything.
    await (await lab.start('one', 'nothing-left', { runbook: 'repair' })).result();
    await roundUntil(seesNothing);
    expect(told()).toEqual([['recovered', 'terminated', 'Over: backup of one: terminated']]);

    await terminated('the-third');
    await roundUntil(sees('terminated'));
    lab.script.plan = oneStep;
    await (await lab.start('one', 'all-of-it')).result();
    lab.script.plan = plan;
    await roundUntil(seesNothing);
  });

  test('a run that is parked on a mistake in guardia, until a worker can go on', async () => {
    const broken = doctoredBundle({
      "progress.phase('observing');": "progress.phase('observing'); undefined.mistake;",
    });
    await lab.worker.start(broken);
    // A worker reports the first failure of a task only, and lets the others run out of time: 10 s each by default.
    const run = await lab.start('one', 'parked', { taskTimeout: '3s' });
    // Each further failure makes Temporal wait longer before the next try, and this test with it.
    for (let failures = 0; failures < 3; await delay(50))
      failures = (await run.describe()).raw.pendingWorkflowTask?.attempt ?? 0;
    await lab.worker.stop();
    const round = await roundUntil(sees('parked'));
    expect(shown(round)).toEqual([['parked', 'parked', 'new']]);
    await lab.round();
    const [first, ...more] = lab.notices();
    expect(more).toEqual([]);
    expect(first).toMatchObject({ event: 'parked', severity: 'error', workflowId: 'backup/one/parked' });
    expect(first?.text).toMatch(/its workflow task has failed \d+ times, with: .*mistake/);

    await lab.worker.start();
    await run.result();
    await roundUntil(seesNothing);
    expect(told()).toEqual([['recovered', 'parked', expect.stringContaining('Over: backup of one is parked')]]);
  });

  test('a run that works for too long; one that waits for it does not', async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    lab.script.plan = oneStep;
    const begun = new Promise<void>((begin) => (lab.script.act = () => (begin(), held)));
    const run = await lab.start('one', 'long');
    await begun;
    try {
      const second = await lab.start('one', 'behind');
      // The list follows with a delay: the first works, and the second waits for it, before a day passes in no time.
      const waits = ({ firstExecutionRunId: id }: typeof run) => lab.memory.waits[id]?.since !== undefined;
      await roundUntil(() => lab.memory.waits[run.firstExecutionRunId] !== undefined && !waits(run) && waits(second));
      const round = await roundUntil(sees('overdue'), { now: () => minutesFromNow(31) });
      expect(round.findings.map(({ workflowId, event }) => [workflowId, event])).toEqual([
        ['backup/one/long', 'overdue'],
      ]);
      expect(lab.notices()).toEqual([
        expect.objectContaining({ event: 'overdue', title: 'backup of one works for more than 30 min 00 s' }),
      ]);
      // A day later the other one has waited for too long.
      const later = await lab.round({ now: () => minutesFromNow(25 * 60) });
      expect(later.findings.map(({ key, workflowId }) => [key.split('/')[0], workflowId])).toContainEqual([
        'waits',
        'backup/one/behind',
      ]);
      // So it has for a watcher that sees it for the first time.
      const { memory } = lab;
      lab.memory = emptyMemory();
      const { findings } = await lab.round({ now: () => minutesFromNow(25 * 60), tell: false });
      lab.memory = memory;
      expect(findings.filter(({ workflowId }) => workflowId === 'backup/one/behind')).toEqual([
        expect.objectContaining({ key: expect.stringMatching(/^waits/) }),
      ]);
      release();
      await Promise.all([run.result(), second.result()]);
    } finally {
      release();
      lab.script.plan = (system) => ({ ...oneStep(system), stages: [] });
      lab.script.act = () => Promise.resolve();
    }
    await roundUntil(seesNothing);
    expect(lab.memory.waits).toEqual({});
  });

  test('how long a run may work is learned from runs of their own, not from what ran as a step of another', async () => {
    lab.system('five');
    let release: () => void = () => undefined;
    const overdue = async (minutes: number) =>
      (await lab.round({ now: () => minutesFromNow(minutes) })).findings.map(({ title }) => title);
    const { plan } = lab.script;
    const child = (id: string) => ({
      ...step(id, { undo: false }),
      do: { activity: 'runRunbook', with: { runbook: 'backup', input: { only: 'configuration' } } },
    });
    lab.script.plan = (system, runbook) =>
      runbook === 'repair'
        ? toyPlan(system, [lane('app', child('a'), child('b'), child('c'))], { runbook })
        : oneStep(system);
    await (await lab.start('five', 'with-children', { runbook: 'repair' })).result();
    const held = async (id: string) => {
      const begun = new Promise<void>((begin) => {
        lab.script.act = () => (begin(), new Promise<void>((resolve) => (release = resolve)));
      });
      const run = await lab.start('five', id);
      await begun;
      await roundUntil(() => lab.memory.waits[run.firstExecutionRunId] !== undefined);
      return run;
    };
    try {
      const first = await held('first');
      expect(await overdue(239)).toEqual([]);
      expect(await overdue(241)).toEqual(['backup of five works for more than 4 h 00 min']);
      release();
      await first.result();
      lab.script.act = () => Promise.resolve();
      for (const id of ['second', 'third']) await (await lab.start('five', id)).result();
      // What is terminated takes its steps along: one alarm, and not two.
      const begun = new Promise<void>((begin) => {
        lab.script.act = () => (begin(), new Promise<void>((resolve) => (release = resolve)));
      });
      const whole = await lab.start('five', 'terminated', { runbook: 'repair' });
      await begun;
      await whole.terminate('both');
      release();
      // The list follows with a delay.
      const query =
        "ExecutionStatus = 'Terminated' AND GuardiaSystem = 'five' AND WorkflowType IN ('repair', 'backup')";
      for (let count = 0; count < 2; await delay(100)) ({ count } = await lab.client.workflow.count(query));
      const { findings } = await lab.round();
      const terminated = findings.filter(({ event }) => event === 'terminated');
      expect(terminated.map(({ workflowId }) => workflowId)).toEqual(['repair/five/terminated']);
      lab.script.act = () => Promise.resolve();
      await (await lab.start('five', 'repaired', { runbook: 'repair' })).result();
      const last = await held('last');
      await roundUntil(seesNothing);
      expect(await overdue(16)).toEqual(['backup of five works for more than 15 min 00 s']);
      release();
      await last.result();
    } finally {
      release();
      Object.assign(lab.script, { plan, act: () => Promise.resolve() });
    }
    await roundUntil(seesNothing);
  });

  test('a scheduled run that did not start, until one does that does all it asks; one that only the bucket remembers counts', async () => {
    const ago = minutesFromNow(-40);
    const cron = `${ago.getUTCMinutes()} ${ago.getUTCHours()} * * *`;
    const schedules = {
      nightly: { runbook: 'backup', cron },
      // Of a runbook that does not exist yet.
      secret: { runbook: 'rotate-secret', cron },
    };
    lab.system('two', {
      schedules: { ...schedules, nightly: { ...schedules.nightly, input: { onFailure: 'hold' } } },
      escalation: [
        { tier: 1, title: 'first', afterMinutes: 0 },
        { tier: 2, title: 'second', afterMinutes: 30 },
      ],
      notifications: {
        first: { kind: 'webhook', url: 'env:NOTICES' },
        second: { kind: 'webhook', url: 'env:NOTICES_OF_THE_SECOND', tier: 2 },
      },
    });
    const databases = {
      main: {
        engine: 'postgresql',
        on: 'app',
        name: 'main',
        version: 16,
        access: { kind: 'peer' },
        expect: { tables: ['public.users'], minimumBytes: 1 },
      },
    };
    lab.system('three', { schedules, databases });
    lab.system('six', { schedules, databases });
    // Of a system that nobody has filled in.
    lab.system('four', {
      schedules,
      hosts: {
        app: { connection: { address: { unset: 'x' }, user: 'x', identity: 'env:X', hostKeys: ['ssh-ed25519 AAAA'] } },
      },
    });
    // In service is one with a host that is filled in; a `local` one needs nothing, and counts where there are no others.
    const ssh = { address: 'app.example', user: 'x', identity: 'env:X', hostKeys: ['ssh-ed25519 AAAA'] };
    const open = { connection: { ...ssh, address: { unset: 'x' } } };
    const served = async (hosts: object) => {
      lab.system('eight', { schedules, hosts });
      await lab.round();
      rmSync(path.join(lab.env['GUARDIA_SYSTEMS'] ?? '', 'eight.yaml'));
      const { 'eight/nightly': seen, ...others } = lab.memory.schedules;
      lab.memory.schedules = others;
      return seen !== undefined;
    };
    expect(await served({ app: { connection: ssh }, db: open })).toBe(true);
    expect(await served({ app: { connection: { ...ssh, jump: 'db' } }, db: open })).toBe(false);
    expect(await served({ app: { connection: 'local' }, db: open })).toBe(false);
    expect(await served({ app: { connection: 'local' } })).toBe(true);
    // It was due and began, and yet it did not start.
    const refused = await lab.start('two', 'nightly-2026', { input: { onFailure: 'pray' } });
    await expect(refused.result()).rejects.toThrow();
    await roundUntil(sees('refused'));
    expect(lab.notices()).toEqual([expect.objectContaining({ event: 'refused', system: 'two' })]);
    // Who only looks once, and remembers nothing, sees it all the same.
    const looking = { ...lab.env, GUARDIA_STATE: path.join(lab.env['GUARDIA_STATE'] ?? '', 'nothing') };
    const looked = await runMain(['watcher', 'two', '--once', '--no-tell'], looking);
    expect(looked.stdout).toContain('backup of two did not start: schedule nightly was due at');
    await lab.round();
    expect(Object.keys(lab.memory.schedules).sort()).toEqual(['six/nightly', 'three/nightly', 'two/nightly']);
    // Nothing was due before the watcher saw it.
    expect(lab.notices()).toEqual([]);
    for (const kept of Object.values(lab.memory.schedules)) kept.since = minutesFromNow(-120).toISOString();
    // Temporal has forgotten them: a whole one, and what a deploy ends with.
    const record = (system: string, ...steps: Parameters<typeof lane>[1][]) => {
      const run = { workflowId: `backup/${system}/2026`, runId: 'r' };
      const report = { ...status({ ...run, system }), plan: toyPlan(system, [lane('app', ...steps)]) };
      const text = JSON.stringify({ schemaVersion: 1, entry: 'plan', previous: null, report });
      return putOnce(lab.gateway.bucket, recordKeys('', system, run).entry('plan'), text);
    };
    await record('three', 'configuration-app', step('database-main', { kind: 'job', with: { name: 'main' } }));
    await record('six', 'configuration-app');
    const part = await lab.start('two', 'a-part', { input: { only: 'configuration' } });
    await part.result();

    const round = await lab.round();
    expect(round.findings).toEqual([
      expect.objectContaining({ event: 'refused', state: 'open' }),
      expect.objectContaining({ key: 'missed/six/nightly', event: 'missed' }),
      expect.objectContaining({ key: 'missed/two/nightly', event: 'missed', severity: 'error', state: 'new' }),
    ]);
    await lab.round();
    expect(lab.notices().sort((a, b) => (a.system < b.system ? -1 : 1))).toEqual([
      expect.objectContaining({ event: 'missed', system: 'six' }),
      expect.objectContaining({
        event: 'missed',
        system: 'two',
        runbook: 'backup',
        title: expect.stringMatching(/^backup of two did not start: schedule nightly was due at /),
        command: 'guardia run backup two --set onFailure=hold',
      }),
    ]);
    await (await lab.start('six', 'by-hand')).result();
    await roundUntil(({ findings }) => findings.length === 2);
    expect(told()).toEqual([['recovered', 'missed', expect.stringContaining('Over: backup of six did not start')]]);
    // Half an hour later it is still so: the second tier is told, the first one not again.
    const escalated = await lab.round({ now: () => minutesFromNow(31) });
    expect(escalated.findings.map(({ event, told: names }) => [event, names])).toEqual([
      ['refused', ['first']],
      ['missed', ['first', 'second']],
    ]);
    expect(lab.notices()).toEqual([expect.objectContaining({ event: 'missed', tier: 2 })]);
    await (await lab.start('two', 'by-hand')).result();
    await roundUntil(seesNothing);
    const over = ['recovered', 'missed', expect.stringContaining('Over: backup of two did not start')];
    expect(told().sort()).toEqual([over, over, ['recovered', 'refused', expect.stringContaining('could not start')]]);
  });

  test('what cannot be looked at three rounds in a row, until it can', async () => {
    // Only the bucket knows of the run of the third system.
    await lab.gateway.kill();
    try {
      const rounds = [await lab.round(), await lab.round(), await lab.round()];
      expect(rounds.map(shown)).toEqual([[], [], [['blind', 'blind', 'new']]]);
      expect(rounds[0]?.trouble).toEqual([
        { system: 'three', text: expect.stringContaining('could not look at missed runs three: ListObjectsV2 of') },
      ]);
      expect(told()).toEqual([['blind', undefined, 'The watcher cannot look at the missed runs of three']]);
    } finally {
      await lab.gateway.start();
    }
    expect(shown(await lab.round())).toEqual([['blind', 'blind', 'over']]);
    expect(told()).toEqual([['recovered', 'blind', expect.stringContaining('Over: ')]]);
  });

  test('a Temporal that answers and does not do what it is asked for is not away: the watcher is blind', async () => {
    const { memory, env } = lab;
    // Longer than it takes a name.
    const refusing = { only: ['one'], env: { ...env, TEMPORAL_NAMESPACE: 'n'.repeat(2_000) } };
    lab.memory = emptyMemory();
    try {
      const rounds = [await lab.round(refusing), await lab.round(refusing), await lab.round(refusing)];
      expect(rounds.map(shown)).toEqual([[], [], [['blind', 'blind', 'new']]]);
      expect(rounds[2]?.findings[0]?.text).toMatch(/^could not look at temporal: .*does not do what it was asked for/);
      expect(told()).toEqual([['blind', undefined, 'The watcher cannot look at the runs of one']]);
      expect(lab.beats()).toHaveLength(3);
      expect(shown(await lab.round({ only: ['one'] }))).toEqual([['blind', 'blind', 'over']]);
    } finally {
      lab.memory = memory;
    }
  });

  test('Temporal is away: told once, what was wrong stays as it is, and the heartbeat says so', async () => {
    await (await lab.start('one', 'before-the-fall')).terminate('for the test');
    await roundUntil(sees('terminated'));
    lab.notices();
    lab.beats();
    await lab.worker.stop();
    await lab.server.stop();
    const round = await lab.round();
    const again = await lab.round();
    expect(shown(round).sort()).toEqual([
      ['lost', 'terminated', 'open'],
      ...Array<string[]>(5).fill(['no-temporal', 'no temporal', 'new']),
    ]);
    expect(shown(again).map(([, , state]) => state)).toEqual(Array(6).fill('open'));
    expect(told().map(([event, , title]) => [event, title])).toEqual(
      expect.arrayContaining([['no temporal', 'Temporal does not answer: no run of one goes on']]),
    );
    expect(lab.beats()).toEqual([
      expect.stringContaining('cannot reach Temporal at'),
      expect.stringContaining('cannot reach Temporal at'),
    ]);
    await lab.server.start();
    const back = await roundUntil(({ findings }) =>
      findings.every(({ event, state }) => event !== 'no temporal' || state === 'over'),
    );
    expect(shown(back)).toContainEqual(['lost', 'terminated', 'open']);
    expect(told().map(([event, about]) => [event, about])).toEqual(
      Array<string[]>(5).fill(['recovered', 'no temporal']),
    );
    lab.beats();
    await lab.round();
    expect(lab.beats()).toEqual(['ok']);
    await lab.worker.start();
    await (await lab.start('one', 'after-the-fall')).result();
    await roundUntil(seesNothing);
  });
});

describe('the watcher does not depend on anything', () => {
  test('a target that does not answer is told later, and the heartbeat says so until then', async () => {
    lab.answer.status = 500;
    await (await lab.start('one', 'unheard')).terminate('for the test');
    const round = await roundUntil(sees('terminated'));
    expect(round.findings[0]?.told).toEqual([]);
    expect(round.trouble).toEqual([
      { system: 'one', text: 'ops (webhook) was not told "backup of one: terminated": answers 500' },
    ]);
    lab.answer.status = 200;
    lab.notices();
    lab.beats();
    // Not at once again, but after a minute.
    expect((await lab.round()).trouble[0]?.text).toBe('ops could not be told "backup of one: terminated" yet');
    expect(lab.beats()).toEqual([expect.stringContaining('could not be told')]);
    expect(lab.notices()).toEqual([]);
    const heard = await lab.round({ now: () => minutesFromNow(1.5) });
    expect(heard.findings[0]?.told).toEqual(['ops']);
    expect(lab.notices()).toHaveLength(1);
    expect(lab.beats()).toEqual(['ok']);
  });

  test('a target that is not filled in is not told, which fails where nobody else is; it is told once it is filled in', async () => {
    const one = (notifications: object) =>
      lab.system('one', {
        notifications,
        watcher: { heartbeat: 'env:HEARTBEAT', overdueAfterMinutes: { backup: 30 } },
      });
    const ops = { kind: 'webhook', url: 'env:NOTICES' };
    const open = { kind: 'webhook', url: { unset: 'its address' } };
    one({ ops: open });
    await (await lab.start('one', 'unread')).terminate('for the test');
    const unread = ({ findings }: Round) => findings.find(({ workflowId }) => workflowId === 'backup/one/unread');
    await roundUntil((round) => unread(round) !== undefined);
    lab.beats();
    const round = await lab.round();
    expect(unread(round)?.told).toEqual([]);
    const trouble = 'nobody can be told "backup of one: terminated": notifications.ops.url is not filled in';
    expect(round.trouble).toEqual([{ system: 'one', text: trouble }]);
    expect(lab.beats()).toEqual([trouble]);

    // One beside it that was told is enough.
    one({ ops: open, other: ops });
    const other = await lab.round();
    expect(unread(other)?.told).toEqual(['other']);
    expect(other.trouble).toEqual([]);
    expect(lab.beats()).toEqual(['ok']);
    lab.notices();
    one({ ops, other: ops });
    expect(unread(await lab.round())?.told).toEqual(['other', 'ops']);
    expect(lab.notices().filter(({ workflowId }) => workflowId === 'backup/one/unread')).toHaveLength(1);
    await (await lab.start('one', 'read')).result();
    await roundUntil(seesNothing);
    one({ ops });
  });

  test('what comes back before everybody was told that it was over is told anew to those who were told so', async () => {
    lab.system('seven', {
      notifications: {
        first: { kind: 'webhook', url: 'env:NOTICES' },
        second: { kind: 'webhook', url: 'env:NOTICES_OF_THE_SECOND' },
      },
      watcher: { overdueAfterMinutes: { backup: 30 } },
    });
    const { plan } = lab.script;
    let release: () => void = () => undefined;
    const begun = new Promise<void>((begin) => {
      lab.script.plan = oneStep;
      lab.script.act = () => (begin(), new Promise<void>((resolve) => (release = resolve)));
    });
    const run = await lab.start('seven', 'long');
    await begun;
    /** Half an hour later it is overdue, and with the clock put back it is not. */
    const look = async (minutes: number) => {
      const { findings } = await lab.round({ now: () => minutesFromNow(minutes) });
      return findings.flatMap(({ system, state, told: names }) =>
        system === 'seven' ? [[state, [...names].sort()]] : [],
      );
    };
    const heard = () => lab.notices().filter(({ system }) => system === 'seven');
    try {
      await roundUntil(() => lab.memory.waits[run.firstExecutionRunId] !== undefined);
      lab.notices();
      expect(await look(31)).toEqual([['new', ['first', 'second']]]);
      const [first, ...rest] = heard();
      expect(rest).toHaveLength(1);

      lab.answer.second = 500;
      expect(await look(0)).toEqual([['over', ['first', 'second']]]);
      delete lab.answer.second;
      // Both were asked, and one has heard it.
      expect(new Set(heard().map(({ event }) => event))).toEqual(new Set(['recovered']));

      expect(await look(31)).toEqual([['new', ['first', 'second']]]);
      // One notice, to the one who believed it over, about the incident that both know.
      const anew = heard();
      expect(anew).toMatchObject([{ event: 'overdue', incident: first?.incident }]);
      expect(anew[0]?.dedupeKey).not.toBe(first?.dedupeKey);

      await look(0);
      expect(heard()).toMatchObject(Array(2).fill({ event: 'recovered', incident: first?.incident }));
      expect(await look(0)).toEqual([]);
    } finally {
      delete lab.answer.second;
      release();
      await run.result();
      Object.assign(lab.script, { plan, act: () => Promise.resolve() });
    }
  });

  test('a heartbeat that cannot be sent is trouble, without its address', async () => {
    const { HEARTBEAT = '' } = lab.env;
    lab.env['HEARTBEAT'] = `http://127.0.0.1:${await freePort()}/ping/4b0c-beat`;
    try {
      expect((await lab.round()).trouble).toEqual([
        {
          system: 'one',
          text: 'the heartbeat env:HEARTBEAT could not be sent: refuses the connection: nothing listens there',
        },
      ]);
    } finally {
      lab.env['HEARTBEAT'] = HEARTBEAT;
    }
  });

  test('with the bucket away it still tells once, also after it was started anew', async () => {
    await lab.gateway.kill();
    try {
      await (await lab.start('one', 'no-bucket')).terminate('for the test');
      const options = {
        env: lab.env,
        tell: true,
        bounds: { attemptMs: 2000, targetMs: 4000, attempts: 1, pauseMs: 1 },
      };
      const { watchOnce } = await import('../../../client/watcher/watcher.js');
      for (let tries = 0; tries < 40; tries++) {
        const { round } = await watchOnce(options);
        if (round.findings.some(({ workflowId }) => workflowId === 'backup/one/no-bucket')) break;
        await delay(250);
      }
      const { round } = await watchOnce(options);
      expect(round.findings.find(({ workflowId }) => workflowId === 'backup/one/no-bucket')?.state).toBe('open');
      expect(lab.notices().filter(({ workflowId }) => workflowId === 'backup/one/no-bucket')).toHaveLength(1);
    } finally {
      await lab.gateway.start();
    }
  });

  test('an inventory that cannot be read, a damaged memory: trouble, and the next round goes on', async () => {
    writeFileSync(memoryFile(lab.env), '{ half of it');
    const broken = { ...lab.env, GUARDIA_SYSTEMS: '/nonexistent' };
    const rounds: Round[] = [];
    const stop = new AbortController();
    await watch({
      env: broken,
      tell: true,
      intervalSeconds: 0,
      signal: stop.signal,
      onRound: (round) => {
        rounds.push(round);
        if (rounds.length === 2) stop.abort();
      },
    });
    expect(rounds).toHaveLength(2);
    expect(rounds[0]?.trouble.map(({ text }) => text).join('\n')).toMatch(/no directory \/nonexistent.*damaged/s);
    expect(rounds[1]?.trouble.map(({ text }) => text).join('\n')).not.toContain('damaged');
    expect(readMemory(memoryFile(lab.env)).lost).toBeUndefined();
  });
});

describe('guardia watcher --once', () => {
  test('prints what is wrong, as a table and as JSON; --no-tell leaves everything as it was', async () => {
    await roundUntil(({ findings }) => findings.some(({ workflowId }) => workflowId === 'backup/one/no-bucket'));
    lab.notices();
    lab.beats();
    const env = { ...lab.env, GUARDIA_STATE: path.join(lab.env['GUARDIA_STATE'] ?? '', 'other') };
    const table = await runMain(['watcher', 'one', '--once', '--no-tell'], env);
    expect(table.exitCode).toBe(1);
    expect(table.stdout).toMatch(/terminated +backup of one: terminated +seen 0 s ago/);
    expect(table.stdout).toContain('-> guardia watch backup/one/');
    expect(existsSync(memoryFile(env))).toBe(false);
    expect(lab.notices()).toEqual([]);
    expect(lab.beats()).toEqual([]);

    const json = await runMain(['watcher', '--once', '--json'], env);
    expect(json.exitCode).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: false,
      findings: expect.arrayContaining([
        expect.objectContaining({ event: 'terminated', system: 'one', told: ['ops'] }),
      ]),
    });
    expect(existsSync(memoryFile(env))).toBe(true);
    expect(`${json.stdout}${json.stderr}${table.stdout}`).not.toContain('T0K3N-4711');

    await (await lab.start('one', 'last')).result();
    await roundUntil(seesNothing);
    expect(
      (await runMain(['watcher', '--once', '--no-tell'], { ...env, GUARDIA_STATE: '/nonexistent' })).exitCode,
    ).toBe(0);
    expect((await runMain(['watcher', 'nobody', '--once'], env)).exitCode).toBe(13);
  });
});
