import { describe, expect, test } from '@jest/globals';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import { loadSystem } from '../../../activities/inventory/load.js';
import { adoptPlanner } from '../../../workflows/adopt/plan.js';
import { scheduleCommand } from '../../../workflows/adopt/schedule-command.js';
import { AdoptInput, type SeenAdoption, type SeenCheckout } from '../../../workflows/contracts/adopt.js';
import { stepsOf, type Call } from '../../../workflows/contracts/plan.js';
import type { System } from '../../../workflows/contracts/system.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';

const moment = {
  workflowId: 'adopt/proofpass/1',
  runId: '01a2b3c4-d000-7000-8000-00001a2b3c4d',
  now: '2026-11-22T02:00:00.000Z',
};
const { system } = loadSystem('proofpass', inventoryLocations({}));
for (const [name, endpoint] of Object.entries(system.endpoints)) endpoint.url = `https://${name}.example/`;
for (const host of Object.values(system.hosts))
  Object.assign(host.connection, { address: '10.0.0.1', identity: 'file:ssh', hostKeys: ['ssh-ed25519 AAAA'] });
const input = AdoptInput.parse({ system: 'proofpass' });
const checkout: SeenCheckout = {
  kind: 'checkout',
  owner: 'proofpass',
  group: 'proofpass',
  link: '',
  commit: '0f1e2d3c'.repeat(5),
  elsewhere: [],
  mounts: [],
  unnamed: [],
  shared: {
    '.env': { inCheckout: 'there', target: 'absent' },
    storage: { inCheckout: 'there', target: 'empty' },
  },
  releases: 'absent',
  writable: 'absent',
  running: ['proofpass-platform.service', 'proofpass-api.service'],
  naming: [],
};
const byHand: SeenAdoption = {
  checkouts: { application: checkout },
  cron: { backups: { inForce: 2, takenOver: 0 }, rotation: { inForce: 0, takenOver: 0 } },
  projects: [{ project: 'observability', directory: '/opt/proofpass/observability' }],
};
const planOf = (seen: SeenAdoption) => checkPlan(adoptPlanner.plan(input, system, { 'host app': seen }, moment));
const change = (more: Partial<SeenCheckout>): SeenAdoption => ({
  ...byHand,
  checkouts: { application: { ...checkout, ...more } },
});

