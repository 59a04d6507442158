import { readFileSync } from 'node:fs';
import { ApplicationFailure } from '@temporalio/common';
import { splitRemedy } from '../../workflows/contracts/errors.js';
import { hostsOf } from '../../workflows/contracts/host-groups.js';
import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { Database, System } from '../../workflows/contracts/system.js';
import { isUnset } from '../../workflows/contracts/unset.js';
import { localTransport } from '../hosts/local-transport.js';
import { commandLine } from '../hosts/shell-quoting.js';
import type { SshHost, SshPool } from '../hosts/ssh-pool.js';
import { atLeast, installLine, packagesOf, type Examination, type Finding } from './findings.js';

const script = readFileSync(new URL('./probe-host.sh', import.meta.url), 'utf8');

/** A host that has not answered by then counts as silent. Milliseconds. */
const PROBE_MS = 45_000;
/** Signatures of S3 requests hold for 15 minutes; durations in reports are compared across machines. Seconds. */
const CLOCK_SKEW_SECONDS = 5;
/** The script's own lines and the job's bounded tails fit many times. KiB. */
const STATE_FREE_KIB = 100 * 1024;
/** Scratch of a dump: its parts wait here until they are stored, 16 MiB or more each. KiB. */
const SHM_FREE_KIB = 256 * 1024;
/** The curl whose `--aws-sigv4` signs headers as S3 wants them. */
const CURL_VERSION = '7.88';

/** What is asked of a host, from the inventory. */
export interface HostNeeds {
  target: HostTarget;
  /** Whether backups are made there: the tools of the stream, and the object store. */
  backup: boolean;
  databases: { name: string; major: number; access: Database['access']; port: number; place: string; user: string }[];
  /** URL of the object store, where it is known. */
  endpoint?: string | undefined;
}

/** What the inventory asks of a host of a system; what is not filled in there is not asked for. */
export function hostNeeds(system: System, name: string, target: HostTarget): HostNeeds {
  const { endpoint } = system.objectStore;
  const isOn = (on: string): boolean => hostsOf(system, on).includes(name);
  const databases = Object.entries(system.databases).filter(([, { on }]) => isOn(on));
  const backup = databases.length > 0 || Object.values(system.backup.configuration).some(({ on }) => isOn(on));
  return {
    target,
    backup,
    databases: databases.flatMap(([database, { version, port, access }]) => {
      if (isUnset(version)) return [];
      const service = access.kind === 'container' ? system.services[access.service] : undefined;
      const place =
        access.kind === 'password'
          ? access.address
          : service?.kind === 'compose'
            ? `${service.project}/${service.service}`
            : service?.kind === 'container'
              ? service.container
              : '-';
      return [
        {
          name: database,
          major: version,
          access,
          port,
          place,
          user: access.kind === 'peer' ? access.osUser : access.user,
        },
      ];
    }),
    ...(backup && !isUnset(endpoint) ? { endpoint } : {}),
  };
}

/**
 * Looks at one host with one call and says what is missing there. Reads only. Never throws for what a host is like: a host
 * that cannot be reached is a finding, too.
 */
export async function examineHost(needs: HostNeeds, ssh: SshPool, about: string): Promise<Examination> {
  const { target } = needs;
  const transport = target.connection === 'local' ? localTransport : ssh.transport(target as SshHost);
  const line = commandLine([
    '/bin/sh',
    '-c',
    script,
    'doctor',
    'login',
    target.become,
    script,
    target.stateDirectory === '' ? '/var/lib/guardia' : target.stateDirectory,
    needs.endpoint ?? '-',
    ...needs.databases.map(({ name, major, access, port, place, user }) =>
      [name, major, access.kind, port, place, user].join(' '),
    ),
  ]);
  const chunks: Buffer[] = [];
  let heardAt: number | undefined;
  try {
    await transport.execute(line, {
      signal: AbortSignal.timeout(PROBE_MS),
      onStdout: (chunk) => {
        chunks.push(chunk);
        // The first lines come with the host's own time: the nearest moment to compare it with.
        if (heardAt === undefined && Buffer.concat(chunks).includes('\ntime=')) heardAt = Date.now();
      },
    });
  } catch (error) {
    return { about, findings: [unreachable(target, error)] };
  }
  const probe = parseProbe(Buffer.concat(chunks).toString('utf8'));
  const findings = judgeHost(probe, needs, heardAt ?? Date.now());
  const remote = target.connection === 'local' ? undefined : target.connection;
  const install = installLine(packagesOf(findings), remote);
  return { about, findings, ...(install === undefined ? {} : { install }) };
}

