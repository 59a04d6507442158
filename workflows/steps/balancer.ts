import type { ApplicationBalancer } from '../contracts/application.js';
import { isDown, type ServerStates } from '../contracts/balancer.js';
import { failure } from '../contracts/errors.js';
import { listed } from '../contracts/names.js';
import type { Step } from '../contracts/plan.js';
import { call } from './call.js';

/*
 * Steps that take a host out of the balancer and back in. None where the layout has no balancer, and none for a host that somebody has taken
 * out: it stays out.
 */

/** Whether somebody has taken a server of the host out of the balancer. Pure. */
export const isOut = (balancer: ApplicationBalancer | undefined, host: string, servers: ServerStates = {}): boolean =>
  balancer?.serversOf(host).some((name) => (servers[name]?.admin ?? 'ready') !== 'ready') ?? false;

/** The hosts, those that answer nobody first: they are no loss, and afterwards they take over from the others. Pure. */
export function idleFirst(
  balancer: ApplicationBalancer | undefined,
  hosts: readonly string[],
  servers: ServerStates = {},
): string[] {
  const idle = (host: string): boolean => isIdle(balancer, host, servers);
  return [...hosts.filter(idle), ...hosts.filter((host) => !idle(host))];
}

/** Whether the host answers nobody: it is out, or the balancer's check fails. Pure. */
export const isIdle = (balancer: ApplicationBalancer | undefined, host: string, servers: ServerStates = {}): boolean =>
  isOut(balancer, host, servers) || (balancer?.serversOf(host).some((name) => isDown(servers[name])) ?? false);

/** As the deployment wants it, but never so many at once that nobody answers. Pure. */
export function pace<T extends { atOnce: number }>(
  balancer: ApplicationBalancer | undefined,
  wanted: T,
  servers: ServerStates = {},
): T {
  if (!balancer) return wanted;
  const answering = balancer.backends.map(
    (backend) =>
      Object.entries(servers).filter(
        ([name, server]) => name.startsWith(`${backend}/`) && server.admin === 'ready' && !isDown(server),
      ).length,
  );
  return { ...wanted, atOnce: Math.max(1, Math.min(wanted.atOnce, ...answering.map((count) => count - 1))) };
}

/** No new requests for the host, and none in flight any more. Refused where it is the last one that answers. */
export function drain(balancer: ApplicationBalancer | undefined, host: string, servers?: ServerStates): Step[] {
  if (!balancer || isOut(balancer, host, servers)) return [];
  return [
    {
      id: `drain-${host}`,
      on: balancer.on,
      title: `take ${host} out of the balancer and let its requests end`,
      why: 'nobody is to be cut off in the middle of a request',
      ...calls(balancer, host, 'drain'),
    },
  ];
}

/** Requests for the host again, once the balancer's own check sees it. */
export function ready(balancer: ApplicationBalancer | undefined, host: string, servers?: ServerStates): Step[] {
  if (!balancer || isOut(balancer, host, servers)) return [];
  return [
    {
      id: `ready-${host}`,
      on: balancer.on,
      title: `give ${host} requests again`,
      why: "it counts once the balancer's own check sees it",
      ...calls(balancer, host, 'ready'),
    },
  ];
}

/** What a plan says about hosts that somebody has taken out. Pure. */
export const outNotes = (
  balancer: ApplicationBalancer | undefined,
  hosts: readonly string[],
  servers?: ServerStates,
): string[] =>
  hosts
    .filter((host) => isOut(balancer, host, servers))
    .map((host) => `Somebody has taken ${host} out of the balancer: it stays out. Give it requests by hand.`);

/** The way back sets the other state, which takes its own time. */
function calls(
  { socket, serversOf, drainSeconds, readySeconds }: ApplicationBalancer,
  host: string,
  state: 'drain' | 'ready',
): Pick<Step, 'do' | 'undo' | 'undoOpens'> {
  const argument = { socket, servers: serversOf(host), state };
  const [there, back] = state === 'drain' ? [drainSeconds, readySeconds] : [readySeconds, drainSeconds];
  return {
    do: call('setServers', { ...argument, waitSeconds: there }),
    undo: call('restoreServers', { ...argument, waitSeconds: back }),
    ...(state === 'drain' ? { undoOpens: true } : {}),
  };
}

/**
 * Refuses a plan in which a host could not be taken out because nobody would be left: at its turn another server of each backend has to answer,
 * or to have been given requests by its own host's turn before. `hosts` in the order of their turns. Throws `InvalidPlan`. Pure.
 */
export function refuseLastServer(
  balancer: ApplicationBalancer | undefined,
  hosts: readonly string[],
  servers: ServerStates = {},
): void {
  if (!balancer) return;
  for (const [turn, host] of hosts.entries()) {
    if (isOut(balancer, host, servers)) continue;
    const own = balancer.serversOf(host);
    const back = hosts.slice(0, turn).filter((one) => !isOut(balancer, one, servers));
    const answering = (name: string): boolean =>
      answers(servers[name]) || back.some((one) => balancer.serversOf(one).includes(name));
    for (const name of own.filter((one) => answers(servers[one]))) {
      const backend = name.slice(0, name.lastIndexOf('/') + 1);
      const others = Object.keys(servers).filter((one) => one.startsWith(backend) && !own.includes(one));
      if (others.some(answering)) continue;
      const short = (one: string): string => one.slice(backend.length);
      const out = others.filter((one) => servers[one]?.admin !== 'ready').map(short);
      throw failure(
        'InvalidPlan',
        `without ${name} nobody is left in ${backend.slice(0, -1)}: ${others.map((one) => `${short(one)} is ${servers[one]?.admin}, ${servers[one]?.check}`).join('; ') || 'it is the only server'}`,
        {
          remedy:
            out.length > 0
              ? `Give ${listed(out)} requests first`
              : `Bring ${others.length > 0 ? listed(others.map(short)) : 'another server'} back first`,
        },
      );
    }
  }
}

/** As HAProxy decides whether a server may leave: it takes requests, and its check passes. */
const answers = (server: ServerStates[string] | undefined): boolean =>
  server?.admin === 'ready' && (server.check.startsWith('UP') || server.check === 'no check');
