import { setTimeout as delay } from 'node:timers/promises';
import { cancellationSignal } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { z } from 'zod';
import type { CallContext } from '../../workflows/contracts/calls.js';
import { isFailure } from '../../workflows/contracts/errors.js';
import { Name } from '../../workflows/contracts/names.js';
import {
  Artifact,
  ArtifactKind,
  ArtifactResult,
  keysOf,
  RecoveryPointId,
} from '../../workflows/contracts/recovery-point.js';
import { StoreReference } from '../../workflows/contracts/store-reference.js';
import { runStepJob, targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Secrets } from '../secrets/resolve.js';
import { explainJobFailure } from './job-failures.js';
import type { ArtifactJob } from './job-text.js';
import { abortUpload, completeUpload, listUploads, openUpload, type OpenUpload } from './multipart-upload.js';
import { addressOf, hostKeyOf, withBucket } from './open-store.js';
import type { AccessKey, Bucket } from './object-store.js';
import { partSizeFor } from './provider-profile.js';
import type { UploadTarget } from './upload-target.js';

/** How long an activity waits for an object store that does not answer. Milliseconds. */
const STORE_PATIENCE_MS = 15 * 60_000;

/** What every call that stores an artifact names. */
export const ArtifactPlace = z.object({
  store: StoreReference,
  id: RecoveryPointId,
  kind: ArtifactKind,
  name: Name,
});
export const StoreArtifact = ArtifactPlace.extend({
  recipients: z.array(z.string()).min(2),
  estimatedBytes: z.number(),
  timeoutSeconds: z.number(),
});
export type StoreArtifact = z.infer<typeof StoreArtifact>;

/**
 * Makes one artifact of a recovery point: opens its multipart upload, runs the job on the host that fills it, has the result
 * judged, and completes the upload. Idempotent by (run, step, generation): the upload id is kept in the host's journal before
 * the job starts, the job attaches, a completed upload is recognised. `judge` throws before anything is stored.
 */
export async function storeArtifact<R extends ArtifactResult>(
  { hosts, secrets }: { hosts: Hosts; secrets: Secrets },
  argument: StoreArtifact,
  context: CallContext,
  work: {
    job: (target: UploadTarget, key: AccessKey) => ArtifactJob;
    judge?: (result: R, bucket: Bucket) => Promise<string[]>;
  },
): Promise<{ artifact: Artifact; anomalies: string[]; summary: string }> {
  const host = targetOf(context);
  const { store, id, kind, name } = argument;
  const key = keysOf(store.prefix, store.system, id).artifact(kind, name);
  return withBucket(secrets, store, async (bucket) => {
    const upload = await patiently(() => uploadOf(hosts, bucket, key, context));
    const target: UploadTarget = {
      address: addressOf(store),
      key,
      uploadId: upload.uploadId,
      partSize: partSizeFor(argument.estimatedBytes, bucket.profile),
      recipients: argument.recipients,
    };
    const { script, args, stdin } = work.job(target, await hostKeyOf(secrets, store));
    const ended = await runStepJob(hosts, host, context, {
      command: { script, args },
      stdin,
      timeoutSeconds: argument.timeoutSeconds,
    }).catch((error: unknown) => {
      throw final(explainJobFailure(error, `${kind} ${name}`));
    });
    const result = ArtifactResult.parse(JSON.parse(ended.stdout)) as R;
    const anomalies = (await patiently(async () => work.judge?.(result, bucket))) ?? [];
    const completed = await patiently(() => completeUpload(bucket, upload, result, cancellationSignal()));
    const artifact = Artifact.parse({
      ...result,
      name,
      host: host.name,
      key,
      ...(completed.versionId !== undefined ? { versionId: completed.versionId } : {}),
      recipients: argument.recipients,
    });
    return {
      artifact,
      anomalies,
      summary: `${size(result.bytes.plain)} as ${size(result.bytes.stored)} in ${result.seconds.toFixed(1)} s`,
    };
  });
}

/**
 * The upload of this generation: the one in the journal, or a new one. What an earlier generation or a dead attempt opened for
 * the key is aborted first, so that no part of it is left.
 */
async function uploadOf(hosts: Hosts, bucket: Bucket, key: string, context: CallContext): Promise<OpenUpload> {
  const host = targetOf(context);
  const entry = `${context.step}-g${context.generation}`;
  const journal = async (): Promise<OpenUpload | undefined> => {
    const content = await hosts.journalGet(host, context.runId, entry);
    return content && (JSON.parse(content.toString('utf8')) as OpenUpload);
  };
  const known = await journal();
  if (known) return known;
  for (const left of await listUploads(bucket, key, cancellationSignal()))
    if (left.key === key) await abortUpload(bucket, left);
  const opened = await openUpload(bucket, key, cancellationSignal());
  await hosts.journalPut(
    host,
    { run: context.runId, step: entry, content: Buffer.from(JSON.stringify(opened)) },
    { fence: context.fence },
  );
  const kept = (await journal()) ?? opened;
  // Another attempt was faster: its upload is the one that the job fills.
  if (kept.uploadId !== opened.uploadId) await abortUpload(bucket, opened);
  return kept;
}

/** Waits out an object store that does not answer; then the failure is final. */
export async function patiently<T>(act: () => Promise<T>): Promise<T> {
  const until = Date.now() + STORE_PATIENCE_MS;
  for (let pause = 1_000; ; pause = Math.min(pause * 2, 15_000)) {
    try {
      return await act();
    } catch (error) {
      cancellationSignal().throwIfAborted();
      if (!isFailure(error, 'ObjectStoreUnavailable')) throw error;
      if (Date.now() > until) throw final(error);
      await delay(pause, undefined, { signal: cancellationSignal() }).catch(() =>
        cancellationSignal().throwIfAborted(),
      );
    }
  }
}

/** A failure of a job that has ended: an attempt more would only read the same end again. Steps run anew by their generation. */
export function final(error: unknown): unknown {
  if (!(error instanceof ApplicationFailure) || error.nonRetryable) return error;
  return ApplicationFailure.create({
    message: error.message,
    type: error.type ?? 'Error',
    nonRetryable: true,
    details: error.details ?? [],
  });
}

export function size(bytes: number): string {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
