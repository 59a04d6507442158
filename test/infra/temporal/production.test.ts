import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createServer as createTlsServer, connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { commands } from '../../../client/program.js';
import { configuredTarget } from '../../../activities/temporal/connection.js';
import { ensureTool, tools } from '../../../infra/packaging/toolbox.js';
import { TypedSearchAttributes } from '@temporalio/common';
import { SHUTDOWN_FORCE_SECONDS, SHUTDOWN_GRACE_SECONDS } from '../../../workers/worker-options.js';
import { searchAttributes } from '../../../workflows/contracts/search-attributes.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const run = promisify(execFile);
const production = path.resolve(import.meta.dirname, '../../../infra/temporal/production');
const text = (file: string) => readFileSync(path.join(production, file), 'utf8');
const home = mkdtempSync(path.join(tmpdir(), 'guardia-production-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Service {
  image: string;
  ports?: { host_ip?: string; target: number; published: string }[];
  volumes?: { type: string; source: string; read_only?: boolean }[];
  depends_on?: Record<string, { condition: string }>;
  environment?: Record<string, string>;
  command?: string[];
}

describe('compose.yaml', () => {
  let services: Record<string, Service>;
  let rendered: string;
  beforeAll(async () => {
    const compose = await ensureTool('docker-compose');
    const copy = path.join(home, 'compose');
    cpSync(production, copy, { recursive: true });
    mkdirSync(path.join(copy, 'secrets'));
    writeFileSync(path.join(copy, 'secrets/postgres-password'), 'hunter2');
    rendered = (
      await run(compose, ['-f', path.join(copy, 'compose.yaml'), 'config', '--format', 'json'], {
        env: { PATH: process.env['PATH'] },
      })
    ).stdout;
    services = (JSON.parse(rendered) as { services: Record<string, Service> }).services;
  }, 900_000);

  test('is accepted by `docker compose config`, whole', () => {
    expect(Object.keys(services).sort()).toEqual(['namespace', 'postgresql', 'schema', 'temporal', 'ui']);
  });

  test('every image has a full version, the one that guardia is tested with', () => {
    const server = tools['temporal-server'].version;
    for (const [name, { image }] of Object.entries(services))
      expect([name, image]).toEqual([name, expect.stringMatching(/:\d+\.\d+/)]);
    expect(services['temporal']?.image).toBe(`temporalio/server:${server}`);
    expect(services['schema']?.image).toContain(`temporalio/admin-tools:${server}-`);
    expect(services['namespace']?.image).toBe(services['schema']?.image);
  });

  test('every file that it mounts is there or is made by the steps at its head', () => {
    const made = ['certificates', 'secrets/postgres-password'];
    for (const { volumes = [] } of Object.values(services)) {
      for (const { source, type } of volumes.filter((volume) => volume.type === 'bind')) {
        const relative = path.relative(path.join(home, 'compose'), source);
        expect([type, relative, made.includes(relative) || existsSync(path.join(production, relative))]).toEqual([
          type,
          relative,
          true,
        ]);
      }
    }
  });

  test('only the frontend, which asks for a certificate, is open to other machines', () => {
    const open = Object.values(services).flatMap(({ ports = [] }) =>
      ports.filter(({ host_ip }) => host_ip !== '127.0.0.1').map(({ target }) => target),
    );
    expect(open).toEqual([7233]);
    expect(text('server/production.yaml')).toMatch(/requireClientAuth: true/);
  });

  test('the schema comes before the server, the server before the namespace', () => {
    expect(services['temporal']?.depends_on).toEqual({
      schema: expect.objectContaining({ condition: 'service_completed_successfully' }),
    });
    expect(services['namespace']?.depends_on).toEqual({
      temporal: expect.objectContaining({ condition: 'service_healthy' }),
    });
  });

  test('no secret stands in it or in an environment', () => {
    expect(rendered).not.toContain('hunter2');
    for (const { environment = {} } of Object.values(services))
      expect(
        Object.keys(environment).filter((name) => /PASSWORD$|_KEY$/.test(name) && name !== 'TEMPORAL_TLS_KEY'),
      ).toEqual([]);
  });
});

describe('set-up-namespace.sh', () => {
  test('registers the search attributes of the contracts, no more and no fewer', () => {
    const found = [...text('set-up-namespace.sh').matchAll(/--name (\w+) --type (\w+)/g)].map(([, name, type]) => [
      name,
      type,
    ]);
    expect(found).toEqual(searchAttributes.map(({ name, type }) => [name, TypedSearchAttributes.toMetadataType(type)]));
  });
});

describe('scripts', () => {
  test.each(['make-certificates.sh', 'set-up-schema.sh', 'set-up-namespace.sh'])(
    '%s is executable and parses',
    async (file) => {
      expect(statSync(path.join(production, file)).mode & 0o111).toBe(0o111);
      await run('sh', ['-n', path.join(production, file)]);
    },
  );
});

describe('make-certificates.sh', () => {
  const certificates = path.join(home, 'certificates');
  const script = path.join(production, 'make-certificates.sh');
  const pem = (name: string) => readFileSync(path.join(certificates, name));
  beforeAll(async () => {
    await run('sh', [script, certificates, 'localhost', 'temporal.example.com', '127.0.0.1', '10.20.30.40', 'fd00::1']);
  });

  test('the server carries every name, as name or address', async () => {
    const { stdout } = await run('openssl', [
      'x509',
      '-in',
      path.join(certificates, 'server.pem'),
      '-noout',
      '-ext',
      'subjectAltName',
    ]);
    expect(stdout).toMatch(
      /DNS:localhost, DNS:temporal\.example\.com, IP Address:127\.0\.0\.1, IP Address:10\.20\.30\.40, IP Address:FD00:0:0:0:0:0:0:1/,
    );
  });

  test('keys are for their owner only', () => {
    for (const name of ['ca.key', 'server.key', 'client.key'])
      expect(statSync(path.join(certificates, name)).mode & 0o077).toBe(0);
  });

  test('a second run leaves everything as it is, and one removed certificate is made anew', async () => {
    const before = ['ca.pem', 'server.pem', 'client.pem'].map(pem);
    await run('sh', [script, certificates, 'localhost']);
    expect(['ca.pem', 'server.pem', 'client.pem'].map(pem)).toEqual(before);
    rmSync(path.join(certificates, 'client.pem'));
    await run('sh', [script, certificates, 'localhost']);
    expect(pem('client.pem')).not.toEqual(before[2]);
  });

  test.each([
    ['client.pem of this authority', () => ({ cert: pem('client.pem'), key: pem('client.key') }), true],
    ['one more client', () => ({ cert: pem('ana.pem'), key: pem('ana.key') }), true],
    ['no certificate', () => ({}), false],
    [
      'one of another authority',
      () => ({
        cert: readFileSync(path.join(home, 'other/client.pem')),
        key: readFileSync(path.join(home, 'other/client.key')),
      }),
      false,
    ],
    ['the certificate of the server', () => ({ cert: pem('server.pem'), key: pem('server.key') }), false],
  ])('a server that asks for certificates and %s: accepted is %3$s', async (_, own, accepted) => {
    await run('sh', [script, certificates, '--client', 'ana']);
    await run('sh', [script, path.join(home, 'other'), 'localhost']);
    const server = createTlsServer(
      {
        cert: pem('server.pem'),
        key: pem('server.key'),
        ca: pem('ca.pem'),
        requestCert: true,
        rejectUnauthorized: true,
      },
      (socket) => socket.end('welcome'),
    );
    server.on('tlsClientError', () => undefined).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const said = await new Promise<string>((resolve) => {
      let received = '';
      const socket = connectTls({ host: '127.0.0.1', port, servername: 'localhost', ca: pem('ca.pem'), ...own() });
      socket
        .on('data', (data) => (received += String(data)))
        .on('end', () => resolve(received))
        .on('error', () => resolve('refused'));
    });
    server.close();
    expect(said === 'welcome').toBe(accepted);
  });
});

describe('guardia-worker.service', () => {
  const unit = text('guardia-worker.service');
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1];

  test('waits longer than the worker does, and starts it again for ever', () => {
    expect(Number(value('TimeoutStopSec'))).toBeGreaterThan(SHUTDOWN_FORCE_SECONDS);
    expect(unit).toContain(`${SHUTDOWN_GRACE_SECONDS} s`);
    expect([value('Restart'), value('StartLimitIntervalSec'), value('KillMode')]).toEqual(['always', '0', 'process']);
  });

  test('systemd accepts it', async () => {
    // It also looks for the programs: they are not installed where tests run.
    const copy = path.join(home, 'guardia-worker.service');
    writeFileSync(
      copy,
      unit.replace('/usr/bin/node', process.execPath).replace(/^(WorkingDirectory|Documentation)=.*$/gm, ''),
    );
    const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', copy]);
    expect(`${stdout}${stderr}`).not.toContain('guardia-worker');
  });
});

