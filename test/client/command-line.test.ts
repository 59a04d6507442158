import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { activityInfo, cancellationSignal, heartbeat, sleep } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type { RunView } from '../../client/run-view.js';
import { execa } from 'execa';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { loadSystem } from '../../activities/inventory/load.js';
import { findServerExecutable } from '../../infra/temporal/server-executable.js';
import { scheduleCommand } from '../../workflows/adopt/schedule-command.js';
import { failure } from '../../workflows/contracts/errors.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { smallSystem } from '../workflows/small-system.js';
import { lane, stage, step, toyPlan } from '../workflows/toy-plan.js';
import { runMain } from './command-run.js';
import { openCommandLab, type Act, type CommandLab } from './scripted-worker.js';

jest.setTimeout(120_000);

const jsonLines = (text: string): RunView[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as RunView);

const broken: Act = () => Promise.reject(failure('CommandFailed', 'mount on app ended with code 32: no such device'));

/** Takes until it is let go; cancellable. */
function held(): { act: Act; go: () => void; begun: Promise<void> } {
  let go: () => void = () => undefined;
  let begin: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (go = resolve));
  const begun = new Promise<void>((resolve) => (begin = resolve));
  return {
    go,
    begun,
    act: async () => {
      const signal = cancellationSignal();
      begin();
      const beat = setInterval(() => heartbeat(), 100);
      try {
        const cancelled = new Promise<never>((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
        );
        await Promise.race([released, cancelled]);
        return { summary: 'let go' };
      } finally {
        clearInterval(beat);
      }
    },
  };
}

let lab: CommandLab;

