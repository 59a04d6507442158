import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createHealthActivities } from '../../../activities/health/health-activities.js';
import { runProbes, type ProbeAccess } from '../../../activities/health/run-probes.js';
import { createHosts } from '../../../activities/hosts/hosts.js';
import { createSshPool, type SshPool } from '../../../activities/hosts/ssh-pool.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import { startLab, type Lab } from '../../../infra/lab/lab.js';
import type { CallInput } from '../../../workflows/contracts/calls.js';
import type { HostTarget, SshTarget } from '../../../workflows/contracts/host-target.js';
import { Probe } from '../../../workflows/contracts/probe.js';
import type { ProbeResult } from '../../../workflows/contracts/probe-result.js';

jest.setTimeout(120_000);

/** Every kind of probe against the thing itself, both when it is as it should be and when it is not. */
let lab: Lab;
let pool: SshPool;
let access: ProbeAccess;
const never = new AbortController().signal;

beforeAll(async () => {
  lab = await startLab({
    hosts: [
      { name: 'app', fixture: { name: 'proofpass', megabytes: 50 }, enable: ['docker.service'] },
      { name: 'third' },
    ],
    systems: [],
    owner: true,
  });
  const script = readFileSync(new URL('./lab-host.sh', import.meta.url), 'utf8');
  await root('app', `bash -c "$0" set-up ${address('third')}`, script);
  const secrets = createSecrets({
    directory: lab.directory,
    environment: { REDIS: 'redis-password', RABBIT: 'rabbit-password', KEY: 'the-lab-key', WRONG: 'not-the-right-one' },
  });
  writeFileSync(path.join(lab.directory, 'ca.pem'), await root('app', 'cat /srv/tls/ca.pem'), { mode: 0o600 });
  pool = createSshPool({
    readIdentity: (reference) => Promise.resolve(readFileSync(reference.replace('file:', ''), 'utf8')),
  });
  const hosts = createHosts({
    ssh: pool,
    workerStateDirectory: path.join(lab.directory, 'worker'),
    scrub: (text) => secrets.scrubber.scrub(text),
  });
  access = { hosts, secrets, targets: { app: targetOf('app'), third: targetOf('third') } };
}, 900_000);
afterAll(async () => {
  pool?.close();
  await lab?.down();
}, 120_000);

function address(name: string): string {
  const host = lab.hosts[name];
  if (!host) throw new Error(`no host ${name}`);
  return host.address;
}

function targetOf(name: string): HostTarget {
  const { port = 22, user = '', identityFile = '', hostKeys = [] } = lab.hosts[name] ?? {};
  return {
    name,
    site: 'main',
    become: 'sudo',
    stateDirectory: '/var/lib/guardia',
    connection: { address: address(name), port, user, hostKeys, identity: `file:${identityFile}` },
  };
}

async function root(host: string, line: string, argument = 'sh'): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.exec(host, ['/bin/bash', '-c', line, argument]);
  if (exitCode !== 0) throw new Error(`${line}: ${stderr}${stdout}`);
  return stdout;
}

const probe = (fields: Record<string, unknown>): Probe =>
  Probe.parse({ id: 'one', title: 'one', on: 'app', source: 'test', ...fields });
async function see(fields: Record<string, unknown>): Promise<ProbeResult> {
  const [result] = await runProbes([probe(fields)], access, never);
  if (!result) throw new Error('no result');
  return result;
}
const site = (at: string): Record<string, unknown> => ({
  on: 'worker',
  kind: 'http',
  url: `https://api.lab.test:8443${at}`,
  address: address('app'),
  ca: 'file:ca.pem',
});
const bad = (measured: string | RegExp) => ({
  state: 'critical',
  measured: expect.stringMatching(measured) as unknown,
});

