import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { linesOf, createMigrationActivities } from '../../../activities/migrations/migration-activities.js';
import { startLabActivities, type LabActivities } from '../lab-activities.js';

jest.setTimeout(180_000);

/** A release with a small migration tool, as applications have them: each migration in one transaction with its row. */
const SET_UP = `set -e
  systemctl start postgresql@15-main
  useradd --system --create-home shop
  cd /; runuser -u postgres -- psql -Xq -c 'create role shop login' -c 'create database shop owner shop'
  mkdir -p /srv/releases/r2/migrations; cd /srv/releases/r2
  echo 'create table public.orders (id int, at timestamptz default now());' >migrations/001_orders.up.sql
  echo 'alter table public.orders add column note text;' >migrations/002_note.up.sql
  echo 'alter table public.orders drop column note;' >migrations/002_note.down.sql
  echo 'create index orders_at on public.orders (at);' >migrations/003_index.up.sql
  echo 'drop index orders_at;' >migrations/003_index.down.sql
  cat >migrate <<'END'
#!/bin/bash
set -eo pipefail
sql() { psql -Xq -v ON_ERROR_STOP=1 -d "$DATABASE" "$@"; }
sql -c 'set client_min_messages = error; create table if not exists public.schema_migrations (name text primary key)'
case $1 in
up)
  for file in migrations/*.up.sql; do
    name=$(basename "$file" .up.sql)
    [[ -z $(sql -At -c "select 1 from schema_migrations where name = '$name'") ]] || continue
    { cat "$file"; echo "insert into schema_migrations values ('$name');"; [[ ! -e hold ]] || echo 'select pg_sleep(60);'; } | sql --single-transaction -f -
  done ;;
down)
  { cat "migrations/$2.down.sql"; echo "delete from schema_migrations where name = '$2';"; [[ ! -e hold-down ]] || echo 'select pg_sleep(3);'; } | sql --single-transaction -f -
  echo "$2 $3" >>/tmp/taken-back ;;
esac
END
  chmod 755 migrate; chown -R shop: /srv/releases`;

let here: LabActivities;
let on: ReturnType<LabActivities['calls']>;
let number = 0;
const step = (run = 'run') => ({ run, step: `step-${(number += 1)}` });
const sql = async (text: string): Promise<string> =>
  (await here.shell(`cd /; runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d shop <<'SQL'\n${text}\nSQL`)).trim();
const applied = () => sql(`select string_agg(name, ' ' order by name) from schema_migrations`);
const schema = () => here.shell('cd /; runuser -u postgres -- pg_dump --schema-only shop | grep -v restrict');
const server = () => ({
  database: 'shop',
  version: 15,
  port: 5432,
  access: { kind: 'peer', osUser: 'postgres' },
});
const table = { table: 'public.schema_migrations', name: 'name' };
const argument = (before: string[], more: Record<string, unknown> = {}) => ({
  releases: '/srv/releases',
  id: 'r2',
  user: 'shop',
  database: { target: here.target(), server: server() },
  applied: table,
  environment: { files: [], values: { DATABASE: 'shop' }, secrets: {} },
  up: { run: ['./migrate', 'up'], timeoutSeconds: 120 },
  down: { run: ['./migrate', 'down', '{migration}', '{before}'], timeoutSeconds: 120 },
  before,
  timeoutSeconds: 180,
  ...more,
});
const orders = [{ table: 'public.orders', createdAt: 'at' }];
const irreversible = (before: string[]) => {
  const { down: _, ...rest } = argument(before);
  return rest;
};

beforeAll(async () => {
  here = await startLabActivities();
  on = here.calls(createMigrationActivities(here));
  await here.shell(SET_UP);
}, 600_000);
afterAll(() => here?.down());
beforeEach(async () => {
  await here.shell('cd /srv/releases/r2; rm -f hold hold-down migrations/004* /tmp/taken-back');
  await sql(`set client_min_messages = error; drop table if exists orders; drop table if exists schema_migrations;
    create table public.orders (id int, at timestamptz default now()); alter table orders owner to shop;
    create table public.schema_migrations (name text primary key); alter table schema_migrations owner to shop;
    insert into schema_migrations values ('001_orders');`);
});

test('what is applied is read from the database, also before there is a table for it', async () => {
  expect(await on('observeMigrations', { server: server(), applied: table })).toEqual({ applied: ['001_orders'] });
  await sql('drop table schema_migrations');
  expect(await on('observeMigrations', { server: server(), applied: table })).toEqual({ applied: [] });
});