describe('the command on a real Temporal', () => {
  const plan = (system: string) =>
    toyPlan(system, [stage([lane('app', 'a', 'b')], { title: 'save' }), stage([lane('db', 'c')], { title: 'prove' })]);
  let counter = 0;
  const newId = (): string => `t${++counter}`;

  beforeAll(async () => {
    lab = await openCommandLab(plan);
  });
  afterAll(() => lab?.close());
  beforeEach(() => {
    lab.script.plan = plan;
    lab.script.acts = {};
    delete lab.script.notice;
    delete lab.script.stdin;
  });

  describe('without a worker', () => {
    test('the plan is not asked for; a run is started, waits, says so, and goes on when a worker comes', async () => {
      const planned = await lab.guardia('run', 'backup', 'two', '--plan');
      expect(planned.exitCode).toBe(12);
      expect(planned.stderr).toContain('no worker asks for tasks of guardia and guardia-main');
      const run = lab.start('run', 'backup', 'two');
      await run.says('no worker: no worker asks for tasks');
      expect(run.stderr()).toContain('warning: no worker asks for tasks');
      const { stdout } = await lab.guardia('status', '--json');
      expect(JSON.parse(stdout)).toMatchObject({
        workers: [{ workers: [] }, { workers: [] }],
        open: [{ system: 'two' }],
      });
      await lab.worker.start();
      expect((await run.ended).exitCode).toBe(0);
    });
  });

  describe('with a worker', () => {
    beforeAll(() => lab.worker.start());

    test('a run whose hosts are at a site without a worker says so, and a health check of them is not started', async () => {
      const file = path.join(lab.systemsDirectory, 'far.yaml');
      writeFileSync(file, smallSystem('far').replaceAll(/^( {4})(?=connection)/gm, '$1site: branch\n$1'));
      try {
        const id = newId();
        const run = lab.start('run', 'backup', 'far', '--id', id);
        await run.says('no worker: no worker asks for tasks of guardia-branch: ');
        await lab.client.workflow.getHandle(`backup/far/${id}`).terminate('nobody comes');
        expect((await run.ended).exitCode).toBe(6);
        const health = await lab.guardia('health', 'far');
        expect(health.stderr).toContain('no worker asks for tasks of guardia-branch');
        expect(health.exitCode).toBe(12);
      } finally {
        rmSync(file);
      }
    });

    test('run follows to the end, says each change once, and where else to look', async () => {
      lab.script.acts = { a: () => Promise.resolve({ summary: '412 MB' }) };
      const id = newId();
      const { exitCode, stdout, stderr } = await lab.guardia('run', 'backup', 'one', '--id', id);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/ done: do a \(app\) after \d+ s: 412 MB\n/);
      expect(stdout.match(/done: do a/g)).toHaveLength(1);
      expect(stdout).toContain(' succeeded: backup of one succeeded');
      expect(stderr).toContain(`guardia watch backup/one/${id}`);
      expect(stderr).toContain(`guardia cancel backup/one/${id}`);
      expect(stderr).toContain(`/namespaces/default/workflows/backup%2Fone%2F${id}/`);
    });

    test('run does not wait for notices that nobody takes: it ends as the run did, and says what is still on its way', async () => {
      const delivery = held();
      lab.script.acts = { b: ({ with: w }) => (w['part'] === 'do' ? broken({} as never) : Promise.resolve({})) };
      lab.script.notice = () => delivery.act({} as never);
      const id = newId();
      const { exitCode, stdout, stderr } = await lab.guardia('run', 'backup', 'one', '--id', id);
      expect(exitCode).toBe(5);
      expect(stdout).toContain('no such device');
      expect(stderr).toContain('Its notices are still on their way');
      const handle = lab.client.workflow.getHandle(`backup/one/${id}`);
      expect((await handle.describe()).status.name).toBe('RUNNING');
      const cancelled = await lab.guardia('cancel', `backup/one/${id}`, '--no-follow');
      expect(cancelled.stderr).toContain('has ended already; there is nothing to cancel');
      // Terminated now, it has ended as it says, and not by that.
      await handle.terminate();
      delivery.go();
      expect((await lab.guardia('watch', `backup/one/${id}`)).exitCode).toBe(5);
    });

    test('run --json: one line for each change, the last one is the end with its report', async () => {
      const { exitCode, stdout } = await lab.guardia(
        'run',
        'backup',
        'one',
        '--json',
        '--reason',
        'a test',
        '--requester',
        'ana',
      );
      const views = jsonLines(stdout);
      expect(exitCode).toBe(0);
      expect(views.slice(0, -1).every(({ open }) => open)).toBe(true);
      expect(views.at(-1)).toMatchObject({
        runbook: 'backup',
        system: 'one',
        open: false,
        end: 'succeeded',
        exitCode: 0,
        source: 'result',
        report: {
          requester: 'ana',
          reason: 'a test',
          steps: [{ id: 'a', state: 'done' }, { id: 'b' }, { id: 'c' }],
          plan: { format: 1 },
        },
      });
    });

    test('--plan shows the plan and does nothing', async () => {
      const ran: string[] = [];
      for (const id of ['a', 'b', 'c'])
        lab.script.acts[id] = () => {
          ran.push(id);
          return Promise.resolve({});
        };
      const shown = await lab.guardia('run', 'backup', 'one', '--plan');
      expect(shown.exitCode).toBe(0);
      expect(shown.stdout).toContain('Stage 1: save');
      expect(shown.stdout).toContain('host app');
      expect(shown.stdout).toContain('why: because of a');
      const digest = /digest: ([0-9a-f]{64})/.exec(shown.stdout)?.[1];
      const report = JSON.parse((await lab.guardia('run', 'backup', 'one', '--plan', '--json')).stdout) as Record<
        string,
        unknown
      >;
      expect(report).toMatchObject({ end: 'planned', planDigest: digest, plan: { runbook: 'backup', system: 'one' } });
      expect(ran).toEqual([]);
    });

    test('a plan says the command that does it, which is no plan again', async () => {
      const again = async (...argv: string[]): Promise<string> =>
        /To do it: (.*)/.exec((await lab.guardia(...argv)).stdout)?.[1] ?? '';
      const twice = ['--set', 'plan=true', '--set', 'acceptAnomaly=true'];
      expect(await again('run', 'backup', 'one', ...twice)).toBe('guardia run backup one --set acceptAnomaly=true');
      lab.script.stdin = JSON.stringify({ system: 'one', plan: true, acceptAnomaly: true });
      expect(await again('run', 'backup', '--input', '-')).toBe('guardia run backup one --set acceptAnomaly=true');
      expect(await again('deploy', 'one', 'v2', '--plan', '--force', '--set', 'onFailure=hold')).toBe(
        'guardia deploy one v2 --force --set onFailure=hold',
      );
    });

    test('deploy and rollback take every field of their input, and the words of their own win', async () => {
      const id = newId();
      lab.script.stdin = 'ref: v1\nonFailure: hold\nwaitForLockMinutes: 5\n';
      const fields = ['--force', '--input', '-', '--set', 'waitForLockMinutes=3', '--reason', 'a test'];
      const { exitCode, stdout } = await lab.guardia('deploy', 'one', 'v2', ...fields, '--id', id);
      expect(stdout).toContain('succeeded: deploy of one succeeded');
      expect(exitCode).toBe(0);
      expect(await inputOf(`deploy/one/${id}`)).toEqual({
        ...{ system: 'one', ref: 'v2', force: true, onFailure: 'hold', waitForLockMinutes: 3 },
        ...{ reason: 'a test', requester: expect.any(String) as unknown },
      });
      const back = await lab.guardia('rollback', 'one', '--migrations', 'keep', '--set', 'onFailure=hold', '--id', id);
      expect(back.exitCode).toBe(0);
      expect(await inputOf(`rollback/one/${id}`)).toMatchObject({ migrations: 'keep', onFailure: 'hold' });
    });

    test('plan shows what an open run does, and its digest', async () => {
      const { act, begun, go } = held();
      lab.script.acts = { b: act };
      const id = newId();
      const following = lab.start('run', 'backup', 'one', '--id', id);
      await begun;
      const shown = await lab.guardia('plan', `backup/one/${id}`);
      const told = JSON.parse((await lab.guardia('plan', `backup/one/${id}`, '--json')).stdout) as { digest: string };
      go();
      expect(shown).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('Stage 2: prove') as unknown });
      expect(shown.stdout).toContain(told.digest);
      expect(told).toEqual({
        ...{ workflowId: `backup/one/${id}`, runId: expect.any(String), digest: expect.any(String) },
        plan: expect.objectContaining({ format: 1, runbook: 'backup' }) as unknown,
      });
      expect((await following.ended).exitCode).toBe(0);
    });

    test("the schedule that the plan of adopt names, made with Temporal's own command, starts a run", async () => {
      const { system } = loadSystem('proofpass', inventoryLocations({}));
      const line = scheduleCommand({ ...system, system: 'one' }, 'backup-daily');
      const executable = (await findServerExecutable()).path;
      const temporal = (argv: string) =>
        execa('sh', ['-c', `temporal() { "$0" "$@"; }; ${argv}`, executable], {
          env: { TEMPORAL_ADDRESS: lab.address, HOME: '/nonexistent' },
        });
      await temporal(line);
      await temporal('temporal schedule trigger --schedule-id one/backup-daily');
      const started = async () => {
        for await (const run of lab.client.workflow.list({ query: "WorkflowId STARTS_WITH 'backup/one/backup-daily'" }))
          return run;
      };
      await until(async () => (await started())?.status.name === 'COMPLETED', 30_000);
      await temporal('temporal schedule delete --schedule-id one/backup-daily');
      const id = (await started())?.workflowId ?? '';
      expect(id).toMatch(/^backup\/one\/backup-daily-\d{4}-/);
      expect((await lab.guardia('watch', id)).exitCode).toBe(0);
      expect(await lab.client.workflow.result(id)).toMatchObject({ end: 'succeeded', requester: 'schedule' });
    });

    test('starting twice with one id is starting once', async () => {
      const id = newId();
      let ran = 0;
      lab.script.acts = {
        a: () => {
          ran += 1;
          return Promise.resolve({});
        },
      };
      const first = await lab.guardia('run', 'backup', 'one', '--id', id, '--no-follow', '--json');
      const second = await lab.guardia(
        'run',
        'backup',
        'one',
        '--id',
        id,
        '--reason',
        'once more',
        '--no-follow',
        '--json',
      );
      expect(JSON.parse(first.stdout)).toMatchObject({ workflowId: `backup/one/${id}`, started: true });
      expect(JSON.parse(second.stdout)).toMatchObject({
        started: false,
        runId: (JSON.parse(first.stdout) as { runId: string }).runId,
      });
      expect((await lab.guardia('watch', `backup/one/${id}`)).exitCode).toBe(0);
      const third = await lab.guardia('run', 'backup', 'one', '--id', id);
      expect(third).toMatchObject({
        exitCode: 0,
        stderr: expect.stringContaining('nothing new was started') as unknown,
      });
      expect(ran).toBe(1);
      const other = await lab.guardia('run', 'backup', 'one', '--id', id, '--set', 'acceptAnomaly=true');
      expect(other).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('acceptAnomaly') as unknown });
    });

    test('a failing step: rolled back, exit code 5, also when looked at afterwards', async () => {
      lab.script.acts = { b: ({ with: w }) => (w['part'] === 'do' ? broken({} as never) : Promise.resolve({})) };
      const id = newId();
      const run = await lab.guardia('run', 'backup', 'one', '--id', id);
      expect(run.exitCode).toBe(5);
      expect(run.stdout).toMatch(/rolled back: backup of one: .*do b.*no such device; everything before it was undone/);
      expect(run.stdout).toContain('undone: do a (app)');
      const later = await lab.guardia('watch', `backup/one/${id}`);
      expect(later.exitCode).toBe(5);
      expect(later.stdout).toContain('backup of one  rolled back');
      expect(later.stdout).toContain('no such device');
    });

    test('an undo that fails: exit code 6, and what is left to do by hand', async () => {
      lab.script.acts = {
        a: ({ with: w }) =>
          w['part'] === 'undo'
            ? Promise.reject(ApplicationFailure.create({ message: 'it is locked', nonRetryable: true }))
            : Promise.resolve({}),
        b: ({ with: w }) => (w['part'] === 'do' ? broken({} as never) : Promise.resolve({})),
      };
      const { exitCode, stdout } = await lab.guardia('run', 'backup', 'one');
      expect(exitCode).toBe(6);
      expect(stdout).toMatch(/to be done by hand: undo of "do a".*: it is locked\n/);
    });

    test('Ctrl-C leaves the run running and says how to come back; cancel undoes and ends it', async () => {
      const { act, begun } = held();
      lab.script.acts = { b: act };
      const id = newId();
      const following = lab.start('run', 'backup', 'one', '--id', id);
      await following.says('running: do b');
      await begun;
      following.child.kill('SIGINT');
      const left = await following.ended;
      expect(left.exitCode).toBe(10);
      expect(left.stderr).toContain(`come back:  guardia watch backup/one/${id}`);

      const status = JSON.parse((await lab.guardia('status', '--json')).stdout) as {
        open: RunView[];
        locks: unknown[];
        workers: { workers: unknown[] }[];
      };
      expect(status.open.map(({ workflowId }) => workflowId)).toContain(`backup/one/${id}`);
      expect(status.locks).toMatchObject(
        [{}, { host: 'app' }, { host: 'db' }].map((lock) => ({
          system: 'one',
          workflowId: `backup/one/${id}`,
          ...lock,
        })),
      );
      expect(status.workers.every(({ workers }) => workers.length > 0)).toBe(true);
      expect((await lab.guardia('watch', `backup/one/${id}`, '--once')).exitCode).toBe(10);

      delete lab.script.acts['b'];
      const cancelled = await lab.guardia('cancel', `backup/one/${id}`, '--reason', 'wrong system');
      expect(cancelled.exitCode).toBe(0);
      expect(cancelled.stdout).toContain('cancelled: backup of one');
      expect(cancelled.stdout).toContain('undone: do a (app)');
      expect((await lab.guardia('watch', `backup/one/${id}`)).exitCode).toBe(7);
      const again = await lab.guardia('cancel', `backup/one/${id}`);
      expect(again).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('has ended already') as unknown });
      const history = await lab.client.workflow.getHandle(`backup/one/${id}`).fetchHistory();
      const request = history.events?.find((event) => event.workflowExecutionCancelRequestedEventAttributes);
      expect(request?.workflowExecutionCancelRequestedEventAttributes?.cause).toBe('wrong system');
    });

    test('a job shows its bytes and its speed', async () => {
      lab.script.plan = (system) => toyPlan(system, [lane('app', step('dump', { kind: 'job' }))]);
      lab.script.acts = {
        dump: async ({ context }) => {
          for (let i = 1; i <= 15; i++) {
            heartbeat({
              job: `${context.runId}-dump-g1`,
              position: { offset: i, progress: { bytes: i * 1e6, stored: i * 1e5 } },
            });
            await sleep(200);
          }
          return {};
        },
      };
      const views = jsonLines((await lab.guardia('run', 'backup', 'one', '--json')).stdout);
      const activities = views.flatMap(({ activities: all }) => all).filter(({ progress }) => progress !== undefined);
      expect(activities.length).toBeGreaterThan(2);
      expect(activities.every((activity) => activity.step === 'dump')).toBe(true);
      const speeds = activities.flatMap(({ bytesPerSecond }) => bytesPerSecond ?? []);
      // A megabyte each 200 ms, seen through throttled heartbeats on a busy machine.
      expect(Math.max(...speeds)).toBeGreaterThan(1e6);
      expect(Math.max(...speeds)).toBeLessThan(20e6);
    });

    test('an activity that is tried again says why', async () => {
      const tries: number[] = [];
      lab.script.acts = {
        a: () => {
          tries.push(activityInfo().attempt);
          return tries.length < 4
            ? Promise.reject(failure('HostUnreachable', 'app does not answer'))
            : Promise.resolve({});
        },
      };
      const { exitCode, stdout } = await lab.guardia('run', 'backup', 'one');
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/running: do a \(app\): try \d after: app does not answer/);
    });

    test('a run is found by the newest, the beginning of its id, its runbook and system; or said to be unclear or unknown', async () => {
      const id = newId();
      await lab.guardia('run', 'backup', 'two', '--id', `${id}-x`);
      await lab.guardia('run', 'backup', 'two', '--id', `${id}-y`);
      const seen = async (...argv: string[]): Promise<string> =>
        jsonLines((await lab.guardia('watch', ...argv, '--json')).stdout)[0]?.workflowId ?? '';
      await until(async () => (await seen('latest')) === `backup/two/${id}-y`, 10_000);
      expect(await seen(`backup/two/${id}-x`)).toBe(`backup/two/${id}-x`);
      const { runId } = await lab.client.workflow.getHandle(`backup/two/${id}-x`).describe();
      expect(await seen(runId)).toBe(`backup/two/${id}-x`);
      // One that only made a plan is not what is meant.
      await lab.guardia('run', 'backup', 'two', '--plan', '--id', `${id}-z`);
      await until(async () => (await seen(`backup/two/${id}-z`)) === `backup/two/${id}-z`, 10_000);
      expect(await seen('latest')).toBe(`backup/two/${id}-y`);
      await until(async () => (await seen('backup', 'two')) === `backup/two/${id}-y`, 10_000);
      const unclear = await lab.guardia('watch', `backup/two/${id}`);
      expect(unclear.exitCode).toBe(2);
      expect(unclear.stderr).toContain(`backup/two/${id}-x (succeeded`);
      const unknown = await lab.guardia('watch', 'backup/two/never');
      expect(unknown).toMatchObject({ exitCode: 13, stdout: '' });
      expect(unknown.stderr).toContain('there is no run backup/two/never');
    });

    test('of several, the one that is open is what is cancelled', async () => {
      const { act, begun } = held();
      lab.script.acts = {
        b: (call) => (call.with['part'] === 'do' && call.context.system === 'one' ? act(call) : Promise.resolve({})),
      };
      const id = newId();
      const following = lab.start('run', 'backup', 'one', '--id', id);
      await begun;
      await lab.guardia('run', 'backup', 'two', '--id', id);
      const seen = async () => JSON.parse((await lab.guardia('status', '--json')).stdout) as { open: RunView[] };
      await until(async () => (await seen()).open.length === 1, 10_000);
      const { exitCode, stdout } = await lab.guardia('cancel', 'latest');
      expect(exitCode).toBe(0);
      expect(stdout).toContain('backup of one');
      expect((await following.ended).stdout).toContain('cancelled');
    });

    test('a run that was started in the Web UI with a wrong input was refused, in a sentence', async () => {
      const id = `web-${newId()}`;
      await lab.client.workflow.start('backup', {
        workflowId: id,
        taskQueue: WORKFLOW_TASK_QUEUE,
        args: [{ sistem: 'x' }],
      });
      const { exitCode, stdout } = await lab.guardia('watch', id);
      expect(exitCode).toBe(3);
      expect(stdout).toContain('"sistem"');
      expect(stdout).toContain('Nothing was started');
      // It did not even come to answer questions.
      const asked = await lab.guardia('plan', id);
      expect(asked.stderr).toContain(`${id} ended without a plan`);
      expect(asked.exitCode).toBe(13);
    });

    test('a run that ended before its plan has none, and is not waited for', async () => {
      const id = `web-${newId()}`;
      const args = [{ system: 'nobody', requester: 'ana' }];
      await lab.client.workflow.start('backup', { workflowId: id, taskQueue: WORKFLOW_TASK_QUEUE, args });
      expect((await lab.guardia('watch', id)).exitCode).toBe(3);
      expect(await lab.guardia('plan', id)).toMatchObject({
        exitCode: 13,
        stderr: expect.stringMatching(
          new RegExp(`${id} ended without a plan\n +-> How it ended: guardia watch`),
        ) as unknown,
      });
    });

    test('an empty id is a mistake of the command line, and a namespace without search attributes none of the network', async () => {
      expect(await lab.guardia('watch', '')).toMatchObject({
        exitCode: 2,
        stderr: expect.stringContaining('the id of the run is empty') as unknown,
      });
      await lab.client.workflowService.registerNamespace({
        namespace: 'bare',
        workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
      });
      const inBare = () =>
        runMain(['status', 'one'], {
          ...{ HOME: '/nonexistent', GUARDIA_SYSTEMS: '/nonexistent' },
          ...{ TEMPORAL_ADDRESS: lab.address, TEMPORAL_NAMESPACE: 'bare' },
        });
      // A new namespace is known everywhere after a moment.
      await until(async () => !(await inBare()).stderr.includes('has no namespace'), 20_000);
      const { exitCode, stderr } = await inBare();
      expect(stderr).toMatch(/does not do what it was asked for: .*Guardia/);
      expect(stderr).toContain('guardia doctor');
      expect(stderr).not.toContain('cannot reach Temporal');
      expect(exitCode).toBe(3);
    });

    test('a run that was terminated says that nothing undid what it had done', async () => {
      const { act, begun, go } = held();
      lab.script.acts = { b: act };
      const id = newId();
      const following = lab.start('run', 'backup', 'one', '--id', id);
      await begun;
      await lab.client.workflow.getHandle(`backup/one/${id}`).terminate('the machine is gone');
      const { exitCode, stdout } = await following.ended;
      go();
      expect(exitCode).toBe(6);
      expect(stdout).toMatch(
        /terminated: backup of one was terminated from outside after \d+ s \(the machine is gone\): what it had done was not undone; guardia run repair one --plan says/,
      );
    });

    test('a run that the worker fails on is parked, and says so', async () => {
      const id = `parked-${newId()}`;
      // A workflow that this worker does not have: it fails the task again and again.
      const handle = await lab.client.workflow.start('backup-of-tomorrow', {
        workflowId: id,
        taskQueue: WORKFLOW_TASK_QUEUE,
        args: [{}],
      });
      const watching = lab.start('watch', id);
      await watching.says(/parked: the worker fails whenever it takes this run up/);
      await handle.terminate();
      expect((await watching.ended).exitCode).toBe(6);
    });

    test('the lock is no run, but leads to one', async () => {
      const { act, begun, go } = held();
      lab.script.acts = { b: act };
      const id = newId();
      const following = lab.start('run', 'backup', 'one', '--id', id);
      await begun;
      const { exitCode, stderr } = await lab.guardia('watch', 'lock/one');
      go();
      expect(exitCode).toBe(13);
      expect(stderr).toContain(`guardia watch backup/one/${id}`);
      expect((await following.ended).exitCode).toBe(0);
    });

    test('a second run waits for the first one and says for whom', async () => {
      const { act, begun, go } = held();
      lab.script.acts = { b: act };
      const id = newId();
      const first = lab.start('run', 'backup', 'one', '--id', id);
      await begun;
      const second = lab.start('run', 'backup', 'one');
      await second.says(`waiting for the lock: one is held by backup backup/one/${id}`);
      lab.script.acts = {};
      go();
      expect((await first.ended).exitCode).toBe(0);
      expect((await second.ended).exitCode).toBe(0);
    });
  });
});

/** What a run was started with. */
async function inputOf(workflowId: string): Promise<unknown> {
  const { events } = await lab.client.workflow.getHandle(workflowId).fetchHistory();
  const [payload] = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  return JSON.parse(Buffer.from(payload?.data ?? []).toString());
}

async function until(holds: () => Promise<boolean>, milliseconds: number): Promise<void> {
  for (const deadline = Date.now() + milliseconds; !(await holds());) {
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
