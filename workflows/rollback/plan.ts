import { applicationOf, type Application } from '../contracts/application.js';
import type { ServerStates } from '../contracts/balancer.js';
import type { Observation, ObservationCall } from '../contracts/calls.js';
import type { DeployRecord, RollbackInput } from '../contracts/deploy.js';
import { failure } from '../contracts/errors.js';
import { listed, SYSTEM_LANE } from '../contracts/names.js';
import type { Stage } from '../contracts/plan.js';
import type { Planner } from '../contracts/planning.js';
import { storeReference } from '../contracts/store-reference.js';
import type { System } from '../contracts/system.js';
import {
  applicationFacets,
  applicationNeeds,
  downtimeOf,
  healthOf,
  lookAtApplication,
  onHost,
  probesOfApplication,
  type Seen,
} from '../deploy/observation.js';
import * as balancer from '../steps/balancer.js';
import { call } from '../steps/call.js';
import * as health from '../steps/health.js';
import { TAKE_BACK, takeBack } from '../steps/migration.js';
import { configurationSaved } from '../steps/recovery-point.js';
import * as release from '../steps/release.js';
import { runbook } from '../steps/runbook.js';
import * as service from '../steps/services.js';
import { smoke } from '../steps/smoke.js';
import { nothingToDo, once, plan, rolling } from '../steps/stages.js';

export const rollbackPlanner: Planner<RollbackInput> = {
  needs(input, system) {
    const application = applicationOf(system, input.deployment);
    return [...applicationNeeds(application), `deployments.${application.name}`];
  },

  observe(input, system) {
    const application = applicationOf(system, input.deployment);
    return [...lookAtApplication(system, application), ...lookAtRows(system, application)];
  },

  plan(input, system, observation) {
    const application = applicationOf(system, input.deployment);
    const now = observation as Observation & Seen;
    const { deploy, gone } = lastDeploy(system, application, now);
    const servers = now.balancer?.servers;
    const hosts = balancer
      .idleFirst(application.balancer, Object.keys(deploy.hosts), servers)
      .filter((host) => onHost(now, host).current !== deploy.hosts[host]?.from);
    if (hosts.length === 0)
      return nothingToDo(
        'rollback',
        system.system,
        `the release from before ${deploy.release} is current on ${Object.keys(deploy.hosts).join(', ')} already`,
      );
    balancer.refuseLastServer(application.balancer, hosts, servers);
    const before = (host: string): string => previousOf(system, application, deploy, host, now);
    const down = migrationsToTakeBack(input, system, application, deploy, now);
    const probes = probesOfApplication(system, application);
    const { bake, patienceSeconds } = application.deployment;
    const watching = health.watched(system, probes, bake);

    return plan(
      'rollback',
      system.system,
      [
        watching.before,
        once('recovery point', SYSTEM_LANE, [
          runbook(
            'backup',
            { system: system.system },
            {
              id: 'recovery-point',
              title: 'back up the databases and the configuration, and read the backup back',
              why: 'a way back is a change as any other',
            },
          ),
        ]),
        rolling('release', hosts, pace(application, down, servers), (host) => [
          ...balancer.drain(application.balancer, host, servers),
          service.stop(host, application.services, 'two releases at once would write into the same data'),
          release.switchTo(host, application, deploy.release, before(host)),
          service.start(host, application.services, 'they run what the link points to'),
          ...healthOf(system, application, host),
          ...smoke(host, application),
          ...balancer.ready(application.balancer, host, servers),
        ]),
        // While it is watched everything can still be undone.
        watching.after,
        down,
        down.length > 0 && watching.before.length > 0
          ? once('after', SYSTEM_LANE, [health.stillWorks(system, probes, { id: 'health-after', patienceSeconds })])
          : [],
        configurationSaved(system),
      ],
      {
        // The migrations can be applied again, but what was written into them, also after this is planned, is lost with them.
        ...(down.length > 0 ? { pointOfNoReturn: TAKE_BACK } : {}),
        downtime: downtimeOf(application, hosts, now.deploys.deploys),
        notes: [
          `Goes back from ${deploy.release} to ${[...new Set(hosts.map(before))].join(', ')}: the deploy of ${deploy.endedAt} (${deploy.workflowId}).`,
          ...(gone.length > 0 ? [goneNote(gone, deploy, down)] : []),
          ...balancer.outNotes(application.balancer, hosts, servers),
          ...(deploy.migrations && deploy.migrations.applied.length > 0 && down.length === 0
            ? [`${deploy.migrations.applied.join(', ')} stay applied, with everything that was written since.`]
            : []),
          ...(down.length > 0
            ? [
                `The columns and tables of ${deploy.migrations?.applied.join(', ')} go, with what was written into them: ${now.atStake?.lines.join('; ') ?? 'nobody counted'}. "migrations": "keep" leaves them; the recovery point that is made first holds what they hold by then.`,
              ]
            : []),
          ...(deploy.enabled.length > 0
            ? [`${deploy.enabled.join(', ')}: the deploy let it start with its host, and it stays so.`]
            : []),
        ],
      },
    );
  },

  elsewhere: ['deploys', 'atStake'],

  facets(observation) {
    const now = observation as Observation & Seen;
    // Once something is written, going back is another plan: it has a point of no return.
    return { ...applicationFacets(now), atStake: (now.atStake?.rows.length ?? 0) > 0 };
  },
};

