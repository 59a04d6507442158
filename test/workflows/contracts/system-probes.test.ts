import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { checkSystems, loadSystem } from '../../../activities/inventory/load.js';
import type { Probe } from '../../../workflows/contracts/probe.js';
import { probeNeeds, probesAbout, probesOf } from '../../../workflows/contracts/system-probes.js';
import { System } from '../../../workflows/contracts/system.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';
import { refuseUnset } from '../../../workflows/contracts/unset.js';
import { HealthCheckInput } from '../../../workflows/contracts/health-check.js';
import { healthCheckPlanner } from '../../../workflows/health-check/plan.js';
import { smallSystem } from '../small-system.js';

/** A small system with two hosts, `app` and `db`, and what a test adds. */
function small(more: Record<string, unknown>): System {
  const base = parse(smallSystem('shop')) as Record<string, unknown> & { hosts: Record<string, unknown> };
  return System.parse({ ...base, ...more, hosts: { ...base.hosts, ...(more['hosts'] as object | undefined) } });
}
/** The bucket, with a key for the host of a database. */
const uploading = (host: string) => ({
  provider: 'other',
  endpoint: 'https://s3.example',
  bucket: 'backups',
  keys: {
    worker: { accessKeyId: 'env:A', secretAccessKey: 'env:B' },
    hosts: { [host]: { accessKeyId: 'env:A', secretAccessKey: 'env:B' } },
  },
});
const byId = (probes: readonly Probe[]): Record<string, Probe> =>
  Object.fromEntries(probes.map((probe) => [probe.id, probe]));
const at = (address: string) => ({
  connection: { address, user: 'guardia', identity: 'file:id', hostKeys: ['ssh-ed25519 AAAA'] },
});