describe('units and containers', () => {
  test('a unit runs, is enabled, and has not been restarted too often', async () => {
    expect(await see({ kind: 'systemd', unit: 'nginx.service', enabled: true, maximumRestarts: 0 })).toMatchObject({
      state: 'ok',
      measured: 'active (running); enabled',
    });
    expect(await see({ kind: 'systemd', unit: 'postgresql.service' })).toMatchObject({ state: 'ok' });
    expect(await see({ kind: 'systemd', unit: 'proofpass-api.service' })).toMatchObject({
      ...bad(/^inactive/),
      remedy: 'Look why: journalctl -u proofpass-api.service -n 50',
    });
    expect(await see({ kind: 'systemd', unit: 'proofpass-api.service', running: false })).toMatchObject({
      state: 'ok',
    });
    expect(await see({ kind: 'systemd', unit: 'no-such.service' })).toMatchObject(bad('no such unit'));
    expect(await see({ kind: 'systemd', unit: 'nginx.service', enabled: false })).toMatchObject(bad('^enabled$'));
    expect(await see({ kind: 'systemd', unit: 'nginx.service', running: false })).toMatchObject(bad('^active'));
  });

  test('a unit that reads its files anew runs', async () => {
    await root(
      'app',
      'systemd-run --quiet --collect --unit rereads -p ExecReload="/bin/sleep 20" sleep 600; systemctl --no-block reload rereads; sleep 0.5',
    );
    expect(await see({ kind: 'systemd', unit: 'rereads.service' })).toMatchObject({
      state: 'ok',
      measured: expect.stringContaining('reloading') as unknown,
    });
    await root('app', 'systemctl stop rereads');
  });

  test('a unit that systemd had to restart is a warning', async () => {
    await root(
      'app',
      `systemd-run --quiet --unit flaky -p Restart=always -p RestartSec=100ms -p StartLimitIntervalSec=0 sh -c 'test -e /run/stay && sleep 600; exit 1'
       sleep 1; touch /run/stay; sleep 0.5`,
    );
    expect(await see({ kind: 'systemd', unit: 'flaky.service', maximumRestarts: 1 })).toMatchObject({
      state: 'warning',
      measured: expect.stringMatching(/^\d+ automatic restarts$/) as unknown,
    });
    await root('app', 'systemctl stop flaky');
  });

  test('failed units are named; what may fail is passed over', async () => {
    expect(await see({ kind: 'failed-units' })).toMatchObject({ state: 'ok' });
    await root('app', `systemd-run --quiet --unit broken false; sleep 0.3`);
    expect(await see({ kind: 'failed-units', severity: 'warning' })).toMatchObject({
      state: 'warning',
      measured: 'broken.service',
    });
    expect(await see({ kind: 'failed-units', except: ['broken.service'] })).toMatchObject({ state: 'ok' });
    // A lab host is a container: it says what it cannot show, and judges everything else.
    expect(await see({ kind: 'failed-units', exceptInContainers: ['broken.service'] })).toMatchObject({ state: 'ok' });
    await root('app', 'systemctl reset-failed broken');
    expect(await see({ kind: 'systemd', unit: 'broken.service', outsideContainers: true })).toMatchObject({
      state: 'ok',
      measured: 'not judged: the host is a container, in which it cannot run',
    });
  });

  test('a compose service runs and is healthy', async () => {
    const store = { kind: 'compose', project: 'cache', service: 'store' };
    await expect(see(store)).resolves.toMatchObject({ state: 'ok', measured: 'cache-store-1 is running and healthy' });
    expect(await see({ ...store, service: 'sick' })).toMatchObject(bad('cache-sick-1 is running and unhealthy'));
    expect(await see({ ...store, service: 'other' })).toMatchObject(bad('there is no container'));
    expect(await see({ ...store, service: 'other', running: false })).toMatchObject({ state: 'ok' });
    expect(await see({ ...store, running: false })).toMatchObject(bad('is running'));
  });

  test('a container runs', async () => {
    expect(await see({ kind: 'container', container: 'alone' })).toMatchObject({ state: 'ok' });
    await root('app', 'docker stop --time 0 alone');
    expect(await see({ kind: 'container', container: 'alone' })).toMatchObject(bad('alone is exited'));
    // The name is matched whole.
    expect(await see({ kind: 'container', container: 'alon' })).toMatchObject(bad('there is no container'));
    // A host without Docker has no container either.
    expect(await see({ on: 'third', kind: 'container', container: 'alone' })).toMatchObject({ state: 'critical' });
  });
});

