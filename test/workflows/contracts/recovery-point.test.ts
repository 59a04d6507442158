import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  type Artifact,
  COMPARED_DUMPS,
  judgeDump,
  keysOf,
  type Manifest,
  manifestText,
  median,
  parseManifest,
  parseProof,
  type ProofLevel,
  recoveryPointId,
  recoveryPointOf,
  recoveryPointsPrefix,
  stateOf,
  timeOfRecoveryPoint,
} from '../../../workflows/contracts/recovery-point.js';

const hex = '0'.repeat(64);
const instants = fc.date({ min: new Date('2000-01-01'), max: new Date('2100-01-01'), noInvalidDate: true });

function database(
  plain: number,
  overrides: { systemIdentifier?: string; name?: string } = {},
): Artifact & { kind: 'database' } {
  return {
    kind: 'database',
    name: overrides.name ?? 'main',
    host: 'app1',
    key: 'k',
    recipients: ['age1x'],
    compression: 'zstd',
    encryption: 'age',
    bytes: { plain, stored: Math.ceil(plain / 6) },
    sha256: hex,
    parts: { size: 16777216, count: 1, compositeSha256: 'x-1', digest: hex },
    level: 1,
    seconds: 1,
    tools: {},
    database: {
      name: 'proofpass',
      oid: '1',
      systemIdentifier: overrides.systemIdentifier ?? '42',
      serverVersion: 150018,
      bytes: plain,
      encoding: 'UTF8',
      standby: false,
      lsn: '0/1',
      at: '2026-01-01T00:00:00.000Z',
      extensions: {},
    },
    contents: {
      databaseName: 'proofpass',
      digest: hex,
      entries: 9,
      tables: 2,
      tablesWithData: 2,
      tableNames: ['public.attestations', 'public.users'],
      missingTables: [],
    },
  };
}

const id = (day: number) => `202601${String(day).padStart(2, '0')}T020000Z-00000000`;
const manifest = (day: number, ...artifacts: Artifact[]): Manifest => ({
  schemaVersion: 1,
  system: 'proofpass',
  id: id(day),
  createdAt: '2026-01-01T02:00:00.000Z',
  run: { workflowId: 'w', runId: 'r' },
  guardia: '0.1.0',
  retention: 'standard',
  parents: [],
  acceptedAnomalies: [],
  artifacts,
});
const judge = (
  now: ReturnType<typeof database>,
  previous: Manifest[] = [],
  expected: Partial<Parameters<typeof judgeDump>[0]['expect']> = {},
) =>
  judgeDump({
    name: 'main',
    now,
    previous,
    expect: { databaseName: 'proofpass', tables: [], minimumBytes: 0, ...expected },
    lowestShareOfMedian: 0.5,
  });
const codes = (verdict: ReturnType<typeof judgeDump>) => (verdict.ok ? [] : verdict.reasons.map(({ code }) => code));

describe('the id of a recovery point', () => {
  test('sorts by time, tells its time to the second, and is the same for the same run', () => {
    fc.assert(
      fc.property(instants, instants, fc.uuid(), fc.uuid(), (a, b, one, other) => {
        const first = recoveryPointId(a, one);
        expect(recoveryPointId(a, one)).toBe(first);
        expect(timeOfRecoveryPoint(first).getTime()).toBe(Math.floor(a.getTime() / 1000) * 1000);
        const second = recoveryPointId(b, other);
        if (Math.floor(a.getTime() / 1000) < Math.floor(b.getTime() / 1000)) expect(first < second).toBe(true);
      }),
    );
  });

  test('differs between runs that begin in the same second, also where run ids begin with the time', () => {
    const at = new Date('2026-11-22T02:00:00Z');
    const one = recoveryPointId(at, '0193513a-6c4e-7a1b-9c3d-0123456789ab');
    expect(one).toBe('20261122T020000Z-456789ab');
    expect(recoveryPointId(at, '0193513a-6c4e-7a1b-9c3d-0123456789ac')).not.toBe(one);
    expect(() => recoveryPointId(at, 'not a run')).toThrow('not a run id: not a run');
  });

  test('is found again in each of its keys, and in no other', () => {
    const prefix = recoveryPointsPrefix('prod/', 'proofpass');
    const keys = keysOf('prod/', 'proofpass', id(1));
    expect(keys.artifact('database', 'main')).toBe(
      `prod/proofpass/recovery-points/${id(1)}/database-main.dump.zst.age`,
    );
    for (const key of [
      keys.manifest,
      keys.proof('verified'),
      keys.artifact('globals', 'app1'),
      keys.artifact('configuration', 'app1'),
    ]) {
      expect(recoveryPointOf(key, prefix)).toBe(id(1));
    }
    for (const key of [`${prefix}readme`, `other/${id(1)}/manifest.json`, prefix])
      expect(recoveryPointOf(key, prefix)).toBeUndefined();
  });
});

describe('a manifest', () => {
  test('reads back as it was written, and the same content is the same bytes', () => {
    const written = manifest(1, database(1000));
    const text = manifestText(written);
    expect(parseManifest(text, 'here')).toEqual(written);
    const { artifacts, ...rest } = written;
    expect(manifestText({ artifacts, ...rest })).toBe(text);
  });

  test('that is wrong is refused with every field and the place', () => {
    const wrong = JSON.stringify({ ...manifest(1, database(1)), id: 'yesterday', artifacts: [] });
    expect(() => parseManifest(wrong, 'bucket/key')).toThrow(
      /^bucket\/key is not a manifest that this version reads: id: .*; artifacts: /,
    );
    expect(() => parseManifest('{', 'bucket/key')).toThrow(/^bucket\/key is not a manifest: /);
    expect(() => parseProof('{}', 'bucket/key')).toThrow(/^bucket\/key is not a proof/);
    expect(() => parseManifest(JSON.stringify({ ...manifest(1, database(1)), schemaVersion: 2 }), 'k')).toThrow(
      /schemaVersion/,
    );
  });
});

