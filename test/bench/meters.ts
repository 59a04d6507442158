import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { controlGroup } from '../../infra/lab/control-group.js';
import { groupOf, hostGroupOf, hostState, readState } from '../../infra/lab/lab-state.js';
import { cardOf } from '../../infra/lab/network.js';

/** Who uses processor time in the benchmark, by control groups of the lab. */
export interface ProcessorSeconds {
  /** Everything on the database's host: PostgreSQL, the dump, compression, encryption, sending. */
  host: number;
  /** The object store. */
  store: number;
  /** guardia's worker: the process itself. */
  worker: number;
  /** What the worker started on its own machine: the jobs that read backups back. */
  verification: number;
  /** The Temporal server. */
  temporal: number;
}

export interface Reading {
  /** Milliseconds since 1970. */
  at: number;
  processor: ProcessorSeconds;
  /** Bytes that the host has sent over its network card, with all headers. */
  sent: number;
  /** Processor seconds of the whole machine, and what its own hypervisor took away. */
  busy: number;
  /** This process itself. */
  own: number;
}

/** What was used between two readings. */
export interface Usage {
  seconds: number;
  processor: ProcessorSeconds;
  sent: number;
  /** Share of the machine's processors that somebody else had, 0 to 1. */
  others: number;
}

/** Names of control groups below the lab's own, for processes that the benchmark starts. They end with the lab. */
export const benchGroups = { worker: 'bench-worker', temporal: 'bench-temporal' } as const;

/** Full name of a control group of the lab, for `controlGroup` and `startDetached`. */
export function labGroup(lab: string, name: string): string {
  const state = readState(lab);
  if (state === undefined) throw new Error(`there is no lab ${lab}`);
  return `${groupOf(state.index)}/${name}`;
}

/** Reads the counters of a lab with one host. `workerPid`: the worker that runs now. */
export function read(lab: string, host: string, workerPid: number | undefined): Reading {
  const state = readState(lab);
  if (state === undefined) throw new Error(`there is no lab ${lab}`);
  const machine = hostState(state, host);
  const worker = workerPid === undefined ? 0 : processSeconds(workerPid);
  const own = process.cpuUsage();
  return {
    at: Date.now(),
    processor: {
      host: groupSeconds(hostGroupOf(state.index, machine)),
      store: groupSeconds(labGroup(lab, 's3')),
      worker,
      verification: Math.max(0, groupSeconds(labGroup(lab, benchGroups.worker)) - worker),
      temporal: groupSeconds(labGroup(lab, benchGroups.temporal)),
    },
    // The other end of the host's card: what it sends is received here.
    sent: Number(readFileSync(`/sys/class/net/${cardOf(machine)}/statistics/rx_bytes`, 'utf8')),
    busy: machineSeconds(),
    own: (own.user + own.system) / 1e6,
  };
}

/** Both readings must be of the same worker. */
export function between(before: Reading, after: Reading): Usage {
  const seconds = (after.at - before.at) / 1000;
  const used = (who: keyof ProcessorSeconds): number => after.processor[who] - before.processor[who];
  const processor: ProcessorSeconds = {
    host: used('host'),
    store: used('store'),
    worker: used('worker'),
    verification: used('verification'),
    temporal: used('temporal'),
  };
  const { host, store, worker, verification, temporal } = processor;
  const known = host + store + worker + verification + temporal + (after.own - before.own);
  return {
    seconds,
    processor,
    sent: after.sent - before.sent,
    others: Math.max(0, after.busy - before.busy - known) / (seconds * cpus().length),
  };
}

function groupSeconds(name: string): number {
  const text = readFileSync(path.join(controlGroup(name), 'cpu.stat'), 'utf8');
  return Number(/^usage_usec (\d+)$/m.exec(text)?.[1]) / 1e6;
}

/** Clock ticks are hundredths of a second wherever Node runs. */
const TICKS_PER_SECOND = 100;

function processSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function machineSeconds(): number {
  const [user, nice, system, , , irq, softirq, steal] =
    readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/ +/).slice(1).map(Number) ?? [];
  return (
    [user, nice, system, irq, softirq, steal].reduce<number>((sum, ticks) => sum + (ticks ?? 0), 0) / TICKS_PER_SECOND
  );
}
