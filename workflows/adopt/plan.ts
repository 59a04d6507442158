import type { AdoptInput, Adoption, SeenAdoption, SeenCheckout } from '../contracts/adopt.js';
import type { Observation } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import { PLAN_FORMAT, type Lane, type Plan, type Stage, type Step } from '../contracts/plan.js';
import type { Planner, PlanningMoment } from '../contracts/planning.js';
import { runbooks } from '../contracts/runbooks.js';
import { probeNeeds, probesAbout } from '../contracts/system-probes.js';
import type { System } from '../contracts/system.js';
import { call, idPart } from '../steps/call.js';
import { directory, file, noFile } from '../steps/file.js';
import { asBefore } from '../steps/health.js';
import { recoveryPointAfter } from '../steps/recovery-point.js';
import { scheduleCommand } from './schedule-command.js';

/** A checkout, with what the deployment says about it. */
interface Checkout {
  on: string;
  path: string;
  releases: string;
  shared: { path: string; target: string }[];
  leftBehind: string[];
  deployment: string;
  writable: string;
  /** In the order of their stop. */
  services: string[];
}

/** How long the services stand still: renames take no time, stops and starts do. Seconds. */
const STANDSTILL_SECONDS = 20;

export const adoptPlanner: Planner<AdoptInput> = {
  needs(input, system) {
    return [...hostsToAdopt(input, system).map((host) => `hosts.${host}.connection`), ...probeNeeds];
  },

  observe(input, system) {
    return hostsToAdopt(input, system).map((host) => ({
      as: `host ${host}`,
      title: `look at what was set up by hand on ${host}`,
      on: host,
      call: call('observeAdoption', {
        checkouts: here(system, host, checkoutsOf(system)).map(([name, checkout]) => ({
          name,
          path: checkout.path,
          releases: checkout.releases,
          writable: checkout.writable,
          shared: checkout.shared,
          leftBehind: checkout.leftBehind,
          units: unitsOf(system, checkout),
        })),
        cron: here(system, host, adoption(system).cron).map(([name, { user, commands }]) => ({ name, user, commands })),
      }),
    }));
  },

  plan(input, system, observation, moment) {
    const notes: string[] = [];
    const downtime: Plan['downtime'] = [];
    const hosts = hostsToAdopt(input, system);
    const lanes = (steps: (host: string, seen: SeenAdoption) => Step[]): Lane[] =>
      hosts
        .map((host) => ({ on: host, steps: steps(host, observation[`host ${host}`] as SeenAdoption) }))
        .filter((lane) => lane.steps.length > 0);
    for (const host of hosts) refuseRenamedVolumes(system, host, observation[`host ${host}`] as SeenAdoption);
    const adopting: Plan = {
      format: PLAN_FORMAT,
      runbook: 'adopt',
      system: system.system,
      stages: [
        ...stage(
          input.back ? 'from a release to a checkout' : 'from a checkout to a release',
          lanes((host, seen) =>
            here(system, host, checkoutsOf(system)).flatMap(([name, checkout]) => {
              const now = seen.checkouts[name];
              const steps = !now
                ? []
                : input.back
                  ? becomeCheckout(system, host, checkout, now)
                  : becomeRelease(system, host, checkout, now, moment, notes);
              if (steps.length > 0)
                for (const service of checkout.services)
                  if (unitsOf(system, { services: [service] }).some((one) => now?.running.includes(one)))
                    downtime.push({ service, seconds: STANDSTILL_SECONDS });
              return steps;
            }),
          ),
        ),
        ...stage(
          'crontabs',
          lanes((host, seen) =>
            here(system, host, adoption(system).cron).flatMap(([name, lines]) => {
              if (input.back) return linesBack(host, name, lines, seen.cron[name]?.takenOver ?? 0);
              const inForce = seen.cron[name]?.inForce ?? 0;
              if (inForce === 0) return [];
              const missing = missingRunbooks(system, lines.replacedBy);
              if (missing.length > 0 && lines.meanwhile === undefined) {
                notes.push(`${host}: the ${name} lines stay: guardia has no runbook ${missing.join(', ')} yet.`);
                return [];
              }
              if (missing.length > 0)
                notes.push(
                  `${host}: the ${name} lines end, because the move would break them without a word, and guardia has no runbook ${missing.join(', ')} yet. Until it has: ${lines.meanwhile}`,
                );
              if (lines.replacedBy.length === 0) notes.push(`${host}: nothing replaces the ${name} lines.`);
              for (const schedule of lines.replacedBy)
                if (missingRunbooks(system, [schedule]).length === 0)
                  notes.push(
                    `${host}: the ${name} lines end, and nothing takes their place until the schedule ${schedule} is there; make it in Temporal: ${scheduleCommand(system, schedule)}`,
                  );
              return [
                {
                  id: `cron-${idPart(`${host} ${name}`)}`,
                  title: `turn ${inForce} line(s) of ${lines.user}'s crontab into comments`,
                  why: `they hold ${lines.commands.join(' or ')}; every other byte of the crontab stays`,
                  do: call('disableCronLines', { user: lines.user, commands: lines.commands }),
                  undo: call('restoreCronLines', { user: lines.user, commands: lines.commands }),
                },
              ];
            }),
          ),
        ),
      ],
      downtime,
      notes,
    };
    if (adopting.stages.length === 0) return adopting;
    // The services stand still for a moment; then everything has to be as it was for those who use them.
    const health = asBefore(system, probesAbout(system, { services: servicesToAdopt(hosts, system) }));
    const saved = recoveryPointAfter(system);
    return {
      ...adopting,
      stages: [...health.before, ...adopting.stages, ...health.after, ...saved.stages],
      notes: [...notes, ...saved.notes],
    };
  },

  facets(observation: Observation) {
    return observation;
  },
};

