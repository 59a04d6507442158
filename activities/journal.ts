import type { CallContext } from '../workflows/contracts/calls.js';
import { failure } from '../workflows/contracts/errors.js';
import type { ApplicationFailure } from '@temporalio/common';
import { targetOf } from './activity-context.js';
import type { Hosts } from './hosts/hosts.js';

/**
 * What this step has to remember for its undo: read from the host's journal, or looked at now and written there before anything is
 * changed. The first entry of (run, step) stays and is the one returned, so that a retry never takes its own work, or that of an attempt
 * beside it, for the original state. `fresh` tells a first attempt.
 */
export async function remember<T>(
  hosts: Hosts,
  context: CallContext,
  look: () => Promise<T>,
): Promise<{ entry: T; fresh: boolean }> {
  const earlier = await recall<T>(hosts, context);
  if (earlier !== undefined) return { entry: earlier, fresh: false };
  const entry = await look();
  const { kept } = await hosts.journalPut(
    targetOf(context),
    { run: context.runId, step: context.step, content: Buffer.from(JSON.stringify(entry)) },
    { fence: context.fence },
  );
  return kept === undefined ? { entry, fresh: true } : { entry: parsed<T>(kept), fresh: false };
}

/** What this step has written into the journal; undefined where it changed nothing, because it never came so far. */
export async function recall<T>(hosts: Hosts, context: CallContext): Promise<T | undefined> {
  const content = await hosts.journalGet(targetOf(context), context.runId, context.step);
  return content === undefined ? undefined : parsed<T>(content);
}

const parsed = <T>(content: Buffer): T => JSON.parse(content.toString('utf8')) as T;

/** Something is neither as the step found it nor as the step was to leave it: touching it would destroy somebody's work. */
export function thirdState(context: CallContext, what: string, remedy: string): ApplicationFailure {
  const host = targetOf(context).name;
  return failure('ThirdState', `${what} on ${host} was changed by somebody else since`, {
    host,
    step: context.step,
    remedy,
  });
}
