import { setTimeout as delay } from 'node:timers/promises';
import { missingValue, sendNotice } from '../../activities/notify/send-notice.js';
import { DeliveryFailure, type Bounds } from '../../activities/notify/attempt.js';
import type { Secrets } from '../../activities/secrets/resolve.js';
import { readInventory } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { notice, noticeEvents, type Notice } from '../../workflows/contracts/notice.js';
import { isFor } from '../../workflows/contracts/notifications.js';
import type { System } from '../../workflows/contracts/system.js';
import { isUnset, unsetNeeded } from '../../workflows/contracts/unset.js';
import { explain } from '../exit-codes.js';
import { errorOfCall, isNoAnswer, withTemporal, type TemporalAccess } from '../temporal-access.js';
import { endOfCondition, type Condition, type LookName } from './condition.js';
import { beat } from './heartbeat.js';
import {
  lostRuns,
  missedRuns,
  missingWorkers,
  openRuns,
  overdueRuns,
  parkedRuns,
  refusedRuns,
  type OpenRun,
} from './looks.js';
import type { KeptCondition, WatcherMemory } from './memory.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Before Temporal is said to be away it is asked once more. Milliseconds. */
const ASK_AGAIN_MS = 5_000;
/** How long one look may take. Milliseconds. */
const LOOK_MS = 30_000;
/** A look that fails so many rounds in a row is told to people; before that only to the heartbeat. */
const BLIND_ROUNDS = 3;
/** How long the end of something is told to a target that does not answer. Milliseconds. */
const OVER_MS = 60 * 60_000;
const MINUTE_MS = 60_000;
/** The longest pause between tries at a target that does not answer. Minutes. */
const LONGEST_PAUSE = 5;
/** Occurrences that are remembered after their end. */
const PAST = 500;

export interface RoundOptions {
  env: Environment;
  secrets: Secrets;
  /** Only these systems. Default: all of the inventory. */
  only?: readonly string[];
  /** False looks only: nobody is told, no heartbeat goes out, and the memory is not to be kept. */
  tell: boolean;
  now?: () => Date;
  askAgainMs?: number;
  /** For tests: how often and how long a target is tried. */
  bounds?: Bounds;
}

/** One thing that is wrong, or that has just come to its end, and who knows. */
export interface Finding {
  key: string;
  event: Condition['event'];
  severity: Notice['severity'];
  system: string;
  title: string;
  text: string;
  command?: string | undefined;
  workflowId?: string | undefined;
  since: string;
  /** `new`: first seen in this round. */
  state: 'new' | 'open' | 'over';
  told: string[];
}

export interface Round {
  at: string;
  findings: Finding[];
  /** What the watcher could not do itself, by system where it concerns one; the heartbeat carries it. */
  trouble: { system?: string; text: string }[];
}

/**
 * Looks at everything once, tells people what is new and what is over, and pings the heartbeats. Changes `memory`. Throws nothing: what fails is
 * trouble of this round, and the next one goes on.
 */
export async function watchRound(memory: WatcherMemory, options: RoundOptions): Promise<Round> {
  const { env, now: clock = () => new Date(), tell } = options;
  const now = clock();
  const trouble: Round['trouble'] = [];
  const systems = readSystems(env, options.only, trouble);
  const seen = await look(systems, memory, options, now, trouble);
  const fresh = remember(memory, seen, systems, now);
  if (tell) await tellAll(memory, systems, options, now, trouble);
  const findings = Object.values(memory.conditions)
    .map((kept) => findingOf(kept, fresh.has(kept.condition.key)))
    .sort((a, b) => (a.since < b.since ? -1 : a.since > b.since ? 1 : a.key < b.key ? -1 : 1));
  forget(memory, now, tell);
  if (tell) await beatAll(systems, options, trouble);
  const scrub = (text: string): string => options.secrets.scrubber.scrub(text);
  return {
    at: now.toISOString(),
    findings: findings.map((one) => ({ ...one, text: scrub(one.text) })),
    trouble: trouble.map((one) => ({ ...one, text: scrub(one.text) })),
  };
}

/** The systems that can be read. Those that nobody has filled in yet are watched as far as they have runs. */
function readSystems(
  env: Environment,
  only: readonly string[] | undefined,
  trouble: Round['trouble'],
): Map<string, System> {
  const systems = new Map<string, System>();
  try {
    const { names, load } = readInventory(inventoryLocations(env));
    for (const name of only ?? names) {
      try {
        systems.set(name, load(name).system);
      } catch (error) {
        trouble.push({ system: name, text: explain(error).message });
      }
    }
  } catch (error) {
    trouble.push({ text: explain(error).message });
  }
  return systems;
}

