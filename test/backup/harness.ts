// One lab host with ProofPass on it, a Temporal server, and a worker that can be killed: what the end-to-end tests share.
// GUARDIA_TEST_KEEP names a directory that gets logs and state of server and worker.
import {
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  ListPartsCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  cpSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openBucket } from '../../activities/object-store/object-store.js';
import { readRecoveryPoints, type StoredRecoveryPoint } from '../../activities/object-store/recovery-point-store.js';
import { connectClient } from '../../activities/temporal/connection.js';
import { controlGroup } from '../../infra/lab/control-group.js';
import { groupOf, readState, writeState } from '../../infra/lab/lab-state.js';
import { rootClient, startLab, type HostSpec, type Lab } from '../../infra/lab/lab.js';
import { end } from '../../infra/lab/recorded-process.js';
import { s3Server } from '../../infra/lab/s3-server.js';
import { startDevServer, type DevServer } from '../../infra/temporal/dev-server.js';
import { compiled } from '../../infra/temporal/server-executable.js';
import { RunReport, RunStatus, statusQuery, type EndState, type StepState } from '../../workflows/contracts/run.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';

const SHIPPED_SYSTEMS = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../infra/systems' : '../../../infra/systems', import.meta.url),
);

/** How a run ended, whatever that was. */
export interface Ended {
  workflowId: string;
  runId: string;
  end: EndState | 'terminated' | 'timed out' | 'failed without a report';
  /** The sentence that the operator reads. */
  message: string;
  report: RunReport | RunStatus | undefined;
}

/** What is different about a worker. */
export interface WorkerChange {
  env?: NodeJS.ProcessEnv;
  /** Shell commands that a private mount namespace gets first. */
  before?: string;
  /** Compiled program that serves instead of the worker's own. */
  program?: string;
}

/** A worker process. */
export interface WorkerProcess {
  pid: number;
  /** kill -9, and returns when it is gone. Idempotent. */
  kill(): Promise<void>;
  /** An orderly stop. Idempotent. */
  stop(): Promise<void>;
}

export type BackupLab = Awaited<ReturnType<typeof startBackupLab>>;

/**
 * Starts all of it, in directories and control groups of the lab: what a killed test leaves goes with the lab. `megabytes`: size of ProofPass's own data, which compresses well. `bulkMegabytes`: further data that does
 * not compress, in the table public.bulk, so that a dump has several parts. `hosts`: others than one with ProofPass; `layout`: of the system; `overlay`: text that is added to the
 * lab's overlay of proofpass.
 */
export async function startBackupLab(
  options: { megabytes?: number; bulkMegabytes?: number; hosts?: HostSpec[]; layout?: string; overlay?: string } = {},
) {
  const lab = await startLab({
    hosts: options.hosts ?? [{ name: 'app', fixture: { name: 'proofpass', megabytes: options.megabytes ?? 50 } }],
    systems: ['proofpass'],
    ...(options.layout === undefined ? {} : { layout: options.layout }),
    owner: true,
  });
  let server: DevServer | undefined;
  try {
    const state = path.join(lab.directory, 'test');
    const systems = path.join(state, 'systems');
    cpSync(SHIPPED_SYSTEMS, systems, { recursive: true });
    if (options.overlay) appendFileSync(path.join(lab.overlayDirectory, 'proofpass.yaml'), options.overlay);
    server = await startDevServer({ directory: path.join(state, 'dev'), port: 0, uiPort: 0 });
    endWithLab(lab, server.pid);
    const made = await backupLab(lab, server, state, systems);
    if (options.bulkMegabytes) await made.fillBulk(options.bulkMegabytes);
    await made.startWorker();
    return made;
  } catch (error) {
    await server?.stop({ force: true });
    await lab.down();
    throw error;
  }
}

/** Moves a process into the lab's control groups. */
function endWithLab(lab: Lab, pid: number): void {
  const state = readState(lab.name);
  if (!state) throw new Error(`the lab ${lab.name} is gone`);
  writeFileSync(path.join(controlGroup(`${groupOf(state.index)}/test`), 'cgroup.procs'), String(pid));
}

