import { execa } from 'execa';
import { accessSync, constants, existsSync, readdirSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { splitRemedy } from '../../workflows/contracts/errors.js';
import { targetSecrets } from '../../workflows/contracts/notifications.js';
import type { System } from '../../workflows/contracts/system.js';
import { isUnset } from '../../workflows/contracts/unset.js';
import { workerTools } from '../object-store/worker-tools.js';
import type { Secrets } from '../secrets/resolve.js';
import { atLeast, installLine, packagesOf, type Examination, type Finding } from './findings.js';

/** The oldest Node.js that guardia runs on. */
const NODE_VERSION = '20.19.0';
const STATE_FREE_BYTES = 100 * 1024 * 1024;

/** Looks at this machine as the worker's: Node.js, the tools that read backups back, its state directory. Reads only. */
export async function examineWorkerMachine(options: {
  systems: readonly System[];
  stateDirectory: string;
}): Promise<Examination> {
  const node = process.versions.node;
  const findings: Finding[] = [
    atLeast(node, NODE_VERSION)
      ? { id: 'node', title: 'Node.js', state: 'ok', found: node }
      : {
          id: 'node',
          title: 'Node.js',
          state: 'missing',
          found: `${node}, older than ${NODE_VERSION}`,
          remedy: 'Install Node.js 22 or 24 from nodejs.org or your distribution',
        },
    stateDirectoryFinding(options.stateDirectory),
    ...(await Promise.all([
      ...[...workerTools, { tool: 'age-keygen', package: 'age' }].map((one) => tool(one, 'reading backups back')),
      tool({ tool: 'ssh-keygen', package: 'openssh-client' }, 'verifying who agreed to a plan'),
    ])),
    ...postgresFindings(options.systems),
  ];
  const install = installLine(packagesOf(findings));
  return { about: 'this machine', findings, ...(install === undefined ? {} : { install }) };
}

async function tool(
  { tool: name, package: from, least }: (typeof workerTools)[number],
  what: string,
): Promise<Finding> {
  const id = `tool-${name}`;
  const title = `${name}: ${what}`;
  const ask = name === 'openssl' ? 'version' : '--version';
  // Some tell no version, and fail when they are asked.
  const { stdout, stderr, code } = await execa(name, [ask], { reject: false, timeout: 10_000, stdin: 'ignore' });
  const found = /[0-9]+\.[0-9][0-9.]*/.exec(`${stdout}\n${stderr}`)?.[0];
  if (code === 'ENOENT') return { id, title, state: 'missing', found: 'not installed', packages: [from] };
  if (least !== undefined && found !== undefined && !atLeast(found, least))
    return { id, title, state: 'missing', found: `${found}, older than ${least}`, packages: [from] };
  return { id, title, state: 'ok', found: found ?? 'there' };
}

/** An archive is read by its own version of pg_restore or a newer one. */
function postgresFindings(systems: readonly System[]): Finding[] {
  const needed = new Map<number, string[]>();
  for (const system of systems)
    for (const [name, { version }] of Object.entries(system.databases))
      if (!isUnset(version)) needed.set(version, [...(needed.get(version) ?? []), `${system.system}/${name}`]);
  const there = postgresMajors();
  return [...needed]
    .sort(([a], [b]) => a - b)
    .map(([major, databases]): Finding => {
      const title = `pg_restore ${major} or newer: ${databases.join(', ')}`;
      const fitting = there.find((candidate) => candidate >= major);
      return fitting === undefined
        ? {
            id: `pg-restore-${major}`,
            title,
            state: 'missing',
            found: there.length === 0 ? 'not installed' : `only ${there.join(', ')}`,
            remedy: 'Where the distribution has another version: from apt.postgresql.org',
            packages: [`postgresql-client-${major}`],
          }
        : { id: `pg-restore-${major}`, title, state: 'ok', found: String(fitting) };
    });
}

function postgresMajors(): number[] {
  const majors = new Set<number>();
  for (const [parent, pattern] of [
    ['/usr/lib/postgresql', /^(\d+)$/],
    ['/usr', /^pgsql-(\d+)$/],
  ] as const) {
    if (!existsSync(parent)) continue;
    for (const entry of readdirSync(parent)) {
      const major = pattern.exec(entry)?.[1];
      if (major !== undefined && existsSync(path.join(parent, entry, 'bin/pg_restore'))) majors.add(Number(major));
    }
  }
  return [...majors].sort((a, b) => a - b);
}

function stateDirectoryFinding(directory: string): Finding {
  const id = 'state-directory';
  const title = `state directory ${directory}`;
  // It is made when it is needed: what counts until then is the nearest one that is there.
  let at = directory;
  while (!existsSync(at) && path.dirname(at) !== at) at = path.dirname(at);
  try {
    accessSync(at, constants.W_OK);
  } catch {
    const remedy = 'Set GUARDIA_STATE to a directory that this user can write';
    return { id, title, state: 'missing', found: `${at} cannot be written by this user`, remedy };
  }
  const { bavail, bsize } = statfsSync(at);
  const free = bavail * bsize;
  const found = `${Math.round(free / 1024 / 1024)} MiB free`;
  if (free >= STATE_FREE_BYTES) return { id, title, state: 'ok', found };
  return { id, title, state: 'missing', found, remedy: 'Free some space there' };
}

/**
 * Looks at a system's secrets as this machine has them: whether each reference can be resolved, and whether the age identity
 * opens what the recipients encrypt. No value leaves this function.
 */
export async function examineSecrets(system: System, secrets: Secrets): Promise<Finding[]> {
  const references = referencesOf(system);
  const findings: Finding[] = [];
  let resolvable = 0;
  for (const [reference, what] of references) {
    try {
      await secrets.resolve(reference);
      resolvable += 1;
    } catch (error) {
      const { message, remedy } = splitRemedy(error);
      findings.push({
        id: `secret-${what}`,
        title: `secret ${what}`,
        state: 'missing',
        found: message,
        ...(remedy === undefined ? {} : { remedy }),
      });
    }
  }
  if (resolvable > 0)
    findings.push({
      id: 'secrets',
      title: 'secrets',
      state: 'ok',
      found: `${resolvable} of ${references.size} can be read`,
    });
  const { identity, recipients } = system.backup;
  if (isUnset(identity) || isUnset(recipients) || findings.some(({ id }) => id === 'secret-backup.identity'))
    return findings;
  findings.push(await identityFinding((await secrets.resolve(identity)).reveal(), recipients));
  return findings;
}

/** Every secret reference of a system that the worker resolves, with the first place that names it. */
function referencesOf(system: System): Map<string, string> {
  const references = new Map<string, string>();
  const add = (value: unknown, what: string): void => {
    if (typeof value === 'string' && !references.has(value)) references.set(value, what);
  };
  for (const [name, host] of Object.entries(system.hosts))
    if (host.connection !== 'local') add(host.connection.identity, `hosts.${name}.connection.identity`);
  for (const [name, { access }] of Object.entries(system.databases))
    if (access.kind === 'password') add(access.password, `databases.${name}.access.password`);
  const { worker, hosts } = system.objectStore.keys;
  add(worker.accessKeyId, 'objectStore.keys.worker.accessKeyId');
  add(worker.secretAccessKey, 'objectStore.keys.worker.secretAccessKey');
  for (const [name, key] of Object.entries(hosts)) {
    add(key.accessKeyId, `objectStore.keys.hosts.${name}.accessKeyId`);
    add(key.secretAccessKey, `objectStore.keys.hosts.${name}.secretAccessKey`);
  }
  add(system.backup.identity, 'backup.identity');
  for (const [name, target] of Object.entries(system.notifications))
    for (const [field, value] of Object.entries(targetSecrets(target))) add(value, `notifications.${name}.${field}`);
  add(system.mail?.password, 'mail.password');
  add(system.watcher.heartbeat, 'watcher.heartbeat');
  return references;
}

async function identityFinding(identity: string, recipients: readonly string[]): Promise<Finding> {
  const id = 'age-identity';
  const title = 'age identity opens the backups';
  // The identity goes in by a pipe: in an argument, everybody on this machine could read it.
  const { stdout, stderr, failed } = await execa('age-keygen', ['-y'], {
    input: `${identity}\n`,
    reject: false,
    timeout: 10_000,
  });
  if (failed && stdout === '') {
    const known = /ENOENT/.test(stderr) || stderr === '';
    return {
      id,
      title,
      state: known ? 'skipped' : 'missing',
      found: known ? 'needs age-keygen' : 'age-keygen does not take it for an identity',
      ...(known ? {} : { remedy: 'Put the file that age-keygen wrote there' }),
    };
  }
  const own = stdout.split('\n').filter((line) => line.startsWith('age1'));
  const fitting = own.find((key) => recipients.includes(key));
  if (fitting !== undefined) return { id, title, state: 'ok', found: `it is recipient ${fitting.slice(0, 12)}...` };
  return {
    id,
    title,
    state: 'missing',
    found: `its public key ${own[0] ?? '?'} is not among backup.recipients: what is encrypted to them cannot be read back here`,
    remedy: 'Correct backup.recipients or backup.identity in the inventory, before the next backup',
  };
}
