import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { examineSecrets, examineWorkerMachine } from '../../../activities/doctor/worker-examination.js';
import { loadSystem } from '../../../activities/inventory/load.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import type { System } from '../../../workflows/contracts/system.js';
import { smallSystem } from '../../workflows/small-system.js';

describe('this machine', () => {
  let directory: string;
  let system: System;
  let own: string;
  let other: string;

  beforeAll(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'guardia-doctor-'));
    for (const name of ['systems', 'secrets/ssh', 'secrets/s3', 'secrets/age'])
      mkdirSync(path.join(directory, name), { recursive: true });
    const secret = (name: string, value: string): void =>
      writeFileSync(path.join(directory, 'secrets', name), `${value}\n`, { mode: 0o600 });
    const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    own = /age1\w+/.exec(identity)?.[0] ?? '';
    other =
      /age1\w+/.exec(execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))?.[0] ?? '';
    secret('ssh/id', 'a key');
    secret('s3/worker', 'a secret');
    secret('age/identity', identity);
    writeFileSync(path.join(directory, 'systems/small.yaml'), smallSystem('small'));
    ({ system } = loadSystem('small', { systemsDirectory: path.join(directory, 'systems') }));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const secrets = (environment: Record<string, string> = { WORKER_ID: 'id' }) =>
    createSecrets({ directory: path.join(directory, 'secrets'), environment });
  const withRecipients = (recipients: string[]): System => ({ ...system, backup: { ...system.backup, recipients } });

  test('has its tools and a state directory, which is not made by looking', async () => {
    const stateDirectory = path.join(directory, 'not/yet/there');
    const { findings } = await examineWorkerMachine({ systems: [system], stateDirectory });
    const state = Object.fromEntries(findings.map((finding) => [finding.id, finding.state]));
    expect(state).toMatchObject({
      node: 'ok',
      'state-directory': 'ok',
      'tool-bash': 'ok',
      'tool-openssl': 'ok',
      'tool-tar': 'ok',
    });
    expect(() => execFileSync('ls', [stateDirectory], { stdio: 'ignore' })).toThrow();
  });

  test('a database that is newer than every pg_restore here is missed', async () => {
    const newer: System = {
      ...system,
      databases: {
        main: {
          engine: 'postgresql',
          on: 'db',
          name: 'x',
          version: 99,
          port: 5432,
          access: { kind: 'peer', osUser: 'postgres' },
          expect: { tables: [], minimumBytes: 0 },
        },
      },
    };
    const { findings, install } = await examineWorkerMachine({ systems: [newer], stateDirectory: directory });
    expect(findings.find(({ id }) => id === 'pg-restore-99')).toMatchObject({
      state: 'missing',
      packages: ['postgresql-client-99'],
    });
    expect(install).toContain('apt-get install -y postgresql-client-99');
  });

  test('secrets that can be read are counted; the identity has to be a recipient', async () => {
    const good = await examineSecrets(withRecipients([other, own]), secrets());
    expect(good).toMatchObject([
      { id: 'secrets', state: 'ok', found: '4 of 4 can be read' },
      { id: 'age-identity', state: 'ok' },
    ]);
    const bad = await examineSecrets(withRecipients([other, other]), secrets());
    expect(bad.at(-1)).toMatchObject({
      id: 'age-identity',
      state: 'missing',
      found: expect.stringContaining(own) as unknown,
    });
  });

  test('a secret that cannot be read is named by its place, with the remedy, never with a value', async () => {
    const findings = await examineSecrets(withRecipients([own, other]), secrets({}));
    expect(findings[0]).toMatchObject({
      id: 'secret-objectStore.keys.worker.accessKeyId',
      state: 'missing',
      remedy: expect.stringContaining('WORKER_ID') as unknown,
    });
    expect(JSON.stringify(findings)).not.toContain('AGE-SECRET-KEY');
  });

  test('so are those of notices, the mail server and the heartbeat', async () => {
    const reference = (name: string) => `env:NOT_SET_${name}`;
    const base = { tier: 1 };
    const findings = await examineSecrets(
      {
        ...withRecipients([own, other]),
        notifications: {
          ops: { ...base, kind: 'slack', channel: '#ops', webhook: reference('SLACK') },
          log: { ...base, kind: 'webhook', url: reference('URL'), signingSecret: reference('SIGNING') },
          ana: { ...base, kind: 'email', to: 'ana@example.org' },
        },
        mail: { host: 'mail', security: 'tls', user: 'a', password: reference('MAIL'), from: 'a@example.org' },
        watcher: { ...withRecipients([own, other]).watcher, heartbeat: reference('HEARTBEAT') },
      },
      secrets(),
    );
    expect(findings.map(({ id }) => id)).toEqual([
      'secret-notifications.ops.webhook',
      'secret-notifications.log.url',
      'secret-notifications.log.signingSecret',
      'secret-mail.password',
      'secret-watcher.heartbeat',
      'secrets',
      'age-identity',
    ]);
  });
});
