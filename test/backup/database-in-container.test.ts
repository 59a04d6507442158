import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { serverInput, serverScript } from '../../activities/postgres/dump-job.js';
import { startBackupLab, until, type BackupLab } from './harness.js';

jest.setTimeout(180_000);

/**
 * The host's own cluster, served from a container: real Docker and real PostgreSQL, without a registry for images. What would be in
 * the image is the host's own /usr and /etc; as in the official image the server's programs are on the PATH and the local login asks for no password.
 */
const COMPOSE = `name: books
services:
  db:
    image: lab/postgres:15
    user: postgres
    network_mode: none
    command: [postgres, -D, /var/lib/postgresql/15/main, -c, config_file=/etc/postgresql/15/main/postgresql.conf, -c, ssl=off]
    volumes: ['/usr:/usr:ro', /var/lib/postgresql:/var/lib/postgresql]
    tmpfs: ['/run/postgresql:uid=\${PGUID},mode=2775', '/dev/shm:mode=1777']
`;
const asService = `access: { kind: container, service: database, user: postgres }`;

let here: BackupLab;
beforeAll(async () => {
  here = await startBackupLab({ bulkMegabytes: 40 });
  await here.shell(`
    systemctl disable --now postgresql@15-main postgresql
    systemctl start docker
    mkdir -p /srv/image/{tmp,run,var} /srv/books; ln -s ../run /srv/image/var/run; chmod 1777 /srv/image/tmp; cp -a /etc /srv/image
    for name in bin sbin lib lib64; do ln -s usr/$name /srv/image/$name; done
    tar -C /srv/image -c . | docker import --change 'ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin' - lab/postgres:15
    cat >/srv/books/compose.yaml <<'END'
${COMPOSE}END
    echo "PGUID=$(id -u postgres)" >/srv/books/.env
    docker compose --progress quiet -f /srv/books/compose.yaml up -d`);
  here.changeInventory('access: { kind: peer, osUser: postgres }', asService);
}, 900_000);
afterAll(() => here?.down(), 120_000);

/** Says in the inventory what runs the server. */
function server(service: string): void {
  here.restoreInventory();
  here.changeInventory('access: { kind: peer, osUser: postgres }', asService);
  here.changeInventory('services:\n', `services:\n  database: ${service}\n`);
}

async function inContainer(container: string, text: string): Promise<string> {
  const { exitCode, stdout, stderr } = await here.lab.exec(
    'app',
    ['docker', 'exec', '-i', container, 'psql', '-XAtq', '-d', 'proofpass_prod'],
    { stdin: text },
  );
  if (exitCode !== 0) throw new Error(stderr);
  return stdout.trim();
}
const sessions = `select count(*) from pg_stat_activity where application_name like 'guardia%'`;

test('a service of a compose project is dumped with the programs inside it', async () => {
  server('{ kind: compose, on: app, project: books, directory: /srv/books, service: db }');
  const users = await inContainer('books-db-1', 'select count(*) from public.users');
  const run = await here.run();
  expect(run).toMatchObject({ end: 'succeeded', report: { result: { state: 'verified' } } });
  const [point] = await here.points();
  const dump = point?.manifest.artifacts.find(({ kind }) => kind === 'database');
  expect(dump?.bytes.plain).toBeGreaterThan(40e6);
  expect(Number(users)).toBeGreaterThan(0);
  expect(await here.left()).toEqual([]);
});

test('a cancelled run leaves no session in the server: a program in a container outlives the docker client', async () => {
  await inContainer('books-db-1', 'begin; select 1'); // warm
  const locked = here.lab.exec('app', ['docker', 'exec', '-i', 'books-db-1', 'psql', '-XAtq', '-d', 'proofpass_prod'], {
    stdin: 'begin; lock table public.bulk; select pg_sleep(20);',
  });
  await until('the table is locked', async () =>
    (await inContainer('books-db-1', `select count(*) from pg_locks where mode = 'AccessExclusiveLock'`)).startsWith(
      '1',
    ),
  );
  const handle = await here.start();
  await until('the dump has its session', async () => Number(await inContainer('books-db-1', sessions)) > 0);
  await handle.cancel();
  expect(await here.ended(handle)).toMatchObject({ end: 'cancelled' });
  // The server takes a moment to close a session that it was told to end; the lock would hold this one for 20 s.
  await until('no session is left', async () => (await inContainer('books-db-1', sessions)) === '0', { seconds: 5 });
  await inContainer(
    'books-db-1',
    `select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(20)%' and pid <> pg_backend_pid()`,
  );
  await locked;
  expect(await here.left()).toEqual([]);
});

test('a look at the server ends no other one', async () => {
  const script = serverScript(new URL('../../activities/health/database-facts.sh', import.meta.url));
  const look = async (...more: string[]) => {
    const { args, stdin } = serverInput({
      ...{ database: 'proofpass_prod', version: 15, port: 5432 },
      access: { kind: 'compose', project: 'books', service: 'db', user: 'postgres' },
    });
    return here.lab.exec('app', ['/bin/bash', '-c', script, 'health', ...args, ...more], {
      stdin: stdin.toString(),
    });
  };
  const slow = look('query=select pg_sleep(3)', 'query-seconds=10');
  await until('it is asked', async () =>
    (
      await inContainer('books-db-1', `select count(*) from pg_stat_activity where query like 'select pg_sleep(3)%'`)
    ).startsWith('1'),
  );
  expect(await look()).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('connections=') as unknown });
  expect(await slow).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('answer=') as unknown });
});

test('a service that does not run is named', async () => {
  await here.shell('docker compose --progress quiet -f /srv/books/compose.yaml down');
  expect(await here.run()).toMatchObject({
    end: 'failed',
    message: expect.stringContaining(
      'service db of compose project books has 0 running containers, not one',
    ) as unknown,
  });
});

test('a container of its own is dumped under its name', async () => {
  server('{ kind: container, on: app, container: books-alone }');
  await here.shell(`docker compose --progress quiet -f /srv/books/compose.yaml run -d --name books-alone db`);
  expect(await here.run()).toMatchObject({ end: 'succeeded', report: { result: { state: 'verified' } } });
  await here.shell('docker stop books-alone');
  expect(await here.run()).toMatchObject({
    message: expect.stringContaining('container books-alone is not running') as unknown,
  });
  await here.shell('docker rm books-alone');
  expect(await here.run()).toMatchObject({
    message: expect.stringMatching(/docker: .*No such container: books-alone/) as unknown,
  });
});
