import type { Application } from '../contracts/application.js';
import type { ServerStates } from '../contracts/balancer.js';
import type { ObservationCall } from '../contracts/calls.js';
import type { DeployRecord } from '../contracts/deploy.js';
import type { RowsAtStake } from '../contracts/migration.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { Plan, Step } from '../contracts/plan.js';
import type { Probe } from '../contracts/probe.js';
import type { ProbeResult } from '../contracts/probe-result.js';
import type { ReleaseObservation } from '../contracts/release.js';
import { storeNeeds, storeReference } from '../contracts/store-reference.js';
import { probesAbout } from '../contracts/system-probes.js';
import type { System } from '../contracts/system.js';
import { call } from '../steps/call.js';
import * as health from '../steps/health.js';
import * as release from '../steps/release.js';

/** What planners of an application look at, as they read it. */
export interface Seen {
  [host: `host ${string}`]: ReleaseObservation;
  /** Where it has migrations. */
  database?: { applied: string[] };
  /** Where the layout has a balancer. */
  balancer?: { servers: ServerStates };
  /** Newest first. */
  deploys: { deploys: DeployRecord[] };
  /** Where the last deploy applied migrations: rows written since. Rollback only. */
  atStake?: RowsAtStake;
  /** Where the inventory has probes about its services. */
  health?: { results: ProbeResult[] };
}

/** What was seen of a host. Throws for one that was not looked at: a mistake of the planner. */
export function onHost(now: Seen, host: string): ReleaseObservation {
  const seen = now[`host ${host}`];
  if (!seen) throw new Error(`${host} was not looked at`);
  return seen;
}

/** Releases that a rollback of the last deploy on record would need. Pure. */
export const namedBy = ({ deploys }: Seen['deploys']): string[] =>
  deploys
    .slice(0, 1)
    .flatMap(({ release: id, hosts }) => [id, ...Object.values(hosts).flatMap(({ from }) => from ?? [])]);

/** What of the inventory has to be filled in to work on an application. */
export function applicationNeeds({ hosts, balancer, migrations }: Application): string[] {
  const visited = [...hosts, ...(balancer ? [balancer.on] : []), ...(migrations ? [migrations.database.on] : [])];
  return [
    ...storeNeeds([]),
    ...[...new Set(visited)].map((host) => `hosts.${host}.connection`),
    'databases.*.version',
    'endpoints.*.url',
  ];
}

/** The probes about the services of an application that look from its hosts themselves. Pure. */
const probesOnHosts = (system: System, { services, hosts }: Pick<Application, 'services' | 'hosts'>): Probe[] =>
  probesAbout(system, { services: services.map(({ name }) => name), on: hosts, kinds: health.ANSWERING });

/** The same, and those that look from outside. Pure. */
export const probesOfApplication = (system: System, { services }: Pick<Application, 'services'>): Probe[] =>
  probesAbout(system, { services: services.map(({ name }) => name), kinds: health.ANSWERING });

/** One look at each host, and one each at database, balancer, records and health. */
export function lookAtApplication(system: System, application: Application): ObservationCall[] {
  const { deployment, hosts, services, migrations, balancer } = application;
  const probes = probesOfApplication(system, application);
  return [
    ...hosts.map((host) => ({
      as: `host ${host}`,
      title: `look at releases and services of ${host}`,
      on: host,
      call: call('observeRelease', { ...release.placeOf(deployment), shared: deployment.shared, services }),
    })),
    ...(migrations
      ? [
          {
            as: 'database',
            title: `look which migrations ${migrations.database.server.database} has`,
            on: migrations.database.on,
            call: call('observeMigrations', {
              server: migrations.database.server,
              applied: migrations.declared.applied,
            }),
          },
        ]
      : []),
    ...(balancer
      ? [
          {
            as: 'balancer',
            title: 'look at the servers of the balancer',
            on: balancer.on,
            call: call('observeBalancer', { socket: balancer.socket, backends: balancer.backends }),
          },
        ]
      : []),
    {
      as: 'deploys',
      title: 'look at the records of the last deploys',
      on: SYSTEM_LANE,
      call: call('observeDeploys', { store: storeReference(system), directory: deployment.directory, most: 3 }),
    },
    ...(probes.length > 0
      ? [
          {
            as: 'health',
            title: `look whether ${services.map(({ name }) => name).join(', ')} are healthy`,
            on: SYSTEM_LANE,
            call: health.look(system, SYSTEM_LANE, probes).do,
          },
        ]
      : []),
  ];
}