describe('what follows from the inventory', () => {
  test('services, on each host of a group; what they are about', () => {
    const probes = byId(
      probesOf(
        small({
          groups: { web: ['app', 'db'], none: [] },
          services: {
            api: { kind: 'systemd', on: 'web', unit: 'api.service' },
            cache: { kind: 'compose', on: 'app', project: 'p', directory: '/srv', service: 'redis' },
            idle: { kind: 'container', on: 'none', container: 'x' },
          },
        }),
      ),
    );
    expect(Object.keys(probes)).toEqual(['service-api-app', 'service-api-db', 'service-cache']);
    expect(probes['service-api-db']).toMatchObject({
      on: 'db',
      about: 'api',
      unit: 'api.service',
      severity: 'critical',
    });
    expect(probes['service-cache']).toMatchObject({
      kind: 'compose',
      service: 'redis',
      about: 'cache',
      title: 'redis of p runs',
    });
  });

  test('endpoints, with TLS where they have it; databases and thresholds with their sources', () => {
    const probes = byId(
      probesOf(
        small({
          endpoints: {
            site: { url: 'https://shop.example:8443/health', address: '10.0.0.9', ca: 'file:ca.pem', body: 'up' },
            plain: { url: 'http://shop.example/' },
          },
          databases: {
            main: {
              engine: 'postgresql',
              on: 'db',
              name: 'shop',
              version: 15,
              owner: 'shop',
              access: { kind: 'peer' },
            },
          },
          thresholds: {
            diskUsedPercent: { warning: 80, critical: 85, source: L1 },
            databaseConnections: { warning: 150, source: L2 },
          },
          objectStore: uploading('db'),
        }),
      ),
    );
    expect(Object.keys(probes)).toEqual([
      ...['endpoint-site', 'tls-site', 'endpoint-plain', 'database-main'],
      ...['disk-app', 'inodes-app', 'disk-db', 'inodes-db', 'closed-db-from-worker', 'closed-db-from-app'],
    ]);
    expect(probes['endpoint-site']).toMatchObject({ on: 'worker', address: '10.0.0.9', ca: 'file:ca.pem', body: 'up' });
    expect(probes['tls-site']).toMatchObject({ address: '10.0.0.9', port: 8443, serverName: 'shop.example' });
    expect(probes['disk-app']).toMatchObject({ warning: 80, critical: 85, source: L1 });
    expect(probes['database-main']).toMatchObject({ on: 'db', role: 'shop', connections: { warning: 150 } });
    expect(probes['database-main']?.source).toContain(L2);
  });
  const [L1, L2] = ['L1', 'L2'];

  test('the load of every host, the days of certificates and the seconds of clocks are those of the thresholds', () => {
    const more = {
      endpoints: { site: { url: 'https://shop.example/' } },
      probes: {
        'tls-again': { kind: 'tls', on: 'worker', endpoint: 'site', source: 'x' },
        'tls-own': {
          kind: 'tls',
          on: 'worker',
          endpoint: 'site',
          daysLeft: { warning: 3, critical: 1 },
          source: 'x',
        },
        clock: { kind: 'clock', on: 'app', source: 'x' },
      },
    };
    const days = { warning: 30, critical: 10 };
    const probes = byId(
      probesOf(
        small({
          ...more,
          thresholds: {
            loadPerProcessor: { warning: 2, source: 'ours' },
            clockSkewSeconds: { critical: 4, source: 'ours' },
            certificateDaysLeft: { ...days, source: 'ours' },
          },
        }),
      ),
    );
    expect(probes['load-app']).toMatchObject({ kind: 'load', on: 'app', warning: 2, source: 'ours' });
    expect(probes['tls-site']).toMatchObject({ daysLeft: days });
    expect(probes['tls-again']).toMatchObject({ daysLeft: days });
    expect(probes['tls-own']).toMatchObject({ daysLeft: { warning: 3, critical: 1 } });
    expect(probes['clock']).toMatchObject({ maximumSkewSeconds: 4 });
    // No number that nobody has written down.
    const none = byId(probesOf(small(more)));
    expect([none['tls-site'], none['clock'], none['load-app']]).toEqual([
      expect.not.objectContaining({ daysLeft: expect.anything() as unknown }),
      expect.not.objectContaining({ maximumSkewSeconds: expect.anything() as unknown }),
      undefined,
    ]);
    expect(() => small({ thresholds: { certificateDaysLeft: { warning: 1, critical: 2, source: 'x' } } })).toThrow(
      'is below `critical`',
    );
  });

  test('a login of the application, from each host that has it, to the server as seen from there', () => {
    const database = {
      engine: 'postgresql',
      on: 'db',
      name: 'shop',
      version: 15,
      owner: 'seller',
      access: { kind: 'peer' },
    };
    const login = { file: '/srv/.env', key: 'DATABASE_URL', form: 'url' };
    const probes = byId(
      probesOf(
        small({
          groups: { both: ['app', 'db'] },
          hosts: { db: at('10.0.0.7') },
          databases: { main: database },
          probes: { login: { kind: 'postgresql', on: 'both', database: 'main', login, source: 'x' } },
          objectStore: {
            provider: 'other',
            endpoint: 'https://s3.example',
            bucket: 'backups',
            keys: {
              worker: { accessKeyId: 'env:A', secretAccessKey: 'env:B' },
              hosts: { db: { accessKeyId: 'env:A', secretAccessKey: 'env:B' } },
            },
          },
        }),
      ),
    );
    expect(probes['login-app']).toMatchObject({
      title: 'database shop lets seller in',
      login: { ...login, user: 'seller', address: '10.0.0.7' },
    });
    expect(probes['login-db']).toMatchObject({ login: { user: 'seller', address: '127.0.0.1' } });
  });

  test('an entry of the same name replaces what follows', () => {
    const system = small({
      services: { old: { kind: 'systemd', on: 'app', unit: 'old.service' } },
      probes: {
        'service-old': { kind: 'systemd', on: 'app', unit: 'old.service', running: false, source: 'ours' },
        clock: { kind: 'clock', on: 'db', severity: 'warning', source: 'ours' },
      },
    });
    expect(probesOf(system).map(({ id, title }) => `${id}: ${title}`)).toEqual([
      'service-old: old.service does not run',
      'clock: clock',
    ]);
  });

  test('an endpoint may be asked on another path, and without TLS', () => {
    const { plain, other } = byId(
      probesOf(
        small({
          endpoints: { site: { url: 'https://shop.example:8443/health?x=1', service: 'api' } },
          services: { api: { kind: 'systemd', on: 'app', unit: 'api.service' } },
          probes: {
            plain: {
              kind: 'http',
              on: 'worker',
              endpoint: 'site',
              scheme: 'http',
              path: '/',
              redirect: 'https',
              source: 'ours',
            },
            other: {
              kind: 'rate-limit',
              on: 'worker',
              endpoint: 'site',
              path: '/login?next=/',
              requests: 9,
              source: 'ours',
            },
          },
        }),
      ),
    );
    expect(plain).toMatchObject({ url: 'http://shop.example/', about: 'api' });
    expect(other).toMatchObject({ url: 'https://shop.example:8443/login?next=/' });
  });
});

