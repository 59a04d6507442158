import type { HostTarget } from './host-target.js';
import type { Decision, DecisionPlace } from './gate.js';
import type { LockHolder } from './lock.js';
import type { Observation } from './calls.js';
import type { Notice, NoticeReport } from './notice.js';
import type { PlannedRun, PlanningMoment, PreparedRun } from './planning.js';
import type { RecordEntry } from './run-record.js';
import type { RequesterProof, RequestPlace } from './requester.js';
import type { RunReport } from './run.js';
import type { NoticeSystem } from './notice-system.js';
import type { System } from './system.js';

/** What a run finds when it takes a host over. */
export interface RaisedFence {
  number: number;
  /** The run that had the host before and never left it: it was terminated. */
  left?: string;
  /** Runs that were steps of it and worked here: they were terminated with it. */
  leftWith?: string[];
  /** Jobs and commands of earlier runs that were still under way and were stopped. */
  stopped: string[];
  /** Runs that were terminated here and whose changes nobody has seen to yet. */
  unrepaired: LeftRun[];
}

/** A run that was terminated and has left a journal of changes on a host. */
export interface LeftRun {
  runId: string;
  workflowId: string;
}

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
    /** Seconds that steps took in runs before, by step. */
    expected: Record<string, number>;
  }): Promise<PlannedRun>;
  /** Local. The digests of the facets of an observation, as planRun gives them, and those of them that an undo does not answer for. */
  facetsOf(argument: {
    runbook: string;
    observation: Observation;
  }): Promise<{ facets: Record<string, string>; elsewhere: string[] }>;
  /** How long the steps of a runbook took in the last runs that succeeded, by step, seconds. Empty where it cannot be known. */
  readExpectedDurations(argument: { system: System; runbook: string }): Promise<Record<string, number>>;
  /** Verifies the signature of a decision against the key of its approver. Throws `DecisionRefused` with the reason. Reads only. */
  verifyDecision(argument: { place: DecisionPlace; decision: Decision; signingKey: string }): Promise<void>;
  /**
   * Verifies that `name` signed this start of a run; `input` is the run's input as it was sent. Throws `DecisionRefused` with the reason. Reads
   * only.
   */
  verifyRequest(argument: {
    place: RequestPlace;
    runId: string;
    input: Record<string, unknown>;
    proof: RequesterProof;
    name: string;
    signingKey: string;
  }): Promise<void>;
  /** Takes the host over for the run. Idempotent by run. */
  raiseFence(argument: { target: HostTarget; runId: string; workflowId: string }): Promise<RaisedFence>;
  /** Says on the host that the run works under the fence of the run that it is a step of. Idempotent by run. */
  joinFence(argument: { target: HostTarget; fence: number; runId: string; workflowId: string }): Promise<void>;
  /**
   * Ends the run's time on the host and removes its jobs and journal there. Idempotent by run. With `inherited` the fence is another
   * run's and stays as it is; with `again` this run may raise it later once more.
   */
  closeFence(argument: {
    target: HostTarget;
    runId: string;
    keepJournal: boolean;
    inherited: boolean;
    again: boolean;
  }): Promise<void>;
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
   * read from the inventory: for a run that was refused before it had one. `only` names the targets that are told; default: all that the notice is for.
   */
  sendNotice(argument: {
    system: NoticeSystem | string;
    notice: Notice;
    only?: readonly string[];
  }): Promise<NoticeReport>;
}
