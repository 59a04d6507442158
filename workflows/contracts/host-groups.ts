import { failure } from './errors.js';
import type { System } from './system.js';

/** The hosts that `on` stands for: a host itself, or the hosts of a group in their order. Throws `InvalidPlan` for neither. Pure. */
export function hostsOf(system: Pick<System, 'system' | 'hosts' | 'groups'>, on: string): string[] {
  const group = system.groups[on];
  if (group) return [...group];
  if (Object.hasOwn(system.hosts, on)) return [on];
  throw failure('InvalidPlan', `system ${system.system} has no host and no group ${on}`);
}

/** The one host that `on` stands for. Throws `InvalidPlan` where it is none or several. Pure. */
export function hostOf(system: Pick<System, 'system' | 'hosts' | 'groups'>, on: string): string {
  const [host, ...others] = hostsOf(system, on);
  if (host === undefined || others.length > 0)
    throw failure('InvalidPlan', `${on} of system ${system.system} is ${others.length + 1} hosts where one is needed`);
  return host;
}
