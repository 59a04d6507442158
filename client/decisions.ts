import { userInfo } from 'node:os';
import { QueryNotRegisteredError, WorkflowNotFoundError, type WorkflowHandle } from '@temporalio/client';
import {
  decideUpdate,
  SIGNATURE_NAMESPACE,
  signedText,
  type Decision,
  type GateStatus,
} from '../workflows/contracts/gate.js';
import { recoverUpdate, type Recovery, type TakenRecovery } from '../workflows/contracts/hold.js';
import { planQuery, statusQuery, type CurrentPlan, type RunStatus } from '../workflows/contracts/run.js';
import { GuardiaEnd } from '../workflows/contracts/search-attributes.js';
import { CommandFailure } from './command-failure.js';
import type { RunReference } from './run-observer.js';
import { signText } from './signing.js';
import { isNoAnswer, notPassedOn, type TemporalAccess } from './temporal-access.js';
import { withoutWorker, workersSeen } from './workers-seen.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** How long a run may take to answer a question; after this there is no worker, or a stuck one. Milliseconds. */
const QUESTION_MS = 5_000;
/** The same for what a person decides: its signature is verified meanwhile, and that is tried again. Milliseconds. */
const DECISION_MS = 30_000;

/**
 * Asks a run itself, which needs a worker. Throws `unreachable` when none answers, and not Temporal's words for that, and `not found` for what is no run of guardia,
 * or one whose input was refused.
 */
async function ask<T>(
  access: TemporalAccess,
  run: RunReference,
  question: (handle: WorkflowHandle) => Promise<T>,
): Promise<T> {
  const handle = access.client.workflow.getHandle(run.workflowId, run.runId);
  try {
    return await access.client.withDeadline(Date.now() + QUESTION_MS, () => question(handle));
  } catch (error) {
    if (error instanceof QueryNotRegisteredError)
      throw new CommandFailure(
        'not found',
        { message: `${run.workflowId} does not answer as a run of guardia does: ${error.message}` },
        { cause: error },
      );
    const refusal = notPassedOn(error);
    if (refusal === undefined && !isNoAnswer(error)) throw error;
    throw await noWorkerAnswers(access, run, error, refusal ?? `not within ${QUESTION_MS / 1000} s`);
  }
}

/** Tells a run what a person has decided. Throws `unreachable` as `ask` does, and `refused` for a run that has ended meanwhile. */
async function tell<T>(
  access: TemporalAccess,
  run: RunReference,
  milliseconds: number,
  update: (handle: WorkflowHandle) => Promise<T>,
): Promise<T> {
  const handle = access.client.workflow.getHandle(run.workflowId, run.runId);
  try {
    return await access.client.withDeadline(Date.now() + milliseconds, () => update(handle));
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw tooLate(run, error);
    if (!isNoAnswer(error)) throw error;
    throw await noWorkerAnswers(
      access,
      run,
      error,
      `not within ${milliseconds / 1000} s; whether the decision counts is not known, to give it again does no harm`,
    );
  }
}

async function noWorkerAnswers(
  access: TemporalAccess,
  run: RunReference,
  cause: unknown,
  why: string,
): Promise<CommandFailure> {
  // Where it is Temporal that is away, this throws, and says so.
  const seen = await access.client.withDeadline(Date.now() + QUESTION_MS, () => workersSeen(access));
  const nobody = withoutWorker(seen);
  return new CommandFailure(
    'unreachable',
    {
      message: `no worker answers for ${run.workflowId}: ${nobody?.split(': ')[0] ?? why}`,
      remedy:
        nobody?.split(': ')[1] ??
        `One was there a moment ago: look at its log (journalctl -u guardia-worker), and whether the run is parked (guardia watch ${run.workflowId})`,
    },
    { cause },
  );
}

/** A decision about a run that has ended. */
export function tooLate(run: RunReference, cause?: unknown): CommandFailure {
  return new CommandFailure(
    'refused',
    { message: `too late: the run has ended`, remedy: `How it ended: guardia watch ${run.workflowId}` },
    { cause },
  );
}

/** Where a run stands, from the run itself; needs a worker. Throws `unreachable` when none answers. */
export async function statusOf(access: TemporalAccess, run: RunReference): Promise<RunStatus> {
  return ask(access, run, (handle) => handle.query(statusQuery));
}