describe('guardia-watcher.service', () => {
  const unit = text('guardia-watcher.service');

  test('is started again for ever, and remembers apart from the worker', () => {
    expect(unit).toMatch(/^Restart=always$/m);
    expect(unit).toMatch(/^StartLimitIntervalSec=0$/m);
    expect(unit).toMatch(/^StateDirectory=guardia-watcher$/m);
    expect(unit).toContain('GUARDIA_STATE=/var/lib/guardia-watcher');
  });

  test('starts a command that there is, and systemd accepts it', async () => {
    const [, file, name] = /^ExecStart=\S+ \/opt\/guardia\/(\S+) (\w+)$/m.exec(unit) ?? [];
    expect(file).toBe('.build/client/main.js');
    expect(commands.map((command) => command.name)).toContain(name);
    const copy = path.join(home, 'guardia-watcher.service');
    writeFileSync(
      copy,
      unit.replace('/usr/bin/node', process.execPath).replace(/^(WorkingDirectory|Documentation)=.*$/gm, ''),
    );
    const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', copy]);
    expect(`${stdout}${stderr}`).not.toContain('guardia-watcher');
  });
});

describe('temporal.toml.example', () => {
  test('every profile of it makes a connection', () => {
    const certificates = path.join(home, 'profile-certificates');
    mkdirSync(certificates);
    for (const name of ['ca.pem', 'client.pem', 'client.key']) writeFileSync(path.join(certificates, name), name);
    const file = path.join(home, 'temporal.toml');
    writeFileSync(file, text('temporal.toml.example').replaceAll('/etc/guardia/certificates', certificates));
    const target = (profile: string) => configuredTarget({ TEMPORAL_CONFIG_FILE: file, TEMPORAL_PROFILE: profile });
    const pair = { crt: expect.anything(), key: expect.anything() };
    expect(target('production')).toMatchObject({
      address: 'temporal.example.com:7233',
      namespace: 'guardia',
      connection: { tls: { serverRootCACertificate: expect.anything(), clientCertPair: pair } },
    });
    expect(target('cloud')).toMatchObject({
      namespace: 'guardia.a1b2c',
      connection: { tls: true, apiKey: expect.any(String) },
    });
    expect(target('cloud-mtls')).toMatchObject({ connection: { tls: { clientCertPair: pair } } });
  });
});

