import type { BackupInput } from '../contracts/backup.js';
import { hostOf, hostsOf } from '../contracts/host-groups.js';
import type { CallName, Observation } from '../contracts/calls.js';
import { SYSTEM_LANE, WORKER_HOST } from '../contracts/names.js';
import { PLAN_FORMAT, type Lane, type Stage, type Step } from '../contracts/plan.js';
import type { Planner, PlanningMoment } from '../contracts/planning.js';
import { recoveryPointId, type ArtifactKind } from '../contracts/recovery-point.js';
import { storeNeeds, storeReference } from '../contracts/store-reference.js';
import type { ConfigurationSet, Database, System } from '../contracts/system.js';
import { given } from '../contracts/unset.js';
import { serverReference } from '../contracts/database-server.js';
import { call } from '../steps/call.js';
import { allOf } from '../steps/stages.js';

/** A dump gets an hour, and a second more for every 2 MB of database: five times what a slow disk needs. */
const DUMP_SECONDS = 3600;
const DUMP_BYTES_PER_SECOND = 2_000_000;
/** Globals and configuration are small. */
const SMALL_ARTIFACT_SECONDS = 1800;

/** What `observe` asks for, as the planner reads it. */
interface Observed {
  store: { orphans: number; newest?: string };
  worker: { tools: Record<string, string> };
  [database: `database ${string}`]: { bytes: number; systemIdentifier: string; serverVersion: number };
}

/** Everything that one artifact needs, whatever kind it is. */
interface Part {
  kind: ArtifactKind;
  name: string;
  on: string;
  save: Step;
}

export const backupPlanner: Planner<BackupInput> = {
  needs(_, system) {
    const hosts = savedHosts(system);
    return [
      ...storeNeeds(hosts),
      'backup.recipients',
      'backup.identity',
      'databases.*.version',
      ...hosts.map((host) => `hosts.${host}.connection`),
    ];
  },

  observe(input, system, moment) {
    const saved = databasesOf(input, system);
    return [
      ...saved.map(([name, database]) => ({
        as: `database ${name}`,
        title: `look at database ${database.name}`,
        on: hostOf(system, database.on),
        call: call('observePostgres', { server: serverReference(system, database) }),
      })),
      {
        as: 'store',
        title: 'look at the recovery points in the bucket',
        on: SYSTEM_LANE,
        call: call('observeRecoveryPoints', { store: storeReference(system), except: pointOf(moment) }),
      },
      {
        as: 'worker',
        title: 'look at the tools that read a backup back',
        on: WORKER_HOST,
        call: call('observeWorker', {
          serverVersions: saved.map(([, { version }]) => given(version, 'version')),
        }),
      },
    ];
  },

  plan(input, system, observation, moment) {
    const now = observation as Observation & Observed;
    const parts = [...databases(input, system, now, moment), ...configuration(system, moment)];
    return {
      format: PLAN_FORMAT,
      runbook: 'backup',
      system: system.system,
      stages: [
        ...(now.store.orphans > 0 ? [tidy(system, now.store.orphans, moment)] : []),
        save(parts),
        complete(input, system, parts, moment),
        verify(system, parts, moment),
        prove(system, parts, moment),
      ],
      downtime: [],
      // From here on the recovery point counts: a verification that fails says so beside it, and takes nothing away.
      pointOfNoReturn: 'write-manifest',
      // Nobody is got out of bed for a backup that failed: what it leaves is no recovery point, and the next one tidies it up.
      unattended: true,
      notes: notesOf(input, system),
    };
  },

  facets(observation) {
    return Object.fromEntries(
      Object.entries(observation as Record<string, Record<string, unknown>>).map(([name, seen]) => [
        name,
        name === 'store'
          ? { orphans: seen['orphans'] }
          : name === 'worker'
            ? seen
            : { systemIdentifier: seen['systemIdentifier'], serverVersion: seen['serverVersion'] },
      ]),
    );
  },
};

