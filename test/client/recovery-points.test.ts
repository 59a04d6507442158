import { describe, expect, test } from '@jest/globals';
import { backupWarnings, type RecoveryPointSummary } from '../../client/recovery-points.js';

const NOW = Date.parse('2026-02-01T12:00:00Z');
const point = (hoursAgo: number, state: RecoveryPointSummary['state']): RecoveryPointSummary => ({
  id: '20260131T020000Z-1a2b3c4d',
  at: new Date(NOW - hoursAgo * 3_600_000).toISOString(),
  state,
  plainBytes: 1,
  storedBytes: 1,
  artifacts: [],
  proofs: [],
  run: { workflowId: 'backup/proofpass/x', runId: 'x' },
  acceptedAnomalies: [],
});
const warningsOf = (databases: string[], ...points: RecoveryPointSummary[]): string =>
  backupWarnings({ system: 'proofpass', databases, points, unreadable: [] }, NOW).join('\n');
const warnings = (...points: RecoveryPointSummary[]): string => warningsOf([], ...points);
const holding = (of: RecoveryPointSummary, ...names: string[]): RecoveryPointSummary => ({
  ...of,
  artifacts: ['configuration', ...names].map((name) => ({
    ...{ kind: names.includes(name) ? 'database' : 'configuration', name, host: 'app' },
    ...{ plainBytes: 1, storedBytes: 1, seconds: 1 },
  })),
});

describe('warnings about backups', () => {
  test('none is needed while a verified one is younger than a day', () => {
    expect(warnings(point(1, 'complete'), point(23.9, 'verified'))).toBe('');
    expect(warnings(point(23, 'restored'))).toBe('');
  });

  test('an old one, only unproved ones, none at all', () => {
    expect(warnings(point(1, 'complete'), point(25, 'verified'))).toContain('is 1 d 1 h old');
    expect(warnings(point(1, 'complete'))).toContain('no backup of proofpass has been read back to its end');
    expect(warnings()).toContain('has no backup');
  });

  test('a verified one of the configuration only, as a deploy ends with, does not stand for the databases', () => {
    const old = holding(point(30, 'verified'), 'main', 'audit');
    expect(warningsOf(['main', 'audit'], holding(point(1, 'verified')), old)).toBe(
      'the newest verified backup of proofpass with all of its databases (main, audit) is 1 d 6 h old: start one with guardia run backup proofpass',
    );
    expect(warningsOf(['main', 'audit'], holding(point(1, 'verified'), 'main'))).toMatch(
      /^no backup of proofpass with all of its databases \(main, audit\) has been read back to its end, of the newest 1: /,
    );
    expect(warningsOf(['main'], holding(point(1, 'verified'), 'main', 'gone'))).toBe('');
    expect(warningsOf([], holding(point(1, 'verified')))).toBe('');
  });

  test('the newest is damaged, although an older one is good', () => {
    expect(warnings(point(1, 'damaged'), point(2, 'verified'))).toContain('does not read back');
  });

  test('a manifest that cannot be read is told', () => {
    expect(
      backupWarnings({ system: 'x', databases: [], points: [point(1, 'verified')], unreadable: ['b/k: no'] }, NOW),
    ).toEqual(['a manifest cannot be read: b/k: no']);
  });
});
