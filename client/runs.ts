import { randomBytes, randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import {
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
  type WorkflowExecutionInfo,
} from '@temporalio/client';
import { decodeArrayFromPayloads } from '@temporalio/common/lib/internal-non-workflow/index.js';
import { Name } from '../workflows/contracts/names.js';
import { runbooks, type Runbook } from '../workflows/contracts/runbooks.js';
import {
  GuardiaEnd,
  GuardiaPhase,
  GuardiaRequester,
  GuardiaSystem,
  GuardiaWaitingFor,
} from '../workflows/contracts/search-attributes.js';
import { WORKFLOW_TASK_QUEUE } from '../workflows/contracts/task-queues.js';
import { parseLockWorkflowId, parseRunWorkflowId, runWorkflowId } from '../workflows/contracts/workflow-ids.js';
import { CommandFailure } from './command-failure.js';
import type { RunReference } from './run-observer.js';
import { endOf, type RunEnd } from './run-view.js';
import { isGrpcError, type TemporalAccess } from './temporal-access.js';

/** The end of a workflow id for a run started now: `20251122T082305-4fz`. Sorts by time; two starts in one second differ. */
export function newRunSuffix(now: Date = new Date()): string {
  const time = now.toISOString().slice(0, 19).replace(/[-:]/g, '');
  return `${time}-${(randomBytes(2).readUInt16BE() + 36 ** 3).toString(36).slice(-3)}`;
}

export interface StartedRun {
  workflowId: string;
  runId: string;
  /** False: a run of this id was there already, with the same input, and nothing new was started. */
  started: boolean;
}

/**
 * Starts a run. Idempotent by `RUNBOOK/SYSTEM/SUFFIX`: a second start with the same input finds the first run, open or ended.
 * `input` must have passed the runbook's schema. Throws `refused` when the id belongs to a run with another input.
 */
export async function startRun(
  access: TemporalAccess,
  start: { runbook: Runbook; input: Record<string, unknown> & { system: string }; suffix: string },
): Promise<StartedRun> {
  const { runbook, input, suffix } = start;
  const workflowId = runWorkflowId(runbook.name, input.system, suffix);
  const requester = typeof input['requester'] === 'string' ? input['requester'] : 'unknown';
  try {
    const handle = await access.client.workflow.start(runbook.name, {
      workflowId,
      taskQueue: WORKFLOW_TASK_QUEUE,
      args: [input],
      // A closed run keeps its id too: a script that starts twice must not back up twice.
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      workflowIdConflictPolicy: 'FAIL',
      staticSummary:
        `${input['plan'] === true ? 'plan of ' : ''}${runbook.name} of ${input.system} for ${requester}`.slice(0, 180),
      staticDetails: [
        `**${runbook.title}** (system \`${input.system}\`), requested by ${requester} with the \`guardia\` command.`,
        ...(typeof input['reason'] === 'string' ? [`Reason: ${input['reason']}`] : []),
        `\`guardia watch ${workflowId}\` shows it in a terminal, \`guardia cancel ${workflowId}\` cancels it.`,
      ].join('\n\n'),
    });
    return { workflowId, runId: handle.firstExecutionRunId, started: true };
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    const first = await inputOf(access, { workflowId });
    const other = differences(first.input, input);
    if (other.length > 0)
      throw new CommandFailure(
        'refused',
        {
          message: `there is a run ${workflowId} already, started with another input (${other.join(', ')} differ); nothing was started`,
          remedy: `Look at it: guardia watch ${workflowId}. Or choose another --id`,
        },
        { cause: error },
      );
    return { workflowId, runId: first.runId, started: false };
  }
}

/** Who asks and why does not make it another run. */
function differences(a: Record<string, unknown>, b: Record<string, unknown>): string[] {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  names.delete('requester');
  names.delete('reason');
  names.delete('requesterProof');
  return [...names].filter((name) => !isDeepStrictEqual(a[name] ?? false, b[name] ?? false));
}

/** The input that a run was started with; empty where it is none or cannot be decoded, as another client may have written it. Throws as Temporal does. */
export async function inputOf(
  access: TemporalAccess,
  run: RunReference,
): Promise<{ runId: string; input: Record<string, unknown> }> {
  const { client, target } = access;
  const { runId } = await client.workflow.getHandle(run.workflowId, run.runId).describe();
  const { history } = await client.workflowService.getWorkflowExecutionHistory({
    namespace: target.namespace,
    execution: { workflowId: run.workflowId, runId },
    maximumPageSize: 1,
  });
  const payloads = history?.events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads;
  const [input] = await decodeArrayFromPayloads(client.options.loadedDataConverter, payloads).catch(() => []);
  return { runId, input: typeof input === 'object' && input !== null ? (input as Record<string, unknown>) : {} };
}

/** One line about a run, from Temporal's list: cheap, and it needs no worker. */
export interface RunSummary {
  workflowId: string;
  runId: string;
  runbook: string;
  system?: string | undefined;
  requester?: string | undefined;
  /** The run that this one is a step of. */
  parent?: { workflowId: string; runId: string } | undefined;
  open: boolean;
  /** Where it is; of a run that was terminated or timed out, where it was. */
  phase?: string | undefined;
  waitingFor?: string | undefined;
  end?: RunEnd | undefined;
  startedAt: string;
  endedAt?: string | undefined;
}

const ofRunbooks = `WorkflowType IN (${Object.keys(runbooks)
  .map((name) => `'${name}'`)
  .join(', ')})`;

/**
 * Runs of the runbooks, the newest first. `open` keeps those that run (or that have ended); `limit` cuts the list.
 * The list follows a run's changes with a delay of up to a second or so.
 */
export async function listRuns(
  access: TemporalAccess,
  filter: {
    system?: string | undefined;
    runbook?: string | undefined;
    open?: boolean;
    /** The beginning of a workflow id, or a whole run id. */
    id?: string;
    limit?: number;
    /** False leaves out runs that only made a plan. */
    dryRuns?: boolean;
    /** False leaves out runs that are a step of another one. */
    steps?: boolean;
    /** Further conditions, as Temporal's list filter has them. */
    where?: readonly string[];
  } = {},
): Promise<RunSummary[]> {
  const { system, runbook, open, id, limit = 100, dryRuns = true, steps = true, where = [] } = filter;
  const conditions = [ofRunbooks, ...where];
  if (runbook !== undefined) conditions.push(`WorkflowType = '${nameIn(runbook, 'runbook')}'`);
  // A run that no worker has taken up yet has no search attributes: its id says as much, or else its input, which no query knows.
  if (system !== undefined) {
    const ids = (runbook === undefined ? Object.keys(runbooks) : [runbook]).map(
      (name) => `WorkflowId STARTS_WITH '${name}/${system}/'`,
    );
    const notTakenUp = open === false ? [] : ["(GuardiaSystem IS NULL AND ExecutionStatus = 'Running')"];
    conditions.push(`(${[`GuardiaSystem = '${nameIn(system, 'system')}'`, ...ids, ...notTakenUp].join(' OR ')})`);
  }
  if (open !== undefined) conditions.push(open ? "ExecutionStatus = 'Running'" : "ExecutionStatus != 'Running'");
  if (!steps) conditions.push('ParentWorkflowId IS NULL');
  if (!dryRuns) conditions.push("(GuardiaEnd IS NULL OR GuardiaEnd != 'planned')");
  if (id !== undefined) conditions.push(`(WorkflowId STARTS_WITH '${id}' OR RunId = '${id}')`);
  const found: RunSummary[] = [];
  // Open runs come first, then closed ones from the last end on.
  for await (const info of access.client.workflow.list({
    query: conditions.join(' AND '),
    pageSize: Math.min(limit, 200),
  })) {
    const run = summaryOf(info);
    if (run.open) run.system = await systemOf(access, run);
    if (run.open && system !== undefined && run.system !== system) continue;
    found.push(run);
    if (found.length >= limit) break;
  }
  return found.sort((a, b) => (a.startedAt < b.startedAt ? 1 : a.startedAt > b.startedAt ? -1 : 0));
}

/** The system of a run: by its search attributes or its id, else by the input that it was started with. */
export async function systemOf(access: TemporalAccess, run: RunSummary): Promise<string | undefined> {
  if (run.system !== undefined) return run.system;
  try {
    return Name.safeParse((await inputOf(access, run)).input['system']).data;
  } catch (error) {
    // One that is gone meanwhile names no system.
    if (isGrpcError(error)) throw error;
    return undefined;
  }
}

function nameIn(value: string, what: string): string {
  if (Name.safeParse(value).success) return value;
  throw new CommandFailure('usage', { message: `${JSON.stringify(value)} is not the name of a ${what}` });
}

const parentOf = ({ workflowId, runId }: NonNullable<WorkflowExecutionInfo['parentExecution']>) => ({
  workflowId: workflowId ?? '',
  runId: runId ?? '',
});

function summaryOf(info: WorkflowExecutionInfo): RunSummary {
  const attributes = info.typedSearchAttributes;
  const open = info.status.name === 'RUNNING';
  const end = open ? undefined : endOf(info);
  return {
    workflowId: info.workflowId,
    runId: info.runId,
    runbook: info.type,
    system: attributes.get(GuardiaSystem) ?? parseRunWorkflowId(info.workflowId)?.system,
    requester: attributes.get(GuardiaRequester),
    ...(info.parentExecution ? { parent: parentOf(info.parentExecution) } : {}),
    open,
    ...(open ? { waitingFor: attributes.get(GuardiaWaitingFor) } : { end }),
    ...(open || end === 'terminated' || end === 'timed out' ? { phase: attributes.get(GuardiaPhase) } : {}),
    startedAt: info.startTime.toISOString(),
    endedAt: info.closeTime?.toISOString(),
  };
}

/**
 * The run that a person means: a workflow id, the beginning of one that fits a single run, a run id, `latest`, or a runbook
 * and a system for the newest run of these: of those that were started by themselves and do more than plan. `toAnswer`: the newest that is still open, if there is one.
 * Throws `not found`, and `usage` for an empty reference and, with the candidates, when several fit.
 */
export async function findRun(
  access: TemporalAccess,
  reference: string,
  system?: string,
  { toAnswer = false }: { toAnswer?: boolean } = {},
): Promise<RunSummary> {
  const notFound = (what: string): CommandFailure =>
    new CommandFailure('not found', {
      message: `there is no run ${what}`,
      remedy: '`guardia status` lists the last runs',
    });
  if (reference === '') throw new CommandFailure('usage', { message: 'the id of the run is empty' });
  if (system !== undefined || reference === 'latest') {
    const wanted = { ...(system === undefined ? {} : { runbook: reference, system }), dryRuns: false, steps: false };
    const [open] = toAnswer ? await listRuns(access, { ...wanted, open: true }) : [];
    const newest = open ?? (await listRuns(access, wanted))[0];
    if (newest === undefined) throw notFound(system === undefined ? 'yet' : `of ${reference} on ${system}`);
    return newest;
  }
  try {
    const description = await access.client.workflow.getHandle(reference).describe();
    if (parseLockWorkflowId(reference) === undefined) return summaryOf({ ...description, raw: {} });
    const holder = description.parentExecution?.workflowId;
    throw new CommandFailure('not found', {
      message: `${reference} is a lock and no run${holder ? `; ${holder} holds it` : ''}`,
      ...(holder ? { remedy: `guardia watch ${holder}` } : {}),
    });
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  }
  if (/['"\\]/.test(reference)) throw notFound(reference);
  const fitting = await listRuns(access, { id: reference, limit: 200 });
  const [only, ...more] = fitting;
  if (only === undefined) throw notFound(reference);
  if (more.length === 0) return only;
  const shown = fitting
    .slice(0, 10)
    .map((run) => `${run.workflowId} (${run.open ? (run.phase ?? 'open') : run.end}, started ${run.startedAt})`);
  const parts = reference.replace(/\/$/, '').split('/');
  throw new CommandFailure('usage', {
    message: `${fitting.length} runs begin with ${reference}:\n${shown.join('\n')}${fitting.length > 10 ? '\n...' : ''}`,
    remedy: parts.length === 2 ? `For the newest of them: guardia watch ${parts.join(' ')}` : 'Say which one',
  });
}

/**
 * Asks a run to stop, undo what it did, and end. Returns at once; the run may take its time. Idempotent: asking again changes
 * nothing, and neither does asking a run that has ended (`false`).
 */
export async function cancelRun(
  access: TemporalAccess,
  run: RunReference,
  why: { reason?: string | undefined; requester: string },
): Promise<boolean> {
  const { client, target } = access;
  const { status, runId, typedSearchAttributes } = await client.workflow
    .getHandle(run.workflowId, run.runId)
    .describe();
  // One that has ended may still tell of it.
  if (status.name !== 'RUNNING' || typedSearchAttributes.get(GuardiaEnd) !== undefined) return false;
  try {
    await client.workflowService.requestCancelWorkflowExecution({
      namespace: target.namespace,
      workflowExecution: { workflowId: run.workflowId, runId },
      requestId: randomUUID(),
      identity: why.requester,
      reason: why.reason ?? `by ${why.requester}`,
    });
  } catch (error) {
    // It ended meanwhile.
    if ((error as { code?: unknown }).code === 5) return false;
    throw error;
  }
  return true;
}

export interface HeldLock {
  system: string;
  /** Absent: the lock of the system itself. */
  host?: string;
  /** The run that holds it. */
  workflowId: string | undefined;
  runId: string | undefined;
  since: string;
}

/** The systems and hosts that are held now, and by which run. */
export async function listLocks(access: TemporalAccess): Promise<HeldLock[]> {
  const locks: HeldLock[] = [];
  for await (const info of access.client.workflow.list({
    query: "WorkflowType = 'lock' AND ExecutionStatus = 'Running'",
  })) {
    const lock = parseLockWorkflowId(info.workflowId);
    if (lock === undefined) continue;
    const { workflowId, runId } = info.parentExecution ?? {};
    locks.push({
      ...lock,
      workflowId: workflowId ?? undefined,
      runId: runId ?? undefined,
      since: info.startTime.toISOString(),
    });
  }
  const order = ({ system, host = '' }: HeldLock): string => `${system}/${host}`;
  return locks.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}