function unreachable(target: HostTarget, error: unknown): Finding {
  const failed = error instanceof ApplicationFailure ? error : undefined;
  const { message: found, remedy } = splitRemedy(failed ?? `${target.name} did not answer within ${PROBE_MS / 1000} s`);
  const ids: Record<string, Finding['id']> = {
    HostKeyRefused: 'host-key',
    HostLoginRefused: 'login',
    SecretUnavailable: 'identity',
  };
  return {
    id: ids[failed?.type ?? ''] ?? 'reachable',
    title: 'reached over SSH',
    state: 'missing',
    found,
    remedy:
      remedy ?? `Check address and port in the inventory, and that this machine may reach it${addressText(target)}`,
  };
}

function addressText({ connection }: HostTarget): string {
  return connection === 'local' ? '' : `: nc -vz ${connection.address} ${connection.port}`;
}

/** What the script said: the last value of each name; `pgdump` may stand there several times. */
export interface Probe {
  values: ReadonlyMap<string, string>;
  pgDumps: number[];
}

export function parseProbe(text: string): Probe {
  const values = new Map<string, string>();
  const pgDumps: number[] = [];
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=');
    if (equals < 1) continue;
    const name = line.slice(0, equals);
    const value = line.slice(equals + 1).trim();
    if (name === 'pgdump') pgDumps.push(Number(value));
    values.set(name, value);
  }
  return { values, pgDumps };
}

/** Tools that guardia's own script on a host needs, with the Debian package of each. */
const BASE_TOOLS: Readonly<Record<string, string>> = {
  flock: 'util-linux',
  setsid: 'util-linux',
  timeout: 'coreutils',
  ps: 'procps',
  awk: 'mawk',
  sed: 'sed',
  grep: 'grep',
  tail: 'coreutils',
  dd: 'coreutils',
};
/** Tools of the backup stream, with the Debian package and the oldest version of each. */
const BACKUP_TOOLS: readonly { tool: string; package: string; least?: string; why: string }[] = [
  { tool: 'bash', package: 'bash', least: '5.0', why: 'the scripts of a backup' },
  { tool: 'tar', package: 'tar', why: 'configuration files' },
  { tool: 'openssl', package: 'openssl', why: 'checksums' },
  { tool: 'zstd', package: 'zstd', why: 'compression' },
  { tool: 'age', package: 'age', why: 'encryption' },
];

