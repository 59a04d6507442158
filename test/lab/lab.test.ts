import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  ListPartsCommand,
  PutBucketPolicyCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { allLabs, openLab, removeStaleLabs, rootClient, startLab, type Lab } from '../../infra/lab/lab.js';
import { readState, type LabState } from '../../infra/lab/lab-state.js';
import { mountsBelow } from '../../infra/lab/mounts.js';
import { loadSystem } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { sendNotice } from '../../activities/notify/send-notice.js';
import { createSecrets } from '../../activities/secrets/resolve.js';
import { isRunning } from '../../activities/temporal/process-identity.js';
import { noticeLine, type Received } from '../../infra/lab/notices-server.js';
import { notice } from '../../workflows/contracts/notice.js';

jest.setTimeout(180_000);

/** What is on this machine of a lab that was recorded as `state`. */
function tracesOf(state: LabState, directory: string): string[] {
  const { index, services, hosts } = state;
  const recorded = [...Object.values(services), ...hosts.flatMap((host) => host.supervisor ?? [])];
  const groups = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , kind]) => kind === 'cgroup' || kind === 'cgroup2')
    .map(([, at]) => `${at}/guardia-lab/g${index}`);
  const processes = readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${directory}/`);
    } catch {
      return false;
    }
  });
  const ofThisLab = [
    ...recorded.filter(isRunning).map((one) => `process ${one.pid}`),
    ...processes.map((pid) => `process ${pid} with ${directory} in its arguments`),
    ...mountsBelow(directory),
    ...[directory].filter((at) => existsSync(at)),
  ];
  // Once it is gone, its number may be another lab's.
  if (allLabs().some((lab) => lab.index === index && lab.createdAt !== state.createdAt)) return ofThisLab;
  return [
    ...ofThisLab,
    ...[`/sys/class/net/glab${index}`, ...groups].filter((at) => existsSync(at)),
    ...readdirSync('/sys/class/net').filter((card) => card.startsWith(`vb-g${index}-`)),
    ...execFileSync('iptables-save', { encoding: 'utf8' })
      .split('\n')
      .filter((rule) => rule.includes(`guardia-lab-${index} `)),
    ...readdirSync('/run/systemd/nspawn/propagate').filter((machine) => machine.startsWith(`g${index}-`)),
  ];
}

/** What the test reads of an inventory overlay. */
interface Overlay {
  hosts: Record<string, { connection: object }>;
  backup: { recipients: string[] };
}

const stateOf = (lab: Lab): LabState => readState(lab.name) as LabState;

/** Standard output of a command on the host; the test fails when the command does. */
async function on(lab: Lab, host: string, ...argv: string[]): Promise<string> {
  const result = await lab.ssh(host, argv);
  expect(result).toMatchObject({ exitCode: 0 });
  return result.stdout.trim();
}

describe('a lab with ProofPass on it', () => {
  let lab: Lab;
  let other: Lab;

  beforeAll(async () => {
    const started = Date.now();
    [lab, other] = await Promise.all([
      startLab({
        hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 50 } }, { name: 'web' }],
        systems: ['proofpass'],
        owner: true,
      }),
      startLab({ hosts: [{ name: 'app' }], systems: [], owner: true }),
    ]);
    process.stderr.write(`two labs with three hosts were up after ${((Date.now() - started) / 1000).toFixed(1)} s\n`);
  });
  afterAll(async () => {
    await lab?.down();
    await other?.down();
  });

  test('its hosts reach each other by name, and not the hosts of another lab', async () => {
    expect(lab.hosts['app']?.address).not.toBe(other.hosts['app']?.address);
    expect(await on(lab, 'app', 'ping', '-c', '1', '-W', '2', 'web')).toContain('1 received');
    const across = await lab.ssh('web', ['ping', '-c', '1', '-W', '2', other.hosts['app']?.address ?? '']);
    expect(across.exitCode).not.toBe(0);
  });

  test('another lab that goes down leaves it alone', async () => {
    const third = await startLab({ hosts: [{ name: 'app' }], systems: [], owner: true });
    const state = stateOf(third);
    expect(tracesOf(state, third.directory).length).toBeGreaterThan(5);
    await third.down();
    expect(tracesOf(state, third.directory)).toEqual([]);
    await third.down();
    expect(await on(lab, 'app', 'hostname')).toBe('app');
    expect(await on(other, 'app', 'hostname')).toBe('app');
    await rootClient(lab.s3).send(new ListObjectsV2Command({ Bucket: lab.s3.bucket }));
  });

  test('arguments and standard input arrive as they are', async () => {
    const odd = `it's "ñ" $HOME \\ * ; \n end`;
    const echoed = await lab.ssh('app', ['sh', '-c', 'printf %s "$1"; cat', 'sh', odd], {
      stdin: Buffer.from([0, 255, 10]),
    });
    expect(echoed.stdout.startsWith(odd)).toBe(true);
    expect((await lab.ssh('app', ['sh', '-c', 'exit 7'])).exitCode).toBe(7);
    expect((await lab.ssh('app', ['wc', '-c'], { stdin: Buffer.alloc(100_000) })).stdout.trim()).toBe('100000');
    await expect(lab.ssh('nowhere', ['true'])).rejects.toThrow(/no host nowhere; its hosts: app, web/);
  });

  test('the database is what the manual describes, filled and owned by its user', async () => {
    const sql = (query: string) =>
      on(lab, 'app', 'sudo', '-u', 'postgres', 'psql', '-X', '-A', '-t', '-d', 'proofpass_prod', '-c', query);
    const tables = await sql(
      "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1",
    );
    expect(tables.split('\n')).toEqual([
      ...['attestations', 'audit_log', 'credentials', 'document_files', 'organizations', 'sessions', 'users'],
      ...['webhook_deliveries', 'webhooks'],
    ]);
    expect(await sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")).toBe('proofpass_user');
    expect(await sql("SELECT count(*) FROM pg_class WHERE relpersistence <> 'p' AND relkind = 'r'")).toBe('0');
    const megabytes = Number(await sql("SELECT pg_database_size('proofpass_prod') / 1024 / 1024"));
    expect(megabytes).toBeGreaterThan(40);
    expect(megabytes).toBeLessThan(75);
    expect(await sql('SHOW server_encoding')).toBe('UTF8');
  });

  test("the manual's files are in place, and its own script makes a backup", async () => {
    await on(lab, 'app', 'sudo', 'nginx', '-t');
    expect(await on(lab, 'app', 'sudo', 'stat', '-c', '%a %U', '/opt/proofpass/platform/.env')).toBe('600 proofpass');
    // Every secret is drawn, and no comment stands behind a value, where systemd would read it as part of it.
    const undrawn = [
      'sudo',
      'grep',
      '-cE',
      '[<@](GENERAR|HEX|BASE32|DATABASE)|^[A-Z_]+=.*[[:space:]]#',
      '/opt/proofpass/platform/.env',
    ];
    expect((await lab.ssh('app', undrawn)).stdout.trim()).toBe('0');
    expect(await on(lab, 'app', 'sudo', 'crontab', '-l')).toContain('0 2 * * * /opt/proofpass/scripts/backup-all.sh');
    await on(lab, 'app', 'sudo', '-i', '/opt/proofpass/scripts/backup-all.sh');
    const [bytes, name] = (
      await on(lab, 'app', 'sudo', 'find', '/opt/proofpass/backups/postgres', '-name', '*.gz', '-printf', '%s %f')
    ).split(' ');
    expect(name).toMatch(/^proofpass_\d+_\d+\.sql\.gz$/);
    expect(Number(bytes)).toBeGreaterThan(3_000_000);
  });

  test('the overlay tells how to reach it, and its secrets are files of their own', async () => {
    const overlay = parse(
      readFileSync(path.join(lab.environment.GUARDIA_OVERLAY, 'proofpass.yaml'), 'utf8'),
    ) as Overlay;
    expect(Object.keys(overlay)).toEqual(expect.arrayContaining(['hosts', 'objectStore', 'endpoints', 'backup']));
    expect(overlay.hosts['app']?.connection).toEqual({
      address: lab.hosts['app']?.address,
      identity: 'file:ssh/lab',
      hostKeys: [(await on(lab, 'app', 'cat', '/etc/ssh/ssh_host_ed25519_key.pub')).split(' ').slice(0, 2).join(' ')],
    });
    const references: string[] = [];
    JSON.stringify(overlay, (_, value: unknown) => {
      if (typeof value === 'string' && value.startsWith('file:')) references.push(value.slice(5));
      return value;
    });
    expect(references).toContain('s3/proofpass-app.secret');
    for (const file of references) {
      expect(statSync(path.join(lab.environment.GUARDIA_SECRETS, file)).mode & 0o777).toBe(0o600);
    }
    const recipients = overlay.backup.recipients.flatMap((one) => ['-r', one]);
    const sealed = execFileSync('age', recipients, { input: 'kept' });
    for (const key of ['operations', 'escrow']) {
      const identity = path.join(lab.secretsDirectory, `age/${key}.txt`);
      expect(execFileSync('age', ['-d', '-i', identity], { input: sealed }).toString()).toBe('kept');
    }
  });

  test("what people are told arrives at the lab's own mail server and chat, and stays there for people to read", async () => {
    // Its second host is none of ProofPass's.
    const overlay = parse(readFileSync(path.join(lab.overlayDirectory, 'proofpass.yaml'), 'utf8')) as {
      hosts: { web?: object };
      objectStore: { keys: { hosts: { web?: object } } };
    };
    delete overlay.hosts.web;
    delete overlay.objectStore.keys.hosts.web;
    const GUARDIA_OVERLAY = path.join(lab.directory, 'overlay-of-app');
    mkdirSync(GUARDIA_OVERLAY);
    writeFileSync(path.join(GUARDIA_OVERLAY, 'proofpass.yaml'), JSON.stringify(overlay));
    const { system } = loadSystem('proofpass', inventoryLocations({ GUARDIA_OVERLAY }));
    const secrets = createSecrets({ directory: lab.secretsDirectory, environment: {} });
    const failed = notice({
      ...{ event: 'failed', dedupeKey: 'k1', workflowId: 'deploy/proofpass/1', runId: 'r1' },
      ...{
        system: 'proofpass',
        title: 'deploy of proofpass: failed',
        text: 'it broke',
        occurredAt: '2026-11-22T08:00:00.000Z',
      },
    });
    const { deliveries, notes } = await sendNotice(system, failed, { secrets });
    expect({ deliveries, notes }).toMatchObject({
      deliveries: [
        { target: 'slack', outcome: 'sent' },
        { target: 'support', outcome: 'sent' },
      ],
      notes: [],
    });
    const received = lab.notices.received();
    expect(received.map(({ to }) => to).sort()).toEqual(['/slack', 'support@proofpass.test']);
    expect(received.every(({ text }) => text.includes('it broke'))).toBe(true);
    for (const one of received)
      expect(noticeLine(one)).toMatch(
        /^20\d\d-\S+Z {2}(?:\/slack|support@proofpass\.test) +.*deploy of proofpass: failed/,
      );
    const pager = JSON.stringify({ event_action: 'trigger', payload: { summary: 'proofpass: v3 is not healthy' } });
    await fetch(`${lab.notices.url}/pagerduty`, { method: 'POST', body: pager });
    expect(noticeLine(lab.notices.received().at(-1) as Received)).toMatch(/\/pagerduty +proofpass: v3 is not healthy$/);
  });

  test('a host installs packages from its own source, without another network', async () => {
    expect(await on(lab, 'web', 'ip', 'route')).not.toContain('default');
    await on(lab, 'web', 'sudo', 'apt-get', 'update');
    await on(lab, 'web', 'sudo', 'apt-get', 'install', '-y', '--no-install-recommends', 'haproxy');
    expect(await on(lab, 'web', '/usr/sbin/haproxy', '-v')).toContain('HAProxy version');
    expect(await on(lab, 'web', 'apt-cache', 'policy', 'docker-compose-plugin')).toContain(
      'file:/var/lib/lab-packages',
    );
  });

  test('docker runs a container with compose v2', async () => {
    await on(lab, 'web', 'sudo', 'systemctl', 'start', 'docker.service');
    expect(await on(lab, 'web', 'docker', 'compose', 'version')).toBe('Docker Compose version v2.40.3');
    // An image without a registry: busybox's own shell would do, but what every host has is its own programs.
    const image =
      'mkdir -p /tmp/i/bin && cp /bin/sleep /tmp/i/bin/ && cp --parents $(ldd /bin/sleep | grep -o "/[^ ]*") /tmp/i/ && tar -C /tmp/i -c . | docker import - lab/sleep:1';
    await on(lab, 'web', 'sudo', 'sh', '-c', image);
    const file = 'services: { sleeper: { image: "lab/sleep:1", command: ["/bin/sleep", "600"], init: false } }\n';
    await lab.ssh('web', ['tee', '/tmp/compose.yaml'], { stdin: file });
    await on(lab, 'web', 'sudo', 'docker', 'compose', '-f', '/tmp/compose.yaml', 'up', '-d', '--wait');
    expect(
      await on(lab, 'web', 'sudo', 'docker', 'compose', '-f', '/tmp/compose.yaml', 'ps', '--format', '{{.State}}'),
    ).toBe('running');
    expect(await on(lab, 'web', 'sudo', 'docker', 'info', '--format', '{{.Driver}} {{.CgroupVersion}}')).toBe(
      'overlay2 2',
    );
  });

  test('a host that is cut off is reached by nothing but exec, also after a reboot, until it is healed', async () => {
    await lab.cut('web');
    expect((await lab.ssh('app', ['ping', '-c', '1', '-W', '1', 'web'])).exitCode).toBe(1);
    const before = await lab.exec('web', ['cat', '/proc/sys/kernel/random/boot_id']);
    await lab.reboot('web');
    const after = await lab.exec('web', ['cat', '/proc/sys/kernel/random/boot_id']);
    expect(after.stdout).toMatch(/^[0-9a-f-]{36}\n$/);
    expect(after.stdout).not.toBe(before.stdout);
    expect((await lab.ssh('app', ['ping', '-c', '1', '-W', '1', 'web'])).exitCode).toBe(1);
    await lab.heal('web');
    expect(await on(lab, 'web', 'hostname')).toBe('web');
  });

  test('a slow host is slow both ways', async () => {
    const megabyte = Buffer.alloc(1_000_000);
    const seconds = async (work: () => Promise<unknown>): Promise<number> => {
      const started = Date.now();
      await work();
      return (Date.now() - started) / 1000;
    };
    await lab.slow('app', '8mbit');
    try {
      expect(await seconds(() => lab.ssh('app', ['head', '-c', '1000000', '/dev/zero']))).toBeGreaterThan(0.9);
      expect(await seconds(() => lab.ssh('app', ['sh', '-c', 'cat > /dev/null'], { stdin: megabyte }))).toBeGreaterThan(
        0.9,
      );
    } finally {
      await lab.heal('app');
    }
    expect(
      execFileSync('tc', ['qdisc', 'show', 'dev', `vb-g${stateOf(lab).index}-0`], { encoding: 'utf8' }),
    ).not.toContain('tbf');
    await expect(async () => lab.slow('app', 'slowly')).rejects.toThrow(/not a rate: slowly/);
  });

  test('a power cut ends everything on the host and keeps its disk', async () => {
    await on(lab, 'app', 'sudo', 'sh', '-c', 'echo kept > /root/kept; sync');
    await on(lab, 'app', 'sudo', 'systemd-run', '--unit=lasting', 'sleep', '600');
    await lab.poweroff('app');
    expect(tracesOf(stateOf(lab), 'nothing').filter((trace) => trace.includes('-0'))).toEqual([]);
    await expect(lab.exec('app', ['true'])).rejects.toThrow(/is off/);
    // The kernel may take the card of a dead host away late.
    execFileSync('ip', ['link', 'add', `vb-g${stateOf(lab).index}-0`, 'type', 'bridge']);
    await lab.poweron('app');
    expect(await on(lab, 'app', 'sudo', 'cat', '/root/kept')).toBe('kept');
    expect((await lab.ssh('app', ['systemctl', 'is-active', 'lasting'])).stdout.trim()).toBe('inactive');
    expect(await on(lab, 'app', 'systemctl', 'is-active', 'postgresql@15-main')).toBe('active');
  });

  test('a snapshot brings back hosts and objects', async () => {
    const root = rootClient(lab.s3);
    const objects = async (): Promise<(string | undefined)[] | undefined> =>
      (await root.send(new ListObjectsV2Command({ Bucket: lab.s3.bucket }))).Contents?.map(({ Key }) => Key);
    await root.send(new PutObjectCommand({ Bucket: lab.s3.bucket, Key: 'proofpass/before', Body: 'x' }));
    const before = await objects();
    const sql = ['sudo', '-u', 'postgres', 'psql', '-q', '-X', '-A', '-t', '-d', 'proofpass_prod', '-c'];
    const users = await on(lab, 'app', ...sql, 'SELECT count(*) FROM users');
    await lab.snapshot('before');
    await on(lab, 'app', ...sql, 'TRUNCATE users CASCADE');
    await root.send(new PutObjectCommand({ Bucket: lab.s3.bucket, Key: 'proofpass/after', Body: 'x' }));
    await lab.restore('before');
    expect(await on(lab, 'app', ...sql, 'SELECT count(*) FROM users')).toBe(users);
    expect(before).toContain('proofpass/before');
    expect(await objects()).toEqual(before);
    await expect(lab.restore('never')).rejects.toThrow(/no snapshot never/);
  });

  describe("the key of a host, on the lab's object store", () => {
    const Bucket = 'guardia-backups';
    let host: S3Client;
    let worker: S3Client;
    let root: S3Client;
    beforeAll(() => {
      const key = lab.s3.keys.hosts['proofpass']?.['app'];
      if (key === undefined) throw new Error('no key for the host');
      host = rootClient(lab.s3, key);
      worker = rootClient(lab.s3, lab.s3.keys.worker);
      root = rootClient(lab.s3);
    });
    const denied = { name: 'AccessDenied' };

    test("writes below its system's prefix, whole and in parts", async () => {
      await host.send(new PutObjectCommand({ Bucket, Key: 'proofpass/a', Body: 'a', IfNoneMatch: '*' }));
      const { UploadId } = await host.send(new CreateMultipartUploadCommand({ Bucket, Key: 'proofpass/b' }));
      const part = { Bucket, Key: 'proofpass/b', UploadId };
      const { ETag } = await host.send(new UploadPartCommand({ ...part, PartNumber: 1, Body: 'b' }));
      expect((await worker.send(new ListPartsCommand(part))).Parts).toHaveLength(1);
      await expect(host.send(new ListPartsCommand(part))).rejects.toMatchObject(denied);
      await expect(host.send(new AbortMultipartUploadCommand(part))).rejects.toMatchObject(denied);
      await host.send(
        new CompleteMultipartUploadCommand({ ...part, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] } }),
      );
      const got = await worker.send(new GetObjectCommand({ Bucket, Key: 'proofpass/b' }));
      expect(await got.Body?.transformToString()).toBe('b');
    });

    test('reads, lists, deletes and rules nothing, and writes nowhere else', async () => {
      const Key = 'proofpass/kept';
      const { VersionId } = await root.send(new PutObjectCommand({ Bucket, Key, Body: 'kept' }));
      await expect(host.send(new GetObjectCommand({ Bucket, Key }))).rejects.toMatchObject(denied);
      // HEAD has no body to name the error.
      await expect(host.send(new HeadObjectCommand({ Bucket, Key }))).rejects.toMatchObject({
        $metadata: { httpStatusCode: 403 },
      });
      await expect(host.send(new ListObjectsV2Command({ Bucket }))).rejects.toMatchObject(denied);
      await expect(host.send(new ListObjectVersionsCommand({ Bucket }))).rejects.toMatchObject(denied);
      await expect(host.send(new ListMultipartUploadsCommand({ Bucket }))).rejects.toMatchObject(denied);
      await expect(host.send(new DeleteObjectCommand({ Bucket, Key }))).rejects.toMatchObject(denied);
      await expect(
        host.send(new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true })),
      ).rejects.toMatchObject(denied);
      for (const elsewhere of ['certitrack/x', 'x', 'proofpass', 'proofpass-cloud/x']) {
        await expect(host.send(new PutObjectCommand({ Bucket, Key: elsewhere, Body: 'x' }))).rejects.toMatchObject(
          denied,
        );
        await expect(host.send(new CreateMultipartUploadCommand({ Bucket, Key: elsewhere }))).rejects.toMatchObject(
          denied,
        );
      }
      await expect(host.send(new PutBucketPolicyCommand({ Bucket, Policy: '{}' }))).rejects.toMatchObject(denied);
      expect((await root.send(new GetObjectCommand({ Bucket, Key, VersionId }))).VersionId).toBe(VersionId);
    });

    test("the worker's key reads and writes, and neither removes a locked version nor shortens its retention", async () => {
      const Key = 'proofpass/locked';
      const { VersionId } = await worker.send(new PutObjectCommand({ Bucket, Key, Body: 'x' }));
      await expect(worker.send(new DeleteObjectCommand({ Bucket, Key, VersionId }))).rejects.toMatchObject(denied);
      await expect(
        worker.send(new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true })),
      ).rejects.toMatchObject(denied);
      const shorter = { Mode: 'GOVERNANCE', RetainUntilDate: new Date(Date.now() + 60_000) } as const;
      for (const BypassGovernanceRetention of [false, true]) {
        const shorten = new PutObjectRetentionCommand({
          Bucket,
          Key,
          VersionId,
          Retention: shorter,
          BypassGovernanceRetention,
        });
        await expect(worker.send(shorten)).rejects.toMatchObject(denied);
      }
      await worker.send(new DeleteObjectCommand({ Bucket, Key }));
      expect((await root.send(new HeadObjectCommand({ Bucket, Key, VersionId }))).ContentLength).toBe(1);
    });
  });
});

