import { describe, expect, test } from '@jest/globals';
import { loadSystem } from '../../../activities/inventory/load.js';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import { backupPlanner } from '../../../workflows/backup/plan.js';
import { BackupInput } from '../../../workflows/contracts/backup.js';
import { stepsOf, type Plan } from '../../../workflows/contracts/plan.js';
import type { System } from '../../../workflows/contracts/system.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';

const moment = {
  workflowId: 'backup/proofpass/1',
  runId: '01a2b3c4-d000-7000-8000-00001a2b3c4d',
  now: '2026-11-22T02:00:00.000Z',
};
const point = '20261122T020000Z-1a2b3c4d';
const seen = { bytes: 2e9, systemIdentifier: '7', serverVersion: 150000 };
const calm = { 'database main': seen, store: { orphans: 0 }, worker: { tools: {} } };
const input = (more = {}) => BackupInput.parse({ system: 'proofpass', ...more });

/** The shipped proofpass.yaml with what the manual leaves open. */
function proofpass(change: (system: System) => void = () => undefined): System {
  const { system } = structuredClone(loadSystem('proofpass', inventoryLocations({})));
  const key = { accessKeyId: 'env:ID', secretAccessKey: 'file:key' };
  Object.assign(system.objectStore, {
    endpoint: 'https://s3.example',
    bucket: 'backups',
    keys: { worker: key, hosts: { app: key, db: key } },
  });
  Object.assign(system.backup, { recipients: ['age1operations', 'age1escrow'], identity: 'file:age/operations' });
  change(system);
  return system;
}

const planOf = (system = proofpass(), observation: Record<string, unknown> = calm, more = {}): Plan =>
  checkPlan(backupPlanner.plan(input(more), system, observation, moment));
const outline = (plan: Plan) =>
  plan.stages.flatMap(({ title, lanes }) =>
    lanes.map(({ on, steps }) => `${title} | ${on} | ${steps.map(({ id }) => id).join(', ')}`),
  );
const stepOf = (plan: Plan, id: string) => {
  const found = stepsOf(plan).find(({ step }) => step.id === id);
  if (!found) throw new Error(`no step ${id}`);
  return found.step;
};

describe('the plan of a backup of proofpass', () => {
  test('reads like the manual: save, complete, read back, prove', () => {
    const plan = planOf();
    expect(outline(plan)).toEqual([
      'save | app | database-main',
      'save | app | globals-main, configuration-app',
      'complete | system | write-manifest',
      'read back | worker | verify-database-main',
      'read back | worker | verify-globals-main, verify-configuration-app',
      'prove | system | write-proof',
    ]);
    expect(plan).toMatchObject({ pointOfNoReturn: 'write-manifest', downtime: [] });
    expect(plan.notes).toEqual(['Not in this set: grafana (file trees).', 'Not in this set: OpenBao.']);
  });

  test('dumps the database as its superuser, with time enough for its size', () => {
    expect(stepOf(planOf(), 'database-main')).toMatchObject({
      title: 'dump database proofpass_prod (2000 MB) into the bucket',
      do: {
        activity: 'dumpDatabase',
        with: {
          id: point,
          name: 'main',
          server: { database: 'proofpass_prod', version: 15, port: 5432, access: { kind: 'peer', osUser: 'postgres' } },
          recipients: ['age1operations', 'age1escrow'],
          expectTables: ['public.users'],
          acceptAnomaly: false,
          timeoutSeconds: 3600 + 1000,
          store: { bucket: 'backups', system: 'proofpass', hostKey: { accessKeyId: 'env:ID' } },
        },
      },
      undo: { activity: 'discardArtifact', with: { id: point, kind: 'database', name: 'main' } },
      attempts: 2,
      runAgainIfLost: true,
    });
  });

  test('every step that puts something into the bucket has its undo; what only reads says so', () => {
    for (const { step } of stepsOf(planOf()))
      expect('activity' in step.undo).toBe(!step.id.startsWith('verify-') && step.id !== 'write-proof');
  });

  test('holds references to secrets and no more than that', () => {
    expect(JSON.stringify(planOf())).toContain('"identity":"file:age/operations"');
    expect(Object.keys(stepOf(planOf(), 'verify-database-main').do.with)).not.toContain('hostKey');
  });

  test('is the same for the same run, whoever makes it', () => {
    expect(planOf()).toEqual(planOf());
  });

  test('begins by removing what a terminated run has left', () => {
    expect(outline(planOf(proofpass(), { ...calm, store: { orphans: 3 } }))[0]).toBe(
      'tidy up | system | remove-orphans',
    );
  });

  test('an accepted anomaly goes into the manifest', () => {
    expect(stepOf(planOf(), 'write-manifest').do.with['anomalies']).toEqual([]);
    expect(stepOf(planOf(proofpass(), calm, { acceptAnomaly: true }), 'write-manifest').do.with['anomalies']).toEqual([
      { from: 'database-main', path: 'anomalies' },
    ]);
  });
});