describe('the plan to adopt proofpass', () => {
  test('stops, moves the data, moves the code, lets the units write there, starts', () => {
    const plan = planOf(byHand);
    expect(stepsOf(plan).map(({ step }) => step.title)).toEqual([
      expect.stringMatching(/^note which of \d+ probes fail already$/),
      'make the directory /opt/proofpass/releases',
      'make the directory /opt/proofpass/shared',
      'stop proofpass-platform.service',
      'stop proofpass-api.service',
      'move /opt/proofpass/platform/.env to /opt/proofpass/shared/.env, and leave a link',
      'move /opt/proofpass/platform/storage to /opt/proofpass/shared/storage, and leave a link',
      'write /opt/proofpass/platform/.guardia-release.json',
      'move /opt/proofpass/platform to /opt/proofpass/releases/20261122T020000Z-0f1e2d3c-1a2b3c4d, and leave a link',
      'make the directory /etc/systemd/system/proofpass-platform.service.d',
      'write /etc/systemd/system/proofpass-platform.service.d/guardia-shared.conf',
      'make the directory /etc/systemd/system/proofpass-api.service.d',
      'write /etc/systemd/system/proofpass-api.service.d/guardia-shared.conf',
      'start proofpass-api.service',
      'start proofpass-platform.service',
      "turn 2 line(s) of root's crontab into comments",
      'wait until what worked before works again',
    ]);
    expect(plan.downtime.map(({ service }) => service)).toEqual(['platform', 'api']);
    expect(plan.notes).toEqual([
      expect.stringContaining(
        `until the schedule backup-daily is there; make it in Temporal: ${scheduleCommand(system, 'backup-daily')}`,
      ),
      expect.stringContaining('until the schedule backup-six-hourly is there'),
      expect.stringMatching(
        /^No recovery point of the configuration is made afterwards: objectStore\.endpoint, .* not filled in\.$/,
      ),
    ]);
    for (const { step } of stepsOf(plan).slice(1, -1)) expect(step.undo).toHaveProperty('activity');
  });

  test('leaves lines in force that no runbook replaces yet, but none that the move breaks', () => {
    const cron = { backups: { inForce: 1, takenOver: 0 }, rotation: { inForce: 1, takenOver: 0 } };
    const ended = (of: System) => {
      const plan = adoptPlanner.plan(input, of, { 'host app': { ...byHand, cron } }, moment);
      const steps = stepsOf(plan).filter(({ step }) => step.do.activity === 'disableCronLines');
      return { notes: plan.notes.filter((note) => note.includes('rotation')), steps: steps.map(({ step }) => step.id) };
    };
    expect(ended(system)).toEqual({
      notes: [
        expect.stringMatching(
          /^app: the rotation lines end, .* guardia has no runbook rotate-secret yet\. Until it has: rotate by hand, .*\/opt\/proofpass\/shared\/\.env.* restart-service proofpass/,
        ),
      ],
      steps: ['cron-app-backups', 'cron-app-rotation'],
    });
    const harmless = structuredClone(system);
    delete harmless.adopt?.cron['rotation']?.meanwhile;
    expect(ended(harmless)).toEqual({
      notes: ['app: the rotation lines stay: guardia has no runbook rotate-secret yet.'],
      steps: ['cron-app-backups'],
    });
  });

  test('leaves a service stopped that somebody has stopped', () => {
    const plan = planOf(change({ running: ['proofpass-api.service'] }));
    const units = stepsOf(plan).flatMap(({ step }) => (step.do.activity === 'setUnit' ? [step.title] : []));
    expect(units).toEqual(['stop proofpass-api.service', 'start proofpass-api.service']);
    expect(plan.downtime.map(({ service }) => service)).toEqual(['api']);
  });

  test('says the command that makes a schedule, for a shell', () => {
    expect(scheduleCommand(system, 'backup-daily')).toBe(
      `temporal schedule create --schedule-id proofpass/backup-daily --cron '0 2 * * *' --time-zone UTC --overlap-policy Skip --type backup --task-queue guardia --workflow-id backup/proofpass/backup-daily --input '{"system":"proofpass","requester":"schedule"}'`,
    );
  });

  test('is empty where everything is adopted, or nothing is there yet', () => {
    const done = { ...byHand, cron: { backups: { inForce: 0, takenOver: 2 }, rotation: { inForce: 0, takenOver: 0 } } };
    for (const kind of ['link', 'absent'] as const)
      expect(planOf({ ...done, checkouts: { application: { ...checkout, kind } } }).stages).toEqual([]);
  });

  test.each([
    [change({ kind: 'other' }), /platform is no directory/],
    [
      change({ commit: '', gitSays: 'git: command not found' }),
      /git tells no commit of \/opt\/proofpass\/platform: git: command not found\. See that git is installed/,
    ],
    [
      change({ elsewhere: ['/opt/proofpass/shared/storage'] }),
      /shared\/storage is on another file system than \/opt\/proofpass\/platform/,
    ],
    [
      change({ unnamed: ['uploads/', '.env.old'] }),
      /of \/opt\/proofpass\/platform no later release would have uploads\/, \.env\.old: neither git nor the inventory has it\. Write .*deployments\.platform\.shared.*leftBehind/,
    ],
    [change({ mounts: ['apps/api/uploads'] }), /platform\/apps\/api\/uploads is a mount point and cannot be moved/],
    [
      change({ shared: { storage: { inCheckout: 'there', target: 'taken' } } }),
      /shared\/storage is there already, and so is/,
    ],
    [
      change({ shared: { storage: { inCheckout: 'link', leads: '/data/storage', target: 'absent' } } }),
      /platform\/storage is a link to \/data\/storage, not to \/opt\/proofpass\/shared\/storage/,
    ],
    [
      { ...byHand, projects: [{ project: 'monitoring', directory: '/opt/proofpass/observability' }] },
      /belong to project monitoring, the inventory says observability: under another name they would get new, empty volumes/,
    ],
  ])('is refused where something would be lost', (seen, why) => {
    expect(() => planOf(seen)).toThrow(why);
  });

  test('marks the release as taken over, so that it outlives those that are built; without git it says what it cannot tell', () => {
    const written = (seen: SeenAdoption) =>
      stepsOf(planOf(seen)).flatMap(({ step }) =>
        step.do.with['path'] === '/opt/proofpass/platform/.guardia-release.json' ? [step.do.with['content']] : [],
      );
    expect(written(byHand)).toEqual([`{"commit":"${checkout.commit}","adopted":true}\n`]);
    expect(written(change({ commit: '' }))).toEqual([]);
    expect(planOf(change({ commit: '' })).notes).toContain(
      'app: git has no commit of /opt/proofpass/platform, so that nobody can tell what of it is data: what is not under shared of deployment platform stays in /opt/proofpass/releases/20261122T020000Z-byhand00-1a2b3c4d, and no later release has it.',
    );
  });

  test('has every path moved that the releases are linked to, and whatever writes there stopped before a copy', () => {
    const asked = adoptPlanner.observe(input, system, moment)[0]?.call.with as {
      checkouts: { shared: object[]; leftBehind: string[] }[];
    };
    expect(asked.checkouts).toMatchObject([
      { shared: system.deployments['platform']?.shared, leftBehind: ['node_modules', 'dist', '.next', 'logs'] },
    ]);
    for (const { step } of stepsOf(planOf(byHand)))
      if (step.do.activity === 'relocatePath')
        for (const { with: argument } of [step.do, step.undo as Call])
          expect(argument['units']).toEqual(['proofpass-platform.service', 'proofpass-api.service']);
  });

  test('leaves a link that leads where the data is to be', () => {
    const storage = { inCheckout: 'link', leads: '/opt/proofpass/shared/storage', target: 'taken' } as const;
    const moved = stepsOf(planOf(change({ shared: { ...checkout.shared, storage } }))).flatMap(({ step }) =>
      step.do.activity === 'relocatePath' ? [step.id] : [],
    );
    expect(moved).toEqual(['move-app-env', 'release-app']);
  });

  test('back takes the drop-ins of guardia, and leaves their directories, where others may have theirs', () => {
    const link = change({ kind: 'link', link: '/opt/proofpass/releases/1' });
    const plan = adoptPlanner.plan({ ...input, back: true }, system, { 'host app': link }, moment);
    const removed = stepsOf(plan).flatMap(({ step }) => (step.do.activity === 'removePath' ? [step.do.with] : []));
    expect(removed).toEqual([
      { path: '/opt/proofpass/platform/.guardia-release.json' },
      { path: '/etc/systemd/system/proofpass-platform.service.d/guardia-shared.conf' },
      { path: '/etc/systemd/system/proofpass-api.service.d/guardia-shared.conf' },
    ]);
  });

  test('back is refused where data would stay behind, because the current release has no link to it', () => {
    const back = (storage: SeenCheckout['shared'][string]) => () =>
      adoptPlanner.plan(
        { ...input, back: true },
        system,
        { 'host app': change({ kind: 'link', link: '/opt/proofpass/releases/1', shared: { storage } }) },
        moment,
      );
    expect(back({ inCheckout: 'absent', target: 'taken' })).toThrow(
      'app cannot go back: /opt/proofpass/platform/storage is no link to /opt/proofpass/shared/storage, which holds data',
    );
    expect(back({ inCheckout: 'link', leads: '/opt/proofpass/shared/storage', target: 'taken' })).not.toThrow();
    expect(back({ inCheckout: 'absent', target: 'empty' })).not.toThrow();
  });

  test('back is refused once units were written for the new place', () => {
    const back = (naming: string[]) =>
      adoptPlanner.plan(
        { ...input, back: true },
        system,
        { 'host app': change({ kind: 'link', link: '/opt/proofpass/releases/1', naming }) },
        moment,
      );
    expect(stepsOf(back([])).length).toBeGreaterThan(0);
    expect(() => back(['proofpass-api.service /etc/systemd/system/proofpass-api.service'])).toThrow(
      'app cannot go back: proofpass-api.service (/etc/systemd/system/proofpass-api.service) need what is in /opt/proofpass/shared',
    );
  });
});