describe('server/production.yaml', () => {
  test('filled in, it is YAML with every service on its port and the password from the environment only', () => {
    // What the server's template engine would put there.
    const filled = text('server/production.yaml')
      .replace(/^\{\{-? \$.*\n/gm, '')
      .replace(/^ *\{\{-? (range|end).*\n/gm, '')
      .replaceAll(/\{\{ add \$port (\d+) \}\}/g, (_, offset: string) => String(7233 + Number(offset)))
      .replaceAll('{{ $port }}', '7233')
      .replaceAll(/\{\{ \$store \}\}/g, 'default')
      .replaceAll(/\{\{ \$certificates \}\}/g, '/c')
      .replaceAll(/\{\{.*?\}\}/g, 'x');
    const config = parse(filled) as {
      services: Record<string, { rpc: { grpcPort: number; membershipPort: number; bindOnLocalHost?: boolean } }>;
    };
    const ports = Object.values(config.services).flatMap(({ rpc }) => [rpc.grpcPort, rpc.membershipPort]);
    expect(ports).toEqual(Array.from({ length: 10 }, (_, at) => 7233 + at));
    const open = Object.entries(config.services).filter(([, { rpc }]) => rpc.bindOnLocalHost !== true);
    expect(open.map(([name]) => name)).toEqual(['frontend']);
    expect(text('server/production.yaml')).toContain('password: {{ env "POSTGRES_PASSWORD" | quote }}');
  });
});
