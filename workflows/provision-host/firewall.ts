import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import { isAddress, spelled, within } from '../contracts/network.js';
import type { FirewallRule } from '../contracts/provision.js';
import type { SeenFirewall } from '../contracts/provision-observation.js';
import type { System } from '../contracts/system.js';
import { given, isUnset } from '../contracts/unset.js';

/** Docker's own networks: what comes from them comes from this host's containers. A host with another interface of such a name is refused. */
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
      rules.push({ port, protocol, from: spelled(source), comment: `guardia: ${name}` });
  }
  if (login) {
    const open = rules.some(
      ({ port, protocol, from }) =>
        port === login.port && protocol === 'tcp' && (from === 'any' || within(login.from, from) === 'yes'),
    );
    if (!open)
      rules.push({
        port: login.port,
        protocol: 'tcp',
        from: spelled(login.from),
        comment: 'guardia: the way in of the worker',
      });
  }
  return { rules: unique(rules), closed };
}

/**
 * The address of a host, as a firewall and pg_hba.conf take it. Throws `InvalidInventory` for a name: ufw takes none, and PostgreSQL asks for it again with
 * each login.
 */
export function addressOf(system: System, host: string): string {
  const connection = system.hosts[host]?.connection;
  if (connection === undefined || connection === 'local') return '127.0.0.1';
  const address = given(connection.address, `hosts.${host}.connection.address`);
  if (!isAddress(address))
    throw failure(
      'InvalidInventory',
      `hosts.${host}.connection.address is a name, ${address}: rules for what ${host} may reach need its address`,
      {
        remedy: `Write its IP address, as the other hosts see it, into ${system.system}.yaml of the inventory or of the overlay`,
      },
    );
  return address;
}

/** Flows from a network that the host itself is in: they let in its neighbours as well, where only its containers may be meant. Pure. */
export function opensToNeighbours(system: System, host: string, networks: readonly string[]): string[] {
  return Object.entries(system.flows).flatMap(([name, { from, to, port }]) => {
    if (isUnset(from) || !from.includes('/') || !hostsOf(system, to).includes(host)) return [];
    const own = networks.find((network) => within(network.replace(/\/.*/, ''), from) === 'yes');
    return own === undefined ? [] : [`${name} (port ${port} from ${from}, and ${host} is in ${own})`];
  });
}

function sources(system: System, from: string, host: string): string[] {
  if (from === 'internet') return ['any'];
  if (!Object.hasOwn(system.hosts, from) && !Object.hasOwn(system.groups, from)) {
    if (!isAddress(from))
      throw failure('InvalidInventory', `flows: ${from} is no host, group, address or network`, {
        remedy: `Name a host or a group of ${system.system}, or write an IP address or network`,
      });
    return [from];
  }
  return hostsOf(system, from).flatMap((name) => {
    const connection = system.hosts[name]?.connection;
    if (name === host || connection === undefined || connection === 'local') return [];
    return [addressOf(system, name)];
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
