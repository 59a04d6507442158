import { WorkflowFailedError } from '@temporalio/client';
import { decodeFromPayloadsAtIndex } from '@temporalio/common/lib/internal-non-workflow/index.js';
import { millisecondsOf } from '../../client/protobuf-time.js';
import { newRunSuffix, startRun } from '../../client/runs.js';
import { ToolboxError } from '../../infra/packaging/toolbox.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { SYSTEM, type BenchLab } from './bench-lab.js';

/** An activity of a run, with its times in seconds since the run was asked for. */
export interface TimedActivity {
  activity: string;
  /** The step of the plan, for the calls of one. */
  step?: string;
  scheduled: number;
  started: number;
  ended: number;
  /** What its job on a host took by itself. Seconds. */
  job?: number;
  attempts: number;
}

export interface TimedRun {
  workflowId: string;
  recoveryPoint: string;
  /** Seconds from asking for the run until its manifest was in the bucket: the backup exists. */
  completeSeconds: number;
  /** Seconds until the proof was in the bucket: every byte was read back. */
  verifiedSeconds: number;
  /** Seconds until the run had ended. */
  endedSeconds: number;
  activities: TimedActivity[];
  report: RunReport;
}

/** What the activities that run a job return of it. */
interface JobTimes {
  artifact?: { seconds?: number };
  finding?: { seconds?: number };
}

export interface StartedBackup {
  workflowId: string;
  startedAt: number;
  /** Returns when the run has ended; throws what it failed with. */
  ended(): Promise<TimedRun>;
}

/** Starts a backup of one of the two databases through the client library. The clock runs from here. */
export async function startBackup({ client, environment, choose }: BenchLab, database: string): Promise<StartedBackup> {
  choose(database);
  // Two databases that take turns look like one that is lost and found.
  const input = runbooks.backup.input.parse({ system: SYSTEM, requester: 'benchmark', acceptAnomaly: true });
  const address = environment['TEMPORAL_ADDRESS'] ?? '';
  const target = { address, namespace: client.options.namespace, source: 'benchmark', connection: { address } };
  const startedAt = Date.now();
  const { workflowId, runId } = await startRun(
    { client, target, webUi: undefined },
    { runbook: runbooks.backup, input, suffix: newRunSuffix() },
  );
  return {
    workflowId,
    startedAt,
    async ended() {
      const handle = client.workflow.getHandle(workflowId, runId);
      const report = RunReport.parse(
        await handle.result().catch((error: unknown) => {
          throw error instanceof WorkflowFailedError
            ? new ToolboxError(`${workflowId}: ${error.cause?.message}`)
            : error;
        }),
      );
      if (report.end !== 'succeeded') throw new Error(`${workflowId} ended as ${report.end}: ${report.message}`);
      const { events } = await handle.fetchHistory();
      const since = (time: Parameters<typeof millisecondsOf>[0]): number =>
        ((millisecondsOf(time) ?? NaN) - startedAt) / 1000;
      const activities: TimedActivity[] = [];
      const byEvent = new Map<string, TimedActivity>();
      for (const event of events ?? []) {
        const scheduled = event.activityTaskScheduledEventAttributes;
        const started = event.activityTaskStartedEventAttributes;
        const completed = event.activityTaskCompletedEventAttributes;
        if (scheduled) {
          const argument = await decodeFromPayloadsAtIndex<{ context?: { step?: string } }>(
            client.options.loadedDataConverter,
            0,
            scheduled.input?.payloads,
          );
          const one: TimedActivity = {
            activity: scheduled.activityType?.name ?? '',
            ...(argument?.context?.step ? { step: argument.context.step } : {}),
            scheduled: since(event.eventTime),
            started: NaN,
            ended: NaN,
            attempts: 1,
          };
          byEvent.set(String(event.eventId), one);
          activities.push(one);
        }
        const begun = started && byEvent.get(String(started.scheduledEventId));
        if (begun) {
          begun.started = since(event.eventTime);
          begun.attempts = started.attempt ?? 1;
        }
        const over = completed && byEvent.get(String(completed.scheduledEventId));
        if (over) {
          over.ended = since(event.eventTime);
          const result = await decodeFromPayloadsAtIndex<JobTimes | undefined>(
            client.options.loadedDataConverter,
            0,
            completed.result?.payloads,
          );
          const job = result?.artifact?.seconds ?? result?.finding?.seconds;
          if (job !== undefined) over.job = job;
        }
      }
      const endOf = (activity: string): number => {
        const found = activities.find((one) => one.activity === activity);
        if (found === undefined || Number.isNaN(found.ended))
          throw new Error(`the history of ${workflowId} has no ${activity} that ended`);
        return found.ended;
      };
      const recoveryPoint = report.result?.['recoveryPoint'];
      if (typeof recoveryPoint !== 'string') throw new Error(`${workflowId} names no recovery point`);
      return {
        workflowId,
        recoveryPoint,
        completeSeconds: endOf('writeManifest'),
        verifiedSeconds: endOf('writeProof'),
        endedSeconds: since(events?.at(-1)?.eventTime),
        activities,
        report,
      };
    },
  };
}
