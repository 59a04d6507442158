import type { Observation } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import { PLAN_FORMAT, type Lane, type Plan, type Stage, type Step } from '../contracts/plan.js';
import type { Planner, Sources } from '../contracts/planning.js';
import { listed, sameSetting } from '../contracts/postgresql-setting.js';
import { ruleText, type Program, type ProvisionFile } from '../contracts/provision.js';
import type { Probe } from '../contracts/probe.js';
import type { ProvisionHostInput } from '../contracts/provision-host.js';
import { DOCKER_BLOCK, type SeenCluster, type SeenHost } from '../contracts/provision-observation.js';
import type { System } from '../contracts/system.js';
import { probeNeeds, probesAbout } from '../contracts/system-probes.js';
import { given } from '../contracts/unset.js';
import { isUnitActive } from '../contracts/units.js';
import { call, idPart } from '../steps/call.js';
import { block, directory, file, noFile, symlink, textDiff } from '../steps/file.js';
import { asBefore, stillWorks } from '../steps/health.js';
import { applied, unit } from '../steps/service.js';
import { publishedPortRules, rulesFor } from './firewall.js';
import { haproxyConfiguration } from './haproxy.js';
import {
  clusterArgument,
  deploymentsOn,
  hbaPath,
  isProvisioned,
  partOf,
  question,
  secretFileArgument,
  settingsPath,
  SSHD_DROP_IN,
  type HostPart,
} from './observation.js';
import { settingChanges, settingsFor, withKept } from './postgresql-settings.js';
import { fill } from './template.js';

/** A download of all packages over a slow line. Seconds. */
const PACKAGE_SECONDS = 1800;
/** How long a service is away while it is restarted. Seconds. */
const RESTART_SECONDS = 10;
/** How long the services of a compose project are away while they are made anew: Docker gives each 10 s to end, and they start together. Seconds. */
const RECREATE_SECONDS = 20;
/** Probes that see the whole way that a request takes; the others are for the look at the end. */
const TELLING: readonly string[] = ['http', 'openbao', 'postgresql'];

/** One host, as it is and as the inventory wants it. */
interface Work {
  system: System;
  part: HostPart;
  now: SeenHost;
  sources: Sources;
  /** What the operator has to know besides the steps; filled while planning. */
  notes: string[];
  downtime: Plan['downtime'];
}

export const provisionHostPlanner: Planner<ProvisionHostInput> = {
  needs(input, system) {
    return [...chosen(input, system).map(({ host }) => `hosts.${host}.connection`), ...probeNeeds];
  },

  sources(input, system) {
    return chosen(input, system)
      .flatMap(({ secretFiles, programs }) => [
        ...secretFiles.map(([, { source }]) => source),
        ...programs.flatMap(([, { files }]) => files.flatMap(({ source, until }) => [source, until])),
      ])
      .filter((name) => name !== undefined);
  },

  observe(input, system, _, sources = {}) {
    return chosen(input, system).map((part) => question(system, part, sources));
  },

  plan(input, system, observation, _, sources = {}) {
    const works = chosen(input, system).map((part): Work => ({
      system,
      part,
      now: observation[`host ${part.host}`] as SeenHost,
      sources,
      notes: [],
      downtime: [],
    }));
    const programs = Object.entries(system.provision?.programs ?? {});
    for (const work of works) refuseWhatIsNotAdopted(work);
    const probes = probesAbout(system, { services: Object.keys(system.services) });
    const seen = (name: string, steps: Step[]): Step[] => withALook(system, probes, name, steps);
    const stages = [
      stage('packages', works, packages, { atOnce: works.length }),
      stage('firewall', works, (work) => seen('firewall', firewall(work))),
      stage('users and directories', works, usersAndDirectories),
      stage('files with secrets', works, secretFiles),
      stage('PostgreSQL', works, (work) => seen('postgresql', postgresql(work))),
      ...programs.map(([name, { title }]) => stage(title, works, (work) => seen(name, program(work, name)))),
      stage('sshd', works, sshd),
    ].flat();
    // What people use is to work as before; on a bare host nothing does yet, and nothing is waited for.
    const health = asBefore(system, stages.length === 0 ? [] : probes);
    return {
      format: PLAN_FORMAT,
      runbook: 'provision-host',
      system: system.system,
      stages: [...health.before, ...distinct(stages), ...health.after],
      downtime: works.flatMap(({ downtime }) => downtime),
      notes: [...new Set(works.flatMap(({ notes }) => notes))],
    };
  },

  // By part, so that a change says where it is.
  facets(observation: Observation) {
    return Object.fromEntries(
      Object.entries(observation as Record<string, SeenHost>).flatMap(([host, seen]) =>
        Object.entries(seen).map(([part, value]) => [`${host}: ${part}`, value as unknown]),
      ),
    );
  },
};

