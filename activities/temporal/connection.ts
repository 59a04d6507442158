import { existsSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { Client, Connection, type ClientOptions } from '@temporalio/client';
import { loadClientConfig, loadClientConnectConfig } from '@temporalio/envconfig';
import type { NativeConnection, NativeConnectionOptions } from '@temporalio/worker';
import { runningDevServer } from './dev-server-state.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Which Temporal to talk to, and who said so. */
export interface TemporalTarget {
  /** host:port */
  address: string;
  namespace: string;
  /** For messages: `TEMPORAL_ADDRESS`, `profile "prod"`, `guardia dev`, `default address`. */
  source: string;
  /** Everything a connection takes: address, TLS, API key, headers. Holds secrets: never print it. */
  connection: NativeConnectionOptions;
}

/** Temporal is not configured rightly, not reachable, or refuses us. The message is written for the operator. */
export class TemporalConnectionError extends Error {
  override readonly name = 'TemporalConnectionError';
}

const DEFAULT_ADDRESS = 'localhost:7233';
const CONNECT_SECONDS = 10;

/**
 * The Temporal that the environment names: TEMPORAL_ADDRESS, or a profile (TEMPORAL_PROFILE, else `default`) of the configuration file
 * (TEMPORAL_CONFIG_FILE, else temporalio/temporal.toml in the user's configuration directory), the same as the `temporal` command reads.
 * Undefined when it names none.
 * Throws TemporalConnectionError for a file or a profile that is named but cannot be used.
 */
export function configuredTarget(env: Environment = process.env): TemporalTarget | undefined {
  const variables = definedOnly(env);
  const file = variables['TEMPORAL_CONFIG_FILE'];
  const profile = variables['TEMPORAL_PROFILE'];
  // The loader takes a missing file for an empty one, also when it was named.
  if (file !== undefined && !existsSync(file)) {
    throw new TemporalConnectionError(
      `TEMPORAL_CONFIG_FILE names ${file}, which does not exist. Correct it, or unset it`,
    );
  }
  const where = file ?? 'temporalio/temporal.toml in the configuration directory';
  try {
    const { connectionOptions, namespace } = loadClientConnectConfig({ overrideEnvVars: variables });
    const address = connectionOptions.address;
    if (address === undefined || address === '') {
      if (profile !== undefined) throw new Error(`profile "${profile}" names no address`);
      return undefined;
    }
    const source =
      variables['TEMPORAL_ADDRESS'] !== undefined ? 'TEMPORAL_ADDRESS' : `profile "${profile ?? 'default'}"`;
    return { address, namespace: namespace ?? 'default', source, connection: withoutUndefined(connectionOptions) };
  } catch (error) {
    throw new TemporalConnectionError(
      `cannot read the connection to Temporal from TEMPORAL_* variables and ${where}: ${messageOf(error)}${knownProfiles(variables)}`,
      { cause: error },
    );
  }
}

/**
 * The Temporal to talk to: the configured one, else the `guardia dev` that runs on this machine, else localhost:7233. TEMPORAL_NAMESPACE
 * holds for each.
 * Throws TemporalConnectionError as configuredTarget does.
 */
export function findTarget(env: Environment = process.env): TemporalTarget {
  const configured = configuredTarget(env);
  if (configured !== undefined) return configured;
  const dev = runningDevServer(env);
  const address = dev?.address ?? DEFAULT_ADDRESS;
  return {
    address,
    namespace: env['TEMPORAL_NAMESPACE'] ?? dev?.namespace ?? 'default',
    source: dev === undefined ? 'default address' : 'guardia dev',
    connection: { address },
  };
}

/**
 * A client on the Temporal that findTarget names. The caller closes `connection`.
 * Throws TemporalConnectionError when it cannot be reached within 10 seconds or refuses us.
 */
export async function connectClient(
  options: {
    env?: Environment;
    target?: TemporalTarget;
    client?: Omit<ClientOptions, 'connection' | 'namespace'>;
  } = {},
): Promise<{ client: Client; connection: Connection; target: TemporalTarget }> {
  const target = options.target ?? findTarget(options.env);
  const { address, tls, apiKey, metadata } = target.connection;
  try {
    await probe(target, options.env);
    const connection = await Connection.connect({
      ...withoutUndefined({ address, tls, apiKey, metadata }),
      connectTimeout: CONNECT_SECONDS * 1000,
    });
    return { client: new Client({ ...options.client, connection, namespace: target.namespace }), connection, target };
  } catch (error) {
    throw explainTemporalError(error, target);
  }
}

/**
 * A worker's connection to the Temporal that findTarget names. The caller closes it after its workers have stopped.
 * Install the Runtime (logging, telemetry) first: connecting creates one.
 * Throws TemporalConnectionError when it cannot be reached or refuses us.
 */
export async function connectWorker(
  options: { env?: Environment; target?: TemporalTarget } = {},
): Promise<{ connection: NativeConnection; target: TemporalTarget }> {
  const target = options.target ?? findTarget(options.env);
  // Loaded here and not above: the command line needs a client only, and the native library takes its time.
  const { NativeConnection: Native } = await import('@temporalio/worker');
  try {
    await probe(target, options.env);
    return { connection: await Native.connect(target.connection), target };
  } catch (error) {
    throw explainTemporalError(error, target);
  }
}

/**
 * Opens and closes a TCP connection. gRPC waits out its deadline and then says only that; this says at once whether the name is unknown,
 * the connection refused or nobody answers. Left out behind a proxy, where only gRPC knows the way.
 */
async function probe(target: TemporalTarget, env: Environment = process.env): Promise<void> {
  if (['grpc_proxy', 'https_proxy', 'http_proxy'].some((name) => (env[name] ?? env[name.toUpperCase()] ?? '') !== ''))
    return;
  const { hostname, port } = new URL(`tcp://${target.address}`);
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  await new Promise<void>((resolve, reject) => {
    const socket = connectTcp({ host, port: port === '' ? 7233 : Number(port), timeout: CONNECT_SECONDS * 1000 });
    const end = (error?: Error) => {
      socket.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    socket.once('connect', () => end());
    socket.once('timeout', () => end(new Error(`no answer within ${CONNECT_SECONDS} s`)));
    socket.once('error', (error) =>
      end(new Error(TCP_ERRORS[(error as NodeJS.ErrnoException).code ?? ''] ?? error.message)),
    );
  });
}

const TCP_ERRORS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused, nothing listens there',
  ENOTFOUND: 'the host name is unknown',
  EAI_AGAIN: 'the host name cannot be looked up now',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
};

/** gRPC status codes that have a remedy of their own. */
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;

/** Any error of a call to Temporal as one sentence about what happened, where, and what to do. */
export function explainTemporalError(error: unknown, target: TemporalTarget): TemporalConnectionError {
  if (error instanceof TemporalConnectionError) return error;
  const at = `${target.address} (from ${target.source})`;
  const code = grpcCode(error);
  const detail = rootMessage(error);
  const says = (text: string) => new TemporalConnectionError(text, { cause: error });
  if (code === UNAUTHENTICATED || code === PERMISSION_DENIED || /Unauthenticated|PermissionDenied/.test(detail)) {
    return says(
      `Temporal at ${at} refuses us in namespace ${target.namespace}: ${detail}. Check the API key or client certificate, and that the namespace is written in full`,
    );
  }
  if (code === NOT_FOUND || (error instanceof Error && error.name === 'NamespaceNotFoundError')) {
    return says(
      `Temporal at ${at} has no namespace ${target.namespace}: ${detail}. Create it, or set TEMPORAL_NAMESPACE`,
    );
  }
  const tls = target.connection.tls ? 'with TLS' : 'without TLS';
  const reason =
    /before the deadline|deadline exceeded|transport error|h2 protocol error|InvalidCertificate|broken pipe/i.test(
      detail,
    )
      ? `it takes connections but does not answer as Temporal ${tls} (${detail}); check TEMPORAL_TLS and the certificates`
      : detail;
  return says(
    `cannot reach Temporal at ${at}: ${reason}; start one with \`guardia dev\`, or set TEMPORAL_ADDRESS or a profile (TEMPORAL_PROFILE)`,
  );
}

function grpcCode(error: unknown): number | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'number') return at.code;
  }
  return undefined;
}

/** The innermost message, on one line: outer ones only say that connecting failed. */
function rootMessage(error: unknown): string {
  let message = messageOf(error);
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const own = 'details' in at && typeof at.details === 'string' && at.details !== '' ? at.details : at.message;
    if (own !== '') message = own;
  }
  return message.replaceAll(/\s+/g, ' ').trim();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function knownProfiles(variables: Record<string, string>): string {
  try {
    const names = Object.keys(loadClientConfig({ overrideEnvVars: variables }).profiles);
    return names.length === 0 ? '' : `. Profiles there: ${names.join(', ')}`;
  } catch {
    return '';
  }
}

function definedOnly(env: Environment): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