describe('the machine', () => {
  test.each([
    ['disk', { path: '/' }, / % of \/, [\d.]+ GiB free$/],
    ['inodes', { path: '/var/lib' }, / % of |no limit/],
    ['memory', {}, / % of [\d.]+ GiB$/],
    ['cpu', { sampleSeconds: 1 }, / % over 1 s$/],
    ['load', {}, /for each of \d+$/],
  ])('%s against its levels', async (kind, fields, measured) => {
    // A machine that runs tests may use its processors to the last percent.
    const result = await see({
      kind,
      ...fields,
      ...(kind === 'cpu' ? {} : { critical: kind === 'load' ? 1000 : 100 }),
    });
    expect(result).toMatchObject({ measured: expect.stringMatching(measured) as unknown });
    expect(result.state).toBe('ok');
    if (/no limit/.test(result.measured)) return;
    expect(await see({ kind, ...fields, critical: 0 })).toMatchObject({ state: 'critical' });
    expect(await see({ kind, ...fields, warning: 0 })).toMatchObject({ state: 'warning' });
  });

  test('a path that is not there cannot be measured', async () => {
    expect(await see({ kind: 'disk', path: '/no/such', critical: 85 })).toMatchObject({
      state: 'unknown',
      message: expect.stringContaining('No such file or directory') as unknown,
    });
  });

  test('a file: there, mode, owner, age', async () => {
    const file = { kind: 'file', path: '/opt/proofpass/platform/.env' };
    expect(await see({ ...file, mode: '600', owner: 'proofpass', group: 'proofpass' })).toMatchObject({ state: 'ok' });
    expect(await see({ ...file, mode: '0640' })).toMatchObject(bad('^mode 600$'));
    expect(await see({ ...file, owner: 'root' })).toMatchObject(bad('^owner proofpass$'));
    expect(await see({ ...file, exists: false })).toMatchObject(bad('^there$'));
    expect(await see({ ...file, path: '/no/such' })).toMatchObject(bad('^not there$'));
    await root('app', 'touch -d "2 hours ago" /srv/old');
    expect(await see({ ...file, path: '/srv/old', maximumAgeSeconds: 3600 })).toMatchObject(bad('s old$'));
    expect(await see({ ...file, path: '/srv/old', maximumAgeSeconds: 86_400 })).toMatchObject({ state: 'ok' });
  });

  test('the clock', async () => {
    expect(await see({ kind: 'clock', maximumSkewSeconds: 5 })).toMatchObject({
      state: 'ok',
      measured: '0.0 s ahead of the worker',
    });
    // Nobody keeps the clock of a lab host.
    expect(await see({ kind: 'clock', synchronised: true })).toMatchObject(bad('not synchronised'));
  });

  test('the firewall', async () => {
    expect(await see({ kind: 'firewall' })).toMatchObject({ state: 'ok', measured: 'active, deny what comes in' });
    expect(await see({ kind: 'firewall', incoming: 'reject' })).toMatchObject(bad('deny'));
    expect(await see({ kind: 'firewall', active: false })).toMatchObject(bad('active'));
    expect(await see({ on: 'third', kind: 'firewall' })).toMatchObject(bad('not installed'));
  });
});

describe('ports from a third host', () => {
  const ports = (fields: Record<string, unknown>): Record<string, unknown> => ({
    on: 'third',
    kind: 'port',
    to: 'app',
    address: address('app'),
    reachable: [22],
    timeoutSeconds: 2,
    ...fields,
  });

  test('open where a flow opens them, from a host and from the worker', async () => {
    for (const on of ['third', 'worker'])
      expect(await see(ports({ on, expect: 'open', ports: [22, 81, 8443] }))).toMatchObject({ state: 'ok' });
    expect(await see(ports({ expect: 'open', ports: [22, 9000] }))).toMatchObject(bad('^9000 refused$'));
    expect(await see(ports({ expect: 'open', ports: [22, 9001] }))).toMatchObject(bad('^9001 silent$'));
  });

  test('a port that Docker publishes is open although ufw denies it, and closed once it is bound to loopback', async () => {
    const closed = ports({ expect: 'closed', ports: [5432, 8200] });
    expect(await see(closed)).toMatchObject({
      ...bad('^open: 8200$'),
      remedy: expect.stringContaining('bind them to 127.0.0.1') as unknown,
    });
    await root(
      'app',
      `sed -i s/8200:6379/127.0.0.1:8200:6379/ /srv/cache/compose.yaml
       docker compose --progress quiet -f /srv/cache/compose.yaml up -d store`,
    );
    expect(await see(closed)).toMatchObject({
      state: 'ok',
      measured: expect.stringMatching(/^closed: 5432(, 8200)? (silent|refused).*; 22 answers$/) as unknown,
    });
  });

  test('what is open to a network is not judged from an address in it, and is from any other', async () => {
    // 22 is open to the third host: as if only a network were to reach it.
    const from = (network: string) =>
      see(ports({ expect: 'closed', ports: [22, 5432], openToNetworks: [{ port: 22, network }] }));
    const third = address('third');
    expect(await from(`${third}/24`)).toMatchObject({
      state: 'ok',
      expected: 'closed: 5432',
      measured: expect.stringContaining(`not judged: 22 (${third} may be in ${third}/24)`) as unknown,
    });
    expect(await from('192.0.2.0/24')).toMatchObject(bad('^open: 22$'));
  });

  test('silence means closed only where another port of the host answers', async () => {
    const closed = ports({ expect: 'closed', ports: [5432] });
    expect(await see({ ...closed, reachable: [9001] })).toMatchObject({
      state: 'unknown',
      message: 'app cannot be reached from third: 9001 silent',
    });
    expect(await see({ ...closed, reachable: [] })).toMatchObject({
      state: 'unknown',
      message: expect.stringContaining('nothing shows that app can be reached at all') as unknown,
    });
    await lab.cut('app');
    try {
      expect(await see(closed)).toMatchObject({
        state: 'unknown',
        message: expect.stringMatching(/^app cannot be reached from third: 22 (silent|unreachable)$/) as unknown,
      });
    } finally {
      await lab.heal('app');
    }
  });
});

