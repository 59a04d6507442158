import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { ServerReference } from '../../workflows/contracts/server-reference.js';
import type { Hosts } from '../hosts/hosts.js';
import { explainJobFailure } from '../object-store/job-failures.js';
import { scriptOf } from '../object-store/job-text.js';
import type { Secrets } from '../secrets/resolve.js';
import { observationScript, serverInput, type DumpSource } from './dump-job.js';

const script = observationScript(
  scriptOf('none', new URL('./server-access.sh', import.meta.url), new URL('./query-server.sh', import.meta.url)),
);

/** A server with the login that its reference names. Secret. Throws `SecretUnavailable`. */
export async function sourceOf(secrets: Secrets, { access, ...rest }: ServerReference): Promise<DumpSource> {
  return access.kind === 'password'
    ? { ...rest, access: { ...access, password: (await secrets.resolve(access.password)).reveal() } }
    : { ...rest, access };
}

/**
 * Asks a server, in a read-only transaction on its own host, and returns what psql prints (unaligned, tuples only). psql's own
 * commands work in `sql`. Throws `CommandFailed` with the server's words.
 */
export async function queryServer(
  { hosts, secrets }: { hosts: Hosts; secrets: Secrets },
  target: HostTarget,
  server: ServerReference,
  sql: string,
  options: { signal?: AbortSignal } = {},
): Promise<string> {
  const { args, stdin } = serverInput(await sourceOf(secrets, server));
  try {
    const { stdout } = await hosts.run(
      target,
      { argv: ['/bin/bash', '-c', script, 'query', ...args, `sql=${sql}`], stdin, timeoutSeconds: 110 },
      options,
    );
    return stdout.trim();
  } catch (error) {
    throw explainJobFailure(error, `database ${server.database}`);
  }
}