describe('what the flows say, seen from outside', () => {
  const system = small({
    hosts: { app: at('10.0.0.1'), db: at('10.0.0.2') },
    groups: { web: ['app'] },
    services: {
      api: { kind: 'systemd', on: 'app', unit: 'api.service', ports: [4000, 9090] },
      bao: { kind: 'container', on: 'db', container: 'bao', ports: [8200, 9100] },
    },
    flows: {
      ssh: { from: 'internet', to: 'app', port: 22, why: '' },
      https: { from: 'internet', to: 'app', port: 443, why: '' },
      dns: { from: 'internet', to: 'app', port: 53, protocol: 'udp', why: '' },
      bao: { from: 'web', to: 'db', port: 8200, why: '' },
      metrics: { from: '10.0.0.0/24', to: 'db', port: 9100, why: '' },
      later: { from: { unset: 'the office' }, to: 'app', port: 9090, why: '' },
    },
  });
  const ports = byId(probesOf(system).filter(({ kind }) => kind === 'port'));

  test('open is what a flow names, from where it names it; closed is every other port that something listens on', () => {
    const told = Object.values(ports).map((probe) =>
      probe.kind === 'port'
        ? [
            `${probe.id}: ${probe.ports.join(',')} (${probe.reachable.join(',')})`,
            ...probe.openToNetworks.map(({ port, network }) => `but ${port} from ${network}`),
          ].join(' ')
        : '',
    );
    expect(told).toEqual([
      'open-app-from-worker: 22,443 (22,443)',
      // 9090 is open to somebody who is not named yet: to nobody.
      'closed-app-from-worker: 4000,9090 (22,443)',
      'closed-app-from-db: 4000,9090 (22,443)',
      // Whether the worker is in 10.0.0.0/24 is seen when it looks.
      'closed-db-from-worker: 8200,9100 (22) but 9100 from 10.0.0.0/24',
      'open-db-from-app: 8200 (8200,9100)',
    ]);
  });

  test('no look from outside at the machine of the worker, nor past a jump host', () => {
    const behind = small({
      hosts: {
        app: { connection: 'local' },
        db: { connection: { ...at('10.0.0.2').connection, jump: 'bastion' } },
        bastion: at('192.0.2.1'),
      },
      services: { bao: { kind: 'container', on: 'db', container: 'bao', ports: [8200] } },
      flows: { ssh: { from: 'internet', to: 'db', port: 22, why: '' } },
    });
    expect(probesOf(behind).map(({ id }) => id)).toEqual(['service-bao', 'closed-db-from-bastion']);
  });
});