/** As the deployment goes; where migrations are taken back afterwards, no host may be left on the release that needs them. */
const pace = (
  { deployment: { rolling: wanted }, balancer: balanced }: Application,
  down: readonly Stage[],
  servers: ServerStates | undefined,
): typeof wanted => ({
  ...balancer.pace(balanced, wanted, servers),
  errorBudget: down.length > 0 ? 0 : wanted.errorBudget,
});

/** Rows written since the last deploy applied its migrations: what taking those back could lose. */
function lookAtRows(system: System, { deployment, migrations }: Application): ObservationCall[] {
  if (!migrations) return [];
  return [
    {
      as: 'atStake',
      title: 'count the rows written since the last deploy',
      on: migrations.database.on,
      call: call('countRowsAtStake', {
        database: { target: migrations.database.target, server: migrations.database.server },
        applied: migrations.declared.applied,
        tables: migrations.declared.atStake,
        record: { store: storeReference(system), directory: deployment.directory },
      }),
    },
  ];
}

/**
 * The deploy whose release runs now, on the hosts that the deployment still has, and those that it had. Throws `InvalidPlan` where the records do not
 * know it.
 */
function lastDeploy(
  system: System,
  { deployment, hosts }: Application,
  now: Seen,
): { deploy: DeployRecord; gone: string[] } {
  const [last] = now.deploys.deploys;
  if (!last)
    throw failure('InvalidPlan', `no deploy of ${deployment.directory} of ${system.system} is on record`, {
      remedy: 'There is nothing that a rollback could go back from; deploy the release that you want by its commit',
    });
  const gone = Object.keys(last.hosts).filter((host) => !hosts.includes(host));
  const there = Object.entries(last.hosts).filter(([host]) => hosts.includes(host));
  if (there.length === 0)
    throw failure(
      'InvalidPlan',
      `the last deploy on record went to ${listed(gone)} only, which the inventory no longer has`,
      {
        remedy: 'Deploy the release that you want by its commit',
      },
    );
  const other = there.find(([host, { from }]) => ![last.release, from].includes(onHost(now, host).current));
  if (other)
    throw failure(
      'InvalidPlan',
      `the last deploy on record brought ${last.release}, but ${onHost(now, other[0]).current ?? 'no release'} is current on ${other[0]}`,
      { remedy: 'Something was changed since; deploy the release that you want by its commit' },
    );
  return { deploy: { ...last, hosts: Object.fromEntries(there) }, gone };
}

/** A host that nobody looks at any more may come back with what it had. Pure. */
const goneNote = (gone: readonly string[], { release: id }: DeployRecord, down: readonly Stage[]): string =>
  `The deploy went to ${listed(gone)}, too, which the inventory no longer has: left out. Should it come back it has ${id}${down.length > 0 ? ', whose migrations are taken back,' : ''} and starts it: keep it out of the balancer until it was deployed to.`;

/** The release from before the deploy. Throws `InvalidPlan` where there was none or it is gone. */
function previousOf(
  system: System,
  { deployment }: Application,
  deploy: DeployRecord,
  host: string,
  now: Seen,
): string {
  const from = deploy.hosts[host]?.from ?? null;
  if (from === null)
    throw failure('InvalidPlan', `${deploy.release} was the first release of ${system.system} on ${host}`, {
      remedy: 'There is none to go back to',
    });
  if (!onHost(now, host).releases.some(({ id }) => id === from))
    throw failure('InvalidPlan', `the release ${from} is not on ${host} any more, below ${deployment.releases}`, {
      remedy: 'Deploy its commit again',
    });
  return from;
}

/**
 * The stage that takes the migrations of the deploy back, after the code that needs them is gone. Refuses to lose data (`DataAtStake`):
 * that is for people to decide, and `migrations: keep` goes back with the code alone.
 */
function migrationsToTakeBack(
  input: RollbackInput,
  system: System,
  application: Application,
  deploy: DeployRecord,
  now: Seen,
): ReturnType<typeof once> {
  const applied = now.database?.applied ?? [];
  const brought = deploy.migrations?.applied.filter((name) => applied.includes(name)) ?? [];
  if (!deploy.migrations || brought.length === 0 || input.migrations === 'keep') return [];
  const later = applied.filter((name) => name > (brought.at(-1) ?? '') && !brought.includes(name));
  if (later.length > 0)
    throw failure('InvalidPlan', `${later.join(', ')} was applied after the deploy that is to be taken back`, {
      remedy: 'Look who applied it; "migrations": "keep" goes back with the release alone',
    });
  const { migrations } = application;
  if (!migrations?.down || !deploy.migrations.reversible) {
    const rows = now.atStake?.lines.join('; ');
    throw failure(
      'DataAtStake',
      `${brought.join(', ')} cannot be taken back in ${system.system}${rows === undefined ? '' : `. At stake: ${rows}`}`,
      {
        remedy:
          'Decide: "migrations": "keep" brings the release back and leaves the data as it is; or deploy a corrected release; or restore a recovery point and lose what was written since',
      },
    );
  }
  // With the release that brought them: it knows the way back.
  const on = Object.keys(deploy.hosts)[0] as string;
  return once('take the migrations back', on, [
    takeBack(application, migrations, {
      release: deploy.release,
      before: applied,
      migrations: brought,
      baseline: deploy.migrations.baseline,
      atStake: now.atStake?.rows.length ? now.atStake.lines : [],
    }),
  ]);
}
