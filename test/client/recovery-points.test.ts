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
const warnings = (...points: RecoveryPointSummary[]): string =>
  backupWarnings({ system: 'proofpass', points, unreadable: [] }, NOW).join('\n');

describe('warnings about backups', () => {
  test('none is needed while a verified one is younger than a day', () => {
    expect(warnings(point(1, 'complete'), point(23.9, 'verified'))).toBe('');
    expect(warnings(point(23, 'restored'))).toBe('');
  });

  test('an old one, only unproved ones, none at all', () => {
    expect(warnings(point(1, 'complete'), point(25, 'verified'))).toContain('is 1 d 1 h old');
    expect(warnings(point(1, 'complete'))).toContain('has ever been read back');
    expect(warnings()).toContain('has no backup');
  });

  test('the newest is damaged, although an older one is good', () => {
    expect(warnings(point(1, 'damaged'), point(2, 'verified'))).toContain('does not read back');
  });

  test('a manifest that cannot be read is told', () => {
    expect(backupWarnings({ system: 'x', points: [point(1, 'verified')], unreadable: ['b/k: no'] }, NOW)).toEqual([
      'a manifest cannot be read: b/k: no',
    ]);
  });
});
