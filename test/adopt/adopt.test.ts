import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, type BackupLab, type Ended } from '../backup/harness.js';

jest.setTimeout(900_000);

/** What an observer who is not guardia sees: every file of the application, who owns it, where links lead, the crontab, the units. */
const OBSERVED = `
  cd /opt/proofpass; find . -path ./openbao -prune -o -name node_modules -prune -o -printf '%p %y %m %u:%g %l\\n' | sort
  find . -path ./openbao -prune -o -name node_modules -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
  sha256sum /var/spool/cron/crontabs/root; stat -c '%a %U:%G' /var/spool/cron/crontabs/root
  find /etc/systemd/system -printf '%p %y %m %l\\n' | sort
  systemctl is-enabled proofpass-api proofpass-platform; systemctl is-active proofpass-api proofpass-platform
  docker volume ls -q | sort; docker ps --format '{{.Names}} {{.State}}' | sort`;

describe('a host that was set up by hand', () => {
  let here: BackupLab;
  let before: string;

  beforeAll(async () => {
    here = await startBackupLab({
      hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }],
    });
    // What a person keeps in a crontab beside what the manual put there.
    await here.shell(
      `{ crontab -l; printf '0 3 1 */3 * /opt/proofpass/scripts/rotate-jwt.sh\\n# mine: backup-db.sh\\nMAILTO=ops@proofpass.test\\n30 5 * * 0 /usr/local/bin/mine "%%H"'; echo; } | crontab -`,
    );
    // A drop-in of somebody else, as `systemctl edit` writes it.
    await here.shell(
      `mkdir ${dropins('api')}; printf '[Service]\\nNice=1\\n' >${dropins('api')}/override.conf; systemctl daemon-reload; systemctl restart proofpass-api`,
    );
    before = await here.shell(OBSERVED);
  });
  afterAll(() => here?.down());

  const dropins = (service: string) => `/etc/systemd/system/proofpass-${service}.service.d`;
  const adopt = (input: Record<string, unknown> = {}) => here.run(input, 'adopt');
  const report = (ended: Ended): RunReport => ended.report as RunReport;
  const health = () =>
    here.shell('for port in 4000 3000; do curl -s -o /dev/null -w "%{http_code} " http://127.0.0.1:$port/health; done');
  /** Uploads as a user, and says what the application answers. */
  const upload = async (text: string): Promise<string> => {
    const password = readFileSync(path.join(here.lab.secretsDirectory, 'proofpass/admin-password'), 'utf8').trim();
    return here.shell(`
      token=$(curl -sf -d '{"email":"admin@proofpass.test","password":"${password}"}' http://127.0.0.1:4000/auth/login | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
      curl -s -w ' %{http_code}' -H "Authorization: Bearer $token" --data-binary '${text}' http://127.0.0.1:4000/uploads`);
  };

  test('is refused while something beside the code is in no later release, though git is told to ignore it', async () => {
    const at = '/opt/proofpass/platform';
    await here.shell(
      `cd ${at}; echo uploads/ >>.git/info/exclude; mkdir uploads; echo photo >uploads/photo; echo old >.env.old`,
    );
    const refused = await adopt({ plan: true });
    await here.shell(`cd ${at}; sed -i '$d' .git/info/exclude; rm -r uploads .env.old`);
    expect(refused.message).toContain(`of ${at} no later release would have .env.old, uploads/: neither git nor`);
  });

  test('a run that fails at its last step leaves it exactly as it was, and running', async () => {
    await here.shell(
      'mount --bind /var/spool/cron/crontabs /var/spool/cron/crontabs; mount -o remount,bind,ro /var/spool/cron/crontabs',
    );
    try {
      const failed = await adopt();
      expect(`${failed.end}: ${failed.message}`).toMatch(/^rolled back: .*crontab/);
    } finally {
      await here.shell('umount /var/spool/cron/crontabs');
    }
    expect(await here.shell(OBSERVED)).toBe(before);
    expect(await health()).toBe('200 200 ');
  });

  test('becomes a release with its data beside it; no upload and no line of the crontab is lost', async () => {
    const uploads = await here.shell('cd /opt/proofpass/platform/storage/uploads; sha256sum * | sort');
    const crontab = await here.shell('cat /var/spool/cron/crontabs/root');
    // As a reboot does, amid the moves: what runs then must not go on as it was started.
    const started = here.shell(
      'until [ -L /opt/proofpass/platform/.env ]; do sleep 0.05; done; systemctl start proofpass-api proofpass-platform',
    );
    const done = await adopt();
    await started;
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(report(done).plan).toMatchObject({
      downtime: [
        { service: 'platform', seconds: expect.any(Number) },
        { service: 'api', seconds: expect.any(Number) },
      ],
    });
    expect(
      await here.shell(
        'readlink /opt/proofpass/platform; readlink /opt/proofpass/platform/storage /opt/proofpass/platform/.env',
      ),
    ).toMatch(
      /^\/opt\/proofpass\/releases\/\d{8}T\d{6}Z-[0-9a-f]{8}-[0-9a-f]{8}\n\/opt\/proofpass\/shared\/storage\n\/opt\/proofpass\/shared\/\.env\n$/,
    );
    expect(await here.shell('cd /opt/proofpass/shared/storage/uploads; sha256sum * | sort')).toBe(uploads);
    expect(await health()).toBe('200 200 ');
    // The units may write where the data is now.
    expect(await upload('after the adoption')).toMatch(/ 20\d$/);
    expect(await here.shell('ls /opt/proofpass/shared/storage/uploads | wc -l')).toBe('4\n');
    const lines = (await here.shell('cat /var/spool/cron/crontabs/root')).split('\n');
    expect(lines.map((line) => line.replace('# guardia has taken this over: ', '')).join('\n')).toBe(crontab);
    expect(lines.filter((line) => /^[^#].*(?:backup|rotate)-/.test(line))).toEqual([]);
    expect(lines).toContain('30 5 * * 0 /usr/local/bin/mine "%H"');
  });

  test('needs nothing the second time', async () => {
    expect(await adopt()).toMatchObject({ end: 'nothing to do' });
  });

  test('can be provisioned then: links that it left in the place of files with secrets lead to those', async () => {
    const planned = await here.run({ plan: true }, 'provision-host');
    expect(`${planned.end}: ${planned.message}`).toMatch(/^planned: /);
  });

  test('does not go back while a unit needs the new place of the data', async () => {
    const unit = '/etc/systemd/system/proofpass-api.service';
    await here.shell(`cp -a ${unit} /root/unit; sed -i s,platform/.env,shared/.env, ${unit}`);
    const refused = await adopt({ back: true, plan: true });
    await here.shell(`mv /root/unit ${unit}; systemctl daemon-reload`);
    expect(refused.message).toContain(
      `app cannot go back: proofpass-api.service (${unit}) need what is in /opt/proofpass/shared`,
    );
  });

  test('and back again: what users uploaded meanwhile is beside the code, everything else as it was', async () => {
    const done = await adopt({ back: true });
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(await health()).toBe('200 200 ');
    const added = (await here.shell('ls -t /opt/proofpass/platform/storage/uploads | head -1')).trim();
    const kept = await here.shell(`cat /opt/proofpass/platform/storage/uploads/${added}`);
    expect(kept).toContain('after the adoption');
    await here.shell(
      `rm /opt/proofpass/platform/storage/uploads/${added}; rmdir /opt/proofpass/releases /opt/proofpass/shared ${dropins('platform')}`,
    );
    expect(await here.shell(OBSERVED)).toBe(before);
    expect(await adopt({ back: true })).toMatchObject({ end: 'nothing to do' });
  });

  test('is refused where data is elsewhere already, behind a link', async () => {
    await here.shell('cd /opt/proofpass/platform; mv storage /srv/storage; ln -s /srv/storage storage');
    const refused = await adopt({ plan: true });
    await here.shell('cd /opt/proofpass/platform; rm storage; mv /srv/storage storage');
    expect(refused.message).toContain(
      '/opt/proofpass/platform/storage is a link to /srv/storage, not to /opt/proofpass/shared/storage',
    );
  });

  test('is refused where containers would get new, empty volumes', async () => {
    here.changeInventory(
      'project: observability,\n      directory: /opt/proofpass/observability,\n      service: prometheus',
      'project: monitoring,\n      directory: /opt/proofpass/observability,\n      service: prometheus',
    );
    try {
      const refused = await adopt({ plan: true });
      expect(refused.message).toContain('belong to project observability, the inventory says monitoring');
    } finally {
      here.restoreInventory();
    }
  });
});
