import type { CommandEnvironment, Deployment, Migrations, ReleaseCommand } from './deployment.js';
import { failure } from './errors.js';
import { hostOf, hostsOf } from './host-groups.js';
import { hostTarget, type HostTarget } from './host-target.js';
import { serverReference } from './database-server.js';
import type { ServerReference } from './server-reference.js';
import { serviceReference, type ServiceReference } from './service-reference.js';
import type { System } from './system.js';

/** A deployment with every name looked up: what steps are made of. */
export interface Application {
  name: string;
  deployment: Deployment;
  hosts: string[];
  /** In start order. */
  services: ServiceReference[];
  balancer?: ApplicationBalancer;
  migrations?: ApplicationMigrations;
}

export interface ApplicationBalancer {
  /** The host that HAProxy runs on. */
  on: string;
  socket: string;
  backends: string[];
  drainSeconds: number;
  readySeconds: number;
  /** BACKEND/NAME of the servers that a host is. */
  serversOf: (host: string) => string[];
}

export interface ApplicationMigrations {
  database: { on: string; target: HostTarget; server: ServerReference };
  declared: Exclude<Migrations, { kind: 'none' }>;
  up: ReleaseCommand;
  down?: ReleaseCommand;
  environment: CommandEnvironment;
}

/** The deployment of this name; without a name the only one. Throws `InvalidPlan` that names what there is. Pure. */
export function applicationOf(system: System, name?: string): Application {
  const names = Object.keys(system.deployments);
  const chosen = name ?? (names.length === 1 ? names[0] : undefined);
  const deployment = chosen === undefined ? undefined : system.deployments[chosen];
  if (chosen === undefined || !deployment)
    throw failure(
      'InvalidPlan',
      names.length === 0
        ? `system ${system.system} has no deployments in its inventory`
        : `${name === undefined ? 'name one of the deployments' : `there is no deployment ${name}`} of ${system.system}: ${names.join(', ')}`,
    );
  const hosts = hostsOf(system, deployment.on);
  if (hosts.length === 0)
    throw failure(
      'InvalidPlan',
      `the deployment ${chosen} of ${system.system} is on no host: ${deployment.on} is empty`,
    );
  const balancer = hosts.length > 1 ? balancerOf(system, deployment) : undefined;
  const migrations = migrationsOf(system, deployment);
  return {
    name: chosen,
    deployment,
    hosts,
    services: deployment.services.map((service) => serviceReference(system, service)),
    ...(balancer ? { balancer } : {}),
    ...(migrations ? { migrations } : {}),
  };
}

/** Undefined where the layout has no balancer: its service is on no host then. With a single server behind it there is nothing to balance either. */
function balancerOf(system: System, { balancer }: Deployment): ApplicationBalancer | undefined {
  if (!balancer) return undefined;
  const service = system.services[balancer.service];
  if (!service)
    throw failure('InvalidPlan', `system ${system.system} has no service ${balancer.service} to balance with`);
  if (hostsOf(system, service.on).length === 0) return undefined;
  return {
    on: hostOf(system, service.on),
    socket: balancer.socket,
    backends: balancer.backends.map((backend) => backend.name),
    drainSeconds: balancer.drainSeconds,
    readySeconds: balancer.readySeconds,
    serversOf: (host) => balancer.backends.map(({ name, servers }) => `${name}/${servers[host] ?? host}`),
  };
}

function migrationsOf(system: System, { migrations }: Deployment): ApplicationMigrations | undefined {
  if (migrations.kind === 'none') return undefined;
  const database = system.databases[migrations.database];
  if (!database) throw failure('InvalidPlan', `system ${system.system} has no database ${migrations.database}`);
  const on = hostOf(system, database.on);
  const { up, environment } = migrations;
  return {
    database: { on, target: hostTarget(system, on), server: serverReference(system, database) },
    declared: migrations,
    up,
    environment,
    ...(migrations.kind === 'reversible' ? { down: migrations.down } : {}),
  };
}
