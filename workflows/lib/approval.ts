import { allHandlersFinished, condition, proxyActivities, setHandler } from '@temporalio/workflow';
import { failure, splitRemedy } from '../contracts/errors.js';
import type { FrameActivities } from '../contracts/frame-activities.js';
import {
  decideSignal,
  decideUpdate,
  Decision,
  needsSignatures,
  signedText,
  type DecisionPlace,
  type Gate,
  type GateStatus,
} from '../contracts/gate.js';
import { nameOfRequester } from '../contracts/requester.js';
import type { Approver, System } from '../contracts/system.js';
import { DEFAULT_SITE, taskQueueOfSite } from '../contracts/task-queues.js';
import { isUnset } from '../contracts/unset.js';
import { parseInput } from './input.js';
import type { Progress } from './progress.js';
import { applicationFailureIn, reasonOf } from './progress.js';
import { waitForPeople, type Telling } from './waiting-for-people.js';

/** After so many decisions with a wrong signature a gate counts no further ones: somebody is guessing. */
const MOST_FORGERIES = 20;

/** What a decision is judged by. */
export interface Judging {
  gate: GateStatus | undefined;
  /** Another gate of this run that is open, for the message. */
  open: string | undefined;
  approvers: Record<string, Approver>;
  requester: string;
  system: string;
  /** ISO 8601. */
  now: string;
  forgeries: number;
  /** The same decision has counted before: at this gate as it was open then. */
  counted: boolean;
}

/**
 * Why a decision does not count, as the person reads it; undefined when it does, as far as can be told without verifying its signature.
 * Pure.
 */
export function reasonToRefuse(decision: Decision, judging: Judging): string | undefined {
  const { gate, approvers, requester, system, now } = judging;
  const { approver } = decision;
  if (!gate)
    return judging.open === undefined
      ? `no gate of this run is open: there is nothing to decide`
      : `the gate "${decision.gate}" is not open; open is "${judging.open}"`;
  if (gate.state !== 'open') return `too late: the gate "${gate.id}" is closed, it was ${gate.state}`;
  // The timer of a gate may fire late: when no worker was there, decisions that came meanwhile are seen before it.
  if (isAfter(now, gate.closesAt)) return `too late: the gate "${gate.id}" closed at ${gate.closesAt}`;
  if (decision.planDigest !== gate.planDigest)
    return `the decision is about another plan (${decision.planDigest.slice(0, 12)}) than this gate (${gate.planDigest.slice(0, 12)}): read the plan of this run, then decide again`;
  if (decision.expiry !== undefined && isAfter(now, decision.expiry))
    return `too late: the decision expired at ${decision.expiry}, it is ${now}`;
  const known = approvers[approver];
  if (!known || !gate.approvers.includes(approver))
    return `${approver} may not decide here; who may: ${gate.approvers.join(', ') || 'nobody, the inventory names no approvers'}`;
  if (isRequester(approver, known, requester))
    return `${approver} asked for this run and may not decide about it; others who may: ${gate.approvers.filter((name) => name !== approver).join(', ') || 'nobody'}`;
  const before = gate.decisions.find((taken) => taken.approver === approver);
  if (before) return `${approver} has decided already: ${before.decision}, at ${before.at}`;
  if (decision.decision === 'approve' && gate.typedSystemName && decision.system !== system)
    return decision.system === undefined
      ? `the name of the system has to be typed, as "system"`
      : `the typed name "${decision.system}" is not the system of this run`;
  if (decision.signature === undefined) {
    if (gate.signed)
      return `this gate counts signed decisions only: decide with the command, guardia ${decision.decision}`;
    if (gate.decisions.some((taken) => !taken.signed))
      return 'one decision without a signature has been counted, and no second one is: sign it with the command';
    return undefined;
  }
  if (decision.expiry === undefined) return 'a signed decision has an "expiry": it would count for ever';
  if (judging.counted)
    return `this very decision of ${approver} has counted before, and the gate was opened again since: decide anew`;
  if (isUnset(known.signingKey)) return `the inventory has no signing key of ${approver}`;
  if (judging.forgeries >= MOST_FORGERIES)
    return `${MOST_FORGERIES} decisions with a wrong signature were sent to this gate; it counts no further ones. Cancel the run and start it again`;
  return undefined;
}

