import { describe, expect, test } from '@jest/globals';
import type { Round } from './backup.js';
import type { KilledRun } from './killed-run.js';
import { createPartsLedger } from './parts-ledger.js';
import { judge, reportText, withSection } from './report.js';
import { pairedRatio, summary } from './statistics.js';

const usage = (sent: number) => ({
  seconds: 10,
  processor: { host: 8, store: 1, worker: 0.5, verification: 2, temporal: 0.3 },
  sent,
  others: 0.02,
});

/** A round in which the floor takes 10 s, guardia 20 s (verified 24 s), the script 60 s. */
function round(
  change: { complete?: number; verified?: number; floor?: number; script?: number; memory?: number } = {},
) {
  const { complete = 20, verified = 24, floor = 10, script = 60, memory = 10e6 } = change;
  return {
    floor: { completeSeconds: floor, usage: usage(0) },
    guardia: {
      completeSeconds: complete,
      verifiedSeconds: verified,
      usage: usage(101e6),
      stored: 100e6,
      peakMemory: 200e6 + memory,
      warmUp: { completeSeconds: 2, verifiedSeconds: 3, peakMemory: 200e6 },
      activities: [
        { activity: 'observePostgres', scheduled: 0.1, started: 0.1, ended: 0.2, attempts: 1 },
        { activity: 'observePostgres', scheduled: 0.3, started: 0.3, ended: 0.5, attempts: 1 },
        {
          activity: 'dumpDatabase',
          step: 'database-main',
          scheduled: 1,
          started: 1,
          ended: 19,
          job: 17.5,
          attempts: 1,
        },
      ],
    },
    script: { completeSeconds: script, usage: usage(120e6), stored: 119e6 },
    restic: { completeSeconds: 25, verifiedSeconds: 30, usage: usage(110e6), check: usage(0), stored: 109e6 },
  } satisfies Round;
}

const kill: KilledRun = {
  killedAt: 10,
  storedWhenKilled: 52e6,
  completeSeconds: 60,
  verifiedSeconds: 64,
  stored: 100e6,
  sent: 101.1e6,
  partsSentAgain: 0,
  bytesSentAgain: 0,
  dumps: 1,
};

const failed = (rounds: Round[], kills: KilledRun[] = [kill]): string[] =>
  judge({ rounds, kills })
    .filter(({ passed }) => !passed)
    .map(({ what }) => what);

describe('judge', () => {
  test('keeps every limit and reaches the goals', () => {
    const verdicts = judge({ rounds: [round({ complete: 17 }), round(), round({ complete: 18 })], kills: [kill] });
    expect(verdicts.map(({ passed }) => passed)).toEqual([true, true, true, true, true]);
    expect(verdicts.map(({ goal }) => goal)).toEqual(['reached', 'reached', undefined, undefined, undefined]);
  });

  test.each([
    ['complete at the limit of 1.7 times the floor and 5 s', { complete: 22 }, []],
    ['complete after it', { complete: 22.1 }, ['complete soon after what pg_dump alone takes']],
    ['less than twice as fast as the script', { script: 39 }, ["complete before the manual's script"]],
    ['verified after the script', { verified: 61 }, ['verified before the script is done, unverified']],
    [
      'more than 30 MB of memory',
      { memory: 30.1e6 },
      ["peak memory of the worker's process, less its peak in a backup of 10 MB"],
    ],
  ])('%s', (_, change, expected) => {
    expect(failed([round(change)])).toEqual(expected);
  });

  test('seconds count by their median, memory in every round', () => {
    expect(failed([round(), round({ complete: 100 }), round()])).toEqual([]);
    expect(failed([round(), round({ memory: 31e6 }), round()])).toHaveLength(1);
  });

  test.each([
    ['a part that the store got twice', { partsSentAgain: 1, bytesSentAgain: 16e6 }],
    ['a part more on the wire', { sent: 118e6 }],
    ['a second dump', { dumps: 2 }],
  ])('after the kill: %s', (_, change) => {
    expect(failed([round()], [{ ...kill, ...change }])).toEqual(['sent again after kill -9 of the worker at half way']);
  });

  test('leaves out what was not measured', () => {
    const { guardia } = round();
    expect(judge({ rounds: [{ guardia }], kills: [] })).toHaveLength(1);
  });
});

describe('the report', () => {
  const results = {
    megabytes: 2048,
    machine: ['2 processors'],
    versions: { Node: '20' },
    rounds: [round(), round({ complete: 22 }), round()],
    kills: [kill],
  };

  test('has a row for every contender and tells the two looks at the database apart', () => {
    const text = reportText(results, judge(results));
    expect(text).toMatch(/^## Backup of a database of 2048 MB\n/);
    expect(text).toContain('| guardia (also roles and configuration) | 20.0 (20.0–22.0) | 24.0 |');
    expect(text).toMatch(/the manual's script.*\| 60\.0 \| never \|/);
    expect(text).toContain('| `observePostgres` | 0.10 | 0.10 |  |\n| `observePostgres` (2) | 0.30 | 0.20 |  |');
    expect(text).not.toMatch(/NaN|undefined/);
  });

  test('says so when somebody else was busy', () => {
    const busy = {
      ...results,
      rounds: results.rounds.map((one) => ({
        ...one,
        script: { ...one.script, usage: { ...one.script.usage, others: 0.5 } },
      })),
    };
    expect(reportText(busy, [])).toContain('50 % at most');
    expect(reportText(busy, [])).not.toContain('Not a quiet machine');
    const guardia = { ...round().guardia, usage: { ...usage(0), others: 0.2 } };
    expect(reportText({ ...results, rounds: [{ guardia }], kills: [] }, [])).toContain('Not a quiet machine');
  });

  test('takes the place of the one of the same size', () => {
    const document = '# Title\n\ntext\n\n## A\n\nold\n\n## B\n\nkept\n';
    expect(withSection(document, '## A', '## A\n\nnew\n')).toBe('# Title\n\ntext\n\n## A\n\nnew\n\n## B\n\nkept\n');
    expect(withSection(document, '## C', '## C\n\nnew\n')).toBe(`${document}\n## C\n\nnew\n`);
  });
});

describe('the ledger of parts', () => {
  const part = { key: 'dump', uploadId: 'a', number: 1, bytes: 16, storedAt: 1000 };

  test('a part that stays as it is was sent once', () => {
    const ledger = createPartsLedger();
    expect(ledger.note([part])).toBe(16);
    expect(ledger.note([part, { ...part, number: 2 }])).toBe(32);
    expect(ledger.note([])).toBe(0);
    expect(ledger.again()).toEqual({ count: 0, bytes: 0 });
  });

  test('a part that is stored anew, or under another upload, was sent again', () => {
    const ledger = createPartsLedger();
    ledger.note([part, { ...part, number: 2 }]);
    ledger.note([
      { ...part, storedAt: 2000 },
      { ...part, number: 2 },
    ]);
    ledger.note([{ ...part, number: 2, uploadId: 'b' }]);
    expect(ledger.again()).toEqual({ count: 2, bytes: 32 });
  });
});

describe('statistics', () => {
  test('median, smallest, largest', () => {
    expect(summary([3, 1, 2, 10])).toEqual({ median: 2.5, min: 1, max: 10 });
    expect(() => summary([])).toThrow(RangeError);
  });

  test('ratios are made within a round', () => {
    expect(pairedRatio([10, 40, 30], [5, 10, 10])).toEqual({ median: 3, min: 2, max: 4 });
    expect(() => pairedRatio([1], [])).toThrow(RangeError);
  });
});
