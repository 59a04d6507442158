import { getSmallObject, listObjects, SMALL_OBJECT } from '../../activities/object-store/objects.js';
import { withBucket } from '../../activities/object-store/open-store.js';
import { jsonOf } from '../../activities/run-record/record-json.js';
import type { Secrets } from '../../activities/secrets/resolve.js';
import { databasesSavedBy, savesAllDatabases } from '../../workflows/contracts/backup.js';
import { stepsOf } from '../../workflows/contracts/plan.js';
import { recordsOfWorkflow, RunRecord } from '../../workflows/contracts/run-record.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { isAboutAllOf, runbooks } from '../../workflows/contracts/runbooks.js';
import { storeNeeds, storeReference } from '../../workflows/contracts/store-reference.js';
import type { Schedule, System } from '../../workflows/contracts/system.js';
import { unsetNeeded } from '../../workflows/contracts/unset.js';
import { millisecondsOf } from '../protobuf-time.js';
import { mayHaveLeft, stepsMilliseconds } from '../run-view.js';
import { commandLine } from '../../activities/hosts/shell-quoting.js';
import { settingsOf } from '../run-input.js';
import { inputOf, listRuns, systemOf, type RunSummary } from '../runs.js';
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

/** Runs that were terminated or timed out in the last seven days, and that nothing has made good since. */
export async function lostRuns(access: TemporalAccess, now: Date): Promise<Condition[]> {
  const since = new Date(now.getTime() - LOST_DAYS * DAY_MS).toISOString();
  const lost = await listRuns(access, {
    where: [`ExecutionStatus IN ('Terminated', 'TimedOut')`, `CloseTime > '${since}'`],
    limit: 200,
  });
  const conditions: Condition[] = [];
  for (const run of lost) {
    const { runbook, end, phase } = run;
    // One that had ended, and was only telling of it, has the end that it said.
    // A step ends with its run, which is told.
    if (lost.some(({ runId }) => runId === run.parent?.runId)) continue;
    if (end !== 'terminated' && end !== 'timed out') continue;
    const system = await systemOf(access, run);
    if (system === undefined) continue;
    if ((await inputOf(access, run)).input['plan'] === true) continue;
    const left = mayHaveLeft(runbook, phase);
    if (await isMadeGood(access, { ...run, system }, left)) continue;
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
        left && runbook !== 'repair'
          ? `This is over when a repair has seen to this run, or a later ${runbook} of ${system} has succeeded.`
          : `This is over when a later ${runbook} of ${system} has ended well.`,
      ].join('\n'),
      command: left ? `guardia run repair ${system} --plan` : `guardia watch ${run.workflowId}`,
      ...aboutRun(access, { ...run, system }),
    });
  }
  return conditions;
}

/**
 * Runs of the last seven days that could not start, because their input was refused, and that no later run has made good. Such a run knows no inventory yet
 * and tells nobody; every other one says how it ended before it fails. One that is a step of another one is that one's to tell.
 */
export async function refusedRuns(access: TemporalAccess, now: Date): Promise<Condition[]> {
  const since = new Date(now.getTime() - LOST_DAYS * DAY_MS).toISOString();
  const refused = await listRuns(access, {
    where: ["ExecutionStatus = 'Failed'", 'GuardiaEnd IS NULL', `CloseTime > '${since}'`, 'ParentWorkflowId IS NULL'],
    limit: 200,
  });
  const conditions: Condition[] = [];
  for (const run of refused) {
    const { runbook, workflowId, endedAt, startedAt } = run;
    const system = await systemOf(access, run);
    if (system === undefined || (await inputOf(access, run)).input['plan'] === true) continue;
    if (await isMadeGood(access, { ...run, system }, false)) continue;
    const [last] = await newestEvents(access, run, 1);
    const why = last?.workflowExecutionFailedEventAttributes?.failure?.message;
    conditions.push({
      key: `refused/${run.runId}`,
      event: 'refused',
      look: 'refused runs',
      from: endedAt ?? startedAt,
      title: `${runbook} of ${system} could not start: its input was refused`,
      text: [
        `${workflowId}: ${why || 'Temporal does not say why'}.`,
        `It had changed nothing. This is over when a later ${runbook} of ${system} has ended well.`,
      ].join('\n'),
      command: `guardia runbooks ${runbook}`,
      ...aboutRun(access, { ...run, system }),
    });
  }
  return conditions;
}

