// What needs a person, on a real host: a run that was terminated and is repaired, one that holds behind its point of no return, others that wait for it,
// and what people are told of it by webhook, chat, e-mail and pager.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { WorkflowHandle } from '@temporalio/client';
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parse, stringify } from 'yaml';
import { decide, signDecision } from '../../client/decisions.js';
import { withTemporal } from '../../client/temporal-access.js';
import { runMain } from '../client/command-run.js';
import { startBackupLab, until, type BackupLab } from '../backup/harness.js';

jest.setTimeout(600_000);

/** What an observer who is not guardia sees: releases, link, units, schema, uploads. */
const OBSERVED = `
  cd /opt/proofpass; readlink platform; ls -A releases | grep -v '^.mirror'; systemctl is-active proofpass-api proofpass-platform
  cd shared; find . -printf '%p %y %m %u:%g\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum
  cd /; runuser -u postgres -- pg_dump --schema-only proofpass_prod | grep -v restrict
  runuser -u postgres -- psql -XAtq -d proofpass_prod -c 'select name from schema_migrations order by 1'`;

let here: BackupLab;

beforeAll(async () => {
  here = await startBackupLab({
    hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }],
  });
  here.changeInventory('bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }');
  here.changeInventory('patienceSeconds: 60', 'patienceSeconds: 8');
  // The lab's overlay names its own receivers for Slack and e-mail; the manual has no webhook and no pager.
  here.changeInventory(
    'notifications:\n',
    `notifications:
  log: { kind: webhook, url: env:HOOK }
  duty: { kind: pagerduty, routingKey: env:ROUTING_KEY, endpoint: '${here.lab.notices.url}/pagerduty' }
`,
  );
  await serve();
  const { end, message } = await here.run({}, 'adopt');
  if (end !== 'succeeded') throw new Error(`adopt: ${end}: ${message}`);
}, 900_000);
afterAll(async () => {
  await here?.down();
}, 120_000);

const secrets = () => ({ HOOK: `${here.lab.notices.url}/log`, ROUTING_KEY: 'R0UT1NG-K3Y' });
const serve = () => here.restartWorker({ env: secrets() });
const guardia = (...argv: string[]) => runMain(argv, here.env);
const refused = async (runbook: string, input = {}) => {
  const { end, message } = await here.run(input, runbook);
  expect(end).toBe('refused');
  return message;
};

/** A deploy takes its time on a busy machine. */
const reaches = (handle: WorkflowHandle, step: string, state: string) =>
  until(
    `step ${step} is ${state}`,
    async () => {
      const { steps, end, message } = await here.status(handle);
      if (end) throw new Error(`the run has ended (${end}): ${message}`);
      return steps.find(({ id }) => id === step)?.state === state;
    },
    { seconds: 240 },
  );

/** What each target was told about a run, in order, as the lab's receivers have it. Of the e-mail addresses only support is on the first tier. */
const told = (run: { workflowId: string }) => {
  const texts = (to: string) =>
    here.lab.notices
      .received()
      .filter((one) => one.to === to)
      .map(({ text }) => text.replaceAll('=\r\n', ''))
      .filter((text) => text.includes(run.workflowId));
  return {
    log: texts('/log').map((text) => (JSON.parse(text) as { event: string }).event),
    slack: texts('/slack').length,
    duty: texts('/pagerduty').map((text) => (JSON.parse(text) as { event_action: string }).event_action),
    mail: texts('support@proofpass.test').length,
  };
};

