import { proxyActivities } from '@temporalio/workflow';
import { calls, isCallName, type CallContext, type CallInput, type CallKind } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import { hostTarget, type HostTarget } from '../contracts/host-target.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { Call } from '../contracts/plan.js';
import type { System } from '../contracts/system.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../contracts/task-queues.js';
import { activityOptions, type Patience } from './activity-options.js';

/** Gives a runbook its activities for a host: it chooses the task queue of the host's site. */
export function taskQueueFor(target: HostTarget | undefined): string {
  return taskQueueOfSite(target?.site ?? DEFAULT_SITE);
}

/** The target of a lane; undefined for the lane of no host. */
export function laneTarget(system: System, on: string): HostTarget | undefined {
  return on === SYSTEM_LANE ? undefined : hostTarget(system, on);
}

/** Runs one call of a plan as an activity. `summary` is what the Web UI shows for it. */
export async function runCall(
  call: Call,
  context: CallContext,
  options: { summary: string; undo?: Patience },
): Promise<Record<string, unknown> | undefined> {
  if (!isCallName(call.activity))
    throw failure('InvalidPlan', `the plan calls ${call.activity}, which this version does not have`);
  const kind: CallKind = calls[call.activity];
  if (kind === 'runbook') throw failure('InvalidPlan', `${call.activity} is a run of its own, and no activity`);
  const seconds = call.with['timeoutSeconds'];
  const activities = proxyActivities<
    Record<string, (input: CallInput) => Promise<Record<string, unknown> | undefined>>
  >({
    ...activityOptions(kind, {
      ...(typeof seconds === 'number' ? { timeoutSeconds: seconds } : {}),
      ...(options.undo ? { undo: options.undo } : {}),
    }),
    taskQueue: taskQueueFor(context.target),
    summary: options.summary.slice(0, 180),
  });
  const activity = activities[call.activity];
  if (!activity) throw failure('InvalidPlan', `no activity ${call.activity}`);
  return activity({ with: call.with, context });
}

/** Replaces every `{ from, path }` in an argument by that result of an earlier step. Throws `InvalidPlan` where there is none. */
export function resolveReferences(value: unknown, results: ReadonlyMap<string, unknown>): unknown {
  if (Array.isArray(value)) return value.map((item) => resolveReferences(item, results));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value);
  const reference = referenceIn(value);
  if (!reference) return Object.fromEntries(entries.map(([key, item]) => [key, resolveReferences(item, results)]));
  let found = results.get(reference.from);
  for (const part of reference.path === '' ? [] : reference.path.split('.'))
    found = (found as Record<string, unknown> | undefined)?.[part];
  if (found === undefined) throw failure('InvalidPlan', `step ${reference.from} gave no ${reference.path}`);
  return found;
}

/** `{ from, path }` and nothing else is a reference. */
export function referenceIn(value: object): { from: string; path: string } | undefined {
  const { from, path } = value as { from?: unknown; path?: unknown };
  return Object.keys(value).length === 2 && typeof from === 'string' && typeof path === 'string'
    ? { from, path }
    : undefined;
}
