import type { ApplicationBalancer } from '../contracts/application.js';
import { isDown, type ServerStates } from '../contracts/balancer.js';
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
  const idle = (host: string): boolean =>
    isOut(balancer, host, servers) || (balancer?.serversOf(host).some((name) => isDown(servers[name])) ?? false);
  return [...hosts.filter(idle), ...hosts.filter((host) => !idle(host))];
}

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
): Pick<Step, 'do' | 'undo'> {
  const argument = { socket, servers: serversOf(host), state };
  const [there, back] = state === 'drain' ? [drainSeconds, readySeconds] : [readySeconds, drainSeconds];
  return {
    do: call('setServers', { ...argument, waitSeconds: there }),
    undo: call('restoreServers', { ...argument, waitSeconds: back }),
  };
}
