import { z } from 'zod';
import { Gate } from './gate.js';
import { Name, StepId } from './names.js';

export { StepId };

/** A plan's format selects the interpreter: recorded plans outlive the code that made them. */
export const PLAN_FORMAT = 1;

/** One call of an activity, as data. Secrets appear as references only, file contents by digest. */
export const Call = z.strictObject({
  activity: z.string().describe('Name in the table of contracts/calls.ts'),
  with: z
    .record(z.string(), z.json())
    .describe('Its argument; { from: STEP, path: A.B } stands for a result of an earlier step'),
});
export type Call = z.infer<typeof Call>;

export const NoUndo = z.strictObject({ none: z.string().describe('Why nothing needs to be undone') });

export const Step = z.strictObject({
  id: StepId,
  on: Name.optional().describe(
    "Host that it acts on, where that is not its lane's: the balancer, in the lane of a server",
  ),
  title: z.string().describe('What the step does, as an operator would say it'),
  why: z.string(),
  do: Call,
  undo: z.union([Call, NoUndo]).describe('Registered before `do` runs; never needs a result of `do`'),
  undoOpens: z
    .boolean()
    .optional()
    .describe(
      'Its undo lets people in again: it is left where a person has left an undo of its lane that comes before it',
    ),
  verify: Call.optional().describe('Proves from outside that the step did its work'),
  expectedSeconds: z.number().nonnegative().optional().describe('From runs before; not part of what is approved'),
  diff: z
    .string()
    .optional()
    .describe('What changes in a file, as a unified diff with secrets masked; the digest covers the call, not this'),
  repairs: z
    .strictObject({ workflowId: z.string(), runId: z.string(), step: StepId })
    .optional()
    .describe('The step acts as this step of a run that was terminated: it finds its journal and its jobs'),
  attempts: z
    .int()
    .min(1)
    .max(10)
    .optional()
    .describe(
      'How often the command itself may be run anew after it failed (default 1); a retry after a dead worker attaches and is not counted',
    ),
  runAgainIfLost: z
    .boolean()
    .optional()
    .describe('Whether a job that vanished with its host (reboot, power cut) may be started again (default: no)'),
});
export type Step = z.infer<typeof Step>;

export const Lane = z.strictObject({
  on: Name.describe("A host of the system, 'worker' for the worker's own machine, 'system' for no host"),
  steps: z.array(Step).min(1),
});
export type Lane = z.infer<typeof Lane>;

export const Stage = z.strictObject({
  title: z.string(),
  gate: Gate.optional().describe('Asked before the lanes begin'),
  atOnce: z.int().min(1).describe('How many lanes run side by side'),
  errorBudget: z
    .int()
    .min(0)
    .describe('How many lanes may fail before the stage fails; a lane that fails within it is undone at once'),
  rolling: z
    .boolean()
    .optional()
    .describe('A lane begins only while failed lanes and those under way together fit the error budget'),
  lanes: z.array(Lane).min(1),
});
export type Stage = z.infer<typeof Stage>;

export const Plan = z.strictObject({
  format: z.literal(PLAN_FORMAT),
  runbook: z.string(),
  system: z.string(),
  stages: z.array(Stage),
  downtime: z.array(
    z.strictObject({
      service: z.string(),
      seconds: z.number().nonnegative(),
      ifUndone: z.number().nonnegative().optional().describe('Seconds in all, where the change fails and is undone'),
    }),
  ),
  gate: Gate.optional().describe("Asked before anything is done: the system's policy for this runbook"),
  pointOfNoReturn: StepId.optional().describe('Once this step is done, nothing before it is undone'),
  unattended: z
    .boolean()
    .optional()
    .describe(
      'It never holds for a person: what a failure leaves does no harm, and the next run tidies it. Without it a failure behind the point of no return and an undo that fails hold',
    ),
  atStake: z
    .strictObject({ on: Name, call: Call })
    .optional()
    .describe('Asked when the run holds behind the point of no return: returns `lines` that name what would be lost'),
  notes: z.array(z.string()),
});
export type Plan = z.infer<typeof Plan>;

/**
 * What people approve: calls, undos, gates, the point of no return and the stated downtime. Notes, diffs and expected durations are for
 * reading only. Pure.
 */
export function approvedPart(plan: Plan): unknown {
  const { notes: _, stages, ...rest } = plan;
  return {
    ...rest,
    stages: stages.map((stage) => ({
      ...stage,
      lanes: stage.lanes.map((lane) => ({
        ...lane,
        steps: lane.steps.map(({ expectedSeconds: _seconds, diff: _diff, ...step }) => step),
      })),
    })),
  };
}

/** Where a step acts: a host, the worker's machine or the system. */
export const placeOf = (lane: Pick<Lane, 'on'>, step: Pick<Step, 'on'>): string => step.on ?? lane.on;

/** Every step of a plan with the lane it runs in, in the order of the plan. */
export function stepsOf(plan: Plan): { stage: Stage; lane: Lane; step: Step }[] {
  return plan.stages.flatMap((stage) =>
    stage.lanes.flatMap((lane) => lane.steps.map((step) => ({ stage, lane, step }))),
  );
}
