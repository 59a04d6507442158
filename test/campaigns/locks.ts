import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { lockChaos, type Chaos } from '../faults/lock-chaos.js';
import { randomNumbers } from './random-numbers.js';

const RESULT = fileURLToPath(new URL('../../../test/campaigns/locks.md', import.meta.url));

/** Kills workers and runs at random while runs want one lock. Writes the table. Returns whether that was a test of it, no lock was stale and nobody held it twice. */
export async function locks(options: { kills: number; seed: number; say: (line: string) => void }): Promise<boolean> {
  const { kills, seed, say } = options;
  say(`seed ${seed}`);
  const chaos = await lockChaos({ kills, random: randomNumbers(seed), say });
  const text = report(chaos, kills, seed);
  writeFileSync(RESULT, text);
  say(`\n${text}\nwritten to ${path.relative(process.cwd(), RESULT)}`);
  return isGood(chaos);
}

/** Where hardly a run ever gets to work, nothing was tried: at least one for ten kills has to. */
export const isGood = ({ kills, holders, twoHolders, staleLocks, stuck }: Chaos): boolean =>
  twoHolders.length + staleLocks.length + stuck.length === 0 &&
  holders >= (kills.worker + kills.terminated + kills.cancelled) / 10;

function report(chaos: Chaos, kills: number, seed: number): string {
  const { worker, terminated, cancelled } = chaos.kills;
  const held = chaos.killedWhileHolding;
  const list = (lines: readonly string[]): string =>
    lines.length === 0 ? '0' : `${lines.length}: ${lines.join('; ')}`;
  return [
    '# Random kills while runs want one lock',
    '',
    `Five runs at a time want one system; ${kills} times one of them is terminated or cancelled, or the worker killed with -9; every other run that is hit is the one that holds the lock. Their steps write a ledger under the fence.`,
    '',
    '|  |  |',
    '|---|---|',
    `| workers killed | ${worker}, ${held.worker} of them while a run held the lock |`,
    `| runs terminated | ${terminated}, ${held.terminated} of them while they held the lock |`,
    `| runs cancelled | ${cancelled}, ${held.cancelled} of them while they held the lock |`,
    `| runs that worked on the host, one after the other | ${chaos.holders} |`,
    `| ended | ${Object.entries(chaos.ended)
      .map(([end, count]) => `${end} ${count}`)
      .join(', ')} |`,
    `| two holders | ${list(chaos.twoHolders)} |`,
    `| stale locks | ${list(chaos.staleLocks)} |`,
    `| runs that never ended | ${list(chaos.stuck)} |`,
    '',
    `Run on ${new Date().toISOString().slice(0, 10)} in ${Math.round(chaos.seconds / 60)} min: \`npm run campaign -- locks --kills ${kills} --seed ${seed}\`.`,
    '',
  ].join('\n');
}
