// How a run ends that did not reach its goal, and what it says of it.
import { isCancellation } from '@temporalio/workflow';
import type { FailureType } from '../contracts/errors.js';
import type { EndState } from '../contracts/run.js';
import type { FailedStep } from './apply.js';
import { applicationFailureIn, reasonOf, type Progress } from './progress.js';
import type { Saga } from './saga.js';

/** Failures before anything was started: the run was refused, it did not fail. */
const refusals = new Set<string>([
  'InvalidInput',
  'UnknownSystem',
  'InvalidInventory',
  'UnsetValue',
  'InvalidPlan',
  'HostLocked',
  'LeftBehind',
  'DataAtStake',
  'NobodyMayDecide',
] satisfies FailureType[]);

/** Why a run did not reach its goal; `failed`: the step that the error belongs to. Pure. */
export function whatFailed(error: unknown, failed: FailedStep | undefined): string {
  if (isCancellation(error)) return 'it was cancelled';
  return failed ? `step "${failed.step.title}" on ${failed.on} failed: ${reasonOf(error)}` : reasonOf(error);
}

/** How a run ends that did not reach its goal. Pure. */
export function endOf(
  error: unknown,
  run: { started: boolean; changed: boolean; incomplete: boolean; saga: Saga },
): EndState {
  const failed = applicationFailureIn(error);
  const type = failed?.type ?? '';
  if (run.incomplete) return 'rollback incomplete';
  if (isCancellation(error)) return 'cancelled';
  const undone = run.changed && !run.saga.committed;
  const onTimeout = (failed?.details?.[0] as { onTimeout?: string } | undefined)?.onTimeout;
  if (type === 'ApprovalRejected' || (type === 'ApprovalTimedOut' && !(onTimeout === 'rollback' && undone)))
    return 'rejected';
  if (undone) return 'rolled back';
  return refusals.has(type) && !run.started ? 'refused' : 'failed';
}

/** What a run that did not reach its goal leaves behind: the end of its sentence. Pure. */
export function standing(run: { saga: Saga; changed: boolean; incomplete: boolean; progress: Progress }): string {
  const { saga, changed, incomplete } = run;
  const { remaining, steps } = run.progress.status;
  const stands = saga.committed ? `everything up to "${saga.committed.title}" stands` : undefined;
  if (remaining.length > 0) {
    const more = remaining.length > 3 ? ` and ${remaining.length - 3} more` : '';
    const what = incomplete ? 'not everything could be undone' : 'to be done by hand';
    return `${stands ? `${stands}; ` : ''}${what}: ${remaining.slice(0, 3).join('; ')}${more}`;
  }
  if (stands) return changed ? `${stands}, what came after it was undone` : stands;
  if (changed) return 'everything before it was undone';
  return steps.some(({ state }) => state !== 'waiting') ? 'nothing had to be undone' : 'nothing was started';
}