describe('other lay-outs', () => {
  test('two hosts save side by side, the databases of one host one after the other', () => {
    const system = proofpass(({ hosts, databases, backup }) => {
      hosts['db'] = structuredClone(hosts['app'] as System['hosts'][string]);
      databases['main'] = { ...(databases['main'] as System['databases'][string]), on: 'db' };
      databases['audit'] = { ...databases['main'], name: 'audit' };
      backup.configuration['db'] = { on: 'db', paths: ['/etc/postgresql'], optional: [] };
    });
    const plan = planOf(system, { ...calm, 'database audit': seen });
    expect(outline(plan).slice(0, 3)).toEqual([
      'save | db | database-main, database-audit',
      'save | db | globals-main, globals-audit, configuration-db',
      'save | app | configuration-app',
    ]);
    expect(plan.stages[0]?.atOnce).toBe(3);
  });

  test.each([
    [
      { kind: 'compose', on: 'app', project: 'books', directory: '/srv', service: 'db' },
      { kind: 'compose', project: 'books', service: 'db', user: 'app' },
    ],
    [
      { kind: 'container', on: 'app', container: 'books' },
      { kind: 'container', container: 'books', user: 'app' },
    ],
  ])('a server in a container is named as docker knows it: %j', (service, access) => {
    const system = proofpass(({ services, databases }) => {
      services['db'] = service as System['services'][string];
      Object.assign(databases['main'] as object, { access: { kind: 'container', service: 'db', user: 'app' } });
    });
    expect(stepOf(planOf(system), 'database-main').do.with['server']).toMatchObject({ access });
  });

  test('a system without databases saves its configuration', () => {
    const system = proofpass((one) => (one.databases = {}));
    expect(outline(planOf(system))[0]).toBe('save | app | configuration-app');
  });
});

describe('what the plan rests on', () => {
  const facets = (change: Record<string, unknown>) => backupPlanner.facets({ ...calm, ...change });

  test('a database that grew is no other plan, another cluster or version is', () => {
    expect(facets({ 'database main': { ...seen, bytes: 3e9 } })).toEqual(facets({}));
    expect(facets({ 'database main': { ...seen, systemIdentifier: '8' } })).not.toEqual(facets({}));
    expect(facets({ 'database main': { ...seen, serverVersion: 160000 } })).not.toEqual(facets({}));
  });

  test('unfinished uploads and the tools that read back', () => {
    expect(facets({ store: { orphans: 1 } })).not.toEqual(facets({}));
    expect(facets({ worker: { tools: { zstd: '1.5' } } })).not.toEqual(facets({}));
  });

  test('what is unset is asked for by its name', () => {
    expect(backupPlanner.needs(input(), proofpass())).toEqual([
      'objectStore.endpoint',
      'objectStore.bucket',
      'objectStore.keys.worker',
      'objectStore.keys.hosts.app',
      'backup.recipients',
      'backup.identity',
      'databases.*.version',
      'hosts.app.connection',
    ]);
  });
});
