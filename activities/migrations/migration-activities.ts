import { setTimeout as delay } from 'node:timers/promises';
import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { CommandEnvironment, ReleaseCommand } from '../../workflows/contracts/deployment.js';
import { failure } from '../../workflows/contracts/errors.js';
import { HostTarget } from '../../workflows/contracts/host-target.js';
import { RowBaseline, type RowsAtStake } from '../../workflows/contracts/migration.js';
import { ReleaseId } from '../../workflows/contracts/release.js';
import { StoreReference } from '../../workflows/contracts/store-reference.js';
import { ServerReference } from '../../workflows/contracts/server-reference.js';
import { cancelStepJobs, jobId, runStepJob, targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';
import { withBucket } from '../object-store/open-store.js';
import { queryServer } from '../postgres/query-server.js';
import { commandArguments, environmentArguments, environmentSecrets, scripts } from '../releases/release-script.js';
import { readDeploys } from '../run-record/deploy-records.js';
import type { Secrets } from '../secrets/resolve.js';

/** Identifiers come from the inventory, which lets only lower-case letters, digits and _ through. */
const Table = z.string().regex(/^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$/);
const Column = z.string().regex(/^[a-z_][a-z0-9_]*$/);

/** The server may be on another host than the release. */
const Database = z.object({ target: HostTarget, server: ServerReference });
const Applied = z.object({ table: Table, name: Column });
/** Text of an inventory that stands in SQL as a literal; the inventory lets no quote and no backslash through. */
const Literal = z.string().regex(/^[^'\\\p{Cc}]+$/u);
const Tables = z.array(z.object({ table: Table, createdAt: Column }));
const ObserveMigrations = z.object({ server: ServerReference, applied: Applied });
const Migrate = z.object({
  releases: z.string(),
  id: ReleaseId,
  user: z.string(),
  database: Database,
  applied: Applied,
  environment: CommandEnvironment,
  up: ReleaseCommand,
  down: ReleaseCommand.optional(),
  applicationName: Literal.optional(),
  before: z.array(z.string()).describe('Applied migrations when the plan was made'),
  atStake: Tables.default([]).describe('Tables whose new rows are counted exactly where a way back would lose them'),
  timeoutSeconds: z.number(),
});
type Migrate = z.infer<typeof Migrate>;
const TakeBack = Migrate.extend({
  down: ReleaseCommand,
  migrations: z.array(z.string()).min(1),
  baseline: RowBaseline.optional().describe('From when rows count that go with them; none in plans of older versions'),
});
const CountRows = z.object({
  database: Database,
  applied: Applied.optional().describe('Its own rows are never at stake'),
  tables: Tables,
  baseline: RowBaseline.optional(),
  record: z
    .object({ store: StoreReference, directory: z.string() })
    .optional()
    .describe('Without a baseline: where the record of the last deploy has it'),
});

/** A session that was told to end has this long. Milliseconds. */
const SESSION_MS = 20_000;
/** The most tables that are named. */
const NAMED_TABLES = 8;
/** So soon after the end of the migrations who waits for it has seen it. Milliseconds. */
const SEEN_MS = 10_000;

/** Migrations of a database: what is applied is read from the database itself, never believed of the command. */
export function createMigrationActivities(parts: { hosts: Hosts; secrets: Secrets }) {
  const { hosts, secrets } = parts;

  const applied = async (
    target: HostTarget,
    server: ServerReference,
    { table, name }: z.infer<typeof Applied>,
  ): Promise<string[]> => {
    const sql = `select to_regclass('${table}') is not null as there \\gset
\\if :there
select coalesce(json_agg(${name}::text order by ${name}::text collate "C"), '[]') from ${table};
\\else
select '[]';
\\endif
select 1 where false`;
    return z
      .array(z.string())
      .parse(JSON.parse(await queryServer(parts, target, server, sql, { signal: cancellationSignal() })));
  };
  const baseline = async (target: HostTarget, server: ServerReference): Promise<RowBaseline> => {
    const sql = `select json_build_object('at', now(), 'writes',
  (select coalesce(json_object_agg(schemaname || '.' || relname, n_tup_ins + n_tup_upd + n_tup_del), '{}') from pg_stat_user_tables),
  'changes', (select coalesce(json_object_agg(schemaname || '.' || relname, n_tup_upd + n_tup_del), '{}') from pg_stat_user_tables))`;
    return RowBaseline.parse(
      JSON.parse(await queryServer(parts, target, server, sql, { signal: cancellationSignal() })),
    );
  };

  /**
   * What was written since, but for the list of the migrations: new rows exactly where a column tells of them, all else by the counters of the
   * server.
   */
  const writtenSince = async (
    { target, server }: z.infer<typeof Database>,
    where: z.infer<typeof Applied> | undefined,
    tables: z.infer<typeof Tables>,
    then: RowBaseline,
  ): Promise<RowsAtStake['rows']> => {
    const now = await baseline(target, server);
    const exact = new Map<string, number>();
    for (const { table, createdAt } of tables) {
      // A migration may have taken the column away, or the table.
      const sql = `select count(*) = 1 as there from pg_attribute
where attrelid = to_regclass('${table}') and attname = '${createdAt}' and not attisdropped \\gset
\\if :there
select count(*) from ${table} where ${createdAt} >= '${new Date(then.at).toISOString()}';
\\endif
select 1 where false`;
      const count = await queryServer(parts, target, server, sql, { signal: cancellationSignal() });
      if (count !== '') exact.set(table, Number(count));
    }
    return Object.keys({ ...now.writes, ...Object.fromEntries(exact) })
      .filter((table) => table !== where?.table)
      .map((table) => {
        const writes = countedSince(now.writes[table], then.writes[table]);
        const inserted = exact.get(table);
        if (inserted === undefined) return { table, rows: writes, changes: 0, exact: false };
        const changes = then.changes
          ? countedSince(now.changes?.[table], then.changes[table])
          : Math.max(0, writes - inserted);
        return { table, rows: inserted, changes, exact: true };
      })
      .filter(({ rows, changes }) => rows + changes > 0)
      .sort((a, b) => b.rows + b.changes - (a.rows + a.changes));
  };

  /** The same with its lines. */
  const rowsSince = async (
    {
      database,
      applied: where,
      atStake,
    }: Pick<Migrate, 'database' | 'atStake'> & { applied?: Migrate['applied'] | undefined },
    then: RowBaseline,
  ): Promise<RowsAtStake> => {
    const rows = await writtenSince(database, where, atStake, then);
    return { rows, lines: linesOf(rows, then.at) };
  };
  /** The same as it was before the first migration went: a table that is gone is in no counter any more. */
  const rowsBefore = async (argument: Migrate, then: RowBaseline, context: CallContext): Promise<RowsAtStake> =>
    (await remember(hosts, partOf(context, 'written'), () => rowsSince(argument, then))).entry;

  /** What is applied before a step changes it, and how busy the tables are; `fresh`: by the first attempt of all. Throws `ThirdState` where that is not what the plan saw. */
  const asPlanned = async (
    { database, applied: where, before }: Migrate,
    context: CallContext,
  ): Promise<{ before: string[]; baseline: RowBaseline; fresh: boolean }> => {
    const { target, server } = database;
    const { entry, fresh } = await remember(hosts, context, async () => ({
      before: await applied(target, server, where),
      // By this the rows at stake are measured where nobody has seen the migrations end.
      baseline: await baseline(target, server),
    }));
    if (JSON.stringify(entry.before) !== JSON.stringify(before))
      throw thirdState(
        context,
        `the list of migrations in ${server.database}`,
        'Start the run again: it plans with what is applied now',
      );
    return { ...entry, fresh };
  };

  const jobArguments = ({ releases, id, user, environment }: Migrate, command: ReleaseCommand): string[] => [
    `releases=${releases}`,
    `id=${id}`,
    `user=${user}`,
    ...environmentArguments(environment),
    '--',
    ...commandArguments(command),
  ];

  const sessionName = (context: CallContext): string => `guardia ${context.runId}`;
  /** The environment of a command, by which its sessions in the server can be told from all others. */
  const named = (argument: Migrate, context: CallContext): Migrate => ({
    ...argument,
    environment: {
      ...argument.environment,
      values: { PGAPPNAME: sessionName(context), ...argument.environment.values },
    },
  });
  /**
   * Ends what a command that was stopped has left in the server, and waits until it is gone: a session outlives its client until its
   * statement ends, holds its locks, and might even commit.
   */
  const endSessions = async ({ database, applicationName }: Migrate, context: CallContext): Promise<void> => {
    const names = [sessionName(context), ...(applicationName === undefined ? [] : [applicationName])];
    const sql = `select count(pg_terminate_backend(pid)) from pg_stat_activity
where pid <> pg_backend_pid() and application_name in (${names.map((name) => `'${name}'`).join(', ')})`;
    for (const end = Date.now() + SESSION_MS; ; await delay(250)) {
      const left = await queryServer(parts, database.target, database.server, sql, { signal: cancellationSignal() });
      if (left === '0') return;
      if (Date.now() > end)
        throw failure(
          'VerificationFailed',
          `${left} sessions of the migrations do not end in ${database.server.database}`,
          {
            step: context.step,
            remedy: 'Look into pg_stat_activity',
          },
        );
    }
  };

  const jobsOf = async (context: CallContext, part: WayBack): Promise<{ id: string; state: string }[]> =>
    (await hosts.listJobs(targetOf(context))).filter(({ id }) => id.startsWith(wayBackPrefix(context, part)));
  /**
   * Before the jobs of a way back: what an earlier attempt left running is gone on with. What ended is judged by the database and not by its
   * status, so it runs anew; nothing of it is left in the server.
   */
  const goOnOrBeginAnew = async (argument: Migrate, part: WayBack, context: CallContext): Promise<void> => {
    if ((await jobsOf(context, part)).some(({ state }) => state === 'running')) return;
    await hosts.forgetJobs(targetOf(context), wayBackPrefix(context, part));
    await endSessions(argument, context);
  };

  /** Takes migrations back, newest first, each by a job of its own, and sees after each that the database knows it no more. */
  const takeBack = async (
    argument: Migrate,
    down: ReleaseCommand,
    migrations: readonly string[],
    context: CallContext,
  ): Promise<void> => {
    const host = targetOf(context);
    for (const migration of [...migrations].sort().reverse()) {
      const now = await applied(argument.database.target, argument.database.server, argument.applied);
      const before = now.filter((name) => name < migration).at(-1) ?? 'none';
      const command = {
        ...down,
        run: down.run.map((word) =>
          word.replaceAll('{migration}', () => migration).replaceAll('{before}', () => before),
        ),
      };
      await hosts.job(
        host,
        {
          id: jobId(context, context.generation, `down-${fileName(migration)}`),
          runAgainIfLost: context.runAgainIfLost,
          command: { script: scripts.run, args: jobArguments(named(argument, context), command) },
          stdin: await environmentSecrets(secrets, argument.environment),
          timeoutSeconds: command.timeoutSeconds + 60,
        },
        { fence: context.fence, signal: cancellationSignal() },
      );
      if ((await applied(argument.database.target, argument.database.server, argument.applied)).includes(migration))
        throw failure(
          'VerificationFailed',
          `the migration ${migration} is still applied in ${argument.database.server.database}, although its way back ended well`,
          { host: host.name, step: context.step, remedy: 'Look at the down command of the migration' },
        );
    }
  };

  /** Says to `discardRelease` whether a release has to stay because only it knows the way back of its migrations. Idempotent. */
  const markNeeded = async (
    { releases, id }: Migrate,
    context: CallContext,
    state: 'needed' | 'not needed',
  ): Promise<void> => {
    const mark = `${releases}/${id}/.guardia-needed`;
    await hosts.run(
      targetOf(context),
      { argv: state === 'needed' ? ['touch', mark] : ['rm', '-f', mark] },
      { fence: context.fence, signal: cancellationSignal() },
    );
  };

  /** What has become of the database since `before`. Throws `ThirdState` where a migration of before is gone. */
  const since = async (argument: Migrate, before: readonly string[], context: CallContext): Promise<string[]> => {
    const now = await applied(argument.database.target, argument.database.server, argument.applied);
    const gone = before.filter((name) => !now.includes(name));
    if (gone.length > 0)
      throw thirdState(
        context,
        `database ${argument.database.server.database} (${gone.join(', ')} is not applied any more)`,
        'Compare the table of migrations with the release, and put it right by hand',
      );
    return now.filter((name) => !before.includes(name));
  };

  return {
    /** The applied migrations of a database, in order. Reads only. */
    async observeMigrations({ with: raw, context }: CallInput) {
      const argument = ObserveMigrations.parse(raw);
      return { applied: await applied(targetOf(context), argument.server, argument.applied) };
    },

    /**
     * Applies the migrations of a release: runs its command once, as a job under the login that the environment names, and reads
     * before and after from the database. Refuses a database that is not as the plan saw it (`ThirdState`). Idempotent by (run, step, generation).
     * Returns the baseline that rows written since are measured by: of the end of the migrations, or, where nobody was there to see it, of before them.
     * That names too much, and never too little. Undo: `revertMigrations` with the same argument.
     */
    async applyMigrations({ with: raw, context }: CallInput) {
      const argument = Migrate.parse(raw);
      const { target, server } = argument.database;
      const { before, baseline: from, fresh } = await asPlanned(argument, context);
      const began = Date.now();
      const { seconds } = await runStepJob(hosts, targetOf(context), context, {
        command: { script: scripts.run, args: jobArguments(named(argument, context), argument.up) },
        stdin: await environmentSecrets(secrets, argument.environment),
        timeoutSeconds: argument.timeoutSeconds,
      });
      const added = await since(argument, before, context);
      // Its own writes are no rows at stake: a session has told the counters of all it did once it is gone.
      await endSessions(argument, context);
      const end = await baseline(target, server);
      const isSeen = fresh && Date.now() - began - seconds * 1000 < SEEN_MS;
      return {
        applied: added,
        baseline: isSeen ? end : from,
        summary: added.length === 0 ? 'nothing to apply' : `applied ${added.join(', ')}`,
      };
    },

    /**
     * Undo of `applyMigrations`: stops its job, and takes back what it has applied where that is possible. Idempotent by what the database says is
     * applied; a way back that an attempt before has left running is gone on with. Does nothing when the step never began or its transaction went back
     * by itself. Says which rows were written since the step began, where that was anything. Without `down` an applied migration is left and named, with
     * these rows: `DataAtStake`.
     */
    async revertMigrations({ with: raw, context }: CallInput): Promise<{ summary: string } | undefined> {
      const argument = Migrate.parse(raw);
      await cancelStepJobs(hosts, targetOf(context), context);
      const entry = await recall<{ before: string[]; baseline?: RowBaseline }>(hosts, context);
      if (!entry) return;
      await goOnOrBeginAnew(argument, 'down', context);
      const added = await since(argument, entry.before, context);
      if (added.length === 0) {
        await markNeeded(argument, context, 'not needed');
        return;
      }
      // Until they are gone the release must stay: it knows the way back, or the way on.
      await markNeeded(argument, context, 'needed');
      const { baseline: from } = entry;
      if (!argument.down) {
        const { lines } = from ? await rowsSince(argument, from) : { lines: ['nobody counted'] };
        throw failure(
          'DataAtStake',
          `${added.join(', ')} is applied in ${argument.database.server.database} and cannot be taken back. At stake, with what the migrations have written themselves: ${lines.join('; ')}`,
          {
            step: context.step,
            remedy:
              'Decide: correct the release and deploy it; or restore the recovery point from before the deploy, lose what was written since, and say retry: it looks at the database, and lets the release go',
          },
        );
      }
      const written = from && (await rowsBefore(argument, from, context));
      await takeBack(argument, argument.down, added, { ...context, runAgainIfLost: true });
      await markNeeded(argument, context, 'not needed');
      if (!written || written.rows.length === 0) return;
      return {
        summary: `took back ${added.join(', ')}; what was written into their columns and tables is lost. Written since they began, with what they have written themselves: ${written.lines.join('; ')}`,
      };
    },

    /**
     * Takes named migrations back, newest first: the way back hours later. Refuses a database that is not as the plan saw it. Counts before the first of
     * them, and says what was written since the deploy. Idempotent by (run, step, generation). Undo: `reapplyMigrations` with the same argument.
     */
    async takeBackMigrations({ with: raw, context }: CallInput) {
      const argument = TakeBack.parse(raw);
      const { target, server } = argument.database;
      await asPlanned(argument, context);
      const written = argument.baseline && (await rowsBefore(argument, argument.baseline, context));
      const now = await applied(target, server, argument.applied);
      const left = argument.migrations.filter((name) => now.includes(name));
      await takeBack(argument, argument.down, left, context);
      const lost =
        written && written.rows.length > 0 ? `; what they held of these is lost: ${written.lines.join('; ')}` : '';
      return { takenBack: argument.migrations, summary: `took back ${argument.migrations.join(', ')}${lost}` };
    },

    /**
     * Undo of `takeBackMigrations`: applies them again with the up command of the same release, without what they held. Where that was anything, it fails
     * with what is lost (`DataAtStake`), each time, until a person says that it is seen to. Idempotent by what the database says is applied.
     */
    async reapplyMigrations({ with: raw, context }: CallInput): Promise<{ summary: string } | undefined> {
      const argument = TakeBack.parse(raw);
      const host = targetOf(context);
      const entry = await recall<{ before: string[] }>(hosts, context);
      if (!entry) return;
      for (const { id, state } of await jobsOf(context, 'down'))
        if (state === 'running') await hosts.cancelJob(host, id);
      await goOnOrBeginAnew(argument, 'up', context);
      const missing = async (): Promise<string[]> => {
        const now = await applied(argument.database.target, argument.database.server, argument.applied);
        return entry.before.filter((name) => !now.includes(name));
      };
      if ((await missing()).length > 0) {
        // Once they are there again nothing shows that they were away.
        await remember(hosts, partOf(context, 'gone'), missing);
        await hosts.job(
          host,
          {
            id: jobId(context, context.generation, 'up-all'),
            runAgainIfLost: true,
            command: { script: scripts.run, args: jobArguments(named(argument, context), argument.up) },
            stdin: await environmentSecrets(secrets, argument.environment),
            timeoutSeconds: argument.timeoutSeconds,
          },
          { fence: context.fence, signal: cancellationSignal() },
        );
        const still = await missing();
        if (still.length > 0)
          throw failure('VerificationFailed', `${still.join(', ')} could not be applied again`, {
            host: host.name,
            step: context.step,
            remedy: 'Apply it by hand with the up command of the release',
          });
      }
      const gone = await recall<string[]>(hosts, partOf(context, 'gone'));
      if (!gone) return;
      const written = await recall<RowsAtStake>(hosts, partOf(context, 'written'));
      if (!written || written.rows.length === 0)
        return { summary: `applied ${gone.join(', ')} again; what they had held is in the recovery point only` };
      throw failure(
        'DataAtStake',
        `${gone.join(', ')} was taken back and is applied again in ${argument.database.server.database}, but what it had held of these is lost: ${written.lines.join('; ')}`,
        {
          step: context.step,
          remedy:
            'No retry brings it back: it is in the recovery point of this run only. Fetch from there what is missed, then say done',
        },
      );
    },

    /**
     * Rows written, changed or deleted since migrations were applied: what going back would lose. Measured from a baseline, or from the one in the record of
     * the last deploy; nothing where that has none. Reads only.
     */
    async countRowsAtStake({ with: raw }: CallInput): Promise<RowsAtStake> {
      const { database, applied: where, tables, record, ...argument } = CountRows.parse(raw);
      const recorded = async (): Promise<RowBaseline | undefined> =>
        record &&
        (await withBucket(secrets, record.store, async (bucket) => {
          const [last] = await readDeploys(bucket, record.store, record.directory, 1, cancellationSignal());
          return last?.migrations?.baseline;
        }));
      const then = argument.baseline ?? (await recorded());
      if (!then) return { rows: [], lines: [] };
      return rowsSince({ database, applied: where, atStake: tables }, then);
    },
  };
}

/** Counters begin anew after a crash of the server: then everything since counts. */
const countedSince = (now = 0, then = 0): number => (now >= then ? now - then : now);

/** Rows at stake, for people: one line for each table. Pure. */
export function linesOf(rows: RowsAtStake['rows'], since: string): string[] {
  if (rows.length === 0)
    return [`the server has counted no write since ${since}; its counters lag some seconds and know of no truncate`];
  const more = rows.length - NAMED_TABLES;
  return [
    ...rows.slice(0, NAMED_TABLES).map(({ table, rows: n, changes, exact }) => {
      const written = `${exact ? '' : 'about '}${n} rows ${exact ? 'written' : 'written, changed or deleted'}`;
      const beside = `about ${changes} updated or deleted`;
      const what = changes === 0 ? written : n === 0 ? beside : `${written} and ${beside}`;
      return `${table}: ${what} since ${since}`;
    }),
    ...(more > 0 ? [`and rows in ${more} more tables`] : []),
  ];
}

/** An entry of a step in the journal beside its first one. */
const partOf = (context: CallContext, part: 'written' | 'gone'): CallContext => ({
  ...context,
  step: `${context.step}-${part}`,
});

type WayBack = 'down' | 'up';
const wayBackPrefix = ({ runId, step }: CallContext, part: WayBack): string => `${runId}-${step}-${part}-`;
const fileName = (migration: string): string => migration.replaceAll(/[^A-Za-z0-9]+/g, '-').slice(0, 80);
