import { afterEach, describe, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import path from 'node:path';
import { listSystems, loadSystem } from '../../../activities/inventory/load.js';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import { inventoryDirectory, smallSystem } from './inventory-directory.js';

const made: { remove(): void }[] = [];
afterEach(() => made.splice(0).forEach((directory) => directory.remove()));

function inventory(...of: Parameters<typeof inventoryDirectory>) {
  const directory = inventoryDirectory(...of);
  made.push(directory);
  return directory;
}

function refusal(run: () => unknown): ApplicationFailure {
  try {
    run();
  } catch (error) {
    if (error instanceof ApplicationFailure) return error;
    throw error;
  }
  throw new Error('was not refused');
}

describe('loadSystem', () => {
  test('gives the system with its defaults', () => {
    const { system } = loadSystem('shop', inventory({ 'shop.yaml': smallSystem('shop') }));
    expect(system.hosts.app).toMatchObject({
      site: 'main',
      become: 'sudo',
      stateDirectory: '/var/lib/guardia',
      connection: { port: 22 },
    });
    expect(system.databases.main).toMatchObject({
      port: 5432,
      access: { kind: 'peer', osUser: 'postgres' },
      expect: { tables: [], minimumBytes: 0 },
    });
    expect(system.backup).toMatchObject({ prefix: '', lowestShareOfMedian: 0.5, configuration: {}, retention: {} });
    expect(system.escalation).toEqual([{ tier: 1, title: 'operators', afterMinutes: 0 }]);
  });

  test('the digest follows the content, not the writing', () => {
    const digest = (text: string, overlay?: string) =>
      loadSystem('shop', inventory({ 'shop.yaml': text }, overlay === undefined ? undefined : { 'shop.yaml': overlay }))
        .digest;
    const text = smallSystem('shop');
    const [head, ...rest] = text.split('\n');
    expect(digest([...rest, head, '# a comment'].join('\n'))).toBe(digest(text));
    expect(digest(text.replace('user: guardia', 'user: guardia\n      port: 22'))).toBe(digest(text));
    expect(digest(text.replace('name: shop', 'name: shop2'))).not.toBe(digest(text));
    expect(digest(text, 'objectStore: { bucket: other }')).not.toBe(digest(text));
    expect(digest(text, '# nothing yet')).toBe(digest(text));
  });

  test('an unknown system is refused with what there is', () => {
    const error = refusal(() =>
      loadSystem('shpo', inventory({ 'shop.yaml': smallSystem('shop'), 'other.yaml': smallSystem('other') })),
    );
    expect(error).toMatchObject({ type: 'UnknownSystem', nonRetryable: true });
    expect(error.message).toMatch(
      /^there is no system "shpo"; did you mean "shop"\?\. Systems: other, shop \(in .*systems\)$/,
    );
  });

  test.each(['../shop', 'shop.yaml', '', '/etc/passwd', '__proto__', 'shop\0'])(
    '%j is no way to another file',
    (name) => {
      const where = inventory({ 'shop.yaml': smallSystem('shop') });
      expect(refusal(() => loadSystem(name, where)).type).toBe('UnknownSystem');
    },
  );

  test('a system with mistakes is refused with all of them, whatever the others are like', () => {
    const where = inventory({
      'shop.yaml': smallSystem('shop').replace('version: 15', 'version: new').replace('title:', 'titel:'),
      'bad.yaml': '{',
    });
    const error = refusal(() => loadSystem('shop', where));
    expect(error).toMatchObject({ type: 'InvalidInventory', nonRetryable: true });
    expect(error.message.split('\n')).toEqual([
      'system shop has 3 mistakes:',
      expect.stringMatching(/shop\.yaml:1:1: title: is missing/),
      expect.stringMatching(/shop\.yaml:2:1: titel: there is no field "titel" here; did you mean "title"\?/),
      expect.stringMatching(/shop\.yaml:16:5: databases\.main\.version: is text/),
    ]);
    expect(loadSystem('good', inventory({ 'good.yaml': smallSystem('good'), 'bad.yaml': '{' })).system.system).toBe(
      'good',
    );
  });
});

describe('overlay', () => {
  const lay = (overlay: string, text = smallSystem('shop')) =>
    loadSystem('shop', inventory({ 'shop.yaml': text }, { 'shop.yaml': overlay })).system;
  const refused = (overlay: string, text = smallSystem('shop')) => {
    const { message } = refusal(() => lay(overlay, text));
    return message
      .split('\n')
      .slice(1)
      .map((line) => line.replace(/^.*\/(overlay|systems)\//, '$1/'));
  };

  test('fills addresses, ports, endpoints, keys and what is unset', () => {
    const system = lay(`
hosts:
  app:
    connection: { address: 10.1.2.3, port: 2222, identity: file:ssh/lab, hostKeys: ['ssh-ed25519 BBBB'] }
    stateDirectory: /tmp/state
databases: { main: { port: 5433 } }
objectStore:
  provider: versitygw
  endpoint: http://10.1.2.1:7070
  region: eu-west-1
  bucket: lab
  keys: { hosts: { app: { secretAccessKey: file:lab } } }
backup: { recipients: [${['q', 'p'].map((c) => `age1${c.repeat(58)}`).join(', ')}], identity: env:AGE }
`);
    expect(system.hosts.app).toMatchObject({
      stateDirectory: '/tmp/state',
      connection: { address: '10.1.2.3', port: 2222, user: 'guardia', identity: 'file:ssh/lab' },
    });
    expect(system.objectStore).toMatchObject({ provider: 'versitygw', region: 'eu-west-1', bucket: 'lab' });
    expect(system.objectStore.keys).toEqual({
      worker: { accessKeyId: 'env:WORKER_ID', secretAccessKey: 'file:s3/worker' },
      hosts: { app: { accessKeyId: 'env:APP_ID', secretAccessKey: 'file:lab' } },
    });
    expect(system.databases.main?.port).toBe(5433);
    expect(system.backup.identity).toBe('env:AGE');
  });

  test('may make a host local, also over an unset address', () => {
    expect(lay('hosts: { app: { connection: local } }').hosts.app?.connection).toBe('local');
  });

  test('may fill an unset mapping with any value that fits there', () => {
    const text = smallSystem('shop').replace('version: 15', 'version: { unset: which }');
    expect(lay('databases: { main: { version: 15 } }', text).databases.main?.version).toBe(15);
    expect(refused('databases: { main: { version: newest } }', text)).toEqual([
      'overlay/shop.yaml:1:22: databases.main.version: is text (allowed: a whole number from 10 to 99 or { unset: "..." })',
    ]);
  });

  test('everything else is refused at its line, with what an overlay may hold', () => {
    const found = refused(`title: Another
hosts:
  app:
    connection: { user: root }
    become: none
  app2: { connection: local }
databases:
  main: { name: other, acess: {} }
backup:
  lowestShareOfMedian: 0
  configuration: {}
system: shop
`);
    expect(found.map((line) => line.split(' (allowed: ')[0])).toEqual([
      'overlay/shop.yaml:1:1: title: an overlay may not change this',
      'overlay/shop.yaml:4:19: hosts.app.connection.user: an overlay may not change this',
      'overlay/shop.yaml:5:5: hosts.app.become: the shipped file has nothing here that an overlay could fill',
      'overlay/shop.yaml:6:3: hosts.app2: the shipped file has nothing here that an overlay could fill',
      'overlay/shop.yaml:8:11: databases.main.name: an overlay may not change this',
      'overlay/shop.yaml:8:24: databases.main.acess: the shipped file has nothing here that an overlay could fill',
      'overlay/shop.yaml:10:3: backup.lowestShareOfMedian: the shipped file has nothing here that an overlay could fill',
      'overlay/shop.yaml:11:3: backup.configuration: the shipped file has nothing here that an overlay could fill',
    ]);
    expect(found[0]).toContain(
      '(allowed: layout, addresses, ports, endpoints, provider, region and bucket of the object store, keys',
    );
  });

  test('a wrong value in an overlay is reported in the overlay, a missing one where it is missing', () => {
    expect(refused('hosts:\n  app:\n    connection:\n      port: 0\n')).toEqual([
      'overlay/shop.yaml:4:7: hosts.app.connection.port: is 0 (allowed: a whole number from 1 to 65535)',
    ]);
    expect(refused('hosts: { app: { connection: { adress: x } } }')).toEqual([
      expect.stringContaining('overlay/shop.yaml:1:31: hosts.app.connection.adress:'),
    ]);
    expect(refused('hosts: { app: {')).toEqual(
      expect.arrayContaining([expect.stringContaining('overlay/shop.yaml:1:16: not valid YAML')]),
    );
    expect(refused('objectStore: { keys: { worker: { accessKey: x } } }')).toEqual([
      expect.stringContaining(
        'overlay/shop.yaml:1:34: objectStore.keys.worker.accessKey: there is no field "accessKey" here; did you mean "accessKeyId"?',
      ),
    ]);
    expect(refused('[]')).toEqual([expect.stringContaining('overlay/shop.yaml:1:1: an overlay may not change this')]);
  });

  test('approvers and endpoints: their keys and URLs', () => {
    const text = `${smallSystem('shop')}approvers: { ana: { email: ana@example.org, signingKey: ssh-ed25519 AAAA } }
endpoints: { web: { url: https://shop.example.org/health } }
`;
    const system = lay(
      "approvers: { ana: { signingKey: ssh-ed25519 BBBB } }\nendpoints: { web: { url: 'http://10.0.0.9/health' } }",
      text,
    );
    expect(system.approvers.ana).toMatchObject({ email: 'ana@example.org', signingKey: 'ssh-ed25519 BBBB' });
    expect(system.endpoints.web?.url).toBe('http://10.0.0.9/health');
    expect(refused('approvers: { eve: { signingKey: ssh-ed25519 EEEE } }', text)).toEqual([
      expect.stringContaining('approvers.eve: the shipped file has nothing here that an overlay could fill'),
    ]);
  });
});

describe('inventoryLocations', () => {
  test('is the installation unless the environment says otherwise', () => {
    expect(inventoryLocations({})).toEqual({ systemsDirectory: path.resolve('infra/systems') });
    expect(inventoryLocations({ GUARDIA_SYSTEMS: '/srv/systems', GUARDIA_OVERLAY: '/srv/overlay' })).toEqual({
      systemsDirectory: '/srv/systems',
      overlayDirectory: '/srv/overlay',
    });
    expect(listSystems(inventoryLocations({}))).toContain('proofpass');
  });
});