// The stages, in their order.

function tidy(system: System, orphans: number, moment: PlanningMoment): Stage {
  return allOf('tidy up', [
    {
      on: SYSTEM_LANE,
      steps: [
        {
          id: 'remove-orphans',
          title: `remove ${orphans} unfinished upload(s) and object(s) of earlier runs`,
          why: 'a run that was terminated could not clean up; an object without a manifest is no backup',
          do: call('removeOrphans', { store: storeReference(system), except: pointOf(moment) }),
          undo: { none: 'what is removed belongs to no recovery point' },
        },
      ],
    },
  ]);
}

function save(parts: Part[]): Stage {
  const hosts = [...new Set(parts.map((part) => part.on))];
  return allOf(
    'save',
    hosts.flatMap((host) =>
      largeAndSmall(
        host,
        parts.filter((part) => part.on === host),
        (part) => part.save,
      ),
    ),
  );
}

/** Databases one after the other, and what is small beside them: two dumps at once would only slow the host down. */
function largeAndSmall(on: string, parts: Part[], step: (part: Part) => Step): Lane[] {
  const lane = (some: Part[]): Lane[] => (some.length > 0 ? [{ on, steps: some.map(step) }] : []);
  return [
    ...lane(parts.filter(({ kind }) => kind === 'database')),
    ...lane(parts.filter(({ kind }) => kind !== 'database')),
  ];
}

function complete(input: BackupInput, system: System, parts: Part[], moment: PlanningMoment): Stage {
  return allOf('complete', [
    {
      on: SYSTEM_LANE,
      steps: [
        {
          id: 'write-manifest',
          title: 'write the manifest: the recovery point is complete',
          why: 'a set counts only when everything that belongs to it is in the bucket',
          do: call('writeManifest', {
            store: storeReference(system),
            id: pointOf(moment),
            createdAt: moment.now,
            artifacts: parts.map((part) => ({ from: part.save.id, path: 'artifact' })),
            anomalies: input.acceptAnomaly
              ? parts
                  .filter(({ kind }) => kind === 'database')
                  .map((part) => ({ from: part.save.id, path: 'anomalies' }))
              : [],
          }),
          undo: call('withdrawManifest', { store: storeReference(system), id: pointOf(moment) }),
        },
      ],
    },
  ]);
}

function verify(system: System, parts: Part[], moment: PlanningMoment): Stage {
  return allOf(
    'read back',
    largeAndSmall(WORKER_HOST, parts, (part) => ({
      id: `verify-${part.save.id}`,
      title: `read ${part.kind} ${part.name} back`,
      why: 'every byte: checksum, decrypt, decompress, parse. A backup counts when it was read back, away from the host that made it',
      do: call('verifyArtifact', {
        store: storeReference(system),
        id: pointOf(moment),
        kind: part.kind,
        name: part.name,
        identity: given(system.backup.identity, 'backup.identity'),
        timeoutSeconds: (part.save.do.with['timeoutSeconds'] as number) + DUMP_SECONDS,
      }),
      undo: { none: 'it only reads' },
      attempts: 3,
      runAgainIfLost: true,
    })),
  );
}

function prove(system: System, parts: Part[], moment: PlanningMoment): Stage {
  return allOf('prove', [
    {
      on: SYSTEM_LANE,
      steps: [
        {
          id: 'write-proof',
          title: 'write the proof: the recovery point is verified',
          why: 'restore and retention go by what was proved',
          do: call('writeProof', {
            store: storeReference(system),
            id: pointOf(moment),
            findings: parts.map((part) => ({ from: `verify-${part.save.id}`, path: 'finding' })),
          }),
          undo: { none: 'a proof is a fact' },
        },
      ],
    },
  ]);
}

// What is saved.

const databasesOf = (input: BackupInput, system: System): [string, Database][] =>
  input.only === 'configuration' ? [] : Object.entries(system.databases);

