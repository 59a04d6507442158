import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { ProbeOf } from '../../workflows/contracts/probe.js';
import { failure } from '../../workflows/contracts/errors.js';
import type { ServerReference } from '../../workflows/contracts/server-reference.js';
import type { Hosts } from '../hosts/hosts.js';
import type { DumpSource } from '../postgres/dump-job.js';
import { passwordInUrl, valueInEnvironmentFile } from '../secret-files/secret-values.js';
import { Secret } from '../secrets/secret.js';
import type { Secrets } from '../secrets/resolve.js';

/** The login that the application has, with the password out of its environment file. Throws `SecretUnavailable` where that has none. */
export async function applicationSource(
  hosts: Hosts,
  target: HostTarget,
  { server, login }: { server: ServerReference; login: NonNullable<ProbeOf<'postgresql'>['login']> },
  secrets: Secrets,
  signal: AbortSignal,
): Promise<DumpSource> {
  const { file, key, form, user, address } = login;
  const { stdout } = await hosts.run(target, { argv: ['cat', '--', file] }, { signal });
  const value = valueInEnvironmentFile(stdout, key);
  const password = form === 'url' && value !== undefined ? passwordInUrl(value) : value;
  if (password === undefined)
    throw failure('SecretUnavailable', `${file} on ${target.name} has no password in ${key}`, { host: target.name });
  const secret = new Secret(`${key} of ${file} on ${target.name}`, password);
  secrets.scrubber.remember(secret);
  return { ...server, access: { kind: 'password', address, user, password: secret.reveal() } };
}
