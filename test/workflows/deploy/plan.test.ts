import { describe, expect, test } from '@jest/globals';
import {
  DeployInput,
  deployOf,
  RestartServiceInput,
  RollbackInput,
  type DeployRecord,
} from '../../../workflows/contracts/deploy.js';
import { placeOf, stepsOf, type Plan } from '../../../workflows/contracts/plan.js';
import type { ReleaseObservation } from '../../../workflows/contracts/release.js';
import type { RunReport } from '../../../workflows/contracts/run.js';
import type { System } from '../../../workflows/contracts/system.js';
import { unsetNeeded } from '../../../workflows/contracts/unset.js';
import { deployPlanner } from '../../../workflows/deploy/plan.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';
import { restartServicePlanner } from '../../../workflows/restart-service/plan.js';
import { rollbackPlanner } from '../../../workflows/rollback/plan.js';
import { before, brought, calm, host, moment, next, paced, proofpass, running, V1, V2 } from './shipped-proofpass.js';

const input = (more = {}) => DeployInput.parse({ system: 'proofpass', ...more });
const planOf = (system: System, seen: Record<string, unknown> = calm(), more = {}): Plan =>
  checkPlan(deployPlanner.plan(input(more), system, seen, moment));
const outline = (plan: Plan) =>
  plan.stages.flatMap(({ title, lanes }) =>
    lanes.map(({ on, steps }) => `${title} | ${on} | ${steps.map(({ id }) => id).join(', ')}`),
  );
const stepOf = (plan: Plan, id: string) => {
  const found = stepsOf(plan).find(({ step }) => step.id === id);
  if (!found) throw new Error(`no step ${id}`);
  return { ...found.step, place: placeOf(found.lane, found.step) };
};

describe('a deploy on one host', () => {
  test('reads like the manual: save, prepare, migrate, switch, watch, save, tidy', () => {
    const plan = planOf(proofpass());
    expect(outline(plan)).toEqual([
      'before | system | health-before',
      'recovery point | system | recovery-point',
      'prepare | app | fetch-app, build-app, preflight-app',
      'migrate | app | migrate',
      'release | app | stop-app, switch-app, start-app, wait-app, smoke-app',
      'bake | system | bake',
      'recovery point of the configuration | system | recovery-point-after',
      'tidy | app | prune-app',
    ]);
    expect(plan.pointOfNoReturn).toBeUndefined();
    expect(stepsOf(plan).map(({ step }) => step.title)).toEqual([
      expect.stringMatching(/^note which of \d+ probes fail already$/),
      'back up the databases and the configuration, and read the backup back',
      'fetch 22222222 into /opt/proofpass/releases',
      `build ${next}: npm ci, npm run build:packages, npm run build, npm prune --omit=dev`,
      'preflight: npm run preflight',
      'apply 002_verification_code to proofpass_prod',
      'stop platform and api',
      `let /opt/proofpass/platform point to ${next} instead of ${before}`,
      'start api and platform',
      'wait until api and platform are healthy on app',
      'try it: a user logs in, the attestations of that user can be read',
      expect.stringMatching(/^watch \d+ probes for 10 minutes$/),
      'back up the configuration as it is now',
      'remove all but the newest 5 releases and those that a rollback needs',
    ]);
  });

  test('states its downtime: what the inventory says, then what was measured', () => {
    expect(planOf(proofpass()).downtime).toEqual([
      { service: 'api', seconds: 30, ifUndone: 120 },
      { service: 'platform', seconds: 30, ifUndone: 120 },
    ]);
    const deploys = { deploys: [record({ app: { from: before, downtimeSeconds: 8.2 } })] };
    expect(planOf(proofpass(), calm({ deploys })).downtime[0]?.seconds).toBe(18);
  });

  test('every step has its way back, and the way back never starts the old code before its release is there', () => {
    const steps = Object.fromEntries(stepsOf(planOf(proofpass())).map(({ step }) => [step.id, step]));
    const undos = Object.entries(steps).map(([id, { undo }]) => [id, 'activity' in undo ? undo.activity : 'none']);
    expect(Object.fromEntries(undos)).toEqual({
      'health-before': 'none',
      'recovery-point': 'none',
      'fetch-app': 'discardRelease',
      'build-app': 'discardRelease',
      'preflight-app': 'none',
      migrate: 'revertMigrations',
      'stop-app': 'restoreServices',
      'switch-app': 'switchBack',
      'start-app': 'restoreServices',
      'wait-app': 'none',
      'smoke-app': 'none',
      bake: 'none',
      'recovery-point-after': 'none',
      'prune-app': 'none',
    });
    expect(steps['switch-app']?.do).toEqual({
      activity: 'switchRelease',
      with: { directory: '/opt/proofpass/platform', releases: '/opt/proofpass/releases', from: before, to: next },
    });
  });

  test('what comes after the goal undoes nothing when it fails', () => {
    const after = planOf(proofpass()).stages.slice(-2);
    expect(after.map(({ errorBudget, lanes }) => errorBudget >= lanes.length)).toEqual([true, true]);
  });

  test('pruning spares the new release, the one before it, and those of the deploy on record', () => {
    const deploys = { deploys: [record({ app: { from: 'older', downtimeSeconds: 1 } }, { release: 'recorded' })] };
    expect(stepOf(planOf(proofpass(), calm({ deploys })), 'prune-app').do.with).toMatchObject({
      keep: 5,
      protect: [next, before, 'recorded', 'older'],
    });
  });

  test('says that requests come before the release has passed: nothing holds them back on one host', () => {
    expect(planOf(proofpass()).notes).toContain(
      'There is no balancer: while app is switched nobody answers there, and requests come as soon as the new release answers, before its probes and its smoke test have passed. Where they do not pass, what was before is put back.',
    );
  });

  test('names its secrets by reference only', () => {
    const text = JSON.stringify(planOf(proofpass()));
    expect(text).toContain('"secret":"file:smoke"');
  });
});

