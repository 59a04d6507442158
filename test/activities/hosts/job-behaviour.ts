import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CancelledFailure } from '@temporalio/common';
import { remember } from '../../../activities/journal.js';
import { quote } from '../../../activities/hosts/shell-quoting.js';
import type { Hosts, JobSpec } from '../../../activities/hosts/hosts.js';
import type { HostTarget } from '../../../workflows/contracts/host-target.js';

/** A host that the same list of promises is proved on: over SSH with systemd, and this machine without it. */
export interface HostUnderTest {
  hosts: Hosts;
  target: HostTarget;
  /** Runs a command line on the host as root by another way than the code under test. */
  shell: (commandLine: string) => Promise<string>;
  /** Environment of a process that runs `job-follower.ts` against the host. */
  follower: Record<string, string>;
}

const anyContext = { system: 'test', runbook: 'test', workflowId: 'test/1', generation: 1, runAgainIfLost: false };

export const newId = (): string => `test-${randomUUID()}`;
export const script = (text: string, ...args: string[]): JobSpec['command'] => ({ script: text, args });

/** A process of its own that starts or attaches to a job, as a worker does; so that it can be killed. */
export function followerProcess(
  environment: Record<string, string>,
  spec: { id: string; script: string; timeoutSeconds: number },
) {
  const child = spawn(process.execPath, ['.build/test/activities/hosts/job-follower.js', JSON.stringify(spec)], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const seen: string[] = [];
  child.stdout.on('data', (chunk: Buffer) => seen.push(...chunk.toString().trim().split('\n')));
  return {
    seen,
    kill: () => child.kill('SIGKILL'),
    ended: new Promise<number | null>((resolve) => child.on('exit', resolve)),
    async until(text: string, seconds = 30) {
      for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await delay(50))
        if (seen.some((line) => line.includes(text))) return;
      throw new Error(`the follower never said ${text}: ${seen.join(' | ')}`);
    },
  };
}

