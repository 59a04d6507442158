import { cancellationSignal } from '@temporalio/activity';
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import { sameSetting, type SettingKind } from '../../workflows/contracts/postgresql-setting.js';
import type { SeenCluster } from '../../workflows/contracts/provision-observation.js';
import { SecretSource } from '../../workflows/contracts/secret-source.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';
import { findSecrets } from '../secret-files/secret-values.js';
import type { Secrets } from '../secrets/resolve.js';

const script = readFileSync(new URL('./cluster.sh', import.meta.url), 'utf8');

const Identifier = z.string().regex(/^[a-z_][a-z0-9_]{0,62}$/, 'lower-case letters, digits and _');
export const ClusterArgument = z.strictObject({
  version: z.int(),
  port: z.int(),
  settingsFile: AbsolutePath,
  role: Identifier,
  database: Identifier,
  password: SecretSource,
});
export type ClusterArgument = z.infer<typeof ClusterArgument>;

export const ClusterQuestion = ClusterArgument.extend({
  settings: z.array(z.string().regex(/^[a-z_.]+$/)).describe('Names of settings that guardia is to write'),
});
export type ClusterQuestion = z.infer<typeof ClusterQuestion>;

interface Dependencies {
  hosts: Hosts;
  secrets: Secrets;
}

interface Seen extends SeenCluster {
  /** Settings of our file that are not in force: overridden by a later file, or wrong. */
  notApplied: string[];
  /** Lines of pg_hba.conf that the server cannot read: it goes on with those of before, and does not start again. */
  hbaErrors: string[];
}

/** What the script says. */
interface Told extends Omit<SeenCluster, 'ownerPassword'> {
  notApplied: (SettingKind & { name: string; value: string; winner: string | null })[];
  hbaErrors: string[];
  /** What the server keeps as the owner's password: it does not leave this file. */
  kept: string | null;
}

/** Looks with the password of the inventory, or without one: an undo is not to fail because of what somebody has done to a secret. */
async function look(
  { hosts, secrets }: Dependencies,
  context: CallContext,
  cluster: ClusterArgument,
  { settings = [], login = true }: { settings?: readonly string[]; login?: boolean } = {},
): Promise<Seen> {
  const sources = login ? [{ ...cluster.password, make: true }] : [];
  const { values } = await findSecrets({ hosts, secrets }, targetOf(context), sources);
  const password = values.get(cluster.password.name)?.reveal() ?? '';
  const { stdout } = await hosts.run(
    targetOf(context),
    {
      argv: [
        '/bin/bash',
        '-c',
        script,
        'cluster',
        'look',
        String(cluster.version),
        String(cluster.port),
        cluster.settingsFile,
        cluster.role,
        cluster.database,
        settings.join(','),
      ],
      stdin: Buffer.from(`${password}\n`),
    },
    { signal: cancellationSignal() },
  );
  const nothing: Told = {
    running: false,
    roles: [],
    databases: {},
    pendingRestart: [],
    passwordWorks: false,
    settings: {},
    overrides: [],
    notApplied: [],
    hbaErrors: [],
    kept: null,
  };
  const { kept, notApplied, ...seen } = { ...nothing, ...(JSON.parse(stdout) as Partial<Told>) };
  return {
    ...seen,
    ownerPassword:
      kept === null
        ? 'none'
        : !isPasswordOf(kept, cluster.role, password)
          ? 'other'
          : kept.startsWith('md5')
            ? 'ours, as MD5'
            : 'ours',
    // A later file that says the same takes nothing away.
    notApplied: notApplied
      .filter((one) => one.winner === null || !sameSetting(one.name, one.value, one.winner, one))
      .map(({ name }) => name),
  };
}

/** A cluster: whether it runs, its roles and databases, what is in force, and whether the owner can log in. Reads only. */
export async function observeCluster(
  dependencies: Dependencies,
  context: CallContext,
  { settings, ...cluster }: ClusterQuestion,
): Promise<SeenCluster> {
  const { notApplied: _, hbaErrors: __, ...seen } = await look(dependencies, context, cluster, { settings });
  return seen;
}