/** Runbooks that these schedules name and that are not built: nothing would do what the lines do. */
const missingRunbooks = (system: System, schedules: readonly string[]): string[] => [
  ...new Set(
    schedules
      .flatMap((name) => system.schedules[name]?.runbook ?? [])
      .filter((runbook) => !Object.hasOwn(runbooks, runbook)),
  ),
];

const adoption = (system: System): Adoption => system.adopt ?? { checkouts: {}, cron: {} };

function checkoutsOf(system: System): Record<string, Checkout> {
  return Object.fromEntries(
    Object.entries(adoption(system).checkouts).flatMap(([name, { deployment, leftBehind, writable }]) => {
      const of = system.deployments[deployment];
      if (!of) return []; // a mistake that the inventory's own rules have named
      const { on, directory: path, releases, shared, services } = of;
      return [
        [name, { on, path, releases, shared, leftBehind, deployment, writable, services: [...services].reverse() }],
      ];
    }),
  );
}

/** Its units, in the order of their stop. */
const unitsOf = (system: System, { services }: Pick<Checkout, 'services'>): string[] =>
  services.flatMap((name) => {
    const service = system.services[name];
    return service?.kind === 'systemd' ? [service.unit] : [];
  });

/** Services of the deployments that are taken over on these hosts. */
const servicesToAdopt = (hosts: readonly string[], system: System): string[] =>
  hosts.flatMap((host) => here(system, host, checkoutsOf(system)).flatMap(([, { services }]) => services));

const here = <T extends { on: string }>(system: System, host: string, all: Record<string, T>): [string, T][] =>
  Object.entries(all).filter(([, { on }]) => hostsOf(system, on).includes(host));

function hostsToAdopt(input: AdoptInput, system: System): string[] {
  const checkouts = checkoutsOf(system);
  const { cron } = adoption(system);
  const asked = input.host === undefined ? Object.keys(system.hosts) : hostsOf(system, input.host);
  const hosts = asked.filter((host) => here(system, host, checkouts).length + here(system, host, cron).length > 0);
  if (hosts.length === 0)
    throw failure(
      'InvalidInput',
      `the inventory of ${system.system} names nothing to adopt on ${input.host ?? 'its hosts'}`,
      {
        remedy: `Describe under adopt in infra/systems/${system.system}.yaml what was set up by hand`,
      },
    );
  return hosts;
}