describe('a run that was terminated in the middle', () => {
  let before: string;
  /** `meanwhile`: done at once, while the run goes on; it is terminated when it has done the step. */
  const terminated = async (ref: string, step: string, meanwhile?: () => Promise<void>): Promise<WorkflowHandle> => {
    before = await here.shell(OBSERVED);
    const handle = await here.start({ ref }, 'deploy');
    await meanwhile?.();
    await reaches(handle, step, 'done');
    await handle.terminate('somebody pressed the wrong button');
    return handle;
  };

  test('the next run is refused and says what helps; repair undoes it, and the host is as it was; then the next run goes', async () => {
    const handle = await terminated('v2', 'switch-app', async () => {
      const { stdout } = await guardia('run', 'repair', 'proofpass', '--plan');
      expect(stdout).toContain('no terminated run has left anything'); // what still goes on is not left behind
    });
    expect(await here.shell(OBSERVED)).not.toBe(before);
    const message = await refused('restart-service', { service: 'platform' });
    expect(message).toContain(`a run was terminated and has left changes that were not undone: ${handle.workflowId}`);
    expect(message).toContain('Undo it: guardia run repair proofpass');
    expect(message).toContain('--set leave=true');
    const plan = await guardia('run', 'repair', 'proofpass', '--plan');
    expect(plan.stdout).toMatch(/undo: let \/opt\/proofpass\/platform point .*undo: apply 002_verification_code/s);
    const repaired = await guardia('run', 'repair', 'proofpass');
    expect(repaired).toMatchObject({ exitCode: 0 });
    expect(await here.shell(OBSERVED)).toBe(before);
    expect(await here.run({}, 'repair')).toMatchObject({ end: 'nothing to do' });
    expect(await here.run({ service: 'platform' }, 'restart-service')).toMatchObject({ end: 'succeeded' });
  });

  test('leave=true leaves the hosts as they are, and the next run goes', async () => {
    await terminated('v3-bad-health', 'fetch-app');
    // What was under way on the host goes on without its run: the build may still be at work.
    const atWork = () => here.shell("systemctl list-units --plain --no-legend 'guardia-job-*'; sleep 1");
    await until('the host is at rest', async () => `${await atWork()}${await atWork()}`.trim() === '', {
      seconds: 120,
    });
    const left = await here.shell(OBSERVED);
    // No other run has come since: the host says who was the last one, and Temporal that it is over.
    expect(await guardia('run', 'repair', 'proofpass', '--set', 'leave=true')).toMatchObject({ exitCode: 0 });
    expect(await here.shell(OBSERVED)).toBe(left);
    expect(await here.run({ service: 'platform' }, 'restart-service')).toMatchObject({ end: 'succeeded' });
  });

  test('a run that came to its end, and could only not leave its host, is no terminated one: the next run forgets it', async () => {
    const ended = await here.run({ service: 'platform' }, 'restart-service');
    const marks = `/var/lib/guardia/left/${ended.runId} /var/lib/guardia/journal/${ended.runId}`;
    await here.shell(
      `set -- ${marks}; mkdir -p "$2" "\${1%/*}"; echo ${ended.workflowId} >"$1"; echo '{}' >"$2/restart-app"`,
    );
    expect(await here.run({ service: 'platform' }, 'restart-service')).toMatchObject({ end: 'succeeded' });
    expect(await here.shell(`ls -d ${marks} 2>/dev/null; true`)).toBe('');
  });
});

