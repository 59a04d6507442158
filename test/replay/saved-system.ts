import type { Act } from '../workflows/acts.js';
import { smallSystem } from '../workflows/small-system.js';

/** A system that the real planner of `backup` makes a whole plan for: a database, its globals, a set of configuration files. */
export const savedSystem = (name: string): string =>
  `${smallSystem(name)
    .replace('hosts: {}', 'hosts: { app: { accessKeyId: env:APP_ID, secretAccessKey: file:s3/app } }')
    .replace(
      'recipients: { unset: its recipients }',
      `recipients: [${'age1'.padEnd(62, 'q')}, ${'age1'.padEnd(62, 'x')}]`,
    )}\
  configuration:
    app: { on: app, paths: [/etc/shop], optional: [/etc/nginx] }
databases:
  main: { engine: postgresql, on: app, name: shop, version: 15, access: { kind: peer } }
`;

const look: Act = ({ activity }) => {
  if (activity === 'observePostgres')
    return { bytes: 5e8, systemIdentifier: '7300000000000000001', serverVersion: 150018 };
  return activity === 'observeRecoveryPoints' ? { orphans: 2, newest: '20260130T020000Z-1a2b3c4d' } : { tools: {} };
};
const artifact: Act = ({ activity }) => ({ artifact: { made: activity }, anomalies: [], summary: '17 MB stored' });

/** What the activities of a backup answer, in short. */
export const savingActs: Record<string, Act> = {
  look,
  'dumpDatabase database-main': artifact,
  'dumpGlobals globals-main': artifact,
  'saveConfiguration configuration-app': artifact,
  'writeManifest write-manifest': () => ({
    id: '20260131T020000Z-1a2b3c4d',
    location: 's3://backups/',
    bytes: 17_000_000,
  }),
  'verifyArtifact verify-database-main': () => ({ finding: { ok: true } }),
  'verifyArtifact verify-globals-main': () => ({ finding: { ok: true } }),
  'verifyArtifact verify-configuration-app': () => ({ finding: { ok: true } }),
  'writeProof write-proof': () => ({ state: 'verified' }),
};
