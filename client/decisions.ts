import { userInfo } from 'node:os';
import {
  decideUpdate,
  SIGNATURE_NAMESPACE,
  signedText,
  type Decision,
  type GateStatus,
} from '../workflows/contracts/gate.js';
import { recoverUpdate, type Recovery, type TakenRecovery } from '../workflows/contracts/hold.js';
import { planQuery, statusQuery, type CurrentPlan, type RunStatus } from '../workflows/contracts/run.js';
import { CommandFailure } from './command-failure.js';
import type { RunReference } from './run-observer.js';
import { signText } from './signing.js';
import type { TemporalAccess } from './temporal-access.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where an open run stands, from the run itself; needs a worker. */
export async function statusOf(access: TemporalAccess, run: RunReference): Promise<RunStatus> {
  return access.client.workflow.getHandle(run.workflowId, run.runId).query(statusQuery);
}

/** The plan of a run and its digest. Throws `not found` while it has none. */
export async function planOf(access: TemporalAccess, run: RunReference): Promise<CurrentPlan> {
  const current = await access.client.workflow.getHandle(run.workflowId, run.runId).query(planQuery);
  if (current === null)
    throw new CommandFailure('not found', {
      message: `${run.workflowId} has no plan yet`,
      remedy: `Wait until it has looked at the hosts: guardia watch ${run.workflowId}`,
    });
  return current;
}

/** The gate that is meant: the one that is open, or one by its name. Throws `refused` where none is. */
export function openGate(status: RunStatus, name: string | undefined): GateStatus {
  const open = status.gates.filter(({ state }) => state === 'open');
  const gate = name === undefined ? open[0] : open.find(({ id }) => id === name);
  if (gate) return gate;
  throw new CommandFailure('refused', {
    message:
      open.length === 0
        ? `${status.workflowId} does not wait for an approval (it is ${status.phase})`
        : `the gate "${name}" of ${status.workflowId} is not open; open: ${open.map(({ id }) => id).join(', ')}`,
  });
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
 * The decision with its signature, for this run and nothing else, good for `minutes`. `ssh-keygen` asks for a passphrase itself, or the agent
 * signs. Throws `usage` with what ssh-keygen said.
 */
export async function signDecision(
  access: TemporalAccess,
  status: Pick<RunStatus, 'workflowId' | 'runId'>,
  decision: Decision,
  options: { key: string; minutes: number; now?: number },
): Promise<Decision> {
  const expiry = new Date((options.now ?? Date.now()) + options.minutes * 60_000).toISOString();
  const full = { ...decision, expiry };
  const place = { namespace: access.target.namespace, workflowId: status.workflowId, runId: status.runId };
  const signed = await signText(signedText(place, full), {
    ...options,
    namespace: SIGNATURE_NAMESPACE,
  });
  if (signed.signature === undefined)
    throw new CommandFailure('usage', {
      message: `the decision could not be signed with ${options.key}: ${signed.trouble}`,
      remedy: 'Nothing was decided. Name another key with --key',
    });
  return { ...full, signature: signed.signature };
}

/** Sends a decision. Throws `refused` with the run's own reason. */
export async function decide(access: TemporalAccess, run: RunReference, decision: Decision): Promise<GateStatus> {
  return access.client.workflow.getHandle(run.workflowId, run.runId).executeUpdate(decideUpdate, { args: [decision] });
}

/** Says to a run that holds what to do. Throws `refused` with the run's own reason. */
export async function recover(access: TemporalAccess, run: RunReference, answer: Recovery): Promise<TakenRecovery> {
  return access.client.workflow.getHandle(run.workflowId, run.runId).executeUpdate(recoverUpdate, { args: [answer] });
}