test('the state is as far as it was proved, damage stays, and proofs of others do not count', () => {
  const levels = fc.array(fc.constantFrom<ProofLevel[]>('verified', 'damaged', 'restored'));
  const point = { system: 'proofpass', id: id(1) };
  fc.assert(
    fc.property(levels, levels, (own, foreign) => {
      const proofs = [
        ...own.map((level) => ({ ...point, level })),
        ...foreign.map((level) => ({ system: 'proofpass', id: id(2), level })),
        ...foreign.map((level) => ({ system: 'certitrack', id: id(1), level })),
      ];
      const order: ProofLevel[] = ['damaged', 'restored', 'verified'];
      expect(stateOf(point, proofs)).toBe(order.find((level) => own.includes(level)) ?? 'complete');
    }),
  );
});

describe('a dump is judged:', () => {
  test('one that looks like those before it is good, and so is the first', () => {
    expect(judge(database(1000))).toEqual({ ok: true });
    expect(
      judge(database(900), [manifest(1, database(1000))], { tables: ['public.users'], minimumBytes: 900 }),
    ).toEqual({ ok: true });
  });

  test('an empty one never is', () => {
    const none = database(1000);
    none.contents = { ...none.contents, tables: 0, tablesWithData: 0, tableNames: [] };
    const schemaOnly = database(1000);
    schemaOnly.contents.tablesWithData = 0;
    for (const now of [none, schemaOnly, database(0)]) expect(codes(judge(now))).toContain('empty');
  });

  test('one of another database is not, whichever witness says so', () => {
    const byServer = database(1000);
    byServer.database.name = 'postgres';
    const byContents = database(1000);
    byContents.contents.databaseName = 'postgres';
    for (const now of [byServer, byContents]) {
      const verdict = judge(now);
      expect(codes(verdict)).toEqual(['wrong-database']);
      expect(verdict).toMatchObject({
        reasons: [{ sentence: 'the dump is of database "postgres", not of "proofpass"', acceptable: false }],
      });
    }
  });

  test('one without an expected table is not, also when the list of names was cut', () => {
    const now = database(1000);
    expect(judge(now, [], { tables: ['public.users', 'public.gone', 'public.away'] })).toMatchObject({
      reasons: [
        { code: 'tables-missing', sentence: 'the dump does not hold public.gone, public.away', acceptable: false },
      ],
    });
    now.contents = { ...now.contents, tables: 5000, missingTables: ['public.gone'] };
    expect(judge(now, [], { tables: ['public.zebra', 'public.gone'] })).toMatchObject({
      reasons: [{ sentence: 'the dump does not hold public.gone' }],
    });
  });

  test('one below the least believable size is not', () => {
    expect(judge(database(999), [], { minimumBytes: 1000 })).toMatchObject({
      reasons: [{ code: 'below-minimum', acceptable: true }],
    });
  });

  test('one of another cluster than the newest before it is not', () => {
    const previous = [manifest(1, database(1000, { systemIdentifier: '7' })), manifest(2, database(1000))];
    expect(judge(database(1000), previous)).toEqual({ ok: true });
    expect(judge(database(1000, { systemIdentifier: '7' }), previous)).toMatchObject({
      reasons: [
        {
          code: 'other-cluster',
          acceptable: true,
          sentence: expect.stringContaining('identifier 7) than 20260102T020000Z-00000000 (42)'),
        },
      ],
    });
  });

  test('only dumps of the same database in the inventory are its predecessors', () => {
    const previous = [manifest(1, database(1_000_000, { name: 'archive', systemIdentifier: '7' }))];
    expect(judge(database(10), previous)).toEqual({ ok: true });
  });

  test('one below the share of the median of the newest seven is refused, no other is', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 1_000_000 }), { maxLength: 12 });
    fc.assert(
      fc.property(
        sizes,
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer(),
        (earlier, now, share, seed) => {
          const manifests = earlier.map((size, index) => manifest(index + 1, database(size)));
          const shuffled = [...manifests].sort(
            (a, b) => ((a.id.charCodeAt(7) * seed) % 5) - ((b.id.charCodeAt(7) * seed) % 5),
          );
          const verdict = judgeDump({
            name: 'main',
            now: database(now),
            previous: shuffled,
            expect: { databaseName: 'proofpass', tables: [], minimumBytes: 0 },
            lowestShareOfMedian: share,
          });
          const compared = earlier.slice(-COMPARED_DUMPS).sort((a, b) => a - b);
          const middle = compared.length / 2;
          const usual =
            compared.length === 0
              ? 0
              : ((compared[Math.floor(middle)] ?? 0) + (compared[Math.ceil(middle) - 1] ?? 0)) / 2;
          expect(codes(verdict)).toEqual(now < usual * share ? ['shrunk'] : []);
        },
      ),
    );
  });

  test('every reason is told at once', () => {
    const now = database(1, { systemIdentifier: '7' });
    now.contents = { ...now.contents, databaseName: 'x', tables: 0, tablesWithData: 0, tableNames: [] };
    const verdict = judge(now, [manifest(1, database(1000))], { tables: ['public.users'], minimumBytes: 10 });
    expect(codes(verdict)).toEqual([
      'wrong-database',
      'empty',
      'tables-missing',
      'below-minimum',
      'shrunk',
      'other-cluster',
    ]);
  });
});

test('the median', () => {
  expect(median([])).toBeUndefined();
  expect(median([3])).toBe(3);
  expect(median([9, 1])).toBe(5);
  expect(median([9, 1, 2])).toBe(2);
});
