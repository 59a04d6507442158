import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import type { HostSpec } from '../../infra/lab/lab.js';
import { recoverUpdate, type RecoverChoice } from '../../workflows/contracts/hold.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, until, type BackupLab, type Ended } from '../backup/harness.js';
import { onFullDisk } from '../deploy/full-disk.js';
import { OBSERVED, SCALED_HOSTS, shorten } from '../deploy/scaled-lab.js';
import {
  arrive,
  downtimeSeconds,
  failed,
  longestGapSeconds,
  startTraffic,
  underWay,
  type Answer,
  type Site,
  type Visitor,
} from '../deploy/traffic.js';
import { readLines } from './json-lines.js';

const RESULT = fileURLToPath(new URL('../../../test/campaigns/deploys.md', import.meta.url));
/** How long a lost host stays away. Seconds. */
const AWAY_SECONDS = 60;

/** Hosts that a deploy is shown on, from nothing. */
interface Ground {
  name: string;
  hosts: HostSpec[];
  layout?: string;
  /** Where requests come in. */
  entrance: string;
  /** Hosts that run the application. */
  web: string[];
  /** Where OpenBao runs, and the address that it listens on. */
  vault: [host: string, listen: string];
  /** What of requests the entrance bears: the guide's nginx limits them, also those to /health. */
  traffic: { clients: number; everyMs: number };
  /** The hosts are set up by hand already: `adopt` takes them over, instead of `provision-host`. */
  byHand?: boolean;
}

const grounds: Ground[] = [
  {
    ...{ name: 'one host, bare', hosts: [{ name: 'app', bare: true }], entrance: 'app', web: ['app'] },
    traffic: { clients: 3, everyMs: 50 },
    vault: ['app', '127.0.0.1'],
  },
  {
    ...{ name: 'two servers behind HAProxy, bare', layout: 'scaled', entrance: 'balancer', web: ['app1', 'app2'] },
    traffic: { clients: 3, everyMs: 50 },
    hosts: SCALED_HOSTS.map((name) => ({ name, bare: true })),
    vault: ['db', '0.0.0.0'],
  },
  {
    ...{ name: 'one host, set up by hand', entrance: 'app', web: ['app'], byHand: true },
    traffic: { clients: 1, everyMs: 200 },
    hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }],
    vault: ['app', '127.0.0.1'],
  },
];

type Handle = Awaited<ReturnType<BackupLab['start']>>;

interface Row {
  ground: string;
  what: string;
  end: string;
  seconds: number;
  /** Seconds that the plan states for a service; undefined where there is no traffic to compare with. */
  stated?: number;
  sent?: number;
  failed?: number;
  /** Of the failed ones: under way when the host was lost; sent while the only host was off. */
  lost?: number;
  gap?: number;
  kept?: string;
  /** Why the outcome is not allowed; empty where it is. */
  wrong: string;
  commit?: string;
}

/** What has to come of a run. */
interface Expected {
  end: string;
  message?: RegExp;
  /** Whether everything that an observer sees of the servers is the same afterwards. */
  same?: boolean;
  /** The version that answers afterwards. */
  version?: string;
}

/** What happens while a run is under way. */
interface Disturbance {
  /** Returns when a host was lost. */
  during: (handle: Handle) => Promise<Loss>;
  /** What is said to a run that holds; otherwise it is accepted as it is. */
  decision?: 'retry';
}

/**
 * Bare hosts to v1, to v2, to v3 that is broken in five ways, and back; with requests flowing. What is done is kept below `.build/campaigns`, so that the hosts may be
 * gone through one at a time. Writes the table. Returns whether all is as it should be.
 */
export async function deploys(options: { only?: string | undefined; say: (line: string) => void }): Promise<boolean> {
  const { say, only } = options;
  const { stdout: commit } = await execa('git', ['rev-parse', '--short=12', 'HEAD']);
  const file = path.resolve('.build/campaigns/deploys.jsonl');
  mkdirSync(path.dirname(file), { recursive: true });
  const chosen = grounds.filter(({ name }) => only === undefined || name.includes(only)).map(({ name }) => name);
  const kept = readLines<Row>(file).filter(({ ground }) => !chosen.includes(ground));
  writeFileSync(file, kept.map((row) => `${JSON.stringify(row)}\n`).join(''));
  for (const ground of grounds.filter(({ name }) => chosen.includes(name))) {
    const add = (row: Row): void => {
      appendFileSync(file, `${JSON.stringify({ ...row, commit })}\n`);
      say(line(row));
    };
    await onGround(ground, add).catch((error: unknown) =>
      add({ ground: ground.name, what: 'the campaign stopped here', end: '', seconds: 0, wrong: String(error) }),
    );
  }
  const order = grounds.map(({ name }) => name);
  const rows = readLines<Row>(file).sort((one, other) => order.indexOf(one.ground) - order.indexOf(other.ground));
  const text = report(rows);
  writeFileSync(RESULT, text);
  say(`\n${text}\nwritten to ${path.relative(process.cwd(), RESULT)}`);
  return rows.every(({ wrong }) => wrong === '');
}

