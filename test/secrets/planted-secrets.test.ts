import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { execa } from 'execa';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { compiled } from '../../infra/temporal/server-executable.js';
import { startBackupLab, type BackupLab, type Ended } from '../backup/harness.js';
import { formsOf, foundIn, foundInFiles, watchFor, type Planted } from './search.js';

jest.setTimeout(180_000);

const drawn = (): string => randomBytes(24).toString('base64url');
/** Not secret: it is given as the reason of a run, and must be found wherever a run leaves words. */
const control = `control-${drawn()}`;

let here: BackupLab;
let planted: Planted;
/** What a run that ends well and three that do not have shown while they ran. */
let seenMeanwhile: string[];
let controlsMeanwhile: string[];
let runs: Ended[];
let commandOutput: string;

beforeAll(async () => {
  here = await startBackupLab();
  const { lab } = here;
  const secret = (name: string): string => path.join(lab.secretsDirectory, name);
  const read = (name: string): string => readFileSync(secret(name), 'utf8').trim();
  const password = drawn();
  await here.sql(`create role backup_login superuser login password '${password}'`);
  writeFileSync(secret('database.password'), password, { mode: 0o600 });
  here.changeInventory(
    'access: { kind: peer, osUser: postgres }',
    'access: { kind: password, user: backup_login, password: "file:database.password" }',
  );
  const environment = (await here.shell('cat /opt/proofpass/platform/.env')).split('\n').flatMap((line) => {
    const [, name = '', value = ''] = /^([A-Z_]+)=(.*)$/.exec(line) ?? [];
    return /SECRET|PASSWORD|TOKEN|KEY|DATABASE_URL/.test(name) ? [[`${name} of .env`, value] as const] : [];
  });
  // The first two lines of the key's file are the same for every key, or public.
  const [third = '', fourth = ''] = read('ssh/lab').split('\n').slice(3);
  const wrong = { key: drawn(), password: drawn(), identity: await ageIdentity() };
  planted = {
    ...Object.fromEntries(environment),
    'secret key of the worker': read('s3/worker.secret'),
    'secret key of the host': read('s3/proofpass-app.secret'),
    'age identity': ageKeyIn(read('age/operations.txt')),
    'other age identity': ageKeyIn(read('age/escrow.txt')),
    'SSH private key, third line': third,
    'SSH private key, fourth line': fourth,
    'database password': password,
    'wrong secret key': wrong.key,
    'wrong database password': wrong.password,
    'wrong age identity': ageKeyIn(wrong.identity),
  };
  for (const [name, value] of Object.entries(planted)) if (value.length < 16) throw new Error(`${name} is too short`);

  const directories = {
    host: path.join(lab.directory, 'hosts/app/upper/var/lib/guardia'),
    worker: path.join(here.state, 'worker'),
  };
  const watch = watchFor(planted, directories);
  const controls = watchFor(
    { 'the mark of a job': 'GUARDIA_JOB', 'the name of a step': '-database-main-g1' },
    directories,
  );

  // One run by the command, as people and scripts start it.
  const guardia = (...argv: string[]) =>
    execa(process.execPath, [compiled('client/main.js'), ...argv], {
      env: here.env,
      extendEnv: false,
      all: true,
      reject: false,
    });
  const run = await guardia('run', 'backup', 'proofpass', '--id', 'planted', '--reason', control, '--json');
  const others = await Promise.all([
    guardia('watch', 'backup/proofpass/planted', '--json'),
    guardia('watch', 'backup/proofpass/planted'),
    guardia('status', '--json'),
    guardia('systems', 'show', 'proofpass', '--json'),
  ]);
  commandOutput = [run, ...others].map(({ all }) => all).join('\n');
  runs = [await here.ended(here.client.workflow.getHandle('backup/proofpass/planted'))];
  for (const [file, value] of [
    ['s3/proofpass-app.secret', wrong.key],
    ['database.password', wrong.password],
    ['age/operations.txt', wrong.identity],
  ] as const) {
    const before = readFileSync(secret(file));
    writeFileSync(secret(file), value);
    runs.push(await here.run({ reason: control }));
    writeFileSync(secret(file), before);
  }
  seenMeanwhile = await watch.stop();
  controlsMeanwhile = await controls.stop();
}, 900_000);
afterAll(() => here?.down(), 120_000);

const ageIdentity = async (): Promise<string> => (await execa('age-keygen', { stderr: 'ignore' })).stdout;
const ageKeyIn = (text: string): string => /AGE-SECRET-KEY-1[0-9A-Z]+/.exec(text)?.[0] ?? '';