/** The plan of a run and its digest. Throws `not found` while it has none, or ended without one, and `unreachable` when no worker answers. */
export async function planOf(access: TemporalAccess, run: RunReference): Promise<CurrentPlan> {
  let stranger: unknown;
  const current = await ask(access, run, (handle) => handle.query(planQuery)).catch((error: unknown) => {
    if (!(error instanceof CommandFailure && error.reason === 'not found')) throw error;
    stranger = error;
    return null;
  });
  if (current !== null) return current;
  const { status, typedSearchAttributes } = await access.client.workflow
    .getHandle(run.workflowId, run.runId)
    .describe();
  const ended = status.name !== 'RUNNING' || typedSearchAttributes.get(GuardiaEnd) !== undefined;
  if (stranger !== undefined && !ended) throw stranger;
  throw new CommandFailure('not found', {
    message: `${run.workflowId} ${ended ? 'ended without a plan' : 'has no plan yet'}`,
    remedy: `${ended ? 'How it ended' : 'Wait until it has looked at the hosts'}: guardia watch ${run.workflowId}`,
  });
}

/** The gate that is meant: the one that is open, or one by its name. Throws `refused` where none is. */
export function openGate(status: RunStatus, name: string | undefined): GateStatus {
  if (status.phase === 'ended') throw tooLate(status);
  const open = status.gates.filter(({ state }) => state === 'open');
  const gate = name === undefined ? open[0] : open.find(({ id }) => id === name);
  if (gate) return gate;
  const closed = status.gates.findLast(({ id }) => (name === undefined ? open.length === 0 : id === name));
  throw new CommandFailure(
    'refused',
    closed
      ? {
          message: `too late: the gate "${closed.id}" of ${status.workflowId} is closed: ${howClosed(closed)}; the run is ${status.phase}`,
          remedy: `How it goes on: guardia watch ${status.workflowId}`,
        }
      : {
          message:
            open.length === 0
              ? `${status.workflowId} does not wait for an approval (it is ${status.phase})`
              : `the gate "${name}" of ${status.workflowId} is not open; open: ${open.map(({ id }) => id).join(', ')}`,
        },
  );
}

/** `approved by ana, ben`; a gate that nobody has closed says how it went. */
function howClosed({ state, decisions }: GateStatus): string {
  const by = decisions
    .filter(({ decision }) => decision === (state === 'rejected' ? 'reject' : 'approve'))
    .map(({ approver }) => approver);
  return ['approved', 'rejected'].includes(state) && by.length > 0 ? `${state} by ${by.join(', ')}` : state;
}

/** Who decides, where the command is not told: GUARDIA_APPROVER, or the login name where that is one of those who may. */
export function approverHere(gate: GateStatus, env: Environment): string | undefined {
  const said = env['GUARDIA_APPROVER'];
  if (said !== undefined && said !== '') return said;
  const login = loginName();
  return login !== undefined && gate.approvers.includes(login) ? login : undefined;
}

export function loginName(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}

/**
 * The decision with its signature, for this run and nothing else, good until `expiry` (ISO 8601). `ssh-keygen` asks for a passphrase itself, or the agent
 * signs. Throws `usage` with what ssh-keygen said.
 */
export async function signDecision(
  access: TemporalAccess,
  status: Pick<RunStatus, 'workflowId' | 'runId'>,
  decision: Decision,
  options: { key: string; expiry: string },
): Promise<Decision> {
  const full = { ...decision, expiry: options.expiry };
  const place = { namespace: access.target.namespace, workflowId: status.workflowId, runId: status.runId };
  const signed = await signText(signedText(place, full), { key: options.key, namespace: SIGNATURE_NAMESPACE });
  if (signed.signature === undefined)
    throw new CommandFailure('usage', {
      message: `the decision could not be signed with ${options.key}: ${signed.trouble}`,
      remedy: 'Nothing was decided. Name another key with --key',
    });
  return { ...full, signature: signed.signature };
}

/** Sends a decision. Throws `refused` with the run's own reason, and `unreachable` when no worker takes it. */
export async function decide(
  access: TemporalAccess,
  run: RunReference,
  decision: Decision,
  milliseconds = DECISION_MS,
): Promise<GateStatus> {
  return tell(access, run, milliseconds, (handle) => handle.executeUpdate(decideUpdate, { args: [decision] }));
}

/** Says to a run that holds what to do. Throws as `decide` does. */
export async function recover(
  access: TemporalAccess,
  run: RunReference,
  answer: Recovery,
  milliseconds = DECISION_MS,
): Promise<TakenRecovery> {
  return tell(access, run, milliseconds, (handle) => handle.executeUpdate(recoverUpdate, { args: [answer] }));
}
