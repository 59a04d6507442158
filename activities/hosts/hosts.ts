import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { CancelledFailure } from '@temporalio/common';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import type { LeftRun, RaisedFence } from '../../workflows/contracts/frame-activities.js';
import type { HostTarget } from '../../workflows/contracts/host-target.js';
import { Lines, Tail } from './bounded-output.js';
import { localTransport } from './local-transport.js';
import { commandLine } from './shell-quoting.js';
import type { SshHost, SshPool } from './ssh-pool.js';
import type { Exit, Transport } from './transport.js';

const hostScript = readFileSync(new URL('./host.sh', import.meta.url), 'utf8');
const runnerScript = readFileSync(new URL('./runner.sh', import.meta.url));

/** How much of each stream of a job is brought to the worker: its last bytes. */
const TAIL_BYTES = 64 * 1024;
/** A result printed by `run` above this is an error, never a silent cut. Bytes. */
const RUN_OUTPUT_BYTES = 1024 * 1024;
/** A journal entry above this is refused before anything is changed: a file of 512 KiB fits, as JSON and whatever its bytes are. Bytes. */
const JOURNAL_ENTRY_BYTES = 8 * 1024 * 1024;
/** How much of what a command said stands in the message of its failure. Characters. */
const SAID_CHARACTERS = 300;
/** Exit codes by which a shell says that a signal ended its command: HUP, KILL, TERM. An orderly shutdown of the host, or somebody's `kill`. */
const SIGNAL_CODES = [129, 137, 143];
/** How long the host waits for what a call sends by standard input (host.sh, `receive`). Seconds. */
const RECEIVE_SECONDS = 60;
/** A progress line above this is ignored. Bytes. */
const LINE_BYTES = 4096;
/** A call of the host script that takes longer is given up; the script itself waits at most about 20 s. Milliseconds. */
const CALL_TIMEOUT_MS = 120_000;
/** sudo says more than that it refuses: that the host's own name does not resolve, for one, and then does as it was told. */
const SUDO_REFUSES =
  /^(sudo: .*(password is required|authentication is required|no valid sudoers sources|error initializing|a terminal is required|no tty present|must have a tty|account validation failure)|.*(is not in the sudoers file|is not allowed to (execute|run)|may not run sudo))/m;

/** What a call may carry to a host: the number of the run's fence there, or nothing for a call that changes nothing. */
export type FenceNumber = number | undefined;

export interface RunCommand {
  argv: readonly [string, ...string[]];
  /** Bytes for standard input; the way for secrets and for data with NUL. */
  stdin?: Uint8Array;
  /** Default 60. The command is ended on the host after this time, also when the worker is gone. */
  timeoutSeconds?: number;
  /** Exit codes that are an answer and not a failure. Default: 0. */
  okCodes?: readonly number[];
}

export interface RunResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface JobSpec {
  /** Unique on the host: run, step and generation. The same id never runs twice. */
  id: string;
  /** A bash script with its arguments, or an argument list. Runs as root where the host says `become: sudo`. */
  command: { script: string; args: readonly string[] } | { argv: readonly [string, ...string[]] };
  /** Secrets and data for standard input: kept in memory on the host only until the command has read them. */
  stdin?: Uint8Array;
  timeoutSeconds: number;
  /** Whether a job that vanished with its host may be started anew. */
  runAgainIfLost?: boolean;
}

export type JobStateName =
  'absent' | 'waiting' | 'running' | 'finished' | 'cancelled' | 'lost-rebooted' | 'lost-killed';

export interface JobState {
  state: JobStateName;
  exitCode?: number;
  timedOut?: boolean;
  /** Milliseconds since 1970, by the clock of the host. */
  startedAt?: number;
  endedAt?: number;
  stdoutBytes: number;
  stderrBytes: number;
  /** The last 64 KiB of each stream. */
  stdout: Buffer;
  stderr: Buffer;
}

export interface JobResult {
  /** Standard output: the result. At most 64 KiB, else `OutputTooLarge`. */
  stdout: string;
  stderrTail: string;
  stderrBytes: number;
  seconds: number;
}

/** Where a follower stands; kept in the heartbeat so that the next attempt goes on from here. */
export interface FollowPosition {
  offset: number;
  progress?: Record<string, unknown>;
}

