import type { ObservationCall } from '../contracts/calls.js';
import type { FileQuestion } from '../contracts/files.js';
import type { Deployment } from '../contracts/deployment.js';
import { hostsOf } from '../contracts/host-groups.js';
import type { Sources } from '../contracts/planning.js';
import type { Program, Provision, ProvisionFile, SecretFile } from '../contracts/provision.js';
import type { SecretSource } from '../contracts/secret-source.js';
import { SECRET_PLACE } from '../contracts/secret-source.js';
import type { System } from '../contracts/system.js';
import { given, isUnset } from '../contracts/unset.js';
import { call } from '../steps/call.js';
import { haproxyConfiguration } from './haproxy.js';
import { hbaLines } from './pg-hba.js';
import { settingLines, settingNames } from './postgresql-settings.js';
import { fill, needsMoment } from './template.js';

/** Where sshd's options of guardia stand. */
export const SSHD_DROP_IN = '/etc/ssh/sshd_config.d/10-guardia.conf';

/** The part of the inventory's section that concerns one host. */
export interface HostPart {
  host: string;
  packages: string[];
  firewall: { docker: boolean } | undefined;
  accounts: Provision['accounts'];
  directories: Provision['directories'];
  postgresql: Provision['postgresql'];
  secretFiles: [string, SecretFile][];
  programs: [string, Program][];
  sshd: Provision['sshd'];
}

export function partOf(system: System, host: string): HostPart {
  const provision = system.provision;
  const here = ({ on }: { on: string | readonly string[] }): boolean =>
    (typeof on === 'string' ? [on] : on).some((one) => hostsOf(system, one).includes(host));
  const some = <T extends { on: string | readonly string[] }>(all: Record<string, T>): [string, T][] =>
    Object.entries(all).filter(([, one]) => here(one));
  const programs = some(provision?.programs ?? {});
  const postgresql = provision?.postgresql;
  const database = postgresql && system.databases[postgresql.database];
  const cluster = database && here({ on: database.on }) ? postgresql : undefined;
  return {
    host,
    packages: [
      ...new Set([
        ...some(provision?.packages ?? {}).flatMap(([, { install }]) => install),
        ...(cluster ? [`postgresql-${given(database?.version ?? 0, 'databases.*.version')}`] : []),
        ...programs.flatMap(([, program]) => program.packages),
      ]),
    ],
    firewall: provision?.firewall && here(provision.firewall) ? { docker: provision.firewall.docker } : undefined,
    accounts: Object.fromEntries(some(provision?.accounts ?? {})),
    directories: (provision?.directories ?? []).filter(here),
    postgresql: cluster,
    secretFiles: some(provision?.secretFiles ?? {}),
    programs,
    sshd: provision?.sshd && here(provision.sshd) ? provision.sshd : undefined,
  };
}

/** Whether the inventory says anything about this host. */
export function isProvisioned(part: HostPart): boolean {
  const { packages, accounts, directories, secretFiles, programs, firewall, sshd } = part;
  return (
    packages.length + directories.length + secretFiles.length + programs.length > 0 ||
    Object.keys(accounts).length > 0 ||
    firewall !== undefined ||
    sshd !== undefined
  );
}

/** Everything about one host in one question. */
export function question(system: System, part: HostPart, sources: Sources): ObservationCall {
  const { host, packages, accounts, directories, programs, secretFiles } = part;
  const files: FileQuestion[] = [
    ...directories.map(({ path }) => asked(path)),
    ...(part.sshd ? [{ ...asked(SSHD_DROP_IN), text: true }] : []),
    ...(part.postgresql ? clusterQuestions(system, host, part.postgresql) : []),
    ...deploymentsOn(system, host).map(({ directory }) => asked(directory)),
    ...programs.flatMap(([, program]) => [
      ...program.directories.map(({ path }) => asked(path)),
      ...program.files.flatMap((file) => fileQuestions(system, host, program, file, sources)),
      ...program.links.map(({ path }) => asked(path)),
      ...program.absent.map((path) => ({
        ...asked(path),
        text: true,
        secret: true,
        known: program.files.flatMap((file) => textsOf(system, host, program, file, sources)),
      })),
    ]),
  ];
  return {
    as: `host ${host}`,
    title: `look at ${host}`,
    on: host,
    call: call('observeProvision', {
      packages,
      accounts: Object.keys(accounts),
      files: [...new Map(files.map((file) => [file.path, file])).values()],
      units: [...new Set(programs.flatMap(([, { unit }]) => (unit === undefined ? [] : [unit])))],
      firewall: part.firewall !== undefined || programs.some(([, program]) => usesLogin(program, sources)),
      ...(part.sshd ? { sshd: { path: SSHD_DROP_IN, options: part.sshd.options } } : {}),
      secretFiles: secretFiles.map(([, file]) => secretFileArgument(system, host, file, sources)),
      ...(part.postgresql
        ? {
            postgresql: {
              ...clusterArgument(system, host, part.postgresql),
              settings: settingNames(part.postgresql.settings),
            },
          }
        : {}),
      compose: programs.flatMap(([, { compose }]) => (compose === undefined ? [] : [compose])),
      kernel: programs.flatMap(([, program]) => Object.keys(kernelSettings(system, host, program, sources))),
    }),
  };
}

/** The settings of the kernel that a program's files hold, with blanks as one; none of one that holds others. */
export function kernelSettings(
  system: System,
  host: string,
  { check, files }: Program,
  sources: Sources,
): Record<string, string> {
  if (check !== 'sysctl') return {};
  return Object.fromEntries(
    files.flatMap(({ source }) =>
      (source === undefined ? '' : fill(sources[source] ?? '', system, host, source)).split('\n').flatMap((line) => {
        const [, key, value] = /^\s*-?([a-z0-9_./-]+)\s*=\s*(\S.*)$/.exec(line) ?? [];
        return key === undefined || value === undefined ? [] : [[key, value.trim().replaceAll(/\s+/g, ' ')]];
      }),
    ),
  );
}