describe('the shipped systems', () => {
  const systemsDirectory = path.resolve('infra/systems');
  let overlayDirectory: string;
  const hosts = (system: string, ...names: string[]) =>
    Object.fromEntries(
      names.map((name) => [
        name,
        { connection: { address: `${name}.${system}.example`, identity: 'file:id', hostKeys: ['ssh-ed25519 AAAA'] } },
      ]),
    );
  const overlays: Record<string, Record<string, unknown>> = {
    proofpass: {
      hosts: hosts('proofpass', 'app'),
      endpoints: { api: { url: 'https://api.example/health' }, platform: { url: 'https://platform.example/health' } },
    },
    'proofpass-cloud': {
      hosts: hosts('proofpass-cloud', 'app'),
      endpoints: { api: { url: 'https://api.example/health' }, platform: { url: 'https://platform.example' } },
      databases: { main: { version: 15 } },
      probes: { 'redis-answers': { address: '127.0.0.1', password: 'file:redis' } },
    },
    certitrack: {
      hosts: hosts('certitrack', 'jump', 'app'),
      endpoints: { health: { url: 'https://certitrack.example/health' } },
      probes: { 'redis-answers': { password: 'file:redis' } },
    },
    ferreteria: { hosts: hosts('ferreteria', 'vps'), endpoints: { web: { url: 'https://shop.example/health' } } },
    heartguard: {
      hosts: hosts('heartguard', 'backend', 'microservices'),
      endpoints: { admin: { url: 'https://admin.example' }, gateway: { url: 'http://192.0.2.2:5000/health' } },
      databases: { main: { version: 15 } },
      probes: {
        'gateway-with-key': { sendSecret: { 'X-Internal-API-Key': 'file:key' } },
        'redis-from-microservices': { address: '192.0.2.1', password: 'file:redis' },
        'rabbitmq-alarms': { password: 'file:rabbit' },
      },
    },
  };
  beforeAll(() => {
    overlayDirectory = mkdtempSync(path.join(tmpdir(), 'guardia-overlay-'));
    for (const [name, overlay] of Object.entries(overlays))
      writeFileSync(path.join(overlayDirectory, `${name}.yaml`), stringify(overlay));
  });
  afterAll(() => rmSync(overlayDirectory, { recursive: true }));
  const load = (name: string): System => loadSystem(name, { systemsDirectory, overlayDirectory }).system;

  test.each(Object.keys(overlays))('%s: every probe is complete and has its source, and the plan fits', (name) => {
    const system = load(name);
    expect(() => refuseUnset(system, probeNeeds, 'a health check')).not.toThrow();
    const probes = probesOf(system);
    expect(new Set(probes.map(({ id }) => id)).size).toBe(probes.length);
    for (const { source, on } of probes) {
      expect(source).toMatch(/^(L\d|ours|services\.|endpoints\.|databases\.|flows)/);
      expect([...Object.keys(system.hosts), 'worker']).toContain(on);
    }
    const moment = { workflowId: 'w', runId: 'r', now: '2026-01-01T00:00:00Z' };
    const input = HealthCheckInput.parse({ system: name });
    const plan = checkPlan(healthCheckPlanner.plan(input, system, {}, moment));
    expect(plan.stages[0]?.lanes.map(({ on }) => on).sort()).toEqual([...new Set(probes.map(({ on }) => on))].sort());
  });

  test('proofpass is not looked at while something is not filled in: all of it is named', () => {
    const { system } = loadSystem('proofpass', { systemsDirectory, overlayDirectory: undefined });
    expect(() => refuseUnset(system, probeNeeds, 'a health check')).toThrow(
      /needs 5 values.*hosts\.app\.connection\.address.*endpoints\.platform\.url/s,
    );
  });

  test('proofpass checks what its health-check.sh checks, and what that passes over', () => {
    const probes = byId(probesOf(load('proofpass')));
    expect(
      Object.values(probes)
        .filter(({ kind }) => kind === 'systemd')
        .map(({ title }) => title),
    ).toEqual(
      expect.arrayContaining([
        'proofpass-api.service runs',
        'proofpass-platform.service runs',
        'nginx.service runs',
        'postgresql@15-main.service runs',
      ]),
    );
    expect(probes['disk-app']).toMatchObject({ critical: 85 });
    expect(probes['memory-app']).toMatchObject({ warning: 85, critical: 90 });
    expect(probes['cpu-app']).toMatchObject({ warning: 80 });
    expect(probes['database-main']).toMatchObject({ connections: { warning: 150 }, role: 'proofpass_user' });
    expect(probes['closed-app-from-worker']).toMatchObject({
      ports: [3000, 3001, 4000, 5432, 8200, 9090, 9091, 9093, 9100, 9187],
      openToNetworks: [5432, 9090, 3000].map((port) => ({ port, network: '172.16.0.0/12' })),
      reachable: [22, 80, 443],
    });
    expect(probes['open-app-from-worker']).toMatchObject({ ports: [22, 80, 443] });
    expect(probes['redirect-api']).toMatchObject({ url: 'http://api.example/', redirect: 'https' });
    expect(probes['tls-api']).toMatchObject({ grade: 'A+', serverName: 'api.example' });
    expect(probes['openbao-unsealed']).toMatchObject({ on: 'app', sealed: false });
  });

  test('proofpass on four machines: each has its own, and the doors between them are looked at from both sides', () => {
    writeFileSync(
      path.join(overlayDirectory, 'proofpass.yaml'),
      stringify({
        ...overlays['proofpass'],
        layout: 'scaled',
        hosts: hosts('proofpass', 'balancer', 'app1', 'app2', 'db'),
      }),
    );
    const system = load('proofpass');
    const probes = byId(probesOf(system));
    expect(probes['service-api-app1']).toMatchObject({ on: 'app1' });
    expect(probes['firewall-balancer']).toMatchObject({ on: 'balancer' });
    expect(probes['open-db-from-app1']).toMatchObject({ ports: [5432, 8200] });
    expect(probes['closed-db-from-balancer']).toMatchObject({ ports: [3001, 5432, 8200, 9091, 9093, 9100, 9187] });
    expect(probes['closed-app1-from-app2']).toMatchObject({ ports: [3000, 4000, 9090] });
    expect(probesAbout(system, { services: ['api'], on: ['app2'] }).map(({ id }) => id)).toEqual([
      'service-api-app2',
      'ready-api-app2',
    ]);
  });
});

