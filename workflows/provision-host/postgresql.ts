import { failure } from '../contracts/errors.js';
import type { Step } from '../contracts/plan.js';
import { listed, sameSetting } from '../contracts/postgresql-setting.js';
import type { SeenCluster } from '../contracts/provision-observation.js';
import type { System } from '../contracts/system.js';
import { given } from '../contracts/unset.js';
import { call } from '../steps/call.js';
import { block, file } from '../steps/file.js';
import { applied } from '../steps/units.js';
import { awayWithDatabase } from './downtime.js';
import { clusterArgument, hbaPath, settingsPath } from './observation.js';
import { clientsOf, HBA_BLOCK, hbaLines } from './pg-hba.js';
import { settingChanges, settingLines, settingsFor, withKept } from './postgresql-settings.js';
import { RESTART_SECONDS, type Work } from './work.js';

/** PostgreSQL: its settings, who may log in, the role of the application and its database. */
export function postgresql({ system, part, now, notes, downtime }: Work): Step[] {
  const wanted = part.postgresql;
  const database = wanted && system.databases[wanted.database];
  if (!wanted || !database) return [];
  const cluster = clusterArgument(system, part.host, wanted);
  const version = given(database.version, 'version');
  const service = `postgresql@${version}-main.service`;
  const memory = wanted.memoryGiB === undefined ? now.memoryBytes : wanted.memoryGiB * 1024 ** 3;
  const inForce = now.postgresql?.settings ?? {};
  const asked = {
    listen_addresses: clientsOf(system, part.host, wanted).length > 0 ? "'*'" : "'localhost'",
    ...settingsFor(memory, wanted.maxConnections),
    ...wanted.settings,
  };
  const settings: Record<string, string> = withKept(asked, inForce);
  refuseOverrides(part.host, cluster.settingsFile, settings, now.postgresql);
  refuseOtherPassword(system, part.host, cluster, now.postgresql);
  const text = [
    '# Written by guardia: derived from the memory of the host and from the inventory.',
    settingLines(settings),
  ].join('\n');
  const tuned = file(now.files[settingsPath(system, wanted)], {
    path: settingsPath(system, wanted),
    content: text,
    mode: '0644',
    owner: 'postgres',
    group: 'postgres',
    why: '25 % of memory for shared buffers, 75 % for the cache, as the manual derives them',
  }).map((step) => {
    notes.push(...settingNotes(part.host, asked, settings, inForce));
    const changes = settingChanges(settings, inForce, cluster.settingsFile);
    const head = changes.map((change) => `# ${change}\n`).join('');
    return head === '' ? step : { ...step, diff: `# On the server:\n${head}${step.diff ?? ''}` };
  });
  const made = now.postgresql?.roles.includes(cluster.role) === true;
  const ours = made && now.postgresql?.ownerPassword === 'ours';
  const waiting =
    now.postgresql?.running === false ||
    (now.postgresql?.pendingRestart.length ?? 0) > 0 ||
    (ours && now.postgresql?.passwordWorks === false);
  const restart: Step[] = applied(
    { unit: service, how: 'restart', why: 'shared buffers, connections and addresses are read at the start only' },
    tuned,
  );
  if (restart.length > 0 && now.postgresql?.running)
    downtime.push(...awayWithDatabase(system, part.host, wanted.database, RESTART_SECONDS));
  const hba = applied(
    { unit: service, how: 'reload', why: 'who may log in is read again', id: 'pg-hba' },
    block(now.files[hbaPath(system, wanted)], {
      path: hbaPath(system, wanted),
      ...HBA_BLOCK,
      content: hbaLines(system, part.host, wanted),
      why: 'the owner of the database logs in with a password, from the hosts that need it; the first line that fits counts',
    }),
  );
  const role: Step[] = ours
    ? []
    : [
        {
          id: 'database-role',
          title: made ? `give the role ${cluster.role} its password` : `make the role ${cluster.role}`,
          why: `the owner of the tables; the server gets a SCRAM verifier, never the password${now.postgresql?.ownerPassword === 'ours, as MD5' ? '; it has the same one as MD5, with which nobody can log in by SCRAM' : ''}`,
          do: call('makeRole', cluster),
          undo: call('restoreRole', cluster),
        },
      ];
  const own: Step[] = now.postgresql?.databases[cluster.database]
    ? []
    : [
        {
          id: 'database',
          title: `make the database ${cluster.database}`,
          why: `owned by ${cluster.role}`,
          do: call('makeDatabase', cluster),
          undo: call('dropMadeDatabase', cluster),
        },
      ];
  const steps = [...restart, ...role, ...own, ...hba];
  if (steps.length === 0 && !waiting) return [];
  return [
    ...steps,
    {
      id: 'check-postgresql',
      title: 'see that PostgreSQL runs with these settings and lets the owner in',
      why: 'a setting that another file overrides, or that waits for a restart, is no setting',
      do: call('checkCluster', cluster),
      undo: { none: 'it only looks' },
    },
  ];
}

