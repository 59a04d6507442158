import { describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { jsonSchemaOfSystem } from '../../activities/inventory/json-schema.js';
import { checkSystems, listSystems, loadSystem } from '../../activities/inventory/load.js';
import { problemLine } from '../../activities/inventory/problems.js';
import { refuseUnset, unsetNeeded } from '../../workflows/contracts/unset.js';

const systemsDirectory = path.resolve('infra/systems');
const shipped = { systemsDirectory, overlayDirectory: undefined };
const names = ['certitrack', 'ferreteria', 'heartguard', 'proofpass', 'proofpass-cloud'];

describe('the shipped inventory', () => {
  test('is the five systems of the manuals', () => {
    expect(listSystems(shipped)).toEqual(names);
  });

  test('has no mistake', () => {
    const mistakes = checkSystems(shipped).filter(({ severity }) => severity === 'error');
    expect(mistakes.map(problemLine)).toEqual([]);
  });

  test.each(names)('%s loads, with the same digest every time', (name) => {
    const first = loadSystem(name, shipped);
    expect(first.system.system).toBe(name);
    expect(first.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(loadSystem(name, shipped).digest).toBe(first.digest);
  });

  test('proofpass leaves open exactly what its manual leaves open', () => {
    const { system } = loadSystem('proofpass', shipped);
    expect(unsetNeeded(system).map(({ path: at }) => at)).toEqual([
      'hosts.app.connection.address',
      'hosts.app.connection.identity',
      'hosts.app.connection.hostKeys',
      'deployments.platform.source.url',
      'deployments.platform.smoke.login.json.email',
      'deployments.platform.smoke.login.json.password.secret',
      'endpoints.api.url',
      'endpoints.platform.url',
      'flows.postgresql.from',
      'secrets.stellar-issuer-secret.from',
      'secrets.stellar-distribution-secret.from',
      'secrets.smtp-password.from',
      'provision.values.smtp-host',
      'provision.values.smtp-user',
      'provision.values.alerts-to', // nobody in the manual gets them
      'objectStore.endpoint',
      'objectStore.bucket',
      'objectStore.keys.worker.accessKeyId',
      'objectStore.keys.worker.secretAccessKey',
      'objectStore.keys.hosts.app.accessKeyId',
      'objectStore.keys.hosts.app.secretAccessKey',
      'backup.recipients',
      'backup.identity',
      'approvers.support.email',
      'approvers.support.signingKey',
      'approvers.devops.email',
      'approvers.devops.signingKey',
      'approvers.engineering.email',
      'approvers.engineering.signingKey',
      'notifications.slack.webhook',
      'notifications.support.to',
      'notifications.devops.to',
      'notifications.engineering.to',
      'mail.host',
      'mail.from',
    ]);
  });

  test('who has to agree to what; an overlay may say otherwise', () => {
    const { approvals } = loadSystem('proofpass', shipped).system;
    expect(Object.keys(approvals)).toEqual(['deploy', 'adopt', 'provision-host']);
    expect(approvals.deploy).toMatchObject({ approvals: 1, signed: false, timeoutMinutes: 480, onTimeout: 'reject' });
    expect(loadSystem('ferreteria', shipped).system.approvals.restore).toMatchObject({ typedSystemName: true });
    const overlayDirectory = mkdtempSync(path.join(tmpdir(), 'guardia-overlay-'));
    try {
      const overlay = { approvals: { deploy: { signed: true }, adopt: 'none', rollback: { approvals: 2 } } };
      writeFileSync(path.join(overlayDirectory, 'proofpass.yaml'), JSON.stringify(overlay));
      const { system } = loadSystem('proofpass', { ...shipped, overlayDirectory });
      expect(system.approvals).toMatchObject({
        deploy: { approvals: 1, signed: true, timeoutMinutes: 480 },
        adopt: 'none',
        rollback: { approvals: 2 },
      });
    } finally {
      rmSync(overlayDirectory, { recursive: true });
    }
  });

  test('proofpass says what backup does', () => {
    const { system } = loadSystem('proofpass', shipped);
    expect(system.databases.main).toMatchObject({
      engine: 'postgresql',
      on: 'database',
      name: 'proofpass_prod',
      version: 15,
      access: { kind: 'peer', osUser: 'postgres' },
      expect: { tables: ['public.users'] },
    });
    expect(system.backup.configuration.app?.paths).toEqual([
      '/opt/proofpass/*/.env',
      '/etc/nginx/sites-available/proofpass',
      '/etc/systemd/system/proofpass-*.service',
    ]);
    expect(system.backup.retention).toMatchObject({
      database: { localDays: 30, remoteDays: 90 },
      configuration: { localDays: 30, remoteDays: 90 },
      openbao: { localDays: 90, remoteDays: 90 },
    });
    expect(system.schedules['backup-daily']).toMatchObject({ runbook: 'backup', cron: '0 2 * * *' });
    expect(system.escalation.map(({ tier, afterMinutes }) => [tier, afterMinutes])).toEqual([
      [1, 0],
      [2, 30],
      [3, 60],
    ]);
  });

  test('a backup of proofpass as it is shipped is refused in one sentence that names everything', () => {
    const { system } = loadSystem('proofpass', shipped);
    const needed = ['hosts.*.connection', 'objectStore', 'backup.recipients', 'backup.identity'];
    expect(() => refuseUnset(system, needed, 'backup')).toThrow(
      /^backup needs 11 values of system proofpass not filled in yet: hosts\.app\.connection\.address \(.*objectStore\.bucket \(the bucket: s3:\/\/tu-bucket \(L993\)\);.*backup\.identity \(.*\. Fill them in in proofpass\.yaml/s,
    );
    expect(() => refuseUnset(system, ['databases', 'backup.configuration'], 'backup')).not.toThrow();
  });

  test('an overlay can fill in everything that proofpass leaves open', () => {
    const key = { accessKeyId: 'env:KEY_ID', secretAccessKey: 'file:s3/secret' };
    const approver = (who: string) => ({ email: `${who}@example.org`, signingKey: `ssh-ed25519 AAAA${who}` });
    const overlay = {
      hosts: { app: { connection: { address: '10.77.0.2', identity: 'file:ssh/id', hostKeys: ['ssh-ed25519 AAAA'] } } },
      deployments: {
        platform: {
          source: { url: 'https://git.example.org/platform.git' },
          smoke: { login: { json: { email: 'smoke@example.org', password: { secret: 'file:smoke' } } } },
        },
      },
      endpoints: {
        api: { url: 'https://api.example.org/health' },
        platform: { url: 'https://platform.example.org/health' },
      },
      flows: { postgresql: { from: '10.77.0.0/24' } },
      secrets: Object.fromEntries(
        ['stellar-issuer-secret', 'stellar-distribution-secret', 'smtp-password'].map((name) => [
          name,
          { from: `file:issued/${name}` },
        ]),
      ),
      provision: {
        values: { 'smtp-host': 'smtp.example.org', 'smtp-user': 'a@example.org', 'alerts-to': 'b@example.org' },
      },
      objectStore: {
        provider: 'versitygw',
        endpoint: 'http://10.77.0.1:7070',
        bucket: 'backups',
        keys: { worker: key, hosts: { app: key } },
      },
      backup: { recipients: [`age1${'q'.repeat(58)}`, `age1${'p'.repeat(58)}`], identity: 'file:age/identity' },
      approvers: { support: approver('ana'), devops: approver('ben'), engineering: approver('eva') },
      notifications: {
        slack: { webhook: 'file:slack/webhook' },
        support: { to: 'a@example.org' },
        devops: { to: 'a@example.org' },
        engineering: { to: 'a@example.org' },
      },
      mail: { host: 'mail.example.org', from: 'a@example.org', user: 'guardia', password: 'file:mail/password' },
      watcher: { heartbeat: 'file:watcher/heartbeat' },
    };
    const overlayDirectory = mkdtempSync(path.join(tmpdir(), 'guardia-overlay-'));
    try {
      writeFileSync(path.join(overlayDirectory, 'proofpass.yaml'), stringify(overlay));
      const { system, digest } = loadSystem('proofpass', { systemsDirectory, overlayDirectory });
      expect(unsetNeeded(system)).toEqual([]);
      expect(system.objectStore).toMatchObject({ provider: 'versitygw', bucket: 'backups', region: 'us-east-1' });
      expect(system.hosts.app?.connection).toMatchObject({ address: '10.77.0.2', port: 22, user: 'guardia' });
      expect(digest).not.toBe(loadSystem('proofpass', shipped).digest);
    } finally {
      rmSync(overlayDirectory, { recursive: true });
    }
  });

  test('the JSON Schema for editors is up to date', () => {
    const written: unknown = JSON.parse(readFileSync(path.join(systemsDirectory, 'system.schema.json'), 'utf8'));
    // Renew it as infra/systems/README.md says when this fails.
    expect(written).toEqual(JSON.parse(JSON.stringify(jsonSchemaOfSystem())));
  });

  test.each(names)('%s.yaml names its schema, holds no secret and no address of somebody', (name) => {
    const text = readFileSync(path.join(systemsDirectory, `${name}.yaml`), 'utf8');
    expect(text.split('\n')[0]).toBe('# yaml-language-server: $schema=./system.schema.json');
    expect(text.match(/[0-9a-f]{24,}|[A-Za-z0-9+]{32,}|BEGIN [A-Z ]*PRIVATE KEY/g) ?? []).toEqual([]);
    expect(
      (text.match(/\d+\.\d+\.\d+\.\d+(\/\d+)?/g) ?? []).filter(
        (address) => !['127.0.0.1', '10.0.0.0/8', '172.16.0.0/12'].includes(address),
      ),
    ).toEqual([]);
  });

  test('every field of the schema that an operator fills in is described', () => {
    const bare: string[] = [];
    type Node = {
      description?: string;
      properties?: Record<string, Node>;
      anyOf?: Node[];
      oneOf?: Node[];
      items?: Node;
      additionalProperties?: Node | boolean;
      const?: unknown;
    };
    const walk = (node: Node, at: string): void => {
      for (const [key, field] of Object.entries(node.properties ?? {})) {
        const told =
          field.description ??
          field.const ??
          [...(field.anyOf ?? []), ...(field.oneOf ?? [])].find(({ description }) => description)?.description;
        if (told === undefined) bare.push(`${at}.${key}`);
        walk(field, `${at}.${key}`);
      }
      for (const branch of [...(node.anyOf ?? []), ...(node.oneOf ?? [])]) walk(branch, at);
      if (node.items) walk(node.items, `${at}[]`);
      if (typeof node.additionalProperties === 'object') walk(node.additionalProperties, `${at}.*`);
    };
    walk(jsonSchemaOfSystem(), '');
    expect(bare).toEqual([]);
  });

  test('holds nothing but systems, their sources, their schema and the page about them', () => {
    const others = readdirSync(systemsDirectory).filter((file) => !file.endsWith('.yaml') && !names.includes(file));
    expect(others).toEqual(['README.md', 'system.schema.json']);
  });

  test('every source of a system is named in it, and the other way round', () => {
    for (const name of names.filter((one) => existsSync(path.join(systemsDirectory, one)))) {
      const text = readFileSync(path.join(systemsDirectory, `${name}.yaml`), 'utf8');
      const there = readdirSync(path.join(systemsDirectory, name), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.relative(systemsDirectory, path.join(entry.parentPath, entry.name)));
      const named = [...text.matchAll(/\b(?:source|until): ([\w-]+\/[\w./-]+)/g)].map(([, source]) => source);
      expect([...new Set(named)].sort()).toEqual(there.sort());
    }
  });
});