describe('a deploy over two hosts behind a balancer', () => {
  test('prepares both side by side, migrates once, and walks them one after the other', () => {
    const plan = planOf(proofpass('scaled'));
    expect(outline(plan)).toEqual([
      'before | system | health-before',
      'recovery point | system | recovery-point',
      'prepare | app1 | fetch-app1, build-app1, preflight-app1',
      'prepare | app2 | fetch-app2, build-app2, preflight-app2',
      'migrate | app1 | migrate',
      'release | app1 | drain-app1, stop-app1, switch-app1, start-app1, wait-app1, smoke-app1, ready-app1',
      'release | app2 | drain-app2, stop-app2, switch-app2, start-app2, wait-app2, smoke-app2, ready-app2',
      'bake | system | bake',
      'recovery point of the configuration | system | recovery-point-after',
      'tidy | app1 | prune-app1',
      'tidy | app2 | prune-app2',
    ]);
    expect(plan.stages[2]).toMatchObject({ atOnce: 2, errorBudget: 0 });
    expect(plan.stages[4]).toMatchObject({ atOnce: 1, errorBudget: 0, rolling: true });
    expect(plan.downtime).toEqual([]);
  });

  test('never has more hosts under way than may fail, and one more; the plan says so', () => {
    const release = (rolling: System['deployments'][string]['rolling']) => {
      const plan = planOf(paced(rolling));
      const { atOnce, errorBudget } = plan.stages.find(({ title }) => title === 'release') ?? {};
      return { atOnce, errorBudget, notes: plan.notes.join(' ') };
    };
    expect(release({ atOnce: 2, errorBudget: 0 })).toMatchObject({
      ...{ atOnce: 1, errorBudget: 0 },
      notes: expect.stringContaining('app1 and app2 one after the other: each leaves the balancer'),
    });
    // One of two has to answer, whatever may fail.
    expect(release({ atOnce: 2, errorBudget: 1 })).toMatchObject({
      ...{ atOnce: 1, errorBudget: 1 },
      notes: expect.stringContaining('app1 and app2 one after the other'),
    });
  });

  test('the balancer is told on its own host, the database is asked on its own', () => {
    const plan = planOf(proofpass('scaled'));
    expect(stepOf(plan, 'drain-app2')).toMatchObject({
      place: 'balancer',
      do: {
        activity: 'setServers',
        with: {
          socket: '/run/haproxy/admin.sock',
          servers: ['api_backend/app2', 'platform_backend/app2'],
          state: 'drain',
          waitSeconds: 60,
        },
      },
      undo: { activity: 'restoreServers' },
    });
    expect(stepOf(plan, 'migrate')).toMatchObject({
      place: 'app1',
      do: { with: { id: next, before: ['001_initial'], database: { target: { name: 'db' } } } },
    });
  });

  const servers = (states: Record<string, [admin: string, check: string]>) => ({
    balancer: {
      servers: Object.fromEntries(
        Object.entries(states).flatMap(([host, [admin, check]]) =>
          ['api_backend', 'platform_backend'].map((backend) => [
            `${backend}/${host}`,
            { admin, check, sessions: 0, queued: 0 },
          ]),
        ),
      ),
    },
  });
  const released = (plan: Plan) => outline(plan).filter((line) => line.startsWith('release'));

  test('says in words what an operator wants to know', () => {
    expect(planOf(proofpass('scaled')).notes).toEqual([
      `22222222: Attestations have a code, instead of ${before} on app1 and app2.`,
      '002_verification_code: taken back where the deploy fails. What was written into their columns and tables by then is lost with them; the report names the rows written.',
      'app1 and app2 one after the other: each leaves the balancer on balancer, lets its requests end, and comes back once it is healthy. Meanwhile both releases answer, on the new schema.',
      'A host that fails, or that is lost, ends the deploy: all hosts go back.',
    ]);
  });

  test('a host that answers nobody goes first, so that it can take over', () => {
    const seen = calm(servers({ app1: ['ready', 'UP'], app2: ['ready', 'DOWN'] }));
    const plan = planOf(proofpass('scaled'), seen);
    expect(released(plan).map((line) => line.split(' | ')[1])).toEqual(['app2', 'app1']);
    // The way back of the migrations is not to wait for a host that may be dying.
    expect(stepOf(plan, 'migrate').place).toBe('app1');
  });

  test('a host that somebody has taken out gets the release and stays out', () => {
    // Another server of the backend answers while app1 is out.
    const seen = calm(servers({ app1: ['ready', 'UP'], app2: ['maint', 'MAINT'], app3: ['ready', 'UP'] }));
    const plan = planOf(proofpass('scaled'), seen);
    expect(released(plan)).toEqual([
      'release | app2 | stop-app2, switch-app2, start-app2, wait-app2, smoke-app2',
      'release | app1 | drain-app1, stop-app1, switch-app1, start-app1, wait-app1, smoke-app1, ready-app1',
    ]);
    expect(plan.notes.join(' ')).toContain('Somebody has taken app2 out of the balancer: it stays out');
  });

  test('where the other one is taken out nobody would be left: refused when planning, and not in the middle', () => {
    const maint = servers({ app1: ['ready', 'UP'], app2: ['maint', 'MAINT'] });
    const planned = (seen: Record<string, unknown>) => () => planOf(proofpass('scaled'), calm(seen));
    expect(planned(maint)).toThrow(
      'without api_backend/app1 nobody is left in api_backend: app2 is maint, MAINT. Give app2 requests first',
    );
    expect(planned(servers({ app1: ['drain', 'DRAIN'], app2: ['ready', 'UP 1/3'] }))).toThrow(
      'Give app1 requests first',
    );
    // A release that mends an outage goes out all the same: a server that answers nobody may always leave.
    for (const check of ['DOWN', 'DOWN 1/2'])
      expect(planned(servers({ app1: ['ready', check], app2: ['maint', 'MAINT'] }))).not.toThrow();
    // What is down has its own turn first, and takes over, unless it has nothing to be brought.
    expect(planned(servers({ app1: ['ready', 'UP'], app2: ['ready', 'DOWN'] }))).not.toThrow();
    const done = host({ current: 'x', releases: [{ id: 'x', commit: V2 }] });
    expect(planned({ ...servers({ app1: ['ready', 'UP'], app2: ['ready', 'DOWN'] }), 'host app2': done })).toThrow(
      'app2 is ready, DOWN. Bring app2 back first',
    );
    // Only the one that is out is behind.
    expect(planned({ ...maint, 'host app1': done })).not.toThrow();
  });

  test('both servers need what they sign and read with from one source', () => {
    const asked = unsetNeeded(proofpass('scaled'), ['secrets']).map(({ path: at }) => at);
    expect(asked).toEqual(
      expect.arrayContaining(
        ['jwt-secret', 'nextauth-secret', 'encryption-key', 'database-password'].map((name) => `secrets.${name}.from`),
      ),
    );
  });

  test('a host that has the release already and is healthy is left alone', () => {
    const done = host({ current: 'x', releases: [{ id: 'x', commit: V2 }] });
    const plan = planOf(proofpass('scaled'), calm({ 'host app1': done }));
    expect(outline(plan).filter((line) => /app1\b/.test(line))).toEqual([]);
    expect(stepOf(plan, 'migrate').place).toBe('app2');
  });

  test('looks once at each host, and once each at source, database, balancer, records and health', () => {
    const system = proofpass('scaled');
    const asked = deployPlanner.observe(input(), system, moment);
    expect(asked.map(({ as, on, call }) => `${as} | ${on} | ${call.activity}`)).toEqual([
      'host app1 | app1 | observeRelease',
      'host app2 | app2 | observeRelease',
      'database | db | observeMigrations',
      'balancer | balancer | observeBalancer',
      'deploys | system | observeDeploys',
      'health | system | probeHost',
      'source | app1 | resolveRef',
    ]);
  });
});

