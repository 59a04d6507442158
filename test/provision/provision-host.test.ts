import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { stepsOf } from '../../workflows/contracts/plan.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, type BackupLab, type Ended } from '../backup/harness.js';
import { differencesSoon, observeHosts } from '../faults/host-observation.js';

jest.setTimeout(900_000);

/** Secrets that somebody else issues: the lab holds them. */
const ISSUED = ['stellar-issuer-secret', 'stellar-distribution-secret', 'smtp-password'];

describe('a bare host', () => {
  let here: BackupLab;
  let first: Ended;

  beforeAll(async () => {
    here = await startBackupLab({ hosts: [{ name: 'app', bare: true }] });
  });
  afterAll(() => here?.down());

  const run = (input: Record<string, unknown> = {}) => here.run(input, 'provision-host');
  const report = (ended: Ended): RunReport => ended.report as RunReport;

  test('is as it was when the last step is refused, because it would cut SSH', async () => {
    const before = await observeHosts(here.lab, ['app']);
    here.changeInventory("      PermitRootLogin: 'no'\n", "      PermitRootLogin: 'no'\n      AllowUsers: somebody\n");
    try {
      const refused = await run();
      expect(`${refused.end}: ${refused.message}`).toMatch(
        /^rolled back: .*AllowUsers somebody, and the worker logs in as guardia/,
      );
    } finally {
      here.restoreInventory();
    }
    expect(await differencesSoon(() => observeHosts(here.lab, ['app']), before)).toEqual([]);
  });

  test('gets everything that the manual says, ModSecurity as well where the inventory wants it', async () => {
    here.changeInventory('  waf: []', '  waf: [app]');
    first = await run();
    expect(`${first.end}: ${first.message}`).toMatch(/^succeeded:/);
    // Seen from outside, not from what the steps said.
    expect(
      await here.shell(`
        ufw status | head -1
        sshd -T | grep -E '^(permitrootlogin|passwordauthentication) ' | sort
        systemctl is-active nginx docker fail2ban postgresql@15-main
        fail2ban-client status | grep -o 'nginx-limit-req, sshd'
        stat -c '%a %U:%G' /opt/proofpass/shared/.env
        curl -s -o /dev/null -w '%{http_code}\\n' -H 'Host: api.proofpass.test' http://127.0.0.1/
        curl -s -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:9091/-/ready
        curl -s http://127.0.0.1:9093/api/v2/status | grep -oE '(to|smtp_auth_password): [^\\\\]*'
        stat -c '%a %U' /opt/proofpass/observability/alertmanager/alertmanager.yml
        curl -s -o /dev/null -w '%{http_code}\\n' -H 'Host: api.proofpass.test' 'http://127.0.0.1/.well-known/acme-challenge/x?q=<script>alert(1)</script>'
        # nginx writes it after it has answered.
        timeout 10 sh -c 'until grep -q "XSS Attack Detected" /var/log/modsecurity-audit.log; do sleep 0.2; done' && echo seen
        logrotate --debug /etc/logrotate.d/guardia-modsecurity 2>&1 | grep -ci error
        cd /; runuser -u postgres -- psql -XAtc 'show max_connections' -c 'show shared_preload_libraries'
        docker info --format '{{.LiveRestoreEnabled}} {{.LoggingDriver}}'`),
    ).toBe(
      [
        ...[
          'Status: active',
          'passwordauthentication no',
          'permitrootlogin no',
          'active',
          'active',
          'active',
          'active',
        ],
        ...[
          'nginx-limit-req, sshd',
          '600 proofpass:proofpass',
          '503',
          '200',
          'smtp_auth_password: <secret>',
          'to: support@proofpass.test',
          '400 nobody',
          '404',
          'seen',
          '0',
          '200',
          'pg_stat_statements',
          'true json-file',
          '',
        ],
      ].join('\n'),
    );
    // No secret is in what the run says of itself.
    const secrets = await here.shell(`sed -n 's/^[A-Z_]*\\(SECRET\\|PASSWORD\\|KEY\\)=//p' /opt/proofpass/shared/.env`);
    const said = JSON.stringify(first.report);
    const issued = ISSUED.map((name) =>
      readFileSync(path.join(here.lab.secretsDirectory, 'proofpass', name), 'utf8').trim(),
    );
    for (const secret of [...secrets.trim().split('\n'), ...issued]) expect(said).not.toContain(secret);
  });

  test('needs nothing the second time', async () => {
    const second = await run();
    const { plan } = report(second);
    expect(plan && stepsOf(plan).map(({ step }) => step.title)).toEqual([]);
    expect(second.end).toBe('nothing to do');
  });
});
