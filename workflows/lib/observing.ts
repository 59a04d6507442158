import { TemporalFailure } from '@temporalio/common';
import { isCancellation, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { Observation } from '../contracts/calls.js';
import type { FrameActivities } from '../contracts/frame-activities.js';
import type { PlannedRun, PlanningMoment, PreparedRun } from '../contracts/planning.js';
import type { RunInput } from '../contracts/run.js';
import type { System } from '../contracts/system.js';
import { HEARTBEAT_TIMEOUT } from './activity-options.js';
import { laneTarget, runCall, taskQueueFor } from './calls.js';
import type { Progress } from './progress.js';

const local = proxyLocalActivities<Pick<FrameActivities, 'prepareRun' | 'planRun' | 'facetsOf'>>({
  startToCloseTimeout: '30 seconds',
  retry: { maximumAttempts: 3 },
});

/** Looks at the hosts and makes plans from what is seen. */
export interface Observing {
  /** The inventory as it was read last; undefined before the first look. */
  readonly prepared: PreparedRun | undefined;
  /** The system of the run. Throws before the first look: a mistake in guardia. */
  system: () => System;
  plan(): Promise<PlannedRun>;
  /** The names of the facets that do not look as they did for this plan. */
  changedSince(planned: PlannedRun): Promise<string[]>;
}

export function createObserving(run: {
  runbook: string;
  input: RunInput;
  moment: PlanningMoment;
  progress: Progress;
}): Observing {
  const { runbook, input, moment, progress } = run;
  let prepared: PreparedRun | undefined;
  let expected: Record<string, number> | undefined;

  let seen: Observation = {};

  /** Asks everything, or only what an undo answers for: of the rest the last answer stands. */
  const look = async (of: 'everything' | 'what is undone'): Promise<Observation> => {
    prepared = await local.prepareRun({ runbook, input, moment });
    const { system, observe, elsewhere = [] } = prepared;
    const questions =
      of === 'everything' ? observe : observe.filter(({ as }) => !(elsewhere.includes(as) && as in seen));
    const answers = await Promise.allSettled(
      questions.map((question) => {
        const target = laneTarget(system, question.on);
        return runCall(
          question.call,
          {
            system: system.system,
            runbook,
            workflowId: moment.workflowId,
            runId: moment.runId,
            step: 'observe',
            generation: 1,
            runAgainIfLost: false,
            ...(target ? { target } : {}),
          },
          { summary: question.title ?? `look at ${question.as}` },
        );
      }),
    );
    const failed = answers.find((answer) => answer.status === 'rejected');
    if (failed) throw failed.reason;
    const answered = questions.map(({ as }, index) => [as, (answers[index] as PromiseFulfilledResult<unknown>).value]);
    seen = { ...seen, ...(Object.fromEntries(answered) as Observation) };
    return seen;
  };

  /** Only for people to read: a run is not held up for it. */
  const readExpected = async (system: System): Promise<Record<string, number>> => {
    try {
      return await proxyActivities<Pick<FrameActivities, 'readExpectedDurations'>>({
        taskQueue: taskQueueFor(undefined),
        startToCloseTimeout: '10 seconds',
        heartbeatTimeout: HEARTBEAT_TIMEOUT,
        retry: { maximumAttempts: 2 },
        summary: 'read how long it took before',
      }).readExpectedDurations({ system, runbook });
    } catch (error) {
      if (isCancellation(error) || !(error instanceof TemporalFailure)) throw error;
      return {};
    }
  };

  return {
    get prepared() {
      return prepared;
    },
    system() {
      if (!prepared) throw new Error('the system is not known before the first look');
      return prepared.system;
    },
    async plan() {
      progress.phase('observing');
      const observation = await look('everything');
      const { system } = prepared as PreparedRun;
      expected ??= await readExpected(system);
      progress.phase('planning');
      const planned = await local.planRun({ runbook, input, system, observation, moment, expected });
      progress.planned(planned.plan, planned.digest);
      return planned;
    },
    async changedSince(planned) {
      const { facets, elsewhere } = await local.facetsOf({ runbook, observation: await look('what is undone') });
      const names = new Set([...Object.keys(planned.facets), ...Object.keys(facets)]);
      return [...names].filter((name) => planned.facets[name] !== facets[name] && !elsewhere.includes(name));
    },
  };
}
