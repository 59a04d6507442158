import { hostsOf } from '../contracts/host-groups.js';
import type { FirewallRule } from '../contracts/provision.js';
import type { SeenFirewall } from '../contracts/provision-observation.js';
import type { System } from '../contracts/system.js';
import { given, isUnset } from '../contracts/unset.js';

/** Docker's own networks, unless its configuration says otherwise: what comes from them comes from this host's containers. */
const CONTAINERS = ['docker0', 'br-+'];

/**
 * What the firewall of a host lets in: the flows to it, and always the worker's own login. Flows whose source is not filled in are
 * closed, and named. Pure.
 */
export function rulesFor(
  system: System,
  host: string,
  login: SeenFirewall['login'],
): { rules: FirewallRule[]; closed: string[] } {
  const rules: FirewallRule[] = [];
  const closed: string[] = [];
  for (const [name, { from, to, port, protocol }] of Object.entries(system.flows)) {
    if (!hostsOf(system, to).includes(host)) continue;
    if (isUnset(from)) {
      closed.push(`${name}: ${from.unset}`);
      continue;
    }
    for (const source of sources(system, from, host))
      rules.push({ port, protocol, from: source, comment: `guardia: ${name}` });
  }
  if (login) {
    const open = rules.some(
      ({ port, protocol, from }) =>
        port === login.port && protocol === 'tcp' && (from === 'any' || from === login.from),
    );
    if (!open)
      rules.push({ port: login.port, protocol: 'tcp', from: login.from, comment: 'guardia: the way in of the worker' });
  }
  return { rules: unique(rules), closed };
}

function sources(system: System, from: string, host: string): string[] {
  if (from === 'internet') return ['any'];
  if (!Object.hasOwn(system.hosts, from) && !Object.hasOwn(system.groups, from)) return [from];
  return hostsOf(system, from).flatMap((name) => {
    const connection = system.hosts[name]?.connection;
    if (name === host || connection === undefined || connection === 'local') return [];
    return [given(connection.address, `hosts.${name}.connection.address`)];
  });
}

function unique(rules: FirewallRule[]): FirewallRule[] {
  const seen = new Set<string>();
  return rules.filter(({ port, protocol, from }) => {
    const key = `${port}/${protocol} ${from}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

/**
 * Rules for ports that containers publish, which pass UFW by: the same flows, by the port that was asked for on the host. Everything
 * else that is forwarded and does not come from a container of this host is dropped. As text for iptables-restore. Pure.
 */
export function publishedPortRules(rules: readonly FirewallRule[], family: 4 | 6): string {
  const accepted = rules
    .filter(({ from }) => from === 'any' || from.includes(':') === (family === 6))
    .map(
      ({ port, protocol, from }) =>
        `-A DOCKER-USER ${from === 'any' ? '' : `-s ${from} `}-p ${protocol} -m conntrack --ctorigdstport ${port} --ctdir ORIGINAL -j RETURN`,
    );
  return [
    '*filter',
    ':DOCKER-USER - [0:0]',
    '-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
    ...CONTAINERS.map((bridge) => `-A DOCKER-USER -i ${bridge} -j RETURN`),
    ...accepted,
    '-A DOCKER-USER -j DROP',
    'COMMIT',
    '',
  ].join('\n');
}
