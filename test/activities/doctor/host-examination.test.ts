import { describe, expect, test } from '@jest/globals';
import type { Finding } from '../../../activities/doctor/findings.js';
import {
  examineHost,
  hostNeeds,
  judgeHost,
  parseProbe,
  type HostNeeds,
} from '../../../activities/doctor/host-examination.js';
import { loadSystem } from '../../../activities/inventory/load.js';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import type { SshPool } from '../../../activities/hosts/ssh-pool.js';
import { workerHost } from '../../../workflows/contracts/host-target.js';

const NOW = Date.parse('2026-01-31T02:00:00Z');
const TOOLS = 'bash flock setsid setpriv timeout ps awk sed grep tail dd tar openssl curl zstd age systemd-run'.split(
  ' ',
);
const needs: HostNeeds = {
  target: { ...workerHost, name: 'app', stateDirectory: '/var/lib/guardia', become: 'sudo' },
  backup: true,
  databases: [
    { name: 'main', major: 15, access: { kind: 'peer', osUser: 'postgres' }, port: 5432, place: '-', user: 'postgres' },
  ],
  endpoint: 'http://s3.example',
};

/** A host that lacks nothing, changed line by line: undefined takes a line away. */
function findings(change: Record<string, string | undefined> = {}, of: HostNeeds = needs): Record<string, Finding> {
  const lines: Record<string, string | undefined> = {
    login: 'guardia',
    sudo: 'ok',
    time: String(NOW / 1000),
    os: 'Debian GNU/Linux 12 (bookworm)',
    systemd: 'yes',
    ...Object.fromEntries(TOOLS.map((tool) => [`tool.${tool}`, `/usr/bin/${tool}`])),
    'version.bash': '5.2.15',
    'version.openssl': '3.0.17',
    'version.curl': '7.88.1',
    'version.zstd': '1.5.4',
    'version.age': '1.1.1',
    sigv4: 'yes',
    'state.freeKiB': '1000000',
    'state.freeInodes': '1000000',
    'state.writable': 'yes',
    'shm.freeKiB': '1000000',
    'shm.writable': 'yes',
    store: '403 ',
    'database.main.pgdump': '15.14',
    'database.main.user': 'yes',
    'database.main.ready': '/var/run/postgresql:5432 - accepting connections',
    end: 'yes',
    ...change,
  };
  const text = Object.entries(lines)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n');
  return Object.fromEntries(judgeHost(parseProbe(text), of, NOW).map((finding) => [finding.id, finding]));
}
const missing = (found: Record<string, Finding>): string[] =>
  Object.values(found)
    .filter(({ state }) => state === 'missing')
    .map(({ id }) => id);

describe('what is asked of a host', () => {
  const { system } = loadSystem('proofpass', inventoryLocations({}));

  test('is also what the inventory has on a group of hosts', () => {
    expect(hostNeeds(system, 'app', workerHost)).toMatchObject({ backup: true, databases: [{ name: 'main' }] });
    expect(
      hostNeeds({ ...system, groups: { ...system.groups, database: [], web: [] } }, 'app', workerHost).databases,
    ).toEqual([]);
  });
});