async function onGround(ground: Ground, add: (row: Row) => void): Promise<void> {
  const { web, entrance } = ground;
  const here = await startBackupLab({ hosts: ground.hosts, ...(ground.layout ? { layout: ground.layout } : {}) });
  try {
    shorten(here);
    here.changeInventory('patienceSeconds: 60', 'patienceSeconds: 20');
    here.changeInventory('keep: 5', 'keep: 5\n    neededMegabytes: 1');
    const address = here.lab.hosts[entrance]?.address ?? '';
    const site: Site = { address, name: 'api.proofpass.test', ca: here.lab.ca };
    const plain = async (what: string, runbook: string, end: string): Promise<void> => {
      const began = Date.now();
      const ended = await here.run({}, runbook);
      const row = { ground: ground.name, what, end: ended.end, seconds: (Date.now() - began) / 1000 };
      add({ ...row, wrong: ended.end === end ? '' : ended.message });
    };
    if (ground.byHand) {
      await plain('adopt', 'adopt', 'succeeded');
      await plain('adopt again', 'adopt', 'nothing to do');
    } else {
      await here.lab.certificates(entrance);
      await plain('provision-host', 'provision-host', 'succeeded');
      await here.lab.openbao(...ground.vault);
      await plain('provision-host again', 'provision-host', 'nothing to do');
    }

    const arrived: { visitor?: Visitor } = {};
    /** Runs with requests flowing, and judges what came of it. */
    const flowing = async (
      what: string,
      [runbook, input]: [string, Record<string, unknown>],
      expected: Expected,
      disturbance?: Disturbance,
    ): Promise<void> => {
      const { visitor } = arrived;
      const before = expected.same ? await observed(here, web) : '';
      const traffic = visitor && startTraffic({ ...site, path: '/health', ...ground.traffic });
      const began = Date.now();
      const handle = await here.start(input, runbook);
      let answers: Answer[];
      let lost: Loss | undefined;
      let ended: Ended;
      let seconds: number;
      try {
        lost = await disturbance?.during(handle);
        ended = await endedOrHeld(here, handle, disturbance?.decision);
        seconds = (Date.now() - began) / 1000;
        await delay(1000);
      } finally {
        answers = (await traffic?.stop()) ?? [];
      }
      const row: Row = { ground: ground.name, what, end: ended.end, seconds, wrong: '' };
      const wrong = await judge(here, web, ended, expected, before);
      if (visitor) {
        Object.assign(row, figures(answers, lost, web.length === 1, ended));
        const kept = [await visitor.isLoggedIn(), await visitor.hasUploads()];
        row.kept = kept.every(Boolean) ? 'yes' : `login ${String(kept[0])}, uploads ${String(kept[1])}`;
        if (!kept.every(Boolean)) wrong.push('a session or an upload was lost');
        if (web.length > 1 && (row.failed ?? 0) > (row.lost ?? 0)) wrong.push('requests failed');
        if (web.length === 1 && lost === undefined && row.stated === 0 && row.failed) wrong.push('requests failed');
        if (web.length === 1 && lost === undefined && (row.gap ?? 0) > Math.max(row.stated ?? 0, 2))
          wrong.push(`away for ${row.gap} s, the plan states ${row.stated} s`);
      }
      add({ ...row, wrong: wrong.join('; ') });
    };
    const deploy = (ref: string): [string, Record<string, unknown>] => ['deploy', { ref }];
    const back: Expected = { end: 'rolled back', same: true, version: '2.0.0' };

    if (!ground.byHand)
      await flowing('deploy v1, the first release', deploy('v1'), { end: 'succeeded', version: '1.0.0' });
    arrived.visitor = await arrive(here, site, web);
    await flowing('deploy v2', deploy('v2'), { end: 'succeeded', version: '2.0.0' });
    await flowing('v3: the build fails', deploy('v3-broken-build'), back);
    await flowing('v3: its migration fails', deploy('v3-bad-migration'), back);
    await flowing('v3: its health is bad', deploy('v3-bad-health'), back);
    const last = web.at(-1) as string;
    await onFullDisk(here, last, () => flowing(`the disk of ${last} fills up`, deploy('v3-bad-health'), back));
    await flowing(`${last} is lost while it builds, for ${AWAY_SECONDS} s`, deploy('v3-bad-health'), back, {
      during: async (handle) => {
        await here.untilStep(handle, `build-${last}`, 'running');
        await here.shell(
          `until compgen -G '/var/lib/guardia/jobs/*-build-${last}-*/started'; do sleep 0.1; done`,
          last,
        );
        return loseForAWhile(here, last);
      },
    });
    await flowing(`${web[0]} is lost while it is switched, for ${AWAY_SECONDS} s`, deploy('v3-bad-health'), back, {
      during: async (handle) => {
        await here.untilStep(handle, `stop-${web[0]}`, 'done');
        return loseForAWhile(here, web[0] as string);
      },
    });
    if (web.length > 1)
      // Half an hour. Nobody can undo on a host that is not there: the run keeps its locks and waits for a person, who mends the host and says `retry`. Meanwhile
      // the other one serves the release that is to go, and this one gets no requests, whatever it starts when it boots.
      await flowing(
        `${last} is lost while it is switched, until the run asks for a person, who brings it back`,
        deploy('v1'),
        back,
        {
          during: async (handle) => {
            await here.untilStep(handle, `stop-${last}`, 'done');
            const loss = await lose(here, last);
            const holds = async (): Promise<boolean> => (await here.status(handle)).holds.length > 0;
            await until('the run holds', holds, { seconds: 3600 });
            await here.lab.poweron(last);
            await until(`${last} answers`, async () => (await versionOn(here, last)) !== '', { seconds: 180 });
            const told = await here.shell("echo 'show servers state' | socat - /run/haproxy/admin.sock", 'balancer');
            const open = told.split('\n').filter((line) => new RegExp(`_backend \\d+ ${last} \\S+ \\d 0 `).test(line));
            if (open.length > 0)
              throw new Error(`${last} gets requests although it was not put back: ${open.join('; ')}`);
            return loss;
          },
          decision: 'retry',
        },
      );
    await flowing('rollback', ['rollback', {}], { end: 'succeeded', version: '1.0.0' });
  } finally {
    await here.down();
  }
}