describe('what fails before a deploy', () => {
  const seen = calm({
    health: {
      results: [
        { id: 'headers-api', title: 'headers of the API', on: 'worker', state: 'critical', severity: 'critical' },
        { id: 'x', title: 'only a warning', on: 'worker', state: 'warning', severity: 'warning' },
      ],
    },
  });

  test('is said in the plan, noted before anything changes, and not held against the release', () => {
    const plan = planOf(proofpass(), seen);
    expect(plan.notes.at(-1)).toBe(
      'Failing before the deploy: headers of the API (worker). What fails already when it begins does not undo it; what fails because of it does.',
    );
    expect(stepOf(plan, 'health-before').do.activity).toBe('probeHost');
    expect(stepOf(plan, 'bake').do).toMatchObject({
      activity: 'watchHealth',
      with: { failingBefore: { from: 'health-before', path: 'failing' } },
    });
  });

  test('from outside does not make a release that is current ill', () => {
    const current = host({ current: 'x', releases: [{ id: 'x', commit: V2 }] });
    const database = { applied: ['001_initial', '002_verification_code'] };
    expect(planOf(proofpass(), { ...seen, 'host app': current, database }).stages).toEqual([]);
  });
});

describe('what a deploy does with migrations', () => {
  const source = (migrations: unknown) => ({ source: { commit: V2, subject: '', migrations } });

  test('none that are new: no step', () => {
    expect(outline(planOf(proofpass(), calm(source(brought.slice(0, 1))))).join()).not.toContain('migrate');
  });

  test('one that cannot be taken back: the point of no return, what is at stake, and a sentence', () => {
    const plan = planOf(proofpass(), calm(source([...brought, { name: '004_drop', reversible: false }])));
    expect(plan.pointOfNoReturn).toBe('migrate');
    expect(plan.atStake).toMatchObject({
      on: 'app',
      call: { activity: 'countRowsAtStake', with: { baseline: { from: 'migrate', path: 'baseline' } } },
    });
    expect(plan.notes.join(' ')).toContain('004_drop cannot be taken back. Once applied, a failure holds for a person');
    expect(stepOf(plan, 'migrate')).toMatchObject({
      title: 'apply 002_verification_code, 004_drop to proofpass_prod, which cannot be taken back',
    });
    expect(stepOf(plan, 'migrate').do.with).not.toHaveProperty('down');
    expect(plan.notes.join(' ')).not.toContain('taken back where the deploy fails');
    expect(plan.notes.join(' ')).toMatch(
      /tests? (has|have) passed\. Where they do not pass, it stays as it is and the deploy holds/,
    );
    const scaled = planOf(proofpass('scaled'), calm(source([...brought, { name: '004_drop', reversible: false }])));
    expect(scaled.notes.at(-1)).toBe(
      'A host that fails, or that is lost, is not put back by itself: the deploy holds for a person.',
    );
  });

  test('where nothing says what a release brings: always the step, under what the inventory declares', () => {
    const bare = proofpass(undefined, (system) => {
      const { migrations } = system.deployments['platform']!;
      if (migrations.kind !== 'none') delete migrations.files;
    });
    expect(stepOf(planOf(bare, calm(source(null))), 'migrate').title).toBe(
      'apply the migrations of the release to proofpass_prod',
    );
  });

  test('the release is there, only its migrations are not: they are its own', () => {
    const done = host({ current: 'x', releases: [{ id: 'x', commit: V2 }] });
    const plan = planOf(proofpass(), calm({ 'host app': done }));
    expect(outline(plan)).toContain('migrate | app | migrate');
    expect(stepOf(plan, 'migrate').do.with).toMatchObject({ id: 'x' });
  });
});

