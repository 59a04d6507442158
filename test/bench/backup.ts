// The benchmark of `backup`: guardia, the manual's own script and restic, on one database and one object store, in turn.
import { statfsSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { command } from '../../infra/lab/command.js';
import { labsDirectory } from '../../infra/lab/lab.js';
import { say } from '../../infra/packaging/toolbox-cache.js';
import { ToolboxError, tools } from '../../infra/packaging/toolbox.js';
import { DATABASE, HOST, startBenchLab, SYSTEM, WARM_UP_DATABASE, type BenchLab } from './bench-lab.js';
import { floorCommand, resticStdin, script, timed, type Contender } from './contenders.js';
import { startBackup, type TimedActivity, type TimedRun } from './guardia-run.js';
import { backupWithKill, type KilledRun } from './killed-run.js';
import { between, read, type Usage } from './meters.js';
import { judge, reportText, saveReport } from './report.js';
import { bytesBelow } from './stored-objects.js';
import { forgetPeak, peakMemory, startWorker, type WorkerProcess } from './worker-process.js';

export interface BackupBenchmark {
  megabytes: number;
  rounds: number;
  kills: number;
  /** Only guardia, only the memory of its worker. */
  rssOnly: boolean;
  output: string | undefined;
  json: boolean;
}

/** One backup. Seconds and bytes. */
export interface Measured {
  completeSeconds: number;
  /** Until every byte was read back; undefined where nothing does that. */
  verifiedSeconds?: number;
  usage: Usage;
  stored: number;
}

export interface GuardiaMeasured extends Measured {
  verifiedSeconds: number;
  activities: TimedActivity[];
  /** Of the worker's process alone, in bytes. */
  peakMemory: number;
  /** The backup of the small database that came before, by the same worker. */
  warmUp: { completeSeconds: number; verifiedSeconds: number; peakMemory: number };
}

export interface Round {
  guardia: GuardiaMeasured;
  floor?: { completeSeconds: number; usage: Usage };
  script?: Measured;
  /** `check`: what reading back used by itself. */
  restic?: Measured & { check?: Usage };
}

export interface Results {
  megabytes: number;
  machine: string[];
  versions: Record<string, string>;
  rounds: Round[];
  kills: KilledRun[];
}

/** Below this, and with fewer rounds, figures are for looking and are not written down. */
const JUDGED = { megabytes: 2048, rounds: 5 };

/**
 * Sets everything up, measures, prints, and removes everything. Returns whether guardia kept every limit that was measured.
 * Throws Interrupted, after it has removed everything, on SIGINT and SIGTERM; a second signal ends the process at once.
 */
export async function benchmarkBackup(options: BackupBenchmark): Promise<boolean> {
  checkDisk(options);
  const stop = new AbortController();
  let firstAt = 0;
  // It stays in place: execa ends the process on a signal that nobody else listens to.
  const listener = (signal: NodeJS.Signals): void => {
    const interrupted = new Interrupted(signal);
    if (!stop.signal.aborted) {
      firstAt = Date.now();
      say(
        'bench: stopping, and removing what was made; once more to leave at once (the next start of a lab then cleans up)',
      );
      stop.abort(interrupted);
    } else if (Date.now() - firstAt > SAME_INTERRUPT_MS) process.exit(interrupted.exitCode);
  };
  signals.forEach((name) => process.on(name, listener));
  let bench: BenchLab | undefined;
  try {
    bench = await startBenchLab({ megabytes: options.megabytes, contenders: !options.rssOnly, signal: stop.signal });
    const results = await untilAborted(measure(bench, options), stop.signal);
    const verdicts = judge(results);
    const text = reportText(results, verdicts);
    console.log(options.json ? JSON.stringify({ ...results, verdicts }, null, 2) : text);
    const judged = options.megabytes >= JUDGED.megabytes && (options.rssOnly || options.rounds >= JUDGED.rounds);
    if (judged || options.output !== undefined) say(`written to ${saveReport(results, text, options.output)}`);
    else
      say(
        `not written to a file: figures count from --megabytes ${JUDGED.megabytes} and --runs ${JUDGED.rounds} on; elsewhere with --output`,
      );
    return verdicts.every(({ passed }) => passed);
  } catch (error) {
    // The terminal's Ctrl-C also ends the commands that were running: that they failed is no news.
    stop.signal.throwIfAborted();
    throw error;
  } finally {
    await bench?.down();
    signals.forEach((name) => process.off(name, listener));
  }
}

const signals = ['SIGINT', 'SIGTERM'] as const;
/** npm passes on the Ctrl-C that the terminal has sent to us too: that is still the first one. */
const SAME_INTERRUPT_MS = 1000;

/** The operator has stopped the benchmark; everything is removed. */
export class Interrupted extends ToolboxError {
  override name = 'Interrupted';
  readonly exitCode: number;
  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}; everything is removed`);
    this.exitCode = signal === 'SIGINT' ? 130 : 143;
  }
}

/** The work's result, or the signal's reason as soon as it aborts; the work is then left to fail on what is gone. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  const aborted = new Promise<never>((_, reject) => {
    const refuse = (): void => reject(signal.reason as Interrupted);
    if (signal.aborted) refuse();
    else signal.addEventListener('abort', refuse, { once: true });
  });
  aborted.catch(() => undefined);
  return Promise.race([work, aborted]);
}

async function measure(bench: BenchLab, options: BackupBenchmark): Promise<Results> {
  const { lab } = bench;
  const results: Results = {
    megabytes: options.megabytes,
    machine: machine(),
    versions: { ...bench.versions, 'Versity S3 Gateway': tools.versitygw.version, Node: process.versions.node },
    rounds: [],
    kills: [],
  };
  let worker = await startWorker(lab, bench.environment);
  say('warming up');
  await timed(lab, 'pg_dump', floorCommand);
  await guardiaRun(bench, WARM_UP_DATABASE);

  for (let number = 1; number <= options.rounds; number++) {
    const tell = (what: string, seconds: number): void =>
      say(`round ${number} of ${options.rounds}: ${what} ${seconds.toFixed(1)} s`);
    const round: Partial<Round> = {};
    if (!options.rssOnly) {
      await settle(bench);
      const before = read(lab.name, HOST, worker.pid);
      const completeSeconds = await timed(lab, 'pg_dump', floorCommand);
      round.floor = { completeSeconds, usage: between(before, read(lab.name, HOST, worker.pid)) };
      tell('pg_dump to /dev/null', completeSeconds);
    }
    round.guardia = await measureGuardia(bench, worker);
    tell('guardia complete', round.guardia.completeSeconds);
    tell('guardia verified', round.guardia.verifiedSeconds);
    if (!options.rssOnly) {
      round.script = await measureContender(bench, "the manual's script", script, number, worker);
      tell("the manual's script", round.script.completeSeconds);
      round.restic = await measureContender(bench, 'restic', resticStdin, number, worker);
      tell('restic', round.restic.completeSeconds);
    }
    results.rounds.push(round as Round);
  }
  for (let number = 1; number <= options.kills; number++) {
    say(`backup ${number} of ${options.kills} whose worker is killed`);
    await settle(bench);
    const expected = results.rounds.at(-1)?.guardia.stored ?? 0;
    const killed = await backupWithKill(bench, worker, expected);
    worker = killed.worker;
    results.kills.push(killed.run);
    say(`  complete after ${killed.run.completeSeconds.toFixed(1)} s, ${killed.run.partsSentAgain} parts sent again`);
  }
  await worker.stop();
  return results;
}

/** A backup of the small database, then one of the large: what the second has on top is what size costs. */
async function measureGuardia(bench: BenchLab, worker: WorkerProcess): Promise<GuardiaMeasured> {
  const { lab } = bench;
  forgetPeak(worker.pid);
  const small = await guardiaRun(bench, WARM_UP_DATABASE);
  const smallPeak = peakMemory(worker.pid);
  await settle(bench);
  forgetPeak(worker.pid);
  const before = read(lab.name, HOST, worker.pid);
  const run = await guardiaRun(bench, DATABASE);
  const usage = between(before, read(lab.name, HOST, worker.pid));
  return {
    completeSeconds: run.completeSeconds,
    verifiedSeconds: run.verifiedSeconds,
    activities: run.activities,
    usage,
    stored: await bytesBelow(lab.s3, `${SYSTEM}/recovery-points/${run.recoveryPoint}/`),
    peakMemory: peakMemory(worker.pid),
    warmUp: {
      completeSeconds: small.completeSeconds,
      verifiedSeconds: small.verifiedSeconds,
      peakMemory: smallPeak,
    },
  };
}

async function guardiaRun(bench: BenchLab, database: string): Promise<TimedRun> {
  return (await startBackup(bench, database)).ended();
}

async function measureContender(
  bench: BenchLab,
  name: string,
  contender: Contender,
  round: number,
  worker: WorkerProcess,
): Promise<Measured & { check?: Usage }> {
  const { lab } = bench;
  const metered = async (command: string): Promise<{ seconds: number; usage: Usage }> => {
    const before = read(lab.name, HOST, worker.pid);
    const seconds = await timed(lab, name, command);
    return { seconds, usage: between(before, read(lab.name, HOST, worker.pid)) };
  };
  await contender.prepare(lab, round);
  await settle(bench);
  const kept = await bytesBelow(lab.s3, contender.prefix);
  const backup = await metered(contender.backup(lab, round));
  const stored = (await bytesBelow(lab.s3, contender.prefix)) - kept;
  if (stored <= 0) throw new Error(`${name} ended well, but has put nothing below ${contender.prefix}`);
  const check = contender.verify && (await metered(contender.verify(lab, round)));
  await contender.cleanUp(lab, round);
  return {
    completeSeconds: backup.seconds,
    ...(check ? { verifiedSeconds: backup.seconds + check.seconds, check: check.usage } : {}),
    usage: backup.usage,
    stored,
  };
}

/** What one contender left to be written to the disk must not slow down the next. */
async function settle({ lab }: BenchLab): Promise<void> {
  await command(['sync', '-f', lab.directory]);
}

function checkDisk({ megabytes, rounds, kills, rssOnly }: BackupBenchmark): void {
  // The database as a layer and on the host, what guardia keeps in the bucket until the end, and what the others make in a round.
  const wanted = megabytes * (2.3 + 0.4 * (rounds + kills) + (rssOnly ? 0 : 1));
  const at = labsDirectory().replace(/\/[^/]*$/, '') || '/';
  const { bavail, bsize } = statfsSync(at);
  const free = (bavail * bsize) / 1e6;
  if (free < wanted)
    throw new ToolboxError(
      `this benchmark needs about ${Math.ceil(wanted / 1000)} GB of disk below ${at}, and ${Math.floor(free / 1000)} GB are free. Take a smaller --megabytes, or set GUARDIA_LAB_DIR`,
    );
}

function machine(): string[] {
  const [first] = cpus();
  return [
    `${cpus().length} processors (${first?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB of memory, Linux ${release().split('-')[0]}`,
    'database host, object store, Temporal server, worker and what reads back: all on this one machine',
  ];
}