/** What is deployed to this host. */
export const deploymentsOn = (system: System, host: string): Deployment[] =>
  Object.values(system.deployments).filter(({ on }) => hostsOf(system, on).includes(host));

const asked = (path: string): FileQuestion => ({ path, secret: false, text: false });

const usesLogin = (program: Program, sources: Sources): boolean =>
  program.files.some(({ source }) => source !== undefined && needsMoment(sources[source] ?? ''));

/** What a file may be written as: nothing of it is secret. */
function textsOf(
  system: System,
  host: string,
  program: Program,
  { source, until, generate, path }: ProvisionFile,
  sources: Sources,
): string[] {
  return [
    ...(generate === 'haproxy' ? [true, false].map((tls) => haproxyConfiguration(system, program.on, tls)) : []),
    ...[source, until].flatMap((name) => (name === undefined ? [] : [fill(sources[name] ?? '', system, host, path)])),
  ];
}

function fileQuestions(
  system: System,
  host: string,
  program: Program,
  file: ProvisionFile,
  sources: Sources,
): FileQuestion[] {
  const needs = file.needs.map((path) => asked(fill(path, system, host, file.path)));
  const template = file.source === undefined ? '' : (sources[file.source] ?? '');
  // What can only be made after a look is compared when planning; of everything else the text comes only where it differs.
  const later =
    file.generate !== undefined || file.needs.length > 0 || file.keepsOthers !== undefined || needsMoment(template);
  return [
    ...needs,
    // Somebody who set it up by hand may have written a password into a unit, a site or a compose file.
    file.keepsOthers !== undefined
      ? { ...asked(file.path), text: true }
      : later
        ? { ...asked(file.path), text: true, secret: true, known: textsOf(system, host, program, file, sources) }
        : { ...asked(file.path), secret: true, wanted: fill(template, system, host, file.source ?? file.path) },
  ];
}

export const hbaPath = (system: System, postgresql: NonNullable<Provision['postgresql']>): string =>
  `/etc/postgresql/${version(system, postgresql)}/main/pg_hba.conf`;
/** Sorts behind what else may be in the directory: the last one wins. */
export const settingsPath = (system: System, postgresql: NonNullable<Provision['postgresql']>): string =>
  `/etc/postgresql/${version(system, postgresql)}/main/conf.d/zz-guardia.conf`;
const version = (system: System, { database }: NonNullable<Provision['postgresql']>): number =>
  given(system.databases[database]?.version ?? 0, `databases.${database}.version`);

/** What guardia wrote itself is compared line by line: none of it is masked, whatever the names of databases, roles and settings. */
function clusterQuestions(
  system: System,
  host: string,
  postgresql: NonNullable<Provision['postgresql']>,
): FileQuestion[] {
  return [
    { ...asked(hbaPath(system, postgresql)), text: true, known: [hbaLines(system, host, postgresql)] },
    { ...asked(settingsPath(system, postgresql)), text: true, known: [settingLines(postgresql.settings)] },
  ];
}

export function clusterArgument(system: System, host: string, postgresql: NonNullable<Provision['postgresql']>) {
  const database = system.databases[postgresql.database];
  // Before the files with secrets are written, an earlier set-up may be the only one that knows what the role logs in with.
  const elsewhere = partOf(system, host).secretFiles.flatMap(([, file]) => file.elsewhere);
  return {
    version: version(system, postgresql),
    port: database?.port ?? 5432,
    settingsFile: settingsPath(system, postgresql),
    role: database?.owner ?? '',
    database: database?.name ?? '',
    password: secretSource(system, host, postgresql.password, [...new Set(elsewhere)]),
  };
}

export function secretFileArgument(system: System, host: string, file: SecretFile, sources: Sources) {
  const { path, mode, owner, group, source, without } = file;
  const template = fill(sources[source] ?? '', system, host, source);
  const names = [...new Set([...template.matchAll(SECRET_PLACE)].map(([, name = '']) => name))];
  return {
    path,
    mode,
    owner,
    group,
    template,
    without,
    secrets: names.map((name) => secretSource(system, host, name, file.elsewhere)),
  };
}

/** Where a secret is found on this host. It may be made here only if no other host needs the same value. */
export function secretSource(
  system: System,
  host: string,
  name: string,
  elsewhere: readonly string[] = [],
): SecretSource {
  const secret = system.secrets[name];
  const consumers = secret?.consumers ?? [];
  const on = consumers.flatMap((consumer) =>
    consumer.kind === 'env-file' && hostsOf(system, consumer.on).includes(host)
      ? [{ file: consumer.file, key: consumer.key, form: consumer.form, older: false }]
      : [],
  );
  const older = on.flatMap(({ key, form }) => elsewhere.map((file) => ({ file, key, form, older: true })));
  const places = consumers.flatMap((consumer) => {
    if (consumer.kind === 'postgresql-role') return hostsOf(system, system.databases[consumer.database]?.on ?? host);
    return consumer.kind === 'openbao' ? [] : hostsOf(system, consumer.on);
  });
  const from = secret?.from;
  return {
    name,
    kind: secret?.kind ?? 'issued',
    ...(secret?.length === undefined ? {} : { length: secret.length }),
    on: [...on, ...older],
    ...(from === undefined || isUnset(from) ? {} : { from }),
    make: secret !== undefined && secret.kind !== 'issued' && new Set(places).size <= 1,
    guarded: secret?.guarded ?? false,
    same: new Set(places).size > 1,
    later: secret?.later ?? false,
  };
}
