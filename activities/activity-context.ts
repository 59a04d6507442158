import { activityInfo, cancellationDetails, cancellationSignal, Context, heartbeat, log } from '@temporalio/activity';
import type { CallContext } from '../workflows/contracts/calls.js';
import { failure, isFailure } from '../workflows/contracts/errors.js';
import type { HostTarget } from '../workflows/contracts/host-target.js';
import type { FollowPosition, Hosts, JobResult, JobSpec } from './hosts/hosts.js';

/** The id of a step's job on its host: the same for every attempt, another for each generation. */
export function jobId(context: Pick<CallContext, 'runId' | 'step'>, generation: number, part?: string): string {
  return `${context.runId}-${context.step}${part ? `-${part}` : ''}-g${generation}`;
}

/** After its own limit and this much more a job's host is not waited for any longer: it stays away. Seconds. */
export const HOST_AWAY_SECONDS = 900;

const places = new WeakMap<Context, unknown>();

/** Says where the activity is: the next attempt goes on from there. */
export function sayWhere(place: unknown): void {
  places.set(Context.current(), place);
  heartbeat(place);
}

/** A sign of life that keeps what was said last, by this attempt or the one before. */
export function beat(): void {
  heartbeat(places.get(Context.current()) ?? activityInfo().heartbeatDetails);
}

/**
 * Runs a step's job from inside an activity: start or attach, follow with heartbeats, go on from the last one after a dead
 * worker. A cancel of the run stops the job; a shutdown of the worker leaves it running for the next attempt.
 */
export async function runStepJob(
  hosts: Hosts,
  target: HostTarget,
  context: CallContext,
  spec: Omit<JobSpec, 'id' | 'runAgainIfLost'>,
  options: { okCodes?: readonly number[] } = {},
): Promise<JobResult> {
  const id = jobId(context, context.generation);
  const details = activityInfo().heartbeatDetails as { job?: string; position?: FollowPosition } | undefined;
  try {
    return await hosts.job(
      target,
      { ...spec, id, runAgainIfLost: context.runAgainIfLost },
      {
        fence: context.fence,
        signal: cancellationSignal(),
        mustHaveEndedBy: activityInfo().scheduledTimestampMs + (spec.timeoutSeconds + HOST_AWAY_SECONDS) * 1000,
        ...(details?.job === id && details.position ? { from: details.position } : {}),
        ...(options.okCodes ? { okCodes: options.okCodes } : {}),
        onPosition: (position) => sayWhere({ job: id, position }),
      },
    );
  } catch (error) {
    if (cancellationSignal().aborted && cancellationDetails()?.cancelRequested) {
      log.info('cancel: stopping the job', { job: id, host: target.name });
      await hosts.cancelJob(target, id);
    }
    // The activity waited for this host as long as made sense: its own retries would begin anew.
    if (isFailure(error, 'HostUnreachable'))
      throw failure('JobLost', `the end of the job ${id} could not be seen: ${error.message}`, { host: target.name });
    throw error;
  }
}

/** Stops every generation of a step's job and waits until it is gone. Idempotent by (run, step). */
export async function cancelStepJobs(hosts: Hosts, target: HostTarget, context: CallContext): Promise<void> {
  for (let generation = 1; generation <= context.generation; generation++) {
    await hosts.cancelJob(target, jobId(context, generation));
  }
}

/** The host of a call. Throws when the plan put a host's call into a lane of no host: a mistake of the planner. */
export function targetOf(context: CallContext): HostTarget {
  if (!context.target) throw new Error(`step ${context.step} needs a host`);
  return context.target;
}
