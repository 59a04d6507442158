import { readFileSync } from 'node:fs';
import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { Probe, ProbeKind, ProbeOf } from '../../workflows/contracts/probe.js';
import { within } from '../../workflows/contracts/network.js';
import type { Hosts } from '../hosts/hosts.js';
import { failed, judgeLevels, ok, unknown, worst, type Verdict } from './verdict.js';

const script = readFileSync(new URL('./host-facts.sh', import.meta.url), 'utf8');

/** Seconds that one connection attempt to a port may take: a SYN is repeated after 1 and 3 s. */
const KNOCK_SECONDS = 5;

/** The kinds that are answered by the host's own script, all of a host in one call. */
const hostKinds = [
  'systemd',
  'compose',
  'container',
  'disk',
  'inodes',
  'memory',
  'cpu',
  'load',
  'file',
  'clock',
  'failed-units',
  'firewall',
  'port',
] as const satisfies readonly ProbeKind[];
export type HostProbe = ProbeOf<(typeof hostKinds)[number]>;

export const isHostProbe = (probe: Probe): probe is HostProbe =>
  (hostKinds as readonly ProbeKind[]).includes(probe.kind);

/** What the script said about one question: the values of each name, in order. */
export type Facts = ReadonlyMap<string, readonly string[]>;

/** What the script is asked for a probe. */
export function questionOf(probe: HostProbe): string {
  const words = (): (string | number)[] => {
    switch (probe.kind) {
      case 'systemd':
        return [probe.unit];
      case 'compose':
        return [probe.project, probe.service];
      case 'container':
        return [probe.container];
      case 'disk':
      case 'inodes':
      case 'file':
        return [probe.path];
      case 'cpu':
        return [probe.sampleSeconds];
      case 'port':
        return [
          probe.address,
          Math.min(KNOCK_SECONDS, probe.timeoutSeconds),
          ...new Set([...probe.ports, ...(probe.expect === 'closed' ? probe.reachable : [])]),
        ];
      case 'memory':
      case 'load':
      case 'clock':
      case 'failed-units':
      case 'firewall':
        return [];
    }
  };
  return [probe.kind, ...words()].join('\x1f');
}

