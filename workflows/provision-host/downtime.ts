import { hostsOf } from '../contracts/host-groups.js';
import type { Plan } from '../contracts/plan.js';
import type { Service, System } from '../contracts/system.js';

type Downtime = Plan['downtime'];

/**
 * What is away while a unit of a host is restarted, by the names that people know: its service, what an endpoint reaches through it,
 * and what is deployed over a database of this server. `otherwise`: the name where no service has this unit. Pure.
 */
export function awayWithUnit(system: System, host: string, unit: string, seconds: number, otherwise: string): Downtime {
  return away(system, host, (one) => one.kind === 'systemd' && one.unit === unit, seconds, otherwise);
}

/** The same for the services of a compose project. Pure. */
export function awayWithProject(
  system: System,
  host: string,
  project: string,
  seconds: number,
  otherwise: string,
): Downtime {
  return away(system, host, (one) => one.kind === 'compose' && one.project === project, seconds, otherwise);
}

/** The same for a server of databases. Pure. */
export function awayWithDatabase(system: System, host: string, database: string, seconds: number): Downtime {
  const port = system.databases[database]?.port;
  const known = away(
    system,
    host,
    (one) => one.kind === 'systemd' && /^postgresql(?:@[\w-]+)?\.service$/.test(one.unit),
    seconds,
    'postgresql',
  );
  const over = Object.values(system.deployments).flatMap(({ migrations, services }) =>
    migrations.kind !== 'none' && system.databases[migrations.database]?.port === port ? services : [],
  );
  return summed([...known, ...over.map((service) => ({ service, seconds }))]);
}

function away(
  system: System,
  host: string,
  isMeant: (service: Service) => boolean,
  seconds: number,
  otherwise: string,
): Downtime {
  const meant = Object.entries(system.services).filter(
    ([, service]) => isMeant(service) && hostsOf(system, service.on).includes(host),
  );
  const known = meant.map(([name]) => name);
  const behind = Object.values(system.endpoints).flatMap(({ through, service }) =>
    service !== undefined && through.some((name) => known.includes(name)) ? [service] : [],
  );
  const names = meant.length === 0 ? [otherwise] : [...known, ...behind];
  return [...new Set(names)].map((service) => ({ service, seconds }));
}

/** One line for each service: two restarts of it are away one after the other. Pure. */
export function summed(all: Downtime): Downtime {
  const seconds = new Map<string, number>();
  for (const one of all) seconds.set(one.service, (seconds.get(one.service) ?? 0) + one.seconds);
  return [...seconds].map(([service, total]) => ({ service, seconds: total }));
}
