import { ApplicationFailure, TemporalFailure } from '@temporalio/common';
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  log,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { calls, isCallName } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import { endNotice, type Notice } from '../contracts/notice.js';
import { stepsOf, type Plan } from '../contracts/plan.js';
import type { PlannedRun, PlanningMoment } from '../contracts/planning.js';
import {
  planQuery,
  statusQuery,
  type EndState,
  type RunInput,
  type RunReport,
  type RunStatus,
} from '../contracts/run.js';
import type { Runbook } from '../contracts/runbooks.js';
import { GuardiaEnd, GuardiaRequester, GuardiaRunbook, GuardiaSystem } from '../contracts/search-attributes.js';
import { apply, type Applying } from './apply.js';
import { createGates } from './approval.js';
import type { Inheritance } from './child-runbook.js';
import { endOf, standing, whatFailed } from './endings.js';
import { createGuidedFailure } from './guided-failure.js';
import { createHolds } from './holds.js';
import { createHostsHeld } from './hosts-held.js';
import { parseInput } from './input.js';
import { refuseLeftBehind } from './left-behind.js';
import { acquireLocks, lockablesOf, throwIfCancelled, type Lock } from './lock.js';
import { createNotices } from './notices.js';
import { createObserving } from './observing.js';
import { gateWait, holdWait, tellingOf } from './person-waits.js';
import { createProgress, type Progress } from './progress.js';
import { createRecording } from './recording.js';
import { whyUnproved } from './requester.js';
import { createSaga } from './saga.js';
import { createUndoing } from './undoing.js';

/** How often a plan is made anew because the hosts changed between its making and the lock. */
const REPLANS = 3;

/** The movements of a run, for the workflow of a runbook to put in order. */
export interface Run<I> {
  readonly input: I;
  /** Observes and plans. With `plan: true` in the input the run ends here. */
  plan(): Promise<PlannedRun>;
  /** Asks the people whom the policy names; returns at once where it names none. */
  approve(planned: PlannedRun): Promise<void>;
  /** Takes the locks, looks again, and does what the plan says; undoes it when a step fails. A read-only runbook takes no lock. */
  apply(planned: PlannedRun): Promise<void>;
  /** What an applied step returned. */
  resultOf(step: string): Record<string, unknown> | undefined;
  /** Part of the run's result: small, for people and for other runs. */
  result(result: Record<string, unknown>): void;
}

/** Ends the run at once in a state that is no failure. Not a TemporalFailure, so nothing is undone. */
class Ended extends Error {
  readonly end: EndState;
  constructor(end: EndState, message: string) {
    super(message);
    this.end = end;
  }
}

function endIfNothingToDo({ plan }: PlannedRun): void {
  if (plan.stages.length === 0)
    throw new Ended('nothing to do', plan.notes.join('; ') || 'everything is as it should be');
}

/**
 * Makes the workflow of a runbook from its movements. Parses the input on the first line, answers `status`, takes decisions of people,
 * undoes on failure and on cancel, holds the locks until the last undo, and writes the record.
 */
