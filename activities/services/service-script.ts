import { readFileSync } from 'node:fs';
import type { ServiceReference } from '../../workflows/contracts/service-reference.js';

const read = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8');

/** Shell functions about services; other scripts are put after it. */
export const serviceFunctions = read('./services.sh');
export const changeServices = `${serviceFunctions}\n${read('./change-services.sh')}`;

/** A service as one argument of the scripts. */
export function serviceArgument(service: ServiceReference): string {
  switch (service.kind) {
    case 'systemd':
      return fields('systemd', service.name, service.unit);
    case 'compose':
      return fields(
        'compose',
        service.name,
        service.project,
        service.service,
        service.directory,
        service.file,
        ...service.overrides,
      );
    case 'container':
      return fields('container', service.name, service.container);
  }
}

const fields = (...values: string[]): string => values.join('\x1f');

export type ServiceStateName = 'running' | 'stopped' | 'failed' | 'starting' | 'absent';
export interface ServiceState {
  state: ServiceStateName;
  /** Changes with every start; '-' where there is none. */
  instance: string;
  /** True for a unit that does not start with its host. */
  disabled?: boolean;
}

/** The lines `service NAME STATE INSTANCE` and `unit NAME UNIT-FILE-STATE` of what a script printed. */
export function serviceStates(output: string): Record<string, ServiceState> {
  const disabled = new Set([...output.matchAll(/^unit (\S+) disabled$/gm)].map(([, name]) => name));
  return Object.fromEntries(
    [...output.matchAll(/^service (\S+) (\S+) (\S+)$/gm)].map(([, name = '', state, instance = '-']) => [
      name,
      { state: state as ServiceStateName, instance, ...(disabled.has(name) ? { disabled: true } : {}) },
    ]),
  );
}
