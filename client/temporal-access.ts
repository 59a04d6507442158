import type { Client } from '@temporalio/client';
import { connectClient, explainTemporalError, type TemporalTarget } from '../activities/temporal/connection.js';
import { runningDevServer } from '../activities/temporal/dev-server-state.js';
import { runPageUrl } from '../activities/temporal/run-page.js';

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
 * Throws TemporalConnectionError when it cannot be reached, before or in between.
 */
export async function withTemporal<T>(env: Environment, use: (access: TemporalAccess) => Promise<T>): Promise<T> {
  const { client, connection, target } = await connectClient({ env });
  try {
    return await use({ client, target, webUi: webUiOf(target, env) });
  } catch (error) {
    throw isGrpcError(error) ? explainTemporalError(error, target) : error;
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

/** An answer of the server that is about the connection or the namespace, and not about a run. */
export function isGrpcError(error: unknown): boolean {
  if (error instanceof Error && ['WorkflowNotFoundError', 'CommandFailure'].includes(error.name)) return false;
  for (let at: unknown = error; at instanceof Error; at = at.cause)
    if ('code' in at && typeof at.code === 'number') return true;
  return false;
}

/** Whether a call ended because its time was over (gRPC DEADLINE_EXCEEDED) or nobody answered (UNAVAILABLE, CANCELLED). */
export function isNoAnswer(error: unknown): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause)
    if ('code' in at && [1, 4, 14].includes(at.code as number)) return true;
  return false;
}
