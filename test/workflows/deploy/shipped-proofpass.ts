import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadSystem } from '../../../activities/inventory/load.js';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import type { DeployRecord } from '../../../workflows/contracts/deploy.js';
import type { ReleaseObservation } from '../../../workflows/contracts/release.js';
import type { System } from '../../../workflows/contracts/system.js';

/* The shipped ProofPass and what is seen of it before a deploy, for planners. */

export const moment = {
  workflowId: 'deploy/proofpass/1',
  runId: '01a2b3c4-d000-7000-8000-00001a2b3c4d',
  now: '2026-11-22T14:00:00.000Z',
};
export const [V1, V2] = ['1'.repeat(40), '2'.repeat(40)];
export const before = '20261101T000000Z-11111111-00000001';
export const next = '20261122T140000Z-22222222-1a2b3c4d';

/** The shipped proofpass.yaml in one of its layouts, with what its manual leaves open. */
export function proofpass(layout?: string, change: (system: System) => void = () => undefined): System {
  const overlay = mkdtempSync(path.join(tmpdir(), 'guardia-overlay-'));
  try {
    writeFileSync(path.join(overlay, 'proofpass.yaml'), layout === undefined ? '{}\n' : `layout: ${layout}\n`);
    const { system } = structuredClone(loadSystem('proofpass', inventoryLocations({ GUARDIA_OVERLAY: overlay })));
    const key = { accessKeyId: 'env:ID', secretAccessKey: 'file:key' };
    Object.assign(system.objectStore, { endpoint: 'https://s3.example', bucket: 'backups' });
    system.objectStore.keys.worker = key;
    for (const [i, host] of Object.values(system.hosts).entries())
      Object.assign(host.connection, {
        address: `10.0.0.${i + 1}`,
        identity: 'file:ssh',
        hostKeys: ['ssh-ed25519 AAAA'],
      });
    system.endpoints['api']!.url = 'https://api.example/health';
    system.endpoints['platform']!.url = 'https://platform.example/health';
    const { platform } = system.deployments;
    if (platform?.source.kind === 'git') platform.source.url = 'git://git.example/platform.git';
    Object.assign(platform!.smoke['login']!.json!, { email: 'smoke@example.test', password: { secret: 'file:smoke' } });
    change(system);
    return system;
  } finally {
    rmSync(overlay, { recursive: true });
  }
}

/** Two application hosts with another pace. */
export const paced = (rolling: System['deployments'][string]['rolling']): System =>
  proofpass('scaled', ({ deployments }) => Object.assign(deployments['platform']!, { rolling }));

export const running = { state: 'running', instance: 'x' };
export const host = (more: Partial<ReleaseObservation> = {}): ReleaseObservation => ({
  link: `/opt/proofpass/releases/${before}`,
  linkIsOther: false,
  current: before,
  releases: [{ id: before, commit: V1 }],
  partial: [],
  currentBytes: 2e8,
  freeBytes: 5e10,
  freeInodes: 1e6,
  missing: [],
  userMissing: false,
  services: { api: running, platform: running },
  ...more,
});
export const brought = [
  { name: '001_initial', reversible: true },
  { name: '002_verification_code', reversible: true },
];
export const calm = (more: Record<string, unknown> = {}) => ({
  'host app': host(),
  'host app1': host(),
  'host app2': host(),
  source: { commit: V2, subject: 'Attestations have a code', migrations: brought },
  database: { applied: ['001_initial'] },
  deploys: { deploys: [] as DeployRecord[] },
  health: { results: [] },
  ...more,
});
