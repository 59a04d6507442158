import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { judgeDump, type DatabaseResult } from '../../workflows/contracts/recovery-point.js';
import { ServerReference } from '../../workflows/contracts/server-reference.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { explainJobFailure } from '../object-store/job-failures.js';
import { placeOf } from '../object-store/open-store.js';
import { readRecoveryPoints } from '../object-store/recovery-point-store.js';
import { StoreArtifact, storeArtifact } from '../object-store/store-artifact.js';
import type { Secrets } from '../secrets/resolve.js';
import { dumpJob, globalsJob, observeScript, serverInput, type DumpSource } from './dump-job.js';
import { serverSource } from './server-source.js';

const DumpDatabase = StoreArtifact.extend({
  server: ServerReference,
  expectTables: z.array(z.string()),
  minimumBytes: z.number(),
  lowestShareOfMedian: z.number(),
  acceptAnomaly: z.boolean(),
});
const DumpGlobals = StoreArtifact.extend({ server: ServerReference });
const ObservePostgres = z.object({ server: ServerReference });

/** How many recovery points are read to compare a dump with: the last seven that hold the database. */
const COMPARED_POINTS = 10;

export function createPostgresActivities({ hosts, secrets }: { hosts: Hosts; secrets: Secrets }) {
  const source = (server: ServerReference): Promise<DumpSource> => serverSource(server, secrets);
  return {
    /** Size, cluster and version of a database. Reads only. */
    async observePostgres({ with: raw, context }: CallInput) {
      const { server } = ObservePostgres.parse(raw);
      const host = targetOf(context);
      const { args, stdin } = serverInput(await source(server));
      try {
        const { stdout } = await hosts.run(
          host,
          { argv: ['/bin/bash', '-c', observeScript, 'observe', ...args], stdin, timeoutSeconds: 60 },
          { signal: cancellationSignal() },
        );
        return JSON.parse(stdout) as Record<string, unknown>;
      } catch (error) {
        throw explainJobFailure(error, `database ${server.database}`);
      }
    },

    /** Dumps a database into the bucket. Idempotent by (run, step, generation). Refuses a dump that looks wrong before it is stored. */
    async dumpDatabase({ with: raw, context }: CallInput) {
      const argument = DumpDatabase.parse(raw);
      const server = await source(argument.server);
      return storeArtifact<DatabaseResult>({ hosts, secrets }, argument, context, {
        job: (target, key) =>
          dumpJob(server, target, key, {
            run: `${context.runId} ${context.step}`,
            expectedTables: argument.expectTables,
          }),
        async judge(result, bucket) {
          const { points } = await readRecoveryPoints(
            bucket,
            placeOf(argument.store),
            COMPARED_POINTS,
            cancellationSignal(),
          );
          const verdict = judgeDump({
            name: argument.name,
            now: result,
            previous: points.filter(({ state }) => state !== 'damaged').map(({ manifest }) => manifest),
            expect: {
              databaseName: argument.server.database,
              tables: argument.expectTables,
              minimumBytes: argument.minimumBytes,
            },
            lowestShareOfMedian: argument.lowestShareOfMedian,
          });
          if (verdict.ok) return [];
          const sentences = verdict.reasons.map(({ sentence }) => sentence);
          const acceptable = verdict.reasons.every((reason) => reason.acceptable);
          if (acceptable && argument.acceptAnomaly) return sentences;
          throw failure('AnomalousBackup', `database ${argument.name}: ${sentences.join('; ')}`, {
            host: targetOf(context).name,
            step: context.step,
            remedy: acceptable
              ? 'The last good recovery point stays. If this is right, start the backup with "acceptAnomaly": true'
              : 'The last good recovery point stays. Check the database and the inventory',
          });
        },
      });
    },

    /** Saves roles and tablespaces. Idempotent by (run, step, generation). */
    async dumpGlobals({ with: raw, context }: CallInput) {
      const argument = DumpGlobals.parse(raw);
      const server = await source(argument.server);
      return storeArtifact({ hosts, secrets }, argument, context, {
        job: (target, key) => globalsJob(server, target, key, { run: `${context.runId} ${context.step}` }),
      });
    },
  };
}
