import { TemporalFailure } from '@temporalio/common';
import { failure } from '../contracts/errors.js';
import type { LeftRun } from '../contracts/frame-activities.js';
import { hostTarget } from '../contracts/host-target.js';
import type { LeftRecord } from '../contracts/run-record.js';
import { storeReference } from '../contracts/store-reference.js';
import type { System } from '../contracts/system.js';
import { call } from '../steps/call.js';
import { runCall } from './calls.js';
import { reasonOf } from './progress.js';

/** Runs that never left a host, with the hosts. */
export type Unrepaired = ReadonlyMap<string, { run: LeftRun; hosts: string[] }>;

interface Finder {
  system: System;
  runbook: string;
  workflowId: string;
  runId: string;
  fences: ReadonlyMap<string, number>;
  note: (text: string) => void;
}

/**
 * Changes of a terminated run that nobody has seen to: working on top of them would make them impossible to undo. What a run has left that came to
 * its end is only forgotten. Throws `LeftBehind`.
 */
export async function refuseLeftBehind(unrepaired: Unrepaired, by: Finder): Promise<void> {
  const left: string[] = [];
  for (const { run, hosts } of unrepaired.values()) {
    const on: string[] = [];
    for (const host of hosts) if (!(await forgetEnded(run, host, by))) on.push(host);
    if (on.length > 0) left.push(`${run.workflowId} (${run.runId}) on ${on.join(', ')}`);
  }
  if (left.length === 0) return;
  const { system } = by.system;
  throw failure('LeftBehind', `a run was terminated and has left changes that were not undone: ${left.join('; ')}`, {
    remedy: `See what would be undone: guardia run repair ${system} --plan. Undo it: guardia run repair ${system}. Leave it as it is: guardia run repair ${system} --set leave=true`,
  });
}

/** Whether the run had come to its end; then its mark and journal go from the host. False also where that cannot be seen. */
async function forgetEnded(run: LeftRun, host: string, by: Finder): Promise<boolean> {
  const { runbook, workflowId, runId } = by;
  const fence = by.fences.get(host);
  const context = {
    ...{ system: by.system.system, runbook, workflowId, runId },
    ...{ step: 'left-behind', generation: 1, runAgainIfLost: false, target: hostTarget(by.system, host) },
    ...(fence === undefined ? {} : { fence }),
  };
  try {
    const look = call('observeLeftRuns', { store: storeReference(by.system) });
    const answer = await runCall(look, context, { summary: `see whether ${run.runId} came to its end` });
    const { left } = answer as { left: LeftRecord[] };
    if (!left.find(({ runId: of }) => of === run.runId)?.ended) return false;
    const forget = call('forgetLeftRun', { run: run.runId });
    await runCall(forget, context, { summary: `forget what ${run.runId} has left on ${host}` });
    by.note(
      `${run.workflowId} (${run.runId}) had come to its end without leaving ${host}: what it left there is gone.`,
    );
    return true;
  } catch (error) {
    if (!(error instanceof TemporalFailure)) throw error;
    by.note(`Whether ${run.runId} came to its end on ${host} cannot be seen: ${reasonOf(error)}`);
    return false;
  }
}
