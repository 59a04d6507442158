import { applicationOf } from '../contracts/application.js';
import type { ServerStates } from '../contracts/balancer.js';
import type { RestartServiceInput } from '../contracts/deploy.js';
import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import { listed, SYSTEM_LANE } from '../contracts/names.js';
import type { Step } from '../contracts/plan.js';
import type { Planner } from '../contracts/planning.js';
import type { Probe } from '../contracts/probe.js';
import { isFailing, type ProbeResult } from '../contracts/probe-result.js';
import { serviceReference } from '../contracts/service-reference.js';
import { probeNeeds, probesAbout } from '../contracts/system-probes.js';
import type { System } from '../contracts/system.js';
import * as balancer from '../steps/balancer.js';
import { call } from '../steps/call.js';
import * as health from '../steps/health.js';
import * as service from '../steps/services.js';
import { once, plan, rolling } from '../steps/stages.js';

/** Of a service that belongs to no deployment: how long it may be away, and how long it may take to get healthy. Seconds. */
const OF_ITS_OWN = { downtimeSeconds: 30, patienceSeconds: 60 };
/** What comes back sealed gets this long to unseal itself, before people are told that it is their turn. Seconds. */
const SEALED_SECONDS = 15;

interface Seen {
  [host: `host ${string}`]: { services: Record<string, { state: string }> };
  /** Where the layout has a balancer. */
  balancer?: { servers: ServerStates };
  /** Where the inventory has probes about what is restarted. */
  health?: { results: ProbeResult[] };
}