/** The hosts that the input asks for, with what the inventory says about each. Throws `InvalidInput` where it says nothing. */
function chosen(input: ProvisionHostInput, system: System): HostPart[] {
  const hosts = input.host === undefined ? Object.keys(system.hosts) : hostsOf(system, input.host);
  const parts = hosts.map((host) => partOf(system, host)).filter(isProvisioned);
  if (parts.length === 0)
    throw failure(
      'InvalidInput',
      `the inventory of ${system.system} does not say what ${input.host ?? 'its hosts'} should get`,
      { remedy: `Describe it under provision in infra/systems/${system.system}.yaml` },
    );
  return parts;
}

/** A plain directory where releases are linked to was made by hand: `adopt` keeps what is in it, and would find its place taken. */
function refuseWhatIsNotAdopted({ system, part, now }: Work): void {
  const byHand = deploymentsOn(system, part.host).filter(({ directory }) => now.files[directory]?.type === 'directory');
  if (byHand.length > 0)
    throw failure(
      'InvalidInput',
      `${part.host} was set up by hand: ${byHand.map(({ directory }) => directory).join(', ')} is a directory, not a link to a release`,
      { remedy: `Take it over first: guardia run adopt ${system.system}` },
    );
}

/** What can be felt from outside at once: changed rules, and what was restarted or reads its files again. */
const FELT = ['setFirewall', 'applyUnit', 'setUnit', 'startCompose', 'applySysctl'];

/** The steps on one host, and behind them a look whether what people use still works, before the next host gets the same. */
function withALook(system: System, probes: readonly Probe[], name: string, steps: Step[]): Step[] {
  const telling = probes.filter(({ kind }) => TELLING.includes(kind));
  if (telling.length === 0 || !steps.some(({ do: { activity } }) => FELT.includes(activity))) return steps;
  return [...steps, stillWorks(system, telling, { id: `still-${idPart(name)}`, consecutive: 1 })];
}

// The stages, in the order of the manual.

function packages({ part, now }: Work): Step[] {
  const missing = part.packages.filter((spec) => {
    const [name = '', version] = spec.split('=');
    return now.packages[name] === undefined || (version !== undefined && now.packages[name] !== version);
  });
  if (missing.length === 0) return [];
  return [
    {
      id: 'packages',
      title: `install ${missing.join(', ')}`,
      why: "from the host's own package sources, with what they need and nothing that they only recommend",
      do: call('installPackages', { packages: missing, timeoutSeconds: PACKAGE_SECONDS }),
      undo: call('removePackages', {}),
      attempts: 2,
      runAgainIfLost: true,
    },
  ];
}

