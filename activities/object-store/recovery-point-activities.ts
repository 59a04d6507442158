import { readFileSync } from 'node:fs';
import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import {
  Artifact,
  keysOf,
  Proof,
  RecoveryPointId,
  VerifyResult,
  type Manifest,
} from '../../workflows/contracts/recovery-point.js';
import { SecretReference } from '../../workflows/contracts/secret-reference.js';
import { StoreReference } from '../../workflows/contracts/store-reference.js';
import { cancelStepJobs, runStepJob, targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { verifyJob } from '../postgres/verify-job.js';
import type { Secrets } from '../secrets/resolve.js';
import { explainJobFailure } from './job-failures.js';
import { addressOf, placeOf, resolveKey, withBucket } from './open-store.js';
import * as points from './recovery-point-store.js';
import { ArtifactPlace, final, patiently, size } from './store-artifact.js';
import { workerTools } from './worker-tools.js';

const Point = z.object({ store: StoreReference, id: RecoveryPointId });
const InStore = z.object({ store: StoreReference, except: RecoveryPointId });
const WriteManifest = Point.extend({
  createdAt: z.iso.datetime(),
  artifacts: z.array(Artifact).min(1),
  anomalies: z.array(z.array(z.string())),
});
const VerifyArtifact = ArtifactPlace.extend({ identity: SecretReference, timeoutSeconds: z.number() });
const Finding = Proof.shape.artifacts.element;
const WriteProof = Point.extend({ findings: z.array(Finding) });
const ObserveWorker = z.object({ serverVersions: z.array(z.int()) });

const version = (
  JSON.parse(
    readFileSync(
      new URL(import.meta.url.includes('/.build/') ? '../../../package.json' : '../../package.json', import.meta.url),
      'utf8',
    ),
  ) as { version: string }
).version;

export function createRecoveryPointActivities({ hosts, secrets }: { hosts: Hosts; secrets: Secrets }) {
  return {
    /** What the bucket holds of the system. Reads only. */
    async observeRecoveryPoints({ with: raw }: CallInput) {
      const { store, except } = InStore.parse(raw);
      return withBucket(secrets, store, async (bucket) => {
        const { points: newest } = await points.readRecoveryPoints(bucket, placeOf(store), 1, cancellationSignal());
        const orphans = await points.listOrphans(bucket, placeOf(store), except, cancellationSignal());
        return {
          orphans: orphans.objects.length + orphans.uploads.length,
          ...(newest[0] ? { newest: newest[0].manifest.id } : {}),
        };
      });
    },

    /** Whether the worker's machine can read a backup back: programs, and a pg_restore that is new enough. Reads only. */
    async observeWorker({ with: raw, context }: CallInput) {
      const { serverVersions } = ObserveWorker.parse(raw);
      const script = `for tool in ${workerTools.map(({ tool }) => tool).join(' ')}; do command -v "$tool" >/dev/null || echo "missing $tool"; done; ls /usr/lib/postgresql/*/bin/pg_restore /usr/pgsql-*/bin/pg_restore 2>/dev/null; true`;
      const { stdout } = await hosts.run(targetOf(context), { argv: ['/bin/sh', '-c', script] });
      const lines = stdout.trim().split('\n');
      const missing = workerTools.filter(({ tool }) => lines.includes(`missing ${tool}`)).map((one) => one.package);
      const majors = lines.flatMap((line) => /(?:postgresql\/|pgsql-)(\d+)\//.exec(line)?.[1] ?? []).map(Number);
      const needed = Math.max(...serverVersions, 0);
      if (needed > 0 && !majors.some((major) => major >= needed)) missing.push(`postgresql-client-${needed}`);
      if (missing.length > 0)
        throw failure(
          'HostUnusable',
          `the worker's machine cannot read backups back: not installed: ${missing.join(', ')}`,
          {
            host: context.target?.name,
            remedy: `apt-get install ${missing.join(' ')}`,
          },
        );
      return { postgresqlClients: [...new Set(majors)].sort((a, b) => a - b) };
    },

    /** Removes what runs that came to no end left in the bucket. Under the system's lock only. Idempotent. */
    async removeOrphans({ with: raw }: CallInput) {
      const { store, except } = InStore.parse(raw);
      return withBucket(secrets, store, async (bucket) => {
        const orphans = await points.listOrphans(bucket, placeOf(store), except, cancellationSignal());
        await points.removeOrphans(bucket, orphans, cancellationSignal());
        return { summary: `${orphans.uploads.length} upload(s) aborted, ${orphans.objects.length} object(s) removed` };
      });
    },

    /** The undo of storing an artifact: stops its jobs, then leaves no upload and no object of it. Idempotent by (run, step). */
    async discardArtifact({ with: raw, context }: CallInput) {
      const { store, id, kind, name } = ArtifactPlace.parse(raw);
      await cancelStepJobs(hosts, targetOf(context), context);
      const key = keysOf(store.prefix, store.system, id).artifact(kind, name);
      await withBucket(secrets, store, (bucket) =>
        points.discardArtifact(bucket, placeOf(store), id, key, cancellationSignal()),
      );
      return {};
    },

    /** Makes the recovery point complete. Idempotent by its id and content. */
    async writeManifest({ with: raw, context }: CallInput) {
      const { store, id, createdAt, artifacts, anomalies } = WriteManifest.parse(raw);
      const manifest: Manifest = {
        schemaVersion: 1,
        system: context.system,
        id,
        createdAt,
        run: { workflowId: context.workflowId, runId: context.runId },
        guardia: version,
        retention: 'standard',
        parents: [],
        acceptedAnomalies: anomalies.flat(),
        artifacts,
      };
      return withBucket(secrets, store, async (bucket) => {
        const { key } = await points.writeManifest(bucket, placeOf(store), manifest, cancellationSignal());
        const bytes = artifacts.reduce((sum, artifact) => sum + artifact.bytes.stored, 0);
        return {
          id,
          location: `s3://${store.bucket}/${key}`,
          bytes,
          summary: `${id}, ${artifacts.length} artifacts, ${size(bytes)} stored`,
        };
      });
    },

    /** The undo of writeManifest. Idempotent by the recovery point. */
    async withdrawManifest({ with: raw }: CallInput) {
      const { store, id } = Point.parse(raw);
      await withBucket(secrets, store, (bucket) =>
        points.withdrawManifest(bucket, placeOf(store), id, cancellationSignal()),
      );
      return {};
    },

    /**
     * Reads one artifact back to its last byte, as a job on the machine that holds the age identity. Reads only; idempotent by
     * (run, step, generation). Damage is written beside the manifest before it is thrown as `BackupDamaged`.
     */
    async verifyArtifact({ with: raw, context }: CallInput) {
      const { store, id, kind, name, identity, timeoutSeconds } = VerifyArtifact.parse(raw);
      return withBucket(secrets, store, async (bucket) => {
        const point = await patiently(() => points.readRecoveryPoint(bucket, placeOf(store), id, cancellationSignal()));
        const artifact = point?.manifest.artifacts.find(
          (candidate) => candidate.kind === kind && candidate.name === name,
        );
        if (!artifact)
          throw failure('VerificationFailed', `recovery point ${id} of ${store.system} holds no ${kind} ${name}`);
        const job = verifyJob(
          artifact,
          addressOf(store),
          await resolveKey(secrets, store.workerKey),
          (await secrets.resolve(identity)).reveal(),
        );
        try {
          const ended = await runStepJob(hosts, targetOf(context), context, {
            command: { script: job.script, args: job.args },
            stdin: job.stdin,
            timeoutSeconds,
          });
          const result = VerifyResult.parse(JSON.parse(ended.stdout));
          const finding: z.infer<typeof Finding> = {
            kind,
            name,
            ok: true,
            sha256: result.sha256,
            bytes: result.bytes,
            seconds: result.seconds,
            tools: result.tools,
          };
          return { finding, summary: `${size(result.bytes.stored)} read back in ${result.seconds.toFixed(1)} s` };
        } catch (error) {
          const explained = final(explainJobFailure(error, `${kind} ${name}`));
          if (isFailure(explained, 'BackupDamaged'))
            await patiently(() =>
              points.writeProof(
                bucket,
                placeOf(store),
                proof(context, id, 'damaged', [{ kind, name, ok: false, message: explained.message }]),
                cancellationSignal(),
              ),
            );
          throw explained;
        }
      });
    },

    /** Writes down that a recovery point was read back. Idempotent by the recovery point: the first proof stays. */
    async writeProof({ with: raw, context }: CallInput) {
      const { store, id, findings } = WriteProof.parse(raw);
      return withBucket(secrets, store, async (bucket) => {
        const written = await points.writeProof(
          bucket,
          placeOf(store),
          proof(context, id, 'verified', findings),
          cancellationSignal(),
        );
        if (written.state === 'damaged')
          throw failure('BackupDamaged', `recovery point ${id} of ${store.system} was found damaged before`);
        return {
          state: written.state,
          location: `s3://${store.bucket}/${written.key}`,
          summary: `${id} is ${written.state}`,
        };
      });
    },
  };
}

function proof(context: CallContext, id: string, level: Proof['level'], artifacts: Proof['artifacts']): Proof {
  return {
    schemaVersion: 1,
    system: context.system,
    id,
    level,
    at: new Date().toISOString(),
    by: 'worker',
    run: { workflowId: context.workflowId, runId: context.runId },
    seconds: artifacts.reduce((sum, artifact) => sum + (artifact.seconds ?? 0), 0),
    artifacts,
  };
}