/** ISO 8601 has many ways to write a moment: the later text is not the later time. */
const isAfter = (one: string, other: string): boolean => Date.parse(one) > Date.parse(other);

/** The requester goes by the name of an approver, or `user@host` of the command, or an e-mail address. */
function isRequester(name: string, approver: Approver, requester: string): boolean {
  const email = isUnset(approver.email) ? undefined : approver.email;
  return nameOfRequester(requester) === name || requester.toLowerCase() === email?.toLowerCase();
}

/** What a gate asks for, as far as that follows from more than its policy. */
export type Asked = Pick<GateStatus, 'approvals' | 'approvers' | 'signed' | 'oneMore'>;

/**
 * Whom a gate asks, and how many of them have to agree. Where signatures count, a requester who is not proved may be any of them: one more has
 * to agree, so that without the requester there are enough. Throws `NobodyMayDecide` where fewer may decide. Pure.
 */
export function whatIsAsked(
  gate: Gate,
  by: { approvers: Record<string, Approver>; requester: string; unproved: string | undefined },
): Asked {
  const { approvers, requester, unproved } = by;
  const names = gate.approvers ?? Object.keys(approvers);
  const signed = needsSignatures(gate);
  const oneMore = signed ? unproved : undefined;
  const approvals = gate.approvals + (oneMore === undefined ? 0 : 1);
  const others = names.filter((name) => {
    const approver = approvers[name];
    return approver !== undefined && !isRequester(name, approver, requester);
  });
  const keyless = others.filter((name) => signed && isUnset(approvers[name]?.signingKey));
  const may = others.filter((name) => !keyless.includes(name));
  if (may.length < approvals) {
    const missing = keyless.length === 0 ? '' : `; without a signing key in the inventory: ${keyless.join(', ')}`;
    throw failure(
      'NobodyMayDecide',
      `"${gate.title}" needs ${approvals} to agree${oneMore === undefined ? '' : `, one more than usual because it is not proved who asked (${oneMore})`}; who may beside ${requester}, who asked: ${may.join(', ') || 'nobody'}${missing}`,
      {
        remedy:
          others.length >= approvals
            ? `Give ${keyless.map((name) => `approvers.${name}.signingKey`).join(', ')} in the inventory`
            : oneMore === undefined
              ? 'Have somebody else ask for it, or name more approvers in the inventory'
              : 'Start it with the command, which signs (GUARDIA_APPROVER, GUARDIA_SIGNING_KEY), or name more approvers in the inventory',
      },
    );
  }
  return { approvals, approvers: names, signed, ...(oneMore === undefined ? {} : { oneMore }) };
}

/** The gates of a run. */
export interface Gates {
  /**
   * Opens a gate for this plan and waits until people have decided. Throws `ApprovalRejected`, or `ApprovalTimedOut`, which says in
   * `onTimeout` what the gate wants then.
   */
  ask(gate: Gate, planDigest: string): Promise<void>;
  /** Throws `NobodyMayDecide` where one of the gates could only time out. */
  check(gates: readonly Gate[]): Promise<void>;
}