function firewall({ system, part, now, notes }: Work): Step[] {
  if (!part.firewall) return [];
  const seen = now.firewall;
  const { rules, closed } = rulesFor(system, part.host, seen?.login);
  for (const flow of closed) notes.push(`${part.host}: closed, because its source is not filled in: ${flow}`);
  if (rules.length === 0)
    throw failure('InvalidInventory', `no flow of ${system.system} lets anything in to ${part.host}`, {
      remedy: 'Name the flows to it in the inventory; at least the way in of the operators',
    });
  const ports = part.firewall.docker ? { v4: publishedPortRules(rules, 4), v6: publishedPortRules(rules, 6) } : null;
  const before = [...(seen?.rules ?? [])].sort();
  const after = rules.map(ruleText).sort();
  const same =
    seen?.active === true &&
    seen.closed &&
    before.join('\n') === after.join('\n') &&
    seen.publishedPorts.v4 === (ports?.v4 ?? null) &&
    seen.publishedPorts.v6 === (ports?.v6 ?? null);
  if (same) return [];
  const text = (list: string[], published: string | null): string =>
    [...list, ...(published === null ? [] : [`# ${DOCKER_BLOCK.name}`, published])].map((line) => `${line}\n`).join('');
  return [
    {
      id: 'firewall',
      title: `let in ${rules.length} flow(s) and nothing else`,
      why: 'what the inventory names as flows, for published ports of containers as well; the host takes the change back by itself unless it is confirmed over a new connection',
      do: call('setFirewall', { rules, publishedPorts: ports }),
      undo: call('restoreFirewall', {}),
      diff: textDiff(
        'firewall',
        seen?.active === true ? text(before, seen.publishedPorts.v4) : '',
        text(after, ports?.v4 ?? null),
      ),
    },
  ];
}

function usersAndDirectories({ system, part, now }: Work): Step[] {
  const accounts = Object.entries(part.accounts).flatMap(([name, { home, shell, groups }]): Step[] => {
    const seen = now.accounts[name];
    if (seen && groups.every((group) => seen.groups.includes(group))) return [];
    return [
      {
        id: `account-${idPart(name)}`,
        title: seen ? `add ${name} to ${groups.join(', ')}` : `make the user ${name}`,
        why: `${system.title} runs as a user of its own, without a password`,
        do: call('makeAccount', { name, home, shell, groups }),
        undo: call('restoreAccount', { name }),
      },
    ];
  });
  const directories = part.directories.flatMap(({ path, mode, owner, group }) =>
    directory(now.files[path], { path, mode, owner, group, why: `${system.title} keeps its files there` }),
  );
  return [...accounts, ...directories];
}

/** Services are restarted by a deploy or by `restart-service`, never here: until then they run with what they have read. */
const readLater = ({ system, part }: Work, path: string): string =>
  `${part.host}: what runs keeps the old ${path} until it is restarted: guardia run restart-service ${system.system}`;

function secretFiles(work: Work): Step[] {
  const { system, part, now, sources, notes } = work;
  const projects = part.programs.flatMap(([name, { compose }]) => (compose ? [{ name, compose }] : []));
  const before = projects.flatMap(({ name, compose }) => (isNotedEarly(work, compose) ? [noted(name, compose)] : []));
  const steps = part.secretFiles.flatMap(([, one]): Step[] => {
    const argument = secretFileArgument(system, part.host, one, sources);
    const seen = now.secretFiles[one.path];
    if (seen?.same) return [];
    const made = seen?.made ?? [];
    // A line that stays or goes: the file is there already.
    const readNow = projects.some(({ compose }) => isBelow(one.path, compose));
    if (!readNow && /^(?: |-(?!--))/m.test(seen?.diff ?? '')) notes.push(readLater(work, one.path));
    return [
      {
        id: `secrets-${idPart(one.path)}`,
        title: `write ${one.path}${made.length > 0 ? `, with ${made.length} new secret(s)` : ''}`,
        why:
          made.length > 0
            ? `made on the worker: ${made.join(', ')}; what is there stays as it is`
            : 'secrets that are there stay as they are',
        do: call('writeSecretFile', argument),
        undo: call('restorePath', { path: one.path }),
        ...(seen?.diff === undefined ? {} : { diff: seen.diff }),
      },
    ];
  });
  return [...before, ...steps];
}

