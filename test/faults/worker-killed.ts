import { setTimeout as delay } from 'node:timers/promises';
import { createPartsLedger } from '../bench/parts-ledger.js';
import { partsWatcher } from '../bench/stored-objects.js';
import type { BackupLab, Ended } from '../backup/harness.js';

/** A backup whose worker was killed with SIGKILL. */
export interface KilledBackup {
  ended: Ended;
  /** Seconds from the start of the run to the kill, and to its end. */
  killedAt: number;
  seconds: number;
  /** What the run was doing when the worker died: its steps, or its phase. Undefined when it had ended before. */
  during: string | undefined;
  /** How often the server was asked for the rows of the first table: once for each dump. */
  dumps: number;
  /** Bytes of parts that the object store got more than once. */
  bytesAgain: number;
  /** What was left on the host, on the worker's machine, in the bucket and in Temporal. */
  left: string[];
  /** Whether the newest recovery point is this run's and was read back. */
  verified: boolean;
}

/** Makes the server write down every statement of a dump, so that dumps can be counted. Idempotent. */
export async function countDumps(here: BackupLab): Promise<void> {
  await here.sql(`alter role postgres set log_statement = 'all'`);
}

/** Starts a backup, kills the worker at `moment`, starts another one at once, and looks at what came of it. */
export async function backupWithKill(here: BackupLab, moment: () => Promise<void>): Promise<KilledBackup> {
  const parts = createPartsLedger();
  const watcher = partsWatcher(here.lab.s3, 'proofpass/recovery-points/');
  let over = false;
  const watching = (async () => {
    while (!over) {
      parts.note(await watcher.look());
      await delay(50);
    }
  })();
  try {
    const startedAt = Date.now();
    const handle = await here.start();
    await moment();
    await here.worker().kill();
    const killedAt = Date.now();
    await here.startWorker();
    const ended = await here.ended(handle);
    const seconds = (Date.now() - startedAt) / 1000;
    const { closeTime } = await handle.describe();
    const [newest] = await here.points();
    return {
      ended,
      killedAt: (killedAt - startedAt) / 1000,
      seconds,
      during: closeTime !== undefined && closeTime.getTime() <= killedAt ? undefined : doingAt(ended, killedAt),
      dumps: await dumpsOf(here, ended.runId),
      bytesAgain: parts.again().bytes,
      left: await here.left(),
      verified: newest?.manifest.run.runId === ended.runId && newest.state === 'verified',
    };
  } finally {
    over = true;
    await watching;
    watcher.close();
  }
}

async function dumpsOf(here: BackupLab, runId: string): Promise<number> {
  const lines = await here.shell(
    `grep -c 'app=guardia ${runId} .*COPY public.users ' /var/log/postgresql/postgresql-15-main.log || true`,
  );
  return Number(lines);
}

function doingAt({ report }: Ended, at: number): string {
  const time = (text: string | undefined) => (text === undefined ? Infinity : Date.parse(text));
  const steps = report?.steps ?? [];
  const running = steps.filter(({ startedAt, endedAt }) => time(startedAt) <= at && at < time(endedAt));
  if (running.length > 0) return running.map(({ id }) => id).join(', ');
  if (at >= time(report?.endedAt)) return 'leaving the hosts';
  return steps.some(({ startedAt }) => time(startedAt) <= at) ? 'between two steps' : 'observing and planning';
}
