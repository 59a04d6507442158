import { TemporalFailure } from '@temporalio/common';
import { CancellationScope, isCancellation } from '@temporalio/workflow';
import { failure, isFailure } from '../contracts/errors.js';
import type { Gate } from '../contracts/gate.js';
import type { Hold } from '../contracts/hold.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { Call, Plan } from '../contracts/plan.js';
import type { PlannedRun } from '../contracts/planning.js';
import type { RunInput } from '../contracts/run.js';
import type { Applying, FailedStep } from './apply.js';
import type { Gates } from './approval.js';
import { laneTarget, resolveReferences, runCall } from './calls.js';
import type { Holds } from './holds.js';
import type { Observing } from './observing.js';
import { reasonOf, type Progress } from './progress.js';
import type { Saga } from './saga.js';

/** What a person said is to be done about a failure. `fail`: the run ends. */
type Answer = 'retry' | 'skip' | 'fail';

/** What becomes of a run where something goes wrong, or nobody agrees: people decide where the plan, the input or the point of no return says so. */
export interface GuidedFailure {
  /** Asks people. Where nobody has answered in time and the gate says so, the run waits until somebody has it asked again or ends it. */
  ask(gate: Gate, digest: string): Promise<void>;
  /** A gate in the midst of a plan. Behind the point of no return a no, a silence or a cancel ends nothing by itself: a person decides what comes of it. */
  askInTheMidst(gate: Gate, planned: PlannedRun): Promise<void>;
  /**
   * Holds for a person where the plan or the input says so. Behind the point of no return nothing is decided without one: neither a failure, unless
   * the stage may fail as a whole (`forgiven`), nor a cancel, also one that comes while the run holds.
   */
  onFailure(failed: FailedStep, forgiven: boolean): Promise<Answer>;
}

export function createGuidedFailure(run: {
  input: RunInput;
  place: { runbook: string; workflowId: string; runId: string };
  progress: Progress;
  observing: Observing;
  saga: Saga;
  results: ReadonlyMap<string, unknown>;
  gates: Gates;
  holds: Holds;
  /** The plan that is being done, and how far it is; undefined before that. */
  applying: () => Applying | undefined;
}): GuidedFailure {
  const { input, place, progress, observing, saga, results, gates, holds, applying } = run;

  const ask = async (gate: Gate, digest: string): Promise<void> => {
    for (;;) {
      try {
        return await gates.ask(gate, digest);
      } catch (error) {
        if (!isFailure(error, 'ApprovalTimedOut') || gate.onTimeout !== 'hold' || saga.committed) throw error;
        const { decision, by, why } = await holds.ask({
          ...{ id: gate.id, kind: 'gate timed out', title: gate.title, on: SYSTEM_LANE, reason: error.message },
          ...{ atStake: [], byHand: [], choices: ['retry', 'rollback'] },
        });
        progress.note(`${by} said ${decision} after nobody had decided about "${gate.title}": ${why}`);
        if (decision !== 'retry')
          throw failure('ApprovalRejected', `${error.message}, and ${by} ended the run: ${why}`);
      }
    }
  };

  /** Holds until a person has decided, and does what ends the run. */
  const decided = async (asked: () => Promise<Omit<Hold, 'since'>>): Promise<Answer> => {
    const hold = await asked();
    const { decision, by, why } = await holds.ask(hold);
    progress.note(`${by} said ${decision} at "${hold.title}": ${why}`);
    if (decision === 'retry' || decision === 'skip') return decision;
    if (decision === 'accept') {
      saga.keep();
      progress.status.remaining.push(...hold.byHand);
    }
    const now = applying();
    if (now) now.ended = true;
    return 'fail';
  };

  /** A cancel that a person has answered by going on does not cancel what follows. */
  const goOnPastCancel = (): void => {
    const now = applying();
    if (now && CancellationScope.current().consideredCancelled) now.pastCancel = true;
  };

  /** The rest of the plan: whoever ends the run behind the point of no return has to see to it. */
  const notDone = (): string[] =>
    progress.status.steps
      .filter(({ state }) => !['done', 'kept', 'skipped'].includes(state))
      .map(({ title, on, state }) => `"${title}" on ${on}: ${state === 'waiting' ? 'not begun' : state}`);

  /** What would be lost, for whoever decides behind the point of no return. */
  const atStake = async (plan: Plan): Promise<string[]> => {
    if (!plan.atStake) return [];
    const { on, call } = plan.atStake;
    const target = laneTarget(observing.system(), on);
    try {
      const answer = await runCall(
        { ...call, with: resolveReferences(call.with, results) as Call['with'] },
        {
          ...{ system: input.system, ...place, step: 'at-stake', generation: 1, runAgainIfLost: false },
          ...(target ? { target } : {}),
        },
        { summary: 'what is at stake' },
      );
      return (answer?.['lines'] as string[] | undefined) ?? [];
    } catch (error) {
      if (!(error instanceof TemporalFailure)) throw error;
      return [`what is at stake cannot be told: ${reasonOf(error)}`];
    }
  };

  return {
    ask,
    async askInTheMidst(gate, { plan, digest }) {
      for (;;) {
        try {
          const now = () => ask(gate, digest);
          await (applying()?.pastCancel ? CancellationScope.nonCancellable(now) : now());
          return progress.phase('applying');
        } catch (error) {
          if (!(error instanceof TemporalFailure) || !saga.committed || plan.unattended) throw error;
          const behind = async (): Promise<Omit<Hold, 'since'>> => ({
            ...{ id: gate.id, kind: 'point of no return', title: gate.title, on: SYSTEM_LANE },
            reason: isCancellation(error) ? 'the run was cancelled at this gate' : reasonOf(error),
            ...{ atStake: await atStake(plan), byHand: notDone() },
            choices: ['retry', 'rollback', 'accept'],
          });
          if ((await CancellationScope.nonCancellable(() => decided(behind))) === 'fail') throw error;
          goOnPastCancel();
        }
      }
    },
    async onFailure({ step, on, error }, forgiven) {
      const { plan } = applying() as Applying;
      const cancelled = isCancellation(error);
      const behind = saga.committed !== undefined;
      const wanted = input.onFailure === 'hold' && !cancelled;
      if (behind ? plan.unattended || (forgiven && !cancelled && !wanted) : !wanted) return 'fail';
      const left = behind ? notDone() : [];
      progress.step(step.id, { state: 'holding' });
      const asked = async (): Promise<Omit<Hold, 'since'>> => ({
        id: step.id,
        kind: behind ? 'point of no return' : 'step failed',
        title: step.title,
        on,
        reason: cancelled ? 'the run was cancelled in this step' : reasonOf(error),
        atStake: behind ? await atStake(plan) : [],
        byHand: left,
        choices: behind ? ['retry', 'skip', 'rollback', 'accept'] : ['retry', 'skip', 'rollback'],
      });
      try {
        const next = behind ? await CancellationScope.nonCancellable(() => decided(asked)) : await decided(asked);
        goOnPastCancel();
        return next;
      } finally {
        progress.step(step.id, { state: 'failed' });
      }
    },
  };
}
