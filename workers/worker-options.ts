import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import { DefaultLogger, Runtime, type LogLevel, type NativeConnection, type WorkerOptions } from '@temporalio/worker';

/** The workflow bundle that the build makes (bundle.ts), also when this file itself runs uncompiled under a test. */
export const WORKFLOW_BUNDLE = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../.build/workflow-bundle.js' : '../workflow-bundle.js', import.meta.url),
);

/** How long a stopping worker lets its activities come to a good place; then they are cancelled with WORKER_SHUTDOWN and retried elsewhere. */
export const SHUTDOWN_GRACE_SECONDS = 60;
/** When a stopping worker gives up on activities that ignore even that. What stops workers from outside waits longer than this. */
export const SHUTDOWN_FORCE_SECONDS = 75;

/**
 * Installs the SDK's runtime: one line on stderr for each message, ours and the native library's alike. Once in a process, before any
 * connection.
 */
export function installRuntime(options: { level?: LogLevel; write?: (line: string) => void } = {}): void {
  const level = options.level ?? 'INFO';
  const write = options.write ?? ((line: string) => process.stderr.write(`${line}\n`));
  Runtime.install({
    logger: new DefaultLogger(level, (entry) =>
      write(logLine(new Date(Number(entry.timestampNanos / 1_000_000n)), entry.level, entry.message, entry.meta)),
    ),
    telemetryOptions: { logging: { filter: { core: 'WARN', other: 'ERROR' }, forward: {} } },
    // The Runtime stops every worker of the process on these.
    shutdownSignals: ['SIGINT', 'SIGTERM'],
  });
}

/** Attributes of the SDK's own that say nothing to an operator. */
const NOISE = new Set([
  'taskToken',
  'sdkComponent',
  'namespace',
  'isLocal',
  'workflowExecution',
  'activityId',
  'taskQueue',
  'subsystem',
]);

/** `TIME LEVEL message key=value ...`, always one line: line ends in messages and stacks become `\n`. */
export function logLine(
  time: Date,
  level: string,
  message: string,
  attributes: Readonly<Record<string, unknown>> = {},
): string {
  const pairs = Object.entries(attributes)
    .filter(([key, value]) => !NOISE.has(key) && value !== undefined && value !== '')
    .map(([key, value]) => `${key}=${attributeText(value)}`);
  const line = [time.toISOString(), level.padEnd(5), message, ...pairs].join(' ');
  return line.replaceAll(/\r?\n|[\r\u2028\u2029]/g, '\\n');
}

function attributeText(value: unknown): string {
  const text =
    value instanceof Error ? (value.stack ?? value.message) : typeof value === 'string' ? value : json(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

function json(value: unknown): string {
  try {
    return (
      JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner)) ?? String(value)
    );
  } catch {
    return String(value);
  }
}

/** What every worker of guardia has in common. */
function shared(options: { connection: NativeConnection; namespace: string; taskQueue: string }): WorkerOptions {
  return {
    ...options,
    identity: `${options.taskQueue}@${hostname()}:${process.pid}`,
    shutdownGraceTime: SHUTDOWN_GRACE_SECONDS * 1000,
    shutdownForceTime: SHUTDOWN_FORCE_SECONDS * 1000,
    // A plan's progress is seen, and followed again after a crash, with this delay at most; the SDK's own is up to 60 s.
    maxHeartbeatThrottleInterval: '5s',
    defaultHeartbeatThrottleInterval: '5s',
  };
}

/**
 * The worker that runs workflows and their local activities (planners, cheap reads), from the bundle that the build made.
 * `bundle`: path of another bundle, for tests.
 */
export function workflowWorkerOptions(options: {
  connection: NativeConnection;
  namespace: string;
  taskQueue: string;
  activities?: object;
  bundle?: string;
}): WorkerOptions {
  const { bundle = WORKFLOW_BUNDLE, activities, ...rest } = options;
  return {
    ...shared(rest),
    ...(activities === undefined ? {} : { activities }),
    workflowBundle: { codePath: bundle },
    // A run keeps about a megabyte while it is cached; an evicted one is replayed when it goes on.
    maxCachedWorkflows: 200,
    maxConcurrentWorkflowTaskExecutions: 40,
    workflowTaskPollerBehavior: { type: 'autoscaling', minimum: 2, initial: 2, maximum: 10 },
    maxConcurrentLocalActivityExecutions: 20,
    maxConcurrentActivityTaskExecutions: 200,
    activityTaskPollerBehavior: { type: 'autoscaling', minimum: 1, initial: 2, maximum: 10 },
    showStackTraceSources: true,
  };
}

/**
 * The worker that runs the activities of a site. Most of them follow a job on a host and wait: they cost little, so that 200 may be open
 * at once.
 */
export function activityWorkerOptions(options: {
  connection: NativeConnection;
  namespace: string;
  taskQueue: string;
  activities: object;
}): WorkerOptions {
  return {
    ...shared(options),
    activities: options.activities,
    maxConcurrentActivityTaskExecutions: 200,
    activityTaskPollerBehavior: { type: 'autoscaling', minimum: 1, initial: 2, maximum: 10 },
  };
}
