import { TemporalFailure } from '@temporalio/common';
import { isCancellation, proxyActivities } from '@temporalio/workflow';
import type { FrameActivities } from '../contracts/frame-activities.js';
import type { HostTarget } from '../contracts/host-target.js';
import type { RunReport } from '../contracts/run.js';
import type { RecordEntry } from '../contracts/run-record.js';
import type { System } from '../contracts/system.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { taskQueueFor } from './calls.js';
import { reasonOf, type Progress } from './progress.js';

/** Writes the record of a run. A run is not lost for want of its record: what cannot be written becomes a note. */
export interface Recording {
  record: (entry: RecordEntry, report: RunReport) => Promise<void>;
  /** Keeps the whole log of a step's job. */
  keepLog: (target: HostTarget, step: string, generation: number) => Promise<void>;
}

export function createRecording(run: {
  workflowId: string;
  runId: string;
  progress: Progress;
  /** Undefined while there is nothing to record to. */
  system: () => System | undefined;
}): Recording {
  const { workflowId, runId, progress } = run;
  const orNote = async (what: string, act: (system: System) => Promise<void>): Promise<void> => {
    const system = run.system();
    if (!system) return;
    try {
      await act(system);
    } catch (error) {
      if (isCancellation(error) || !(error instanceof TemporalFailure)) throw error;
      progress.note(`${what}: ${reasonOf(error)}`);
    }
  };
  return {
    record: (entry, report) =>
      orNote('The record of this run could not be written', async (system) => {
        await proxyActivities<Pick<FrameActivities, 'recordRun'>>({
          taskQueue: taskQueueFor(undefined),
          startToCloseTimeout: '1 minute',
          heartbeatTimeout: HEARTBEAT_TIMEOUT,
          retry: { initialInterval: '1 second', maximumInterval: '10 seconds', maximumAttempts: 6 },
          summary: `record: ${entry}`,
        }).recordRun({ system, entry, report });
      }),
    keepLog: (target, step, generation) =>
      orNote(`The log of ${step} could not be kept`, async (system) => {
        const kept = await proxyActivities<Pick<FrameActivities, 'recordLog'>>({
          taskQueue: taskQueueFor(target),
          startToCloseTimeout: '2 minutes',
          heartbeatTimeout: HEARTBEAT_TIMEOUT,
          retry: { maximumAttempts: 3 },
          summary: `keep the log of ${step}`,
        }).recordLog({ system, target, workflowId, runId, step, generation });
        if (kept) progress.note(`Log of ${step}: ${kept.location}`);
      }),
  };
}