/** Stop, move the data out, move the code to a release, let the units write where the data is now, start. */
function becomeRelease(
  system: System,
  host: string,
  checkout: Checkout,
  now: SeenCheckout,
  moment: PlanningMoment,
  notes: string[],
): Step[] {
  // A link is a release already, and where nothing is, the first deploy begins.
  if (now.kind === 'link' || now.kind === 'absent') return [];
  refuseWhatIsInTheWay(host, checkout, now);
  refuseWhereGitIsSilent(host, checkout, now);
  refuseWhatWouldBeLost(system, host, checkout, now);
  const { path, releases, writable } = checkout;
  const release = `${releases}/${releaseId(moment, now.commit)}`;
  if (now.commit === '')
    notes.push(
      `${host}: git has no commit of ${path}, so that nobody can tell what of it is data: what is not under shared of deployment ${checkout.deployment} stays in ${release}, and no later release has it.`,
    );
  const owned = { owner: now.owner, group: now.group };
  const id = (text: string): string => idPart(`${host} ${text}`);
  const services = unitsOf(system, checkout);
  const moved = checkout.shared
    .filter((one) => now.shared[one.path]?.inCheckout === 'there')
    .map((one): Step => ({
      id: `move-${id(one.path)}`,
      title: `move ${path}/${one.path} to ${one.target}, and leave a link`,
      why: 'data outlives releases; a rename copies nothing and loses nothing',
      do: call('relocatePath', { from: `${path}/${one.path}`, to: one.target, units: services }),
      undo: call('returnPath', { from: `${path}/${one.path}`, to: one.target, units: services }),
    }));
  const writing = services.flatMap((name) => {
    const place = `/etc/systemd/system/${name}.d`;
    const why = `${name} may write to ${writable}, where its data is now`;
    return [
      ...directory(undefined, {
        path: place,
        mode: '0755',
        owner: 'root',
        group: 'root',
        why,
        id: `dropins-${id(name)}`,
      }),
      ...file(undefined, {
        path: `${place}/guardia-shared.conf`,
        content: `[Service]\nReadWritePaths=${writable}\n`,
        mode: '0644',
        owner: 'root',
        group: 'root',
        why,
        id: `dropin-${id(name)}`,
      }),
    ];
  });
  return [
    ...(now.releases === 'absent'
      ? directory(undefined, {
          path: releases,
          mode: '0755',
          ...owned,
          why: 'releases go there',
          id: `releases-${id('')}`,
        })
      : []),
    ...(now.writable === 'absent'
      ? directory(undefined, { path: writable, mode: '0750', ...owned, why: 'data goes there', id: `data-${id('')}` })
      : []),
    ...stopped(host, services, now),
    ...moved,
    ...(now.commit === ''
      ? []
      : file(undefined, {
          path: `${path}/.guardia-release.json`,
          content: `${JSON.stringify({ commit: now.commit, adopted: true })}\n`,
          mode: '0644',
          ...owned,
          why: 'a release says what it was built from; this one is never removed by itself, because it holds what was made by hand',
          id: `manifest-${id('')}`,
        })),
    {
      id: `release-${id('')}`,
      title: `move ${path} to ${release}, and leave a link`,
      why: `the units name ${path}: from now on that is a link to the current release`,
      do: call('relocatePath', { from: path, to: release, units: services }),
      undo: call('returnPath', { from: path, to: release, units: services }),
    },
    ...writing,
    ...started(host, services, now, 'it works as before, from the release'),
  ];
}