/** The wait for the probes of a host that look from the host itself: they need no open port and no traffic. None where there are no such probes. */
export function healthOf(system: System, { services, deployment }: Application, host: string): Step[] {
  const probes = probesOnHosts(system, { services, hosts: [host] });
  if (probes.length === 0) return [];
  return [
    health.wait(system, host, probes, {
      patienceSeconds: deployment.patienceSeconds,
      title: `wait until ${services.map(({ name }) => name).join(' and ')} are healthy on ${host}`,
    }),
  ];
}

/**
 * With a balancer somebody always answers. Without one a host is away from the stop to the last probe: as long as it was the last times. A release
 * that does not get healthy is away for as long as that may take, and then for the way back.
 */
export function downtimeOf(
  { services, balancer, deployment }: Application,
  hosts: readonly string[],
  deploys: readonly DeployRecord[],
): Plan['downtime'] {
  if (balancer || hosts.length === 0) return [];
  const measured = deploys.flatMap((deploy) =>
    Object.values(deploy.hosts).flatMap(({ downtimeSeconds }) => downtimeSeconds ?? []),
  );
  const seconds = measured.length === 0 ? deployment.downtimeSeconds : Math.ceil(Math.max(...measured) * 1.5) + 5;
  return services.map(({ name }) => ({ service: name, seconds, ifUndone: 2 * seconds + deployment.patienceSeconds }));
}

/** What a run that holds behind an irreversible migration asks: the rows written since. */
export function atStakeOf({ migrations }: Application): { atStake?: NonNullable<Plan['atStake']> } {
  if (!migrations) return {};
  const { database, declared } = migrations;
  return {
    atStake: {
      on: database.on,
      call: call('countRowsAtStake', {
        database: { target: database.target, server: database.server },
        applied: declared.applied,
        tables: declared.atStake,
        baseline: { from: 'migrate', path: 'baseline' },
      }),
    },
  };
}

/**
 * The part of what was seen that a plan rests on, and that must be the same again after everything was undone: link and the releases that it or a
 * rollback may go to, what runs, what is applied, what the balancer was told. Not older releases, which are pruned for good; nor times, room, or how
 * busy anything is.
 */
export function applicationFacets(now: Seen): Record<string, unknown> {
  const named = namedBy(now.deploys);
  const hosts = Object.entries(now).filter(([name]) => name.startsWith('host ')) as [string, ReleaseObservation][];
  return {
    ...Object.fromEntries(
      hosts.map(([name, seen]) => [
        name,
        {
          link: seen.link,
          linkIsOther: seen.linkIsOther,
          releases: seen.releases.filter(({ id }) => id === seen.current || named.includes(id)),
          missing: seen.missing,
          // A service that is still on its way up, on a host that has just booted, is started.
          services: Object.fromEntries(
            Object.entries(seen.services).map(([of, { state }]) => [of, state === 'starting' ? 'running' : state]),
          ),
        },
      ]),
    ),
    ...(now.database ? { database: now.database.applied } : {}),
    ...(now.balancer
      ? { balancer: Object.fromEntries(Object.entries(now.balancer.servers).map(([of, { admin }]) => [of, admin])) }
      : {}),
    deploys: now.deploys.deploys.map(({ runId }) => runId),
  };
}