describe('HTTP', () => {
  test('status, text and JSON, from the worker and through the host', async () => {
    const healthy = { body: '"healthy"', json: { status: 'healthy', 'checks.0.ok': true } };
    expect(await see({ ...site('/health'), ...healthy })).toMatchObject({ state: 'ok' });
    expect(await see({ ...site('/health'), ...healthy, on: 'app', address: '127.0.0.1' })).toMatchObject({
      state: 'ok',
    });
    expect(await see(site('/sick'))).toMatchObject(bad('^status 503$'));
    expect(await see({ ...site('/sick'), status: 503 })).toMatchObject({ state: 'ok' });
    expect(await see({ ...site('/health'), body: 'sick' })).toMatchObject(bad('^the body "'));
    expect(await see({ ...site('/health'), json: { status: 'sick' } })).toMatchObject(bad('^status "healthy"$'));
    expect(await see({ ...site('/text'), json: { status: 'ok' } })).toMatchObject(bad('^no JSON, but "not json"$'));
    expect(await see({ ...site('/health'), slowMilliseconds: 1 })).toMatchObject({ state: 'warning' });
  });

  test('headers', async () => {
    const headers = (expected: Record<string, unknown>) => see({ ...site('/health'), headers: expected });
    expect(
      await headers({
        'X-Frame-Options': { equals: 'SAMEORIGIN' },
        'Strict-Transport-Security': { contains: 'max-age=31536000' },
        'Content-Security-Policy': { present: false },
      }),
    ).toMatchObject({ state: 'ok' });
    expect(await headers({ 'X-Frame-Options': { equals: 'DENY' } })).toMatchObject(
      bad('^X-Frame-Options: SAMEORIGIN$'),
    );
    expect(await headers({ 'X-Content-Type-Options': { present: true } })).toMatchObject(
      bad('no X-Content-Type-Options'),
    );
    expect(await headers({ Server: { present: false } })).toMatchObject(bad('^Server: nginx'));
  });

  test('cookies', async () => {
    const cookies = (expected: Record<string, unknown>) => see({ ...site('/login'), cookies: expected });
    expect(await cookies({ session: { secure: true, httpOnly: true, sameSite: 'Lax' } })).toMatchObject({
      state: 'ok',
    });
    expect(await cookies({ '*': { secure: true, httpOnly: true } })).toMatchObject(
      bad('^cookie tracker without Secure, HttpOnly$'),
    );
    expect(await cookies({ session: { sameSite: 'Strict' } })).toMatchObject(bad('without SameSite=Strict'));
    expect(await cookies({ other: {} })).toMatchObject(bad('^no cookie other$'));
  });

  test('redirects', async () => {
    const plain = { ...site('/'), url: 'http://api.lab.test:81/health', redirect: 'https' };
    expect(await see(plain)).toMatchObject({ state: 'ok' });
    expect(await see({ ...plain, url: 'http://api.lab.test:81/elsewhere' })).toMatchObject(
      bad('to https://other.lab.test/'),
    );
    expect(await see({ ...plain, redirect: 'https://api.lab.test/health' })).toMatchObject({ state: 'ok' });
    expect(await see({ ...site('/health'), redirect: 'https' })).toMatchObject(bad('^status 200$'));
  });

  test('an API key is sent, and told to nobody', async () => {
    const withKey = (key: string) => see({ ...site('/key'), sendSecret: { 'X-API-Key': key } });
    expect(await withKey('env:KEY')).toMatchObject({ state: 'ok' });
    expect(await withKey('env:WRONG')).toMatchObject(bad('^status 401$'));
    expect(await withKey('env:MISSING')).toMatchObject({
      state: 'unknown',
      message: expect.stringContaining('env:MISSING') as unknown,
    });
  });

  test('what is in the way is told in words', async () => {
    const { ca: _, ...untrusting } = site('/health');
    expect(await see(untrusting)).toMatchObject(bad('not trusted'));
    expect(await see({ ...site('/health'), url: 'https://other.lab.test:8443/' })).toMatchObject(
      bad('for another name'),
    );
    expect(await see({ ...site('/'), url: 'http://api.lab.test:9000/', address: '127.0.0.1' })).toMatchObject(
      bad('nobody listens there'),
    );
    expect(await see({ ...site('/'), url: 'http://no-such-name.invalid/', address: undefined })).toMatchObject(
      bad('DNS'),
    );
    expect(await see({ ...site('/'), url: 'http://api.lab.test:9001/', timeoutSeconds: 1 })).toMatchObject(
      bad('no answer within 1 s'),
    );
    // The same through a host: it is the service that fails, not the way to the host.
    expect(await see({ on: 'app', kind: 'http', url: 'http://127.0.0.1:9000/' })).toMatchObject(
      bad('nobody listens there'),
    );
  });

  test('no connection is left behind, however the answer was', async () => {
    const inside = { on: 'app', address: '127.0.0.1' };
    await runProbes(
      ['/health', '/sick', '/health', '/login'].flatMap((at, i) => [
        probe({ ...site(at), ...inside, id: `s${i}` }),
        probe({ ...site(at), ...inside, id: `n${i}`, url: `https://other.lab.test:8443${at}` }),
        probe({ ...inside, id: `p${i}`, kind: 'redis', port: 8443, address: '127.0.0.1', timeoutSeconds: 2 }),
      ]),
      access,
      never,
    );
    const open = "ss -Htn state established '( dport = :8443 )' | wc -l";
    expect(
      (await root('app', `for i in 1 2 3 4 5; do [ "$(${open})" = 0 ] && break; sleep 0.3; done; ${open}`)).trim(),
    ).toBe('0');
  });

  test('a rate limit refuses some, and never the paths that have none', async () => {
    const limited = { ...site('/'), kind: 'rate-limit', requests: 40, unlimited: ['/health'] };
    expect(await see(limited)).toMatchObject({
      state: 'ok',
      measured: expect.stringMatching(/^\/health: 40 x 200; \d+ x 200, \d+ x 429$/) as unknown,
    });
    expect(await see({ ...limited, url: 'https://api.lab.test:8443/health' })).toMatchObject(bad('^40 x 200$'));
    expect(await see({ ...limited, unlimited: ['/index.html'] })).toMatchObject(bad(/^\/index.html: .* x 429$/));
  });
});

