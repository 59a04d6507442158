import { afterEach, describe, expect, test } from '@jest/globals';
import path from 'node:path';
import { checkSystems, loadSystem } from '../../../activities/inventory/load.js';
import { problemLine } from '../../../activities/inventory/problems.js';
import { BackupInput } from '../../../workflows/contracts/backup.js';
import { inventoryDirectory, smallSystem } from './inventory-directory.js';

const made: { remove(): void }[] = [];
afterEach(() => made.splice(0).forEach((directory) => directory.remove()));

function inventory(...of: Parameters<typeof inventoryDirectory>) {
  const directory = inventoryDirectory(...of);
  made.push(directory);
  return directory;
}

/** The problems of one file `shop.yaml` as [line, path, message]. */
function mistakes(text: string, overlay?: string) {
  const where = inventory({ 'shop.yaml': text }, overlay === undefined ? undefined : { 'shop.yaml': overlay });
  return checkSystems({ ...where, only: 'shop' }).filter(({ severity }) => severity === 'error');
}

/** The small system with one line replaced. */
const changed = (from: string, to: string) => {
  const text = smallSystem('shop');
  expect(text).toContain(from);
  return text.replace(from, to);
};

const backupFields = Object.keys(BackupInput.shape).filter((field) => field !== 'system');

const broken = `system: shopp
titel: A small system
timezone: Mars/Olympus
hosts:
  app:
    connection:
      address: root@10.0.0.1
      port: 99999
      user: guardia
      identity: hunter2-the-password-itself
      hostKeys: [AAAAB3NzaC1]
      jump: gate
    becme: sudo
  Db_1:
    connection: locale
services:
  web: { kind: systemd, on: ap, unit: web }
  api: { kind: compse, on: app }
  queue: { kind: compose, on: app, directory: relative, project: Q, service: queue }
databases:
  main:
    engine: postgresql
    on: app
    name: shop
    version: '15'
    access: { kind: container, service: web, user: 3 }
    expect: { tables: [users], minimumBytes: -1 }
thresholds:
  diskUsed: { critical: 85, source: ours }
  memoryUsedPercent: { warning: 95, critical: 90, source: ours }
  cpuUsedPercent: { source: ours }
objectStore:
  provider: amazon
  endpoint: s3.example.org
  bucket: Backups_of_shop
  keys:
    worker: { accessKeyId: { unset: 5 }, secretAccessKey: }
    hosts: {}
backup:
  recipients: [age1short]
  identity: { unset: the identity, of the worker }
  retention: { database: { localDays: 0 } }
schedules:
  daily: { runbook: backups, cron: 0 25 * * * }
  weekly: { runbook: backup, cron: 0 2 * *, input: { plann: true } }
approvers:
  ana: { email: ana, signingKey: { unset: hers }, tier: 2 }
notifications:
  ops: { kind: slack, channel: ops }
`;