/** A hold that was answered by `retry` so often is accepted. */
const MOST_RETRIES = 10;

/** How it ended. A run that holds for a person would wait for ever: it is told what to do, and that is how it ended. */
async function endedOrHeld(here: BackupLab, handle: Handle, wanted: RecoverChoice = 'accept'): Promise<Ended> {
  const ended = here.ended(handle);
  let over = false;
  const retried = new Map<string, number>();
  void ended.finally(() => (over = true)).catch(() => undefined);
  while (!over) {
    const [hold] = (await here.status(handle).catch(() => undefined))?.holds ?? [];
    if (hold) {
      const times = (retried.get(hold.id) ?? 0) + 1;
      retried.set(hold.id, times);
      // What a retry does not solve is accepted: the row shows it.
      const said = times > MOST_RETRIES ? 'accept' : wanted;
      const decision = hold.choices.includes(said) ? said : 'rollback';
      await handle
        .executeUpdate(recoverUpdate, { args: [{ hold: hold.id, decision, reason: 'campaign' }] })
        .catch(() => undefined);
    }
    await Promise.race([delay(1000), ended.catch(() => undefined)]);
  }
  return ended;
}

/** While a host went away: milliseconds since 1970. */
interface Loss {
  from: number;
  to: number;
}

async function lose(here: BackupLab, host: string): Promise<Loss> {
  const from = Date.now();
  await here.lab.poweroff(host);
  return { from, to: Date.now() };
}

/** A power cut, and power again later. */
async function loseForAWhile(here: BackupLab, host: string): Promise<Loss> {
  const loss = await lose(here, host);
  await delay(AWAY_SECONDS * 1000);
  await here.lab.poweron(host);
  return loss;
}

const observed = async (here: BackupLab, hosts: readonly string[]): Promise<string> =>
  (await Promise.all(hosts.map((host) => here.shell(OBSERVED, host)))).join('\n');