test('the probes of a database are about the service that serves it', () => {
  const system = small({
    services: {
      server: { kind: 'container', on: 'app', container: 'pg' },
      cluster: { kind: 'systemd', on: 'app', unit: 'postgresql@15-main.service' },
    },
    databases: {
      main: {
        ...{ engine: 'postgresql', on: 'app', name: 'shop', version: 15 },
        access: { kind: 'container', service: 'server', user: 'postgres' },
      },
      other: {
        ...{ engine: 'postgresql', on: 'app', name: 'other', version: 15, access: { kind: 'peer' } },
        service: 'cluster',
      },
    },
    objectStore: uploading('app'),
    probes: { orders: { kind: 'postgresql', database: 'main', query: 'select 1', answer: '1', source: 'ours' } },
  });
  const about = (service: string) => probesAbout(system, { services: [service] }).map(({ id }) => id);
  expect(about('server')).toEqual(['service-server', 'database-main', 'orders']);
  expect(about('cluster')).toEqual(['service-cluster', 'database-other']);
});

describe('mistakes in what probes are made of', () => {
  test('are named with their place', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'guardia-systems-'));
    try {
      writeFileSync(
        path.join(directory, 'shop.yaml'),
        `${smallSystem('shop')}probes:
  a: { kind: disk, on: nowhere, critical: 85, source: ours }
  b: { kind: memory, on: app, source: ours }
  c: { kind: http, on: worker, source: ours }
  d: { kind: tls, on: worker, endpoint: none, source: ours }
  e: { kind: disk, on: app, warning: 90, critical: 85, source: ours }
  f: { kind: port, on: worker, to: elsewhere, expect: closed, ports: [1], source: ours }
  g: { kind: postgresql, database: none, source: ours }
  h: { kind: ping, on: app, source: ours }
services:
  api: { kind: systemd, on: app, unit: api.service, requires: [store] }
endpoints:
  api: { url: 'https://x.example/', through: [proxy] }
databases:
  main: { engine: postgresql, on: db, name: shop, version: 15, access: { kind: peer }, service: server }
`,
      );
      const found = checkSystems({ systemsDirectory: directory, overlayDirectory: undefined })
        .filter(({ severity }) => severity === 'error')
        .map(({ path: place, message }) => `${place}: ${message}`);
      expect(found).toEqual(
        expect.arrayContaining([
          expect.stringMatching(/^probes\.a\.on: there is no host "nowhere"/),
          'probes.b: give `warning`, `critical` or both',
          'probes.c: give either `endpoint` or `url`',
          expect.stringMatching(/^probes\.d\.endpoint: there is no endpoint "none"/),
          'probes.e.warning: is above `critical`',
          expect.stringMatching(/^probes\.f\.to: there is no host "elsewhere"/),
          expect.stringMatching(/^probes\.g\.database: there is no database "none"/),
          expect.stringMatching(/^probes\.h\.kind: /),
          expect.stringMatching(/^services\.api\.requires\.0: there is no service "store"/),
          expect.stringMatching(/^endpoints\.api\.through\.0: there is no service "proxy"/),
          expect.stringMatching(/^databases\.main\.service: there is no service "server"/),
          expect.stringMatching(/^objectStore\.keys\.hosts: host "db" has no key/),
        ]),
      );
      expect(found).toHaveLength(12);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
