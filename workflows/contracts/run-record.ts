import { z } from 'zod';
import type { Plan } from './plan.js';
import { RunReport } from './run.js';

/*
 * The record of a run, in the system's bucket, so that it outlives Temporal's history:
 *
 *   PREFIX SYSTEM/runs/WORKFLOW-ID/RUN-ID/plan.json    before the first step: the plan that is run
 *                                         committed.json  behind the point of no return, once it is
 *                                         end.json     how it ended; `previous` is the SHA-256 of the entry before
 *                                         report.md    the same for people
 *                                         logs/        STEP-gN.log: everything that a failed job printed
 */
export const RecordEntry = z.enum(['plan', 'committed', 'end']);
export type RecordEntry = z.infer<typeof RecordEntry>;

export const RunRecord = z.object({
  schemaVersion: z.literal(1),
  entry: RecordEntry,
  previous: z
    .string()
    .nullable()
    .describe('SHA-256 of the entry before, in hex: a chain that shows what was changed afterwards'),
  report: RunReport,
});
export type RunRecord = z.infer<typeof RunRecord>;

/** Where the records of a system are. */
export function recordsPrefix(prefix: string, system: string): string {
  return `${prefix}${system}/runs/`;
}

/** Where the records of all runs of one workflow id are. */
export function recordsOfWorkflow(prefix: string, system: string, workflowId: string): string {
  return `${recordsPrefix(prefix, system)}${workflowId.replaceAll(/[^A-Za-z0-9.-]/g, '_')}/`;
}

export function recordKeys(prefix: string, system: string, run: { workflowId: string; runId: string }) {
  const base = `${recordsOfWorkflow(prefix, system, run.workflowId)}${run.runId}/`;
  return {
    base,
    entry: (entry: RecordEntry) => `${base}${entry}.json`,
    report: `${base}report.md`,
    log: (step: string, generation: number) => `${base}logs/${step}-g${generation}.log`,
  };
}

/** How long each step took in the last runs that succeeded, newest last. Seconds. */
export const Durations = z.record(z.string(), z.array(z.number().nonnegative()));
export type Durations = z.infer<typeof Durations>;

/** Where the durations of a runbook are kept. */
export function durationsKey(prefix: string, system: string, runbook: string): string {
  return `${prefix}${system}/durations/${runbook}.json`;
}

/** What the record tells about a run that was terminated: enough to undo what it left. */
export interface LeftRecord {
  runId: string;
  workflowId: string;
  /** Null where the bucket has no record of it. */
  plan: Plan | null;
  /** Whether it was behind its point of no return. */
  committed: boolean;
  /** Whether it came to its end, and could only not leave a host: there is nothing of it to be undone. */
  ended: boolean;
}