/** The version that answers on a host itself; empty where none does. */
const versionOn = async (here: BackupLab, host: string): Promise<string> =>
  (await here.shell('curl -s -m 5 http://127.0.0.1:4000/version | grep -o "[0-9.]*[0-9]" || true', host)).trim();

async function judge(
  here: BackupLab,
  web: readonly string[],
  ended: Ended,
  expected: Expected,
  before: string,
): Promise<string[]> {
  const wrong: string[] = [];
  if (ended.end !== expected.end) wrong.push(`${ended.end}: ${ended.message}`);
  // A host that has just booted starts its services by itself.
  const versions = (): Promise<string[]> => Promise.all(web.map((host) => versionOn(here, host)));
  if (expected.version !== undefined)
    await until(`${expected.version} answers`, async () =>
      (await versions()).every((one) => one === expected.version),
    ).catch(async () => wrong.push(`${(await versions()).join(' ')} answers, not ${expected.version}`));
  if (expected.same && (await observed(here, web)) !== before) wrong.push('a server is not as it was');
  return wrong;
}

/** What came of the requests. On a single host those that were sent while it was off are lost with it. */
function figures(answers: readonly Answer[], loss: Loss | undefined, single: boolean, ended: Ended): Partial<Row> {
  const bad = failed(answers);
  const downtime = RunReport.safeParse(ended.report).data?.plan?.downtime ?? [];
  const undone = ended.end !== 'succeeded';
  const switched = RunReport.safeParse(ended.report).data?.steps.some(
    ({ id, startedAt }) => id.startsWith('stop-') && startedAt,
  );
  const lost =
    loss === undefined
      ? undefined
      : single
        ? bad.filter(({ endedAt }) => endedAt >= loss.from).length
        : underWay(bad, loss.from, loss.to).length;
  return {
    sent: answers.length,
    failed: bad.length,
    gap:
      loss === undefined ? Math.max(longestGapSeconds(answers), downtimeSeconds(answers)) : longestGapSeconds(answers),
    // What fails before the switch has no downtime at all.
    stated: switched
      ? Math.max(0, ...downtime.map(({ seconds, ifUndone }) => (undone ? (ifUndone ?? 0) : seconds)))
      : 0,
    ...(lost === undefined ? {} : { lost }),
  };
}

const shown = (value: number | undefined, digits = 0): string => (value === undefined ? '' : value.toFixed(digits));

const line = (row: Row): string =>
  `| ${[row.what, row.end, `${row.seconds.toFixed(0)} s`, shown(row.sent), shown(row.failed), shown(row.lost), shown(row.gap, 1), shown(row.stated), row.kept ?? '', row.wrong === '' ? 'as it should be' : `**${row.wrong.replaceAll('|', '\\|').replaceAll('\n', ' ')}**`].join(' | ')} |`;

function report(rows: readonly Row[]): string {
  const good = rows.filter(({ wrong }) => wrong === '').length;
  return [
    '# From bare hosts to v2, through five broken releases, and back',
    '',
    `${good} of ${rows.length} are as they should be (${new Date().toISOString().slice(0, 10)}): \`npm run campaign -- deploys\`.`,
    '',
    'Three clients ask for `/health` through nginx or HAProxy all the time, over a new connection each time, 50 ms after the last answer; on the host that was set up by hand,',
    'whose nginx limits requests, one client every 200 ms. _Gap_: from the first request that failed to the first good answer after the last one that did, or, where none did or a host was lost, the longest time',
    'without a good answer, in seconds; _stated_: the downtime in the plan, where the run came as far as the switch. _Lost_: of the failed requests those under',
    'way when the host was lost; on a single host those sent until it was back. _Kept_: a session from before the deploys is still good, and every server gives',
    'out what was uploaded to it. Rolled back means: link, releases, units, what answers and the shared data are as before, compared by an observer that is not guardia.',
    'The watch after a deploy is 6 s here, and a server has 20 s to become healthy.',
    ...[...new Set(rows.map(({ ground }) => ground))].flatMap((ground) => [
      '',
      `## ${ground[0]?.toUpperCase()}${ground.slice(1)}`,
      '',
      `Commit ${rows.find((row) => row.ground === ground)?.commit ?? ''}.`,
      '',
      '| | ended | took | sent | failed | lost | gap | stated | kept | |',
      '|---|---|---|---|---|---|---|---|---|---|',
      ...rows.filter((row) => row.ground === ground).map(line),
    ]),
    '',
  ].join('\n');
}