/**
 * Whether a system is in service, which is once the connection of one of its hosts is filled in: nothing of one that nobody has filled in is missed. A `local`
 * host needs nothing filled in, and so says nothing, unless there are no others.
 */
function inService(system: System): boolean {
  const ways = Object.entries(system.hosts).flatMap(([name, { connection }]) =>
    connection === 'local' ? [] : [[name, ...(connection.jump === undefined ? [] : [connection.jump])]],
  );
  const isFilledIn = (way: string[]): boolean =>
    unsetNeeded(
      system,
      way.map((name) => `hosts.${name}.connection`),
    ).length === 0;
  return ways.length === 0 || ways.some(isFilledIn);
}

/** What was seen, and what could not be looked at: of that nothing is over. */
interface Seen {
  conditions: Condition[];
  /** Look names, and `LOOK SYSTEM` for a look at one system. */
  failed: Set<string>;
}

async function look(
  systems: ReadonlyMap<string, System>,
  memory: WatcherMemory,
  options: RoundOptions,
  now: Date,
  trouble: Round['trouble'],
): Promise<Seen> {
  const { env, secrets, tell, askAgainMs = ASK_AGAIN_MS } = options;
  const seen: Seen = { conditions: [], failed: new Set() };
  const served = [...systems.values()].filter(inService);

  const fail = (key: string): void => {
    seen.failed.add(key);
    memory.failing[key] = (memory.failing[key] ?? 0) + 1;
  };
  const one = async (
    name: LookName,
    access: TemporalAccess,
    work: () => Promise<Condition[]>,
    system?: string,
  ): Promise<void> => {
    const key = system === undefined ? name : `${name} ${system}`;
    try {
      seen.conditions.push(...(await access.client.withDeadline(Date.now() + LOOK_MS, work)));
    } catch (error) {
      const { message } = explain(errorOfCall(error, access.target));
      fail(key);
      trouble.push({ ...(system === undefined ? {} : { system }), text: `could not look at ${key}: ${message}` });
    }
  };
  const lookAll = (): Promise<void> =>
    withTemporal(env, async (access) => {
      const all = await access.client.withDeadline(Date.now() + LOOK_MS, () => openRuns(access));
      const runs = all.filter((run): run is OpenRun => run.system !== undefined && systems.has(run.system));
      const ofSystems = (conditions: Condition[]) => conditions.filter(({ system }) => systems.has(system));
      await one('lost runs', access, async () => ofSystems(await lostRuns(access, now)));
      await one('refused runs', access, async () => ofSystems(await refusedRuns(access, now)));
      await one('parked runs', access, () => parkedRuns(access, runs));
      await one('overdue runs', access, () => overdueRuns(access, runs, systems, memory, now));
      await one('workers', access, () => missingWorkers(access, runs, systems, now));
      // Who only looks has no memory, and wants to know all the same.
      const firstSeen = tell ? now : new Date(0);
      for (const system of served)
        await one(
          'missed runs',
          access,
          () => missedRuns(access, system, secrets, memory, now, firstSeen),
          system.system,
        );
    });

  try {
    await lookAll().catch(async (error: unknown) => {
      if (!isAway(error)) throw error;
      await delay(askAgainMs);
      await lookAll();
    });
    for (const key of Object.keys(memory.failing)) if (!seen.failed.has(key)) delete memory.failing[key];
  } catch (error) {
    const { message } = explain(error);
    for (const name of OF_TEMPORAL) seen.failed.add(name);
    trouble.push({ text: isAway(error) ? message : `could not look at temporal: ${message}` });
    if (isAway(error)) {
      seen.conditions.push(...served.map(({ system }) => temporalIsAway(system, message, now)));
      return seen;
    }
    fail('temporal');
  }
  for (const key of seen.failed) {
    const text = trouble
      .flatMap((one) => (one.text.startsWith(`could not look at ${key}:`) ? [one.text] : []))
      .join('\n');
    if (text === '' || (memory.failing[key] ?? 0) < BLIND_ROUNDS) continue;
    const own = served.filter(({ system }) => key.endsWith(` ${system}`));
    for (const { system } of own.length > 0 ? own : served)
      seen.conditions.push({
        key: `blind/${key}/${system}`,
        event: 'blind',
        look: 'looks',
        from: now.toISOString(),
        system,
        title: `The watcher cannot look at the ${key === 'temporal' ? 'runs' : key.replace(` ${system}`, '')} of ${system}`,
        text,
        command: 'guardia watcher --once --no-tell',
      });
  }
  return seen;
}

/** What cannot be looked at without Temporal. */
const OF_TEMPORAL = [
  'lost runs',
  'refused runs',
  'parked runs',
  'overdue runs',
  'workers',
  'missed runs',
  'looks',
] as const satisfies LookName[];