async function backupLab(lab: Lab, server: DevServer, state: string, systems: string) {
  const { client, connection } = await connectClient({
    env: { TEMPORAL_ADDRESS: server.address, TEMPORAL_NAMESPACE: server.namespace },
  });
  const s3: S3Client = rootClient(lab.s3);
  const bucket = openBucket({ ...lab.s3, provider: 'versitygw' }, lab.s3.keys.root);
  const workerLog = path.join(state, 'worker.log');
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: state,
    LANG: 'C.UTF-8',
    TEMPORAL_ADDRESS: server.address,
    TEMPORAL_NAMESPACE: server.namespace,
    GUARDIA_STATE: state,
    GUARDIA_SYSTEMS: systems,
    ...lab.environment,
  };
  const inventory = path.join(systems, 'proofpass.yaml');
  const shipped = readFileSync(inventory, 'utf8');
  let worker: WorkerProcess | undefined;
  const labState = () => {
    const labNow = readState(lab.name);
    if (!labNow) throw new Error(`the lab ${lab.name} is gone`);
    return labNow;
  };

  const here = {
    lab,
    server,
    client,
    s3,
    /** The worker's state directory. */
    state,
    /** What worker and command have in their environment. */
    env,
    workerLog,
    /** The data of the bucket on this machine's disk. */
    bucketDirectory: path.join(lab.directory, 's3/data', lab.s3.bucket),

    /** Starts the worker and returns when it serves. */
    async startWorker(change: WorkerChange = {}): Promise<WorkerProcess> {
      const said = existsSync(workerLog) ? readFileSync(workerLog).length : 0;
      const output = openSync(workerLog, 'a', 0o600);
      const argv = [process.execPath, compiled(change.program ?? 'workers/main.js')];
      const [program, ...rest] =
        change.before === undefined
          ? argv
          : ['unshare', '--mount', 'sh', '-c', `${change.before}; exec "$@"`, 'worker', ...argv];
      const child = spawn(program as string, rest, {
        env: { ...env, ...change.env },
        stdio: ['ignore', output, output],
        detached: true,
      });
      closeSync(output);
      if (child.pid !== undefined) endWithLab(lab, child.pid);
      worker = workerProcess(child);
      await until('the worker serves', () => readFileSync(workerLog).subarray(said).includes('serving'), {
        also: () => {
          if (child.exitCode !== null || child.signalCode !== null)
            throw new Error(`the worker ended:\n${readFileSync(workerLog).subarray(said).toString()}`);
        },
      });
      return worker;
    },
    worker: (): WorkerProcess => {
      if (!worker) throw new Error('no worker was started');
      return worker;
    },
    async restartWorker(change: WorkerChange = {}): Promise<void> {
      await worker?.stop();
      await here.startWorker(change);
    },

    async start(input: Record<string, unknown> = {}, runbook = 'backup'): Promise<WorkflowHandle> {
      return client.workflow.start(runbook, {
        workflowId: `${runbook}/proofpass/test-${randomBytes(4).toString('hex')}`,
        taskQueue: WORKFLOW_TASK_QUEUE,
        args: [{ system: 'proofpass', requester: 'test', ...input }],
      });
    },
    async ended(handle: WorkflowHandle): Promise<Ended> {
      const { runId } = await handle.describe();
      const base = { workflowId: handle.workflowId, runId };
      try {
        const report = RunReport.parse(await handle.result());
        return { ...base, end: report.end as EndState, message: report.message ?? '', report };
      } catch (error) {
        if (!(error instanceof WorkflowFailedError)) throw error;
        const { status } = await handle.describe();
        if (status.name === 'TERMINATED') return { ...base, end: 'terminated', message: '', report: undefined };
        if (status.name === 'TIMED_OUT') return { ...base, end: 'timed out', message: '', report: undefined };
        const details = error.cause instanceof ApplicationFailure ? error.cause.details?.[0] : undefined;
        const report = RunReport.safeParse(details).data ?? RunStatus.safeParse(await handle.query(statusQuery)).data;
        return {
          ...base,
          end: report?.end ?? 'failed without a report',
          message: error.cause instanceof ApplicationFailure ? error.cause.message : (report?.message ?? ''),
          report,
        };
      }
    },
    /** Runs one backup, or another runbook, to its end. Throws when it waits for a person, who would never come. */
    async run(input: Record<string, unknown> = {}, runbook = 'backup'): Promise<Ended> {
      const handle = await here.start(input, runbook);
      const over = here.ended(handle);
      for (;;) {
        const ended = await Promise.race([over, new Promise<void>((resolve) => setTimeout(resolve, 2000))]);
        if (ended !== undefined) return ended;
        // No answer while the worker is away.
        const { holds = [] } = (await here.status(handle).catch(() => undefined)) ?? {};
        if (holds.length > 0) {
          over.catch(() => undefined);
          throw new Error(`the run waits for a person: ${JSON.stringify(holds)}`);
        }
      }
    },
    status: (handle: WorkflowHandle): Promise<RunStatus> => handle.query(statusQuery),
    async untilStep(handle: WorkflowHandle, step: string, ...states: StepState[]): Promise<void> {
      await until(
        `step ${step} is ${states.join(' or ')}`,
        async () => {
          const { steps, end, message } = await here.status(handle);
          if (end) throw new Error(`the run has ended (${end}): ${message}`);
          const found = steps.find(({ id }) => id === step);
          return found !== undefined && states.includes(found.state);
        },
        { seconds: 300 },
      );
    },
    /** Returns when the dump of a run has stored at least one part. */
    async untilPartStored(): Promise<void> {
      await until('a part of the dump is stored', async () => {
        const dump = (await here.uploads()).find(({ key }) => key.includes('/database-main'));
        return dump !== undefined && dump.parts > 0;
      });
    },

    /** Shell as root on a host. */
    async shell(script: string, host = 'app'): Promise<string> {
      const { exitCode, stdout, stderr } = await lab.exec(host, ['/bin/bash', '-c', script]);
      if (exitCode !== 0) throw new Error(`${host}: exit code ${exitCode} of ${script}: ${stderr}${stdout}`);
      return stdout;
    },
    async sql(text: string, database = 'proofpass_prod'): Promise<string> {
      const argv = ['runuser', '-u', 'postgres', '--', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', database];
      const { exitCode, stdout, stderr } = await lab.exec('app', argv, { stdin: text });
      if (exitCode !== 0) throw new Error(`${text}: ${stderr}`);
      return stdout.trim();
    },
    /** Fills public.bulk anew with data that does not compress. */
    async fillBulk(megabytes: number): Promise<void> {
      await here.sql(`
        drop table if exists public.bulk;
        create table public.bulk (id int, body bytea);
        alter table public.bulk alter body set storage external;
        insert into public.bulk select i, (select string_agg(uuid_send(gen_random_uuid()), '')
          from generate_series(1, 16384) where i = i) from generate_series(1, ${megabytes * 4}) i;
        checkpoint;`);
    },

    /** The S3 server's process: stopped and started with its data. */
    store: {
      async stop(): Promise<void> {
        const recorded = labState().services['s3'];
        if (recorded) await end(recorded);
      },
      async start(): Promise<void> {
        const labNow = labState();
        labNow.services['s3'] = await s3Server.start(labNow);
        writeState(labNow);
        await s3Server.ready(labNow);
      },
    },

    /** Replaces text of the inventory file that the worker reads; it must be there. */
    changeInventory(from: string, to: string): void {
      const text = readFileSync(inventory, 'utf8');
      if (!text.includes(from)) throw new Error(`the inventory does not hold ${from}`);
      writeFileSync(
        inventory,
        text.replace(from, () => to),
      );
    },
    restoreInventory: (): void => writeFileSync(inventory, shipped),

    /** Keys of the objects that the bucket shows. */
    async objects(): Promise<string[]> {
      const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: lab.s3.bucket }));
      return Contents.map(({ Key }) => Key ?? '').sort();
    },
    /** Every version and delete marker, also of what was removed, but for what people were told. */
    async versions(): Promise<string[]> {
      const { Versions = [], DeleteMarkers = [] } = await s3.send(
        new ListObjectVersionsCommand({ Bucket: lab.s3.bucket }),
      );
      return [...Versions, ...DeleteMarkers]
        .filter(({ Key }) => !Key?.startsWith('proofpass/notices/'))
        .map(({ Key, VersionId }) => `${Key} ${VersionId}`)
        .sort();
    },
    async uploads(): Promise<{ key: string; parts: number }[]> {
      const { Uploads = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket: lab.s3.bucket }));
      return Promise.all(
        Uploads.map(async ({ Key, UploadId }) => {
          const parts = await s3
            .send(new ListPartsCommand({ Bucket: lab.s3.bucket, Key, UploadId }))
            .then(({ Parts = [] }) => Parts.length)
            .catch(() => 0); // completed or aborted between the two looks
          return { key: Key ?? '', parts };
        }),
      );
    },
    async object(key: string): Promise<Buffer> {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: lab.s3.bucket, Key: key }));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    /** Complete recovery points, newest first. */
    async points(): Promise<StoredRecoveryPoint[]> {
      const { points, unreadable } = await readRecoveryPoints(bucket, { prefix: '', system: 'proofpass' }, 100);
      if (unreadable.length > 0) throw new Error(unreadable.join('; '));
      return points;
    },
    /** Objects below the recovery points that belong to no complete one. */
    async orphans(): Promise<string[]> {
      const ids = new Set((await here.points()).map(({ manifest }) => manifest.id));
      return (await here.objects()).filter((key) => {
        const id = /^proofpass\/recovery-points\/([^/]+)\//.exec(key)?.[1];
        return id !== undefined && !ids.has(id);
      });
    },
    /** Directories of jobs on the worker's machine. */
    workerJobs: (): string[] => listing(path.join(state, 'worker/jobs')),
    /** Whatever runs have left anywhere: nothing, when all is well. */
    async left(): Promise<string[]> {
      const onHost = await here.shell(`
        systemctl list-units --all --plain --no-legend 'guardia-job-*' | sed 's/^/unit: /'
        find /var/lib/guardia/jobs /var/lib/guardia/journal -mindepth 1 2>/dev/null | sed 's/^/file: /'
        find /dev/shm /tmp -path '*guardia*' ! -path /dev/shm/guardia-0 | sed 's/^/file: /'
        pgrep -a 'pg_dump|age|zstd' | sed 's/^/process: /'
        grep -v ' closed$' /var/lib/guardia/fence 2>/dev/null | sed 's/^/open fence: /'
        true`);
      const onWorker = [...here.workerJobs(), ...listing(path.join(state, 'worker/journal'))];
      const locks: string[] = [];
      for await (const run of client.workflow.list({ query: "ExecutionStatus = 'Running'" }))
        locks.push(`open: ${run.workflowId}`);
      return [
        ...onHost.split('\n').filter((line) => line !== ''),
        ...onWorker.map((file) => `worker: ${file}`),
        ...(await here.uploads()).map(({ key }) => `upload: ${key}`),
        ...(await here.orphans()).map((key) => `object: ${key}`),
        ...locks,
      ];
    },

    /** Stops everything but the lab, which goes on without it. */
    async leave(): Promise<Lab> {
      await worker?.stop();
      s3.destroy();
      bucket.close();
      await connection.close();
      await server.stop();
      return lab;
    },
    async down(): Promise<void> {
      await worker?.kill();
      await here.leave();
      const keep = process.env['GUARDIA_TEST_KEEP'];
      if (keep) cpSync(state, path.join(keep, lab.name), { recursive: true });
      await lab.down();
    },
  };
  return here;
}

function workerProcess(child: ChildProcess): WorkerProcess {
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()).once('error', () => resolve()));
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  return { pid: child.pid ?? 0, kill: () => end('SIGKILL'), stop: () => end('SIGTERM') };
}

function listing(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).map((name) => path.join(directory, name)) : [];
}

/** Looks twenty times a second at first, and after a while four times: what is asked is often a run, whose worker has other work. */
const LOOK_MS = { first: 50, last: 250 };

/** Waits until it holds. Throws after `seconds`. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  options: { seconds?: number; also?: () => void } = {},
): Promise<void> {
  const { seconds = 60 } = options;
  const began = Date.now();
  while (!(await holds())) {
    options.also?.();
    const waited = Date.now() - began;
    if (waited > seconds * 1000) throw new Error(`not within ${seconds} s: ${what}`);
    await delay(Math.min(Math.max(LOOK_MS.first, waited / 20), LOOK_MS.last));
  }
}