describe('a deploy that two people have to agree to, signed', () => {
  const people = ['support', 'devops', 'engineering'] as const;
  type Person = (typeof people)[number];
  let keys: string;
  let overlay: { file: string; text: string };
  beforeAll(async () => {
    keys = mkdtempSync(path.join(tmpdir(), 'guardia-keys-'));
    for (const name of people)
      await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path.join(keys, name)]);
    const file = path.join(here.lab.overlayDirectory, 'proofpass.yaml');
    overlay = { file, text: readFileSync(file, 'utf8') };
    const signing = (name: Person) => ({ signingKey: readFileSync(path.join(keys, `${name}.pub`), 'utf8').trim() });
    const change = parse(overlay.text) as { approvals: object; approvers?: object };
    change.approvals = { ...change.approvals, deploy: { approvals: 2, signed: true, timeoutMinutes: 60 } };
    change.approvers = Object.fromEntries(people.map((name) => [name, signing(name)]));
    writeFileSync(file, stringify(change));
  });
  afterAll(() => {
    if (overlay) writeFileSync(overlay.file, overlay.text);
    if (keys) rmSync(keys, { recursive: true });
  });
  const as = (name: Person) => ({
    ...here.env,
    GUARDIA_APPROVER: name,
    GUARDIA_SIGNING_KEY: path.join(keys, name),
  });

  test('the host is changed by hand while they think: it is planned anew, they are asked again, and what they said before does not count', async () => {
    const { exitCode, stderr } = await runMain(
      ['deploy', 'proofpass', 'v2', '--id', 'signed', '--no-follow'],
      as('support'),
    );
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    const run = here.client.workflow.getHandle('deploy/proofpass/signed');
    const gates = async () => (await here.status(run)).gates;
    const open = (count: number) =>
      until(
        'a gate is open',
        async () =>
          (await gates()).filter(({ state }) => state === 'open').length === 1 && (await gates()).length === count,
        { seconds: 240 },
      );
    await open(1);
    // The pager rings for a run that cannot go on, and not for one that has not begun.
    const asked = { log: ['waits for a person'], slack: 1, duty: [], mail: 1 };
    await until('people are told', () => isDeepStrictEqual(told(run), asked));

    // Somebody switches to a copy of the release that runs.
    await here.shell(
      'cd /opt/proofpass; cp -a "$(readlink platform)" releases/20200101T000000Z-aaaaaaaa-bbbbbbbb; ln -sfn /opt/proofpass/releases/20200101T000000Z-aaaaaaaa-bbbbbbbb platform',
    );
    const [first] = await gates();
    const old = await withTemporal(as('devops'), async (access) => {
      const plain = { gate: 'apply', planDigest: first?.planDigest ?? '', decision: 'approve' as const };
      const decision = await signDecision(
        access,
        await here.status(run),
        { ...plain, approver: 'devops', reason: 'as it was' },
        { key: path.join(keys, 'devops'), expiry: new Date(Date.now() + 3_600_000).toISOString() },
      );
      await decide(access, await here.status(run), decision);
      return decision;
    });
    const approve = (name: Person, ...more: string[]) =>
      runMain(['approve', run.workflowId, '--reason', 'read it', ...more], as(name));
    expect(await approve('support')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('support asked for this run and may not decide about it') as unknown,
    });
    expect(await approve('engineering')).toMatchObject({ exitCode: 0 });

    await open(2);
    const [before, again] = await gates();
    expect(before).toMatchObject({
      state: 'approved',
      decisions: [{ approver: 'devops' }, { approver: 'engineering' }],
    });
    expect(again).toMatchObject({ state: 'open', decisions: [] });
    expect((await here.status(run)).steps.every(({ state }) => state === 'waiting')).toBe(true);
    await withTemporal(as('devops'), async (access) =>
      expect(decide(access, await here.status(run), old)).rejects.toMatchObject({
        cause: { message: expect.stringContaining('the decision is about another plan') as unknown },
      }),
    );
    expect(await approve('engineering', '--digest', before?.planDigest ?? '')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('nothing was decided') as unknown,
    });
    const plan = await runMain(['plan', run.workflowId], as('devops'));
    expect(plan.stdout).toContain(
      'undo: let /opt/proofpass/platform point to 20200101T000000Z-aaaaaaaa-bbbbbbbb again',
    );
    for (const name of ['devops', 'engineering'] as const) expect(await approve(name)).toMatchObject({ exitCode: 0 });

    const ended = await here.ended(run);
    expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
    const events = told(run).log;
    expect(events.filter((event) => event === 'waits for a person')).toHaveLength(2);
    expect(events.filter((event) => event === 'recovered')).toHaveLength(2);
  });

  test('with --plan every other runbook is read in words, too, and changes nothing', async () => {
    const before = await here.shell(OBSERVED);
    const plan = async (...argv: string[]): Promise<string> => {
      const { exitCode, stdout, stderr } = await guardia(...argv, '--plan');
      expect({ exitCode, stderr, argv }).toMatchObject({ exitCode: 0 });
      expect(stdout).toMatch(/\nexpected duration: .*\ndowntime: |\nThere is nothing to do\.\n/);
      expect(stdout).not.toMatch(/undo: [a-z]+[A-Z]/);
      return stdout;
    };
    const rollback = await plan('rollback', 'proofpass');
    expect(rollback).toContain('let /opt/proofpass/platform point to 20200101T000000Z-aaaaaaaa-bbbbbbbb instead of');
    expect(rollback).toContain('take back 002_verification_code');
    expect(rollback).toContain('undo: apply them again, without what they held');
    const restart = await plan('run', 'restart-service', 'proofpass', '--set', 'service=api');
    expect(restart).toContain('undo: start what ran before and stop what did not: api');
    expect(restart).toContain('downtime: api ');
    // The host was set up by hand: there is something to do, and to be shown as a diff.
    const provision = await plan('run', 'provision-host', 'proofpass');
    expect(provision).toContain('undo: put the rules from before in force again');
    expect(provision).toMatch(/\n {8}\+\+\+ \/etc\//);
    expect(await plan('run', 'adopt', 'proofpass')).toContain('There is nothing to do.');
    expect(await here.shell(OBSERVED)).toBe(before);
  });
});

