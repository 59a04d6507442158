import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import type { ManagedBlock } from '../contracts/managed-block.js';
import { isAddress } from '../contracts/network.js';
import type { Provision } from '../contracts/provision.js';
import type { System } from '../contracts/system.js';
import { addressOf } from './firewall.js';

type Postgresql = NonNullable<Provision['postgresql']>;

/** Guardia's block in pg_hba.conf: the first line that fits counts. */
export const HBA_BLOCK: ManagedBlock = { name: 'clients', comment: '#', at: 'start' };

/** Its lines: the owner of the database logs in from this host and from its clients. Pure. */
export function hbaLines(system: System, host: string, postgresql: Postgresql): string {
  const database = system.databases[postgresql.database];
  return ['127.0.0.1/32', '::1/128', ...clientsOf(system, host, postgresql)]
    .map((address) => `host ${database?.name ?? ''} ${database?.owner ?? ''} ${address} scram-sha-256\n`)
    .join('');
}

/** Addresses of all that log in to the database on this host from elsewhere. Throws `InvalidInventory` for a name. Pure. */
export const clientsOf = (system: System, host: string, { clients }: Postgresql): string[] =>
  clients.flatMap((client) => addressesOf(system, client, host));

/** Addresses in the form of pg_hba.conf: a host or a group of this system, or a network as it stands. */
function addressesOf(system: System, client: string, self: string): string[] {
  if (!Object.hasOwn(system.hosts, client) && !Object.hasOwn(system.groups, client)) {
    if (!isAddress(client))
      throw failure(
        'InvalidInventory',
        `provision.postgresql.clients: ${client} is no host, group, address or network`,
        {
          remedy: `Name a host or a group of ${system.system}, or write an IP address or network`,
        },
      );
    return [client.includes('/') ? client : `${client}/${client.includes(':') ? 128 : 32}`];
  }
  return hostsOf(system, client).flatMap((host) => {
    const connection = system.hosts[host]?.connection;
    if (host === self || connection === undefined || connection === 'local') return [];
    const address = addressOf(system, host);
    return [`${address}/${address.includes(':') ? 128 : 32}`];
  });
}
