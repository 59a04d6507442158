import type { HostTarget } from './host-target.js';
import type { LockHolder } from './lock.js';
import type { Observation } from './calls.js';
import type { Notice, NoticeReport } from './notice.js';
import type { PlannedRun, PlanningMoment, PreparedRun } from './planning.js';
import type { RecordEntry } from './run-record.js';
import type { RunReport } from './run.js';
import type { NoticeSystem } from './notifications.js';
import type { System } from './system.js';

/** What a run needs from the world whatever its runbook is: the activities of the frame. */
export interface FrameActivities {
  /** Local. Reads the inventory, refuses a run with unset values, says what has to be observed. */
  prepareRun(argument: {
    runbook: string;
    input: Record<string, unknown>;
    moment: PlanningMoment;
  }): Promise<PreparedRun>;
  /** Local. Makes the plan from what was observed. */
  planRun(argument: {
    runbook: string;
    input: Record<string, unknown>;
    system: System;
    observation: Observation;
    moment: PlanningMoment;
  }): Promise<PlannedRun>;
  /** Takes the host over for the run. Idempotent by run. */
  raiseFence(argument: {
    target: HostTarget;
    runId: string;
  }): Promise<{ number: number; left?: string; stopped: string[] }>;
  /** Ends the run's time on the host and removes its jobs and journal there. Idempotent by run. */
  closeFence(argument: { target: HostTarget; runId: string; keepJournal: boolean }): Promise<void>;
  /** Who holds a lock now; undefined when nobody does. */
  describeLock(argument: { workflowId: string }): Promise<LockHolder | undefined>;
  /** Returns when the lock is free, or after the time. */
  awaitLock(argument: { workflowId: string; seconds: number }): Promise<void>;
  /** Keeps the whole log of a failed job in the run's record; undefined when there is none. Idempotent by (run, step, generation). */
  recordLog(argument: {
    system: System;
    target: HostTarget;
    workflowId: string;
    runId: string;
    step: string;
    generation: number;
  }): Promise<{ location: string } | undefined>;
  /** Writes the run's record into the object store. Idempotent by run and entry. */
  recordRun(argument: { system: System; entry: RecordEntry; report: RunReport }): Promise<{ location: string }>;
  /**
   * Tells the system's targets. Idempotent by (target, notice.dedupeKey). Fails for no target's sake: what failed is in the answer. By its name the system is
   * read from the inventory: for a run that was refused before it had one.
   */
  sendNotice(argument: { system: NoticeSystem | string; notice: Notice }): Promise<NoticeReport>;
}
