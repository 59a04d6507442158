import { failure } from '../contracts/errors.js';
import { hostTarget } from '../contracts/host-target.js';
import { SYSTEM_LANE, WORKER_HOST } from '../contracts/names.js';
import type { Call, Stage, Step } from '../contracts/plan.js';
import type { Probe } from '../contracts/probe.js';
import type { System } from '../contracts/system.js';
import { once } from './stages.js';

/** Time for one look: probes have at most 60 s each, and some wait for others. Seconds. */
export const LOOK_SECONDS = 300;

/** What tells whether a service answers: not certificates and rate limits, which a start does not change, and which looking at costs. */
export const ANSWERING: readonly Probe['kind'][] = [
  'systemd',
  'compose',
  'container',
  'http',
  'postgresql',
  'openbao',
  'redis',
  'rabbitmq',
  'uptime-kuma',
];

export interface Patience {
  /** How long it may take, seconds. Default 60. */
  patienceSeconds?: number;
  /** Pause between two looks, seconds. Default 1. */
  intervalSeconds?: number;
  /** How many looks in a row must pass. Default 2: one good answer of a service that keeps crashing is not enough. */
  consecutive?: number;
}

/** The call that waits until all these probes pass; as `verify` of a step, or by itself with `wait`. It may stand in any lane. */
export function passes(system: System, probes: readonly Probe[], patience: Patience = {}): Call {
  const { patienceSeconds = 60, intervalSeconds = 1, consecutive = 2 } = patience;
  return {
    activity: 'checkHealth',
    with: {
      ...looking(system, probes),
      patienceSeconds,
      intervalSeconds,
      consecutive,
      timeoutSeconds: patienceSeconds + LOOK_SECONDS,
    },
  };
}

/** Waits until what runs on a host, or what is seen of it from outside, is healthy. */
export function wait(
  system: System,
  on: string,
  probes: readonly Probe[],
  options: Patience & { id?: string; title?: string; why?: string } = {},
): Step {
  const { id = `wait-${on}`, title = `wait until ${on} is healthy`, why, ...patience } = options;
  return {
    id,
    title,
    why: why ?? `${probes.length} probes, seen to pass; an exit code shows nothing`,
    do: passes(system, probes, patience),
    undo: { none: 'it only looks' },
  };
}

/** Notes what fails before anything is changed: `bake` does not hold it against what was done. Never fails for what it finds. */
export function before(system: System, probes: readonly Probe[], { id = 'health-before' } = {}): Step {
  return {
    id,
    title: `note which of ${probes.length} probes fail already`,
    why: 'what fails before the change does not undo it; what fails because of it does',
    do: { activity: 'probeHost', with: { ...looking(system, probes), timeoutSeconds: LOOK_SECONDS } },
    undo: { none: 'it only looks' },
  };
}

/**
 * Watches for a while before what was done counts: fails as soon as a probe fails more than `tolerated` times in a row. `before`: the step of that
 * name above; what failed there is not judged until it has passed once.
 */
export function bake(
  system: System,
  probes: readonly Probe[],
  options: {
    seconds: number;
    intervalSeconds?: number;
    tolerated?: number;
    before?: string;
    id?: string;
    title?: string;
  },
): Step {
  const { seconds, intervalSeconds = 5, tolerated = 0, id = 'bake', title = `watch for ${seconds} s` } = options;
  return {
    id,
    title,
    why: 'what breaks under traffic breaks in the first minutes: better while it can still be undone',
    do: {
      activity: 'watchHealth',
      with: {
        ...looking(system, probes),
        seconds,
        intervalSeconds,
        tolerated,
        ...(options.before === undefined ? {} : { failingBefore: { from: options.before, path: 'failing' } }),
        timeoutSeconds: seconds + LOOK_SECONDS,
      },
    },
    undo: { none: 'it only looks' },
    expectedSeconds: seconds,
  };
}

/**
 * Around a change that nobody should notice: a look before it, and a wait behind it until what worked before works again. The two stages; none
 * where there is nothing to look at.
 */
export function asBefore(
  system: System,
  probes: readonly Probe[],
  patience: Patience = {},
): { before: Stage[]; after: Stage[] } {
  // More requests than are allowed, twice and again: the worker would be banned for it, and a limit is no service.
  const looked = probes.filter(({ kind }) => kind !== 'rate-limit');
  if (looked.length === 0) return { before: [], after: [] };
  const after = stillWorks(system, looked, { id: 'health-after', ...patience });
  return {
    before: once('before', SYSTEM_LANE, [before(system, looked)]),
    after: once('after', SYSTEM_LANE, [after]),
  };
}

/** Around a change that is watched before it counts: a look before it, and the watch behind it. The two stages; none for no minutes. */
export function watched(
  system: System,
  probes: readonly Probe[],
  { minutes, tolerated }: { minutes: number; tolerated: number },
): { before: Stage[]; after: Stage[] } {
  if (minutes === 0 || probes.length === 0) return { before: [], after: [] };
  const first = before(system, probes);
  const watch = bake(system, probes, {
    seconds: Math.round(minutes * 60),
    tolerated,
    before: first.id,
    title: `watch ${probes.length} probes for ${durationText(minutes)}`,
  });
  return { before: once('before', SYSTEM_LANE, [first]), after: once('bake', SYSTEM_LANE, [watch]) };
}

const durationText = (minutes: number): string =>
  minutes < 1 ? `${Math.round(minutes * 60)} s` : `${minutes} minute${minutes === 1 ? '' : 's'}`;

/** Behind a part of a change: waits until what passed in the look `before` passes again. It may stand in any lane. */
export function stillWorks(
  system: System,
  probes: readonly Probe[],
  options: Patience & { id: string; before?: string; title?: string },
): Step {
  const { id, before: look = 'health-before', ...patience } = options;
  const { do: call, ...rest } = wait(system, SYSTEM_LANE, probes, {
    ...{ id, title: 'wait until what worked before works again', ...patience },
    why: `${probes.length} probes; those that failed before are not waited for`,
  });
  return { ...rest, do: { ...call, with: { ...call.with, failingBefore: { from: look, path: 'failing' } } } };
}

/** Looks once and reports; never fails for what it finds. */
export function look(system: System, on: string, probes: readonly Probe[]): Step {
  return {
    id: `probe-${on}`,
    title: on === WORKER_HOST ? `look from outside, ${probes.length} probes` : `look at ${on}, ${probes.length} probes`,
    why: 'everything that the manual checks, seen and not assumed',
    do: { activity: 'probeHost', with: { ...looking(system, probes), timeoutSeconds: LOOK_SECONDS } },
    undo: { none: 'it only looks' },
  };
}

/** The probes with the way to each host that they look from, as an activity wants them. Throws `InvalidPlan` for none at all. */
function looking(system: System, probes: readonly Probe[]): Call['with'] {
  if (probes.length === 0) throw failure('InvalidPlan', 'a health check of nothing would always pass');
  const hosts = [...new Set(probes.map(({ on }) => on))].filter((on) => on !== WORKER_HOST);
  // Through JSON: what is undefined is left out, as in the plan's digest.
  return JSON.parse(
    JSON.stringify({ probes, targets: Object.fromEntries(hosts.map((host) => [host, hostTarget(system, host)])) }),
  ) as Call['with'];
}
