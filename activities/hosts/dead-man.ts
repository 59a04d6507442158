import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { CallContext } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from './hosts.js';

const script = readFileSync(new URL('./dead-man.sh', import.meta.url), 'utf8');

/** How long the host waits for a confirmation before it puts the old state back. Seconds. */
export const DEAD_MAN_SECONDS = 45;
/** How long the worker waits for the host to be back afterwards. Seconds. */
const BACK_SECONDS = 120;
/** What a worker meets whose way to the host is cut off; another key is one that the change has put in the place of the known one. */
const CUT_OFF = ['HostUnreachable', 'HostLoginRefused', 'HostKeyRefused'] as const;

/** Runs a command on the host while the old state is not back yet. Throws `AccessLost` when it is. */
export type Act = (argv: readonly string[], stdin?: Uint8Array) => Promise<void>;

/**
 * What an earlier attempt left armed is put back now: the next one, or the undo, begins from the old state, and nothing fires behind it. What the host has put
 * back by itself is not put back once more: a person may have changed it since. Idempotent. Throws `HostUnusable` where it cannot be put back.
 */
export async function settleDeadMan(hosts: Hosts, context: CallContext): Promise<void> {
  const target = targetOf(context);
  const directory = `${target.stateDirectory}/dead-man`;
  const run = (command: 'state' | 'fire' | 'forget') =>
    hosts.run(
      target,
      {
        argv: ['/bin/bash', '-c', '[ ! -d "$2" ] || exec bash -c "$0" dead-man "$1" "$2"', script, command, directory],
        okCodes: [0, 9],
      },
      { fence: context.fence },
    );
  const state = (await run('state')).stdout.trim();
  if (state === '') return;
  if (state !== 'restored' && (await run('fire')).exitCode === 9)
    throw notRestored(context, 'what an earlier attempt changed', directory);
  await run('forget');
}

/**
 * Makes a change that may cut the worker's own way to the host. Before it, the host is told to put the old state back by itself; after
 * it, the worker confirms over a connection that it opens then. Not confirmed in time, the host is as it was, and this throws `AccessLost`;
 * `HostUnusable` where the host could not put the old state back, or cannot be armed, and then nothing was changed.
 * What may cut the way off is run by the `act` that `change` is given, as its last: it does nothing once the host has put the old state back,
 * and only a change whose `act` has come to its end on the host is confirmed.
 * A worker that dies in between has the same effect: its retry finds the old state and makes the change again.
 *
 * `saved`: a tar archive with what `undo` needs, a bash script that runs in the unpacked archive.
 */
export async function underDeadMan(
  hosts: Hosts,
  context: CallContext,
  guard: { what: string; saved: Uint8Array; undo: string; seconds?: number },
  change: (act: Act) => Promise<void>,
): Promise<void> {
  const target = targetOf(context);
  const directory = `${target.stateDirectory}/dead-man`;
  const seconds = guard.seconds ?? DEAD_MAN_SECONDS;
  const deadMan = (args: string[], options: { stdin?: Uint8Array; newConnection?: boolean } = {}) =>
    hosts.run(
      target,
      {
        argv: ['/bin/bash', '-c', script, 'dead-man', ...args],
        okCodes: [0, 6, 7, 8, 9],
        timeoutSeconds: 60,
        ...(options.stdin ? { stdin: options.stdin } : {}),
      },
      { fence: context.fence, newConnection: options.newConnection ?? false },
    );
  try {
    await deadMan(['arm', directory, String(seconds), guard.undo], { stdin: guard.saved });
  } catch (error) {
    if (!isFailure(error, 'CommandFailed')) throw error;
    throw failure('HostUnusable', `${guard.what} on ${target.name} was not changed: ${error.message}`, {
      host: target.name,
      step: context.step,
      remedy: `See that ${target.stateDirectory} has room and that systemd works there, then start the run again`,
    });
  }
  const armed = Date.now();
  const act: Act = async (argv, stdin) => {
    const { exitCode } = await deadMan(['act', directory, ...argv], stdin ? { stdin } : {});
    if (exitCode === 8)
      throw failure(
        'AccessLost',
        `${guard.what} on ${target.name} was not changed within ${seconds} s; it is as it was`,
        {
          host: target.name,
          step: context.step,
          remedy: 'The host is slow or hard to reach: look at its load, then start the run again',
        },
      );
  };
  const takeBack = async (error: unknown): Promise<never> => {
    if ((await deadMan(['fire', directory])).exitCode === 9) throw notRestored(context, guard.what, directory, error);
    await deadMan(['forget', directory]);
    throw error;
  };
  let unknownEnd: unknown;
  try {
    await change(act);
  } catch (error) {
    // A change that failed by itself leaves nothing half done; of one whose answer was lost the host knows whether it is whole.
    if (!isFailure(error, ...CUT_OFF)) return takeBack(error);
    unknownEnd = error;
  }
  let reason = 'it was not tried';
  while (Date.now() - armed < seconds * 1000) {
    let exitCode: number;
    try {
      ({ exitCode } = await deadMan(['confirm', directory], { newConnection: true }));
    } catch (error) {
      if (!isFailure(error, ...CUT_OFF, 'HostUnusable', 'SudoMissing')) throw error;
      reason = error.message;
      await delay(500);
      continue;
    }
    if (exitCode === 0) return;
    if (exitCode === 6) return takeBack(unknownEnd ?? new Error(`the change of ${guard.what} made no act`));
    reason = 'the confirmation came too late';
    break;
  }
  const outcome = await untilDecided(
    deadMan,
    directory,
    armed + (seconds + BACK_SECONDS) * 1000,
    target.name,
    guard.what,
  );
  // It came through: only its answer was lost.
  if (outcome === 'confirmed') return;
  if (outcome === 'failed') throw notRestored(context, guard.what, directory);
  await deadMan(['forget', directory], { newConnection: true });
  throw failure(
    'AccessLost',
    `${guard.what} on ${target.name} cut the login off (${reason}); the host has put the old state back by itself`,
    {
      host: target.name,
      step: context.step,
      remedy: 'Correct what the inventory says about it; the way in of the worker has to stay open',
    },
  );
}

/** The switch has fired, but the host could not put the old state back: what stands there is for a person to see. */
function notRestored(context: CallContext, what: string, directory: string, cause?: unknown): Error {
  const { name } = targetOf(context);
  const why = cause instanceof Error ? ` (${cause.message})` : '';
  return failure('HostUnusable', `${what} on ${name}${why}: the host could not put the old state back`, {
    host: name,
    step: context.step,
    remedy: `Look at ${directory}/log on it, put the old state back by hand (it lies in ${directory}/saved), remove ${directory}, then start the run again`,
  });
}

async function untilDecided(
  deadMan: (args: string[], options: { newConnection: boolean }) => Promise<{ stdout: string }>,
  directory: string,
  until: number,
  host: string,
  what: string,
): Promise<string> {
  for (;;) {
    try {
      const { stdout } = await deadMan(['state', directory], { newConnection: true });
      if (stdout.trim() !== 'armed') return stdout.trim();
    } catch (error) {
      if (!isFailure(error, ...CUT_OFF)) throw error;
    }
    if (Date.now() > until)
      throw failure('HostUnreachable', `${host} does not answer since ${what} was changed`, {
        host,
        remedy: `Look at its console: ${directory}/log says whether the old state was put back`,
      });
    await delay(1_000);
  }
}