describe('before anything is done', () => {
  const done = {
    'host app': host({ current: 'x', releases: [{ id: 'x', commit: V2 }] }),
    database: { applied: ['001_initial', '002_verification_code'] },
  };

  test('a commit that is current and healthy: nothing to do, unless it is forced or ill', () => {
    expect(planOf(proofpass(), calm(done))).toMatchObject({
      stages: [],
      notes: ['22222222 is current on app, and healthy'],
    });
    const taken = { admin: 'drain', sessions: 0, queued: 0, check: 'UP' };
    expect(
      planOf(proofpass('scaled'), {
        ...calm(done),
        ...{ 'host app1': done['host app'], 'host app2': done['host app'] },
        balancer: { servers: { 'api_backend/app2': taken, 'platform_backend/app2': taken } },
      }).notes,
    ).toEqual([
      '22222222 is current on app1, app2, and healthy',
      'Somebody has taken app2 out of the balancer: it stays out. Give it requests by hand.',
    ]);
    expect(planOf(proofpass(), calm(done), { force: true }).stages).not.toEqual([]);
    const ill = { results: [{ on: 'app', state: 'critical', severity: 'critical' }] };
    expect(planOf(proofpass(), calm({ ...done, health: ill })).stages).not.toEqual([]);
    const stopped = { ...done['host app'], services: { api: running, platform: { state: 'stopped', instance: '-' } } };
    expect(planOf(proofpass(), calm({ ...done, 'host app': stopped })).stages).not.toEqual([]);
  });

  test('a first release has nothing to save and nothing to go back to', () => {
    const bare = host({ link: null, current: null, releases: [] });
    const plan = planOf(proofpass(), calm({ 'host app': bare, database: { applied: [] } }));
    expect(plan.stages.map(({ title }) => title).slice(0, 2)).toEqual(['before', 'prepare']);
    expect(stepOf(plan, 'switch-app')).toMatchObject({
      title: `let /opt/proofpass/platform point to ${next}, the first release here`,
      undo: { activity: 'switchBack', with: { from: null, to: next } },
    });
  });

  test('bare hosts before a database in use: it is saved first', () => {
    const bare = host({ link: null, current: null, releases: [] });
    const plan = planOf(proofpass(), calm({ 'host app': bare }));
    expect(plan.stages.map(({ title }) => title).slice(0, 3)).toEqual(['before', 'recovery point', 'prepare']);
    expect(plan.notes.join(' ')).toContain(
      'It is the first release here, but proofpass_prod has 1 migration already: it is backed up first. There is no release to go back to.',
    );
    expect(plan.notes.join(' ')).not.toContain('nothing to save');
  });

  test('units that would not start with their host are enabled, once they run', () => {
    const services = { api: { ...running, disabled: true }, platform: running };
    const plan = planOf(proofpass(), calm({ 'host app': host({ services }) }));
    expect(outline(plan)).toContain(
      'release | app | stop-app, switch-app, start-app, enable-api-app, wait-app, smoke-app',
    );
    expect(stepOf(plan, 'enable-api-app')).toMatchObject({
      do: { activity: 'setUnit', with: { unit: 'proofpass-api.service', enabled: true } },
      undo: { activity: 'restoreUnit' },
    });
  });

  test.each<[string, Partial<ReleaseObservation>, string]>([
    [
      'a plain checkout',
      { link: null, current: null, linkIsOther: true },
      'is a plain directory and no link to a release: run adopt',
    ],
    [
      'shared data that is missing',
      { missing: ['/opt/proofpass/shared/.env'] },
      'app lacks /opt/proofpass/shared/.env: run provision-host',
    ],
    ['a full disk', { freeBytes: 1e8 }, 'app has 100 MB free for releases and a deploy needs 500 MB'],
    ['a link to somewhere else', { link: '/srv/x', current: null }, 'points to /srv/x, which is no release'],
    ['no user', { userMissing: true }, 'app has no user proofpass: run provision-host'],
  ])('%s is refused with what to do', (_, seen, sentence) => {
    expect(() => planOf(proofpass(), calm({ 'host app': host(seen) }))).toThrow(sentence);
  });

  test('what the inventory leaves open is named', () => {
    const system = proofpass(undefined, ({ deployments }) => {
      if (deployments['platform']?.source.kind === 'git')
        deployments['platform'].source.url = { unset: 'the repository' };
    });
    const needed = unsetNeeded(system, deployPlanner.needs(input(), system)).map(({ path: at }) => at);
    expect(needed).toEqual(['deployments.platform.source.url']);
    expect(() => deployPlanner.needs(input({ deployment: 'shop' }), system)).toThrow(
      'there is no deployment shop of proofpass: platform',
    );
  });

  test('facets are what a plan rests on, not how busy or full anything is', () => {
    const facets = (seen: Record<string, unknown>) => JSON.stringify(deployPlanner.facets(seen));
    const same = calm({
      'host app': host({
        freeBytes: 1,
        currentBytes: 1,
        services: { api: { state: 'running', instance: 'y' }, platform: running },
      }),
    });
    expect(facets(same)).toBe(facets(calm()));
    for (const change of [
      { 'host app': host({ current: 'x', link: 'x' }) },
      { 'host app': host({ services: { api: { state: 'stopped', instance: '-' }, platform: running } }) },
      { database: { applied: [] } },
      { source: { commit: V1, subject: '', migrations: brought } },
    ])
      expect(facets(calm(change))).not.toBe(facets(calm()));
  });

  test('a deploy that is cancelled while it prunes can be seen to be undone: old releases are gone for good, all others count', () => {
    const deploys = { deploys: [record({ app: { from: 'previous', downtimeSeconds: 1 } }, { release: before })] };
    const facets = (...ids: string[]) => {
      const releases = ids.map((id) => ({ id, commit: V1 }));
      return deployPlanner.facets(calm({ deploys, 'host app': host({ releases }) }));
    };
    expect(facets('previous', before)).toEqual(facets('ancient', 'previous', before));
    expect(facets(before)).not.toEqual(facets('previous', before));
    expect(facets('previous')).not.toEqual(facets('previous', before));
  });
});