export function runbook<I extends RunInput>(
  definition: Runbook & { input: { parse(raw: unknown): I } },
  movements: (run: Run<I>) => Promise<void>,
): (input: unknown, inheritance?: Inheritance) => Promise<RunReport> {
  return async (raw, inheritance) => {
    const input = parseInput(definition.input, raw, definition.name) as I;
    const info = workflowInfo();
    const { workflowId, runId, namespace } = info;
    const inherited = inheritance && info.parent?.runId === inheritance.runId ? inheritance : undefined;
    if (inheritance && !inherited)
      throw failure('InvalidInput', `${definition.name} takes one argument`, { remedy: 'Nothing was started' });
    const moment: PlanningMoment = { workflowId, runId, now: info.startTime.toISOString() };
    const progress = createProgress({
      runbook: definition.name,
      system: input.system,
      workflowId,
      runId,
      requester: input.requester,
      ...(input.reason !== undefined ? { reason: input.reason } : {}),
      phase: 'starting',
      startedAt: moment.now,
      steps: [],
      gates: [],
      holds: [],
      recoveries: [],
      notes: [],
      remaining: [],
    });
    setHandler(statusQuery, (): RunStatus => progress.status, {
      description: 'Where the run stands: its phase, its steps, what it waits for',
    });
    setHandler(planQuery, () => (planned ? { plan: planned.plan, digest: planned.digest } : null), {
      description: 'The plan of the run, with the digest that people approve',
    });
    upsertSearchAttributes([
      { key: GuardiaRunbook, value: definition.name },
      { key: GuardiaSystem, value: input.system },
      { key: GuardiaRequester, value: input.requester },
    ]);

    let planned: PlannedRun | undefined;
    const saga = createSaga();
    const results = new Map<string, unknown>();
    const observing = createObserving({ runbook: definition.name, input, moment, progress });
    const held = createHostsHeld({ runId, workflowId, progress, inherited });
    const recording = createRecording({ workflowId, runId, progress, system: () => observing.prepared?.system });
    const notices = createNotices(() => observing.prepared?.system ?? input.system, progress.note);
    /** What runs as a step of another run is that run's to tell. */
    const tell = (notice: Notice | undefined): void => {
      if (notice && !inherited) notices.tell(notice);
    };
    const holds = createHolds({
      progress,
      system: observing.system,
      asking: (hold) => tellingOf(progress.status, holdWait(workflowId, hold), tell),
    });
    let unproved: Promise<string | undefined> | undefined;
    const gates = createGates({
      progress,
      place: { namespace, workflowId, runId },
      requester: input.requester,
      unproved: () =>
        (unproved ??= whyUnproved({
          place: { namespace, workflowId, runbook: definition.name },
          ...{ runId, input, raw, startedAt: info.startTime, system: observing.system() },
        })),
      system: observing.system,
      asking: (gate) => tellingOf(progress.status, gateWait(workflowId, gate), tell),
    });
    let applying: Applying | undefined;
    let lock: Lock | undefined;
    let tookOver = false;
    const place = { runbook: definition.name, workflowId, runId };
    const inHand = { input, place, progress, observing, saga, results };
    const guided = createGuidedFailure({ ...inHand, gates, holds, applying: () => applying });
    const unattended = () => planned?.plan.unattended === true;
    const undoing = createUndoing({ progress, observing, saga, holds, unattended });

    const record = (entry: 'plan' | 'committed' | 'end'): Promise<void> =>
      recording.record(entry, report(progress, planned?.plan));

    const run: Run<I> = {
      input,
      async plan() {
        const made = await observing.plan();
        planned = made;
        if (input.plan)
          throw new Ended('planned', `the plan has ${progress.status.steps.length} steps; nothing was started`);
        endIfNothingToDo(made);
        return made;
      },
      async approve({ plan, digest }) {
        // What runs as a step of another run was agreed to with that run's plan.
        if (inherited) return;
        await gates.check(plan.stages.flatMap(({ gate }) => gate ?? []));
        if (plan.gate) await guided.ask(plan.gate, digest);
      },
      async apply(first) {
        if (definition.readOnly) refuseChanges(first.plan);
        const ready = definition.readOnly ? first : await lockAndLookAgain(first);
        planned = ready;
        const { plan, digest } = ready;
        progress.planned(plan, digest);
        progress.phase('applying');
        if (!definition.readOnly) await record('plan');
        applying = {
          ...{ plan, saga, progress, workflowId, runId, results },
          system: observing.system(),
          fences: held.fences,
          ask: (gate) => guided.askInTheMidst(gate, ready),
          onFailure: (failed, forgiven) => guided.onFailure(failed, forgiven),
          keepLog: recording.keepLog,
          onCommit: () => record('committed'),
          lost: new Set(),
          failedAt: new Map(),
          pastCancel: false,
          ended: false,
        };
        await apply(applying);
      },
      resultOf: (step) => results.get(step) as Record<string, unknown> | undefined,
      result: (result) =>
        void (progress.status.result = { ...progress.status.result, ...result } as RunStatus['result']),
    };

    /** Stops what older runs have left at work, and refuses to work on top of changes that a terminated one has left. */
    const takeOver = async (plan: Plan): Promise<void> => {
      const system = observing.system();
      tookOver = true;
      const unrepaired = await held.takeOver(plan, system);
      if (definition.afterTerminated || inherited) return;
      await refuseLeftBehind(unrepaired, {
        ...{ system, runbook: definition.name, workflowId, runId },
        ...{ fences: held.fences, note: progress.note },
      });
    };

    /**
     * Takes the locks and the hosts over, and makes the plan again once nobody else is at work there; where that is another one than before, people
     * are asked again, without locks.
     */
    const lockAndLookAgain = async (first: PlannedRun): Promise<PlannedRun> => {
      let before = first;
      if (inherited) {
        // The locks are the parent's, and it has looked.
        await takeOver(before.plan);
        return before;
      }
      for (let again = 0; ; again++) {
        progress.phase('waiting for the lock');
        lock = await acquireLocks(
          lockablesOf(observing.system()),
          { workflowId, runId, runbook: definition.name, requester: input.requester },
          {
            waitSeconds: input.waitForLockMinutes * 60,
            onWait: (why) => progress.phase('waiting for the lock', why),
          },
        );
        const inventoryBefore = observing.prepared?.systemDigest;
        await takeOver(before.plan);
        const now = await observing.plan();
        // A plan holds addresses, names and references of the inventory it was made from.
        const edited = observing.prepared?.systemDigest !== inventoryBefore;
        if (now.facetsDigest === before.facetsDigest && !edited) return before;
        await CancellationScope.nonCancellable(async () => {
          await held.leave({ keepJournal: false, again: true });
          await lock?.release();
        });
        tookOver = false;
        lock = undefined;
        throwIfCancelled();
        if (again === REPLANS)
          throw failure('InvalidPlan', `${input.system} keeps changing while the run waits for its lock`, {
            remedy: 'Look who else works on it, then start the run again',
          });
        progress.note(
          `The ${edited ? 'inventory' : `hosts (${changedFacets(before, now).join(', ')})`} changed between the plan and the lock: planned anew.`,
        );
        endIfNothingToDo(now);
        before = now;
        planned = now;
        await run.approve(now);
      }
    };

    const finish = async (end: EndState, message: string): Promise<void> => {
      progress.status.end = end;
      progress.status.message = message;
      progress.status.endedAt = new Date(Date.now()).toISOString();
      if (applying || tookOver) {
        progress.phase('recording');
        await record('end');
      }
      await held.leave({ keepJournal: undoing.incomplete });
      progress.phase('ended');
      upsertSearchAttributes([{ key: GuardiaEnd, value: end }]);
      await lock?.release();
      if (!input.plan) tell(endNotice(progress.status));
      await notices.settled();
      await condition(allHandlersFinished);
    };

    try {
      await movements(run);
      await CancellationScope.nonCancellable(() =>
        finish('succeeded', `${definition.name} of ${input.system} succeeded`),
      );
      return report(progress, planned?.plan);
    } catch (error) {
      if (error instanceof Ended) {
        await CancellationScope.nonCancellable(() => finish(error.end, error.message));
        return report(progress, planned?.plan);
      }
      // A mistake in guardia or a version that does not fit: the run waits as it is for a worker that can go on.
      if (!(error instanceof TemporalFailure)) throw error;
      return CancellationScope.nonCancellable(async () => {
        const changed = saga.size > 0;
        if (changed) progress.phase('undoing');
        await undoing.all();
        if (changed && planned && !saga.committed && !planned.plan.unattended && !undoing.incomplete)
          await undoing.seeThatItIsAsBefore(planned);
        const { incomplete } = undoing;
        const end = endOf(error, { started: applying !== undefined, changed, incomplete, saga });
        const left = definition.readOnly ? '' : `; ${standing({ saga, changed, incomplete, progress })}`;
        const message = `${definition.name} of ${input.system}: ${whatFailed(error, applying?.failedAt.get(error))}${left}`;
        log.warn(message);
        await finish(end, message);
        if (end === 'cancelled') throw error;
        throw ApplicationFailure.create({
          type: end,
          message,
          nonRetryable: true,
          details: [report(progress, planned?.plan)],
          cause: error,
        });
      });
    }
  };
}

/** A runbook that holds no lock may not change anything. Throws `InvalidPlan`. */
function refuseChanges(plan: Plan): void {
  const change = stepsOf(plan).find(
    ({ step: { undo, do: call } }) =>
      'activity' in undo || !isCallName(call.activity) || !['observe', 'watch'].includes(calls[call.activity]),
  );
  if (change)
    throw failure(
      'InvalidPlan',
      `${plan.runbook} only reads, but step ${change.step.id} of its plan changes something`,
    );
}

const changedFacets = (before: PlannedRun, now: PlannedRun): string[] =>
  [...new Set([...Object.keys(before.facets), ...Object.keys(now.facets)])].filter(
    (name) => before.facets[name] !== now.facets[name],
  );

function report(progress: Progress, plan: Plan | undefined): RunReport {
  const { end, message, result, ...rest } = progress.status;
  // The first thing that a reader of the raw result wants to see.
  const first = { ...(end ? { end } : {}), ...(message ? { message } : {}), ...(result ? { result } : {}) };
  return { ...first, ...rest, ...(plan ? { plan } : {}) };
}