const endedWell = ({ end }: RunSummary): boolean => end === 'succeeded' || end === 'nothing to do';

/** Whether a run that Temporal ended was made good: by a later run of its runbook that is about all that it was about, or by a repair of what it left. */
async function isMadeGood(access: TemporalAccess, run: OpenRun, left: boolean): Promise<boolean> {
  const { system, runbook, startedAt, endedAt = startedAt } = run;
  const after = async (name: string): Promise<RunSummary[]> => {
    const where = [`StartTime > '${startedAt}'`];
    const later = await listRuns(access, { system, runbook: name, open: false, dryRuns: false, where });
    return later.filter((other) => endedWell(other) && (other.endedAt ?? '') > endedAt);
  };
  const byRepair = left && runbook !== 'repair';
  const later = await after(runbook);
  // A run that found nothing to do has looked at what it wants to change, and not at what another one has left.
  const good = later.filter(({ end }) => !byRepair || end === 'succeeded');
  if (good.length > 0 && (await oneDoesAllOf(access, good, (await inputOf(access, run)).input))) return true;
  if (!byRepair) return false;
  for (const repair of await after('repair')) if (await hasSeenTo(access, repair, run, endedAt)) return true;
  return false;
}

/** Whether a repair saw to what a run had left, which is the last of its steps, or found afterwards that none had left anything. */
async function hasSeenTo(
  access: TemporalAccess,
  repair: RunSummary,
  { runId }: RunSummary,
  endedAt: string,
): Promise<boolean> {
  if (repair.end === 'nothing to do') return repair.startedAt > endedAt;
  const plan = (await reportOf(access, repair))?.plan;
  return (
    plan !== undefined &&
    stepsOf(plan).some(({ step: { do: call } }) => call.activity === 'forgetLeftRun' && call.with['run'] === runId)
  );
}

/** What a run that ended well returned; undefined where this version cannot read it. */
async function reportOf(access: TemporalAccess, { workflowId, runId }: RunSummary): Promise<RunReport | undefined> {
  const result: unknown = await access.client.workflow.result(workflowId, runId, { followRuns: false });
  return RunReport.safeParse(result).data;
}

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
    // One that waits when it is seen for the first time may have done so all the time.
    const kept = (memory.waits[runId] ??= { waitedMs: 0, ...(waits ? { since: run.startedAt } : {}) });
    if (waits) kept.since ??= now.toISOString();
    else if (kept.since !== undefined) {
      kept.waitedMs += now.getTime() - Date.parse(kept.since);
      delete kept.since;
    }
    const system = systems.get(name);
    if (system === undefined || run.phase === 'ended') continue;
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
  // What runs as a step of another run does a part of the work only.
  const past = await listRuns(access, {
    ...{ system, runbook, open: false, dryRuns: false, limit: 20 },
    where: ['ParentWorkflowId IS NULL'],
  });
  const succeeded = past.filter(({ end }) => end === 'succeeded').slice(0, 10);
  const reports = await Promise.all(succeeded.map((run) => reportOf(access, run)));
  // A step that a person has decided about has waited for him.
  const took = reports.flatMap((report) => (report?.recoveries.length === 0 ? [stepsMilliseconds(report.steps)] : []));
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
 * Schedules of a system whose last time has passed without a run, as far as their runbook exists. A run that could start counts whoever started it where it does all that the
 * schedule asks, and also one that Temporal has forgotten and the bucket remembers. `memory.schedules` is brought up to date: nothing was due before the watcher
 * saw the schedule, or of one that the memory does not know before `unknownSince`.
 */
