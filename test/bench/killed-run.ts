import { setTimeout as delay } from 'node:timers/promises';
import { say } from '../../infra/packaging/toolbox-cache.js';
import { ToolboxError } from '../../infra/packaging/toolbox.js';
import { DATABASE, HOST, SYSTEM, type BenchLab } from './bench-lab.js';
import { startBackup } from './guardia-run.js';
import { read } from './meters.js';
import { createPartsLedger } from './parts-ledger.js';
import { bytesBelow, partsWatcher } from './stored-objects.js';
import { startWorker, type WorkerProcess } from './worker-process.js';

const LOOK_MS = 50;

/** A backup whose worker was killed at half way. Sizes in bytes, times in seconds since it was asked for. */
export interface KilledRun {
  killedAt: number;
  /** What lay in the store at that moment. */
  storedWhenKilled: number;
  completeSeconds: number;
  verifiedSeconds: number;
  stored: number;
  sent: number;
  /** Parts that the store got more than once, and how many bytes they have. */
  partsSentAgain: number;
  bytesSentAgain: number;
  /** How often the dump's command was started: 1 unless it ran anew. */
  dumps: number;
}

/**
 * Starts a backup, kills the worker with SIGKILL when half of `expectedBytes` lies in the store, starts another one at once, and
 * watches the store for parts that come a second time.
 */
export async function backupWithKill(
  bench: BenchLab,
  worker: WorkerProcess,
  expectedBytes: number,
): Promise<{ run: KilledRun; worker: WorkerProcess }> {
  const { lab, environment } = bench;
  const watcher = partsWatcher(lab.s3, `${SYSTEM}/recovery-points/`);
  const before = read(lab.name, HOST, undefined);
  const backup = await startBackup(bench, DATABASE);
  let over = false;
  const ended = backup.ended().finally(() => (over = true));
  ended.catch(() => undefined);
  let next: Promise<WorkerProcess> | undefined;
  try {
    const parts = createPartsLedger();
    let killed: Pick<KilledRun, 'killedAt' | 'storedWhenKilled'> | undefined;
    while (!over) {
      const stored = parts.note(await watcher.look());
      if (killed === undefined && stored >= expectedBytes / 2) {
        await worker.kill();
        killed = { killedAt: (Date.now() - backup.startedAt) / 1000, storedWhenKilled: stored };
        say(`  worker killed after ${killed.killedAt.toFixed(1)} s with ${Math.round(stored / 1e6)} MB stored`);
        next = startWorker(lab, environment);
      }
      await delay(LOOK_MS);
    }
    const run = await ended;
    if (killed === undefined || next === undefined)
      throw new ToolboxError(
        'the backup was over before half of it was seen in the store: there is nothing to kill. Take a larger --megabytes, or --kills 0',
      );
    return {
      worker: await next,
      run: {
        ...killed,
        completeSeconds: run.completeSeconds,
        verifiedSeconds: run.verifiedSeconds,
        stored: await bytesBelow(lab.s3, `${SYSTEM}/recovery-points/${run.recoveryPoint}/`),
        sent: read(lab.name, HOST, undefined).sent - before.sent,
        partsSentAgain: parts.again().count,
        bytesSentAgain: parts.again().bytes,
        dumps: run.report.steps.find(({ id }) => id.startsWith('database-'))?.generation ?? NaN,
      },
    };
  } finally {
    watcher.close();
  }
}