describe('TLS', () => {
  const served = (port: number, serverName = 'api.lab.test'): Record<string, unknown> => ({
    on: 'worker',
    kind: 'tls',
    address: address('app'),
    port,
    serverName,
    ca: 'file:ca.pem',
  });

  test('dates, chain, name and the certificate', async () => {
    expect(await see(served(8443))).toMatchObject({
      state: 'ok',
      measured: expect.stringMatching(/^valid for 59 more days; trusted; api.lab.test; TLSv1.3 /) as unknown,
    });
    expect(await see({ ...served(8443), daysLeft: { warning: 90, critical: 7 } })).toMatchObject({ state: 'warning' });
    expect(await see({ ...served(8443), daysLeft: { warning: 90, critical: 80 } })).toMatchObject({
      state: 'critical',
    });
    const fingerprint = (
      await root('app', 'openssl x509 -in /srv/tls/api.lab.test.pem -outform der | sha256sum')
    ).slice(0, 64);
    expect(await see({ ...served(8443), fingerprint })).toMatchObject({ state: 'ok' });
    expect(await see({ ...served(8443), fingerprint: '0'.repeat(64) })).toMatchObject(bad('^certificate '));
    expect(await see(served(8443, 'other.lab.test'))).toMatchObject(bad('its certificate is for api.lab.test'));
    // From the host itself, whose firewall is not in the way.
    const inside = { on: 'app', address: '127.0.0.1' };
    expect(await see({ ...served(8444, 'other.lab.test'), ...inside })).toMatchObject(
      bad('signed by nobody but itself'),
    );
    expect(await see({ ...served(8445, 'over.lab.test'), ...inside })).toMatchObject(bad('valid for -1 more days'));
    expect(await see({ ...served(9000), ...inside })).toMatchObject(bad('nobody listens there'));
    expect(await see({ ...served(8443), on: 'app', address: '127.0.0.1' })).toMatchObject({ state: 'ok' });
  });

  test('a key of Ed25519 is a strong one', async () => {
    const inside = { ...served(8446, 'edwards.lab.test'), on: 'app', address: '127.0.0.1' };
    expect(await see({ ...inside, grade: 'A' })).toMatchObject({ state: 'ok' });
  });

  test('the grade: A+ for the manual’s settings, F for ciphers without encryption', async () => {
    expect(await see({ ...served(8443), grade: 'A+' })).toMatchObject({
      state: 'ok',
      measured: expect.stringContaining('grade A+') as unknown,
    });
    const old = await see({ ...served(8444, 'other.lab.test'), on: 'app', address: '127.0.0.1', grade: 'C' });
    expect(old).toMatchObject(bad('grade T'));
    // Trusted, so that the protocols count.
    await root('app', 'cat /srv/tls/other.pem', '').then((pem) =>
      writeFileSync(path.join(lab.directory, 'other.pem'), pem, { mode: 0o600 }),
    );
    const weak = { ...served(8444, 'other.lab.test'), on: 'app', address: '127.0.0.1', ca: 'file:other.pem' };
    expect(await see({ ...weak, grade: 'B' })).toMatchObject(bad('grade F: a cipher without encryption'));
    await root(
      'app',
      `sed -i 's/ALL:eNULL:@SECLEVEL=0/HIGH:!aNULL:@SECLEVEL=0/' /etc/nginx/sites-enabled/probes; systemctl reload nginx; sleep 0.5`,
    );
    expect(await see({ ...weak, grade: 'A' })).toMatchObject(bad('grade B: TLS 1.0 or 1.1 is accepted'));
    expect(await see({ ...weak, grade: 'B' })).toMatchObject({ state: 'ok' });
  });
});

