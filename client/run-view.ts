import type { WorkflowExecutionInfo } from '@temporalio/client';
import { endStates, EndState, type RunReport, type RunStatus, type StepStatus } from '../workflows/contracts/run.js';
import { runbooks, type Runbook } from '../workflows/contracts/runbooks.js';
import { GuardiaEnd } from '../workflows/contracts/search-attributes.js';
import { durationText } from './text-units.js';

/** How a run ended: one of guardia's ends, or one that Temporal made without asking the run. */
export type RunEnd = EndState | 'terminated' | 'timed out';

/** How a closed run ended: what it says of itself, as the last thing before it tells people; else how Temporal ended it. */
export function endOf({
  status,
  typedSearchAttributes,
}: Pick<WorkflowExecutionInfo, 'status' | 'typedSearchAttributes'>): RunEnd {
  const said = EndState.safeParse(typedSearchAttributes.get(GuardiaEnd)).data;
  if (said !== undefined) return said;
  switch (status.name) {
    case 'COMPLETED':
      return 'succeeded';
    case 'TERMINATED':
      return 'terminated';
    case 'TIMED_OUT':
      return 'timed out';
    case 'CANCELLED':
      return 'cancelled';
    default:
      return 'failed';
  }
}

/** An activity that is under way, as Temporal tells it. */
export interface RunActivity {
  activity: string;
  /** The step that it works on, where its heartbeat names one. */
  step?: string | undefined;
  attempt: number;
  /** What the last attempt failed with. */
  lastFailure?: string | undefined;
  /** The host does not answer at the moment. */
  unreachable?: string | undefined;
  /** What its job last told: `bytes` read, `stored` bytes and whatever else. */
  progress?: Record<string, unknown> | undefined;
  bytesPerSecond?: number | undefined;
}

/** Why an open run does not move. */
export interface RunTrouble {
  kind: 'no worker' | 'parked' | 'no answer';
  message: string;
}

/** Everything that the command knows about a run at one moment: what `watch --json` prints, line by line. */
export interface RunView {
  workflowId: string;
  runId: string;
  runbook: string;
  system?: string | undefined;
  /** A run that has ended is open until its notices are told: `end` says it. */
  open: boolean;
  startedAt: string;
  endedAt?: string | undefined;
  end?: RunEnd | undefined;
  /** How it ended, in one sentence. */
  message?: string | undefined;
  /** The exit code of `guardia watch` for this end; absent before it. */
  exitCode?: number | undefined;
  /** Where the report is from: the open run, its result, its record in the object store, or only Temporal's own list. */
  source: 'run' | 'result' | 'record' | 'temporal';
  report?: RunStatus | RunReport | undefined;
  activities: RunActivity[];
  trouble?: RunTrouble | undefined;
}

/** Ends that Temporal makes leave things as they stand, like an undo that did not come to its end. */
export function exitCodeOfEnd(end: RunEnd): number {
  return end === 'terminated' || end === 'timed out'
    ? endStates['rollback incomplete'].exitCode
    : endStates[end].exitCode;
}

/** The step of a job id (activities/activity-context.ts): `RUN-STEP-gN` or `RUN-STEP-PART-gN`. */
export function stepOfJob(job: string, runId: string, steps: readonly Pick<StepStatus, 'id'>[]): string | undefined {
  if (!job.startsWith(`${runId}-`)) return undefined;
  const name = job.slice(runId.length + 1).replace(/-g\d+$/, '');
  const fitting = steps.filter(({ id }) => name === id || name.startsWith(`${id}-`));
  return fitting.sort((a, b) => b.id.length - a.id.length)[0]?.id;
}

/** How long a step has taken or takes until now; undefined before it started. Milliseconds. */
export function stepMilliseconds(step: StepStatus, now: number): number | undefined {
  if (step.startedAt === undefined) return undefined;
  return (step.endedAt === undefined ? now : Date.parse(step.endedAt)) - Date.parse(step.startedAt);
}

/** How long at least one of these steps was under way: without the time between them, in which a run waits for people and for locks. Milliseconds. Pure. */
export function stepsMilliseconds(steps: readonly Pick<StepStatus, 'startedAt' | 'endedAt'>[]): number {
  const spans = steps
    .flatMap(({ startedAt, endedAt }) =>
      startedAt === undefined || endedAt === undefined
        ? []
        : [{ from: Date.parse(startedAt), until: Date.parse(endedAt) }],
    )
    .sort((a, b) => a.from - b.from);
  let counted = 0;
  let sum = 0;
  for (const { from, until } of spans) {
    sum += Math.max(0, until - Math.max(from, counted));
    counted = Math.max(counted, until);
  }
  return sum;
}

export function runMilliseconds(view: Pick<RunView, 'startedAt' | 'endedAt'>, now: number): number {
  return (view.endedAt === undefined ? now : Date.parse(view.endedAt)) - Date.parse(view.startedAt);
}

/** What a run is called in a sentence. */
export function runTitle(view: Pick<RunView, 'runbook' | 'system'>): string {
  return view.system === undefined ? view.runbook : `${view.runbook} of ${view.system}`;
}

/** The phases in which nothing has been changed yet. */
const BEFORE_CHANGES = ['starting', 'observing', 'planning', 'waiting for approval', 'waiting for the lock'];

/** Whether a run that Temporal ended in this phase may have left changes on hosts; undefined: no worker had taken it up. */
export function mayHaveLeft(runbook: string, phase: string | undefined): boolean {
  const known: Record<string, Runbook> = runbooks;
  return phase !== undefined && !BEFORE_CHANGES.includes(phase) && known[runbook]?.readOnly !== true;
}

/** One sentence for the end of a run whose own words are not known. `reason`: what somebody gave as theirs. */
export function endSentence(
  view: Pick<RunView, 'runbook' | 'system' | 'startedAt' | 'endedAt'> & { phase?: string | undefined },
  end: RunEnd,
  reason?: string,
): string {
  const after = view.endedAt === undefined ? '' : ` after ${durationText(runMilliseconds(view, 0))}`;
  const why = reason === undefined ? '' : ` (${reason})`;
  // Where the phase is not known, it may have been any.
  const left = mayHaveLeft(view.runbook, view.phase ?? 'applying')
    ? `what it had done was not undone; guardia run repair ${view.system ?? 'SYSTEM'} --plan says what it left, and how that is undone`
    : 'it had changed nothing';
  if (end === 'terminated') return `${runTitle(view)} was terminated from outside${after}${why}: ${left}`;
  if (end === 'timed out') return `${runTitle(view)} ran out of time${after}: ${left}`;
  return `${runTitle(view)}: ${end}${after}`;
}
