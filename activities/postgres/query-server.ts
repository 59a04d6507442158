import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { ServerReference } from '../../workflows/contracts/server-reference.js';
import type { Hosts } from '../hosts/hosts.js';
import { explainJobFailure } from '../object-store/job-failures.js';
import type { Secrets } from '../secrets/resolve.js';
import { serverInput, serverScript } from './dump-job.js';
import { serverSource } from './server-source.js';

const script = serverScript(new URL('./query-server.sh', import.meta.url));

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
  const { args, stdin } = serverInput(await serverSource(server, secrets));
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
