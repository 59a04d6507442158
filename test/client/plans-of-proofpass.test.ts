import { describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import pico from 'picocolors';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { planText } from '../../client/plan-text.js';
import { undoText } from '../../workflows/contracts/undo-text.js';
import { createPlanningActivities } from '../../workers/planning-activities.js';
import { planners } from '../../workers/planners.js';
import { DeployInput, RestartServiceInput } from '../../workflows/contracts/deploy.js';
import { ProvisionHostInput } from '../../workflows/contracts/provision-host.js';
import type { SeenHost } from '../../workflows/contracts/provision-observation.js';
import type { System } from '../../workflows/contracts/system.js';
import { calm, moment, proofpass, running } from '../workflows/deploy/shipped-proofpass.js';

/* What an operator reads, and could read aloud, before anything is changed: plans of the shipped ProofPass, as they are made on a worker. */

const planning = createPlanningActivities(planners, inventoryLocations({}));

async function read(
  runbook: string,
  input: { system: string },
  of: System,
  observation: Record<string, unknown>,
  expected: Record<string, number> = {},
): Promise<string> {
  const { plan } = await planning.planRun({ runbook, input, system: of, observation, moment, expected });
  return planText(plan, { digest: 'D1', colors: pico.createColors(false) });
}

const deploy = (of: System, expected?: Record<string, number>): Promise<string> =>
  read('deploy', DeployInput.parse({ system: 'proofpass' }), of, calm(), expected);

test('a deploy on one host, from the gate to the digest: what, why, undo, how long, and who is without service', async () => {
  const expected = {
    ...{ 'health-before': 4, 'recovery-point': 130, 'fetch-app': 12, 'build-app': 240, 'preflight-app': 3, migrate: 2 },
    ...{ 'stop-app': 2, 'switch-app': 1, 'start-app': 4, 'wait-app': 6, 'smoke-app': 2 },
    ...{ 'recovery-point-after': 20, 'prune-app': 1 },
  };
  expect(await deploy(proofpass(), expected)).toBe(`Plan of deploy for proofpass

gate "deploy of proofpass": 1 has to agree, never who asks for it; after 8 h 00 min: reject

Stage 1: before
  no host
     1. note which of 10 probes fail already  about 4 s [health-before]
        why: what fails before the change does not undo it; what fails because of it does
        undo: none needed: it only looks

Stage 2: recovery point
  no host
     2. back up the databases and the configuration, and read the backup back  about 2 min 10 s [recovery-point]
        why: whatever this deploy does to the data, there is a way back that was proved
        undo: none needed: it undoes by itself what it does

Stage 3: prepare
  host app
     3. fetch 22222222 into /opt/proofpass/releases  about 12 s [fetch-app]
        why: a release is a directory of its own: the one that runs is not touched
        undo: remove the release 20261122T140000Z-22222222-1a2b3c4d
        started again if the host goes down meanwhile
     4. build 20261122T140000Z-22222222-1a2b3c4d: npm ci, npm run build:packages, npm run build, npm prune --omit=dev  about 4 min 00 s [build-app]
        why: it gets its name once it is whole; half a release is never seen
        undo: remove the release 20261122T140000Z-22222222-1a2b3c4d
     5. preflight: npm run preflight  about 3 s [preflight-app]
        why: what would fail at the start fails here, before anything has changed
        undo: none needed: it only looks
        started again if the host goes down meanwhile

Stage 4: migrate
  host app
     6. apply 002_verification_code to proofpass_prod  about 2 s [migrate]
        why: the old release goes on with the new schema until its host is switched; the way back takes the migrations back
        undo: take back the migrations that it has applied

Stage 5: release
  host app
     7. stop platform and api  about 2 s [stop-app]
        why: two releases at once would write into the same data
        undo: start what ran before: api and platform
     8. let /opt/proofpass/platform point to 20261122T140000Z-22222222-1a2b3c4d instead of 20261101T000000Z-11111111-00000001  about 1 s [switch-app]
        why: one rename: the path that units name is never missing
        undo: let /opt/proofpass/platform point to 20261101T000000Z-11111111-00000001 again
     9. start api and platform  about 4 s [start-app]
        why: they run what the link points to
        undo: stop api and platform
    10. wait until api and platform are healthy on app  about 6 s [wait-app]
        why: 4 probes, seen to pass; an exit code shows nothing
        undo: none needed: it only looks
    11. try it: a user logs in, the attestations of that user can be read  about 2 s [smoke-app]
        why: a service can be healthy and of no use
        undo: none needed: what it writes is a test user's
        tried up to 2 times

Stage 6: bake
  no host
    12. watch 10 probes for 10 minutes  about 10 min 00 s [bake]
        why: what breaks under traffic breaks in the first minutes: better while it can still be undone
        undo: none needed: it only looks

Stage 7: recovery point of the configuration; a failure here undoes nothing that came before
  no host
    13. back up the configuration as it is now  about 20 s [recovery-point-after]
        why: after each change (L944)
        undo: none needed: it undoes by itself what it does

Stage 8: tidy; a failure here undoes nothing that came before
  host app
    14. remove all but the newest 5 releases and those that a rollback needs  about 1 s [prune-app]
        why: releases fill the disk
        undo: none needed: what is removed is older than any way back, and can be built again

point of no return: none, to the end a failure undoes what was done
expected duration: about 17 min 07 s
downtime: api 30 s (2 min 00 s if it fails and is undone), platform 30 s (2 min 00 s if it fails and is undone)
note: 22222222: Attestations have a code, instead of 20261101T000000Z-11111111-00000001 on app.
note: 002_verification_code: taken back where the deploy fails. What was written into their columns and tables by then is lost with them; the report names the rows written.
note: There is no balancer: while app is switched nobody answers there, and requests come as soon as the new release answers, before its probes and its smoke test have passed. Where they do not pass, what was before is put back.
digest: D1`);
});

describe('a deploy over two hosts behind a balancer', () => {
  const expected = {
    'fetch-app1': 10,
    'fetch-app2': 30,
    'build-app1': 60,
    'build-app2': 60,
    'drain-app1': 5,
    'drain-app2': 5,
  };

  test('says what is done side by side and what one after the other, what the balancer is told, and that nobody is without service', async () => {
    const text = await deploy(proofpass('scaled'), expected);
    expect(text).toContain('\nStage 3: prepare, 2 lanes side by side\n  host app1\n');
    expect(text).toContain(`
Stage 5: release, 2 lanes one after the other
  host app1
    10. take app1 out of the balancer and let its requests end  about 5 s [drain-app1]
        on: host balancer
        why: nobody is to be cut off in the middle of a request
        undo: let the balancer send requests to api_backend/app1 and platform_backend/app1 again
    11. stop platform and api [stop-app1]
`);
    expect(text).toContain(
      '\n        undo: take api_backend/app2 and platform_backend/app2 out of the balancer again\n',
    );
    expect(text).toContain('\nStage 8: tidy, 2 lanes side by side; a failure here undoes nothing that came before\n');
    expect(text).toContain('\ndowntime: none\n');
  });

  test('adds up what took its time side by side once, what is one after the other as often, and says what it does not know', async () => {
    // 90 s of the slower host, twice 5 s at the balancer, 600 s of watching.
    expect(await deploy(proofpass('scaled'), expected)).toContain(
      '\nexpected duration: about 11 min 40 s, and what 20 of 27 steps take that no run has done yet\n',
    );
  });
});

test('a restart of one service', async () => {
  const input = RestartServiceInput.parse({ system: 'proofpass', service: 'api' });
  const seen = { 'host app': { services: { api: running } } };
  expect(await read('restart-service', input, proofpass(), seen)).toBe(`Plan of restart-service for proofpass

Stage 1: before
  no host
     1. note which of 10 probes fail already [health-before]
        why: what fails before the change does not undo it; what fails because of it does
        undo: none needed: it only looks

Stage 2: restart
  host app
     2. restart api [restart-app]
        why: one host after the other
        undo: start what ran before and stop what did not: api and platform
     3. wait until api is healthy on app [wait-app]
        why: 2 probes, seen to pass; an exit code shows nothing
        undo: none needed: it only looks
     4. wait until platform works on app as before [still-app]
        why: 2 probes; those that failed before are not waited for
        undo: none needed: it only looks

Stage 3: after
  no host
     5. wait until what worked before works again [health-after]
        why: 10 probes; those that failed before are not waited for
        undo: none needed: it only looks

point of no return: none, to the end a failure undoes what was done
expected duration: not known: no such run has succeeded yet
downtime: api 30 s (2 min 00 s if it fails and is undone), platform 30 s (2 min 00 s if it fails and is undone)
note: platform does not work without api: away with it, and waited for.
digest: D1`);
});

describe('a bare host that is set up', () => {
  const bare: SeenHost = {
    ...{ container: false, memoryBytes: 16 * 1024 ** 3, sshd: { installed: true, options: {} } },
    ...{ packages: {}, accounts: {}, files: {}, units: {}, secretFiles: {}, compose: {} },
    firewall: {
      ...{ installed: false, active: false, closed: false, rules: [], publishedPorts: { v4: null, v6: null } },
      login: { from: '10.0.0.9', port: 22 },
    },
  };
  const system = proofpass(undefined, ({ provision }) =>
    Object.assign(provision?.values ?? {}, {
      ...{ 'smtp-host': 'smtp.example', 'smtp-user': 'a@b.example', 'alerts-to': 'c@b.example' },
    }),
  );
  const provision = (): Promise<string> =>
    read('provision-host', ProvisionHostInput.parse({ system: 'proofpass' }), system, { 'host app': bare });

  test('is undone in words, whatever kind of change it is', async () => {
    const text = await provision();
    for (const undo of [
      'remove the packages that it has added',
      'put the rules from before in force again',
      'remove the user proofpass if the step has made it, or else take it out of its new groups',
      'put /opt/proofpass/releases back as it was found',
      'restart postgresql@15-main.service, once its old files are back',
      'remove the role proofpass_user if the step has made it, or else give it its old password back',
      'remove the database proofpass_prod if the step has made it and it is still empty',
      'put the block "clients" in /etc/postgresql/15/main/pg_hba.conf back as it was found',
      'put nginx.service back as it was found: enabled or not, running or not',
      'make what of observability ran before anew, once its old files are back',
      'stop and remove what of observability did not run before',
      'put the values from before in force again',
      'put /etc/ssh/sshd_config.d/10-guardia.conf back as it was found, and let sshd read it',
    ])
      expect(text).toContain(`        undo: ${undo}\n`);
    expect(text).not.toMatch(/undo: [a-z]+[A-Z]/);
  });

  test('shows what is written as a diff below its step', async () => {
    expect(await provision()).toMatch(
      /\d+\. write \/etc\/sysctl\.d\/60-guardia\.conf .*\n {8}why: .*\n {8}undo: .*\n {8}# 0644 root:root\n {8}--- \/dev\/null\n {8}\+\+\+ \/etc\/sysctl\.d\/60-guardia\.conf\n/,
    );
  });
});

describe('an undo in words', () => {
  test('is there for every call that a planner names as an undo', () => {
    const root = path.resolve(import.meta.dirname, '../../workflows');
    const sources = readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => readFileSync(path.join(root, file), 'utf8'))
      .join('\n');
    // `discardRelease` has a constructor of its own.
    const named = [...sources.matchAll(/undo: call\('(\w+)'/g)].map(([, name = '']) => name).concat('discardRelease');
    expect(new Set(named).size).toBeGreaterThan(20);
    expect([...new Set(named)].filter((activity) => undoText({ activity, with: {} }) === activity)).toEqual([]);
  });

  const undo = (activity: string, argument: object): string => undoText({ activity, with: { ...argument } });

  test('says what it acts on', () => {
    const services = [{ name: 'api' }, { name: 'web' }, { name: 'jobs' }];
    expect(undo('restoreServices', { services, step: 'stop' })).toBe('start what ran before: api, web and jobs');
    expect(undo('switchBack', { directory: '/opt/a', from: null, to: 'r1' })).toBe('remove the link /opt/a');
    expect(undo('returnPath', { from: '/opt/a/uploads', to: '/opt/shared/uploads' })).toBe(
      'move /opt/shared/uploads back to /opt/a/uploads',
    );
    expect(undo('restoreUnit', { unit: 'a.service', anew: true })).toBe('start a.service again');
    expect(undo('restoreUnit', { unit: 'a.service', stopped: true })).toBe('stop a.service again');
  });

  test('does not promise to take back a migration that has no way back', () => {
    expect(undo('revertMigrations', { up: {}, down: {} })).toBe('take back the migrations that it has applied');
    expect(undo('revertMigrations', { up: {} })).toMatch(/^none for what it has applied: a person is asked/);
  });

  test('of a plan from another version names the call as it is', () => {
    expect(undo('unpaintTheHouse', {})).toBe('unpaintTheHouse');
  });
});
