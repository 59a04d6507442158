import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { type DumpSource, dumpJob, globalsJob } from '../../../activities/postgres/dump-job.js';
import { completeUpload, openUpload, type OpenUpload } from '../../../activities/object-store/multipart-upload.js';
import type { AccessKey, BucketAddress } from '../../../activities/object-store/object-store.js';
import type { ArtifactJob } from '../../../activities/object-store/job-text.js';
import type { UploadTarget } from '../../../activities/object-store/upload-target.js';
import {
  Artifact,
  type ArtifactKind,
  ArtifactResult,
  keysOf,
  recoveryPointId,
} from '../../../workflows/contracts/recovery-point.js';
import { runJob } from '../object-store/artifact-job-process.js';
import type { Gateway } from '../object-store/versity-gateway.js';
import type { Cluster } from './throwaway-cluster.js';

export const MiB = 1024 * 1024;

export interface AgeKey {
  identity: string;
  recipient: string;
}

export function makeAgeKey(): AgeKey {
  const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return { identity, recipient: /age1[a-z0-9]{58}/.exec(identity)?.[0] ?? '' };
}

export const peerSource = (cluster: Cluster, database: string): DumpSource => ({
  database,
  version: cluster.version,
  port: cluster.port,
  access: { kind: 'peer', osUser: 'postgres' },
  serverWaitSeconds: 2,
});

/** An open upload for a new recovery point, and the target of a job for it. */
export async function newTarget(
  gateway: Gateway,
  kind: ArtifactKind,
  recipients: readonly string[],
  options: { address?: BucketAddress; retrySeconds?: number; system?: string } = {},
): Promise<{ upload: OpenUpload; target: UploadTarget }> {
  const key = keysOf('', options.system ?? 'proofpass', recoveryPointId(new Date(), randomUUID())).artifact(
    kind,
    'main',
  );
  const upload = await openUpload(gateway.bucket, key);
  const target: UploadTarget = {
    address: options.address ?? gateway.address,
    key,
    uploadId: upload.uploadId,
    partSize: 5 * MiB,
    recipients,
    retrySeconds: options.retrySeconds ?? 20,
  };
  return { upload, target };
}

/** Completes what a job has sent, as the worker does. */
export async function complete(
  gateway: Gateway,
  upload: OpenUpload,
  target: UploadTarget,
  stdout: string,
): Promise<Artifact> {
  const result = ArtifactResult.parse(JSON.parse(stdout));
  const { versionId } = await completeUpload(gateway.bucket, upload, result);
  return Artifact.parse({
    ...result,
    name: 'main',
    host: 'app1',
    key: target.key,
    versionId,
    recipients: target.recipients,
  });
}

/** Runs the job, which must end well, and completes its upload. */
export async function storeArtifact(
  gateway: Gateway,
  kind: ArtifactKind,
  recipients: readonly string[],
  job: (target: UploadTarget) => ArtifactJob,
): Promise<Artifact> {
  const { upload, target } = await newTarget(gateway, kind, recipients);
  const ended = await runJob(job(target));
  if (ended.exitCode !== 0) throw new Error(`the job ended with ${String(ended.exitCode)}:\n${ended.stderr}`);
  return complete(gateway, upload, target, ended.stdout);
}

export const storeDump = (
  gateway: Gateway,
  cluster: Cluster,
  database: string,
  key: AccessKey,
  recipients: readonly string[],
) =>
  storeArtifact(gateway, 'database', recipients, (target) =>
    dumpJob(peerSource(cluster, database), target, key, { run: 'test' }),
  );

export const storeGlobals = (
  gateway: Gateway,
  cluster: Cluster,
  database: string,
  key: AccessKey,
  recipients: readonly string[],
) =>
  storeArtifact(gateway, 'globals', recipients, (target) =>
    globalsJob(peerSource(cluster, database), target, key, { run: 'test' }),
  );

/** Some 20 MB that do not compress, in a table that a dump must hold, and a little beside it. */
export function fillDatabase(cluster: Cluster, database: string, megabytes = 20): void {
  cluster.sql(`create database "${database.replaceAll('"', '""')}"`);
  cluster.sql(
    `create table users(id int primary key, email text);
     insert into users select i, 'user' || i || '@example.test' from generate_series(1, 5000) i;
     create schema audit; create table audit."odd name"(at timestamptz);
     create table attestations(id int, body bytea);
     insert into attestations select i, decode(string_agg(md5(random()::text), ''), 'hex')
     from generate_series(1, ${megabytes * 2}) i, generate_series(1, 31250) group by i;`,
    database,
  );
}