test('a run that is rolled back tells every target once, also when the worker dies in the middle', async () => {
  const handle = await here.start({ ref: 'v3-broken-build' }, 'deploy');
  await reaches(handle, 'build-app', 'running');
  await here.worker().kill();
  await here.startWorker({ env: secrets() });
  expect(await here.ended(handle)).toMatchObject({ end: 'rolled back' });
  expect(told(handle)).toEqual({ log: ['rolled back'], slack: 1, duty: ['trigger'], mail: 1 });
});

describe('a failure behind the point of no return', () => {
  let handle: WorkflowHandle;
  const answer = (...argv: string[]) => guardia('recover', handle.workflowId, ...argv, '--no-follow');

  test('holds with its locks, names the rows at stake, and tells every target once', async () => {
    handle = await here.start({ ref: 'v4-irreversible-bad-health' }, 'deploy');
    await reaches(handle, 'migrate', 'kept');
    await here.sql(`insert into attestations (id, organization_id, issuer_id, kind, status, subject, claims, content_hash, issued_at)
      select gen_random_uuid(), organization_id, issuer_id, kind, status, subject, claims, content_hash, now() from attestations limit 3`);
    await until('the run holds', async () => (await here.status(handle)).holds.length === 1, { seconds: 240 });
    const { holds } = await here.status(handle);
    expect(holds).toMatchObject([
      {
        kind: 'point of no return',
        atStake: [expect.stringMatching(/public\.attestations: 3 rows written since/) as unknown],
        choices: ['retry', 'skip', 'rollback', 'accept'],
      },
    ]);
    const once = { log: ['needs a person'], slack: 1, duty: ['trigger'], mail: 1 };
    await until('people are told', () => isDeepStrictEqual(told(handle), once));
    // A worker that takes it up tells nobody again.
    await here.worker().kill();
    await here.startWorker({ env: secrets() });
    expect((await here.status(handle)).holds).toHaveLength(1);
    expect(told(handle)).toEqual(once);
  });

  test('others wait for it, and see for whom and why; a run that is cancelled while it waits changes nothing', async () => {
    const waiting = [
      await here.start({}, 'provision-host'),
      await here.start({ service: 'platform' }, 'restart-service'),
    ] as const;
    for (const each of waiting)
      await until('it waits', async () => (await here.status(each)).waitingFor?.includes(handle.workflowId) === true, {
        seconds: 240,
      });
    const { stdout } = await guardia('locks');
    expect(stdout).toMatch(new RegExp(`proofpass +${handle.workflowId} .*waiting for a person`));
    for (const each of waiting)
      expect(stdout).toMatch(
        new RegExp(`${each.workflowId}, started .* ago, waits: proofpass is held by deploy ${handle.workflowId}`),
      );
    await waiting[0].cancel();
    expect(await here.ended(waiting[0])).toMatchObject({ end: 'cancelled' });

    expect(await answer('done', '--reason', 'x')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining('done is no choice at') as unknown,
    });
    expect(await answer('accept', '--reason', 'the column is mended by hand')).toMatchObject({ exitCode: 0 });
    const ended = await here.ended(handle);
    expect(ended).toMatchObject({
      end: 'failed',
      report: { recoveries: [{ decision: 'accept', why: 'the column is mended by hand' }] },
    });
    expect(ended.message).toContain('everything up to "apply 004_');
    // That it is answered and how it ended are two incidents: either may be told first.
    expect(told(handle).log.slice(0, 1)).toEqual(['needs a person']);
    expect(told(handle).log.slice(1).sort()).toEqual(['failed', 'recovered']);
    // It goes once the lock is free; the release that stands is not healthy, and that is what it says.
    expect((await here.ended(waiting[1])).message).not.toContain('is held by');
    expect((await guardia('locks')).stdout).toContain('Nothing is held.');
  });
});
