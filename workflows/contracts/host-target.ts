import { z } from 'zod';
import { failure } from './errors.js';
import { Name, WORKER_HOST } from './names.js';
import { SecretReference } from './secret-reference.js';
import type { System } from './system.js';
import { isUnset, type Unset } from './unset.js';

const Ssh = z.object({
  address: z.string(),
  port: z.int(),
  user: z.string(),
  identity: SecretReference,
  hostKeys: z.array(z.string()).min(1),
});

/** How an activity reaches a host: what the system's snapshot says, with nothing left open. Holds no secret. */
export const HostTarget = z.object({
  name: Name,
  site: Name,
  become: z.enum(['sudo', 'none']),
  stateDirectory: z.string(),
  connection: z.union([z.literal('local'), Ssh.extend({ jump: Ssh.optional() })]),
});
export type HostTarget = z.infer<typeof HostTarget>;
export type SshTarget = Exclude<HostTarget['connection'], 'local'>;

/** The machine that the worker runs on. Its state directory is the worker's own: GUARDIA_STATE. */
export const workerHost: HostTarget = {
  name: WORKER_HOST,
  site: 'main',
  become: 'none',
  stateDirectory: '',
  connection: 'local',
};

/**
 * The target for a host of a system. Throws `UnsetValue` naming every value that is still open, `InvalidPlan` for an unknown host.
 */
export function hostTarget(system: System, name: string): HostTarget {
  if (name === WORKER_HOST) return workerHost;
  const host = system.hosts[name];
  if (!host)
    throw failure(
      'InvalidPlan',
      `system ${system.system} has no host ${name} (it has: ${Object.keys(system.hosts).join(', ')})`,
    );
  const base = { name, site: host.site, become: host.become, stateDirectory: host.stateDirectory };
  if (host.connection === 'local') return { ...base, connection: 'local' };
  const open: string[] = [];
  const ssh = (of: string): z.infer<typeof Ssh> => {
    const connection = system.hosts[of]?.connection;
    if (connection === undefined || connection === 'local')
      throw failure(
        'InvalidPlan',
        `host ${of} of system ${system.system} cannot be a jump host: it has no SSH connection`,
      );
    const set = <T>(field: string, value: T | Unset): T => {
      if (isUnset(value)) open.push(`hosts.${of}.connection.${field} (${value.unset})`);
      return value as T;
    };
    return {
      address: set('address', connection.address),
      port: connection.port,
      user: connection.user,
      identity: set('identity', connection.identity),
      hostKeys: set('hostKeys', connection.hostKeys),
    };
  };
  const connection = { ...ssh(name), ...(host.connection.jump ? { jump: ssh(host.connection.jump) } : {}) };
  if (open.length > 0)
    throw failure('UnsetValue', `system ${system.system} cannot be reached: not filled in: ${open.join('; ')}`, {
      remedy: `Fill them in in infra/systems/${system.system}.yaml`,
    });
  return { ...base, connection };
}