test('the secrets were used: one run ended well, and each wrong one was refused', () => {
  expect(runs.map(({ end, message }) => `${end}: ${message}`)).toEqual([
    'succeeded: backup of proofpass succeeded',
    expect.stringMatching(/^rolled back: .*on app: the object store refused the request: .*SignatureDoesNotMatch/),
    expect.stringMatching(
      /^failed: .*the database server refuses the login.*password authentication failed.*; nothing was started$/,
    ),
    expect.stringMatching(/^failed: .*the age identity does not open the artifact/),
  ]);
});

describe('nothing of them is found', () => {
  test('in arguments or environment of any process, on host and worker, or in files of jobs while they ran', () => {
    expect(seenMeanwhile).toEqual([]);
    const places = [
      'the arguments of a process',
      'the environment of a process',
      'a file below host',
      'a file below worker',
    ];
    expect(controlsMeanwhile).toEqual(
      ['the mark of a job', 'the name of a step']
        .flatMap((name) => places.map((place) => `${name} in ${place}`))
        .sort(),
    );
  });

  test('in the histories of all runs, as they are exported', async () => {
    const histories: string[] = [];
    for await (const { workflowId, runId } of here.client.workflow.list())
      histories.push(
        JSON.stringify(historyToJSON(await here.client.workflow.getHandle(workflowId, runId).fetchHistory())),
      );
    expect(histories.length).toBeGreaterThanOrEqual(4);
    expect(foundIn(histories.join('\n'), { ...planted, control })).toEqual(['control']);
  });

  test("in Temporal's database, and in the logs of server and worker", async () => {
    const dev = path.join(here.state, 'dev');
    const found = await foundInFiles([dev, here.workerLog], { ...planted, control, run: runs[1]?.runId ?? '' });
    expect(found).toContainEqual(expect.stringMatching(/^control in .*\/temporal\.db/));
    expect(found).toContainEqual(`run in ${here.workerLog}`);
    expect(found.filter((line) => !/^(control|run) in /.test(line))).toEqual([]);
  });

  test('in the journal and the logs of the host', async () => {
    const journal = await here.shell('journalctl --no-pager --output=export; cat /var/log/postgresql/*.log');
    expect(foundIn(journal, { ...planted, run: runs[0]?.runId ?? '' })).toEqual(['run']);
  });

  test('on the disk of the host, except where they belong', async () => {
    const upper = path.join(here.lab.directory, 'hosts/app/upper');
    const found = await foundInFiles([upper], { ...planted, role: 'backup_login' });
    expect(found).toContainEqual(expect.stringMatching(/^role in .*\/var\/lib\/postgresql\//));
    expect(found.filter((line) => !line.startsWith('role in '))).toEqual([]);
  });

  test('in the bucket, with its older versions', async () => {
    const store = path.join(here.lab.directory, 's3');
    const found = await foundInFiles([path.join(store, 'data'), path.join(store, 'versions')], { ...planted, control });
    expect(found).toContainEqual(expect.stringMatching(/^control in .*\/report\.md$/));
    expect(found.filter((line) => !line.startsWith('control in '))).toEqual([]);
  });

  test('in what the command prints, with --json and without', () => {
    expect(commandOutput).toContain('"succeeded"');
    expect(foundIn(commandOutput, { ...planted, control })).toEqual(['control']);
  });
});

test('the search finds a value in base64 at any place, in base64 of base64, in hex, in a URL and in a file', async () => {
  const value = 'a+secret/value?of "some" length';
  for (const before of ['', 'x', 'xy', 'xyz'])
    for (const encoding of ['base64', 'base64url', 'hex'] as const) {
      const encoded = Buffer.from(`${before}${value} and more`).toString(encoding);
      expect(formsOf(value).some((form) => encoded.includes(form))).toBe(true);
      const twice = JSON.stringify({ data: Buffer.from(`{"x":"${encoded}"}`).toString('base64') });
      expect(foundIn(twice, { value })).toEqual(['value']);
    }
  expect(foundIn(`https://x/?y=${encodeURIComponent(value)}`, { value })).toEqual(['value']);
  expect(foundIn('nothing of it', { value })).toEqual([]);
  const file = path.join(here.state, 'with-a-value');
  writeFileSync(file, Buffer.concat([randomBytes(1000), Buffer.from(value), randomBytes(1000)]));
  expect(await foundInFiles([here.state], { value })).toEqual([`value in ${file}`]);
});
