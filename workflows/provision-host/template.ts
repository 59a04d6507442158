import { failure } from '../contracts/errors.js';
import { hostOf, hostsOf } from '../contracts/host-groups.js';
import type { System } from '../contracts/system.js';
import { isUnset } from '../contracts/unset.js';

/** `{{a.b.c}}` or `{{a.b.c|filter}}`; what is not of this form, such as `{{ $labels.job }}`, is left alone. Secrets are filled on the worker. */
const PLACE = /\{\{([a-z][A-Za-z0-9_.-]*)(?:\|([a-z]+)(?::(\d+))?)?\}\}/g;

/** What a template may take besides the system: known only when a host has been looked at. */
export interface Moment {
  /** Where logins of workers come from, this one's and those that the file names already; empty where it is none over SSH. */
  login?: string | undefined;
}

/**
 * Fills a template from the system, for one host. Filters: `hostname` of a URL; `address` of a host or of a group of one, as this host
 * reaches it; `targets:PORT` of a group, as a list for Prometheus in a container of this host. Throws `InvalidPlan` that names every place without a value, `UnsetValue` for those that are not filled in yet.
 */
export function fill(text: string, system: System, host: string, source: string, moment: Moment = {}): string {
  const unknown: string[] = [];
  const open: string[] = [];
  const addressOf = (to: string, own: string): string => {
    const connection = system.hosts[to]?.connection;
    if (to === host || connection === 'local' || connection === undefined) return own;
    if (!isUnset(connection.address)) return connection.address;
    open.push(`hosts.${to}.connection.address (${connection.address.unset})`);
    return '';
  };
  const filled = text.replaceAll(PLACE, (whole: string, path: string, filter?: string, port?: string) => {
    if (path === 'login' && filter === undefined) return moment.login ?? '';
    if (filter === 'address') return addressOf(hostOf(system, path), '127.0.0.1');
    if (filter === 'targets')
      return hostsOf(system, path)
        .map((to) => `'${addressOf(to, 'host.docker.internal')}:${port}'`)
        .join(', ');
    let value: unknown = system;
    for (const part of path.split('.')) value = (value as Record<string, unknown> | undefined)?.[part];
    if (isUnset(value)) {
      open.push(`${path} (${value.unset})`);
      return whole;
    }
    if (typeof value !== 'string' && typeof value !== 'number') {
      unknown.push(whole);
      return whole;
    }
    return filter === 'hostname' ? hostname(String(value)) : String(value);
  });
  if (unknown.length > 0)
    throw failure('InvalidPlan', `${source}: the system has no value for ${unknown.join(', ')}`, {
      remedy:
        'A place is {{dotted.path}} of a text or a number of the system, or {{secret:NAME}} in a file with secrets',
    });
  if (open.length > 0)
    throw failure(
      'UnsetValue',
      `${source} needs values of system ${system.system} not filled in yet: ${open.join('; ')}`,
      {
        remedy: `Fill them in in ${system.system}.yaml of the inventory or of the overlay (GUARDIA_OVERLAY)`,
      },
    );
  return filled;
}

/** Whether a template can only be filled once the host has been looked at. */
export const needsMoment = (text: string): boolean => text.includes('{{login}}');

/**
 * What a file that was made of a template names in the place of `{{login}}`: addresses of workers that came before. None where nothing else of that
 * line is as in the template. Pure.
 */
export function loginsIn(template: string, text: string): string[] {
  const [head, tail] = template.split('\n').find(needsMoment)?.split('{{login}}', 2) ?? [];
  if (!head || tail === undefined) return [];
  const line = text.split('\n').find((one) => one.startsWith(head) && one.slice(head.length).endsWith(tail));
  return (
    line
      ?.slice(head.length, line.length - tail.length)
      .split(' ')
      .filter(Boolean) ?? []
  );
}

function hostname(url: string): string {
  return /^[a-z]+:\/\/(?:[^/@]*@)?([^/:?#]+)/i.exec(url)?.[1] ?? url;
}