/** A deploy on record. */
function record(hosts: DeployRecord['hosts'], more: Partial<DeployRecord> = {}): DeployRecord {
  return {
    workflowId: 'deploy/proofpass/1',
    runId: 'r',
    endedAt: '2026-11-22T15:00:00.000Z',
    release: next,
    commit: V2,
    hosts,
    enabled: [],
    migrations: null,
    ...more,
  };
}

describe('a rollback', () => {
  const releases = [
    { id: before, commit: V1 },
    { id: next, commit: V2 },
  ];
  const now = host({ link: `/opt/proofpass/releases/${next}`, current: next, releases });
  const baseline = { at: '2026-11-22T14:10:00.000Z', writes: {} };
  const applied = { applied: ['002_verification_code'], baseline, reversible: true };
  const after = (more: Record<string, unknown> = {}, deploy: Partial<DeployRecord> = {}) =>
    calm({
      'host app': now,
      database: { applied: ['001_initial', '002_verification_code'] },
      deploys: { deploys: [record({ app: { from: before, downtimeSeconds: 6 } }, { migrations: applied, ...deploy })] },
      ...more,
    });
  const back = (seen: Record<string, unknown>, more = {}, system = proofpass()) =>
    checkPlan(rollbackPlanner.plan(RollbackInput.parse({ system: 'proofpass', ...more }), system, seen, moment));

  test('goes back from the record: the release first, then the migrations that only it knew', () => {
    const plan = back(after());
    expect(outline(plan)).toEqual([
      'before | system | health-before',
      'recovery point | system | recovery-point',
      'release | app | stop-app, switch-app, start-app, wait-app, smoke-app',
      'bake | system | bake',
      'take the migrations back | app | take-back-migrations',
      'after | system | health-after',
      'recovery point of the configuration | system | recovery-point-after',
    ]);
    expect(stepOf(plan, 'switch-app').do.with).toMatchObject({ from: next, to: before });
    expect(stepOf(plan, 'take-back-migrations')).toMatchObject({
      do: { activity: 'takeBackMigrations', with: { id: next, migrations: ['002_verification_code'], baseline } },
      undo: { activity: 'reapplyMigrations' },
    });
    expect(plan.downtime[0]).toEqual({ service: 'api', seconds: 14, ifUndone: 88 });
  });

  test('is watched from outside as a deploy is, while all of it can be undone, and looked at once more', () => {
    const plan = back(after());
    const outside = (id: string) =>
      (stepOf(plan, id).do.with['probes'] as { id: string; on: string }[])
        .filter(({ on }) => on === 'worker')
        .map((probe) => probe.id);
    for (const id of ['health-before', 'bake', 'health-after'])
      expect(outside(id)).toEqual(expect.arrayContaining(['endpoint-api', 'endpoint-platform']));
    for (const id of ['bake', 'health-after'])
      expect(stepOf(plan, id).do.with).toMatchObject({ failingBefore: { from: 'health-before', path: 'failing' } });
    expect(outline(back(after(), { migrations: 'keep' })).join()).not.toContain('health-after');
    const unwatched = proofpass(undefined, ({ deployments }) => {
      deployments['platform']!.bake.minutes = 0;
    });
    expect(outline(back(after(), {}, unwatched)).join()).not.toMatch(/bake|health/);
  });

  test('who approves reads what was written into the columns and tables that go', () => {
    const atStake = {
      rows: [{ table: 'attestations', rows: 12, exact: true }],
      lines: ['12 new rows in attestations'],
    };
    const plan = back({ ...after(), atStake });
    // Taken back, they can be made again, but not what they held.
    expect(plan.pointOfNoReturn).toBe('take-back-migrations');
    expect(stepOf(plan, 'take-back-migrations').why).toContain(
      'what they hold of these is lost: 12 new rows in attestations',
    );
    expect(plan.notes.join(' ')).toContain('"migrations": "keep" leaves them');
    expect(back({ ...after(), atStake }, { migrations: 'keep' }).notes.join(' ')).not.toContain('12 new rows');
  });

  test('where nothing was written into them yet, people go on writing: it is the point of no return all the same', () => {
    const plan = back({ ...after(), atStake: { rows: [], lines: ['no row has been written since'] } });
    expect(plan.pointOfNoReturn).toBe('take-back-migrations');
    expect(stepOf(plan, 'take-back-migrations').why).not.toContain('no row has been written');
    // What goes is said all the same: the counters lag, and people go on writing.
    expect(plan.notes.join(' ')).toContain(
      'The columns and tables of 002_verification_code go, with what was written into them: no row has been written since. "migrations": "keep" leaves them',
    );
  });

  test('is planned anew where the first row was written while it waited', () => {
    const facets = (rows: unknown[]) => rollbackPlanner.facets({ ...after(), atStake: { rows, lines: [] } });
    expect(facets([{}])).not.toEqual(facets([]));
    expect(facets([{}, {}])).toEqual(facets([{}]));
  });

  test('names the units that the deploy let start with their host: they stay so', () => {
    expect(back(after({}, { enabled: ['proofpass-api.service on app'] })).notes).toContain(
      'proofpass-api.service on app: the deploy let it start with its host, and it stays so.',
    );
  });

  test('with "migrations": "keep" leaves the schema and says so', () => {
    const plan = back(after(), { migrations: 'keep' });
    expect(outline(plan).join()).not.toContain('take-back');
    expect(plan.notes.join(' ')).toContain(
      '002_verification_code stay applied, with everything that was written since',
    );
  });

  test('of an irreversible migration is refused with the rows at stake, unless they stay', () => {
    const seen = after(
      { atStake: { rows: [], lines: ['public.attestations: 12 rows written since 14:10'] } },
      { migrations: { ...applied, reversible: false } },
    );
    expect(() => back(seen)).toThrow(
      /^002_verification_code cannot be taken back in proofpass\. At stake: public\.attestations: 12 rows written since 14:10\. Decide: /,
    );
    expect(back(seen, { migrations: 'keep' }).stages).not.toEqual([]);
  });

  test('is refused where it would not go back to what was: no record, changed since, release gone, first one', () => {
    expect(() => back(after({ deploys: { deploys: [] } }))).toThrow(
      'no deploy of /opt/proofpass/platform of proofpass is on record',
    );
    expect(() => back(after({ 'host app': { ...now, current: 'other' } }))).toThrow(`but other is current on app`);
    expect(() => back(after({ 'host app': { ...now, releases: releases.slice(1) } }))).toThrow(
      `the release ${before} is not on app any more`,
    );
    expect(() => back(after({}, { hosts: { app: { from: null, downtimeSeconds: null } } }))).toThrow(
      'was the first release of proofpass on app',
    );
    expect(() => back(after({}, { hosts: { app9: { from: before, downtimeSeconds: 6 } } }))).toThrow(
      'the last deploy on record went to app9 only, which the inventory no longer has',
    );
    const later = { database: { applied: ['001_initial', '002_verification_code', '003_later'] } };
    expect(() => back(after(later))).toThrow('003_later was applied after the deploy that is to be taken back');
  });

  test('leaves out a host that the inventory no longer has, dead at night for one, and says so', () => {
    const hosts = { app9: { from: before, downtimeSeconds: 6 }, app: { from: before, downtimeSeconds: 6 } };
    const plan = back(after({}, { hosts }));
    expect(outline(plan)).toEqual(outline(back(after())));
    expect(stepOf(plan, 'take-back-migrations').place).toBe('app');
    expect(plan.notes.join(' ')).toContain(
      `The deploy went to app9, too, which the inventory no longer has: left out. Should it come back it has ${next}, whose migrations are taken back, and starts it: keep it out of the balancer until it was deployed to.`,
    );
    expect(back(after({}, { hosts }), { migrations: 'keep' }).notes.join(' ')).toContain(
      `it has ${next} and starts it`,
    );
    expect(back(after()).notes.join(' ')).not.toContain('left out');
  });

  test('is refused where a server would leave nobody behind the balancer', () => {
    const on = { app1: { from: before, downtimeSeconds: null }, app2: { from: before, downtimeSeconds: null } };
    const server = (admin: string, check: string) => ({ admin, check, sessions: 0, queued: 0 });
    const seen = (app2: ReturnType<typeof server>) =>
      after({
        ...{ 'host app1': now, 'host app2': now, deploys: { deploys: [record(on)] } },
        balancer: { servers: { 'api_backend/app1': server('ready', 'UP'), 'api_backend/app2': app2 } },
      });
    expect(() => back(seen(server('maint', 'MAINT')), {}, proofpass('scaled'))).toThrow('Give app2 requests first');
    expect(() => back(seen(server('ready', 'UP')), {}, proofpass('scaled'))).not.toThrow();
  });

  test('leaves no host on the release whose migrations it takes back', () => {
    const system = paced({ atOnce: 2, errorBudget: 1 });
    const on = { app1: { from: before, downtimeSeconds: null }, app2: { from: before, downtimeSeconds: null } };
    const seen = after({
      'host app1': now,
      'host app2': now,
      deploys: { deploys: [record(on, { migrations: applied })] },
    });
    const budget = (more = {}) => back(seen, more, system).stages.find(({ title }) => title === 'release')?.errorBudget;
    expect([budget(), budget({ migrations: 'keep' })]).toEqual([0, 1]);
  });

  test('that was done already has nothing to do', () => {
    expect(back(after({ 'host app': host({ releases }) }))).toMatchObject({ stages: [] });
  });

  test('reads what it needs from the record of the run', () => {
    const system = proofpass('scaled');
    const services = { api: { ...running, disabled: true }, platform: running };
    const plan = planOf(system, calm({ 'host app1': host({ services }), 'host app2': host({ services }) }));
    const at = (seconds: number) => new Date(Date.parse(moment.now) + seconds * 1000).toISOString();
    const report = {
      runbook: 'deploy',
      system: 'proofpass',
      workflowId: 'w',
      runId: 'r',
      requester: 'me',
      phase: 'ended',
      startedAt: at(0),
      endedAt: at(100),
      end: 'succeeded',
      plan,
      notes: [],
      remaining: [],
      result: { migrations: { applied: ['002_verification_code'], baseline } },
      steps: stepsOf(plan).map(({ stage, lane, step }, i) => ({
        id: step.id,
        title: step.title,
        on: lane.on,
        stage: stage.title,
        state: lane.on === 'app2' && stage.title === 'release' ? 'undone' : 'done',
        startedAt: at(i),
        endedAt: at(i + 1),
        generation: 1,
      })),
    } as unknown as RunReport;
    expect(deployOf(report, '/opt/proofpass/platform')).toEqual({
      workflowId: 'w',
      runId: 'r',
      endedAt: at(100),
      release: next,
      commit: V2,
      hosts: { app1: { from: before, downtimeSeconds: 5 } },
      enabled: ['proofpass-api.service on app1'],
      migrations: { ...applied },
    });
    // Somebody has put the last step of a host right by hand, and had it skipped: the host is on the new release all the same.
    const byHand = report.steps.map((one): RunReport['steps'][number] =>
      one.on === 'app2' ? { ...one, state: one.id === 'ready-app2' ? 'skipped' : 'done' } : one,
    );
    expect(Object.keys(deployOf({ ...report, steps: byHand }, '/opt/proofpass/platform')?.hosts ?? {})).toEqual([
      'app1',
      'app2',
    ]);
    expect(deployOf(report, '/opt/other')).toBeUndefined();
    expect(deployOf({ ...report, end: 'rolled back' }, '/opt/proofpass/platform')).toBeUndefined();
    expect(deployOf({ ...report, runbook: 'backup' }, '/opt/proofpass/platform')).toBeUndefined();
  });
});

