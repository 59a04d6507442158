import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { parseDocument } from 'yaml';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { connectClient } from '../../activities/temporal/connection.js';
import { controlGroup } from '../../infra/lab/control-group.js';
import { startLab, type Lab } from '../../infra/lab/lab.js';
import { shown } from '../../infra/packaging/toolbox-cache.js';
import { ToolboxError } from '../../infra/packaging/toolbox.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { findServerExecutable } from '../../infra/temporal/server-executable.js';
import { benchGroups, labGroup } from './meters.js';

export const HOST = 'app';
export const SYSTEM = 'proofpass';
/** The database that is measured, and a small one beside it for a worker to warm up with. */
export const DATABASE = 'proofpass_prod';
export const WARM_UP_DATABASE = 'proofpass_warm_up';
const WARM_UP_MEGABYTES = 10;

/** A lab with one database host, an object store, a Temporal server, and the tools of all contenders on the host. */
export interface BenchLab {
  lab: Lab;
  client: Client;
  /** What a worker needs in its environment. */
  environment: Record<string, string>;
  versions: Record<string, string>;
  /** Which database the system has, from the next run on. */
  choose: (database: string) => void;
  /** Ends and removes everything. Idempotent. */
  down(): Promise<void>;
}

/**
 * Sets everything up. Leaves nothing behind when it throws, and nothing that the next start of a lab would not remove when it is
 * killed. Looks at `signal` between its steps: a lab cannot be left half made.
 */
export async function startBenchLab(options: {
  megabytes: number;
  contenders: boolean;
  signal: AbortSignal;
}): Promise<BenchLab> {
  const executable = await findServerExecutable({ log: (line) => process.stderr.write(`${line}\n`) });
  const lab = await startLab({
    hosts: [{ name: HOST, fixture: { name: 'proofpass', megabytes: options.megabytes } }],
    systems: [SYSTEM],
    owner: true,
  });
  const endings: (() => Promise<void>)[] = [() => lab.down()];
  const down = async (): Promise<void> => {
    for (let ending = endings.pop(); ending; ending = endings.pop()) await ending();
  };
  const goOn = (): void => options.signal.throwIfAborted();
  try {
    goOn();
    const directory = path.join(lab.directory, 'bench');
    const systems = path.join(directory, 'systems');
    const server = await startDevServer({
      directory: path.join(directory, 'temporal'),
      port: 0,
      uiPort: 0,
      executable,
    });
    endings.push(() => server.stop({ force: true }));
    // Into the lab's control groups: measured there, and ended with the lab whatever happens to this process.
    writeFileSync(
      path.join(controlGroup(labGroup(lab.name, benchGroups.temporal)), 'cgroup.procs'),
      String(server.pid),
    );
    controlGroup(labGroup(lab.name, benchGroups.worker));
    const temporal = { TEMPORAL_ADDRESS: server.address, TEMPORAL_NAMESPACE: server.namespace };
    const { client, connection } = await connectClient({ env: temporal });
    // The client library throws out of a timer when a call that it repeats finds its connection closed: then it ends with the process.
    endings.push(async () => (options.signal.aborted ? undefined : connection.close()));
    goOn();
    await shown(`filling a second database with ${WARM_UP_MEGABYTES} MB`, () => fillWarmUpDatabase(lab));
    goOn();
    if (options.contenders) await shown('installing the AWS CLI on the host', () => installAwsCli(lab));
    return {
      lab,
      client,
      environment: {
        ...lab.environment,
        ...temporal,
        GUARDIA_SYSTEMS: systems,
        GUARDIA_STATE: path.join(directory, 'state'),
      },
      versions: { 'Temporal server': executable.serverVersion, ...(await hostVersions(lab, options.contenders)) },
      choose: (database) => writeSystem(systems, database),
      down,
    };
  } catch (error) {
    await down();
    throw error;
  }
}

/** Runs a shell script as root on the host and returns what it printed. */
export async function onHost(lab: Lab, what: string, script: string, stdin?: string): Promise<string> {
  const output = await lab.exec(
    HOST,
    ['/bin/bash', '-c', `set -euo pipefail; ${script}`],
    stdin === undefined ? {} : { stdin },
  );
  if (output.exitCode === 0) return output.stdout;
  const tail = `${output.stdout}${output.stderr}`.trimEnd().split('\n').slice(-15).join('\n');
  throw new ToolboxError(`${what} failed on the host ${HOST} (exit code ${output.exitCode}):\n${tail}`);
}

/** The shipped inventory file with the name of the database changed. The worker reads it anew for every run. */
function writeSystem(directory: string, database: string): void {
  const file = `${SYSTEM}.yaml`;
  const system = parseDocument(readFileSync(path.join(inventoryLocations({}).systemsDirectory, file), 'utf8'));
  system.setIn(['databases', 'main', 'name'], database);
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, `${file}.new`), system.toString());
  renameSync(path.join(directory, `${file}.new`), path.join(directory, file));
}

/** The same tables as in the large one, by the fixture's own recipe. */
async function fillWarmUpDatabase(lab: Lab): Promise<void> {
  const recipe = ['schema', 'fill-attestations', 'fill-activity', 'constraints']
    .map((name) => fileURLToPath(new URL(`../../infra/lab/fixtures/proofpass/${name}.sql`, import.meta.url)))
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
  await onHost(
    lab,
    'filling the small database',
    `runuser -u postgres -- createdb --owner proofpass_user ${WARM_UP_DATABASE}
     runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -v megabytes=${WARM_UP_MEGABYTES} -d ${WARM_UP_DATABASE}
     runuser -u postgres -- psql -X -q -c CHECKPOINT`,
    recipe,
  );
}

/** From the host's own package source, which the lab has made: nothing is fetched now. */
async function installAwsCli(lab: Lab): Promise<void> {
  await onHost(
    lab,
    'installing awscli',
    'DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o DPkg::Options::=--force-unsafe-io awscli',
  );
}

async function hostVersions(lab: Lab, contenders: boolean): Promise<Record<string, string>> {
  const tools: Record<string, string> = {
    PostgreSQL: 'pg_dump --version',
    zstd: 'zstd --version',
    age: 'age --version',
    curl: 'curl --version | head -n 1',
    ...(contenders ? { gzip: 'gzip --version | head -n 1', 'AWS CLI': 'aws --version', restic: 'restic version' } : {}),
  };
  const entries: [string, string][] = [];
  for (const [name, script] of Object.entries(tools)) {
    const said = await onHost(lab, `the version of ${name}`, script);
    entries.push([name, /\d+(\.\d+)+/.exec(said)?.[0] ?? said.trim()]);
  }
  return Object.fromEntries(entries);
}
