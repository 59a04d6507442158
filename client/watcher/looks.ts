import { listObjects } from '../../activities/object-store/objects.js';
import { withBucket } from '../../activities/object-store/open-store.js';
import type { Secrets } from '../../activities/secrets/resolve.js';
import { recordsOfWorkflow } from '../../workflows/contracts/run-record.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { storeNeeds, storeReference } from '../../workflows/contracts/store-reference.js';
import type { System } from '../../workflows/contracts/system.js';
import { unsetNeeded } from '../../workflows/contracts/unset.js';
import { millisecondsOf } from '../protobuf-time.js';
import { mayHaveLeft } from '../run-view.js';
import { listRuns, type RunSummary } from '../runs.js';
import { runPage, type TemporalAccess } from '../temporal-access.js';
import { durationText } from '../text-units.js';
import { workersSeen } from '../workers-seen.js';
import type { Condition } from './condition.js';
import type { WatcherMemory } from './memory.js';
import { lastDue } from './schedule-times.js';

/** How far back runs that were lost are followed. Days. */
const LOST_DAYS = 7;
/** So often a task has failed that waiting does not help: a mistake in guardia, or a worker that does not fit. */
const PARKED_ATTEMPTS = 3;
/** A run that is younger may be before its worker's first request. Milliseconds. */
const YOUNG_MS = 60_000;
/** A run may begin so much before its time, by another clock. Milliseconds. */
const EARLY_MS = 60_000;
/** How long a run may work while there are too few to learn from, and at the least. Minutes. */
const USUAL_MINUTES = 240;
const SHORTEST_MINUTES = 15;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** A run of a known system: others have nobody to be told. */
export type OpenRun = RunSummary & { system: string };

export function openRuns(access: TemporalAccess): Promise<RunSummary[]> {
  return listRuns(access, { open: true, limit: 1000 });
}

/** Runs that were terminated or timed out in the last seven days, and after which neither the same runbook nor a repair of the system has ended well. */
export async function lostRuns(access: TemporalAccess, now: Date): Promise<Condition[]> {
  const since = new Date(now.getTime() - LOST_DAYS * DAY_MS).toISOString();
  const lost = await listRuns(access, {
    where: [`ExecutionStatus IN ('Terminated', 'TimedOut')`, `CloseTime > '${since}'`],
    limit: 200,
  });
  const conditions: Condition[] = [];
  for (const run of lost) {
    const { system, runbook, end, phase } = run;
    if (system === undefined || (end !== 'terminated' && end !== 'timed out')) continue;
    const left = mayHaveLeft(runbook, phase);
    const mending = [...new Set(left ? [runbook, 'repair'] : [runbook])];
    const later = await Promise.all(
      mending.map((name) =>
        listRuns(access, {
          ...{ system, runbook: name, open: false, dryRuns: false, limit: 20 },
          where: [`StartTime > '${run.startedAt}'`],
        }),
      ),
    );
    const over = (other: RunSummary) => endedWell(other) && (other.endedAt ?? '') > (run.endedAt ?? '');
    if (later.flat().some(over)) continue;
    conditions.push({
      key: `lost/${run.runId}`,
      event: end,
      look: 'lost runs',
      from: run.endedAt ?? run.startedAt,
      title: `${runbook} of ${system}: ${end}`,
      text: [
        `${run.workflowId} was ${end === 'terminated' ? 'terminated in Temporal' : 'ended by its time limit in Temporal'}${await wordsOfEnd(access, run)}. Nothing undid what it had done.`,
        !left
          ? `Its phase was "${phase ?? 'not taken up by any worker'}": it had changed nothing.`
          : `Its phase was "${phase}". What it left on its hosts, and how that is undone, is in the plan of a repair.`,
        `This is over when a later ${mending.join(' or ')} of ${system} has ended well.`,
      ].join('\n'),
      command: left ? `guardia run repair ${system} --plan` : `guardia run ${runbook} ${system}`,
      ...aboutRun(access, { ...run, system }),
    });
  }
  return conditions;
}

const endedWell = ({ end }: RunSummary): boolean => end === 'succeeded' || end === 'nothing to do';

function aboutRun(access: TemporalAccess, run: OpenRun) {
  const { system, runbook, workflowId, runId } = run;
  const link = runPage(access, run);
  return { system, runbook, workflowId, runId, ...(link === undefined ? {} : { link }) };
}

/** Who terminated it, and why. */
async function wordsOfEnd(access: TemporalAccess, run: RunSummary): Promise<string> {
  const [last] = await newestEvents(access, run, 1);
  const words = last?.workflowExecutionTerminatedEventAttributes;
  if (!words) return '';
  return `${words.identity ? ` by ${words.identity}` : ''}${words.reason ? `: ${words.reason}` : ''}`;
}