describe('migrations that can be taken back', () => {
  test('are applied once, and the schema after the undo is the one before', async () => {
    const before = await schema();
    const at = step();
    for (const _ of [1, 2])
      expect(await on('applyMigrations', argument(['001_orders']), at)).toMatchObject({
        applied: ['002_note', '003_index'],
        summary: 'applied 002_note, 003_index',
        baseline: { writes: { 'public.orders': expect.any(Number) }, changes: { 'public.orders': expect.any(Number) } },
      });
    expect(await applied()).toBe('001_orders 002_note 003_index');
    // Nobody has written anything: nothing is said.
    for (const _ of [1, 2]) expect(await on('revertMigrations', argument(['001_orders']), at)).toEqual({});
    expect(await schema()).toBe(before);
    // Newest first, each told what it goes back to
    expect(await here.shell('cat /tmp/taken-back')).toBe('003_index 002_note\n002_note 001_orders\n');
  });

  test('one that fails inside its transaction: those before it are taken back, rows stay', async () => {
    const before = await schema();
    await sql(`insert into orders (id) values (7)`);
    await here.shell(`echo 'create table broken (id int); select 1/0;' >/srv/releases/r2/migrations/004_broken.up.sql`);
    const at = step();
    await expect(on('applyMigrations', argument(['001_orders']), at)).rejects.toMatchObject({
      type: 'JobFailed',
      message: expect.stringContaining('`./migrate up` ended with code 3'),
    });
    expect(await applied()).toBe('001_orders 002_note 003_index');
    await on('revertMigrations', argument(['001_orders']), at);
    expect(await schema()).toBe(before);
    expect(await sql('select id from orders')).toBe('7');
  });

  test('what users wrote into them goes with them, and is named', async () => {
    const at = step();
    const withOrders = argument(['001_orders'], { atStake: orders });
    await on('applyMigrations', withOrders, at);
    await sql(`insert into orders (id, note) values (1, 'gone'), (2, 'gone')`);
    expect(await on('revertMigrations', withOrders, at)).toEqual({
      summary: expect.stringMatching(
        /^took back 002_note, 003_index; what was written into their columns and tables is lost\. Written since they began, with what they have written themselves: public\.orders: 2 rows written since 20[^;]*$/,
      ),
    });
    expect(await sql('select count(*) from orders')).toBe('2');
  });

  test('what was written is counted by the server where a migration has taken the column away that would tell', async () => {
    await here.shell(`cd /srv/releases/r2/migrations; echo 'alter table public.orders rename column at to placed;' >004_placed.up.sql
      echo 'alter table public.orders rename column placed to at;' >004_placed.down.sql`);
    const at = step();
    const withOrders = argument(['001_orders'], { atStake: orders });
    await on('applyMigrations', withOrders, at);
    await sql('insert into orders (id) values (1)');
    expect(await on('revertMigrations', withOrders, at)).toEqual({
      summary: expect.stringContaining('public.orders: about 1 rows written, changed or deleted since'),
    });
    expect(await applied()).toBe('001_orders');
  });

  test('one that is cut off in the middle: the undo ends its job first, and nothing of it is ever applied', async () => {
    const before = await schema();
    await here.shell('touch /srv/releases/r2/hold');
    const at = step();
    const running = on('applyMigrations', argument(['001_orders']), at).catch((error: unknown) => error);
    await here.shell(
      `cd /; until [[ $(runuser -u postgres -- psql -XAtq -c "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and usename = 'shop'") == 1 ]]; do sleep 0.1; done`,
    );
    await on('revertMigrations', argument(['001_orders']), at);
    expect(await running).toMatchObject({ type: 'JobCancelled' });
    expect(await sql(`select count(*) from pg_stat_activity where usename = 'shop'`)).toBe('0');
    expect(await schema()).toBe(before);
  });

  test('a way back that failed is gone again once its cause is put right', async () => {
    const before = await schema();
    const at = step();
    const down = '/srv/releases/r2/migrations/002_note.down.sql';
    await here.shell(`cp ${down} /tmp/down; echo 'select 1/0;' >>${down}; cd /srv/releases/r2/migrations
      echo 'create table public.extra (id int);' >004_extra.up.sql; echo 'drop table public.extra;' >004_extra.down.sql`);
    await on('applyMigrations', argument(['001_orders']), at);
    await sql('insert into extra values (1), (2)');
    await expect(on('revertMigrations', argument(['001_orders']), at)).rejects.toMatchObject({ type: 'JobFailed' });
    expect(await applied()).toBe('001_orders 002_note');
    // Only this release can take it back: it is not to be discarded now.
    const needed = () => here.shell('cd /srv/releases/r2; [[ -e .guardia-needed ]] && echo yes || echo no');
    expect(await needed()).toBe('yes\n');
    await here.shell(`cat /tmp/down >${down}; rm /tmp/down`);
    // The table that went with the first attempt is named all the same.
    expect(await on('revertMigrations', argument(['001_orders']), at)).toEqual({
      summary: expect.stringMatching(/public\.extra: about 2 rows written/),
    });
    expect(await schema()).toBe(before);
    expect(await needed()).toBe('no\n');
  });

  test('a way back whose worker died is gone on with: each migration is taken back once', async () => {
    const before = await schema();
    const at = step();
    await on('applyMigrations', argument(['001_orders']), at);
    await here.shell('touch /srv/releases/r2/hold-down');
    // Two attempts of one undo, the second one while the first one's job runs.
    const first = on('revertMigrations', argument(['001_orders']), at);
    await here.shell(
      `cd /; until [[ $(runuser -u postgres -- psql -XAtq -c "select count(*) from pg_stat_activity where query like '%pg_sleep(3)%' and usename = 'shop'") == 1 ]]; do sleep 0.1; done`,
    );
    await Promise.all([first, on('revertMigrations', argument(['001_orders']), at)]);
    expect(await schema()).toBe(before);
    expect(await here.shell('cat /tmp/taken-back')).toBe('003_index 002_note\n002_note 001_orders\n');
  });

  test('a database that is not as the plan saw it, or was changed since, is left alone', async () => {
    await expect(on('applyMigrations', argument([]), step())).rejects.toMatchObject({
      type: 'ThirdState',
      message: expect.stringContaining('Start the run again: it plans with what is applied now'),
    });
    const at = step();
    await on('applyMigrations', argument(['001_orders']), at);
    await sql(`delete from schema_migrations where name = '001_orders'`);
    await expect(on('revertMigrations', argument(['001_orders']), at)).rejects.toThrow(
      '001_orders is not applied any more',
    );
    await on('revertMigrations', argument(['001_orders']), step()); // a step that never began
  });

  test('hours later they are taken back from another run, and that can be undone, too', async () => {
    await on('applyMigrations', argument(['001_orders']), step('deploy'));
    const after = await schema();
    const all = ['001_orders', '002_note', '003_index'];
    const back = argument(all, { migrations: ['002_note', '003_index'] });
    const at = step('rollback');
    for (const _ of [1, 2])
      expect(await on('takeBackMigrations', back, at)).toMatchObject({ summary: 'took back 002_note, 003_index' });
    expect(await applied()).toBe('001_orders');
    for (const _ of [1, 2]) await on('reapplyMigrations', back, at);
    expect(await applied()).toBe(all.join(' '));
    expect(await schema()).toBe(after);
  });
});