describe('servers', () => {
  const peer = { database: 'proofpass_prod', version: 15, port: 5432, access: { kind: 'peer', osUser: 'postgres' } };

  test('PostgreSQL: login, query, role, connections', async () => {
    const database = { kind: 'postgresql', server: peer };
    expect(
      await see({
        ...database,
        query: 'select count(*) > 0 from public.users',
        answer: 't',
        role: 'proofpass_user',
        connections: { warning: 150 },
      }),
    ).toMatchObject({ state: 'ok' });
    expect(await see({ ...database, query: 'select 1', answer: '2' })).toMatchObject(bad('answer "1"'));
    expect(await see({ ...database, role: 'nobody_there' })).toMatchObject(bad('there is no role nobody_there'));
    expect(await see({ ...database, role: 'pg_monitor' })).toMatchObject(bad('may not log in'));
    expect(await see({ ...database, connections: { warning: 1 } })).toMatchObject({ state: 'warning' });
    expect(await see({ ...database, query: 'select * from no_such_table' })).toMatchObject(bad('no_such_table'));
    // It may not change anything, whatever the query says.
    expect(await see({ ...database, query: 'create table public.made (x int)' })).toMatchObject(
      bad('read-only transaction'),
    );
    // The login of the application: what lets guardia in says nothing about it.
    const [psql, file] = ['cd /; runuser -u postgres -- psql -Xq -d proofpass_prod', '/srv/application.env'];
    await root('app', `${psql} -c "create role applicant login password 'a:b/c'"`);
    await root('app', `echo 'DATABASE_URL=postgresql://applicant:a%3Ab%2Fc@localhost/x' >${file}; chmod 600 ${file}`);
    const login = { user: 'applicant', address: '127.0.0.1', file, key: 'DATABASE_URL', form: 'url' };
    const application = { ...database, query: 'select current_user', answer: 'applicant', login };
    expect(await see(application)).toMatchObject({ state: 'ok' });
    await root('app', `sed -i 's/%2Fc/%2Fd/' ${file}`);
    const refused = await see(application);
    expect(refused).toMatchObject({
      ...bad('^password authentication failed for user "applicant"$'),
      remedy: `See that DATABASE_URL of ${file} has the password of applicant, and that pg_hba.conf lets it in from app`,
    });
    expect(JSON.stringify(refused)).not.toContain('a:b/d');
    expect(await see(database)).toMatchObject({ state: 'ok' });
    expect(await see({ ...application, login: { ...login, key: 'NOTHING' } })).toMatchObject({
      state: 'unknown',
      message: `${file} on app has no password in NOTHING`,
    });
    await root('app', `rm ${file}; ${psql} -c 'drop role applicant'`);
    await root('app', 'systemctl stop postgresql@15-main');
    expect(await see(database)).toMatchObject(bad('proofpass_prod'));
    await root('app', 'systemctl start postgresql@15-main');
    expect(await see(database)).toMatchObject({ state: 'ok' });
  });

  test('Redis: with and without a password, with TLS', async () => {
    expect(await see({ kind: 'redis' })).toMatchObject({ state: 'ok', measured: 'PONG' });
    expect(await see({ kind: 'redis', port: 6380, password: 'env:REDIS' })).toMatchObject({ state: 'ok' });
    expect(await see({ kind: 'redis', port: 6380, password: 'env:WRONG' })).toMatchObject(
      bad('the password is refused'),
    );
    expect(await see({ kind: 'redis', port: 6380 })).toMatchObject(bad('NOAUTH'));
    expect(await see({ kind: 'redis', password: 'env:REDIS' })).toMatchObject(bad('it answers without a password'));
    const tls = { kind: 'redis', port: 6390, tls: true, serverName: 'localhost', password: 'env:REDIS' };
    expect(await see({ ...tls, ca: 'file:ca.pem' })).toMatchObject({ state: 'ok' });
    expect(await see(tls)).toMatchObject(bad('not trusted'));
    expect(await see({ kind: 'redis', port: 6399 })).toMatchObject(bad('nobody listens there'));
  });

  test('OpenBao, RabbitMQ and Uptime Kuma, as their stand-ins answer', async () => {
    const url = 'https://localhost:8443';
    const openbao = { kind: 'openbao', url, ca: 'file:ca.pem' };
    expect(await see({ ...openbao, version: '2.4.4' })).toMatchObject({
      state: 'ok',
      measured: 'initialised; unsealed; version 2.4.4',
    });
    expect(await see({ ...openbao, url: `${url}/sealed` })).toMatchObject(bad('^sealed$'));
    expect(await see({ ...openbao, url: `${url}/sealed`, sealed: true })).toMatchObject({ state: 'ok' });
    expect(await see({ ...openbao, version: '2.0.0' })).toMatchObject(bad('version 2.4.4'));
    expect(await see({ ...openbao, url: `${url}/none` })).toMatchObject(bad('without a seal status'));
    const rabbitmq = { kind: 'rabbitmq', url, ca: 'file:ca.pem', user: 'monitor', password: 'env:RABBIT' };
    expect(await see(rabbitmq)).toMatchObject({ state: 'ok' });
    expect(await see({ ...rabbitmq, password: 'env:WRONG' })).toMatchObject(bad('the login of monitor is refused'));
    expect(await see({ ...rabbitmq, url: `${url}/alarmed` })).toMatchObject(bad('alarms in effect'));
    const kuma = { kind: 'uptime-kuma', url, ca: 'file:ca.pem' };
    expect(await see({ ...kuma, statusPage: 'shop' })).toMatchObject({ state: 'ok', measured: '2 monitors up' });
    expect(await see({ ...kuma, statusPage: 'down' })).toMatchObject(bad('^down: mail$'));
    expect(await see({ ...kuma, statusPage: 'none' })).toMatchObject(bad('no status page none'));
    expect(await see(kuma)).toMatchObject({ state: 'ok' });
  });
});

