import { keysOf, type Manifest } from '../../../workflows/contracts/recovery-point.js';

const hex = '0'.repeat(64);

/** A manifest with one small artifact that stores `stored` bytes. */
export function manifestOf(place: { prefix: string; system: string }, id: string, stored = 1024): Manifest {
  return {
    schemaVersion: 1,
    system: place.system,
    id,
    createdAt: '2026-01-01T02:00:00.000Z',
    run: { workflowId: `backup/${place.system}/x`, runId: 'r' },
    guardia: '0.1.0',
    retention: 'standard',
    parents: [],
    acceptedAnomalies: [],
    artifacts: [
      {
        kind: 'globals',
        name: 'main',
        host: 'app',
        key: keysOf(place.prefix, place.system, id).artifact('globals', 'main'),
        compression: 'zstd',
        encryption: 'age',
        recipients: ['age1x'],
        bytes: { plain: 2048, stored },
        sha256: hex,
        parts: { size: 16777216, count: 1, compositeSha256: 'x-1', digest: hex },
        level: 1,
        seconds: 1,
        tools: {},
        contents: { roles: 1, passwords: true },
      },
    ],
  };
}