describe('taken back hours later', () => {
  const all = ['001_orders', '002_note', '003_index'];
  /** After a deploy with these migrations: what a rollback that takes them back is told. */
  const afterDeploy = async () => {
    const { baseline } = await on('applyMigrations', argument(['001_orders']), step('deploy'));
    return argument(all, { migrations: ['002_note', '003_index'], atStake: orders, baseline });
  };

  test('with rows in them: applied again they are empty, and a person is told so until it is seen to', async () => {
    const back = await afterDeploy();
    await sql(`insert into orders (id, note) values (1, 'gone')`);
    const at = step('rollback');
    expect(await on('takeBackMigrations', back, at)).toMatchObject({
      summary: expect.stringMatching(
        /^took back .*; what they held of these is lost: public\.orders: 1 rows written since 20/,
      ),
    });
    // The second one finds all of them applied: so does one after a worker that died before it could tell.
    for (const _ of [1, 2])
      await expect(on('reapplyMigrations', back, at)).rejects.toMatchObject({
        type: 'DataAtStake',
        nonRetryable: true,
        message: expect.stringMatching(
          /^002_note, 003_index was taken back and is applied again in shop, but what it had held of these is lost: public\.orders: 1 rows written since 20.*\. No retry brings it back: .* then say done$/,
        ),
      });
    expect(await applied()).toBe(all.join(' '));
  });

  test('with rows in them, and the first one does not go: nothing was lost', async () => {
    const back = await afterDeploy();
    await sql(`insert into orders (id, note) values (1, 'stays')`);
    const down = '/srv/releases/r2/migrations/003_index.down.sql';
    await here.shell(`cp ${down} /tmp/down; echo 'select 1/0;' >>${down}`);
    const at = step('rollback');
    try {
      await expect(on('takeBackMigrations', back, at)).rejects.toMatchObject({ type: 'JobFailed' });
      expect(await on('reapplyMigrations', back, at)).toEqual({});
    } finally {
      await here.shell(`cat /tmp/down >${down}; rm /tmp/down`);
    }
    expect(await sql('select note from orders')).toBe('stays');
  });

  test('with nothing in them: gone, and made again', async () => {
    const back = await afterDeploy();
    const at = step('rollback');
    await on('takeBackMigrations', back, at);
    expect(await applied()).toBe('001_orders');
    expect(await on('reapplyMigrations', back, at)).toMatchObject({ summary: expect.stringContaining('again') });
    expect(await applied()).toBe(all.join(' '));
  });
});