export async function missedRuns(
  access: TemporalAccess,
  system: System,
  secrets: Secrets,
  memory: WatcherMemory,
  now: Date,
  unknownSince: Date,
): Promise<Condition[]> {
  const conditions: Condition[] = [];
  for (const [name, schedule] of Object.entries(system.schedules)) {
    const { runbook, cron, input } = schedule;
    if (!Object.hasOwn(runbooks, runbook)) continue;
    const at = `${system.system}/${name}`;
    const says = `${runbook} ${cron} ${system.timezone}`;
    if (memory.schedules[at]?.says !== says) memory.schedules[at] = { says, since: unknownSince.toISOString() };
    const graceMs = system.watcher.missedAfterMinutes * MINUTE_MS;
    const due = lastDue(cron, system.timezone, new Date(memory.schedules[at].since), new Date(now.getTime() - graceMs));
    if (due === undefined) continue;
    const from = new Date(due.getTime() - EARLY_MS);
    const runs = await listRuns(access, {
      system: system.system,
      runbook,
      dryRuns: false,
      where: [`StartTime >= '${from.toISOString()}'`, "(ExecutionStatus != 'Failed' OR GuardiaEnd IS NOT NULL)"],
    });
    if ((await oneDoesAllOf(access, runs, input)) || (await recordedSince(system, schedule, secrets, from))) continue;
    conditions.push({
      key: `missed/${at}`,
      event: 'missed',
      look: 'missed runs',
      from: due.toISOString(),
      system: system.system,
      runbook,
      title: `${runbook} of ${system.system} did not start: schedule ${name} was due at ${due.toISOString()}`,
      text: [
        `Schedule ${name} (${cron}, ${system.timezone}) was due at ${due.toISOString()}, and neither Temporal nor the bucket knows of a ${runbook} of ${system.system} since then that could start and does all that it asks.`,
        'Look whether the schedule is there and not paused in Temporal, and whether it has the right input, then start the run by hand.',
      ].join('\n'),
      command: commandLine([
        ...['guardia', 'run', runbook, system.system],
        ...settingsOf(input).flatMap((one) => ['--set', one]),
      ]),
    });
  }
  return conditions;
}

/** Whether one of these runs, which is no dry run, is about everything that `asked` is about. */
async function oneDoesAllOf(
  access: TemporalAccess,
  runs: readonly RunSummary[],
  asked: Readonly<Record<string, unknown>>,
): Promise<boolean> {
  for (const run of runs) {
    const { input } = await inputOf(access, run);
    if (input['plan'] !== true && isAboutAllOf(run.runbook, input, asked)) return true;
  }
  return false;
}

/** Whether the bucket holds the record of such a run that was written since then. Throws as the object store does. */
async function recordedSince(
  system: System,
  { runbook, input }: Schedule,
  secrets: Secrets,
  since: Date,
): Promise<boolean> {
  if (unsetNeeded(system, storeNeeds([])).length > 0) return false;
  const store = storeReference(system);
  const prefix = recordsOfWorkflow(store.prefix, store.system, `${runbook}/${store.system}/`).replace(/\/$/, '');
  // A record has no input: of a backup, its plan says whether it is about the databases too.
  const databases = runbook === 'backup' && input['only'] === undefined ? Object.keys(system.databases) : [];
  return withBucket(secrets, store, async (bucket) => {
    const signal = AbortSignal.timeout(30_000);
    for await (const { key, modifiedAt, bytes } of listObjects(bucket, prefix, signal)) {
      if (!key.endsWith('/plan.json') || Date.parse(modifiedAt) < since.getTime() || bytes > SMALL_OBJECT) continue;
      const content = await getSmallObject(bucket, key, signal);
      const plan = content && RunRecord.safeParse(jsonOf(content)).data?.report.plan;
      if (plan && savesAllDatabases(databases, databasesSavedBy(plan))) return true;
    }
    return false;
  });
}
