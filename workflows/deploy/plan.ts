import { applicationOf, type Application } from '../contracts/application.js';
import type { Observation } from '../contracts/calls.js';
import type { DeployInput } from '../contracts/deploy.js';
import { failure } from '../contracts/errors.js';
import { listed, SYSTEM_LANE } from '../contracts/names.js';
import type { Planner } from '../contracts/planning.js';
import { isFailing } from '../contracts/probe-result.js';
import { releaseId, type ResolvedRef } from '../contracts/release.js';
import type { System } from '../contracts/system.js';
import * as balancer from '../steps/balancer.js';
import * as health from '../steps/health.js';
import { migrate } from '../steps/migration.js';
import { configurationSaved } from '../steps/recovery-point.js';
import * as release from '../steps/release.js';
import { runbook } from '../steps/runbook.js';
import * as service from '../steps/services.js';
import { smoke } from '../steps/smoke.js';
import { afterwards, nothingToDo, once, plan, rolling, sideBySide } from '../steps/stages.js';
import {
  applicationFacets,
  applicationNeeds,
  atStakeOf,
  downtimeOf,
  healthOf,
  lookAtApplication,
  namedBy,
  onHost,
  probesOfApplication,
  type Seen,
} from './observation.js';

type Now = Observation & Seen & { source: ResolvedRef };

export const deployPlanner: Planner<DeployInput> = {
  needs(input, system) {
    const application = applicationOf(system, input.deployment);
    return [...applicationNeeds(application), `deployments.${application.name}`];
  },

  observe(input, system) {
    const application = applicationOf(system, input.deployment);
    return [...lookAtApplication(system, application), release.lookAtSource(system, application, input.ref)];
  },

  plan(input, system, observation, moment) {
    const application = applicationOf(system, input.deployment);
    const now = observation as Now;
    const { deployment } = application;
    refuseWhatCannotBe(system, application, now);

    const { commit, subject } = now.source;
    const next = { id: releaseId(moment, commit), commit };
    const behind = balancer
      .idleFirst(application.balancer, application.hosts, now.balancer?.servers)
      .filter((host) => input.force || !isCurrent(application, host, commit, now));
    balancer.refuseLastServer(application.balancer, behind, now.balancer?.servers);
    const migrations = migrationsOf(application, behind, next.id, now);
    if (behind.length === 0 && migrations === undefined)
      return nothingToDo(
        'deploy',
        system.system,
        `${commit.slice(0, 8)} is current on ${application.hosts.join(', ')}, and healthy`,
        ...balancer.outNotes(application.balancer, application.hosts, now.balancer?.servers),
      );

    const source = release.sourceOf(system, application, commit);
    const first = application.hosts.every((host) => onHost(now, host).current === null);
    // Bare hosts may stand before a database that has been in use for long: moved, rebuilt, restored.
    const held = now.database?.applied.length ?? 0;
    const before = (host: string) => onHost(now, host).current;
    const servers = now.balancer?.servers;
    const pace = balancer.pace(application.balancer, deployment.rolling, servers);
    const watching = health.watched(system, probesOfApplication(system, application), deployment.bake);

    return plan(
      'deploy',
      system.system,
      [
        watching.before,
        once(
          'recovery point',
          SYSTEM_LANE,
          first && held === 0
            ? []
            : [
                runbook(
                  'backup',
                  { system: system.system },
                  {
                    id: 'recovery-point',
                    title: 'back up the databases and the configuration, and read the backup back',
                    why: 'whatever this deploy does to the data, there is a way back that was proved',
                  },
                ),
              ],
        ),
        sideBySide('prepare', behind, (host) => [
          release.fetch(host, application, source, next),
          release.build(host, application, next),
          ...release.preflight(host, application, next),
        ]),
        migrations ? once('migrate', migrations.on, [migrations.step]) : [],
        rolling('release', behind, pace, (host) => [
          ...balancer.drain(application.balancer, host, servers),
          service.stop(host, application.services, 'two releases at once would write into the same data'),
          release.switchTo(host, application, before(host), next.id),
          service.start(host, application.services, 'they run what the link points to'),
          ...service.enable(host, application.services, onHost(now, host).services),
          ...healthOf(system, application, host),
          ...smoke(host, application),
          ...balancer.ready(application.balancer, host, servers),
        ]),
        watching.after,
        configurationSaved(system),
        afterwards('tidy', behind, (host) => [
          release.prune(host, application, [next.id, before(host) ?? next.id, ...namedBy(now.deploys)]),
        ]),
      ],
      {
        downtime: downtimeOf(application, behind, now.deploys.deploys),
        ...(migrations && !migrations.reversible ? { pointOfNoReturn: 'migrate', ...atStakeOf(application) } : {}),
        notes: [
          `${commit.slice(0, 8)}${subject === '' ? '' : `: ${subject}`}${behind.length === 0 ? '' : `, instead of ${replaced(behind, before)}`}.`,
          ...(first ? [firstNote(application, held)] : []),
          ...notesOf(application, migrations, behind, pace, now),
        ],
      },
    );
  },

  // Somebody may push meanwhile.
  elsewhere: ['source', 'deploys'],

  facets(observation) {
    const now = observation as Now;
    return { ...applicationFacets(now), source: { commit: now.source.commit, migrations: now.source.migrations } };
  },
};

