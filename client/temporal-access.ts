import type { Client } from '@temporalio/client';
import { connectClient, explainTemporalError, type TemporalTarget } from '../activities/temporal/connection.js';
import { runningDevServer } from '../activities/temporal/dev-server-state.js';
import { runPageUrl } from '../activities/temporal/run-page.js';
import { CommandFailure } from './command-failure.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** A Temporal that answers, and where a person looks at it. */
export interface TemporalAccess {
  client: Client;
  target: TemporalTarget;
  /** Address of the Web UI without a slash at its end; undefined when nobody has said it. */
  webUi: string | undefined;
}

/**
 * Connects to the Temporal of the environment (findTarget), runs `use`, and closes the connection.
 * Throws TemporalConnectionError when it cannot be reached, before or in between, and `refused` with its words where it answers that it does not do what it was
 * asked for.
 */
export async function withTemporal<T>(env: Environment, use: (access: TemporalAccess) => Promise<T>): Promise<T> {
  const { client, connection, target } = await connectClient({ env });
  try {
    return await use({ client, target, webUi: webUiOf(target, env) });
  } catch (error) {
    throw errorOfCall(error, target);
  } finally {
    await connection.close();
  }
}

/** GUARDIA_WEB_UI, else what `guardia dev` says about its own server, else Temporal Cloud's by its address. */
export function webUiOf(target: TemporalTarget, env: Environment): string | undefined {
  const said = env['GUARDIA_WEB_UI'];
  if (said !== undefined && said !== '') return said.replace(/\/+$/, '');
  const dev = runningDevServer(env);
  if (dev !== undefined && dev.address === target.address) return dev.uiUrl.replace(/\/+$/, '');
  if (/\.(tmprl\.cloud|temporal\.io)(:\d+)?$/.test(target.address)) return 'https://cloud.temporal.io';
  return undefined;
}

/** The page of a run in the Web UI. */
export function runPage(
  access: Pick<TemporalAccess, 'webUi' | 'target'>,
  run: { workflowId: string; runId?: string | undefined },
): string | undefined {
  return access.webUi === undefined ? undefined : runPageUrl(access.webUi, access.target.namespace, run);
}

/** The form of the Web UI that starts a workflow, filled in as far as a link can. */
export function startPage(
  access: Pick<TemporalAccess, 'webUi' | 'target'>,
  start: { taskQueue: string; workflowType: string; workflowId: string },
): string | undefined {
  if (access.webUi === undefined) return undefined;
  return `${access.webUi}/namespaces/${access.target.namespace}/workflows/start-workflow?${new URLSearchParams(start).toString()}`;
}

/**
 * gRPC statuses of a Temporal that is there and does not do what it is asked for: INVALID_ARGUMENT, ALREADY_EXISTS, RESOURCE_EXHAUSTED, FAILED_PRECONDITION,
 * ABORTED, OUT_OF_RANGE.
 */
const REFUSALS: readonly unknown[] = [3, 6, 8, 9, 10, 11];

/** What went wrong in a call of Temporal, in words and with what to do; anything else as it is. */
export function errorOfCall(error: unknown, target: TemporalTarget): unknown {
  if (!isGrpcError(error)) return error;
  const refusal = causesOf(error).find((at) => 'code' in at && REFUSALS.includes(at.code));
  if (refusal === undefined) return explainTemporalError(error, target);
  const words = 'details' in refusal && typeof refusal.details === 'string' ? refusal.details : refusal.message;
  return new CommandFailure(
    'refused',
    {
      message: `Temporal at ${target.address}, namespace ${target.namespace}, does not do what it was asked for: ${words}`,
      remedy: 'guardia doctor says what its namespace lacks, search attributes among it',
    },
    { cause: error },
  );
}

/** An answer of the server that is about the connection or the namespace, and not about a run. */
export function isGrpcError(error: unknown): boolean {
  if (error instanceof Error && ['WorkflowNotFoundError', 'CommandFailure'].includes(error.name)) return false;
  return causesOf(error).some((at) => 'code' in at && typeof at.code === 'number');
}

/** Whether a call ended because its time was over (gRPC DEADLINE_EXCEEDED) or nobody answered (UNAVAILABLE, CANCELLED). */
export function isNoAnswer(error: unknown): boolean {
  return causesOf(error).some((at) => 'code' in at && [1, 4, 14].includes(at.code as number));
}

/** What the server says of a question to a run that it does not pass on, as no worker has been seen for long or the run is parked (gRPC FAILED_PRECONDITION). */
export function notPassedOn(error: unknown): string | undefined {
  const refusal = causesOf(error).find((at) => 'code' in at && at.code === 9);
  return refusal && ('details' in refusal && typeof refusal.details === 'string' ? refusal.details : refusal.message);
}

/** An error and what caused it. */
function causesOf(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : [];
}