describe('a migration that cannot be taken back', () => {
  test('is left when it is applied, and the failure says what there is to decide', async () => {
    const at = step();
    await on('applyMigrations', irreversible(['001_orders']), at);
    await expect(on('revertMigrations', irreversible(['001_orders']), at)).rejects.toMatchObject({
      type: 'DataAtStake',
      message: expect.stringMatching(
        /^002_note, 003_index is applied in shop and cannot be taken back\. At stake, .*\. Decide: /,
      ),
    });
    // The release that brought them knows the way on.
    await here.shell('rm /srv/releases/r2/.guardia-needed');
  });

  test('whose transaction failed goes back by itself', async () => {
    await here.shell(
      `cd /srv/releases/r2/migrations; mkdir /tmp/aside; mv 002* 003* /tmp/aside; echo 'select 1/0;' >004_broken.up.sql`,
    );
    const at = step();
    try {
      await expect(on('applyMigrations', irreversible(['001_orders']), at)).rejects.toMatchObject({
        type: 'JobFailed',
      });
      await on('revertMigrations', irreversible(['001_orders']), at);
      expect(await applied()).toBe('001_orders');
    } finally {
      await here.shell('mv /tmp/aside/* /srv/releases/r2/migrations/; rmdir /tmp/aside');
    }
  });

  type AtStake = { rows: { table: string; rows: number; changes: number; exact: boolean }[]; lines: string[] };
  const count = async (baseline: unknown, tables: unknown[] = orders) =>
    (await on('countRowsAtStake', {
      database: { target: here.target(), server: server() },
      applied: table,
      tables,
      baseline,
    })) as AtStake;

  test('an update and a delete are rows at stake as an insert is: no column tells of them, the server does', async () => {
    await sql(`insert into orders (id, at) values (1, '2020-01-01'), (2, '2020-01-01'), (3, '2020-01-01')`);
    const { baseline } = await on('applyMigrations', irreversible(['001_orders']), step());
    expect(await count(baseline)).toMatchObject({ rows: [], lines: [expect.stringMatching(/has counted no write/)] });
    await sql(`update orders set note = 'revoked' where id < 3`);
    expect((await count(baseline)).rows).toEqual([{ table: 'public.orders', rows: 0, changes: 2, exact: true }]);
    await sql('delete from orders where id = 3');
    await sql('insert into orders (id) values (4)');
    const { rows, lines } = await count(baseline);
    expect(rows).toEqual([{ table: 'public.orders', rows: 1, changes: 3, exact: true }]);
    expect(lines).toEqual([
      expect.stringMatching(/^public\.orders: 1 rows written and about 3 updated or deleted since 20/),
    ]);
    // The record of a deploy from before updates and deletes were noted apart.
    const { changes: _, ...old } = baseline as Record<string, unknown>;
    expect((await count(old)).rows).toEqual([{ table: 'public.orders', rows: 1, changes: 3, exact: true }]);
  });

  test('what a migration has written itself is not at stake', async () => {
    await sql(`insert into orders (id, at) values (1, '2020-01-01'), (2, '2020-01-01')`);
    await here.shell(`echo 'update public.orders set id = id + 10;' >/srv/releases/r2/migrations/004_fill.up.sql`);
    const { baseline } = await on('applyMigrations', irreversible(['001_orders']), step());
    expect((await count(baseline)).rows).toEqual([]);
  });

  test('rows written while nobody followed it are at stake: who comes later counts from before it', async () => {
    const at = step();
    await on('applyMigrations', irreversible(['001_orders']), at);
    await sql('insert into orders (id) values (1)');
    // The attempt after a worker that died.
    const { baseline } = await on('applyMigrations', irreversible(['001_orders']), at);
    expect((await count(baseline)).rows).toEqual([{ table: 'public.orders', rows: 1, changes: 0, exact: true }]);
  });

  test('rows written while its host could not be reached are at stake, too', async () => {
    const job: typeof here.hosts.job = async (...of) => {
      const result = await here.hosts.job(...of);
      await sql('insert into orders (id) values (1)');
      const later = Date.now() + 60_000;
      jest.spyOn(Date, 'now').mockImplementation(() => later);
      return result;
    };
    const late = here.calls(createMigrationActivities({ ...here, hosts: { ...here.hosts, job } }));
    try {
      const { baseline } = await late('applyMigrations', irreversible(['001_orders']), step());
      expect((await count(baseline)).rows).toMatchObject([{ table: 'public.orders', rows: 1 }]);
    } finally {
      jest.restoreAllMocks();
    }
  });

  test('of which a part is applied when the next one fails is left, and the failure names the rows', async () => {
    await here.shell(`echo 'select 1/0;' >/srv/releases/r2/migrations/004_broken.up.sql`);
    await sql(`insert into orders (id, at) values (1, '2020-01-01')`);
    const at = step();
    const argument = { ...irreversible(['001_orders']), atStake: orders };
    await expect(on('applyMigrations', argument, at)).rejects.toMatchObject({ type: 'JobFailed' });
    await sql(`update orders set note = 'x'; insert into orders (id) values (2)`);
    await expect(on('revertMigrations', argument, at)).rejects.toMatchObject({
      type: 'DataAtStake',
      message: expect.stringMatching(
        /^002_note, 003_index is applied in shop and cannot be taken back\. At stake, with what the migrations have written themselves: .*public\.orders: 1 rows written and about 1 updated or deleted since 20/,
      ),
    });
    await here.shell('rm /srv/releases/r2/.guardia-needed');
  });

  test('names the rows written since: exactly where a column tells, else by the counters of the server', async () => {
    await sql('create table if not exists other (id int)');
    const { baseline } = await on('applyMigrations', irreversible(['001_orders']), step());
    await sql(`insert into orders (id) select generate_series(1, 12)`);
    await sql(`insert into orders (id, at) values (99, '2020-01-01'); insert into other values (1), (2)`);
    const { rows, lines } = await count(baseline, [...orders, { table: 'public.gone', createdAt: 'at' }]);
    expect(rows).toEqual([
      { table: 'public.orders', rows: 12, changes: 0, exact: true },
      { table: 'public.other', rows: 2, changes: 0, exact: false },
    ]);
    expect(lines[0]).toMatch(/^public\.orders: 12 rows written since 20/);
    expect(lines[1]).toMatch(/^public\.other: about 2 rows written, changed or deleted since 20/);
    expect((await count(baseline, [])).rows[0]).toMatchObject({ table: 'public.orders', rows: 13, exact: false });
    expect(await on('countRowsAtStake', { database: { target: here.target(), server: server() }, tables: [] })).toEqual(
      { rows: [], lines: [] },
    );
  });
});

test('rows at stake are told in a few lines', () => {
  const rows = Array.from({ length: 10 }, (_, i) => ({
    table: `public.t${i}`,
    rows: i === 1 ? 0 : 10 - i,
    changes: i < 2 ? 3 : 0,
    exact: i < 3,
  }));
  expect(linesOf(rows, 'noon')).toHaveLength(9);
  expect(linesOf(rows, 'noon').slice(0, 4)).toEqual([
    'public.t0: 10 rows written and about 3 updated or deleted since noon',
    'public.t1: about 3 updated or deleted since noon',
    'public.t2: 8 rows written since noon',
    'public.t3: about 7 rows written, changed or deleted since noon',
  ]);
  expect(linesOf(rows, 'noon').at(-1)).toBe('and rows in 2 more tables');
  expect(linesOf([], 'noon')).toEqual([
    'the server has counted no write since noon; its counters lag some seconds and know of no truncate',
  ]);
});