export interface FollowOptions {
  signal?: AbortSignal;
  from?: FollowPosition;
  /** Called whenever something was seen, and every few seconds otherwise. */
  onPosition?: (position: FollowPosition & { unreachable?: string }) => void;
  /** Exit codes of the job's command that are an answer. Default: 0. */
  okCodes?: readonly number[];
  /** When the job must have ended on its host; a host that does not answer after that is given up. Milliseconds since 1970. */
  mustHaveEndedBy?: number;
}

export interface HostsOptions {
  ssh: SshPool;
  /** State directory of the worker's own machine, for the host named `worker`. */
  workerStateDirectory: string;
  /** Takes known secrets out of what commands print, before it becomes part of a message or a result. */
  scrub: (text: string) => string;
}

/** The two primitives on hosts, `run` and `job`, with fence and journal. Everything is safe to call again. */
export type Hosts = ReturnType<typeof createHosts>;

export function createHosts({ ssh, workerStateDirectory, scrub }: HostsOptions) {
  const transportOf = (target: HostTarget): Transport =>
    target.connection === 'local' ? localTransport : ssh.transport(target as SshHost);

  const stateOf = (target: HostTarget): string => target.stateDirectory || workerStateDirectory;

  const becomeRoot = (target: HostTarget): boolean => {
    if (target.become === 'none') return false;
    return target.connection === 'local' ? process.getuid?.() !== 0 : target.connection.user !== 'root';
  };

  /** One call of the host script. Maps its own exit codes to typed failures; other codes are the caller's. */
  async function call(
    target: HostTarget,
    args: readonly string[],
    options: {
      stdin?: Uint8Array;
      signal?: AbortSignal | undefined;
      onStdout?: (chunk: Buffer) => void;
      timeoutMs?: number;
      newConnection?: boolean | undefined;
    } = {},
  ): Promise<{ exit: { code: number }; stdout: Tail; stderr: Tail }> {
    const [command, ...rest] = args as [string, ...string[]];
    const argv = ['/bin/sh', '-c', hostScript, 'guardia', command, stateOf(target), ...rest];
    const line = commandLine(becomeRoot(target) ? ['sudo', '-n', '--', ...argv] : argv);
    const stdout = new Tail(RUN_OUTPUT_BYTES);
    const stderr = new Tail(TAIL_BYTES);
    const deadline = AbortSignal.timeout(options.timeoutMs ?? CALL_TIMEOUT_MS);
    const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
    let exit: Exit;
    try {
      exit = await transportOf(target).execute(line, {
        stdin: options.stdin,
        signal,
        onStdout: options.onStdout ?? ((chunk) => stdout.push(chunk)),
        onStderr: (chunk) => stderr.push(chunk),
        newConnection: options.newConnection,
      });
    } catch (error) {
      options.signal?.throwIfAborted();
      if (deadline.aborted)
        throw failure('HostUnreachable', `${target.name} did not answer in time`, { host: target.name });
      throw error;
    }
    if (exit.code === null) throw interrupted(target, command === 'run' ? (rest[3] ?? command) : command, exit);
    const said = scrub(stderr.text()).trim();
    // The shell says what it could not write under the same name; guardia's own word comes last.
    const own = [...said.matchAll(/^guardia: (.*)$/gm)].at(-1)?.[1];
    if (own !== undefined) {
      if (exit.code === 90)
        throw failure('Fenced', `${target.name}: ${own}`, {
          host: target.name,
          remedy: 'Another run has taken the host over; this one may not change it any more',
        });
      if (exit.code === 91)
        throw failure('HostStorageFull', `${target.name}: ${own}`, {
          host: target.name,
          remedy: 'Free some space there, then start the run again',
        });
      if (exit.code === 92)
        throw failure('HostUnusable', `${target.name}: ${own}`, { host: target.name, output: said });
      if (exit.code === 94) throw failure('HostUnreachable', `${target.name}: ${own}`, { host: target.name });
    }
    if (becomeRoot(target) && exit.code === 1 && SUDO_REFUSES.test(said)) {
      const user = target.connection === 'local' ? 'the worker' : target.connection.user;
      throw failure('SudoMissing', `${user} may not run commands as root on ${target.name}: ${said.split('\n')[0]}`, {
        host: target.name,
        remedy: `Allow it without a password: put "${user} ALL=(ALL) NOPASSWD: ALL" into /etc/sudoers.d/guardia on ${target.name}`,
      });
    }
    return { exit: { code: exit.code }, stdout, stderr };
  }

  async function ask(
    target: HostTarget,
    args: readonly string[],
    options: { stdin?: Uint8Array; signal?: AbortSignal | undefined } = {},
  ): Promise<string> {
    const { exit, stdout, stderr } = await call(target, args, options);
    if (exit.code !== 0)
      throw failure(
        'HostUnusable',
        `${target.name}: \`${args[0]}\` ended with code ${exit.code}: ${lastLine(scrub(stderr.text()))}`,
        { host: target.name },
      );
    return stdout.bytes().toString('utf8');
  }

  /** What a journal command of the host script answers; undefined only where the script itself says that there is no such entry. */
  async function askJournal(
    target: HostTarget,
    args: readonly string[],
    stdin?: Uint8Array,
  ): Promise<Buffer | undefined> {
    const answer = new Tail(JOURNAL_ENTRY_BYTES + 10);
    const { exit, stderr } = await call(target, args, {
      ...(stdin ? { stdin } : {}),
      onStdout: (chunk) => answer.push(chunk),
    });
    const said = scrub(stderr.text());
    if (exit.code === 93 && /^guardia: no journal entry/m.test(said)) return undefined;
    if (exit.code !== 0)
      throw failure(
        'HostUnusable',
        `${target.name}: the journal cannot be read: \`${args[0]}\` ended with code ${exit.code}: ${lastLine(said)}`,
        { host: target.name, remedy: 'Look at the state directory on the host; nothing was left out or skipped' },
      );
    if (answer.total > JOURNAL_ENTRY_BYTES + 10)
      throw failure(
        'OutputTooLarge',
        `${target.name}: a journal entry has ${answer.total} bytes, more than ${JOURNAL_ENTRY_BYTES}`,
        { host: target.name },
      );
    return answer.bytes();
  }

  /**
   * Runs a short command and returns what it printed. Not a job: it does not outlive its time, and a retry runs it again,
   * so it must be idempotent. `newConnection`: over a connection of its own, opened now. With a `fence` it changes something: a cancel of the
   * run then waits for it, as it would go on on the host while its undo begins; any other abort (a shutdown of the worker) does not.
   * Throws `CommandFailed`, `CommandTimedOut`, `OutputTooLarge` (1 MiB), `HostUnreachable` where a signal ended it, and the failures of the
   * host. What it printed on standard output, which may be the text of a file, is in no failure.
   */
  async function run(
    target: HostTarget,
    command: RunCommand,
    options: { fence?: FenceNumber; signal?: AbortSignal; newConnection?: boolean } = {},
  ): Promise<RunResult> {
    options.signal?.throwIfAborted();
    const seconds = command.timeoutSeconds ?? 60;
    const bytes = command.stdin?.length ?? 0;
    const began = Date.now();
    const { exit, stdout, stderr } = await call(
      target,
      ['run', fenceArgument(options.fence), String(seconds), String(bytes), ...command.argv],
      {
        ...(command.stdin ? { stdin: command.stdin } : {}),
        signal: options.fence === undefined ? options.signal : exceptCancel(options.signal),
        timeoutMs: (seconds + 30 + (bytes > 0 ? RECEIVE_SECONDS : 0)) * 1000,
        newConnection: options.newConnection,
      },
    );
    const name = command.argv[0];
    if ((exit.code === 124 || exit.code === 137) && Date.now() - began >= seconds * 1000)
      throw failure('CommandTimedOut', `${name} on ${target.name} did not end within ${seconds} s`, {
        host: target.name,
        output: scrub(stderr.text()),
      });
    if (!(command.okCodes ?? [0]).includes(exit.code)) {
      if (SIGNAL_CODES.includes(exit.code)) throw interrupted(target, name, { ...exit, signal: null });
      throw failure(
        'CommandFailed',
        `${name} on ${target.name} ended with code ${exit.code}: ${lastLine(scrub(stderr.text())) || 'it gave no reason'}`,
        {
          host: target.name,
          exitCode: exit.code,
          output: scrub(stderr.text()),
        },
      );
    }
    if (stdout.total > RUN_OUTPUT_BYTES)
      throw failure(
        'OutputTooLarge',
        `${name} on ${target.name} printed ${stdout.total} bytes, more than ${RUN_OUTPUT_BYTES}`,
        { host: target.name },
      );
    return { exitCode: exit.code, stdout: stdout.bytes().toString('utf8'), stderr: scrub(stderr.text()) };
  }

  /** Starts a job, or finds it as an earlier attempt left it. Idempotent by `spec.id`: the command runs once. */
  async function startJob(
    target: HostTarget,
    spec: JobSpec,
    options: { fence?: FenceNumber; signal?: AbortSignal } = {},
  ): Promise<JobStateName | 'started'> {
    const script = Buffer.from('script' in spec.command ? spec.command.script : '');
    const argv =
      'script' in spec.command
        ? ['/bin/bash', `${stateOf(target)}/jobs/${spec.id}/script`, ...spec.command.args]
        : spec.command.argv;
    const command = Buffer.from(`exec ${commandLine(argv)}\n`);
    const stdin = spec.stdin ?? new Uint8Array();
    const contents = [command, script, runnerScript, stdin];
    const answer = await ask(
      target,
      [
        'start',
        fenceArgument(options.fence),
        spec.id,
        String(spec.timeoutSeconds),
        spec.runAgainIfLost ? 'yes' : 'no',
        ...contents.map((content) => String(content.length)),
      ],
      { stdin: Buffer.concat(contents), signal: options.signal },
    );
    return answer.trim() as JobStateName | 'started';
  }

  async function inspectJob(
    target: HostTarget,
    id: string,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<JobState> {
    const { exit, stdout, stderr } = await call(target, ['inspect', id, String(TAIL_BYTES)], {
      signal: options.signal,
    });
    const bytes = stdout.bytes();
    const end = bytes.indexOf('\n\n');
    if (exit.code !== 0 || end < 0)
      throw failure('HostUnusable', `${target.name}: cannot read job ${id}: ${scrub(stderr.text())}`, {
        host: target.name,
      });
    const fields = Object.fromEntries(
      bytes
        .subarray(0, end)
        .toString()
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
    const number = (name: string): number => Number(fields[name] ?? 0);
    const body = bytes.subarray(end + 2);
    return {
      state: fields['state'] as JobStateName,
      ...(fields['exitCode'] !== undefined
        ? {
            exitCode: number('exitCode'),
            timedOut: fields['timedOut'] === 'yes',
            startedAt: number('startedAt'),
            endedAt: number('endedAt'),
          }
        : {}),
      stdoutBytes: number('stdoutBytes'),
      stderrBytes: number('stderrBytes'),
      stdout: body.subarray(0, number('stdoutTail')),
      stderr: body.subarray(number('stdoutTail'), number('stdoutTail') + number('stderrTail')),
    };
  }

  /**
   * Follows a job until it has ended. Survives a lost connection: it reconnects until `signal` says stop.
   * Never starts anything. Reads progress lines (`guardia:progress {json}`) from the job's standard error.
   */
  async function followJob(target: HostTarget, id: string, options: FollowOptions): Promise<JobState> {
    const position: FollowPosition = options.from ? { ...options.from } : { offset: 0 };
    let unreachable: string | undefined;
    let lastAnswer = Date.now();
    const report = (): void => options.onPosition?.({ ...position, ...(unreachable ? { unreachable } : {}) });
    const beat = setInterval(report, 5_000);
    try {
      for (let pause = 500; ;) {
        try {
          const lines = new Lines(LINE_BYTES, (line) => {
            const progress = progressIn(line);
            if (!progress) return;
            position.progress = progress;
            report();
          });
          const { exit } = await call(target, ['follow', id, String(position.offset)], {
            signal: options.signal,
            timeoutMs: 400_000,
            onStdout: (chunk) => {
              position.offset += chunk.length;
              lines.push(chunk);
            },
          });
          unreachable = undefined;
          lastAnswer = Date.now();
          pause = 500;
          const state = await inspectJob(target, id, { signal: options.signal });
          if (state.state !== 'running' || exit.code === 93) return state;
        } catch (error) {
          options.signal?.throwIfAborted();
          if (!isFailure(error, 'HostUnreachable')) throw error;
          if (isGivenUp(options, lastAnswer)) throw error;
          unreachable = error.message;
          report();
          await delay(pause, undefined, options.signal ? { signal: options.signal } : {}).catch(() =>
            options.signal?.throwIfAborted(),
          );
          pause = Math.min(pause * 2, 5_000);
        }
      }
    } finally {
      clearInterval(beat);
    }
  }

  /**
   * The durable way to run a command: start or attach, then follow to the end. Idempotent by `spec.id`; a dead worker,
   * a lost link or a restarted sshd never runs it twice. Throws `JobFailed`, `JobTimedOut`, `JobLost`, `JobCancelled`,
   * `Fenced`, `HostStorageFull`. When `signal` aborts, the job goes on: cancelling it is the caller's decision (`cancelJob`).
   */
  async function job(
    target: HostTarget,
    spec: JobSpec,
    options: FollowOptions & { fence?: FenceNumber } = {},
  ): Promise<JobResult> {
    const started = await untilReachable(() => startJob(target, spec, options), options);
    const seen: FollowPosition = started === 'started' || !options.from ? { offset: 0 } : options.from;
    const state =
      started === 'started' || started === 'running'
        ? await followJob(target, spec.id, { ...options, from: seen })
        : await inspectJob(target, spec.id, options);
    return jobResult(target, spec, state, options.okCodes, scrub);
  }

  /** The first contact too waits for a host that does not answer: within the time of the activity, not of one connection. */
  async function untilReachable<T>(act: () => Promise<T>, options: FollowOptions): Promise<T> {
    const began = Date.now();
    for (let pause = 500; ; pause = Math.min(pause * 2, 5_000)) {
      try {
        return await act();
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!isFailure(error, 'HostUnreachable') || !options.signal || isGivenUp(options, began)) throw error;
        options.onPosition?.({ ...(options.from ?? { offset: 0 }), unreachable: error.message });
        await delay(pause, undefined, { signal: options.signal }).catch(() => options.signal?.throwIfAborted());
      }
    }
  }

  /**
   * A TCP connection to `address` as the host sees it, for looking at a service from there: nothing runs on the host, and what is sent
   * (a password, an API key) touches neither its disk nor its process list. Rejects as `SshPool.connect` does.
   */
  async function connect(target: HostTarget, address: string, port: number, signal: AbortSignal): Promise<Duplex> {
    if (target.connection !== 'local') return ssh.connect(target as SshHost, address, port, signal);
    const socket = net.connect({ host: address, port });
    const stop = (): void => void socket.destroy(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    try {
      await once(socket, 'connect');
      return socket;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  return {
    run,
    connect,
    job,
    startJob,
    followJob,
    inspectJob,

    /** Stops a job with its whole process tree and waits until it is gone. Idempotent by id; a job that ended stays as it is. */
    async cancelJob(target: HostTarget, id: string, options: { signal?: AbortSignal } = {}): Promise<JobStateName> {
      return (await ask(target, ['cancel', id], options)).trim() as JobStateName;
    },

    /** What an ended job printed, at most `bytes` of each stream, without known secrets. Undefined when the host has no such job. */
    async readJobLog(
      target: HostTarget,
      id: string,
      bytes: number,
      options: { signal?: AbortSignal } = {},
    ): Promise<string | undefined> {
      const log = new Tail(2 * bytes + 1000);
      const { exit, stderr } = await call(target, ['log', id, String(bytes)], {
        ...options,
        onStdout: (chunk) => log.push(chunk),
      });
      const said = scrub(stderr.text());
      if (exit.code === 93 && /^guardia: no job/m.test(said)) return undefined;
      if (exit.code !== 0)
        throw failure(
          'HostUnusable',
          `${target.name}: the log of a job cannot be read: it ended with code ${exit.code}: ${lastLine(said)}`,
          { host: target.name },
        );
      return scrub(log.text());
    },

    /** Every job that the host knows. */
    async listJobs(target: HostTarget): Promise<{ id: string; state: JobStateName; fence?: number }[]> {
      const lines = (await ask(target, ['list'])).split('\n').filter((line) => line !== '');
      return lines.map((line) => {
        const [id = '', state = 'absent', fence] = line.split(' ');
        return {
          id,
          state: state as JobStateName,
          ...(fence !== undefined && fence !== '-' ? { fence: Number(fence) } : {}),
        };
      });
    },

    /** Removes the files of ended jobs whose id starts with `prefix`. Idempotent. Only after `closeFence`: a late start would run anew. */
    async forgetJobs(target: HostTarget, prefix: string): Promise<void> {
      await ask(target, ['forget', prefix]);
    },

    /**
     * Takes the host over for a run: its number from now on, which every change carries. Stops what runs with lower numbers left.
     * Idempotent by run. `left` names a run that never closed its fence: it was terminated; `leftWith` those that were steps of it. `unrepaired` are all runs that were, and
     * have a journal here.
     */
    async raiseFence(
      target: HostTarget,
      { runId, workflowId }: LeftRun,
      options: { signal?: AbortSignal } = {},
    ): Promise<RaisedFence> {
      const lines = (await ask(target, ['raise', runId, workflowId], options)).split('\n');
      const values = (name: string): string[] =>
        lines.filter((line) => line.startsWith(`${name}=`)).map((line) => line.slice(name.length + 1));
      const [left, ...leftWith] = values('left').filter((value) => value !== '-');
      return {
        number: Number(values('number')[0]),
        stopped: values('stopped'),
        unrepaired: values('unrepaired').map((value) => {
          const [runId = '', workflowId = ''] = value.split(' ');
          return { runId, workflowId };
        }),
        ...(left !== undefined ? { left } : {}),
        ...(leftWith.length > 0 ? { leftWith } : {}),
      };
    },

    /** Says that a run works under the fence of another one, so that what it changes is known when both are terminated. Idempotent. */
    async joinFence(target: HostTarget, fence: number, { runId, workflowId }: LeftRun): Promise<void> {
      await ask(target, ['join', String(fence), runId, workflowId]);
    },

    /** Ends `joinFence`. Idempotent. */
    async partFence(target: HostTarget, run: string): Promise<void> {
      await ask(target, ['part', run]);
    },

    /**
     * The runs that were terminated here and whose changes nobody has seen to, with the steps that have an entry in their journal. `open`: no
     * other run has come since, so that it may as well be still under way.
     */
    async leftRuns(target: HostTarget): Promise<(LeftRun & { steps: string[]; open: boolean })[]> {
      const lines = (await ask(target, ['left'])).split('\n').filter((line) => line !== '');
      return lines.map((line) => {
        const [as, runId = '', workflowId = '', ...steps] = line.trim().split(' ');
        return { runId, workflowId, steps, open: as === 'open' };
      });
    },

    /** Somebody has seen to what a terminated run left here: its mark and its journal go. Idempotent by run. */
    async markRepaired(target: HostTarget, run: string, options: { fence?: FenceNumber } = {}): Promise<void> {
      await ask(target, ['repaired', fenceArgument(options.fence), run]);
    },

    /**
     * Ends the run's time on the host: whatever of it is still under way is refused from now on. `again`: the run may raise the fence once more.
     * Idempotent by run.
     */
    async closeFence(target: HostTarget, run: string, options: { again?: boolean } = {}): Promise<void> {
      await ask(target, ['close', run, options.again ? 'again' : 'for good']);
    },

    /**
     * Writes what a step has to remember for its undo, mode 0600 and synced. The first entry of (run, step) stays: `kept` is the one of an
     * earlier attempt, undefined where this one was written. Throws `HostUnusable` above 8 MiB.
     */
    async journalPut(
      target: HostTarget,
      entry: { run: string; step: string; content: Uint8Array },
      options: { fence?: FenceNumber } = {},
    ): Promise<{ kept: Buffer | undefined }> {
      const { run, step, content } = entry;
      if (content.length > JOURNAL_ENTRY_BYTES)
        throw failure(
          'HostUnusable',
          `${target.name}: what ${step} has to remember for its undo has ${content.length} bytes, more than ${JOURNAL_ENTRY_BYTES}`,
          { host: target.name, step },
        );
      const args = ['journal-put', fenceArgument(options.fence), run, step, String(content.length)];
      const answer = await askJournal(target, args, content);
      const kept = Buffer.from('kept\n');
      return { kept: answer?.subarray(0, kept.length).equals(kept) ? answer.subarray(kept.length) : undefined };
    },

    /**
     * What a step wrote into the journal; undefined where the host says that it never came so far. Anything else is a failure: an entry
     * that cannot be read must not look like nothing to undo.
     */
    async journalGet(target: HostTarget, run: string, step: string): Promise<Buffer | undefined> {
      return askJournal(target, ['journal-get', run, step]);
    },

    /** Removes the journal of a run. Idempotent. */
    async journalForget(target: HostTarget, run: string): Promise<void> {
      await ask(target, ['journal-forget', run]);
    },
  };
}

/** A job ends by its own limit on its host; a host that stays away longer than that, and now for five minutes, is not waited for. */
function isGivenUp({ mustHaveEndedBy }: FollowOptions, lastAnswer: number): boolean {
  return mustHaveEndedBy !== undefined && Date.now() > mustHaveEndedBy && Date.now() - lastAnswer > 300_000;
}

function jobResult(
  target: HostTarget,
  spec: JobSpec,
  state: JobState,
  okCodes: readonly number[] = [0],
  scrub: (text: string) => string,
): JobResult {
  const output = scrub(text(state.stderr, state.stderrBytes));
  const about = { host: target.name, output: output.slice(-4000) };
  switch (state.state) {
    case 'finished': {
      if (state.timedOut)
        throw failure(
          'JobTimedOut',
          `the job ${spec.id} on ${target.name} did not end within ${spec.timeoutSeconds} s and was stopped`,
          about,
        );
      const code = state.exitCode ?? -1;
      if (!okCodes.includes(code))
        throw failure(
          'JobFailed',
          `the job ${spec.id} on ${target.name} ended with code ${code}: ${lastLine(output) || 'it printed nothing'}`,
          { ...about, exitCode: code },
        );
      if (state.stdoutBytes > state.stdout.length)
        throw failure(
          'OutputTooLarge',
          `the job ${spec.id} on ${target.name} printed ${state.stdoutBytes} bytes as its result, more than ${TAIL_BYTES}`,
          about,
        );
      return {
        stdout: state.stdout.toString('utf8'),
        stderrTail: output,
        stderrBytes: state.stderrBytes,
        seconds: ((state.endedAt ?? 0) - (state.startedAt ?? 0)) / 1000,
      };
    }
    case 'cancelled':
      throw failure('JobCancelled', `the job ${spec.id} on ${target.name} was stopped on request`, about);
    case 'lost-rebooted':
      throw failure(
        'JobLost',
        `the job ${spec.id} was running when ${target.name} went down; the host has been started again since`,
        about,
      );
    default:
      throw failure(
        'JobLost',
        `the job ${spec.id} on ${target.name} vanished without leaving a status: it was killed`,
        about,
      );
  }
}

function progressIn(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('guardia:progress ')) return undefined;
  try {
    return JSON.parse(line.slice('guardia:progress '.length)) as Record<string, unknown>;
  } catch {
    return undefined; // a half line, or a cut one
  }
}

function text(bytes: Buffer, total: number): string {
  const lines = bytes
    .toString('utf8')
    .split('\n')
    .filter((line) => !line.startsWith('guardia:progress '))
    .join('\n');
  return bytes.length < total ? `[${total - bytes.length} bytes before this]\n${lines}` : lines;
}

/** A command whose end says nothing about it: the host went down, or somebody killed it. Trying again can help. */
function interrupted(target: HostTarget, what: string, { code, signal }: Exit): Error {
  const by = code === null ? signal : ({ 129: 'HUP', 137: 'KILL', 143: 'TERM' }[code] ?? code);
  return failure(
    'HostUnreachable',
    `${what} on ${target.name} was ended by signal ${by}: whether it did its work is unknown`,
    { host: target.name },
  );
}

/**
 * The signal without what a cancel of the run says: a change under way comes to rest by itself, within its own time. Aborts for every other
 * reason, as that of a worker that shuts down.
 */
function exceptCancel(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (!signal) return undefined;
  const rest = new AbortController();
  signal.addEventListener(
    'abort',
    () => {
      const reason: unknown = signal.reason;
      if (!(reason instanceof CancelledFailure && reason.message === 'CANCELLED')) rest.abort(reason);
    },
    { once: true },
  );
  return rest.signal;
}

function lastLine(output: string): string {
  const line = output.trim().split('\n').at(-1)?.trim() ?? '';
  return line.length > SAID_CHARACTERS ? `${line.slice(0, SAID_CHARACTERS)} ...` : line;
}

const fenceArgument = (fence: FenceNumber): string => (fence === undefined ? '-' : String(fence));
