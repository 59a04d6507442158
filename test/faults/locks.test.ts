import { expect, jest, test } from '@jest/globals';
import { judgeLedger, lockChaos } from './lock-chaos.js';
import { isGood } from '../campaigns/locks.js';
import { randomNumbers } from '../campaigns/random-numbers.js';

jest.setTimeout(300_000);

// A sample of `npm run campaign -- locks`.
test('random kills of workers and runs: no stale lock, never two holders', async () => {
  const chaos = await lockChaos({ kills: 20, random: randomNumbers(7), say: () => undefined });
  expect(chaos).toMatchObject({ twoHolders: [], staleLocks: [], stuck: [] });
  expect(chaos.kills.worker).toBeGreaterThan(0);
  expect(chaos.holders).toBeGreaterThan(5);
  const { terminated, cancelled } = chaos.killedWhileHolding;
  expect(terminated + cancelled).toBeGreaterThan(2);
});

test('a campaign in which hardly a run ever held the lock shows nothing', () => {
  const calm = {
    ...{
      kills: { worker: 20, terminated: 60, cancelled: 20 },
      killedWhileHolding: { worker: 0, terminated: 0, cancelled: 0 },
    },
    ...{ ended: {}, holders: 9, twoHolders: [], staleLocks: [], stuck: [], seconds: 1 },
  };
  expect(isGood(calm)).toBe(false);
  expect(isGood({ ...calm, holders: 10 })).toBe(true);
  expect(isGood({ ...calm, holders: 10, staleLocks: ['lock/shop of run-1'] })).toBe(false);
});

test('the ledger shows two holders where there are two', () => {
  expect(judgeLedger('a begins\na ends\nb begins\nb ends\nb begins\n')).toEqual({ holders: 2, twoHolders: [] });
  expect(judgeLedger('a begins\nb begins\na ends\n').twoHolders).toEqual(['a ends, after b had begun']);
});