/** What a host's answer means. `heardAt`: when its clock reading arrived here, milliseconds since 1970. Pure. */
export function judgeHost({ values }: Probe, needs: HostNeeds, heardAt: number): Finding[] {
  const findings: Finding[] = [];
  const add = (finding: Finding): void => void findings.push(finding);
  const { target } = needs;
  const has = (tool: string): boolean => values.has(`tool.${tool}`);

  add({
    id: 'reachable',
    title: target.connection === 'local' ? 'this machine' : 'reached over SSH, host key and login',
    state: 'ok',
    found: `as ${values.get('login') ?? '?'}, ${values.get('os') || 'unknown system'}`,
  });
  if (!values.has('end')) {
    add({
      id: 'answer',
      title: 'answers to its end',
      state: 'missing',
      found: 'the look at this host was cut off',
      remedy: 'Try again; then look at /bin/sh on this host',
    });
    return findings;
  }
  const sudo = values.get('sudo');
  if (sudo !== undefined)
    add(
      sudo === 'ok'
        ? { id: 'sudo', title: 'root by sudo', state: 'ok', found: 'without a password' }
        : {
            id: 'sudo',
            title: 'root by sudo',
            state: 'missing',
            found: sudo,
            remedy: `On the host, as root: echo '${values.get('login')} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/guardia && chmod 440 /etc/sudoers.d/guardia`,
            ...(/not found/.test(sudo) ? { packages: ['sudo'] } : {}),
          },
    );

  const base = Object.keys(BASE_TOOLS).filter((tool) => !has(tool));
  add(
    base.length === 0
      ? { id: 'base-tools', title: 'tools for jobs', state: 'ok', found: 'flock, setsid, timeout, ps' }
      : {
          id: 'base-tools',
          title: 'tools for jobs',
          state: 'missing',
          found: `not there: ${base.join(', ')}`,
          packages: base.map((tool) => BASE_TOOLS[tool] as string),
        },
  );
  add(
    values.has('systemd') && has('systemd-run')
      ? { id: 'systemd', title: 'systemd', state: 'ok', found: 'jobs are transient units' }
      : {
          id: 'systemd',
          title: 'systemd',
          state: 'warning',
          found: 'not running: jobs are processes of their own, without limits on memory',
        },
  );
  findings.push(
    clock(values, heardAt),
    space(values, 'state', target.stateDirectory || '/var/lib/guardia', STATE_FREE_KIB),
  );
  findings.push(space(values, 'shm', '/dev/shm', needs.backup ? SHM_FREE_KIB : 1024));
  if (!needs.backup) return findings;

  for (const { tool, package: name, least, why } of BACKUP_TOOLS) {
    const version = values.get(`version.${tool}`) ?? '';
    const tooOld = least !== undefined && version !== '' && !atLeast(version, least);
    if (has(tool) && !tooOld) add({ id: `tool-${tool}`, title: `${tool}: ${why}`, state: 'ok', found: version });
    else
      add({
        id: `tool-${tool}`,
        title: `${tool}: ${why}`,
        state: 'missing',
        found: tooOld ? `${version}, older than ${least}` : 'not installed',
        packages: [name],
      });
  }
  findings.push(curl(values, has('curl')), store(values, needs.endpoint));
  for (const database of needs.databases)
    findings.push(...databaseFindings(values, database, has('docker'), has('setpriv')));
  return findings;
}

function clock(values: ReadonlyMap<string, string>, heardAt: number): Finding {
  const title = 'clock';
  const time = Number(values.get('time')) * 1000;
  if (!Number.isFinite(time)) return { id: 'clock', title, state: 'skipped', found: 'the host does not say its time' };
  const skew = (time - heardAt) / 1000;
  const found =
    Math.abs(skew) < 1 ? 'as here' : `${Math.abs(skew).toFixed(1)} s ${skew > 0 ? 'ahead of' : 'behind'} this machine`;
  if (Math.abs(skew) < CLOCK_SKEW_SECONDS) return { id: 'clock', title, state: 'ok', found };
  return {
    id: 'clock',
    title,
    state: 'missing',
    found,
    remedy: 'Set the clocks by the network: timedatectl set-ntp true',
    packages: ['systemd-timesyncd'],
  };
}

function space(
  values: ReadonlyMap<string, string>,
  name: 'state' | 'shm',
  directory: string,
  leastKiB: number,
): Finding {
  const title = `space in ${directory}`;
  const id = `space-${name}`;
  const free = values.get(`${name}.freeKiB`);
  if (free === undefined || free === '')
    return {
      id,
      title,
      state: 'missing',
      found: 'there is no such directory',
      remedy: name === 'shm' ? 'Mount a tmpfs on /dev/shm' : 'Create it',
    };
  const inodes = values.get(`${name}.freeInodes`);
  const found = `${Math.round(Number(free) / 1024)} MiB free`;
  if (Number(free) < leastKiB || (inodes !== undefined && /^\d+$/.test(inodes) && Number(inodes) < 100))
    return {
      id,
      title,
      state: 'missing',
      found: `${found}${Number(inodes) < 100 ? `, ${inodes} inodes` : ''}; ${Math.round(leastKiB / 1024)} MiB are needed`,
      remedy: name === 'shm' ? 'Make /dev/shm larger: mount -o remount,size=1G /dev/shm' : 'Free some space there',
    };
  if (!values.has(`${name}.writable`))
    return {
      id,
      title,
      state: 'missing',
      found: `${found}, but it cannot be written`,
      remedy: 'Give the login root rights (become: sudo), or another stateDirectory',
    };
  return { id, title, state: 'ok', found };
}

