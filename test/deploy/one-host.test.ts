import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { recoverUpdate } from '../../workflows/contracts/hold.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, until, type BackupLab, type Ended } from '../backup/harness.js';
import { onFullDisk } from './full-disk.js';
import { shorten } from './scaled-lab.js';
import { arrive, downtimeSeconds, failed, startTraffic, type Site, type Visitor } from './traffic.js';

jest.setTimeout(600_000);

/** What an observer who is not guardia sees: releases, link, units, schema, uploads. */
const OBSERVED = `
  cd /opt/proofpass; readlink platform; ls -A releases | grep -v '^.mirror'; systemctl is-active proofpass-api proofpass-platform
  curl -s http://127.0.0.1:4000/version; echo
  cd shared; find . -printf '%p %y %m %u:%g\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum
  cd /; runuser -u postgres -- pg_dump --schema-only proofpass_prod | grep -v restrict
  runuser -u postgres -- psql -XAtq -d proofpass_prod -c 'select name from schema_migrations order by 1'`;

/** A second deployment: an archive instead of a repository, and a compose service instead of units. */
const TOOLS = `deployments:
  tools:
    on: monitoring
    directory: /opt/tools/current
    releases: /opt/tools/releases
    user: proofpass
    source: { kind: archive }
    neededMegabytes: 1
    migrations: { kind: none }
    services: [grafana]
    bake: { minutes: 0 }
  `;