function postgresql({ system, part, now, notes, downtime }: Work): Step[] {
  const wanted = part.postgresql;
  const database = wanted && system.databases[wanted.database];
  if (!wanted || !database) return [];
  const cluster = clusterArgument(system, part.host, wanted);
  const version = given(database.version, 'version');
  const service = `postgresql@${version}-main.service`;
  const memory = wanted.memoryGiB === undefined ? now.memoryBytes : wanted.memoryGiB * 1024 ** 3;
  const clients = wanted.clients.flatMap((client) => clientAddresses(system, client, part.host));
  const inForce = now.postgresql?.settings ?? {};
  const asked = {
    listen_addresses: clients.length > 0 ? "'*'" : "'localhost'",
    ...settingsFor(memory, wanted.maxConnections),
    ...wanted.settings,
  };
  const settings: Record<string, string> = withKept(asked, inForce);
  refuseOverrides(part.host, cluster.settingsFile, settings, now.postgresql);
  refuseOtherPassword(system, part.host, cluster, now.postgresql);
  const text = [
    '# Written by guardia: derived from the memory of the host and from the inventory.',
    ...Object.entries(settings).map(([name, value]) => `${name} = ${value}`),
    '',
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
  if (restart.length > 0 && now.postgresql?.running) downtime.push({ service: 'postgresql', seconds: RESTART_SECONDS });
  const hba = applied(
    { unit: service, how: 'reload', why: 'who may log in is read again', id: 'pg-hba' },
    block(now.files[hbaPath(system, wanted)], {
      path: hbaPath(system, wanted),
      name: 'clients',
      comment: '#',
      at: 'start',
      content: ['127.0.0.1/32', '::1/128', ...clients]
        .map((address) => `host ${cluster.database} ${cluster.role} ${address} scram-sha-256\n`)
        .join(''),
      why: 'the owner of the database logs in with a password, from the hosts that need it; the first line that fits counts',
    }),
  );
  const role: Step[] = ours
    ? []
    : [
        {
          id: 'database-role',
          title: made ? `give the role ${cluster.role} its password` : `make the role ${cluster.role}`,
          why: 'the owner of the tables; the server gets a SCRAM verifier, never the password',
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

/** Addresses in the form of pg_hba.conf: a host or a group of this system, or a network as it stands. */
function clientAddresses(system: System, client: string, self: string): string[] {
  if (!Object.hasOwn(system.hosts, client) && !Object.hasOwn(system.groups, client))
    return [client.includes('/') ? client : `${client}/${client.includes(':') ? 128 : 32}`];
  return hostsOf(system, client).flatMap((host) => {
    const connection = system.hosts[host]?.connection;
    if (host === self || connection === undefined || connection === 'local') return [];
    const address = given(connection.address, `hosts.${host}.connection.address`);
    return [`${address}/${address.includes(':') ? 128 : 32}`];
  });
}

/** One program: its directories and files, judged by itself before it reads them, and its unit. */
function program(work: Work, name: string): Step[] {
  const { part, now, notes, downtime } = work;
  const wanted = part.programs.find(([one]) => one === name)?.[1];
  if (!wanted) return [];
  const coming = wanted.packages.some((spec) => now.packages[spec.replace(/=.*/, '')] === undefined);
  const files = [
    ...wanted.directories.flatMap((one) => directory(now.files[one.path], { ...one, why: `${wanted.title} needs it` })),
    ...wanted.files.flatMap((one) => programFile(work, wanted, one)),
    ...wanted.links.flatMap((one) => symlink(now.files[one.path], { ...one, why: `${wanted.title} reads it there` })),
    // What a package brings can only be seen once it is installed.
    ...wanted.absent.flatMap((path) =>
      noFile(coming ? { type: 'file' } : now.files[path], { path, why: `it would stand against ${wanted.title}` }),
    ),
  ];
  const check: Step[] =
    wanted.check === undefined || files.length === 0
      ? []
      : [
          {
            id: `check-${idPart(name)}`,
            title: `have ${wanted.check} judge its configuration`,
            why: 'what is wrong is found before it is put to use',
            do: call('checkConfiguration', {
              kind: wanted.check,
              paths: judged(wanted),
            }),
            undo: { none: 'it only looks' },
          },
        ];
  // Machine-wide settings belong to the machine: inside a container there is only the file.
  if (wanted.check === 'sysctl' && check.length > 0 && !now.container) {
    const argument = { paths: judged(wanted) };
    check.push({
      id: `apply-${idPart(name)}`,
      title: `put the kernel settings of ${name} in force`,
      why: 'as the next boot will',
      do: call('applySysctl', argument),
      undo: call('restoreSysctl', argument),
    });
  }
  if (wanted.check === 'sysctl' && now.container)
    notes.push(
      `${part.host} is a container: the settings of ${name} are machine-wide and are written to their file only.`,
    );
  if (wanted.compose) return composed(work, name, wanted.title, wanted.compose, [...files, ...check]);
  const { unit: service } = wanted;
  if (service === undefined) {
    if (wanted.check === 'units')
      for (const { path } of wanted.files)
        if (now.files[path]?.type === 'file' && files.some(({ do: { with: argument } }) => argument['path'] === path))
          notes.push(readLater(work, path));
    return [...files, ...check];
  }
  const kept = wanted.start === 'never' || (wanted.start === 'outside-containers' && now.container);
  if (wanted.start === 'outside-containers' && now.container)
    notes.push(
      `${part.host} is a container, in which ${service} cannot run: its files are written, it is not started.`,
    );
  const running = isUnitActive(now.units[service]);
  const reread =
    files.length > 0 && wanted.apply !== 'reload' && running ? [{ service: name, seconds: RESTART_SECONDS }] : [];
  downtime.push(...reread);
  // A unit that does not run yet reads its files when it starts; one that its package starts reads them now.
  const changed = kept
    ? [...files, ...check]
    : applied(
        { unit: service, how: wanted.apply, why: `${wanted.title}: it reads its files again`, id: idPart(name) },
        [...files, ...check],
      );
  const started = kept
    ? []
    : unit(now.units[service], {
        unit: service,
        enabled: true,
        active: true,
        why: `${wanted.title} runs, and starts with the host`,
      });
  const jails: Step[] =
    wanted.check !== 'fail2ban' || [...changed, ...started].length === 0
      ? []
      : [
          {
            id: `jails-${idPart(name)}`,
            title: 'see that fail2ban guards sshd',
            why: 'proved by fail2ban itself',
            do: call('checkJails', { jails: ['sshd'] }),
            undo: { none: 'it only looks' },
          },
        ];
  return [...changed, ...started, ...jails];
}

type Compose = NonNullable<Program['compose']>;

/** A compose project: its files, then its start; nothing where both are as wanted. */
function composed(work: Work, name: string, title: string, project: Compose, files: Step[]): Step[] {
  const { now, downtime } = work;
  const seen = now.compose[project.project];
  const runs = seen !== undefined && seen.defined.length > 0 && seen.defined.every((one) => seen.running.includes(one));
  // Docker looks at its own file only: what else changed is read by containers that are made anew.
  const recreate = files.length > 0 || writesSecretsOf(work, project);
  if (!recreate && runs) return [];
  const again = recreate && seen !== undefined && seen.running.length > 0;
  if (again) downtime.push({ service: name, seconds: RECREATE_SECONDS });
  const id = idPart(name);
  return [
    ...(isNotedEarly(work, project) ? [] : [noted(name, project)]),
    ...files,
    {
      id: `check-${id}`,
      title: 'have docker compose judge its configuration',
      why: 'what is wrong is found before it is put to use',
      do: call('checkConfiguration', { kind: 'compose', paths: [`${project.directory}/${project.file}`] }),
      undo: { none: 'it only looks' },
    },
    {
      id: `start-${id}`,
      title: again ? `start ${project.project} anew, so that it reads its files` : `start ${project.project}`,
      why: `${title}: under its pinned project name, so that its volumes stay its own`,
      do: call('startCompose', { ...project, recreate, timeoutSeconds: PACKAGE_SECONDS }),
      undo: call('stopMadeCompose', project),
      attempts: 2,
      runAgainIfLost: true,
    },
  ];
}

function noted(name: string, project: Compose): Step {
  return {
    id: `note-${idPart(name)}`,
    title: `note what of ${project.project} runs`,
    why: 'if this run is undone, it is started again with its old files once they are back',
    do: call('noteCompose', project),
    undo: call('reapplyCompose', project),
  };
}

/** What a compose project reads is below its directory. */
const isBelow = (path: string, { directory }: Compose): boolean => path.startsWith(`${directory}/`);

/** Whether this run writes files with secrets that the project reads. */
function writesSecretsOf({ part, now }: Work, project: Compose): boolean {
  return part.secretFiles.some(([, { path }]) => isBelow(path, project) && !now.secretFiles[path]?.same);
}

/** What runs is noted before its files with secrets are written: on the way back it is started again after these are back, too. */
function isNotedEarly(work: Work, project: Compose): boolean {
  return writesSecretsOf(work, project) && (work.now.compose[project.project]?.running.length ?? 0) > 0;
}

/** What a check is told: of a compose project the file that names all others. */
function judged({ check, files }: Program): string[] {
  if (check === 'compose') return files.map(({ path }) => path).filter((path) => /compose\.ya?ml$/.test(path));
  return check === 'units' || check === 'sysctl' || check === 'logrotate' ? files.map(({ path }) => path) : [];
}

function programFile(work: Work, wanted: Program, one: ProvisionFile): Step[] {
  const { system, part, now, notes, sources } = work;
  const missing = one.needs
    .map((path) => fill(path, system, part.host, one.path))
    .filter((path) => (now.files[path]?.type ?? 'absent') === 'absent');
  const why = wanted.title;
  const { path, mode, owner, group } = one;
  const place = { path, mode, owner, group, why };
  const source = missing.length > 0 ? one.until : one.source;
  if (missing.length > 0 && servesTls(now.files[path]?.text)) {
    notes.push(
      `${part.host}: ${path} serves TLS and stays as it is, because ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not there. Issue it under this name, then run this again.`,
    );
    return [];
  }
  if (one.generate === 'haproxy')
    return file(now.files[path], { ...place, content: haproxyConfiguration(system, wanted.on, missing.length === 0) });
  if (missing.length > 0)
    notes.push(
      `${part.host}: ${path} is ${source === undefined ? 'not written' : 'written in its first form'} until ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} there.`,
    );
  if (source === undefined) return [];
  const content = fill(sources[source] ?? '', system, part.host, source, { login: now.firewall?.login?.from });
  const kept = one.keepsOthers === undefined ? content : withOtherKeys(part.host, path, now.files[path]?.text, content);
  return file(now.files[path], { ...place, content: kept });
}

/** A site or a front end that listens on 443: in the words of nginx or of HAProxy. */
const servesTls = (text: string | undefined): boolean => /^\s*(?:listen|bind)\s[^\n]*\b443\b/m.test(text ?? '');

/**
 * Docker's setting for what containers call host-gateway. Said in words, because Docker 20.10 that is restarted beside running containers gives new
 * ones an address "<nil>" for it (measured, 20.10.24).
 */
const GATEWAY = 'host-gateway-ip';

/** The address of docker0, where the file says something about it. Throws `HostUnusable` where it cannot be told. */
function gatewayOf(host: string, path: string, there: Record<string, unknown>): string | undefined {
  const { [GATEWAY]: said, bip } = there;
  if (typeof said === 'string') return said;
  if (typeof bip === 'string') return bip.replace(/\/.*/, '');
  if (there['default-address-pools'] === undefined) return undefined;
  throw failure(
    'HostUnusable',
    `${path} on ${host} has address pools of its own, and does not say which address docker0 has`,
    {
      host,
      remedy: `Add "${GATEWAY}" to it, with the address that \`ip -4 addr show docker0\` tells`,
    },
  );
}

/** The content, with the keys that only the file of the host has. Throws `HostUnusable` where that is no JSON object. */
function withOtherKeys(host: string, path: string, text: string | undefined, content: string): string {
  const wanted = JSON.parse(content) as Record<string, unknown>;
  let now: unknown = {};
  try {
    if (text !== undefined && text.trim() !== '') now = JSON.parse(text);
  } catch {
    now = undefined;
  }
  if (typeof now !== 'object' || now === null || Array.isArray(now))
    throw failure('HostUnusable', `${path} on ${host} is not a JSON object`, {
      host,
      remedy: 'Correct it, or remove it',
    });
  const there = now as Record<string, unknown>;
  const others = Object.entries(there).filter(([key]) => !Object.hasOwn(wanted, key));
  const gateway = Object.hasOwn(wanted, GATEWAY) ? gatewayOf(host, path, there) : undefined;
  if (others.length === 0 && (gateway === undefined || gateway === wanted[GATEWAY])) return content;
  const whole = { ...Object.fromEntries(others), ...wanted, ...(gateway === undefined ? {} : { [GATEWAY]: gateway }) };
  return `${JSON.stringify(whole, null, 2)}\n`;
}

function sshd({ system, part, now }: Work): Step[] {
  if (!part.sshd) return [];
  const { options } = part.sshd;
  const content = [
    '# Written by guardia.',
    ...Object.entries(options).map(([keyword, value]) => `${keyword} ${value}`),
    '',
  ].join('\n');
  const seen = now.files[SSHD_DROP_IN];
  if (seen?.type === 'file' && seen.text === content) return [];
  const jump = Object.values(system.hosts).some(
    ({ connection }) => connection !== 'local' && connection.jump === part.host,
  );
  return [
    {
      id: 'sshd',
      title: `harden sshd: ${Object.keys(options).join(', ')}`,
      why: 'refused where it would cut off the login in use; the host takes it back by itself unless it is confirmed over a new connection',
      do: call('setSshd', { path: SSHD_DROP_IN, options, jump }),
      undo: call('restoreSshd', { path: SSHD_DROP_IN }),
      diff: textDiff(SSHD_DROP_IN, seen?.text ?? '', content),
    },
  ];
}

// From steps to stages.

/** A stage with a lane for each host that has something to do in it; one host after the other where nothing else is said. */
function stage(title: string, works: Work[], steps: (work: Work) => Step[], { atOnce = 1 } = {}): Stage[] {
  const lanes: Lane[] = works
    .map((work) => ({ on: work.part.host, steps: steps(work) }))
    .filter((lane) => lane.steps.length > 0);
  return lanes.length === 0 ? [] : [{ title, atOnce: Math.min(atOnce, lanes.length), errorBudget: 0, lanes }];
}

/** Step ids are unique in a plan: with several hosts, each carries the name of its own. At most 60 characters. */
function distinct(stages: Stage[]): Stage[] {
  const hosts = new Set(stages.flatMap(({ lanes }) => lanes.map(({ on }) => on)));
  const taken = new Set<string>();
  const id = (on: string, plain: string): string => {
    const whole = hosts.size > 1 ? `${on}-${plain}` : plain;
    for (let n = 1; ; n++) {
      const tail = n === 1 ? '' : `-${n}`;
      const candidate = `${whole.slice(0, 60 - tail.length)}${tail}`;
      if (taken.has(candidate)) continue;
      taken.add(candidate);
      return candidate;
    }
  };
  return stages.map((one) => ({
    ...one,
    lanes: one.lanes.map(({ on, steps }) => ({ on, steps: steps.map((step) => ({ ...step, id: id(on, step.id) })) })),
  }));
}