// The parts, in their order.

/** What a person has to put right before any deploy: said when planning, with the runbook that does it. */
function refuseWhatCannotBe(system: System, { hosts, deployment }: Application, now: Now): void {
  const problems = hosts.flatMap((host) => {
    const seen = onHost(now, host);
    const room = Math.max(deployment.neededMegabytes * 1e6, seen.currentBytes * 1.2);
    return [
      ...(seen.userMissing ? [`${host} has no user ${deployment.user}: run provision-host`] : []),
      ...(seen.linkIsOther
        ? [`${deployment.directory} on ${host} is a plain directory and no link to a release: run adopt`]
        : []),
      ...(seen.link !== null && seen.current === null
        ? [
            `${deployment.directory} on ${host} points to ${seen.link}, which is no release below ${deployment.releases}`,
          ]
        : []),
      ...(seen.missing.length > 0 ? [`${host} lacks ${seen.missing.join(', ')}: run provision-host`] : []),
      ...(seen.freeBytes < room
        ? [`${host} has ${megabytes(seen.freeBytes)} free for releases and a deploy needs ${megabytes(room)}`]
        : []),
    ];
  });
  if (problems.length > 0)
    throw failure('InvalidPlan', `${system.system} cannot be deployed to: ${problems.join('; ')}`);
}

function isCurrent({ services }: Application, host: string, commit: string, now: Now): boolean {
  const { current, releases, services: states } = onHost(now, host);
  const is = releases.find(({ id }) => id === current)?.commit;
  const runs = services.every(({ name }) => states[name]?.state === 'running');
  return is === commit && runs && !now.health?.results.some((probe) => failsOn(probe, host));
}

const failsOn = ({ on, state, severity }: { on: string; state: string; severity: string }, host: string): boolean =>
  on === host && severity === 'critical' && (state === 'critical' || state === 'unknown');

/** The migration step, run by one host with the new release; undefined where that brings none that is not applied. */
function migrationsOf(application: Application, behind: readonly string[], next: string, now: Now) {
  const { migrations, hosts, balancer: balanced } = application;
  if (!migrations) return undefined;
  const before = now.database?.applied ?? [];
  const pending = now.source.migrations?.filter(({ name }) => !before.includes(name));
  if (pending?.length === 0 || (pending === undefined && behind.length === 0)) return undefined;
  const reversible = migrations.down !== undefined && (pending ?? []).every((one) => one.reversible);
  // A host that answers: their way back needs it, too.
  const on =
    behind.find((host) => !balancer.isIdle(balanced, host, now.balancer?.servers)) ?? behind[0] ?? hosts[0] ?? '';
  // Where the release is current already, and only its migrations are not, they are its own.
  const id = behind.length > 0 ? next : (onHost(now, on).current ?? next);
  const names = pending?.map(({ name }) => name);
  return {
    on,
    reversible,
    pending,
    step: migrate(application, migrations, { release: id, before, pending: names, reversible }),
  };
}

