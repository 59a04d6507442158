import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startBackupLab } from '../backup/harness.js';
import { randomNumbers } from './random-numbers.js';
import { backupWithKill, countDumps, type KilledBackup } from '../faults/worker-killed.js';

const RESULT = fileURLToPath(new URL('../../../test/campaigns/worker-killed.md', import.meta.url));

/** Sizes in megabytes: ProofPass's own data, and data that does not compress. */
const DATABASE = 50;
const BULK = 250;

/**
 * Backs up again and again and kills the worker once in each backup, at moments drawn over the length of an undisturbed one.
 * Writes the table of what came of it. Returns whether every backup was good, with one dump each and nothing left.
 */
export async function workerKilled(options: {
  kills: number;
  seed: number;
  say: (line: string) => void;
}): Promise<boolean> {
  const { kills, seed, say } = options;
  const random = randomNumbers(seed);
  say(`seed ${seed}`);
  const here = await startBackupLab({ megabytes: DATABASE, bulkMegabytes: BULK });
  try {
    await countDumps(here);
    const began = Date.now();
    const undisturbed = await here.run();
    if (undisturbed.end !== 'succeeded') throw new Error(`without any fault: ${undisturbed.message}`);
    const length = (Date.now() - began) / 1000;
    say(`an undisturbed backup took ${length.toFixed(1)} s`);
    const results: KilledBackup[] = [];
    while (results.length < kills) {
      const at = random() * length;
      const result = await backupWithKill(here, () => delay(at * 1000));
      if (result.during === undefined) {
        say(`after ${result.killedAt.toFixed(1)} s the backup was over: another moment is drawn`);
        if (!isGood(result)) throw new Error(`a backup without any fault: ${result.ended.message}`);
        continue;
      }
      results.push(result);
      say(row(results.length, result));
    }
    const text = report(results, { seed, length });
    writeFileSync(RESULT, text);
    say(`\n${text}\nwritten to ${path.relative(process.cwd(), RESULT)}`);
    return results.every(isGood);
  } finally {
    await here.down();
  }
}

const isGood = (result: KilledBackup): boolean =>
  result.ended.end === 'succeeded' && result.verified && result.dumps === 1 && result.left.length === 0;

function row(number: number, result: KilledBackup): string {
  const { ended, killedAt, seconds, during, dumps, bytesAgain, left, verified } = result;
  const end = `${ended.end}${verified ? ', verified' : ''}`;
  return `| ${number} | ${killedAt.toFixed(1)} s | ${during} | ${end} | ${seconds.toFixed(1)} s | ${dumps} | ${bytesAgain} | ${left.length === 0 ? 'none' : left.join('; ')} |`;
}

function report(results: KilledBackup[], about: { seed: number; length: number }): string {
  const good = results.filter(isGood).length;
  return [
    '# kill -9 of the worker at random moments of a backup',
    '',
    `${good} of ${results.length} backups are good: they succeeded, were read back, made one dump, and left nothing.`,
    '',
    `Database of ${DATABASE + BULK} MB, of which ${BULK} MB do not compress. The worker is killed once in each backup and started again at once.`,
    `An undisturbed backup took ${about.length.toFixed(1)} s; the moments are drawn evenly over that time (seed ${about.seed}).`,
    'Bytes sent again: parts of an upload that the object store got a second time. Left: jobs, units, files, uploads, objects, locks, fences.',
    '',
    '| # | killed after | during | ended | took | dumps | bytes sent again | left |',
    '|---|---|---|---|---|---|---|---|',
    ...results.map((result, index) => row(index + 1, result)),
    '',
    `Run on ${new Date().toISOString().slice(0, 10)}: \`npm run campaign -- worker-killed --kills ${results.length} --seed ${about.seed}\`.`,
    '',
  ].join('\n');
}