describe('what the answer of a host means', () => {
  test('nothing is missing where everything is there', () => {
    expect(missing(findings())).toEqual([]);
    expect(Object.values(findings()).every(({ state }) => state === 'ok')).toBe(true);
  });

  test.each([
    [{ 'tool.age': undefined, 'version.age': undefined }, 'tool-age', ['age']],
    [{ 'tool.zstd': undefined }, 'tool-zstd', ['zstd']],
    [{ 'tool.flock': undefined, 'tool.ps': undefined }, 'base-tools', ['util-linux', 'procps']],
    [{ 'version.bash': '4.2.46' }, 'tool-bash', ['bash']],
    [{ 'tool.curl': undefined }, 'tool-curl', ['curl']],
    [{ sigv4: undefined, 'version.curl': '7.64.0' }, 'tool-curl', ['curl']],
    [{ 'version.curl': '7.76.1' }, 'tool-curl', ['curl']],
    [{ 'database.main.pgdump': undefined }, 'pg-dump-main', ['postgresql-client-15']],
    [{ sudo: 'sudo: a password is required' }, 'sudo', undefined],
    [{ sudo: 'sh: 1: sudo: not found' }, 'sudo', ['sudo']],
    [{ 'state.freeKiB': '2000' }, 'space-state', undefined],
    [{ 'state.freeInodes': '3' }, 'space-state', undefined],
    [{ 'state.writable': undefined }, 'space-state', undefined],
    [{ 'shm.freeKiB': '65536' }, 'space-shm', undefined],
    [{ 'shm.freeKiB': undefined }, 'space-shm', undefined],
    [{ store: '000 Could not resolve host: s3.example' }, 'store', undefined],
    [{ 'database.main.user': undefined }, 'login-main', undefined],
    [{ 'database.main.ready': '/var/run/postgresql:5432 - no response' }, 'database-main', undefined],
    [{ time: String(NOW / 1000 - 7) }, 'clock', ['systemd-timesyncd']],
    [{ time: String(NOW / 1000 + 5) }, 'clock', ['systemd-timesyncd']],
    [{ end: undefined }, 'answer', undefined],
  ])('%j is missed as %s', (change, id, packages) => {
    const found = findings(change);
    expect(missing(found)).toEqual([id]);
    expect(found[id]?.packages).toEqual(packages);
    expect(found[id]?.remedy !== undefined || packages !== undefined).toBe(true);
  });

  test('the clock may differ by less than five seconds', () => {
    expect(findings({ time: String(NOW / 1000 - 4.5) })['clock']).toMatchObject({
      state: 'ok',
      found: '4.5 s behind this machine',
    });
    expect(findings({ time: String(NOW / 1000 + 0.4) })['clock']).toMatchObject({ state: 'ok', found: 'as here' });
  });

  test('no systemd is a warning: jobs run without it', () => {
    expect(findings({ systemd: undefined })['systemd']?.state).toBe('warning');
  });

  test('what could not be looked at is skipped and not called good', () => {
    expect(findings({ store: undefined })['store']?.state).toBe('skipped');
    expect(findings({ 'database.main.ready': undefined })['database-main']?.state).toBe('skipped');
    const { endpoint: _, ...without } = needs;
    expect(findings({}, without)['store']?.state).toBe('skipped');
  });

  test('a host that makes no backups needs none of their tools', () => {
    const found = findings(
      { 'tool.age': undefined, 'tool.curl': undefined, store: undefined },
      { ...needs, backup: false, databases: [] },
    );
    expect(missing(found)).toEqual([]);
    expect(Object.keys(found)).not.toContain('tool-age');
  });

  test('a database in a container needs docker and one running container', () => {
    const container: HostNeeds = {
      ...needs,
      databases: [
        {
          name: 'main',
          major: 15,
          access: { kind: 'container', service: 'db', user: 'app' },
          port: 5432,
          place: 'shop/db',
          user: 'app',
        },
      ],
    };
    expect(missing(findings({}, container))).toEqual(['database-main']);
    expect(missing(findings({ 'tool.docker': '/usr/bin/docker', 'database.main.containers': '2' }, container))).toEqual(
      ['database-main'],
    );
    expect(missing(findings({ 'tool.docker': '/usr/bin/docker', 'database.main.containers': '1' }, container))).toEqual(
      [],
    );
  });
});

describe('the probe itself', () => {
  const noSsh: SshPool = {
    transport: () => {
      throw new Error('this machine needs no SSH');
    },
    connect: () => Promise.reject(new Error('this machine needs no SSH')),
    close: () => undefined,
  };

  test('looks at this machine, to its end', async () => {
    const { findings: found, about } = await examineHost(
      {
        target: { ...workerHost, stateDirectory: "/var/lib/with space and 'quote'" },
        backup: true,
        databases: [],
        endpoint: 'http://127.0.0.1:1',
      },
      noSsh,
      'this machine',
    );
    const byId = Object.fromEntries(found.map((finding) => [finding.id, finding]));
    expect(about).toBe('this machine');
    expect(byId['answer']).toBeUndefined();
    expect(byId['base-tools']?.state).toBe('ok');
    expect(byId['clock']).toMatchObject({ state: 'ok', found: 'as here' });
    expect(byId['tool-bash']?.found).toMatch(/^5\./);
    expect(byId['store']).toMatchObject({
      state: 'missing',
      found: expect.stringContaining('http://127.0.0.1:1') as unknown,
    });
  });
});
