import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, until, type BackupLab, type Ended } from '../backup/harness.js';
import { downtimeSeconds, failed, startTraffic } from './traffic.js';

jest.setTimeout(600_000);

/** What an observer who is not guardia sees: releases, link, units, schema, uploads. */
const OBSERVED = `
  cd /opt/proofpass; readlink platform; ls -A releases | grep -v '^.mirror'; systemctl is-active proofpass-api proofpass-platform
  curl -s http://127.0.0.1:4000/version; echo
  cd shared; find . -printf '%p %y %m %u:%g\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum
  cd /; runuser -u postgres -- pg_dump --schema-only proofpass_prod | grep -v restrict
  runuser -u postgres -- psql -XAtq -d proofpass_prod -c 'select name from schema_migrations order by 1'`;

/** The plain checkout of the fixture as a release, with its data beside it: what `adopt` makes of it, in short. */
const AS_RELEASES = `set -e
  cd /opt/proofpass; systemctl stop proofpass-platform proofpass-api
  install -d -o proofpass -g proofpass releases shared
  mv platform/.env platform/storage shared/
  commit=$(runuser -u proofpass -- git -C platform rev-parse HEAD)
  mv platform releases/20260101T000000Z-adopted; ln -s /opt/proofpass/releases/20260101T000000Z-adopted platform
  ln -s /opt/proofpass/shared/.env platform/.env; ln -s /opt/proofpass/shared/storage platform/storage
  printf '{"commit": "%s"}' "$commit" >platform/.guardia-release.json
  for unit in api platform; do
    install -d /etc/systemd/system/proofpass-$unit.service.d
    printf '[Service]\nReadWritePaths=/opt/proofpass/shared\n' >/etc/systemd/system/proofpass-$unit.service.d/data.conf
  done
  systemctl daemon-reload; systemctl start proofpass-api proofpass-platform
  timeout 30 bash -c 'until curl -sf http://127.0.0.1:3000/health; do sleep 0.2; done'`;

/** On the host that the manual sets up, once it is adopted. The versions are in infra/lab/fixtures/proofpass/application. */
describe('on one host, with requests flowing', () => {
  let here: BackupLab;
  const report = ({ report: found }: Ended): RunReport => found as RunReport;
  const version = async () =>
    (JSON.parse(await here.shell('curl -sf http://127.0.0.1:4000/version')) as { version: string }).version;
  const applied = () => here.sql(`select string_agg(name, ' ' order by name) from schema_migrations`);
  const traffic = () =>
    startTraffic({
      address: here.lab.hosts['app']?.address ?? '',
      name: 'api.proofpass.test',
      path: '/health',
      ca: here.lab.ca,
      everyMs: 200,
    });
  const answering = () =>
    until(
      'the API answers',
      async () =>
        (await here.shell(`curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:4000/health; true`)) === '200',
    );
  const deploy = (ref: string, more: Record<string, unknown> = {}) => here.run({ ref, ...more }, 'deploy');

  beforeAll(async () => {
    here = await startBackupLab({
      hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }],
    });
    here.changeInventory('bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }');
    await here.shell(AS_RELEASES);
  }, 900_000);
  afterAll(() => here?.down());

  test('v1 to v2: migrated, switched, within the downtime that the plan states; no upload is lost', async () => {
    const uploads = await here.shell('cd /opt/proofpass/shared/storage/uploads; sha256sum * | sort');
    const flowing = traffic();
    const done = await deploy('v2');
    const answers = await flowing.stop();
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(await version()).toBe('2.0.0');
    expect(await applied()).toBe('001_initial 002_verification_code');
    expect(await here.shell('cd /opt/proofpass/shared/storage/uploads; sha256sum * | sort')).toBe(uploads);
    const stated = report(done).plan?.downtime[0]?.seconds ?? 0;
    expect(downtimeSeconds(answers)).toBeLessThan(stated);
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
      here.changeInventory('bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }');
    }
  });

  test('a disk that fills up in the middle of the build: back, and nobody noticed', async () => {
    here.changeInventory('keep: 5', 'keep: 5\n    neededMegabytes: 1');
    await here.shell(`cd /opt/proofpass; size=$(du -sk releases | cut -f1); mkdir /tmp/aside; mv releases/* releases/.mirror.git /tmp/aside
      mount -t tmpfs -o size=$((size + 3000))k,mode=755 tmpfs releases; chown proofpass: releases; cp -a /tmp/aside/. releases/`);
    try {
      const before = await here.shell(OBSERVED);
      const flowing = traffic();
      const ended = await deploy('v4-irreversible');
      expect(failed(await flowing.stop())).toEqual([]);
      expect(`${ended.end}: ${ended.message}`).toMatch(/^rolled back: .*no space left in \/opt\/proofpass\/releases/);
      expect(await here.shell(OBSERVED)).toBe(before);
    } finally {
      await here.shell(
        'cd /opt/proofpass; umount -l releases; mv /tmp/aside/* /tmp/aside/.mirror.git releases/; rmdir /tmp/aside; systemctl restart proofpass-api proofpass-platform',
      );
      here.restoreInventory();
      here.changeInventory('bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }');
    }
  });

  test('the host loses its power while it builds: back on v2 once it has booted', async () => {
    await answering();
    const before = await here.shell(OBSERVED);
    const handle = await here.start({ ref: 'v4-irreversible' }, 'deploy');
    await here.untilStep(handle, 'build-app', 'running');
    await here.shell(`until systemctl is-active --quiet 'guardia-job-*-build-app-*'; do sleep 0.1; done`);
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

  test('an irreversible migration that works is a deploy as any other; its rollback names the rows at stake', async () => {
    const done = await deploy('v4-irreversible');
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(report(done).plan?.pointOfNoReturn).toBe('migrate');
    await here.sql(`insert into attestations (id, organization_id, issuer_id, kind, status, subject, claims, content_hash, issued_at)
      select gen_random_uuid(), organization_id, issuer_id, kind, status, subject, claims, content_hash, now() from attestations limit 3`);
    const refused = await here.run({}, 'rollback');
    expect(refused.message).toMatch(
      /004_drop_revoked_reason cannot be taken back in proofpass\. At stake: public\.attestations: 3 rows written since/,
    );
    expect(await version()).toBe('4.0.0');
  });
});
