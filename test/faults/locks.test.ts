import { expect, jest, test } from '@jest/globals';
import { judgeLedger, lockChaos } from './lock-chaos.js';
import { randomNumbers } from '../campaigns/random-numbers.js';

jest.setTimeout(300_000);

// A sample of `npm run campaign -- locks`.
test('random kills of workers and runs: no stale lock, never two holders', async () => {
  const chaos = await lockChaos({ kills: 20, random: randomNumbers(7), say: () => undefined });
  expect(chaos).toMatchObject({ twoHolders: [], staleLocks: [], stuck: [] });
  expect(chaos.kills.worker).toBeGreaterThan(0);
  expect(chaos.holders).toBeGreaterThan(5);
});

test('the ledger shows two holders where there are two', () => {
  expect(judgeLedger('a begins\na ends\nb begins\nb ends\nb begins\n')).toEqual({ holders: 2, twoHolders: [] });
  expect(judgeLedger('a begins\nb begins\na ends\n').twoHolders).toEqual(['a ends, after b had begun']);
});