/** Lines "INDEX NAME=VALUE" as facts for each question. Undefined where the script did not come to its end. Pure. */
export function parseFacts(text: string, questions: number): Facts[] | undefined {
  const lines = text.split('\n');
  if (!lines.includes('end')) return undefined;
  const all = Array.from({ length: questions }, () => new Map<string, string[]>());
  for (const line of lines) {
    const [, index, name, value] = /^(\d+) ([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    const facts = all[Number(index)];
    if (facts === undefined || name === undefined || value === undefined) continue;
    facts.set(name, [...(facts.get(name) ?? []), value]);
  }
  return all;
}

/**
 * Asks a host everything that its probes want to know, in one call; the clock in one of its own, which has to be quick. Throws the failures
 * of the host (`HostUnreachable`, `SudoMissing`, ...): then nothing of it is known.
 */
export async function askHost(
  hosts: Hosts,
  target: HostTarget,
  probes: readonly HostProbe[],
  signal: AbortSignal,
): Promise<{ verdict: Verdict; milliseconds: number }[]> {
  const clocks = probes.filter(({ kind }) => kind === 'clock');
  const others = probes.filter(({ kind }) => kind !== 'clock');
  const ask = async (
    some: readonly HostProbe[],
  ): Promise<Map<HostProbe, { verdict: Verdict; milliseconds: number }>> => {
    if (some.length === 0) return new Map();
    const before = Date.now();
    const { stdout } = await hosts.run(
      target,
      { argv: ['/bin/bash', '-c', script, 'health', ...some.map(questionOf)], timeoutSeconds: 75 },
      { signal },
    );
    const facts = parseFacts(stdout, some.length);
    const asked = { before: before / 1000, after: Date.now() / 1000 };
    return new Map(
      some.map((probe, i) => [
        probe,
        {
          verdict: judge(probe, facts?.[i] ?? new Map([['error', ['the host broke off in the middle']]]), asked),
          milliseconds: Number(facts?.[i]?.get('microseconds')?.[0] ?? 0) / 1000,
        },
      ]),
    );
  };
  const [a, b] = await Promise.all([ask(others), ask(clocks)]);
  return probes.map(
    (probe) => a.get(probe) ?? b.get(probe) ?? { verdict: unknown('nobody asked', ''), milliseconds: 0 },
  );
}

/** What facts come to for a probe. `asked`: when the host was asked, by the worker's clock, seconds since 1970. Pure. */
export function judge(probe: HostProbe, facts: Facts, asked: { before: number; after: number }): Verdict {
  const error = facts.get('error')?.[0];
  const one = (name: string): string | undefined => facts.get(name)?.[0];
  switch (probe.kind) {
    case 'systemd':
      if (probe.outsideContainers && one('container') === 'yes')
        return ok('not judged: the host is a container, in which it cannot run', expectedRunning(probe));
      return error === undefined ? judgeUnit(probe, one) : unknown(error, expectedRunning(probe));
    case 'compose':
    case 'container':
      return error === undefined
        ? judgeContainers(probe, facts.get('container') ?? [])
        : failed(error, expectedRunning(probe));
    case 'disk':
    case 'inodes': {
      const value = one(probe.kind === 'disk' ? 'space' : 'inodes');
      if (error !== undefined || value === undefined) return unknown(error ?? 'df says nothing', 'df tells');
      if (value === '-') return ok(`${one('mount')} has no limit`, 'below its limit');
      const free = Number(one('freeKiB')) / 1024 / 1024;
      const about = probe.kind === 'disk' ? ` of ${one('mount')}, ${free.toFixed(1)} GiB free` : ` of ${one('mount')}`;
      return judgeLevels(Number(value), probe, ' %', about);
    }
    case 'memory': {
      const [total, available] = [Number(one('totalKiB')), Number(one('availableKiB'))];
      if (!(total > 0)) return unknown(error ?? '/proc/meminfo says nothing', 'the kernel tells');
      const about = ` of ${(total / 1024 / 1024).toFixed(1)} GiB`;
      return judgeLevels((100 * (total - available)) / total, probe, ' %', about);
    }
    case 'cpu':
      return one('percent') === undefined
        ? unknown(error ?? '/proc/stat says nothing', 'the kernel tells')
        : judgeLevels(Number(one('percent')), probe, ' %', ` over ${probe.sampleSeconds} s`);
    case 'load':
      return one('load') === undefined
        ? unknown(error ?? '/proc/loadavg says nothing', 'the kernel tells')
        : judgeLevels(Number(one('load')) / Number(one('processors')), probe, '', ` for each of ${one('processors')}`);
    case 'file':
      return error === undefined ? judgeFile(probe, one) : unknown(error, 'it can be looked at');
    case 'clock':
      return judgeClock(probe, one, asked);
    case 'failed-units': {
      if (error !== undefined) return unknown(error, 'none');
      const excepted = [...probe.except, ...(one('container') === 'yes' ? probe.exceptInContainers : [])];
      const units = (facts.get('unit') ?? []).filter((unit) => !excepted.includes(unit));
      return units.length === 0
        ? ok('none', 'none')
        : failed(units.join(', '), 'none', `Look why: journalctl -u ${units[0]} -n 50`);
    }
    case 'firewall':
      return error === undefined ? judgeFirewall(probe, one) : unknown(error, 'ufw tells');
    case 'port':
      return judgePorts(probe, facts.get('port') ?? [], one('from'));
  }
}

type One = (name: string) => string | undefined;

const expectedRunning = ({ running }: { running: boolean }): string => (running ? 'running' : 'not running');

function judgeUnit(probe: ProbeOf<'systemd'>, one: One): Verdict {
  const active = one('ActiveState') ?? 'unknown';
  const state = `${active} (${one('SubState') ?? '-'})`;
  const loaded = one('LoadState');
  const found: Verdict[] = [];
  if (loaded !== 'loaded' && probe.running)
    return failed(`no such unit (${loaded})`, 'running', `Check the name: systemctl list-units '${probe.unit}'`);
  found.push(
    // One that reads its files anew runs.
    ['active', 'reloading', 'refreshing'].includes(active) === probe.running
      ? ok(loaded === 'loaded' ? state : 'no such unit', expectedRunning(probe))
      : failed(state, expectedRunning(probe), `Look why: journalctl -u ${probe.unit} -n 50`),
  );
  if (probe.enabled !== undefined) {
    const file = one('UnitFileState') ?? '';
    const enabled = ['enabled', 'enabled-runtime', 'static', 'generated', 'alias', 'indirect'].includes(file);
    found.push(
      enabled === probe.enabled
        ? ok(file || 'not enabled', probe.enabled ? 'enabled' : 'not enabled')
        : failed(
            file || 'not enabled',
            probe.enabled ? 'enabled' : 'not enabled',
            `systemctl ${probe.enabled ? 'enable' : 'disable'} ${probe.unit}`,
          ),
    );
  }
  found.push(...judgeRestarts(probe.maximumRestarts, Number(one('NRestarts') ?? 0)));
  return worst(found);
}

function judgeRestarts(most: number | undefined, restarts: number): Verdict[] {
  if (most === undefined || restarts <= most) return [];
  return [{ state: 'warning', measured: `${restarts} automatic restarts`, expected: `at most ${most}` }];
}

/** One line for each container: name, status, health or `-`, restarts. */
function judgeContainers(probe: ProbeOf<'compose'> | ProbeOf<'container'>, lines: readonly string[]): Verdict {
  const expected = expectedRunning(probe);
  const log =
    probe.kind === 'compose'
      ? `docker compose -p ${probe.project} logs --tail 50 ${probe.service}`
      : `docker logs --tail 50 ${probe.container}`;
  if (lines.length === 0) return (probe.running ? failed : ok)('there is no container', expected);
  return worst(
    lines.flatMap((line) => {
      const [name = '', status = '', health = '-', restarts = '0'] = line.split(' ');
      const is = `${name.replace(/^\//, '')} is ${status}${health === '-' ? '' : ` and ${health}`}`;
      const runs = status === 'running';
      if (runs !== probe.running) return [failed(is, expected, `Look why: ${log}`)];
      if (runs && health === 'unhealthy') return [failed(is, 'running and healthy', `Look why: ${log}`)];
      if (runs && health === 'starting')
        return [{ state: 'failed' as const, measured: is, expected: 'running and healthy' }];
      return [ok(is, expected), ...judgeRestarts(probe.maximumRestarts, Number(restarts))];
    }),
  );
}

function judgeFile(probe: ProbeOf<'file'>, one: One): Verdict {
  const there = one('exists') === 'yes';
  if (there !== probe.exists || !there)
    return (there === probe.exists ? ok : failed)(there ? 'there' : 'not there', probe.exists ? 'there' : 'not there');
  const wanted = [
    ['mode', probe.mode?.replace(/^0(?=...$)/, ''), one('mode')],
    ['owner', probe.owner, one('owner')],
    ['group', probe.group, one('group')],
  ] as const;
  const age = Number(one('now')) - Number(one('modified'));
  return worst([
    ok('there', 'there'),
    ...wanted
      .filter(([, expected]) => expected !== undefined)
      .map(([name, expected, seen]) => (expected === seen ? ok : failed)(`${name} ${seen}`, `${name} ${expected}`)),
    ...(probe.maximumAgeSeconds === undefined
      ? []
      : [(age <= probe.maximumAgeSeconds ? ok : failed)(`${age} s old`, `at most ${probe.maximumAgeSeconds} s old`)]),
  ]);
}

function judgeClock(probe: ProbeOf<'clock'>, one: One, asked: { before: number; after: number }): Verdict {
  const time = Number(one('time'));
  if (!(time > 0)) return unknown('date says nothing', 'the host tells its time');
  // It was read somewhere between question and answer.
  const skew = time < asked.before ? time - asked.before : time > asked.after ? time - asked.after : 0;
  const synchronised = one('synchronised') === 'yes';
  const remedy = 'Let a time server keep it: timedatectl set-ntp true';
  const most = probe.maximumSkewSeconds;
  return worst([
    (most === undefined || Math.abs(skew) <= most ? ok : failed)(
      `${Math.abs(skew).toFixed(1)} s ${skew < 0 ? 'behind' : 'ahead of'} the worker`,
      most === undefined ? 'told, not judged' : `at most ${most} s from the worker's`,
      remedy,
    ),
    ...(probe.synchronised === undefined
      ? []
      : [
          (synchronised === probe.synchronised ? ok : failed)(
            synchronised ? 'synchronised' : 'not synchronised',
            probe.synchronised ? 'synchronised' : 'not synchronised',
            remedy,
          ),
        ]),
  ]);
}

function judgeFirewall(probe: ProbeOf<'firewall'>, one: One): Verdict {
  const active = one('status') === 'active';
  const expected = probe.active ? `active, ${probe.incoming} what comes in` : 'not active';
  if (active !== probe.active) return failed(`ufw: ${one('status') ?? 'says nothing'}`, expected, 'ufw enable');
  if (!active) return ok('not active', expected);
  const incoming = one('incoming') ?? 'unknown';
  return (incoming === probe.incoming ? ok : failed)(`active, ${incoming} what comes in`, expected);
}

/**
 * Ports seen from another machine, "PORT STATE [WHY]". A port that answers is open. One that is silent counts as closed only where another
 * port of that host answers: else the way there may be dead, and nothing is known. `from` is the address that was looked from: what is open
 * to a network that it lies in is not judged. Pure.
 */
export function judgePorts(all: ProbeOf<'port'>, lines: readonly string[], from?: string): Verdict {
  const inside = all.openToNetworks.filter(({ network }) => from === undefined || within(from, network) !== 'no');
  const probe = { ...all, ports: all.ports.filter((port) => !inside.some((open) => open.port === port)) };
  const aside =
    inside.length === 0
      ? ''
      : `not judged: ${inside.map(({ port, network }) => `${port} (${from ?? probe.on} may be in ${network})`).join(', ')}`;
  const states = new Map(
    lines.map((line) => {
      const [port = '', state = '', ...why] = line.split(' ');
      return [Number(port), { state, why: why.join(' ') }] as const;
    }),
  );
  const stateOf = (port: number): string => states.get(port)?.state ?? 'not tried';
  const wordFor = (port: number): string => (stateOf(port) === 'error' ? (states.get(port)?.why ?? '') : stateOf(port));
  /** "22, 80 open, 9000 refused": those of one state together. */
  const told = (ports: readonly number[]): string =>
    [...new Set(ports.map(wordFor))]
      .map((word) => `${ports.filter((port) => wordFor(port) === word).join(', ')} ${word}`)
      .join(', ');
  if (probe.ports.length === 0) return ok(aside, 'nothing, from there');
  const broken = probe.ports.filter((port) => ['error', 'not tried'].includes(stateOf(port)));
  const expected = `${probe.expect}: ${probe.ports.join(', ')}`;
  if (broken.length > 0) return unknown(`${probe.address}: ${told(broken)}`, expected);
  const open = probe.ports.filter((port) => stateOf(port) === 'open');
  const shut = probe.ports.filter((port) => stateOf(port) !== 'open');
  if (probe.expect === 'open')
    return shut.length === 0 ? ok(`open: ${open.join(', ')}`, expected) : failed(told(shut), expected);
  if (open.length > 0)
    return failed(
      `open: ${open.join(', ')}`,
      expected,
      `Close ${open.length === 1 ? 'it' : 'them'} on ${probe.to}, or name the flow in the inventory. Ports that Docker publishes pass ufw: bind them to 127.0.0.1`,
    );
  const proof = probe.reachable.find((port) => stateOf(port) === 'open');
  if (proof === undefined)
    return unknown(
      probe.reachable.length === 0
        ? `no port of ${probe.to} is open to ${probe.on}, so nothing shows that ${probe.to} can be reached at all: ${told(shut)}`
        : `${probe.to} cannot be reached from ${probe.on}: ${told(probe.reachable)}`,
      expected,
    );
  return ok(`closed: ${told(shut)}; ${proof} answers${aside === '' ? '' : `; ${aside}`}`, expected);
}