function databases(input: BackupInput, system: System, now: Observed, moment: PlanningMoment): Part[] {
  return databasesOf(input, system).flatMap(([name, database]): Part[] => {
    const server = serverReference(system, database);
    const seen = now[`database ${name}`];
    const on = hostOf(system, database.on);
    const seconds = DUMP_SECONDS + Math.ceil((seen?.bytes ?? 0) / DUMP_BYTES_PER_SECOND);
    return [
      artifact(system, moment, 'database', name, on, {
        title: `dump database ${database.name} (${megabytes(seen?.bytes ?? 0)}) into the bucket`,
        why: 'pg_dump, zstd, age and S3 in one stream on the host: nothing touches a disk, nothing large passes the worker',
        activity: 'dumpDatabase',
        with: {
          server,
          expectTables: database.expect.tables,
          minimumBytes: database.expect.minimumBytes,
          lowestShareOfMedian: system.backup.lowestShareOfMedian,
          acceptAnomaly: input.acceptAnomaly,
          estimatedBytes: seen?.bytes ?? 0,
          timeoutSeconds: seconds,
        },
      }),
      artifact(system, moment, 'globals', name, on, {
        title: `save roles and tablespaces of ${name}`,
        why: 'a dump does not hold the roles that own its tables',
        activity: 'dumpGlobals',
        with: { server, estimatedBytes: 0, timeoutSeconds: SMALL_ARTIFACT_SECONDS },
      }),
    ];
  });
}

function configuration(system: System, moment: PlanningMoment): Part[] {
  return Object.entries(system.backup.configuration).flatMap(([name, set]: [string, ConfigurationSet]) => {
    const hosts = hostsOf(system, set.on);
    return hosts.map((host) =>
      artifact(system, moment, 'configuration', hosts.length > 1 ? `${name}-${host}` : name, host, {
        title: `save the configuration of ${host}`,
        why: `${set.paths.length + set.optional.length} paths: environment, nginx, units`,
        activity: 'saveConfiguration',
        with: { paths: set.paths, optional: set.optional, estimatedBytes: 0, timeoutSeconds: SMALL_ARTIFACT_SECONDS },
      }),
    );
  });
}

function artifact(
  system: System,
  moment: PlanningMoment,
  kind: ArtifactKind,
  name: string,
  on: string,
  step: { title: string; why: string; activity: CallName; with: Record<string, unknown> },
): Part {
  const store = storeReference(system, on);
  const place = { store, id: pointOf(moment), kind, name };
  return {
    kind,
    name,
    on,
    save: {
      id: `${kind}-${name}`,
      title: step.title,
      why: step.why,
      do: call(step.activity, {
        ...place,
        recipients: given(system.backup.recipients, 'backup.recipients'),
        ...step.with,
      }),
      undo: call('discardArtifact', place),
      attempts: 2,
      runAgainIfLost: true,
    },
  };
}

function notesOf(input: BackupInput, system: System): string[] {
  const open = Object.keys(system.backup.files).length;
  const bao = Object.values(system.services).some(
    (service) => service.kind === 'container' && service.container === 'openbao',
  );
  return [
    ...(input.only === 'configuration' ? ['Only the configuration: no database is in this set.'] : []),
    ...(open > 0 ? [`Not in this set: ${Object.keys(system.backup.files).join(', ')} (file trees).`] : []),
    ...(bao ? ['Not in this set: OpenBao.'] : []),
  ];
}

function savedHosts(system: System): string[] {
  return [
    ...new Set(
      [...Object.values(system.databases), ...Object.values(system.backup.configuration)].flatMap(({ on }) =>
        hostsOf(system, on),
      ),
    ),
  ];
}

const pointOf = (moment: PlanningMoment): string => recoveryPointId(new Date(moment.now), moment.runId);
const megabytes = (bytes: number): string => `${Math.max(1, Math.round(bytes / 1e6))} MB`;
