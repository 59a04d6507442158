import { ApplicationFailure, TemporalFailure } from '@temporalio/common';
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  isCancellation,
  log,
  setHandler,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { calls, isCallName } from '../contracts/calls.js';
import { failure, isFailure, type FailureType } from '../contracts/errors.js';
import type { Gate, GateStatus } from '../contracts/gate.js';
import { recoverChoices, type Hold } from '../contracts/hold.js';
import { endNotice, waitNotices, type Notice, type PersonWait } from '../contracts/notice.js';
import { stepsOf, type Call, type Plan } from '../contracts/plan.js';
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
import { SYSTEM_LANE } from '../contracts/names.js';
import { apply, type Applying, type FailedStep } from './apply.js';
import { createGates } from './approval.js';
import { laneTarget, resolveReferences, runCall } from './calls.js';
import type { Inheritance } from './child-runbook.js';
import { createHolds } from './guided-failure.js';
import { createHostsHeld } from './hosts-held.js';
import { refuseLeftBehind } from './left-behind.js';
import { parseInput } from './input.js';
import { acquireLocks, lockablesOf, type Lock } from './lock.js';
import { createNotices } from './notices.js';
import { createObserving } from './observing.js';
import { applicationFailureIn, createProgress, reasonOf, type Progress } from './progress.js';
import { whyUnproved } from './requester.js';
import { createRecording } from './recording.js';
import { createSaga, type Compensation, type FailedUndo, type Saga } from './saga.js';
import type { Telling } from './waiting-for-people.js';

/** How often a plan is made anew because the hosts changed between its making and the lock. */
const REPLANS = 3;
/** How often, and after how many seconds again, a run looks whether all is as before its undo, before it holds for a person. */
const LOOKS_AFTER_UNDO = 5;
const LOOK_AGAIN_SECONDS = 6;

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