/** On the host that the manual sets up by hand, once `adopt` has taken it over. The versions are in infra/lab/fixtures/proofpass/application. */
describe('on one host, with requests flowing', () => {
  let here: BackupLab;
  let site: Site;
  let visitor: Visitor;
  const report = ({ report: found }: Ended): RunReport => found as RunReport;
  const version = async () =>
    (JSON.parse(await here.shell('curl -sf http://127.0.0.1:4000/version')) as { version: string }).version;
  const applied = () => here.sql(`select string_agg(name, ' ' order by name) from schema_migrations`);
  const traffic = () => startTraffic({ ...site, path: '/health', everyMs: 200 });
  const answering = () =>
    until(
      'the API answers',
      async () =>
        (await here.shell(`curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:4000/health; true`)) === '200',
    );
  /** Puts an archive with one file into the bucket, as a build server would. Returns its SHA-256. */
  const archive = async (name: string): Promise<string> => {
    const at = mkdtempSync(path.join(tmpdir(), 'guardia-archive-'));
    try {
      writeFileSync(path.join(at, 'name'), `${name}\n`);
      const { stdout } = await execa('tar', ['--zstd', '-c', '-C', at, 'name'], {
        encoding: 'buffer',
        stripFinalNewline: false, // the last byte may be one
      });
      const digest = createHash('sha256').update(stdout).digest('hex');
      await here.s3.send(
        new PutObjectCommand({ Bucket: here.lab.s3.bucket, Key: `proofpass/releases/${digest}.tar.zst`, Body: stdout }),
      );
      return digest;
    } finally {
      rmSync(at, { recursive: true });
    }
  };
  const deploy = (ref: string, more: Record<string, unknown> = {}) => here.run({ ref, ...more }, 'deploy');

  beforeAll(async () => {
    here = await startBackupLab({
      hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }],
    });
    shorten(here);
    const { end, message } = await here.run({}, 'adopt');
    if (end !== 'succeeded') throw new Error(`adopt: ${end}: ${message}`);
    site = { address: here.lab.hosts['app']?.address ?? '', name: 'api.proofpass.test', ca: here.lab.ca };
    visitor = await arrive(here, site, ['app']);
  }, 900_000);
  afterAll(() => here?.down());
  afterEach(async () => expect([await visitor.isLoggedIn(), await visitor.hasUploads()]).toEqual([true, true]));

  test('v1 to v2: migrated, switched, within the downtime that the plan states', async () => {
    const before = (await here.points()).length;
    const flowing = traffic();
    const done = await deploy('v2');
    const answers = await flowing.stop();
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(await version()).toBe('2.0.0');
    expect(await applied()).toBe('001_initial 002_verification_code');
    const stated = report(done).plan?.downtime[0]?.seconds ?? 0;
    expect(downtimeSeconds(answers)).toBeLessThan(stated);
    // Everything as it was before, and the configuration as it is now.
    const points = (await here.points()).map(({ manifest }) => manifest.artifacts.map(({ kind }) => kind));
    expect(points).toHaveLength(before + 2);
    expect(new Set(points[0])).toEqual(new Set(['configuration']));
    expect(points[1]).toContain('database');
    process.stderr.write(
      `v1 to v2: ${answers.length} requests, ${failed(answers).length} failed, downtime ${downtimeSeconds(answers)} s of ${stated} s\n`,
    );
  });

  test('the same again: nothing to do', async () => {
    expect(await deploy('v2')).toMatchObject({ end: 'nothing to do' });
    expect(await deploy('main')).toMatchObject({ end: 'nothing to do' });
  });

  test.each<[string, RegExp]>([
    ['v3-broken-build', /step "build .*npm run build` ended with code 1/],
    [
      'v3-bad-migration',
      /step "apply 003_archive to proofpass_prod" on app failed: .*run-migration\.js` ended with code 1/,
    ],
    ['v3-bad-health', /step "wait until api and platform are healthy on app" on app failed/],
  ])('%s: back on v2 by itself, as if nothing had been', async (ref, message) => {
    here.changeInventory('patienceSeconds: 60', 'patienceSeconds: 8');
    try {
      const before = await here.shell(OBSERVED);
      const flowing = traffic();
      const ended = await deploy(ref);
      const answers = await flowing.stop();
      expect(`${ended.end}: ${ended.message}`).toMatch(/^rolled back: /);
      expect(ended.message).toMatch(message);
      expect(await here.shell(OBSERVED)).toBe(before);
      // What fails before the switch is not seen from outside at all.
      if (ref !== 'v3-bad-health') expect(failed(answers)).toEqual([]);
      expect(new Set(answers.slice(-3).map((answer) => `${answer.status} ${answer.version}`))).toEqual(
        new Set(['200 2.0.0']),
      );
    } finally {
      here.restoreInventory();
      shorten(here);
    }
  });

  test('a disk that fills up in the middle of the build: back, and nobody noticed', async () => {
    here.changeInventory('keep: 5', 'keep: 5\n    neededMegabytes: 1');
    try {
      await onFullDisk(here, 'app', async () => {
        const before = await here.shell(OBSERVED);
        const flowing = traffic();
        const ended = await deploy('v4-irreversible');
        expect(failed(await flowing.stop())).toEqual([]);
        expect(`${ended.end}: ${ended.message}`).toMatch(/^rolled back: .*no space left in \/opt\/proofpass\/releases/);
        expect(await here.shell(OBSERVED)).toBe(before);
      });
    } finally {
      here.restoreInventory();
      shorten(here);
    }
  });

  test('the host loses its power while it builds: back on v2 once it has booted', async () => {
    await answering();
    const before = await here.shell(OBSERVED);
    const handle = await here.start({ ref: 'v4-irreversible' }, 'deploy');
    await here.untilStep(handle, 'build-app', 'running');
    await here.shell(`until compgen -G '/var/lib/guardia/jobs/*-build-app-*/started'; do sleep 0.1; done`);
    await here.lab.poweroff('app');
    await here.lab.poweron('app');
    const ended = await here.ended(handle);
    expect(`${ended.end}: ${ended.message}`).toMatch(/^rolled back: .*(vanished|lost|went down)/);
    await answering();
    expect(await here.shell(OBSERVED)).toBe(before);
  });

  test('rollback, later: v1 from the record of the deploy, and its migration is taken back', async () => {
    const flowing = traffic();
    const ended = await here.run({}, 'rollback');
    const answers = await flowing.stop();
    expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
    expect(await version()).toBe('1.0.0');
    expect(await applied()).toBe('001_initial');
    const stated = report(ended).plan?.downtime[0]?.seconds ?? 0;
    expect(downtimeSeconds(answers)).toBeLessThan(stated);
    expect(await here.run({}, 'rollback')).toMatchObject({ end: 'nothing to do' });
  });

  test('restart-service restarts, and sees that it is healthy again', async () => {
    const id = () => here.shell('systemctl show --value --property=InvocationID proofpass-platform');
    const before = await id();
    const ended = await here.run({ service: 'platform' }, 'restart-service');
    expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
    expect(await id()).not.toBe(before);
  });

  test.each<[string, string, string]>([
    ['a compose service', 'prometheus', 'prometheus'],
    ['a container', 'alerts', 'alertmanager'],
  ])('restart-service restarts %s too', async (_, service, container) => {
    here.changeInventory(
      'services:\n',
      'services:\n  alerts: { kind: container, on: monitoring, container: alertmanager }\n',
    );
    const started = () => here.shell(`docker inspect --format '{{.Id}} {{.State.StartedAt}}' ${container}`);
    try {
      const [id, at] = (await started()).split(' ');
      const ended = await here.run({ service }, 'restart-service');
      expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
      const [idNow, atNow] = (await started()).split(' ');
      expect(idNow).toBe(id);
      expect(atNow).not.toBe(at);
    } finally {
      here.restoreInventory();
      shorten(here);
    }
  });

  test.each([
    ['postgresql', 'postgresql@15-main'],
    ['nginx', 'nginx'],
  ])('restart-service of %s waits until what needs it works again, seen from outside', async (service, unit) => {
    const id = () => here.shell(`systemctl show --value --property=InvocationID ${unit}`);
    const before = await id();
    const ended = await here.run({ service }, 'restart-service');
    expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
    expect(await id()).not.toBe(before);
    expect(report(ended).plan?.downtime.map((one) => one.service)).toEqual(expect.arrayContaining(['api', 'platform']));
    await answering();
  });

  test('restart-service of OpenBao holds until somebody has unsealed it: it never ends as if all were as before', async () => {
    const handle = await here.start({ service: 'openbao' }, 'restart-service');
    await until('the run holds', async () => (await here.status(handle)).holds.length > 0, { seconds: 120 });
    expect((await here.status(handle)).holds).toMatchObject([
      {
        kind: 'point of no return',
        title: 'wait until openbao is unsealed and healthy on app',
        reason: expect.stringContaining('Unseal it with the shares of its holders'),
      },
    ]);
    await here.lab.openbao('app'); // unseals it, as the holders of the shares would
    await handle.executeUpdate(recoverUpdate, { args: [{ decision: 'retry', reason: 'it is unsealed' }] });
    const ended = await here.ended(handle);
    expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
    await answering();
  });

  test('an archive out of the bucket is deployed by its digest, to a service that compose runs; and back', async () => {
    here.changeInventory('deployments: #', `${TOOLS}#`);
    await here.shell('install -d -o proofpass -g proofpass /opt/tools /opt/tools/releases');
    const current = () =>
      here.shell('cat /opt/tools/current/name; docker inspect --format "{{.State.StartedAt}}" grafana');
    try {
      const [first, second] = [await archive('first'), await archive('second')];
      const refused = await here.run({ deployment: 'tools', ref: '0'.repeat(64) }, 'deploy');
      expect(refused.message).toMatch(/has no proofpass\/releases\/0+\.tar\.zst/);
      for (const ref of [first, second]) {
        const done = await here.run({ deployment: 'tools', ref }, 'deploy');
        expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
      }
      expect(await here.run({ deployment: 'tools', ref: second }, 'deploy')).toMatchObject({ end: 'nothing to do' });
      const before = await current();
      expect(before).toMatch(/^second\n/);
      const back = await here.run({ deployment: 'tools' }, 'rollback');
      expect(`${back.end}: ${back.message}`).toMatch(/^succeeded:/);
      expect(await current()).toMatch(/^first\n/);
      expect(await current()).not.toContain(before.split('\n')[1]);
    } finally {
      here.restoreInventory();
      shorten(here);
    }
  });

  test('an irreversible migration that works is a deploy as any other; its rollback names the rows at stake', async () => {
    const done = await deploy('v4-irreversible');
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(report(done).plan?.pointOfNoReturn).toBe('migrate');
    await here.sql(`insert into attestations (id, organization_id, issuer_id, kind, status, subject, claims, content_hash, issued_at)
      select gen_random_uuid(), organization_id, issuer_id, kind, status, subject, claims, content_hash, now() from attestations limit 3`);
    await here.sql('update attestations set subject = subject where id in (select id from attestations limit 2)');
    const refused = await here.run({}, 'rollback');
    expect(refused.message).toMatch(
      /004_drop_revoked_reason cannot be taken back in proofpass\. At stake: public\.attestations: 3 rows written and about 2 updated or deleted since/,
    );
    expect(await version()).toBe('4.0.0');
  });
});
