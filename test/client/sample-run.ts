import type { RunView } from '../../client/run-view.js';
import type { RunStatus, StepStatus } from '../../workflows/contracts/run.js';

export const STARTED = '2026-01-31T02:00:00.000Z';
export const RUN_ID = '0198c0de-0000-7000-8000-00000000abcd';

/** The time so many seconds after the run began: ISO 8601, or milliseconds since 1970. */
export const after = (seconds: number): string => new Date(Date.parse(STARTED) + seconds * 1000).toISOString();
export const at = (seconds: number): number => Date.parse(after(seconds));

export function step(id: string, change: Partial<StepStatus> = {}): StepStatus {
  return { id, title: `do ${id}`, on: 'app', stage: 'save', state: 'waiting', generation: 1, ...change };
}

export function status(change: Partial<RunStatus> = {}): RunStatus {
  return {
    runbook: 'backup',
    system: 'proofpass',
    workflowId: 'backup/proofpass/one',
    runId: RUN_ID,
    requester: 'ana',
    phase: 'applying',
    startedAt: STARTED,
    steps: [],
    gates: [],
    holds: [],
    recoveries: [],
    notes: [],
    remaining: [],
    ...change,
  };
}

export function view(report: Partial<RunStatus> = {}, change: Partial<RunView> = {}): RunView {
  return {
    workflowId: 'backup/proofpass/one',
    runId: RUN_ID,
    runbook: 'backup',
    system: 'proofpass',
    open: true,
    startedAt: STARTED,
    source: 'run',
    report: status(report),
    activities: [],
    ...change,
  };
}