/** The way back: stop, the code takes the place of its link, the data goes back into it, the units as they were, start. */
function becomeCheckout(system: System, host: string, checkout: Checkout, now: SeenCheckout): Step[] {
  if (now.kind !== 'link') return [];
  refuseUnitsOfTheNewPlace(host, checkout, now);
  refuseDataOutOfSight(host, checkout, now);
  const { path } = checkout;
  const id = (text: string): string => idPart(`${host} ${text}`);
  const services = unitsOf(system, checkout);
  const back = (from: string, to: string): Step => ({
    id: `back-${id(from)}`,
    title: `put ${to} back to ${from}`,
    why: 'as it was set up by hand',
    do: call('putBackPath', { from, to, units: services }),
    undo: call('relocateAgain', { from, to, units: services }),
  });
  const there = { type: 'file' as const };
  return [
    ...stopped(host, services, now),
    back(path, now.link),
    ...checkout.shared
      .filter(
        ({ path: inside, target }) => now.shared[inside]?.leads === target && now.shared[inside].target !== 'absent',
      )
      .map((one) => back(`${path}/${one.path}`, one.target)),
    ...noFile(there, {
      path: `${path}/.guardia-release.json`,
      why: 'a checkout has no manifest',
      id: `manifest-${id('')}`,
    }),
    // Its directory stays: others may have drop-ins in it.
    ...services.flatMap((name) =>
      noFile(there, {
        path: `/etc/systemd/system/${name}.d/guardia-shared.conf`,
        why: 'its data is beside the code again',
        id: `dropin-${id(name)}`,
      }),
    ),
    ...started(host, services, now, 'it works as before'),
  ];
}

/*
 * Only what runs is stopped, and started in the end. A host that is rebooted in between starts its units by itself, amid the moves: they are started
 * anew then, in the end or on the way back.
 */

const stopped = (host: string, services: readonly string[], { running }: SeenCheckout): Step[] =>
  services
    .filter((name) => running.includes(name))
    .map((name) => ({
      id: `stop-${idPart(`${host} ${name}`)}`,
      title: `stop ${name}`,
      why: 'nobody writes while its files are moved',
      do: call('setUnit', { unit: name, active: false }),
      undo: call('restoreUnit', { unit: name, anew: true }),
    }));

const started = (host: string, services: readonly string[], { running }: SeenCheckout, why: string): Step[] =>
  services
    .filter((name) => running.includes(name))
    .reverse()
    .map((name) => ({
      id: `start-${idPart(`${host} ${name}`)}`,
      title: `start ${name}`,
      why,
      do: call('setUnit', { unit: name, active: true, anew: true }),
      undo: call('restoreUnit', { unit: name, stopped: true }),
    }));

function linesBack(host: string, name: string, lines: Adoption['cron'][string], takenOver: number): Step[] {
  if (takenOver === 0) return [];
  return [
    {
      id: `cron-${idPart(`${host} ${name}`)}`,
      title: `put ${takenOver} line(s) of ${lines.user}'s crontab in force again`,
      why: 'as they were; every other byte of the crontab stays',
      do: call('enableCronLines', { user: lines.user, commands: lines.commands }),
      undo: call('disableLinesAgain', { user: lines.user, commands: lines.commands }),
    },
  ];
}

/** Nothing that is there is overwritten, and nothing is copied where a rename was promised. Throws `HostUnusable` that names all of it. */
function refuseWhatIsInTheWay(host: string, checkout: Checkout, now: SeenCheckout): void {
  const wrong = [
    ...(now.kind === 'other' ? [`${checkout.path} is no directory`] : []),
    ...(now.releases === 'other' ? [`${checkout.releases} is no directory`] : []),
    ...(now.writable === 'other' ? [`${checkout.writable} is no directory`] : []),
    ...now.elsewhere.map((place) => `${place} is on another file system than ${checkout.path}`),
    ...now.mounts.map(
      (mount) => `${mount === '.' ? checkout.path : `${checkout.path}/${mount}`} is a mount point and cannot be moved`,
    ),
    ...checkout.shared
      .filter(({ path }) => now.shared[path]?.inCheckout === 'there' && now.shared[path]?.target === 'taken')
      .map(({ path, target }) => `${target} is there already, and so is ${checkout.path}/${path}`),
    // The next release would be linked to its target, and the data be out of sight.
    ...checkout.shared.flatMap(({ path, target }) => {
      const { leads } = now.shared[path] ?? {};
      return leads === undefined || leads === target
        ? []
        : [`${checkout.path}/${path} is a link to ${leads}, not to ${target}`];
    }),
  ];
  if (wrong.length > 0)
    throw failure('HostUnusable', `${host} cannot be adopted: ${wrong.join('; ')}`, {
      host,
      remedy:
        'Clear up by hand which of them is right, and mount what is mounted in its new place; move or mount what a link leads to at its new place and have the link lead there, or name its place as the target in the inventory; adopt a host before it is provisioned',
    });
}