describe('as activities', () => {
  const input = (argument: Record<string, unknown>): CallInput => ({
    with: { targets: access.targets, timeoutSeconds: 100, ...argument },
    context: {
      system: 'proofpass',
      runbook: 'health-check',
      workflowId: 'w',
      runId: 'r',
      step: 'probe',
      generation: 1,
      runAgainIfLost: false,
      target: targetOf('app'),
    },
  });
  /** Activities that fail on purpose need not be logged. */
  const quietEnvironment = (): MockActivityEnvironment =>
    new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR', () => undefined) });
  interface Found {
    results: ProbeResult[];
    summary: string;
    looks: number;
    seconds: number;
    failures: number;
  }
  const run = (
    name: 'probeHost' | 'checkHealth' | 'watchHealth',
    argument: Record<string, unknown>,
    environment = quietEnvironment(),
  ): Promise<Found> =>
    environment.run(
      async (given: CallInput) => (await createHealthActivities(access)[name](given)) as unknown as Found,
      input(argument),
    );
  const marker = (): Probe => probe({ id: 'marker', title: 'the marker', kind: 'file', path: '/run/marker' });

  test('one call for many probes; a host that does not answer makes its probes unknown, and nothing else', async () => {
    const gone = targetOf('third');
    const nowhere = { ...(gone.connection as SshTarget), address: address('third').replace(/\d+$/, '250') };
    const { results, summary } = await run('probeHost', {
      targets: { ...access.targets, third: { ...gone, connection: nowhere } },
      probes: [
        probe({ id: 'a', on: 'third', kind: 'memory', critical: 100 }),
        probe({ id: 'b', on: 'third', kind: 'redis' }),
        probe({ id: 'c', kind: 'memory', critical: 100 }),
        probe({ id: 'd', on: 'elsewhere', kind: 'memory', critical: 100 }),
      ],
    });
    expect(results.map(({ id, state }) => `${id} ${state}`)).toEqual(['a unknown', 'b unknown', 'c ok', 'd unknown']);
    for (const result of results.slice(0, 2)) expect(result.message).toMatch(/^third .* does not answer/);
    expect(summary).toMatch(/^1 ok, 3 unknown: /);
  });

  test('waits until all pass so many times in a row', async () => {
    await root('app', 'rm -f /run/marker; (sleep 2; touch /run/marker) >/dev/null 2>&1 &');
    const argument = { probes: [marker()], patienceSeconds: 20, intervalSeconds: 0.3, consecutive: 3 };
    const passed = await run('checkHealth', argument);
    expect(passed.looks).toBeGreaterThan(5);
    expect(passed.seconds).toBeGreaterThan(1.5);
  });

  test('names what did not pass in time, with what was seen', async () => {
    await root('app', 'rm -f /run/marker');
    await expect(
      run('checkHealth', {
        probes: [marker()],
        patienceSeconds: 1.5,
        intervalSeconds: 0.3,
        consecutive: 1,
      }),
    ).rejects.toMatchObject({
      type: 'VerificationFailed',
      message: 'not healthy within 1.5 s: the marker (from app): not there, expected there',
    });
    // What failed before the change is not waited for.
    const before = { probes: [marker()], patienceSeconds: 1.5, failingBefore: ['marker'] };
    expect(await run('checkHealth', before)).toMatchObject({ looks: 1, results: [{ state: 'critical' }] });
  });

  test('watches, bears what is tolerated, and fails beyond it', async () => {
    const argument = { probes: [marker()], seconds: 4, intervalSeconds: 0.2 };
    await root('app', 'touch /run/marker');
    expect(await run('watchHealth', argument)).toMatchObject({ failures: 0 });
    await root('app', '(sleep 1; rm /run/marker; sleep 0.5; touch /run/marker) >/dev/null 2>&1 &');
    expect((await run('watchHealth', { ...argument, tolerated: 20 })).failures).toBeGreaterThan(0);
    await root('app', 'rm /run/marker');
    const began = Date.now();
    await expect(run('watchHealth', { ...argument, tolerated: 1 })).rejects.toMatchObject({
      type: 'VerificationFailed',
      message: 'failed 2 times in a row: the marker (from app): not there, expected there',
    });
    expect(Date.now() - began).toBeLessThan(3000);
  });

  test('a cancel ends a watch at once', async () => {
    await root('app', 'touch /run/marker');
    const environment = quietEnvironment();
    const watching = run('watchHealth', { probes: [marker()], seconds: 60, intervalSeconds: 30 }, environment);
    setTimeout(() => environment.cancel(), 500);
    const began = Date.now();
    await expect(watching).rejects.toThrow();
    expect(Date.now() - began).toBeLessThan(5000);
  });
});
