import { listed } from '../contracts/names.js';
import type { Step } from '../contracts/plan.js';
import type { ServiceReference } from '../contracts/service-reference.js';
import { call } from './call.js';

/*
 * Steps about services as the inventory names them, whatever runs them: units, compose services, containers. In a deploy `stop` comes
 * before the switch and `start` after it: undone in reverse, the old services start once the old release is back.
 */

const namesOf = (services: readonly ServiceReference[]): string => listed(services.map(({ name }) => name));

/** Stops services, the last one first. */
export function stop(host: string, services: readonly ServiceReference[], why: string): Step {
  return {
    id: `stop-${host}`,
    title: `stop ${namesOf([...services].reverse())}`,
    why,
    do: call('stopServices', { services }),
    undo: call('restoreServices', { services, step: 'stop' }),
  };
}

/** Starts services in their order. */
export function start(host: string, services: readonly ServiceReference[], why: string): Step {
  return {
    id: `start-${host}`,
    title: `start ${namesOf(services)}`,
    why,
    do: call('startServices', { services }),
    undo: call('restoreServices', { services, step: 'start' }),
  };
}

/** Restarts services in their order. `dependants`: services that a stop takes down too; the way back starts those that ran. */
export function restart(
  host: string,
  services: readonly ServiceReference[],
  dependants: readonly ServiceReference[],
  why: string,
): Step {
  return {
    id: `restart-${host}`,
    title: `restart ${namesOf(services)}`,
    why,
    do: call('restartServices', { services, ...(dependants.length === 0 ? {} : { dependants }) }),
    undo: call('restoreServices', { services: [...services, ...dependants] }),
  };
}

/** Units that do not start with their host do from now on. None where they do. */
export function enable(
  host: string,
  services: readonly ServiceReference[],
  now: Readonly<Record<string, { disabled?: boolean | undefined }>>,
): Step[] {
  return services.flatMap((service) =>
    service.kind === 'systemd' && now[service.name]?.disabled
      ? [
          {
            id: `enable-${service.name}-${host}`,
            title: `enable ${service.unit}`,
            why: 'it runs again by itself after a reboot',
            do: call('setUnit', { unit: service.unit, enabled: true }),
            undo: call('restoreUnit', { unit: service.unit }),
          },
        ]
      : [],
  );
}