/** What of the settings is not as the inventory says, or takes something away. Pure. */
function settingNotes(
  host: string,
  asked: Record<string, string>,
  settings: Record<string, string>,
  inForce: SeenCluster['settings'],
): string[] {
  const named = listed(asked['shared_preload_libraries'] ?? '');
  const kept = listed(settings['shared_preload_libraries'] ?? '').filter((one) => !named.includes(one));
  const [now, then] = [inForce['max_connections']?.value, settings['max_connections']].map(Number);
  return [
    ...(kept.length > 0
      ? [`${host}: PostgreSQL goes on loading ${kept.join(', ')}, which the inventory does not name.`]
      : []),
    ...(settings['wal_level'] === asked['wal_level']
      ? []
      : [`${host}: wal_level stays ${settings['wal_level']}; the inventory says ${asked['wal_level']}.`]),
    ...(now !== undefined && then !== undefined && now > then
      ? [`${host}: max_connections is lowered from ${now} to ${then}: programs that hold more connections are refused.`]
      : []),
  ];
}

/** What the server reads after our file wins: the database would restart for nothing. Throws `HostUnusable` that names all of it. */
function refuseOverrides(
  host: string,
  settingsFile: string,
  settings: Record<string, string>,
  seen: SeenCluster | undefined,
): void {
  const wrong = (seen?.overrides ?? []).flatMap((one) => {
    const [wanted, now] = [settings[one.name], seen?.settings[one.name]];
    if (wanted === undefined || sameSetting(one.name, wanted, one.value, now ?? { type: 'string', unit: null }))
      return [];
    return [{ ...one, wanted, byServer: one.file.endsWith('/postgresql.auto.conf') }];
  });
  if (wrong.length === 0) return;
  const remedies = wrong.map(({ name, file, line, byServer }) =>
    byServer ? `ALTER SYSTEM RESET ${name}` : `take line ${line} out of ${file}`,
  );
  throw failure(
    'HostUnusable',
    `PostgreSQL on ${host} reads after ${settingsFile}, so that it would win: ${wrong
      .map(({ name, value, file, wanted }) => `${name} = ${value} in ${file} (wanted: ${wanted})`)
      .join('; ')}`,
    { host, remedy: `Either ${remedies.join('; ')}, or write the value under provision.postgresql of the inventory` },
  );
}

/** Another password would lock out what runs with the one that the role has, at its next connection. Throws `HostUnusable`. */
function refuseOtherPassword(
  system: System,
  host: string,
  { role, password }: ReturnType<typeof clusterArgument>,
  seen: SeenCluster | undefined,
): void {
  if (!seen?.roles.includes(role) || seen.ownerPassword !== 'other') return;
  const { consumers = [], from } = system.secrets[password.name] ?? {};
  const users = [...new Set(consumers.flatMap((one) => (one.kind === 'env-file' ? (one.restarts ?? []) : [])))];
  const places = password.on.filter(({ older }) => !older).map(({ file, key }) => `${key} of ${file}`);
  throw failure(
    'HostUnusable',
    `the role ${role} on ${host} has another password than ${password.name} of the inventory, and ${users.length > 0 ? users.join(', ') : 'what runs'} may log in with it`,
    {
      host,
      remedy: `Put the password that ${role} has into ${[...places, ...(from === undefined ? [] : [`what secrets.${password.name}.from refers to`])].join(', ')}, or give ${role} the one of the inventory by hand (ALTER ROLE ${role} PASSWORD) once everything that logs in as it can use it`,
    },
  );
}