describe('what is left', () => {
  test('a lab whose owner is killed is removed by the next start of a lab', async () => {
    const name = `killed-${process.pid}`;
    const owner = spawn(process.execPath, ['.build/test/lab/lab-owner.js', name], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(owner.stdout, 'data');
    const state = readState(name) as LabState;
    const directory = openLab(name).directory;
    expect(await removeStaleLabs()).not.toContain(name);
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    expect(tracesOf(state, directory)).not.toEqual([]);
    const next = await startLab({ hosts: [{ name: 'app' }], systems: [], owner: true });
    try {
      expect(allLabs().map((lab) => lab.name)).not.toContain(name);
      expect(tracesOf(state, directory)).toEqual([]);
    } finally {
      await next.down();
    }
  });

  test('a start that fails leaves nothing', async () => {
    const name = `failing-${process.pid}`;
    const start = startLab({ name, hosts: [{ name: 'app', enable: ['no-such.service'] }], systems: [], owner: true });
    await expect(start).rejects.toThrow(/no-such\.service/);
    expect(readState(name)).toBeUndefined();
    expect(execFileSync('mount', { encoding: 'utf8' })).not.toContain(name);
  });

  test('a request that cannot be is refused with every reason', async () => {
    const start = startLab({ name: 'Lab!', hosts: [{ name: 'a b' }, { name: 'a b' }], systems: ['../x'], owner: true });
    await expect(start).rejects.toThrow(/lab "Lab!".*\n.*host "a b"[^]*system "..\/x"[^]*only once/);
    const huge = startLab({
      hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 5 } }],
      systems: [],
      owner: true,
    });
    await expect(huge).rejects.toThrow(/10 to 10240 megabytes, not 5/);
  });
});