function temporalIsAway(system: string, message: string, now: Date): Condition {
  return {
    key: `no-temporal/${system}`,
    event: 'no temporal',
    look: 'temporal',
    from: now.toISOString(),
    system,
    title: `Temporal does not answer: no run of ${system} goes on`,
    text: `${message}.\nOpen runs stand still and nothing new starts; nothing is lost. They go on by themselves once Temporal is back.`,
    command: 'guardia doctor',
  };
}

/** Whether an error means that Temporal itself is away. */
const isAway = (error: unknown): boolean =>
  isNoAnswer(error) || (error instanceof Error && error.name === 'TemporalConnectionError');

/** Takes what was seen into the memory: what is new, what is over. Returns the keys of what is new. */
function remember(
  memory: WatcherMemory,
  seen: Seen,
  systems: ReadonlyMap<string, System>,
  now: Date,
): ReadonlySet<string> {
  const fresh = new Set<string>();
  for (const condition of seen.conditions) {
    const kept = memory.conditions[condition.key];
    if (kept !== undefined) {
      // For those who were told that it was over it is another occurrence; for the others it was never over.
      if (kept.over !== undefined && kept.toldOver.length > 0) {
        memory.past[kept.dedupeKey] = kept.over;
        kept.incident ??= kept.dedupeKey;
        kept.dedupeKey = `watcher/${condition.key}@${now.toISOString()}`;
        kept.told = kept.told.filter((name) => !kept.toldOver.includes(name));
        kept.since = now.toISOString();
        kept.tries = 0;
        delete kept.notBefore;
        fresh.add(condition.key);
      }
      delete kept.over;
      kept.toldOver = [];
      kept.condition = { ...condition, from: kept.condition.from };
      continue;
    }
    // The same occurrence, by its time, was over already: this is another one.
    const natural = `watcher/${condition.key}@${condition.from}`;
    const dedupeKey = memory.past[natural] === undefined ? natural : `watcher/${condition.key}@${now.toISOString()}`;
    memory.conditions[condition.key] = {
      condition,
      dedupeKey,
      since: now.toISOString(),
      told: [],
      toldOver: [],
      tries: 0,
    };
    fresh.add(condition.key);
  }
  const keys = new Set(seen.conditions.map(({ key }) => key));
  for (const [key, kept] of Object.entries(memory.conditions)) {
    const { look: name, system } = kept.condition;
    if (keys.has(key) || kept.over !== undefined || !systems.has(system)) continue;
    if (seen.failed.has(name) || seen.failed.has(`${name} ${system}`)) continue;
    kept.over = now.toISOString();
    kept.tries = 0;
    delete kept.notBefore;
  }
  return fresh;
}

function findingOf({ condition, since, over, told }: KeptCondition, fresh: boolean): Finding {
  const { key, event, system, title, text, command, workflowId } = condition;
  return {
    key,
    event,
    severity: noticeEvents[event].severity,
    system,
    title,
    text,
    command,
    workflowId,
    since,
    state: over !== undefined ? 'over' : fresh ? 'new' : 'open',
    told: [...told],
  };
}

/** Drops what is over and known to be, and what is too old to matter. */
function forget(memory: WatcherMemory, now: Date, tell: boolean): void {
  for (const [key, { over, told, toldOver, dedupeKey }] of Object.entries(memory.conditions)) {
    if (over === undefined) continue;
    const waiting = tell && told.some((name) => !toldOver.includes(name));
    if (waiting && now.getTime() - Date.parse(over) < OVER_MS) continue;
    delete memory.conditions[key];
    memory.past[dedupeKey] = over;
  }
  const past = Object.entries(memory.past).sort(([, a], [, b]) => (a < b ? 1 : -1));
  memory.past = Object.fromEntries(past.slice(0, PAST));
}

/** The tier that is told by now: the escalation of the system, for what does not bear waiting. Pure. */
export function tierReached(
  system: Pick<System, 'escalation'>,
  condition: Condition,
  since: string,
  now: Date,
): number {
  const { severity } = noticeEvents[condition.event];
  const urgent = severity === 'error' || severity === 'critical';
  const minutes = (now.getTime() - Date.parse(since)) / MINUTE_MS;
  const reached = system.escalation.filter(({ afterMinutes }) => afterMinutes <= (urgent ? minutes : 0));
  return Math.max(1, ...reached.map(({ tier }) => tier));
}

/** Tells each target once what is wrong, and those that know once that it is over. */
async function tellAll(
  memory: WatcherMemory,
  systems: ReadonlyMap<string, System>,
  options: RoundOptions,
  now: Date,
  trouble: Round['trouble'],
): Promise<void> {
  await Promise.all(
    Object.values(memory.conditions).map(async (kept) => {
      const system = systems.get(kept.condition.system);
      if (system !== undefined) await tellOne(kept, system, options, now, trouble);
    }),
  );
}

