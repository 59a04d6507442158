import type { ServerReference } from '../../workflows/contracts/server-reference.js';
import type { Secrets } from '../secrets/resolve.js';
import type { DumpSource } from './dump-job.js';

/** How a host logs in to its server, with the password in it. Throws `SecretUnavailable`. */
export async function serverSource({ access, ...rest }: ServerReference, secrets: Secrets): Promise<DumpSource> {
  return access.kind === 'password'
    ? { ...rest, access: { ...access, password: (await secrets.resolve(access.password)).reveal() } }
    : { ...rest, access };
}