async function newestEvents(access: TemporalAccess, { workflowId, runId }: RunSummary, count: number) {
  const { history } = await access.client.workflowService.getWorkflowExecutionHistoryReverse({
    namespace: access.target.namespace,
    execution: { workflowId, runId },
    maximumPageSize: count,
  });
  return history?.events ?? [];
}

/** Open runs whose workflow task fails again and again: a mistake in guardia, or a version that does not fit. */
export async function parkedRuns(access: TemporalAccess, runs: readonly OpenRun[]): Promise<Condition[]> {
  const conditions: Condition[] = [];
  for (const run of runs) {
    const { raw } = await access.client.workflow.getHandle(run.workflowId, run.runId).describe();
    const { pendingWorkflowTask: task } = raw;
    const attempts = task?.attempt ?? 0;
    if (attempts < PARKED_ATTEMPTS) continue;
    const failed = (await newestEvents(access, run, 10)).find((event) => event.workflowTaskFailedEventAttributes);
    const failure = failed?.workflowTaskFailedEventAttributes?.failure;
    const at = millisecondsOf(failed?.eventTime) ?? millisecondsOf(task?.originalScheduledTime);
    conditions.push({
      key: `parked/${run.runId}`,
      event: 'parked',
      look: 'parked runs',
      from: new Date(at ?? Date.parse(run.startedAt)).toISOString(),
      title: `${run.runbook} of ${run.system} is parked: the worker fails whenever it takes it up`,
      text: [
        `${run.workflowId} stands still in phase "${run.phase ?? 'not begun'}" and holds what it holds: its workflow task has failed ${attempts} times${failure?.message ? `, with: ${failure.message}` : ''}.`,
        'Nothing is undone and nothing is lost. It goes on by itself under a worker that can take it up: update the worker, or go back to the version that started the run. Its log says more.',
      ].join('\n'),
      command: 'journalctl -u guardia-worker',
      ...aboutRun(access, run),
    });
  }
  return conditions;
}

/** Open runs that work, or wait, for longer than they should. Waiting does not count as work; `memory.waits` is brought up to date. */
export async function overdueRuns(
  access: TemporalAccess,
  runs: readonly OpenRun[],
  systems: ReadonlyMap<string, System>,
  memory: WatcherMemory,
  now: Date,
): Promise<Condition[]> {
  const limits = new Map<string, Promise<number>>();
  const conditions: Condition[] = [];
  memory.waits = Object.fromEntries(
    Object.entries(memory.waits).filter(([runId]) => runs.some((run) => run.runId === runId)),
  );
  for (const run of runs) {
    const { system: name, runbook, runId } = run;
    const waits = run.waitingFor !== undefined || run.phase?.startsWith('waiting') === true;
    const kept = (memory.waits[runId] ??= { waitedMs: 0 });
    if (waits) kept.since ??= now.toISOString();
    else if (kept.since !== undefined) {
      kept.waitedMs += now.getTime() - Date.parse(kept.since);
      delete kept.since;
    }
    const system = systems.get(name);
    if (system === undefined) continue;
    const { waitingAfterMinutes } = system.watcher;
    const waitingMs = kept.since === undefined ? 0 : now.getTime() - Date.parse(kept.since);
    if (kept.since !== undefined && waitingMs > waitingAfterMinutes * MINUTE_MS) {
      conditions.push({
        key: `waits/${runId}`,
        event: 'overdue',
        look: 'overdue runs',
        from: kept.since,
        title: `${runbook} of ${name} waits for more than ${durationText(waitingAfterMinutes * MINUTE_MS)}`,
        text: `${run.workflowId} is in phase "${run.phase ?? ''}" and waits for: ${run.waitingFor ?? 'nobody says what'}.`,
        command: `guardia watch ${run.workflowId}`,
        ...aboutRun(access, run),
      });
    }
    const key = `${runbook}/${name}`;
    let limit = limits.get(key);
    if (limit === undefined) limits.set(key, (limit = workLimit(access, runbook, system)));
    const workedMs = now.getTime() - Date.parse(run.startedAt) - kept.waitedMs - waitingMs;
    const limitMs = await limit;
    if (workedMs <= limitMs) continue;
    conditions.push({
      key: `overdue/${runId}`,
      event: 'overdue',
      look: 'overdue runs',
      from: run.startedAt,
      title: `${runbook} of ${name} works for more than ${durationText(limitMs)}`,
      text: `${run.workflowId} is in phase "${run.phase ?? 'not taken up by any worker'}" and has worked for ${durationText(workedMs)}, waiting not counted.`,
      command: `guardia watch ${run.workflowId}`,
      ...aboutRun(access, run),
    });
  }
  return conditions;
}