/** What the server keeps instead of a password (RFC 5803), so that a password is in no statement and no log of the server. */
export function scramVerifier(password: string, salt = randomBytes(16), iterations = 4096): string {
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest();
  const stored = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${stored}:${hmac(salted, 'Server Key').toString('base64')}`;
}

/** Whether what the server keeps, a SCRAM verifier or the MD5 of before, is of this password. Pure. */
export function isPasswordOf(kept: string, role: string, password: string): boolean {
  const [, iterations, salt = ''] = /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(kept) ?? [];
  if (iterations === undefined) return kept === `md5${createHash('md5').update(`${password}${role}`).digest('hex')}`;
  return kept === scramVerifier(password, Buffer.from(salt, 'base64'), Number(iterations));
}

interface RoleEntry {
  /** What the server kept as the password; null without one, undefined where there was no such role. */
  before: { password: string | null; canLogin: boolean } | null;
}
interface DatabaseEntry {
  existed: boolean;
}

export function createClusterActivities(dependencies: Dependencies) {
  const { hosts } = dependencies;
  const sql = async (
    context: CallContext,
    cluster: ClusterArgument,
    database: string,
    text: string,
  ): Promise<string> => {
    const { stdout } = await hosts.run(
      targetOf(context),
      {
        argv: ['/bin/bash', '-c', script, 'cluster', 'sql', String(cluster.version), String(cluster.port), database],
        stdin: Buffer.from(text),
      },
      { fence: context.fence, signal: cancellationSignal() },
    );
    return stdout.trim();
  };
  const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

  return {
    /**
     * Makes the owner's role, and gives it the password of its secret. Throws `HostUnusable` where the role may log in with another one: what
     * runs may use it. Idempotent by (run, step); undo `restoreRole`.
     */
    async makeRole({ with: raw, context }: CallInput) {
      const cluster = ClusterArgument.parse(raw);
      const { role } = cluster;
      const answer = await sql(
        context,
        cluster,
        'postgres',
        `select rolcanlogin, coalesce(rolpassword, '-') from pg_authid where rolname = ${literal(role)};`,
      );
      const kept = answer.slice(answer.indexOf('|') + 1);
      const before: RoleEntry['before'] =
        answer === '' ? null : { password: kept === '-' ? null : kept, canLogin: answer.startsWith('t') };
      const target = targetOf(context);
      const { values } = await findSecrets(dependencies, target, [cluster.password]);
      const password = values.get(cluster.password.name);
      if (!password)
        throw failure('SecretUnavailable', `${target.name} has no value for ${cluster.password.name} yet`, {
          host: target.name,
          step: context.step,
          remedy: 'Name it in a file with secrets of this host, or say in secrets.NAME.from where the worker finds it',
        });
      if (before?.canLogin && before.password !== null && !isPasswordOf(before.password, role, password.reveal()))
        throw failure('HostUnusable', `${role} on ${target.name} has another password than ${cluster.password.name}`, {
          host: target.name,
          step: context.step,
          remedy: `Put the password that ${role} has where ${cluster.password.name} is read from, or change it by hand with ALTER ROLE`,
        });
      await remember<RoleEntry>(hosts, context, () => Promise.resolve({ before }));
      await sql(
        context,
        cluster,
        'postgres',
        `do $$ begin if not exists (select from pg_roles where rolname = ${literal(role)}) then create role ${role}; end if; end $$;
alter role ${role} login password ${literal(scramVerifier(password.reveal()))};`,
      );
    },

    /** Undo of `makeRole`: drops the role that it made, or puts back the old password and whether it may log in. Idempotent by (run, step). */
    async restoreRole({ with: raw, context }: CallInput) {
      const cluster = ClusterArgument.parse(raw);
      const { role } = cluster;
      const entry = await recall<RoleEntry>(hosts, context);
      if (!entry || !(await look(dependencies, context, cluster, { login: false })).running) return;
      await sql(
        context,
        cluster,
        'postgres',
        entry.before === null
          ? `drop role if exists ${role};`
          : `alter role ${role} ${entry.before.canLogin ? 'login' : 'nologin'} password ${entry.before.password === null ? 'null' : literal(entry.before.password)};`,
      );
    },

    /** Makes a database with its owner; one that is there stays as it is. Idempotent by (run, step); undo `dropMadeDatabase`. */
    async makeDatabase({ with: raw, context }: CallInput) {
      const cluster = ClusterArgument.parse(raw);
      const { database, role } = cluster;
      const exists = async () =>
        (await sql(context, cluster, 'postgres', `select 1 from pg_database where datname = ${literal(database)};`)) ===
        '1';
      await remember<DatabaseEntry>(hosts, context, async () => ({ existed: await exists() }));
      // There is no `create database if not exists`.
      if (!(await exists())) await sql(context, cluster, 'postgres', `create database ${database} owner ${role};`);
    },

    /** Undo of `makeDatabase`: drops the database that it made, unless something is in it by now (`ThirdState`). Idempotent. */
    async dropMadeDatabase({ with: raw, context }: CallInput) {
      const cluster = ClusterArgument.parse(raw);
      const { database } = cluster;
      const entry = await recall<DatabaseEntry>(hosts, context);
      if (!entry || entry.existed) return;
      const seen = await look(dependencies, context, cluster, { login: false });
      if (!seen.running || seen.databases[database] === undefined) return;
      const tables = await sql(
        context,
        cluster,
        database,
        `select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm', 'S') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast');`,
      );
      if (tables !== '0')
        throw thirdState(
          context,
          `database ${database}, which was empty, holds ${tables} relations and`,
          'Save it and drop it by hand',
        );
      await sql(context, cluster, 'postgres', `drop database if exists ${database};`);
    },

    /** Proves from outside that the cluster runs with its settings, and that the owner can log in. Throws `VerificationFailed`. */
    async checkCluster({ with: raw, context }: CallInput) {
      const cluster = ClusterArgument.parse(raw);
      const seen = await look(dependencies, context, cluster);
      const wrong = [
        ...(seen.running ? [] : ['it does not answer']),
        ...(seen.notApplied.length > 0 ? [`settings that another file overrides: ${seen.notApplied.join(', ')}`] : []),
        ...(seen.hbaErrors.length > 0 ? [`lines that it cannot read: ${seen.hbaErrors.join('; ')}`] : []),
        ...(seen.pendingRestart.length > 0
          ? [`settings that wait for a restart: ${seen.pendingRestart.join(', ')}`]
          : []),
        ...(seen.running && !seen.passwordWorks ? [`${cluster.role} cannot log in to ${cluster.database}`] : []),
      ];
      if (wrong.length > 0)
        throw failure('VerificationFailed', `PostgreSQL on ${targetOf(context).name}: ${wrong.join('; ')}`, {
          host: targetOf(context).name,
          step: context.step,
          remedy: `Look at ${cluster.settingsFile} and at select * from pg_file_settings, pg_hba_file_rules`,
        });
      return { summary: `${cluster.role} logged in to ${cluster.database}` };
    },
  };
}