export const restartServicePlanner: Planner<RestartServiceInput> = {
  needs: () => probeNeeds,

  observe(input, system) {
    const { hosts, balanced } = placesOf(system, input.service);
    const probes = probesOfAll(system, input.service);
    return [
      ...hosts.map((host) => ({
        as: `host ${host}`,
        title: `look at ${input.service} on ${host}`,
        on: host,
        call: call('observeServices', { services: [serviceReference(system, input.service)] }),
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
      ...(probes.length > 0
        ? [
            {
              as: 'health',
              title: `look whether ${input.service} and what needs it are healthy`,
              on: SYSTEM_LANE,
              call: health.look(system, SYSTEM_LANE, probes).do,
            },
          ]
        : []),
    ];
  },

  plan(input, system, observation) {
    const { service: name } = input;
    const { hosts, balanced, patienceSeconds, downtimeSeconds } = placesOf(system, name);
    const now = observation as Seen;
    const servers = now.balancer?.servers;
    const order = balancer.idleFirst(balanced, hosts, servers);
    balancer.refuseLastServer(balanced, order, servers);
    const along = dependantsOf(system, name);
    const seals = probesAbout(system, { services: [name], kinds: ['openbao'] }).length > 0;
    const look = health.asBefore(system, probesOfAll(system, name), { patienceSeconds });
    const steps = (host: string): Step[] => {
      const here = along.filter((one) => hostsOf(system, system.services[one]?.on ?? '').includes(host));
      return [
        ...balancer.drain(balanced, host, servers),
        service.restart(
          host,
          [serviceReference(system, name)],
          here.map((one) => serviceReference(system, one)),
          seals ? 'it comes back sealed, and no undo unseals it' : 'one host after the other',
        ),
        ...healthyOn(system, name, host, { patienceSeconds, seals }),
        ...stillHealthyOn(system, here, host, patienceSeconds),
        ...balancer.ready(balanced, host, servers).map((step) =>
          // What did not run before is stopped again: no request may be under way there.
          stopsAgain(now, host, name)
            ? step
            : { ...step, undo: { none: 'the way back of a restart ends in the balancer, too' } },
        ),
      ];
    };
    return plan(
      'restart-service',
      system.system,
      [
        look.before,
        // The point of no return has a stage of its own.
        ...(seals
          ? order.map((host) => once('restart', host, steps(host)))
          : [rolling('restart', order, { atOnce: 1, errorBudget: 0 }, steps)]),
        look.after,
      ],
      {
        ...(seals ? { pointOfNoReturn: `restart-${order[0]}` } : {}),
        downtime: balanced
          ? []
          : [name, ...along].map((one) => ({
              service: one,
              seconds: downtimeSeconds,
              ...(seals ? {} : { ifUndone: 2 * downtimeSeconds + patienceSeconds }),
            })),
        notes: [
          ...(seals ? [sealNote(system, name, along)] : []),
          ...(along.length > 0 ? [alongNote(name, along, balanced !== undefined)] : []),
          ...balancer.outNotes(balanced, hosts, servers),
          ...failingNote(now),
        ],
      },
    );
  },

  // What fails is among them: a restart that did not bring a service back is not undone by a start.
  facets(observation) {
    const { balancer: balanced, health: seen, ...hosts } = observation as Seen;
    return {
      ...Object.fromEntries(
        Object.entries(hosts).map(([host, { services }]) => [
          host,
          Object.entries(services).map(([of, { state }]) => [of, state]),
        ]),
      ),
      ...(balanced
        ? { balancer: Object.fromEntries(Object.entries(balanced.servers).map(([of, { admin }]) => [of, admin])) }
        : {}),
      failing: (seen?.results ?? []).filter(isFailing).map(({ id }) => id),
    };
  },
};

/** Whether the way back stops the service on this host, as it was found. Pure. */
const stopsAgain = (now: Seen, host: string, name: string): boolean =>
  ['stopped', 'absent'].includes(now[`host ${host}`]?.services[name]?.state ?? 'absent');

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

/** Services that do not work without this one, or that are asked through it; what is nearest first. Those on no host are left out. Pure. */
function dependantsOf(system: System, name: string): string[] {
  const next = (of: string): string[] => [
    ...Object.entries(system.services).flatMap(([one, { requires }]) => (requires.includes(of) ? [one] : [])),
    ...Object.values(system.endpoints).flatMap(({ service: one, through }) =>
      one !== undefined && through.includes(of) ? [one] : [],
    ),
  ];
  const found = new Set([name]);
  for (const of of found) for (const one of next(of)) found.add(one);
  found.delete(name);
  return [...found].filter((one) => hostsOf(system, system.services[one]?.on ?? '').length > 0);
}

/** The probes about a service and all that is away with it, from wherever they look. */
const probesOfAll = (system: System, name: string): Probe[] =>
  probesAbout(system, { services: [name, ...dependantsOf(system, name)], kinds: health.ANSWERING });

/** The service has to be healthy, also where it was not before: that is what people restart it for. */
function healthyOn(
  system: System,
  name: string,
  host: string,
  { patienceSeconds, seals }: { patienceSeconds: number; seals: boolean },
): Step[] {
  const probes = probesAbout(system, { services: [name], on: [host], kinds: health.ANSWERING });
  if (probes.length === 0) return [];
  const title = `wait until ${name} is ${seals ? 'unsealed and ' : ''}healthy on ${host}`;
  return [health.wait(system, host, probes, { patienceSeconds: seals ? SEALED_SECONDS : patienceSeconds, title })];
}

/** What went away with it on this host has to come back, before the host gets requests again. */
function stillHealthyOn(system: System, services: readonly string[], host: string, patienceSeconds: number): Step[] {
  const probes = probesAbout(system, { services, on: [host], kinds: health.ANSWERING });
  if (probes.length === 0) return [];
  const title = `wait until ${listed(services)} work${services.length === 1 ? 's' : ''} on ${host} as before`;
  return [health.stillWorks(system, probes, { id: `still-${host}`, title, patienceSeconds })];
}

function sealNote(system: System, name: string, along: readonly string[]): string {
  const of = system.services[name];
  const command = `${of?.kind === 'container' ? `docker exec -it ${of.container} ` : ''}bao operator unseal`;
  const away = along.length === 0 ? '' : ` Until then ${listed(along)} ${along.length === 1 ? 'is' : 'are'} away too.`;
  return `A restart seals ${name}, and nothing undoes that: have the holders of its key shares at hand. Once it is up they unseal it (${command}, once for each share).${away} The run waits ${SEALED_SECONDS} s, then holds for a person: unseal it, then say retry.`;
}

const alongNote = (name: string, along: readonly string[], balanced: boolean): string =>
  `${listed(along)} ${along.length === 1 ? 'does' : 'do'} not work without ${name}: away with it${balanced ? ' on each host, while that is out of the balancer' : ''}, and waited for.`;

function failingNote(now: Seen): string[] {
  const failing = (now.health?.results ?? []).filter(isFailing).map(({ title, on }) => `${title} (${on})`);
  const more = failing.length > 5 ? ` and ${failing.length - 5} more` : '';
  return failing.length === 0 ? [] : [`Failing before the restart: ${failing.slice(0, 5).join('; ')}${more}.`];
}