/** Failures before anything was started: the run was refused, it did not fail. */
const refusals = new Set<string>([
  'InvalidInput',
  'UnknownSystem',
  'InvalidInventory',
  'UnsetValue',
  'InvalidPlan',
  'HostLocked',
  'LeftBehind',
  'DataAtStake',
  'NobodyMayDecide',
] satisfies FailureType[]);

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
    const telling = (wait: PersonWait): Telling => {
      const words = waitNotices(progress.status, wait);
      const now = () => new Date(Date.now()).toISOString();
      let reminders = 0;
      return {
        tell(event, tier) {
          if (event === 'opened') tell(words.first(tier));
          else if (event === 'escalation') tell(words.escalation(tier, now()));
          else tell(words.reminder(++reminders, now(), tier));
        },
        takenUp: (by, tier) => tell(words.takenUp(by, now(), tier)),
        over: (outcome, tier) => tell(words.over(outcome, now(), tier)),
      };
    };
    const holds = createHolds({
      progress,
      system: observing.system,
      asking: (hold) => telling(holdWait(workflowId, hold)),
    });
    let unproved: Promise<string | undefined> | undefined;
    const gates = createGates({
      progress,
      place: { namespace, workflowId, runId },
      requester: input.requester,
      unproved: () =>
        (unproved ??= whyUnproved({
          place: { namespace, workflowId, runbook: definition.name },
          ...{ input, raw, startedAt: info.startTime, system: observing.system() },
        })),
      system: observing.system,
      asking: (gate) => telling(gateWait(workflowId, gate)),
    });
    /** Asks people. Where nobody has answered in time and the gate says so, the run waits until somebody has it asked again or ends it. */
    const askPeople = async (gate: Gate, digest: string): Promise<void> => {
      for (;;) {
        try {
          return await gates.ask(gate, digest);
        } catch (error) {
          if (!isFailure(error, 'ApprovalTimedOut') || gate.onTimeout !== 'hold' || saga.committed) throw error;
          const { decision, by, why } = await holds.ask({
            ...{ id: gate.id, kind: 'gate timed out', title: gate.title, on: SYSTEM_LANE, reason: error.message },
            ...{ atStake: [], choices: ['retry', 'rollback'] },
          });
          progress.note(`${by} said ${decision} after nobody had decided about "${gate.title}": ${why}`);
          if (decision !== 'retry')
            throw failure('ApprovalRejected', `${error.message}, and ${by} ended the run: ${why}`);
        }
      }
    };
    /** A gate in the midst of a plan. Behind the point of no return a no, a silence or a cancel ends nothing by itself: a person decides what comes of it. */
    const askInTheMidst = async (gate: Gate, { plan, digest }: PlannedRun): Promise<void> => {
      for (;;) {
        try {
          const ask = () => askPeople(gate, digest);
          await (applying?.pastCancel ? CancellationScope.nonCancellable(ask) : ask());
          return progress.phase('applying');
        } catch (error) {
          if (!(error instanceof TemporalFailure) || !saga.committed || plan.unattended) throw error;
          const behind = async (): Promise<Omit<Hold, 'since'>> => ({
            ...{ id: gate.id, kind: 'point of no return', title: gate.title, on: SYSTEM_LANE },
            reason: isCancellation(error) ? 'the run was cancelled at this gate' : reasonOf(error),
            atStake: await atStake(plan),
            choices: ['retry', 'rollback', 'accept'],
          });
          if ((await CancellationScope.nonCancellable(() => decided(behind))) === 'fail') throw error;
          if (CancellationScope.current().consideredCancelled && applying) applying.pastCancel = true;
        }
      }
    };
    let applying: Applying | undefined;
    let lock: Lock | undefined;
    let tookOver = false;

    const record = (entry: 'plan' | 'committed' | 'end'): Promise<void> =>
      recording.record(entry, report(progress, planned?.plan));

    /**
     * Holds for a person where the plan or the input says so. Behind the point of no return nothing is decided without one: neither a failure, unless
     * the stage may fail as a whole, nor a cancel, also one that comes while the run holds.
     */
    const onFailure = async (
      { step, on, error }: FailedStep,
      forgiven: boolean,
    ): Promise<'retry' | 'skip' | 'fail'> => {
      const plan = (planned as PlannedRun).plan;
      const cancelled = isCancellation(error);
      const behind = saga.committed !== undefined;
      const wanted = input.onFailure === 'hold' && !cancelled;
      if (behind ? plan.unattended || (forgiven && !cancelled && !wanted) : !wanted) return 'fail';
      progress.step(step.id, { state: 'holding' });
      const asked = async (): Promise<Omit<Hold, 'since'>> => ({
        id: step.id,
        kind: behind ? 'point of no return' : 'step failed',
        title: step.title,
        on,
        reason: cancelled ? 'the run was cancelled in this step' : reasonOf(error),
        atStake: behind ? await atStake(plan) : [],
        choices: behind ? ['retry', 'skip', 'rollback', 'accept'] : ['retry', 'skip', 'rollback'],
      });
      try {
        const next = behind ? await CancellationScope.nonCancellable(() => decided(asked)) : await decided(asked);
        if (applying && CancellationScope.current().consideredCancelled) applying.pastCancel = true;
        return next;
      } finally {
        progress.step(step.id, { state: 'failed' });
      }
    };

    /** Holds until a person has decided, and does what ends the run. */
    const decided = async (asked: () => Promise<Omit<Hold, 'since'>>): Promise<'retry' | 'skip' | 'fail'> => {
      const hold = await asked();
      const { decision, by, why } = await holds.ask(hold);
      progress.note(`${by} said ${decision} at "${hold.title}": ${why}`);
      if (decision === 'retry' || decision === 'skip') return decision;
      if (decision === 'accept') saga.keep();
      if (applying) applying.ended = true;
      return 'fail';
    };

    /** What would be lost, for whoever decides behind the point of no return. */
    const atStake = async (plan: Plan): Promise<string[]> => {
      if (!plan.atStake) return [];
      const { on, call } = plan.atStake;
      const target = laneTarget(observing.system(), on);
      try {
        const answer = await runCall(
          { ...call, with: resolveReferences(call.with, results) as Call['with'] },
          {
            ...{ system: input.system, runbook: definition.name, workflowId, runId },
            ...{ step: 'at-stake', generation: 1, runAgainIfLost: false },
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
        if (plan.gate) await askPeople(plan.gate, digest);
      },
      async apply(first) {
        const ready = definition.readOnly ? first : await lockAndLookAgain(first);
        planned = ready;
        const { plan, digest } = ready;
        progress.planned(plan, digest);
        progress.phase('applying');
        if (definition.readOnly) refuseChanges(plan);
        else {
          tookOver = true;
          const unrepaired = await held.takeOver(plan, observing.system());
          if (!definition.afterTerminated && !inherited)
            await refuseLeftBehind(unrepaired, {
              ...{ system: observing.system(), runbook: definition.name, workflowId, runId },
              ...{ fences: held.fences, note: progress.note },
            });
          await record('plan');
        }
        applying = {
          ...{ plan, saga, progress, workflowId, runId, results, onFailure },
          system: observing.system(),
          fences: held.fences,
          ask: (gate) => askInTheMidst(gate, ready),
          keepLog: recording.keepLog,
          onCommit: () => record('committed'),
          undoFailed: [],
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

    /** Takes the locks and makes the plan again; where that is another one than before, people are asked again. */
    const lockAndLookAgain = async (first: PlannedRun): Promise<PlannedRun> => {
      // The locks are the parent's, and it has looked.
      if (inherited) return first;
      let before = first;
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
        const now = await observing.plan();
        // A plan holds addresses, names and references of the inventory it was made from.
        const edited = observing.prepared?.systemDigest !== inventoryBefore;
        if (now.facetsDigest === before.facetsDigest && !edited) return before;
        await lock?.release();
        lock = undefined;
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
      await held.leave({ keepJournal: progress.status.remaining.length > 0 });
      progress.phase('ended');
      upsertSearchAttributes([{ key: GuardiaEnd, value: end }]);
      await lock?.release();
      if (!input.plan) tell(endNotice(progress.status));
      await notices.settled();
      await condition(allHandlersFinished);
    };

    /** Undoes everything, and holds for a person at each undo that fails. Fills what remains to be done by hand. */
    const undoAll = async (): Promise<void> => {
      const { failed } = await saga.compensate(reasonOf);
      let decided = false;
      for (const undo of [...(applying?.undoFailed ?? []), ...failed]) {
        // What a person has put right may have been all that was in the way of this one. Not where its retry brings others after it: those ask first.
        if (decided && undo.older.length === 0 && (await attempt(undo.compensation)) === undefined) continue;
        await settle(undo);
        decided = planned?.plan.unattended !== true;
      }
    };
    /** Says whether the undo was done after all, with those of the earlier steps of its lane after it. */
    const settle = async (undo: FailedUndo): Promise<boolean> => {
      const { step, on } = undo.compensation;
      const older = undo.older.map((one) => `"${one.step.title}"`).join(', ');
      const after =
        older === '' ? '' : ` (the undo of ${older} was done without it; a retry does it once more afterwards)`;
      for (let reason = undo.reason; ;) {
        const by = planned?.plan.unattended
          ? undefined
          : await holds.ask({
              ...{ id: step.id, kind: 'undo failed' as const, title: `undo of "${step.title}"`, on },
              reason: `${reason}${after}`,
              ...{ atStake: [], choices: ['retry', 'done', 'accept'] as Hold['choices'] },
            });
        if (by) progress.note(`${by.by} said ${by.decision} at the undo of "${step.title}": ${by.why}`);
        if (by?.decision === 'done') {
          progress.step(step.id, { state: 'undone', note: `by hand: ${by.why}` });
          return false;
        }
        if (by?.decision !== 'retry') {
          progress.status.remaining.push(`undo of "${step.title}" on ${on}: ${reason}`);
          return false;
        }
        const failed = await attempt(undo.compensation);
        if (failed === undefined) break;
        reason = failed;
      }
      // A stop, say, that is done only now: the start that an earlier step's undo has made is behind it no more.
      for (const [index, compensation] of undo.older.entries()) {
        const reason = await attempt(compensation);
        if (reason === undefined) continue;
        if (await settle({ compensation, reason, older: undo.older.slice(index + 1) })) break;
      }
      return true;
    };
    /** Why an undo has failed; undefined where it has not. */
    const attempt = async ({ run: undo }: Compensation): Promise<string | undefined> => {
      try {
        await undo();
        return undefined;
      } catch (error) {
        if (!(error instanceof TemporalFailure)) throw error;
        return reasonOf(error);
      }
    };

    /** What was undone has to look as it did before: seen, not believed. What is coming up again gets a while. */
    const seeThatItIsAsBefore = async (before: PlannedRun): Promise<void> => {
      for (let looks = 1; ; looks++) {
        let reason: string;
        try {
          const changed = await observing.changedSince(before);
          if (changed.length === 0) return;
          reason = `everything was undone, and yet it does not look as before: ${changed.join(', ')}`;
        } catch (error) {
          if (!(error instanceof TemporalFailure)) throw error;
          reason = `everything was undone, but it cannot be seen: ${reasonOf(error)}`;
        }
        if (looks < LOOKS_AFTER_UNDO) {
          await sleep(`${LOOK_AGAIN_SECONDS} seconds`, { summary: 'look again whether all is as before' });
          continue;
        }
        const { decision, by, why } = await holds.ask({
          ...{
            id: 'as-before',
            kind: 'not as before',
            title: 'look whether all is as before',
            on: SYSTEM_LANE,
            reason,
          },
          ...{ atStake: [], choices: ['retry', 'done', 'accept'] },
        });
        progress.note(`${by} said ${decision} about what is not as before: ${why}`);
        if (decision === 'done') return;
        if (decision === 'accept') return void progress.status.remaining.push(reason);
      }
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
        await undoAll();
        if (changed && planned && !saga.committed && !planned.plan.unattended && progress.status.remaining.length === 0)
          await seeThatItIsAsBefore(planned);
        const end = endOf(error, { started: applying !== undefined, changed, saga, progress });
        const left = definition.readOnly ? '' : `; ${standing({ saga, changed, progress })}`;
        const message = `${definition.name} of ${input.system}: ${whatFailed(error, applying)}${left}`;
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

function whatFailed(error: unknown, applying: Applying | undefined): string {
  if (isCancellation(error)) return 'it was cancelled';
  const failed = applying?.failedAt.get(error);
  return failed ? `step "${failed.step.title}" on ${failed.on} failed: ${reasonOf(error)}` : reasonOf(error);
}

/** How a run ends that did not reach its goal. */
function endOf(error: unknown, run: { started: boolean; changed: boolean; saga: Saga; progress: Progress }): EndState {
  const failed = applicationFailureIn(error);
  const type = failed?.type ?? '';
  if (run.progress.status.remaining.length > 0) return 'rollback incomplete';
  if (isCancellation(error)) return 'cancelled';
  const undone = run.changed && !run.saga.committed;
  const onTimeout = (failed?.details?.[0] as { onTimeout?: string } | undefined)?.onTimeout;
  if (type === 'ApprovalRejected' || (type === 'ApprovalTimedOut' && !(onTimeout === 'rollback' && undone)))
    return 'rejected';
  if (undone) return 'rolled back';
  return refusals.has(type) && !run.started ? 'refused' : 'failed';
}

/** What a run that did not reach its goal leaves behind: the end of its sentence. */
function standing({ saga, changed, progress }: { saga: Saga; changed: boolean; progress: Progress }): string {
  const { remaining, steps } = progress.status;
  const stands = saga.committed ? `everything up to "${saga.committed.title}" stands` : undefined;
  if (remaining.length > 0) {
    const more = remaining.length > 3 ? ` and ${remaining.length - 3} more` : '';
    return `${stands ? `${stands}; ` : ''}not everything could be undone: ${remaining.slice(0, 3).join('; ')}${more}`;
  }
  if (stands) return changed ? `${stands}, what came after it was undone` : stands;
  if (changed) return 'everything before it was undone';
  return steps.some(({ state }) => state !== 'waiting') ? 'nothing had to be undone' : 'nothing was started';
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

/** What people are told about a gate that is open. */
const gateWait = (workflowId: string, gate: GateStatus): PersonWait => ({
  event: 'waits for a person',
  key: `${gate.id}/${gate.openedAt}`,
  title: gate.title,
  text: `${gate.approvals} of ${gate.approvers.join(', ')} have to agree until ${gate.closesAt}; then: ${gate.onTimeout}.${gate.oneMore === undefined ? '' : ` One more than usual: it is not proved who asked (${gate.oneMore}).`} Read the plan: guardia plan ${workflowId}`,
  command: `guardia approve ${workflowId}`,
  since: gate.openedAt,
});

/** What people are told about a run that holds. */
const holdWait = (workflowId: string, hold: Hold): PersonWait => ({
  event: 'needs a person',
  key: `${hold.id}/${hold.since}`,
  title: `${hold.title} on ${hold.on}`,
  text: [hold.reason, ...hold.atStake, ...hold.choices.map((choice) => `${choice}: ${recoverChoices[choice]}`)].join(
    '\n',
  ),
  command: `guardia recover ${workflowId} --hold ${hold.id}`,
  since: hold.since,
  host: hold.on,
  step: hold.id,
});

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
