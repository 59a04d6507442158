import { applicationOf } from '../contracts/application.js';
import type { ServerStates } from '../contracts/balancer.js';
import type { RestartServiceInput } from '../contracts/deploy.js';
import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import type { Planner } from '../contracts/planning.js';
import { serviceReference } from '../contracts/service-reference.js';
import { probesAbout } from '../contracts/system-probes.js';
import type { System } from '../contracts/system.js';
import * as balancer from '../steps/balancer.js';
import { call } from '../steps/call.js';
import * as health from '../steps/health.js';
import * as service from '../steps/services.js';
import { plan, rolling } from '../steps/stages.js';

/** Of a service that belongs to no deployment: how long it may be away, and how long it may take to get healthy. Seconds. */
const OF_ITS_OWN = { downtimeSeconds: 30, patienceSeconds: 60 };

export const restartServicePlanner: Planner<RestartServiceInput> = {
  needs(input, system) {
    const { hosts, balanced } = placesOf(system, input.service);
    return [
      ...[...hosts, ...(balanced ? [balanced.on] : [])].map((host) => `hosts.${host}.connection`),
      'databases.*.version',
      'endpoints.*.url',
    ];
  },

  observe(input, system) {
    const { hosts, balanced } = placesOf(system, input.service);
    const services = [serviceReference(system, input.service)];
    return [
      ...hosts.map((host) => ({
        as: `host ${host}`,
        title: `look at ${input.service} on ${host}`,
        on: host,
        call: call('observeServices', { services }),
      })),
      ...(balanced
        ? [
            {
              as: 'balancer',
              title: 'look at the servers of the balancer',
              on: balanced.on,
              call: call('observeBalancer', { socket: balanced.socket, backends: balanced.backends }),
            },
          ]
        : []),
    ];
  },

  plan(input, system, observation) {
    const { hosts, balanced, patienceSeconds, downtimeSeconds } = placesOf(system, input.service);
    const services = [serviceReference(system, input.service)];
    const servers = (observation as { balancer?: { servers: ServerStates } }).balancer?.servers;
    return plan(
      'restart-service',
      system.system,
      [
        rolling('restart', balancer.idleFirst(balanced, hosts, servers), { atOnce: 1, errorBudget: 0 }, (host) => [
          ...balancer.drain(balanced, host, servers),
          service.restart(host, services, 'one host after the other'),
          ...healthyOn(system, input.service, host, patienceSeconds),
          ...balancer.ready(balanced, host, servers),
        ]),
      ],
      {
        downtime: balanced
          ? []
          : [{ service: input.service, seconds: downtimeSeconds, ifUndone: 2 * downtimeSeconds + patienceSeconds }],
        notes: [...dependants(system, input.service), ...balancer.outNotes(balanced, hosts, servers)],
      },
    );
  },

  facets(observation) {
    const states = Object.entries(observation as Record<string, SeenService>).map(([name, { services, servers }]) => [
      name,
      Object.entries({ ...services, ...servers }).map(([of, one]) => [of, 'state' in one ? one.state : one.admin]),
    ]);
    return Object.fromEntries(states) as Record<string, unknown>;
  },
};

interface SeenService {
  services?: Record<string, { state: string }>;
  servers?: Record<string, { admin: string }>;
}

/** The hosts of a service, the balancer before them, and what its deployment says about its times. Throws `InvalidPlan` for a service that is nowhere. */
function placesOf(system: System, name: string) {
  const service = system.services[name];
  const hosts = service ? hostsOf(system, service.on) : [];
  if (hosts.length === 0) {
    const known = Object.keys(system.services).filter(
      (of) => hostsOf(system, system.services[of]?.on ?? '').length > 0,
    );
    throw failure(
      'InvalidPlan',
      `system ${system.system} has no service ${name} on any host (it has: ${known.join(', ')})`,
    );
  }
  const deployment = Object.entries(system.deployments).find(([, { services }]) => services.includes(name));
  const balanced = deployment && applicationOf(system, deployment[0]).balancer;
  const { patienceSeconds, downtimeSeconds } = deployment?.[1] ?? OF_ITS_OWN;
  return { hosts, balanced, patienceSeconds, downtimeSeconds };
}

function healthyOn(system: System, service: string, host: string, patienceSeconds: number) {
  const probes = probesAbout(system, { services: [service], on: [host] });
  return probes.length === 0
    ? []
    : [
        health.wait(system, host, probes, {
          patienceSeconds,
          title: `wait until ${service} is healthy on ${host}`,
        }),
      ];
}

/** Services that a restart takes down with it, as far as the deployments tell. */
function dependants(system: System, name: string): string[] {
  return Object.values(system.deployments).flatMap(({ services }) => {
    const after = services.slice(services.indexOf(name) + 1);
    return services.includes(name) && after.length > 0
      ? [`${after.join(' and ')} ${after.length === 1 ? 'starts' : 'start'} after ${name} and may be away with it.`]
      : [];
  });
}