/** How long a run of this runbook may work. Milliseconds. */
async function workLimit(access: TemporalAccess, runbook: string, { system, watcher }: System): Promise<number> {
  const said = watcher.overdueAfterMinutes[runbook];
  if (said !== undefined) return said * MINUTE_MS;
  const past = await listRuns(access, { system, runbook, open: false, dryRuns: false, limit: 20 });
  const took = past
    .filter(endedWell)
    .slice(0, 10)
    .map(({ startedAt, endedAt }) => Date.parse(endedAt ?? startedAt) - Date.parse(startedAt));
  if (took.length < 3) return USUAL_MINUTES * MINUTE_MS;
  return Math.max(SHORTEST_MINUTES * MINUTE_MS, 3 * Math.max(...took));
}

/** Task queues that open runs need and nobody asks for tasks of. */
export async function missingWorkers(
  access: TemporalAccess,
  runs: readonly OpenRun[],
  systems: ReadonlyMap<string, System>,
  now: Date,
): Promise<Condition[]> {
  const conditions: Condition[] = [];
  const names = [...new Set(runs.map(({ system }) => system))].sort();
  for (const name of names) {
    const oldest = runs
      .filter(({ system, startedAt }) => system === name && now.getTime() - Date.parse(startedAt) > YOUNG_MS)
      .sort((a, b) => (a.startedAt < b.startedAt ? -1 : 1))[0];
    if (oldest === undefined) continue;
    const sites = Object.values(systems.get(name)?.hosts ?? {}).map(({ site }) => site);
    for (const { taskQueue, kind, workers } of await workersSeen(access, ['main', ...sites])) {
      if (workers.length > 0) continue;
      const count = runs.filter(({ system }) => system === name).length;
      conditions.push({
        key: `no-worker/${name}/${taskQueue}`,
        event: 'no worker',
        look: 'workers',
        from: oldest.startedAt,
        system: name,
        title: `No worker for ${name}: nobody asks for tasks of ${taskQueue}`,
        text: [
          `${count === 1 ? 'A run is' : `${count} runs are`} open and ${kind === 'workflow' ? 'stands still' : 'cannot work on its hosts'}; the oldest is ${oldest.workflowId}, since ${oldest.startedAt}.`,
          'Nothing is lost: it goes on as soon as a worker is there.',
        ].join('\n'),
        command: 'systemctl restart guardia-worker',
      });
    }
  }
  return conditions;
}

/**
 * Schedules of a system whose last time has passed without a run, as far as their runbook exists. A run counts whoever started it, and also one that Temporal
 * has forgotten and the bucket remembers. `memory.schedules` is brought up to date: nothing was due before the watcher saw the schedule.
 */
export async function missedRuns(
  access: TemporalAccess,
  system: System,
  secrets: Secrets,
  memory: WatcherMemory,
  now: Date,
): Promise<Condition[]> {
  const conditions: Condition[] = [];
  for (const [name, { runbook, cron }] of Object.entries(system.schedules)) {
    if (!Object.hasOwn(runbooks, runbook)) continue;
    const at = `${system.system}/${name}`;
    const says = `${runbook} ${cron} ${system.timezone}`;
    if (memory.schedules[at]?.says !== says) memory.schedules[at] = { says, since: now.toISOString() };
    const graceMs = system.watcher.missedAfterMinutes * MINUTE_MS;
    const due = lastDue(cron, system.timezone, new Date(memory.schedules[at].since), new Date(now.getTime() - graceMs));
    if (due === undefined) continue;
    const from = new Date(due.getTime() - EARLY_MS);
    const [run] = await listRuns(access, {
      system: system.system,
      runbook,
      dryRuns: false,
      limit: 1,
      where: [`StartTime >= '${from.toISOString()}'`],
    });
    if (run !== undefined || (await recordedSince(system, runbook, secrets, from))) continue;
    conditions.push({
      key: `missed/${at}`,
      event: 'missed',
      look: 'missed runs',
      from: due.toISOString(),
      system: system.system,
      runbook,
      title: `${runbook} of ${system.system} did not start: schedule ${name} was due at ${due.toISOString()}`,
      text: [
        `Schedule ${name} (${cron}, ${system.timezone}) was due at ${due.toISOString()}, and neither Temporal nor the bucket knows of a ${runbook} of ${system.system} since then.`,
        'Look whether the schedule is there and not paused in Temporal, then start the run by hand.',
      ].join('\n'),
      command: `guardia run ${runbook} ${system.system}`,
    });
  }
  return conditions;
}

/** Whether the bucket holds the record of a run that was written since then. Throws as the object store does. */
async function recordedSince(system: System, runbook: string, secrets: Secrets, since: Date): Promise<boolean> {
  if (unsetNeeded(system, storeNeeds([])).length > 0) return false;
  const store = storeReference(system);
  const prefix = recordsOfWorkflow(store.prefix, store.system, `${runbook}/${store.system}/`).replace(/\/$/, '');
  return withBucket(secrets, store, async (bucket) => {
    for await (const { key, modifiedAt } of listObjects(bucket, prefix, AbortSignal.timeout(30_000)))
      if (key.endsWith('/plan.json') && Date.parse(modifiedAt) >= since.getTime()) return true;
    return false;
  });
}