async function tellOne(
  kept: KeptCondition,
  system: System,
  { secrets, bounds }: RoundOptions,
  now: Date,
  trouble: Round['trouble'],
): Promise<void> {
  const say = (text: string): void => void trouble.push({ system: system.system, text });
  const one = noticeOf(kept, system, now);
  const known = kept.over === undefined ? kept.told : kept.toldOver;
  const asked = Object.entries(system.notifications)
    .filter(([name, target]) => isFor(target, one) && !known.includes(name))
    .filter(([name]) => kept.over === undefined || kept.told.includes(name))
    .map(([name, target]) => ({ name, lacks: missingValue(system, name, target) }));
  const wanted = asked.flatMap(({ name, lacks }) => (lacks === undefined ? [name] : []));
  const unset = asked.flatMap(({ name, lacks }) => (lacks === undefined ? [] : [{ name, lacks }]));
  if (Object.keys(system.notifications).length === 0)
    say(`nobody can be told "${one.title}": ${system.system} has no notifications`);
  // Who knew of it cannot be told that it is over, and is not waited for.
  else if (kept.over !== undefined) kept.toldOver.push(...unset.map(({ name }) => name));
  // Where somebody else knows, one that is not filled in is a matter of the inventory.
  else if (unset.length === asked.length && unset.length > 0 && kept.told.length === 0)
    say(`nobody can be told "${one.title}": ${unset.map(({ lacks }) => lacks).join('; ')}`);
  if (wanted.length === 0) return;
  if (kept.notBefore !== undefined && now.toISOString() < kept.notBefore) {
    say(`${wanted.join(', ')} could not be told "${one.title}" yet`);
    return;
  }
  try {
    const report = await sendNotice(system, one, { secrets, only: wanted, ...(bounds ? { bounds } : {}) });
    for (const text of report.notes) say(text);
    known.push(...report.deliveries.filter(({ outcome }) => outcome.startsWith('sent')).map(({ target }) => target));
  } catch (error) {
    say(`could not tell "${one.title}": ${explain(error).message}`);
  }
  if (wanted.every((name) => known.includes(name))) {
    kept.tries = 0;
    delete kept.notBefore;
    return;
  }
  kept.tries += 1;
  const pause = Math.min(LONGEST_PAUSE, 2 ** (kept.tries - 1)) * MINUTE_MS;
  kept.notBefore = new Date(now.getTime() + pause).toISOString();
}

/** That something is wrong, or that it is over. */
function noticeOf(
  { condition, dedupeKey, incident = dedupeKey, since, over }: KeptCondition,
  system: System,
  now: Date,
): Notice {
  const { event, title, text, command, runbook, workflowId, runId, link } = condition;
  const about = {
    system: condition.system,
    ...(runbook === undefined ? {} : { runbook }),
    ...(workflowId === undefined ? {} : { workflowId }),
    ...(runId === undefined ? {} : { runId }),
    ...(link === undefined ? {} : { link }),
    incident,
  };
  if (over === undefined)
    return notice({
      ...about,
      event,
      title,
      text,
      ...(command === undefined ? {} : { command }),
      tier: tierReached(system, condition, since, now),
      dedupeKey,
      occurredAt: since,
    });
  return notice({
    ...about,
    event: 'recovered',
    about: event,
    title: `Over: ${title}`,
    text: endOfCondition(condition),
    // Whoever was told of it, in whichever tier.
    tier: 9,
    dedupeKey: `${dedupeKey}/over`,
    occurredAt: over,
  });
}

/** One ping for each dead-man switch: that all is well with the watching itself, or what is not. */
async function beatAll(
  systems: ReadonlyMap<string, System>,
  { secrets, bounds }: RoundOptions,
  trouble: Round['trouble'],
): Promise<void> {
  const switches = new Map<string, string[]>();
  for (const { system, watcher } of systems.values())
    if (watcher.heartbeat !== undefined && !isUnset(watcher.heartbeat))
      switches.set(watcher.heartbeat, [...(switches.get(watcher.heartbeat) ?? []), system]);
  const before = [...trouble];
  await Promise.all(
    [...switches].map(async ([reference, of]) => {
      const mine = before.filter(({ system }) => system === undefined || of.includes(system)).map(({ text }) => text);
      const said = mine.length === 0 ? undefined : secrets.scrubber.scrub(mine.join('\n'));
      try {
        await beat((await secrets.resolve(reference)).reveal(), said, bounds);
      } catch (error) {
        const { message } = error instanceof DeliveryFailure ? error : explain(error);
        for (const system of of)
          trouble.push({ system, text: `the heartbeat ${reference} could not be sent: ${message}` });
      }
    }),
  );
}
