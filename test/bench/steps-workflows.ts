// The two contenders of `npm run bench -- steps`: the same steps through the interpreter of plans, and as bare activities.
import { proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { PLAN_FORMAT, stepsOf, type Plan } from '../../workflows/contracts/plan.js';
import type { System } from '../../workflows/contracts/system.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../../workflows/contracts/task-queues.js';
import { activityOptions } from '../../workflows/lib/activity-options.js';
import { apply } from '../../workflows/lib/apply.js';
import { createProgress } from '../../workflows/lib/progress.js';
import { createSaga } from '../../workflows/lib/saga.js';

/** Steps that do nothing, each with an undo, as a plan has them. */
function planOf(steps: number): Plan {
  return {
    format: PLAN_FORMAT,
    runbook: 'backup',
    system: 'bench',
    stages: [
      {
        title: 'steps',
        atOnce: 1,
        errorBudget: 0,
        lanes: [
          {
            on: 'system',
            steps: Array.from({ length: steps }, (_, index) => ({
              id: `step-${index}`,
              title: `step ${index}`,
              why: 'it costs what a step costs',
              do: { activity: 'writeManifest', with: { index } },
              undo: { activity: 'withdrawManifest', with: { index } },
            })),
          },
        ],
      },
    ],
    downtime: [],
    notes: [],
  };
}

const nothing = (): Promise<void> => Promise.resolve();

export async function stepsThroughApply(steps: number): Promise<void> {
  const { workflowId, runId, startTime } = workflowInfo();
  const plan = planOf(steps);
  const progress = createProgress({
    ...{ runbook: 'backup', system: 'bench', workflowId, runId, requester: 'bench', phase: 'applying' },
    ...{
      startedAt: startTime.toISOString(),
      steps: [],
      gates: [],
      holds: [],
      recoveries: [],
      notes: [],
      remaining: [],
    },
  });
  progress.planned(plan, '');
  await apply({
    ...{ plan, progress, workflowId, runId, saga: createSaga(), fences: new Map(), results: new Map() },
    // The interpreter reads of it only its name and its hosts, of which this plan has none.
    system: { system: 'bench', hosts: {} } as unknown as System,
    ask: nothing,
    keepLog: nothing,
    onFailure: () => Promise.resolve('fail'),
    onCommit: nothing,
    lost: new Set(),
    failedAt: new Map(),
    pastCancel: false,
    ended: false,
  });
}

export async function bareActivities(steps: number): Promise<void> {
  const { workflowId, runId } = workflowInfo();
  for (const { step } of stepsOf(planOf(steps))) {
    const { writeManifest } = proxyActivities<{ writeManifest: (input: CallInput) => Promise<unknown> }>({
      ...activityOptions('change'),
      taskQueue: taskQueueOfSite(DEFAULT_SITE),
      summary: step.title,
    });
    await writeManifest({
      with: step.do.with,
      context: {
        ...{ system: 'bench', runbook: 'backup', workflowId, runId, step: step.id, generation: 1 },
        runAgainIfLost: false,
      },
    });
  }
}
