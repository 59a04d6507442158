import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stepsOf } from '../../workflows/contracts/plan.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, until, type BackupLab, type Ended } from '../backup/harness.js';
import { shorten } from '../deploy/scaled-lab.js';
import { differencesSoon, observeHosts } from '../faults/host-observation.js';
import { badProbes } from './bad-probes.js';

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
    // What it made is saved; that would not have failed it.
    expect(report(first).steps.find(({ id }) => id === 'recovery-point-after')?.state).toBe('done');
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

  test('has every setting of the manual where the program that it is for finds it', async () => {
    // Judged by the programs where a container lets them, else by the file that they read at a boot.
    expect(
      await here.shell(`
        fail2ban-client get sshd ignoreip | grep '^.- ' | cut -c 4- | sed 's/^10[.]77[.][0-9]*[.]1$/worker/' | sort
        fail2ban-client get nginx-limit-req maxretry; fail2ban-client get sshd bantime
        grep -c '^-w /' /etc/audit/rules.d/60-guardia.rules; cat /etc/audit/rules.d/61-guardia-application.rules | tail -1
        stat -c '%a %U' /etc/audit/rules.d/60-guardia.rules
        grep -v '^#' /etc/security/limits.d/60-guardia.conf | tr -s ' '; grep -c ' = ' /etc/sysctl.d/60-guardia.conf
        logrotate --debug /etc/logrotate.conf 2>&1 | grep -E '^rotating pattern: (/var/log/(nginx/[*]|proofpass-[*]))' | sed 's/  .*//'
        getent passwd proofpass | cut -d : -f 6,7; id -Gn proofpass
        stat -c '%a %U:%G %n' /opt/proofpass /opt/proofpass/releases /opt/proofpass/shared /opt/proofpass/shared/storage/uploads
        docker inspect --format '{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}}' prometheus`),
    ).toBe(
      [
        ...[
          '127.0.0.0/8',
          '::1',
          'worker',
          '10',
          '3600',
          '5',
          '-w /opt/proofpass/shared/.env -p rwa -k secrets',
          '640 root',
        ],
        ...['* soft nofile 65536', '* hard nofile 65536', '* soft nproc 32768', '* hard nproc 32768', '7'],
        ...['rotating pattern: /var/log/nginx/*.log', 'rotating pattern: /var/log/proofpass-*.log'],
        ...['/home/proofpass:/bin/bash', 'proofpass'],
        ...['755 root:root /opt/proofpass', '755 proofpass:proofpass /opt/proofpass/releases'],
        ...[
          '750 proofpass:proofpass /opt/proofpass/shared',
          '750 proofpass:proofpass /opt/proofpass/shared/storage/uploads',
        ],
        ...['json-file {"max-file":"3","max-size":"10m"}', ''],
      ].join('\n'),
    );
    // A quarter of what the host may use, in steps of 256 MiB.
    const memory = Number(await here.shell(`awk '/^MemTotal:/ { print $2 }' /proc/meminfo`)) * 1024;
    const buffers = Math.floor(memory / 2 ** 28) * 2 ** 26;
    expect(Number(await here.sql(`select pg_size_bytes(current_setting('shared_buffers'))`, 'postgres'))).toBe(buffers);
  });

  test('with certificates, OpenBao and v1 everything that the manual looks at is as it should be, and what watches it sees it', async () => {
    await here.lab.certificates('app');
    await here.lab.openbao('app');
    const served = await run();
    expect(`${served.end}: ${served.message}`).toMatch(/^succeeded:/);
    shorten(here);
    const deployed = await here.run({ ref: 'v1' }, 'deploy');
    expect(`${deployed.end}: ${deployed.message}`).toMatch(/^succeeded:/);
    expect(await badProbes(here)).toEqual([]);

    const prometheus = (at: string) =>
      here
        .shell(`curl -sf 'http://127.0.0.1:9091/api/v1/${at}'`)
        .then((text) => (JSON.parse(text) as { data: never }).data);
    const targets = async () =>
      ((await prometheus('targets')) as { activeTargets: { health: string; labels: { job: string } }[] }).activeTargets
        .map(({ labels: { job }, health }) => `${job} ${health}`)
        .sort();
    const jobs = ['api_backend', 'node_exporter', 'platform_frontend', 'postgres', 'prometheus'];
    await until('Prometheus reaches all', async () => (await targets()).every((target) => target.endsWith(' up')));
    expect(await targets()).toEqual(jobs.map((job) => `${job} up`));
    const { groups } = (await prometheus('rules')) as {
      groups: { rules: { name: string; query: string; duration: number; health: string }[] }[];
    };
    const rules = groups.flatMap((group) => group.rules);
    expect(rules.map(({ name, duration }) => `${name} ${duration}`)).toEqual([
      ...['HighCPUUsage 300', 'HighMemoryUsage 300', 'DiskSpaceLow 300', 'ServiceDown 60', 'PostgreSQLDown 60'],
      'HighDatabaseConnections 300',
    ]);
    expect(
      await here.shell(`for at in provisioning/datasources/prometheus.yml provisioning/dashboards/files.yml dashboards/proofpass.json; do
        docker cp grafana:/etc/grafana/$at - | tar -xO | head -c 10000 | grep -cE 'http://prometheus:9090|/etc/grafana/dashboards|"value": 150'; done`),
    ).toBe('1\n1\n1\n');

    // The exporter goes on answering while its server is down: the alert is about the server.
    const down = rules.find(({ name }) => name === 'PostgreSQLDown')?.query ?? '';
    const fires = async () =>
      ((await prometheus(`query?query=${encodeURIComponent(down)}`)) as { result: unknown[] }).result.length > 0;
    expect(await fires()).toBe(false);
    await here.shell('systemctl stop postgresql@15-main');
    try {
      await until('Prometheus sees that PostgreSQL is down', fires);
      expect(await targets()).toContain('postgres up');
    } finally {
      await here.shell('systemctl start postgresql@15-main');
    }
  });

  test('migrates under a role of its own where the inventory names its login, and says it to nobody', async () => {
    const password = 'its-own-and-nobody-elses';
    await here.sql(`create role migrator login password '${password}' in role proofpass_user`, 'postgres');
    writeFileSync(
      path.join(here.lab.secretsDirectory, 'proofpass', 'migration-url'),
      `postgresql://migrator:${password}@localhost:5432/proofpass_prod\n`,
      { mode: 0o600 },
    );
    const name = '      applicationName: proofpass-migration';
    const secrets = '{ MIGRATION_DATABASE_URL: file:proofpass/migration-url }';
    here.changeInventory(name, `      environment: { secrets: ${secrets} }\n${name}`);
    const done = await here.run({ ref: 'v2' }, 'deploy');
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect(await here.sql(`select name || ' ' || applied_by from schema_migrations order by 1`)).toBe(
      '001_initial proofpass_user\n002_verification_code migrator',
    );
    const raw = JSON.stringify(await here.client.workflow.getHandle(done.workflowId).fetchHistory());
    const history = raw.replaceAll(/"data":"([^"]*)"/g, (_, data: string) => Buffer.from(data, 'base64').toString());
    expect(history).toContain('file:proofpass/migration-url');
    expect(JSON.stringify(done.report) + history).not.toContain(password);
  });
});