/** Registers the update and the signal `decide`. `system` is known once the run has been prepared. */
export function createGates(run: {
  progress: Progress;
  place: DecisionPlace;
  requester: string;
  /** Why it is not proved who asked for the run; undefined when it is. */
  unproved: () => Promise<string | undefined>;
  system: () => System;
  asking: (gate: GateStatus) => Telling;
}): Gates {
  const { progress, place } = run;
  const { gates } = progress.status;
  let forgeries = 0;
  /** What was signed and has counted: a gate may be opened again for the same plan, and no answer counts there that was given before. */
  const counted = new Set<string>();

  const rightNow = (): string => new Date(Date.now()).toISOString();
  const refusalOf = (decision: Decision, received: string): string | undefined => {
    const system = gates.length > 0 ? run.system() : undefined;
    return reasonToRefuse(decision, {
      gate: gates.findLast(({ id }) => id === decision.gate),
      open: gates.find(({ state }) => state === 'open')?.id,
      approvers: system?.approvers ?? {},
      requester: run.requester,
      system: system?.system ?? '',
      now: received,
      forgeries,
      counted: counted.has(signedText(place, decision)),
    });
  };
  const refuse = (decision: Decision, received = rightNow()): void => {
    const reason = refusalOf(decision, received);
    if (reason !== undefined) throw failure('DecisionRefused', reason);
  };

  const take = async (decision: Decision): Promise<GateStatus> => {
    const received = rightNow();
    if (decision.signature !== undefined) {
      const { signingKey } = run.system().approvers[decision.approver] as Approver & { signingKey: string };
      try {
        await verifier().verifyDecision({ place, decision, signingKey });
      } catch (error) {
        // That a signature could not be looked at is nobody's guess.
        if (applicationFailureIn(error)?.type === 'DecisionRefused') forgeries += 1;
        throw failure('DecisionRefused', reasonOf(error));
      }
      // Somebody else may have decided while it was verified; that took time does not make it late.
      refuse(decision, received);
      counted.add(signedText(place, decision));
    }
    const gate = gates.findLast(({ id }) => id === decision.gate) as GateStatus;
    gate.decisions.push({
      approver: decision.approver,
      decision: decision.decision,
      reason: decision.reason,
      at: rightNow(),
      signed: decision.signature !== undefined,
    });
    const agreed = gate.decisions.filter((taken) => taken.decision === 'approve').length;
    if (decision.decision === 'reject') gate.state = 'rejected';
    else if (agreed >= gate.approvals) gate.state = 'approved';
    progress.show();
    return gate;
  };

  setHandler(decideUpdate, take, {
    description: 'Approve or reject what an open gate asks; the exact JSON is in the details of the run',
    validator: (raw) => refuse(parseInput(Decision, raw, 'decide')),
  });
  setHandler(
    decideSignal,
    async (raw) => {
      try {
        const decision = parseInput(Decision, raw, 'decide');
        refuse(decision);
        await take(decision);
      } catch (error) {
        progress.note(`A decision was refused: ${splitRemedy(error).message}`);
      }
    },
    { description: 'As the update of this name; whether it counted shows in the details of the run' },
  );

  const asked = async (gate: Gate): Promise<Asked> =>
    whatIsAsked(gate, {
      approvers: run.system().approvers,
      requester: run.requester,
      unproved: needsSignatures(gate) ? await run.unproved() : undefined,
    });

  return {
    async check(all) {
      for (const gate of all) await asked(gate);
    },
    async ask(wanted, planDigest) {
      const who = await asked(wanted);
      const openedAt = Date.now();
      const gate: GateStatus = {
        id: wanted.id,
        title: wanted.title,
        planDigest,
        state: 'open',
        ...who,
        typedSystemName: wanted.typedSystemName,
        openedAt: new Date(openedAt).toISOString(),
        closesAt: new Date(openedAt + wanted.timeoutMinutes * 60_000).toISOString(),
        onTimeout: wanted.onTimeout,
        decisions: [],
      };
      gates.push(gate);
      forgeries = 0;
      progress.phase('waiting for approval', `${wanted.title}: ${gate.approvals} of ${gate.approvers.join(', ')}`);
      try {
        await waitForPeople(() => gate.state !== 'open', {
          summary: `approval: ${wanted.title}`,
          tiers: run.system().escalation,
          remindEverySeconds: wanted.remindEveryMinutes * 60,
          closesAfterSeconds: wanted.timeoutMinutes * 60,
          telling: run.asking(gate),
          takenUpBy: () => gate.decisions.at(-1)?.approver,
          outcome: () => `it was ${gate.state === 'open' ? 'not decided' : gate.state}`,
        });
      } catch (error) {
        gate.state = 'withdrawn';
        throw error;
      }
      // A decision that is being verified in this moment may still count.
      if (gate.state === 'open') await condition(allHandlersFinished);
      if (gate.state === 'open') {
        gate.state = 'timed out';
        throw failure('ApprovalTimedOut', `nobody decided about "${gate.title}" until ${gate.closesAt}`, {
          onTimeout: gate.onTimeout,
        });
      }
      const veto = gate.decisions.find(({ decision }) => decision === 'reject');
      if (veto) throw failure('ApprovalRejected', `${veto.approver} said no to "${gate.title}": ${veto.reason}`);
    },
  };
}

function verifier() {
  return proxyActivities<Pick<FrameActivities, 'verifyDecision'>>({
    taskQueue: taskQueueOfSite(DEFAULT_SITE),
    startToCloseTimeout: '30 seconds',
    retry: { initialInterval: '1 second', maximumAttempts: 5 },
    summary: 'verify the signature of a decision',
  });
}