describe('checkSystems', () => {
  test('reports every mistake of a file in one go, each at its line, with what is allowed', () => {
    const found = mistakes(broken).map(
      ({ line, path: at, message, allowed }) => `${line} ${at}: ${message} | ${allowed ?? ''}`,
    );
    expect(found).toEqual([
      '1 title: is missing | text (Name for people)',
      '1 system: is "shopp", but the file is shop.yaml | shop',
      expect.stringMatching(
        /^2 titel: there is no field "titel" here; did you mean "title"\? \| title, manual, .*, escalation/,
      ),
      '3 timezone: is no time zone; use an IANA name such as UTC, Europe/Madrid or America/Mexico_City | ',
      '7 hosts.app.connection.address: is not written as it has to be | a host name or an IP address, without user and port',
      '8 hosts.app.connection.port: is 99999 | a whole number from 1 to 65535',
      '10 hosts.app.connection.identity: is not written as it has to be | file:PATH or env:NAME',
      '11 hosts.app.connection.hostKeys.0: is not written as it has to be | a public host key without name and comment: "ssh-ed25519 AAAA..."',
      '12 hosts.app.connection.jump: there is no host "gate"; hosts: app | ',
      '13 hosts.app.becme: there is no field "becme" here; did you mean "become"? | description, site, become, stateDirectory, smallest',
      '14 hosts.Db_1: this name is not allowed | use lower-case letters, digits and hyphens, at most 40, starting with a letter',
      '17 services.web.on: there is no host "ap"; hosts: app | ',
      '17 services.web.unit: is not written as it has to be | a unit name that ends in .service, .timer or .socket',
      '18 services.api.kind: "compse" is not one of the choices; did you mean "compose"? | "systemd", "compose" or "container"',
      '19 services.queue.directory: is not written as it has to be | an absolute path',
      '19 services.queue.project: is not written as it has to be | a compose project name: lower-case letters, digits, - and _',
      '25 databases.main.version: is text; write it without quotes | a whole number from 10 to 99 or { unset: "..." }',
      '26 databases.main.access.service: service "web" is a systemd unit, not a container | ',
      '26 databases.main.access.user: is the number 3 | text (Role to log in as)',
      '27 databases.main.expect.tables.0: is not written as it has to be | schema.table, for example public.users',
      '27 databases.main.expect.minimumBytes: is -1 | a whole number from 0',
      '29 thresholds.diskUsed: there is no field "diskUsed" here; did you mean "diskUsedPercent"? | diskUsedPercent, loadPerProcessor, databaseConnections, clockSkewSeconds, certificateDaysLeft, errorPercent, p99Milliseconds',
      '30 thresholds.memoryUsedPercent.warning: is above `critical` | ',
      '31 thresholds.cpuUsedPercent: give `warning`, `critical` or both | ',
      '33 objectStore.provider: "amazon" is not one of the choices | "aws", "minio", "r2", "ceph", "versitygw" or "other"',
      '34 objectStore.endpoint: is not written as it has to be | a URL that starts with https:// or http://',
      '35 objectStore.bucket: is not written as it has to be | a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens',
      `37 objectStore.keys.worker.accessKeyId.unset: is the number 5 | text (What has to be filled in, and the manual's own placeholder)`,
      '37 objectStore.keys.worker.secretAccessKey: is empty | text (Reference to a secret that the worker resolves: file:PATH or env:NAME. Never the secret itself) or { unset: "..." }',
      '38 objectStore.keys.hosts: host "app" has no key, but uploads (database main); add "app", unset if need be | ',
      '40 backup.recipients: has 1 entry | at least 2 of them',
      '40 backup.recipients.0: is not written as it has to be | an age recipient: age1...',
      '41 backup.identity.of the worker: there is no field "of the worker" here; a comma within { } begins a new field: put the text before it in quotes | no further field',
      '42 backup.retention.database.remoteDays: is missing | a whole number from 1 to 3660',
      '42 backup.retention.database.localDays: is 0 | a whole number from 1 to 3660',
      '44 schedules.daily.runbook: "backups" is not one of the choices; did you mean "backup"? | "adopt", "backup", "database-maintenance", "deploy", "diagnose", "disaster-recovery", "health-check", "init-openbao", "patch-host", "provision-host", "renew-certificate", "restart-service", "repair", "restore", "rollback", "rotate-secret", "unseal-openbao" or "verify-backup"',
      '44 schedules.daily.cron: is no cron expression: its hour cannot be "25"; allowed: 0 to 23, *, ranges (1-5), lists (1,3) and steps (*/6) | ',
      '45 schedules.weekly.cron: is no cron expression: it has 4 fields, not five: minute, hour, day of month, month, day of week | ',
      `45 schedules.weekly.input.plann: runbook backup takes no "plann"; did you mean "plan"? | ${backupFields.join(', ')}`,
      '47 approvers.ana.email: is not written as it has to be | an e-mail address',
      '47 approvers.ana.tier: there is no tier 2; escalation has: 1 | ',
      '49 notifications.ops.webhook: is missing | text (Reference to a secret that the worker resolves: file:PATH or env:NAME. Never the secret itself) or { unset: "..." }',
      '49 notifications.ops.channel: is not written as it has to be | a channel: "#name"',
    ]);
  });

  test('never repeats what may be a secret in the wrong place', () => {
    expect(mistakes(broken).map(problemLine).join('\n')).not.toContain('hunter2');
  });

  test('the small system of these tests has no mistake', () => {
    expect(mistakes(smallSystem('shop'))).toEqual([]);
  });

  test('lists unset values as unset, not as mistakes', () => {
    const where = inventory({ 'shop.yaml': smallSystem('shop') });
    expect(
      checkSystems(where).map(({ severity, line, column, path: at, message }) => [severity, line, column, at, message]),
    ).toEqual([
      ['unset', 7, 7, 'hosts.app.connection.address', 'its address'],
      ['unset', 20, 3, 'objectStore.endpoint', 'its endpoint'],
      ['unset', 27, 3, 'backup.recipients', 'its recipients'],
    ]);
  });

  test('one person is one approver: another name, another comment of the key and other capitals do not make two', () => {
    const twice = `${smallSystem('shop')}approvers:
  ana: { email: ana@example.org, signingKey: ssh-ed25519 AAAA ana@laptop }
  ben: { email: ben@example.org, signingKey: ssh-ed25519 AAAA ben }
  eva: { email: Ana@example.org, signingKey: ssh-ed25519 BBBB }
  kim: { email: { unset: hers }, signingKey: { unset: hers } }
  zoe: { email: { unset: hers }, signingKey: { unset: hers } }
`;
    expect(mistakes(twice).map(({ path: at, message }) => `${at} ${message}`)).toEqual([
      'approvers.ben.signingKey is that of "ana" too: one person under two names would count twice, and could agree to a run of their own',
      'approvers.eva.email is that of "ana" too: one person under two names would count twice, and could agree to a run of their own',
    ]);
  });

  test('two deployments on one host have places of their own: one would prune the running release of the other', () => {
    const deployment = (name: string, on: string, directory: string, releases: string) =>
      `  ${name}: { on: ${on}, directory: ${directory}, releases: ${releases}, user: shop, source: { kind: archive }, migrations: { kind: none }, services: [${on}] }\n`;
    const found = (...deployments: string[]) =>
      mistakes(
        `${changed(
          'databases:\n',
          `  other:
    connection: { address: other.example.org, user: u, identity: file:k, hostKeys: ['ssh-ed25519 AAAA'] }
services:
  app: { kind: systemd, on: app, unit: app.service }
  other: { kind: systemd, on: other, unit: other.service }
databases:
`,
        )}deployments:\n${deployments.join('')}`,
      ).map(({ path: at, message }) => `${at} ${message}`);
    const shop = deployment('shop', 'app', '/srv/shop/current', '/srv/shop/releases');
    expect(found(shop, deployment('tools', 'app', '/srv/tools/current', '/srv/tools/releases'))).toEqual([]);
    expect(found(shop, deployment('tools', 'other', '/srv/shop/current', '/srv/shop/releases'))).toEqual([]);
    expect(found(shop, deployment('tools', 'app', '/srv/tools/current', '/srv/shop/releases'))).toEqual([
      'deployments.tools.releases is, holds or lies in `releases` of deployment "shop", which is on the same host; give each a place of its own',
    ]);
    expect(found(shop, deployment('tools', 'app', '/srv/shop/current', '/srv/tools'))).toEqual([
      expect.stringMatching(/^deployments\.tools\.directory is, holds or lies in `directory` of deployment "shop"/),
    ]);
    expect(found(shop, deployment('tools', 'app', '/srv/shop/releases/tools', '/srv'))).toEqual([
      expect.stringMatching(/^deployments\.tools\.directory .* `releases`/),
      expect.stringMatching(/^deployments\.tools\.releases .* `directory`/),
      expect.stringMatching(/^deployments\.tools\.releases .* `releases`/),
    ]);
  });

  test('a value that has to be there cannot be left unset', () => {
    expect(mistakes(changed('user: guardia', 'user: { unset: the user }'))).toMatchObject([
      { path: 'hosts.app.connection.user', message: 'cannot be left unset', line: 8 },
    ]);
  });

  test('a file that is no YAML says where', () => {
    const found = mistakes('system: shop\nhosts: {\n  app: [\ntitle: x\n');
    expect(found.length).toBeGreaterThan(0);
    expect(found.every(({ message }) => message.startsWith('not valid YAML: '))).toBe(true);
    expect(found[0]?.line).toBeGreaterThan(1);
    expect(mistakes(`${smallSystem('shop')}\tmanual: tab`)).toMatchObject([
      { line: 29, message: 'not valid YAML: Tabs are not allowed as indentation' },
    ]);
  });

  test.each([
    ['', 'is empty'],
    ['[a, b]', 'is a list'],
    ['just text', 'is text'],
  ])('a file with %j instead of a mapping is one mistake', (text, message) => {
    expect(mistakes(text)).toMatchObject([{ line: 1, path: '', message }]);
  });

  test('a field that stands there twice is reported besides everything else', () => {
    const found = mistakes(`${smallSystem('shop')}title: again\ntimezon: UTC\n`);
    expect(found.map(({ line, message }) => [line, message])).toEqual([
      [29, 'this field stands here twice; keep one'],
      [30, 'there is no field "timezon" here; did you mean "timezone"?'],
    ]);
  });

  test('merge keys are not part of the language', () => {
    expect(mistakes(changed('version: 15', '<<: { version: 15 }')).map(({ path: at }) => at)).toContain(
      'databases.main.<<',
    );
  });

  test('two documents in a file are a mistake', () => {
    expect(mistakes(`${smallSystem('shop')}---\nsystem: other\n`)).toMatchObject([
      { message: expect.stringContaining('not valid YAML') },
    ]);
  });

  test.each([
    ['worker', 'reserved'],
    ['system', 'reserved'],
  ])('no host is called %s', (name) => {
    const text = smallSystem('shop').replaceAll('app:', `${name}:`).replace('on: app', `on: ${name}`);
    expect(mistakes(text)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ path: `hosts.${name}`, allowed: '"worker" and "system" are reserved' }),
      ]),
    );
  });

  test('everybody is called internet in a flow, and what is neither that nor an address is named', () => {
    const flow = (name: string, from: string) => `  ${name}: { from: '${from}', to: app, port: 80, why: users }\n`;
    const flows = [flow('a', '0.0.0.0/0'), flow('b', '::/0'), flow('c', '10.0.0.300'), flow('d', '192.168.1.10/24')];
    expect(mistakes(`${smallSystem('shop')}flows:\n${flows.join('')}`).map(({ message }) => message)).toEqual([
      '"0.0.0.0/0" is everybody: write "internet"',
      '"::/0" is everybody: write "internet"',
      '"10.0.0.300" is neither "internet", nor a network; hosts: app',
    ]);
  });

  test('a jump that goes in a circle is refused, one that ends is not', () => {
    const host = (name: string, jump?: string) =>
      `  ${name}:\n    connection: { address: ${name}.example.org, user: u, identity: file:k, hostKeys: ['ssh-ed25519 AAAA']${jump ? `, jump: ${jump}` : ''} }\n`;
    const withHosts = (hosts: string) => changed('databases:\n', `${hosts}databases:\n`);
    expect(mistakes(withHosts(host('a', 'b') + host('b', 'c') + host('c')))).toEqual([]);
    const found = mistakes(
      withHosts(host('a', 'b') + host('b', 'c') + host('c', 'a') + host('d', 'd') + host('e', 'a')),
    );
    expect(found.map(({ path: at, message }) => [at.split('.')[1], message])).toEqual([
      ['a', 'goes in a circle: a -> b -> c -> a'],
      ['b', 'goes in a circle: b -> c -> a -> b'],
      ['c', 'goes in a circle: c -> a -> b -> c'],
      ['d', 'goes in a circle: d -> d'],
    ]);
  });

  test('one machine is one host of one system', () => {
    const at = (name: string, address: string) => smallSystem(name).replace('{ unset: its address }', address);
    const where = inventory({
      'one.yaml': at('one', '10.0.0.5'),
      'two.yaml': at('two', '10.0.0.5'),
      'three.yaml': at('three', '10.0.0.6'),
    });
    const shared = (only?: string) => checkSystems({ ...where, only }).filter(({ severity }) => severity === 'error');
    expect(shared()).toMatchObject([
      {
        file: path.join(where.systemsDirectory, 'two.yaml'),
        line: 7,
        path: 'hosts.app.connection.address',
        message: 'is the machine of host "app" of system "one" (10.0.0.5 port 22); two systems never share a machine',
      },
    ]);
    expect(shared('one')).toMatchObject([{ file: path.join(where.systemsDirectory, 'one.yaml') }]);
    expect(shared('three')).toEqual([]);
    expect(() => loadSystem('two', where)).toThrow(/two systems never share a machine/);
    expect(loadSystem('three', where).system.system).toBe('three');
  });

  test('a private address behind two jump hosts is two machines', () => {
    const behind = (name: string) =>
      smallSystem(name)
        .replace('{ unset: its address }', '10.0.0.5\n      jump: gate')
        .replace(
          'hosts:\n',
          `hosts:\n  gate:\n    connection: { address: gate.${name}.org, user: u, identity: file:k, hostKeys: ['ssh-ed25519 AAAA'] }\n`,
        );
    const where = inventory({ 'one.yaml': behind('one'), 'two.yaml': behind('two') });
    expect(checkSystems(where).filter(({ severity }) => severity === 'error')).toEqual([]);
  });

  test('files that would be passed over are reported', () => {
    const where = inventory(
      { 'shop.yaml': smallSystem('shop'), 'shop2.yml': 'x', 'README.md': 'x' },
      { 'shopp.yaml': 'x' },
    );
    expect(
      checkSystems(where)
        .filter(({ severity }) => severity === 'error')
        .map(({ file, message }) => [path.basename(file), message]),
    ).toEqual([
      ['shopp.yaml', 'lies over no system; did you mean shop.yaml?'],
      ['shop2.yml', 'is not read; rename it to shop2.yaml'],
    ]);
  });

  test('a directory that is not there is an error, not an empty inventory', () => {
    const where = inventory({ 'shop.yaml': smallSystem('shop') });
    expect(() => checkSystems({ ...where, systemsDirectory: '/nowhere' })).toThrow(
      /no directory \/nowhere\. Set GUARDIA_SYSTEMS/,
    );
    expect(() => checkSystems({ ...where, overlayDirectory: '/nowhere' })).toThrow(
      /no directory \/nowhere\. Set GUARDIA_OVERLAY/,
    );
  });
});