/** Without a commit nothing could be named that would be lost; where there is a repository, that is no answer. Throws `HostUnusable` with git's words. */
function refuseWhereGitIsSilent(host: string, { path }: Checkout, { gitSays }: SeenCheckout): void {
  if (gitSays === undefined) return;
  throw failure('HostUnusable', `${host} cannot be adopted: git tells no commit of ${path}: ${gitSays}`, {
    host,
    remedy: `See that git is installed on the host and that \`git -C ${path} rev-parse HEAD\` works there as root; where it is no repository any more, move ${path}/.git away`,
  });
}

/** What is only in the checkout is out of sight from the next release on. Throws `HostUnusable` that names it. */
function refuseWhatWouldBeLost(system: System, host: string, { path, deployment }: Checkout, now: SeenCheckout): void {
  if (now.unnamed.length === 0) return;
  throw failure(
    'HostUnusable',
    `${host} cannot be adopted: of ${path} no later release would have ${now.unnamed.join(', ')}: neither git nor the inventory has it`,
    {
      host,
      remedy: `Write into ${system.system}.yaml what is data (deployments.${deployment}.shared) and what no release needs, such as what a build makes (adopt.checkouts.*.leftBehind), or move it away`,
    },
  );
}

/** Data that the current release has no link to would stay behind without a word. Throws `HostUnusable` that names it. */
function refuseDataOutOfSight(host: string, { path, shared }: Checkout, now: SeenCheckout): void {
  const apart = shared.filter(
    (one) => now.shared[one.path]?.target === 'taken' && now.shared[one.path]?.leads !== one.target,
  );
  if (apart.length === 0) return;
  throw failure(
    'HostUnusable',
    `${host} cannot go back: ${apart.map((one) => `${path}/${one.path} is no link to ${one.target}, which holds data`).join('; ')}`,
    {
      host,
      remedy: 'Deploy a release that has the link, or make it by hand; or move that data away where nobody needs it',
    },
  );
}

/** A unit that was written since for the new place of the data would not start without it. Throws `HostUnusable`. */
function refuseUnitsOfTheNewPlace(host: string, { path, writable }: Checkout, { naming }: SeenCheckout): void {
  if (naming.length === 0) return;
  const where = naming.map((one) => `${one.slice(0, one.indexOf(' '))} (${one.slice(one.indexOf(' ') + 1)})`);
  throw failure('HostUnusable', `${host} cannot go back: ${where.join(' and ')} need what is in ${writable}`, {
    host,
    remedy: `They were written after the host was adopted, by provision-host for one. Put there what they were (the plan of that run, in its record, shows it), so that they work with ${path} alone`,
  });
}

/** A compose project under another name gets new, empty volumes. Throws `InvalidInventory`. */
function refuseRenamedVolumes(system: System, host: string, seen: SeenAdoption): void {
  const wrong = new Set<string>();
  for (const service of Object.values(system.services)) {
    if (service.kind !== 'compose' || !hostsOf(system, service.on).includes(host)) continue;
    for (const { project, directory: place } of seen.projects)
      if (place === service.directory && project !== service.project)
        wrong.add(`the containers of ${place} belong to project ${project}, the inventory says ${service.project}`);
  }
  if (wrong.size > 0)
    throw failure(
      'InvalidInventory',
      `${host}: ${[...wrong].join('; ')}: under another name they would get new, empty volumes`,
      { host, remedy: `Write the name that is in use into services of ${system.system}` },
    );
}

/** As a deploy names its releases: time of the run, commit, run. */
function releaseId({ now, runId }: PlanningMoment, commit: string): string {
  const time = now.replace(/\.\d+Z$/, 'Z').replaceAll(/[-:]/g, '');
  return [time, commit.slice(0, 8) || 'byhand00', runId.replaceAll('-', '').slice(-8)].join('-');
}

const stage = (title: string, lanes: Lane[]): Stage[] =>
  lanes.length === 0 ? [] : [{ title, atOnce: 1, errorBudget: 0, lanes }];