/** What holds on every host, whatever its back end. */
export function promisesOfRunAndJob(under: () => HostUnderTest): void {
  const run = (argv: [string, ...string[]], more: object = {}) => under().hosts.run(under().target, { argv, ...more });
  const job = (spec: JobSpec, more: object = {}) => under().hosts.job(under().target, spec, more);

  describe('run', () => {
    test('any text without NUL arrives intact as an argument', async () => {
      // 20 arguments a call: what is proved is the quoting on the real shell, not the speed of the connection.
      await fc.assert(
        fc.asyncProperty(fc.array(fc.string({ unit: 'binary' }), { minLength: 20, maxLength: 20 }), async (texts) => {
          const safe = texts.map((text) => text.replaceAll('\0', ''));
          const { stdout } = await run(['printf', '%s\\0', ...safe] as [string, ...string[]]);
          expect(stdout.split('\0').slice(0, -1)).toEqual(safe);
        }),
        { numRuns: 25 },
      );
    });

    test('any bytes arrive intact by stdin', async () => {
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ maxLength: 5000 }), async (bytes) => {
          const { stdout } = await run(['base64', '-w0'], { stdin: bytes });
          expect(Buffer.from(stdout, 'base64').equals(Buffer.from(bytes))).toBe(true);
        }),
        { numRuns: 15 },
      );
      const large = randomBytes(600_000);
      expect(Buffer.from((await run(['base64', '-w0'], { stdin: large })).stdout, 'base64').equals(large)).toBe(true);
    });

    test('a NUL is refused before anything is sent', async () => {
      await expect(run(['echo', 'a\0b'])).rejects.toThrow(/NUL/);
    });

    test('a failing command is CommandFailed with its last line; an accepted code is an answer', async () => {
      await expect(run(['sh', '-c', 'echo first >&2; echo the reason >&2; exit 3'])).rejects.toMatchObject({
        type: 'CommandFailed',
        message: expect.stringMatching(/code 3: the reason/),
      });
      expect((await run(['sh', '-c', 'exit 3'], { okCodes: [0, 3] })).exitCode).toBe(3);
    });

    test('what it printed on standard output is in no failure, and what it said is cut', async () => {
      const failed = await run(['sh', '-c', 'echo PASSWORD=tiger; exit 3']).catch((error: unknown) => error);
      expect(failed).toMatchObject({ type: 'CommandFailed' });
      expect(JSON.stringify(failed) + (failed as Error).message).not.toContain('tiger');
      const long = await run(['sh', '-c', `printf 'x%.0s' $(seq 1000) >&2; exit 3`]).catch((error: unknown) => error);
      expect((long as Error).message.length).toBeLessThan(400);
    });

    test.each([
      ['changes nothing', undefined],
      ['changes something', 1],
    ])('one that %s and was ended by a signal is tried again', async (_, changes) => {
      const { hosts, target } = under();
      const runId = newId();
      const { number } = await hosts.raiseFence(target, { runId, workflowId: `test/${runId}` });
      const fence = changes && number;
      for (const signal of ['TERM', 'KILL', 'HUP'])
        await expect(
          hosts.run(target, { argv: ['sh', '-c', `kill -${signal} $$`] }, { ...(fence ? { fence } : {}) }),
        ).rejects.toMatchObject({
          type: 'HostUnreachable',
          nonRetryable: false,
          message: expect.stringMatching(`^sh on .* was ended by signal (SIG)?${signal}: `),
        });
      await hosts.closeFence(target, runId);
    });

    test('a cancel waits for one that changes something, and lets none begin; a shutdown waits for none', async () => {
      const { hosts, target, shell } = under();
      const runId = newId();
      const { number: fence } = await hosts.raiseFence(target, { runId, workflowId: `test/${runId}` });
      const mark = `/tmp/${runId}`;
      const slow = (name: string): [string, ...string[]] => [
        'sh',
        '-c',
        `touch ${mark}-${name}; sleep 2; echo whole >>${mark}-${name}; echo done`,
      ];
      const abort = async (name: string, reason: string, more: object): Promise<unknown> => {
        const stop = new AbortController();
        const under = hosts
          .run(target, { argv: slow(name) }, { signal: stop.signal, ...more })
          .catch((error: unknown) => error);
        await shell(`until [ -e ${mark}-${name} ]; do sleep 0.1; done`);
        stop.abort(new CancelledFailure(reason));
        const began = Date.now();
        const outcome: unknown = await under;
        return outcome instanceof Error ? { message: outcome.message, atOnce: Date.now() - began < 1000 } : outcome;
      };
      expect(await abort('change', 'CANCELLED', { fence })).toMatchObject({ stdout: 'done\n' });
      expect(await shell(`cat ${mark}-change`)).toBe('whole\n');
      expect(await abort('shutdown', 'WORKER_SHUTDOWN', { fence })).toEqual({
        message: 'WORKER_SHUTDOWN',
        atOnce: true,
      });
      expect(await abort('look', 'CANCELLED', {})).toEqual({ message: 'CANCELLED', atOnce: true });
      const cancelled = AbortSignal.abort(new CancelledFailure('CANCELLED'));
      await expect(
        hosts.run(target, { argv: ['touch', `${mark}-late`] }, { fence, signal: cancelled }),
      ).rejects.toThrow('CANCELLED');
      // The two that were not waited for still write their last word.
      expect(await shell(`ls ${mark}-late 2>/dev/null; sleep 2; rm -f ${mark}-*`)).toBe('');
      await hosts.closeFence(target, runId);
    });

    test('a command that outlives its time is ended on the host', async () => {
      const mark = randomUUID();
      await expect(run(['sh', '-c', `: ${mark}; sleep 300; :`], { timeoutSeconds: 1 })).rejects.toMatchObject({
        type: 'CommandTimedOut',
      });
      expect(await under().shell(`pgrep -fc ${quote(`[${mark[0]}]${mark.slice(1)}`)} || true`)).toBe('0\n');
    });

    test('a result above its bound is an error, not a silent cut', async () => {
      await expect(run(['head', '-c', '1100000', '/dev/zero'])).rejects.toMatchObject({ type: 'OutputTooLarge' });
    });
  });

  describe('job', () => {
    test('gives its standard output as result and its standard error as log', async () => {
      const result = await job({
        id: newId(),
        command: script('cat; echo "$1" >&2', 'a log line'),
        stdin: Buffer.from('from stdin'),
        timeoutSeconds: 30,
      });
      expect(result.stdout).toBe('from stdin');
      expect(result.stderrTail).toBe('a log line\n');
    });

    test('any text and any bytes arrive intact', async () => {
      const texts = ["it's", '$(touch /tmp/guardia-injected) `id`', 'ñ 🎉 \u200f\n\ttab', '-n', '', '*', '\\', '"'];
      const bytes = randomBytes(100_000);
      const result = await job({
        id: newId(),
        command: script('printf "%s\\0" "$@" | base64 -w0; echo; openssl dgst -sha256 -r', ...texts),
        stdin: bytes,
        timeoutSeconds: 30,
      });
      const [args = ''] = result.stdout.split('\n');
      expect(Buffer.from(args, 'base64').toString().split('\0').slice(0, -1)).toEqual(texts);
      const { createHash } = await import('node:crypto');
      expect(result.stdout).toContain(createHash('sha256').update(bytes).digest('hex'));
    });

    test('progress is told while it runs', async () => {
      const seen: unknown[] = [];
      await job(
        {
          id: newId(),
          command: script(`for i in 1 2 3; do echo "guardia:progress {\\"bytes\\":$i}" >&2; sleep 0.3; done`),
          timeoutSeconds: 30,
        },
        { onPosition: (position: { progress?: { bytes: number } }) => seen.push(position.progress?.bytes) },
      );
      expect(seen).toEqual(expect.arrayContaining([1, 2, 3]));
    });

    test('worker SIGKILLed in mid-job: the next attempt attaches, the command ran once', async () => {
      const id = newId();
      const spec = {
        id,
        script: `echo once >> /tmp/${id}; echo 'guardia:progress {"bytes":1}' >&2; sleep 4; echo "ran $(wc -l </tmp/${id})"; rm /tmp/${id}`,
        timeoutSeconds: 60,
      };
      const first = followerProcess(under().follower, spec);
      await first.until('"bytes":1');
      first.kill();
      await first.ended;
      const second = followerProcess(under().follower, spec);
      await second.until('result ran 1');
      expect(await second.ended).toBe(0);
    });

    test('a job that ends while nobody looks is found ended', async () => {
      const id = newId();
      const { hosts, target } = under();
      expect(await hosts.startJob(target, { id, command: script('echo done alone'), timeoutSeconds: 30 })).toBe(
        'started',
      );
      for (let state = ''; state !== 'finished'; await delay(100)) state = (await hosts.inspectJob(target, id)).state;
      const result = await job({ id, command: script('echo must not run'), timeoutSeconds: 30 });
      expect(result.stdout).toBe('done alone\n');
    });

    test('a retry that must attach attaches; one that must run again has another id', async () => {
      const id = newId();
      const count = script(`echo x >> /tmp/${id}; wc -l </tmp/${id}`);
      expect((await job({ id: `${id}-g1`, command: count, timeoutSeconds: 30 })).stdout.trim()).toBe('1');
      expect((await job({ id: `${id}-g1`, command: count, timeoutSeconds: 30 })).stdout.trim()).toBe('1');
      expect((await job({ id: `${id}-g2`, command: count, timeoutSeconds: 30 })).stdout.trim()).toBe('2');
      await under().shell(`rm -f /tmp/${id}`);
    });

    test('a failing job is JobFailed with its code and the tail of its log', async () => {
      await expect(
        job({ id: newId(), command: script('echo the reason >&2; exit 7'), timeoutSeconds: 30 }),
      ).rejects.toMatchObject({
        type: 'JobFailed',
        message: expect.stringMatching(/code 7: the reason/),
        details: [expect.objectContaining({ exitCode: 7 })],
      });
    });

    test('the log of an ended job is read back, and only a job that is not there has none', async () => {
      const { hosts, target } = under();
      const id = newId();
      await job({ id, command: script('echo out; echo err >&2'), timeoutSeconds: 30 });
      expect(await hosts.readJobLog(target, id, 1000)).toBe(
        '== stdout, 4 bytes ==\nout\n\n== stderr, 4 bytes ==\nerr\n\n',
      );
      expect(await hosts.readJobLog(target, newId(), 1000)).toBeUndefined();
    });

    test('a command that outlives its timeout is stopped with everything it started', async () => {
      const mark = `sleep 98${Date.now() % 100_000}`;
      await expect(
        job({ id: newId(), command: script(`setsid ${mark} & ${mark} & wait`), timeoutSeconds: 1 }),
      ).rejects.toMatchObject({ type: 'JobTimedOut' });
      await delay(500);
      expect(await under().shell(`pgrep -fx ${quote(mark)} || true`)).toBe('');
    });

    test('cancel stops the whole process tree, also what has left its session', async () => {
      const id = newId();
      const mark = `sleep 97${Date.now() % 100_000}`;
      const { hosts, target } = under();
      await hosts.startJob(target, {
        id,
        command: script(`(setsid ${mark} &); ${mark} & sh -c '${mark}; :'`),
        timeoutSeconds: 1000,
      });
      await delay(500);
      expect((await under().shell(`pgrep -fx ${quote(mark)} | wc -l`)).trim()).toBe('3');
      expect(await hosts.cancelJob(target, id)).toBe('cancelled');
      expect(await under().shell(`pgrep -fx ${quote(mark)} || true`)).toBe('');
      await expect(job({ id, command: script('echo must not run'), timeoutSeconds: 30 })).rejects.toMatchObject({
        type: 'JobCancelled',
      });
    });

    test('a start that comes after its cancel does nothing', async () => {
      const id = newId();
      await under().hosts.cancelJob(under().target, id);
      await expect(job({ id, command: script(`touch /tmp/${id}`), timeoutSeconds: 30 })).rejects.toMatchObject({
        type: 'JobCancelled',
      });
      expect(await under().shell(`ls /tmp/${id} 2>/dev/null || true`)).toBe('');
    });

    test('50 jobs at once on one host', async () => {
      const ids = Array.from({ length: 50 }, newId);
      const results = await Promise.all(
        ids.map((id, index) => job({ id, command: script('sleep 1; echo "$1"', String(index)), timeoutSeconds: 120 })),
      );
      expect(results.map((result) => Number(result.stdout))).toEqual(ids.map((_, index) => index));
    });

    test('binary output and lines of 10 MB', async () => {
      const result = await job({
        id: newId(),
        command: script(
          `head -c 10000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; head -c 3000000 /dev/urandom >&2; printf '\\n\\377\\000\\n' >&2; echo 'guardia:progress {"bytes":9}' >&2; printf '\\377\\000ok'`,
        ),
        timeoutSeconds: 60,
      });
      expect(result.stderrBytes).toBeGreaterThan(13_000_000);
      expect(result.stderrTail.length).toBeLessThan(70_000);
      expect(Buffer.from(result.stdout).subarray(-2).toString()).toBe('ok');
    });

    test('1 GB of output does not grow the worker', async () => {
      const follower = followerProcess(under().follower, {
        id: newId(),
        script: `head -c 1000000000 /dev/zero | tr '\\0' 'y' | fold -w 200 >&2; echo big`,
        timeoutSeconds: 300,
      });
      await follower.until('result big', 240);
      expect(await follower.ended).toBe(0);
      const grown = Number(/grown (\d+)/.exec(follower.seen.join(' '))?.[1]);
      expect(grown).toBeGreaterThan(0);
      expect(grown).toBeLessThan(60);
    });

    test('a secret given on stdin is in no process list, file or log', async () => {
      const id = newId();
      const secret = `s3cr3t-${randomUUID()}`;
      const { hosts, target, shell } = under();
      await hosts.startJob(target, {
        id,
        command: script('read -r secret; sleep 3; echo "${#secret}"'),
        stdin: Buffer.from(`${secret}\n`),
        timeoutSeconds: 30,
      });
      const search = `grep -al ${quote(`${secret.slice(0, 20)}[${secret[20]}]${secret.slice(21)}`)} /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; grep -ral ${quote(`${secret.slice(0, 20)}[${secret[20]}]${secret.slice(21)}`)} /dev/shm/guardia-0 ${quote(target.stateDirectory || under().follower['GUARDIA_TEST_STATE'] || '')} 2>/dev/null; true`;
      expect(await shell(search)).toBe('');
      expect((await job({ id, command: script(''), timeoutSeconds: 30 })).stdout).toBe(`${secret.length}\n`);
    });

    test('nothing of a job stays in memory on the host when it has ended', async () => {
      const id = newId();
      await job({
        id,
        command: script('cat >/dev/null; touch "$GUARDIA_JOB_SCRATCH/x"'),
        stdin: Buffer.from('x'),
        timeoutSeconds: 30,
      });
      expect(await under().shell(`ls -d /dev/shm/guardia-*/${id} 2>/dev/null || true`)).toBe('');
    });

    test('a full disk under the state directory is HostStorageFull, and nothing ran', async () => {
      const { shell, hosts } = under();
      const small = `/mnt/guardia-small-${randomUUID().slice(0, 8)}`;
      await shell(
        `mkdir -p ${small} && mount -t tmpfs -o size=1m tmpfs ${small} && head -c 2000000 /dev/zero >${small}/fill 2>/dev/null; true`,
      );
      try {
        const target = { ...under().target, stateDirectory: small };
        const id = newId();
        await expect(
          hosts.job(target, { id, command: script(`touch /tmp/${id}`), timeoutSeconds: 30 }),
        ).rejects.toMatchObject({ type: 'HostStorageFull' });
        expect(await shell(`ls /tmp/${id} 2>/dev/null || true`)).toBe('');
        // A disk that fills up while the job runs loses output, never the way it ended.
        await shell(`rm ${small}/fill`);
        const filling = newId();
        await expect(
          hosts.job(target, {
            id: filling,
            command: script(`head -c 3000000 /dev/zero >${small}/fill; echo full; exit 5`),
            timeoutSeconds: 30,
          }),
        ).rejects.toMatchObject({ type: 'JobFailed', details: [expect.objectContaining({ exitCode: 5 })] });
      } finally {
        await shell(`umount ${small} && rmdir ${small}`);
      }
    });

    test('a job that vanished is JobLost, and runs again only where the step says so', async () => {
      const { hosts, target, shell } = under();
      const id = newId();
      await hosts.startJob(target, { id, command: script('sleep 1000'), timeoutSeconds: 2000 });
      const state = target.stateDirectory || under().follower['GUARDIA_TEST_STATE'];
      // The host went down with the job: its processes are gone, and it has another boot id since.
      await shell(
        `for p in $(grep -slzxF GUARDIA_JOB=${id} /proc/[0-9]*/environ | cut -d/ -f3); do kill -9 $p; done; echo another-boot > ${state}/jobs/${id}/boot; sleep 0.5`,
      );
      await expect(job({ id, command: script('echo again'), timeoutSeconds: 30 })).rejects.toMatchObject({
        type: 'JobLost',
        message: expect.stringMatching(/went down/),
      });
      expect((await job({ id, command: script('echo again'), timeoutSeconds: 30, runAgainIfLost: true })).stdout).toBe(
        'again\n',
      );
    });
  });

  describe('fence', () => {
    test('a newer run refuses the older one and stops what it left running', async () => {
      const { hosts, target } = under();
      const [older, newer, late] = [newId(), newId(), newId()];
      const first = await hosts.raiseFence(target, { runId: older, workflowId: `test/${older}` });
      expect((await hosts.raiseFence(target, { runId: older, workflowId: `test/${older}` })).number).toBe(first.number);
      const left = `${older}-step-g1`;
      await hosts.startJob(
        target,
        { id: left, command: script('sleep 1000'), timeoutSeconds: 2000 },
        { fence: first.number },
      );
      const second = await hosts.raiseFence(target, { runId: newer, workflowId: `test/${newer}` });
      expect(second).toEqual({ number: first.number + 1, left: older, stopped: [left], unrepaired: [] });
      // The same again when the answer was lost on its way: what was left is not forgotten.
      expect(await hosts.raiseFence(target, { runId: newer, workflowId: `test/${newer}` })).toEqual({
        number: first.number + 1,
        left: older,
        stopped: [],
        unrepaired: [],
      });
      await expect(hosts.run(target, { argv: ['true'] }, { fence: first.number })).rejects.toMatchObject({
        type: 'Fenced',
      });
      await expect(
        hosts.startJob(target, { id: late, command: script('true'), timeoutSeconds: 5 }, { fence: first.number }),
      ).rejects.toMatchObject({ type: 'Fenced' });
      await hosts.run(target, { argv: ['true'] }, { fence: second.number });
      await hosts.closeFence(target, newer);
      await expect(hosts.run(target, { argv: ['true'] }, { fence: second.number })).rejects.toMatchObject({
        type: 'Fenced',
      });
      await expect(hosts.raiseFence(target, { runId: newer, workflowId: `test/${newer}` })).rejects.toMatchObject({
        type: 'Fenced',
      });
    });
  });

  test('a run that left the host to ask people once more takes it over again; what it had under way before is refused', async () => {
    const { hosts, target } = under();
    const [asking, other] = [newId(), newId()];
    const run = { runId: asking, workflowId: `test/${asking}` };
    const first = await hosts.raiseFence(target, run);
    for (const _ of ['once', 'and again']) await hosts.closeFence(target, asking, { again: true });
    await expect(hosts.run(target, { argv: ['true'] }, { fence: first.number })).rejects.toMatchObject({
      type: 'Fenced',
    });
    // Others who work there meanwhile do not take it for a run that was terminated.
    const between = await hosts.raiseFence(target, { runId: other, workflowId: `test/${other}` });
    expect(between).toEqual({ number: first.number + 1, stopped: [], unrepaired: [] });
    await hosts.closeFence(target, asking, { again: true });
    await hosts.run(target, { argv: ['true'] }, { fence: between.number });
    await hosts.closeFence(target, other);
    const second = await hosts.raiseFence(target, run);
    expect(second).toEqual({ number: first.number + 2, stopped: [], unrepaired: [] });
    await hosts.run(target, { argv: ['true'] }, { fence: second.number });
    await hosts.closeFence(target, asking);
  });

  describe('a run that was terminated', () => {
    const put = (hosts: Hosts, target: HostTarget, run: string, fence: number) =>
      hosts.journalPut(target, { run, step: 'a', content: Buffer.from('before') }, { fence });

    test('is known to every later run until somebody has seen to it', async () => {
      const { hosts, target } = under();
      const [dead, child, first, second] = [newId(), newId(), newId(), newId()];
      const { number: fence } = await hosts.raiseFence(target, { runId: dead, workflowId: 'deploy/shop/1' });
      await hosts.joinFence(target, fence, { runId: child, workflowId: 'backup/shop/2' });
      await put(hosts, target, dead, fence);
      await put(hosts, target, child, fence);
      const left = [
        { runId: dead, workflowId: 'deploy/shop/1' },
        { runId: child, workflowId: 'backup/shop/2' },
      ];
      const seen = (open: boolean) => expect.arrayContaining(left.map((run) => ({ ...run, steps: ['a'], open })));
      expect(await hosts.leftRuns(target)).toEqual(seen(true));
      const raised = await hosts.raiseFence(target, { runId: first, workflowId: 'x/shop/3' });
      expect(raised).toMatchObject({ left: dead, leftWith: [child], unrepaired: expect.arrayContaining(left) });
      // The same again when the answer was lost on its way.
      expect(await hosts.raiseFence(target, { runId: first, workflowId: 'x/shop/3' })).toEqual({
        ...raised,
        stopped: [],
      });
      await hosts.closeFence(target, first);
      const again = await hosts.raiseFence(target, { runId: second, workflowId: 'x/shop/4' });
      expect(again.unrepaired).toHaveLength(2);
      expect(await hosts.leftRuns(target)).toEqual(seen(false));
      for (const { runId } of left) await hosts.markRepaired(target, runId, { fence: again.number });
      expect(await hosts.leftRuns(target)).toEqual([]);
      expect(await hosts.journalGet(target, dead, 'a')).toBeUndefined();
      await hosts.closeFence(target, second);
    });

    test('that has changed nothing leaves nothing to see to, and neither does one that has ended', async () => {
      const { hosts, target } = under();
      const [dead, ended, last] = [newId(), newId(), newId()];
      await hosts.raiseFence(target, { runId: dead, workflowId: 'deploy/shop/1' });
      const { number: fence, unrepaired } = await hosts.raiseFence(target, { runId: ended, workflowId: 'x/shop/2' });
      expect(unrepaired).toEqual([]);
      await put(hosts, target, ended, fence);
      await hosts.closeFence(target, ended);
      expect((await hosts.raiseFence(target, { runId: last, workflowId: 'x/shop/3' })).unrepaired).toEqual([]);
      await hosts.closeFence(target, last);
      await hosts.journalForget(target, ended);
    });

    test('has no short command under way once the next run has taken the host over', async () => {
      const { hosts, target, shell } = under();
      const [dead, next] = [newId(), newId()];
      const { number: fence } = await hosts.raiseFence(target, { runId: dead, workflowId: 'deploy/shop/1' });
      const mark = `/tmp/${dead}`;
      // One that ends by itself is waited for, one that does not is stopped.
      const short = hosts.run(
        target,
        { argv: ['sh', '-c', `touch ${mark}-short; sleep 2; echo done > ${mark}`] },
        { fence },
      );
      const long = hosts.run(
        target,
        { argv: ['sh', '-c', `touch ${mark}-long; sleep 300; echo late > ${mark}`], timeoutSeconds: 400 },
        { fence },
      );
      const stopped = long.catch((error: unknown) => error);
      await shell(`until [ -e ${mark}-short ] && [ -e ${mark}-long ]; do sleep 0.05; done`);
      const raised = await hosts.raiseFence(target, { runId: next, workflowId: 'x/shop/2' });
      expect(raised.stopped).toEqual([expect.stringContaining('command(s)')]);
      expect(await shell(`cat ${mark}; rm ${mark} ${mark}-*`)).toBe('done\n');
      await short;
      expect(await stopped).toBeInstanceOf(Error);
      await hosts.closeFence(target, next);
    });
  });

  describe('journal', () => {
    test('keeps the first entry of a step with mode 0600, until the run is forgotten', async () => {
      const { hosts, target, shell } = under();
      const run = newId();
      const { number: fence } = await hosts.raiseFence(target, { runId: run, workflowId: `test/${run}` });
      const content = randomBytes(2000);
      const other = Buffer.from('other');
      expect(await hosts.journalPut(target, { run, step: 'a', content }, { fence })).toEqual({ kept: undefined });
      expect(await hosts.journalPut(target, { run, step: 'a', content: other }, { fence })).toEqual({ kept: content });
      expect((await hosts.journalGet(target, run, 'a'))?.equals(content)).toBe(true);
      expect(await hosts.journalGet(target, run, 'b')).toBeUndefined();
      const state = target.stateDirectory || under().follower['GUARDIA_TEST_STATE'];
      expect(await shell(`stat -c %a ${state}/journal/${run}/a`)).toBe('600\n');
      await hosts.journalForget(target, run);
      expect(await hosts.journalGet(target, run, 'a')).toBeUndefined();
      await hosts.closeFence(target, run);
    });

    test('an entry that cannot be read is a failure, never taken for none', async () => {
      const { hosts, target, shell } = under();
      const [run, state] = [newId(), target.stateDirectory || under().follower['GUARDIA_TEST_STATE']];
      const large = randomBytes(3_000_000);
      await hosts.journalPut(target, { run, step: 'large', content: large });
      expect((await hosts.journalGet(target, run, 'large'))?.equals(large)).toBe(true);
      await expect(
        hosts.journalPut(target, { run, step: 'huge', content: Buffer.alloc(9_000_000) }),
      ).rejects.toMatchObject({ type: 'HostUnusable', message: expect.stringMatching(/9000000 bytes/) });
      await shell(`head -c 9000000 /dev/zero >${state}/journal/${run}/huge; mkdir ${state}/journal/${run}/broken`);
      await expect(hosts.journalGet(target, run, 'huge')).rejects.toMatchObject({ type: 'OutputTooLarge' });
      await expect(hosts.journalGet(target, run, 'broken')).rejects.toMatchObject({ type: 'HostUnusable' });
      await hosts.journalForget(target, run);
    });

    test('of two attempts at once both go on with the entry that stays', async () => {
      const { hosts, target } = under();
      const context = { ...anyContext, runId: newId(), step: 'a', target };
      const both = await Promise.all(
        [1, 2].map((attempt) =>
          remember(hosts, context, async () => {
            await delay(1000);
            return { attempt };
          }),
        ),
      );
      expect(both[0]?.entry).toEqual(both[1]?.entry);
      expect(both.map(({ fresh }) => fresh).sort()).toEqual([false, true]);
      await hosts.journalForget(target, context.runId);
    });
  });
}
