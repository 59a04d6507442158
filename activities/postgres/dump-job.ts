import { argumentsOf, type ArtifactJob, scriptOf, secretLines } from '../object-store/job-text.js';
import type { AccessKey } from '../object-store/object-store.js';
import { keySecrets, uploadArguments, type UploadTarget } from '../object-store/upload-target.js';

/** How the host logs in to its server. */
export type ServerAccess =
  | { kind: 'peer'; osUser: string }
  /** `password` is secret. */
  | { kind: 'password'; address: string; user: string; password: string }
  | { kind: 'compose'; project: string; service: string; user: string }
  | { kind: 'container'; container: string; user: string };

export interface DumpSource {
  /** Database in PostgreSQL's own words; any characters. */
  database: string;
  /** Major version that the inventory says. */
  version: number;
  port: number;
  access: ServerAccess;
  /** How long the dump waits for a table that is being changed, in seconds. Default 60. */
  lockWaitSeconds?: number;
  /** How long a server that does not answer yet is waited for, in seconds. Default 120. */
  serverWaitSeconds?: number;
}

const here = (name: string) => new URL(name, import.meta.url);
const dumpScript = scriptOf('upload', here('./server-access.sh'), here('./dump-to-store.sh'));
const scratch = `export GUARDIA_JOB_SCRATCH
GUARDIA_JOB_SCRATCH=$(mktemp -d /dev/shm/guardia-observe.XXXXXX) || exit 70
trap 'rm -rf "$GUARDIA_JOB_SCRATCH"' EXIT
`;
/** A script that logs in to a server, as a short command: makes and removes its own scratch directory. Arguments and input: `serverInput`. */
export const serverScript = (part: URL): string => `${scratch}(
${scriptOf('none', here('./server-access.sh'), part)}
)`;
/** Looks at a server. */
export const observeScript = serverScript(here('./observe-server.sh'));
const globalsScript = scriptOf('upload', here('./server-access.sh'), here('./globals-to-store.sh'));

/**
 * The job that dumps one database into the parts of an open upload. Runs as root on the database's host; completes nothing.
 * `run` appears as application name in the server, and the job is idempotent only by the id that it is started under.
 * Standard output is a `DumpResult`.
 */
export function dumpJob(
  source: DumpSource,
  target: UploadTarget,
  key: AccessKey,
  options: { run: string; expectedTables?: readonly string[] },
): ArtifactJob {
  return {
    script: dumpScript,
    args: argumentsOf({
      ...serverArguments(source),
      ...uploadArguments(target),
      run: options.run,
      'expected-table': options.expectedTables,
    }),
    stdin: serverSecrets(source, key),
  };
}

/** The job that saves roles and tablespaces. Standard output is a `GlobalsResult`. Otherwise as `dumpJob`. */
export function globalsJob(
  source: DumpSource,
  target: UploadTarget,
  key: AccessKey,
  options: { run: string },
): ArtifactJob {
  return {
    script: globalsScript,
    args: argumentsOf({ ...serverArguments(source), ...uploadArguments(target), run: options.run }),
    stdin: serverSecrets(source, key),
  };
}

/** Arguments and standard input of `observeScript`. */
export function serverInput(source: DumpSource): { args: string[]; stdin: Buffer } {
  return {
    args: argumentsOf(serverArguments(source)),
    stdin: secretLines({ databasePassword: source.access.kind === 'password' ? source.access.password : undefined }),
  };
}

function serverArguments({ access, ...source }: DumpSource) {
  return {
    access: access.kind,
    database: source.database,
    version: source.version,
    port: source.port,
    'lock-wait-seconds': source.lockWaitSeconds,
    'server-wait-seconds': source.serverWaitSeconds,
    user: access.kind === 'peer' ? access.osUser : access.user,
    address: access.kind === 'password' ? access.address : undefined,
    project: access.kind === 'compose' ? access.project : undefined,
    service: access.kind === 'compose' ? access.service : undefined,
    container: access.kind === 'container' ? access.container : undefined,
  };
}

function serverSecrets({ access }: DumpSource, key: AccessKey): Buffer {
  return secretLines({
    ...keySecrets(key),
    databasePassword: access.kind === 'password' ? access.password : undefined,
  });
}