function notesOf(
  { balancer: balanced, hosts }: Application,
  migrations: ReturnType<typeof migrationsOf>,
  behind: readonly string[],
  pace: Application['deployment']['rolling'],
  now: Now,
): string[] {
  const irreversible = migrations?.pending?.filter((one) => !one.reversible).map(({ name }) => name);
  const pending = migrations?.pending?.map(({ name }) => name).join(', ') ?? 'The migrations';
  const failing = (now.health?.results ?? []).filter(isFailing).map(({ title, on }) => `${title} (${on})`);
  const { errorBudget } = pace;
  const atOnce = Math.min(pace.atOnce, errorBudget + 1);
  // Behind the point of no return nothing goes back by itself.
  const held = migrations !== undefined && !migrations.reversible;
  return [
    ...(migrations && !migrations.reversible
      ? [
          `${irreversible?.length ? irreversible.join(', ') : 'The migrations'} cannot be taken back. Once applied, a failure holds for a person and names the rows at stake; data is never restored silently.`,
        ]
      : []),
    ...(migrations?.reversible
      ? [
          `${pending}: taken back where the deploy fails. What was written into their columns and tables by then is lost with them; the report names the rows written.`,
        ]
      : []),
    ...(balanced
      ? behind.length > 0
        ? [
            `${listed(behind)} ${atOnce === 1 ? 'one after the other' : `${atOnce} at a time`}: each leaves the balancer on ${balanced.on}, lets its requests end, and comes back once it is healthy. Meanwhile both releases answer${migrations ? ', on the new schema' : ''}.`,
            held
              ? 'A host that fails, or that is lost, is not put back by itself: the deploy holds for a person.'
              : errorBudget === 0
                ? `A host that fails, or that is lost, ends the deploy: ${hosts.length === 1 ? 'it goes' : 'all hosts go'} back.`
                : `Up to ${errorBudget} host(s) may fail: each is put back and left as it was; with one more, or one that is lost, all go back.`,
          ]
        : []
      : behind.length > 0
        ? [
            `There is no balancer: while ${listed(behind)} ${behind.length === 1 ? 'is' : 'are'} switched nobody answers there, and requests come as soon as the new release answers, before its probes and its smoke test have passed. Where they do not pass, ${held ? 'it stays as it is and the deploy holds for a person' : 'what was before is put back'}.`,
          ]
        : []),
    ...balancer.outNotes(balanced, behind, now.balancer?.servers),
    ...(failing.length > 0
      ? [
          `Failing before the deploy: ${failing.slice(0, 5).join('; ')}${failing.length > 5 ? ` and ${failing.length - 5} more` : ''}. What fails already when it begins does not undo it; what fails because of it does.`,
        ]
      : []),
  ];
}

const firstNote = ({ migrations }: Application, held: number): string =>
  held === 0
    ? 'It is the first release here: there is nothing to save and nothing to go back to.'
    : `It is the first release here, but ${migrations?.database.server.database} has ${held} migration${held === 1 ? '' : 's'} already: it is backed up first. There is no release to go back to.`;

/** `X on app1 and app2, nothing on app3`. */
function replaced(hosts: readonly string[], before: (host: string) => string | null): string {
  const releases = [...new Set(hosts.map(before))];
  return releases
    .map((one) => `${one ?? 'nothing'} on ${listed(hosts.filter((host) => before(host) === one))}`)
    .join(', ');
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
