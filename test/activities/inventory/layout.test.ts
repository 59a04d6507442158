import { afterEach, describe, expect, test } from '@jest/globals';
import { checkSystems, loadSystem } from '../../../activities/inventory/load.js';
import { problemLine } from '../../../activities/inventory/problems.js';
import { hostOf, hostsOf } from '../../../workflows/contracts/host-groups.js';
import { inventoryDirectory, smallSystem } from './inventory-directory.js';

const made: { remove(): void }[] = [];
afterEach(() => made.splice(0).forEach((directory) => directory.remove()));

const inventory = (text: string, overlay?: string) => {
  const directory = inventoryDirectory(
    { 'shop.yaml': text },
    overlay === undefined ? undefined : { 'shop.yaml': overlay },
  );
  made.push(directory);
  return directory;
};
const errors = (text: string, overlay?: string) =>
  checkSystems({ ...inventory(text, overlay), only: 'shop' })
    .filter(({ severity }) => severity === 'error')
    .map((problem) => problemLine(problem).replace(/^.*\//, ''));

const connection = (address: string) =>
  `{ address: ${address}, user: guardia, identity: 'env:KEY', hostKeys: ['ssh-ed25519 AAAA'] }`;
const spread = `${smallSystem('shop')}
groups: { web: [app], spare: [] }
layouts:
  scaled:
    hosts:
      app: null
      app1: { connection: ${connection('10.0.0.11')} }
      app2: { connection: ${connection('10.0.0.12')} }
    groups: { web: [app1, app2] }
    databases: { main: { on: app1 } }
    objectStore:
      keys: { hosts: { app: null, app1: { accessKeyId: 'env:A', secretAccessKey: 'env:B' } } }
`;

describe('groups', () => {
  test('stand for their hosts, in their order', () => {
    const { system } = loadSystem('shop', inventory(spread, 'layout: scaled'));
    expect(hostsOf(system, 'web')).toEqual(['app1', 'app2']);
    expect(hostsOf(system, 'app2')).toEqual(['app2']);
    expect(hostsOf(system, 'spare')).toEqual([]);
    expect(hostOf(system, 'app1')).toBe('app1');
    expect(() => hostOf(system, 'web')).toThrow('web of system shop is 2 hosts where one is needed');
    expect(() => hostsOf(system, 'nobody')).toThrow('has no host and no group nobody');
  });

  test('name hosts that exist, each once, and no host bears their name', () => {
    const text = spread.replace('web: [app], spare: []', 'web: [app, app, ap], app: []');
    expect(errors(text)).toEqual(
      expect.arrayContaining([
        expect.stringContaining('groups.web.1: "app" stands in it twice'),
        expect.stringContaining('groups.web.2: there is no host "ap"; hosts: app'),
        expect.stringContaining('groups.app: "app" is a host; give the group a name of its own'),
      ]),
    );
  });

  test('a database is on one host', () => {
    expect(errors(spread.replace('on: app1', 'on: web'), 'layout: scaled')).toEqual([
      expect.stringContaining('databases.main.on: group "web" has 2 hosts; a database is on one host'),
    ]);
  });
});

describe('layouts', () => {
  test('the file as it stands without one; merged when an overlay chooses it', () => {
    const stands = loadSystem('shop', inventory(spread)).system;
    expect(Object.keys(stands.hosts)).toEqual(['app']);
    expect(stands.layouts).toEqual({});
    const { system } = loadSystem(
      'shop',
      inventory(spread, 'layout: scaled\nhosts: { app1: { connection: { address: 10.9.9.9 } } }'),
    );
    expect(system.layout).toBe('scaled');
    expect(Object.keys(system.hosts)).toEqual(['app1', 'app2']);
    expect(system.hosts['app1']?.connection).toMatchObject({ address: '10.9.9.9', user: 'guardia' });
    expect(system.groups).toEqual({ web: ['app1', 'app2'], spare: [] });
    expect(Object.keys(system.objectStore.keys.hosts)).toEqual(['app1']);
  });

  test('a mistake in one that is not in force is found where it stands, and holds up no run', () => {
    const wrong = spread.replace('web: [app1, app2]', 'web: [app1, app3]');
    expect(loadSystem('shop', inventory(wrong)).system.groups).toMatchObject({ web: ['app'] });
    const [mistake, ...more] = errors(wrong);
    expect(more).toEqual([]);
    const line = spread.split('\n').findIndex((text) => text.includes('web: [app1')) + 1;
    expect(mistake).toMatch(
      new RegExp(`^shop.yaml:${line}:\\d+: groups.web.1: in layout scaled: there is no host "app3"`),
    );
  });

  test('an unknown one is refused with those that there are', () => {
    expect(errors(spread, 'layout: scald')).toEqual([
      expect.stringContaining('layout: there is no layout "scald" (allowed: scaled)'),
    ]);
  });
});
