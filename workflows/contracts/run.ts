import { defineQuery } from '@temporalio/workflow';
import { z } from 'zod';
import { GateStatus } from './gate.js';
import { Hold, TakenRecovery } from './hold.js';
import { SystemName } from './names.js';
import { Plan, StepId } from './plan.js';
import { RequesterProof } from './requester.js';

/** What every runbook's input holds; a runbook adds its own fields. */
export const runInput = {
  system: SystemName,
  plan: z.boolean().default(false).describe('Stop after the plan and return it: the dry run'),
  requester: z
    .string()
    .max(200)
    .default('unknown')
    .describe('Who asks for the run; self-declared where `requesterProof` does not prove it'),
  reason: z.string().max(2000).optional().describe('Why the run is started; kept in its record'),
  onFailure: z
    .enum(['rollback', 'hold'])
    .default('rollback')
    .describe('When a step has failed for good: undo everything, or hold until somebody says retry, skip or rollback'),
  waitForLockMinutes: z
    .int()
    .min(0)
    .max(1440)
    .default(60)
    .describe('Minutes to wait for other runs that hold the system or its hosts, before the run is refused'),
  requesterProof: RequesterProof.optional().describe(
    "The requester's signature, made by the command; without it a gate that counts signatures asks one more person",
  ),
};

export type RunInput = z.infer<z.ZodObject<typeof runInput>>;

/**
 * The ways a run can end, each with the exit code of the command. Listed here once.
 * A run that needs a person has not ended: it stays open and keeps its lock.
 */
export const endStates = {
  succeeded: { exitCode: 0, means: 'everything was done and seen to work' },
  'nothing to do': { exitCode: 0, means: 'the hosts were already as they should be' },
  planned: { exitCode: 0, means: 'the plan was made; nothing was started' },
  failed: { exitCode: 1, means: 'it ended before its goal; what stands is named, nothing is half done' },
  refused: { exitCode: 3, means: 'it was not started: the input, the inventory or a lock forbids it' },
  rejected: { exitCode: 4, means: 'people said no' },
  'rolled back': { exitCode: 5, means: 'a step failed, and everything before it was undone' },
  'rollback incomplete': {
    exitCode: 6,
    means: 'a step failed, and not everything could be undone: see the remaining steps',
  },
  cancelled: { exitCode: 7, means: 'it was cancelled, and what it had done was undone' },
} as const;
export type EndState = keyof typeof endStates;
export const EndState = z.enum(Object.keys(endStates) as [EndState, ...EndState[]]);

/** Exit codes of the command that are not an end of a run. */
export const commandExitCodes = {
  usage: { exitCode: 2, means: 'the command line or the input is wrong; nothing was started' },
  'still running': { exitCode: 10, means: 'the command stopped watching; the run goes on' },
  'needs a person': { exitCode: 11, means: 'the run is open and waits for a decision' },
  unreachable: { exitCode: 12, means: 'Temporal, a worker or the object store does not answer' },
  'not found': { exitCode: 13, means: 'no such run, system or recovery point' },
  internal: { exitCode: 70, means: 'a mistake in guardia itself' },
} as const;

export const StepState = z.enum([
  'waiting',
  'running',
  'done',
  'failed',
  'undoing',
  'undone',
  'undo failed',
  'kept',
  'skipped',
  'holding',
]);
export type StepState = z.infer<typeof StepState>;

export const StepStatus = z.object({
  id: StepId,
  title: z.string(),
  on: z.string(),
  stage: z.string(),
  state: StepState,
  startedAt: z.string().optional(),
  endedAt: z.string().optional(),
  expectedSeconds: z.number().optional(),
  note: z.string().optional().describe('One line: what came out, or why it failed'),
  generation: z.int().describe('How often the command was run anew'),
});
export type StepStatus = z.infer<typeof StepStatus>;

export const Phase = z.enum([
  'starting',
  'observing',
  'planning',
  'waiting for approval',
  'waiting for the lock',
  'applying',
  'waiting for a person',
  'undoing',
  'recording',
  'ended',
]);
export type Phase = z.infer<typeof Phase>;

/** Where a run stands: the answer of the `status` query, the body of its report, the source of every view. */
export const RunStatus = z.object({
  runbook: z.string(),
  system: z.string(),
  workflowId: z.string(),
  runId: z.string(),
  requester: z.string(),
  reason: z.string().optional(),
  phase: Phase,
  waitingFor: z.string().optional(),
  startedAt: z.string(),
  endedAt: z.string().optional(),
  planDigest: z.string().optional(),
  steps: z.array(StepStatus),
  gates: z.array(GateStatus).default([]).describe('Every gate that was opened, the newest last'),
  holds: z.array(Hold).default([]).describe('Where the run holds for a person now'),
  recoveries: z.array(TakenRecovery).default([]).describe('What people said when it held'),
  notes: z.array(z.string()),
  end: EndState.optional(),
  message: z.string().optional().describe('One sentence: how it ended'),
  remaining: z.array(z.string()).describe('What a person still has to do by hand'),
  result: z.record(z.string(), z.json()).optional(),
});
export type RunStatus = z.infer<typeof RunStatus>;

/** What a run returns, and what its record holds at the end. */
export const RunReport = RunStatus.extend({ plan: Plan.optional() });
export type RunReport = z.infer<typeof RunReport>;

export const statusQuery = defineQuery<RunStatus>('status');

/** The plan that a run has made, with the digest that people approve; null while there is none. */
export interface CurrentPlan {
  plan: Plan;
  digest: string;
}
export const planQuery = defineQuery<CurrentPlan | null>('plan');