describe('restart-service', () => {
  const plan = (system: System, service: string, seen: Record<string, unknown> = {}) =>
    checkPlan(
      restartServicePlanner.plan(RestartServiceInput.parse({ system: 'proofpass', service }), system, seen, moment),
    );
  /** What a step looks at, as `probe (from where)`. */
  const looksAt = (of: Plan, id: string) =>
    (stepOf(of, id).do.with['probes'] as { id: string; on: string }[]).map((probe) => `${probe.id} (${probe.on})`);

  test('restarts on one host with a downtime, behind the balancer host after host without', () => {
    const one = plan(proofpass(), 'api');
    expect(outline(one)).toEqual([
      'before | system | health-before',
      'restart | app | restart-app, wait-app, still-app',
      'after | system | health-after',
    ]);
    const two = plan(proofpass('scaled'), 'api');
    expect(outline(two)).toEqual([
      'before | system | health-before',
      'restart | app1 | drain-app1, restart-app1, wait-app1, still-app1, ready-app1',
      'restart | app2 | drain-app2, restart-app2, wait-app2, still-app2, ready-app2',
      'after | system | health-after',
    ]);
    expect(two).toMatchObject({ downtime: [] });
    expect(two.stages[1]).toMatchObject({ atOnce: 1, rolling: true, errorBudget: 0 });
    expect(two.notes).toEqual([
      'platform does not work without api: away with it on each host, while that is out of the balancer, and waited for.',
    ]);
  });

  test('where nobody would be left behind the balancer it is refused; a host that is done goes through no drain on the way back', () => {
    const seen = (admin: string, check: string) => ({
      balancer: {
        servers: {
          'api_backend/app1': { admin: 'ready', sessions: 0, queued: 0, check: 'UP' },
          'api_backend/app2': { admin, sessions: 0, queued: 0, check },
        },
      },
      'host app1': { services: { api: { state: 'running' } } },
      'host app2': { services: { api: { state: check === 'DOWN' ? 'stopped' : 'running' } } },
    });
    expect(() => plan(proofpass('scaled'), 'api', seen('maint', 'MAINT'))).toThrow('Give app2 requests first');
    const both = plan(proofpass('scaled'), 'api', seen('ready', 'UP'));
    expect(stepOf(both, 'drain-app1').undo).toMatchObject({ activity: 'restoreServers' });
    expect(stepOf(both, 'ready-app1').undo).toEqual({ none: 'the way back of a restart ends in the balancer, too' });
    // Where the way back stops it again, nobody's request may be under way.
    const mending = plan(proofpass('scaled'), 'api', seen('ready', 'DOWN'));
    expect(stepOf(mending, 'ready-app1').undo).toHaveProperty('none');
    expect(stepOf(mending, 'ready-app2').undo).toMatchObject({ activity: 'restoreServers', with: { state: 'ready' } });
  });

  test('the downtime names what does not work without it, however far; the run waits for that, too', () => {
    const api = plan(proofpass(), 'api');
    expect(api.downtime).toEqual([
      { service: 'api', seconds: 30, ifUndone: 120 },
      { service: 'platform', seconds: 30, ifUndone: 120 },
    ]);
    expect(api.notes).toEqual(['platform does not work without api: away with it, and waited for.']);
    expect(looksAt(api, 'wait-app')).toEqual(['service-api (app)', 'ready-api (app)']);
    expect(looksAt(api, 'still-app')).toEqual(['service-platform (app)', 'ready-platform (app)']);
    const database = plan(proofpass('scaled'), 'postgresql');
    expect(database.downtime.map(({ service }) => service)).toEqual([
      ...['postgresql', 'api', 'postgres-exporter', 'platform'],
    ]);
    expect(looksAt(database, 'still-db')).toEqual(['service-postgres-exporter (db)', 'postgres-metrics (db)']);
    expect(looksAt(database, 'health-after')).toEqual(
      expect.arrayContaining(['ready-api-app2 (app2)', 'ready-platform-app1 (app1)', 'endpoint-api (worker)']),
    );
  });

  test('PostgreSQL is its cluster and what asks it, not the unit that is active while the server is down', () => {
    const database = plan(proofpass(), 'postgresql');
    expect(stepOf(database, 'restart-app').do.with).toMatchObject({
      services: [{ unit: 'postgresql@15-main.service' }],
    });
    expect(looksAt(database, 'wait-app')).toEqual([
      ...['service-postgresql (app)', 'database-main (app)', 'users (app)'],
    ]);
  });

  test.each([
    ['nginx', undefined, 'app'],
    ['haproxy', 'scaled', 'balancer'],
  ])('%s is asked from outside what it hands on', (proxy, layout, on) => {
    const of = plan(proofpass(layout), proxy);
    expect(looksAt(of, `wait-${on}`)).toEqual([`service-${proxy} (${on})`]);
    for (const id of ['health-before', 'health-after'])
      expect(looksAt(of, id)).toEqual(
        expect.arrayContaining(['endpoint-api (worker)', 'endpoint-platform (worker)', 'redirect-api (worker)']),
      );
    expect(of.downtime.map(({ service }) => service)).toEqual([proxy, 'api', 'platform']);
  });

  test('the way back starts what went down with it on the same host', () => {
    const step = stepOf(plan(proofpass('scaled'), 'api'), 'restart-app1');
    const names = (services: unknown) => (services as { name: string }[]).map(({ name }) => name);
    expect([names(step.do.with['services']), names(step.do.with['dependants'])]).toEqual([['api'], ['platform']]);
    expect(names('activity' in step.undo && step.undo.with['services'])).toEqual(['api', 'platform']);
    expect(stepOf(plan(proofpass('scaled'), 'openbao'), 'restart-db').do.with).not.toHaveProperty('dependants');
  });

  test('of what comes back sealed is a point of no return: said before, and a failure holds for who unseals it', () => {
    const vault = plan(proofpass(), 'openbao');
    expect(vault.pointOfNoReturn).toBe('restart-app');
    expect(stepOf(vault, 'wait-app').title).toBe('wait until openbao is unsealed and healthy on app');
    expect(looksAt(vault, 'wait-app')).toContain('openbao-unsealed (app)');
    // It is waited for however it was before: nothing of it is forgiven.
    expect(stepOf(vault, 'wait-app').do.with).not.toHaveProperty('failingBefore');
    expect(vault.notes[0]).toBe(
      'A restart seals openbao, and nothing undoes that: have the holders of its key shares at hand. Once it is up they unseal it (docker exec -it openbao bao operator unseal, once for each share). Until then api and platform are away too. The run waits 15 s, then holds for a person: unseal it, then say retry.',
    );
    expect(vault.downtime.every((one) => one.ifUndone === undefined)).toBe(true);
    expect(plan(proofpass(), 'grafana').pointOfNoReturn).toBeUndefined();
  });

  test('what fails is part of what has to be as before: a start does not undo a restart that it did not survive', () => {
    const facets = (state: string) =>
      restartServicePlanner.facets({
        'host app': { services: { openbao: { state: 'running', instance: state } } },
        health: { results: [{ id: 'openbao-unsealed', on: 'app', state, severity: 'critical' }] },
      });
    expect(facets('critical')).not.toEqual(facets('ok'));
    expect(facets('warning')).toEqual(facets('ok'));
    expect(Object.keys(facets('ok'))).toEqual(['host app', 'failing']);
  });

  test('what fails before is said, and only the service itself has to get well', () => {
    const results = [{ id: 'x', title: 'the platform answers', on: 'worker', state: 'critical', severity: 'critical' }];
    const of = plan(proofpass(), 'api', { health: { results } });
    expect(of.notes.at(-1)).toBe('Failing before the restart: the platform answers (worker).');
    for (const id of ['still-app', 'health-after'])
      expect(stepOf(of, id).do.with).toMatchObject({ failingBefore: { from: 'health-before', path: 'failing' } });
    expect(stepOf(of, 'wait-app').do.with).not.toHaveProperty('failingBefore');
  });

  test('names the services that there are', () => {
    expect(() => plan(proofpass(), 'redis')).toThrow(
      /system proofpass has no service redis on any host \(it has: api, platform/,
    );
    expect(() => plan(proofpass(), 'haproxy')).toThrow('has no service haproxy on any host');
  });
});