function curl(values: ReadonlyMap<string, string>, installed: boolean): Finding {
  const title = 'curl: uploads to the object store';
  const version = values.get('version.curl') ?? '';
  if (!installed) return { id: 'tool-curl', title, state: 'missing', found: 'not installed', packages: ['curl'] };
  if (values.has('sigv4') && atLeast(version, CURL_VERSION))
    return { id: 'tool-curl', title, state: 'ok', found: version };
  return {
    id: 'tool-curl',
    title,
    state: 'missing',
    found: values.has('sigv4')
      ? `${version} signs requests in another way than ${CURL_VERSION}`
      : `${version} cannot sign requests (--aws-sigv4)`,
    remedy: `Install curl ${CURL_VERSION} or newer: from the distribution's backports`,
    packages: ['curl'],
  };
}

function store(values: ReadonlyMap<string, string>, endpoint: string | undefined): Finding {
  const title = 'object store reached from the host';
  if (endpoint === undefined)
    return { id: 'store', title, state: 'skipped', found: 'objectStore.endpoint is not filled in' };
  const [status = '', ...words] = (values.get('store') ?? '').split(' ');
  if (status === '') return { id: 'store', title, state: 'skipped', found: 'needs curl' };
  if (status !== '000') return { id: 'store', title, state: 'ok', found: `${endpoint} answers` };
  return {
    id: 'store',
    title,
    state: 'missing',
    found: `${endpoint}: ${words.join(' ') || 'no answer'}`,
    remedy: 'Check the endpoint in the inventory, name resolution and the firewall of the host',
  };
}

function databaseFindings(
  values: ReadonlyMap<string, string>,
  database: HostNeeds['databases'][number],
  docker: boolean,
  setpriv: boolean,
): Finding[] {
  const { name, major, access, port, place, user } = database;
  const findings: Finding[] = [];
  const of = (field: string): string | undefined => values.get(`database.${name}.${field}`);
  const title = `database ${name}`;
  if (access.kind === 'container') {
    const containers = Number(of('containers') ?? NaN);
    const id = `database-${name}`;
    if (!docker) return [{ id, title, state: 'missing', found: 'docker is not installed', packages: ['docker.io'] }];
    if (containers === 1) return [{ id, title, state: 'ok', found: `container of ${place} runs` }];
    return [
      {
        id,
        title,
        state: 'missing',
        found: `${place} has ${containers} running containers, not one`,
        remedy: 'Start it, or correct the inventory',
      },
    ];
  }
  const version = of('pgdump');
  findings.push(
    version === undefined
      ? {
          id: `pg-dump-${name}`,
          title: `pg_dump ${major} for ${title}`,
          state: 'missing',
          found: 'not installed',
          remedy: `Where the distribution has another version: from apt.postgresql.org`,
          packages: [`postgresql-client-${major}`],
        }
      : { id: `pg-dump-${name}`, title: `pg_dump ${major} for ${title}`, state: 'ok', found: version },
  );
  if (access.kind === 'peer') {
    if (of('user') === undefined)
      findings.push({
        id: `login-${name}`,
        title: `user ${user} for ${title}`,
        state: 'missing',
        found: 'there is no such user',
        remedy: 'Correct databases.*.access.osUser in the inventory',
      });
    if (!setpriv)
      findings.push({
        id: 'tool-setpriv',
        title: 'setpriv: becoming the database user',
        state: 'missing',
        found: 'not installed',
        packages: ['util-linux'],
      });
  }
  const ready = of('ready');
  if (ready === undefined)
    findings.push({ id: `database-${name}`, title, state: 'skipped', found: 'needs the PostgreSQL client' });
  else if (/accepting connections/.test(ready))
    findings.push({ id: `database-${name}`, title, state: 'ok', found: ready });
  else
    findings.push({
      id: `database-${name}`,
      title,
      state: 'missing',
      found: ready,
      remedy: `Start the server, or correct port ${port} in the inventory`,
    });
  return findings;
}
