import { z } from 'zod';
import { AccountName, FileMode } from './files.js';
import { AbsolutePath, Name } from './names.js';
import { UnitName } from './units.js';
import { settable } from './unset.js';

const On = Name.describe('Host of this system, or a group of its hosts');
const Places = z.union([On, z.array(On).min(1)]).describe('Host or group of this system, or several of them');
const Source = z
  .string()
  .regex(
    /^(?!\/)(?!.*(?:^|\/)\.\.?(?:\/|$))[A-Za-z0-9_./-]+$/,
    'a path below the directory of the inventory, without ..',
  )
  .describe('File beside the inventory, relative to its directory; {{dotted.path}} in it is filled from the system');
const owned = {
  mode: FileMode,
  owner: AccountName.default('root').describe('Owner'),
  group: AccountName.default('root').describe('Group'),
};

const PACKAGE = '[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9.+:~-]+)?';
/** A Debian package, by name, or `name=version` where the version matters; or several, any of which will do, in the order of preference. */
export const PackageSpec = z
  .string()
  .regex(
    new RegExp(`^${PACKAGE}(?: \\| ${PACKAGE})*$`),
    'a Debian package, "nginx" or "nginx=1.22.1-9", or alternatives, "docker-ce | docker.io"',
  );

/** The alternatives of a package, each with the version that it must have, if any. */
export function alternativesOf(spec: string): { name: string; version?: string }[] {
  return spec.split(' | ').map((one) => {
    const [name = '', version] = one.split('=');
    return version === undefined ? { name } : { name, version };
  });
}

/** Whether any alternative of a package is among the installed versions, by name. */
export function isInstalled(spec: string, versions: Readonly<Record<string, string>>): boolean {
  return alternativesOf(spec).some(({ name, version }) =>
    version === undefined ? versions[name] !== undefined : versions[name] === version,
  );
}

export const ProvisionAccount = z.strictObject({
  on: On,
  home: AbsolutePath.describe('Home directory, made with the user'),
  shell: AbsolutePath.default('/usr/sbin/nologin').describe('Login shell'),
  groups: z.array(AccountName).default([]).describe('Further groups; others that the user is in stay'),
});
export type ProvisionAccount = z.infer<typeof ProvisionAccount>;

export const ProvisionDirectory = z.strictObject({ path: AbsolutePath.describe('The directory'), ...owned });
export type ProvisionDirectory = z.infer<typeof ProvisionDirectory>;

export const ProvisionFile = z.strictObject({
  path: AbsolutePath.describe('The file'),
  ...owned,
  mode: FileMode.default('0644'),
  source: Source.optional(),
  generate: z
    .enum(['haproxy', 'postgresql'])
    .optional()
    .describe('Instead of a source: made from the groups and flows of the system, or from the memory of the host'),
  needs: z
    .array(z.string())
    .default([])
    .describe('Files that must be on the host, such as certificates; until then `until` is written instead'),
  until: Source.optional().describe(
    'Source that is written while one of `needs` is missing; without it, nothing is. It never takes the place of a file that serves TLS already',
  ),
  keepsOthers: z
    .literal('json')
    .optional()
    .describe('The keys of the JSON object that is there and that the source does not have stay as they are'),
});
export type ProvisionFile = z.infer<typeof ProvisionFile>;

/** How a configuration is judged by the program that reads it. */
export const ConfigurationCheck = z.enum([
  'nginx',
  'haproxy',
  'fail2ban',
  'logrotate',
  'docker',
  'compose',
  'units',
  'sysctl',
  'audit',
  'limits',
]);
export type ConfigurationCheck = z.infer<typeof ConfigurationCheck>;

export const Program = z.strictObject({
  title: z.string().min(1).describe('What the operator reads as the name of the stage'),
  on: Places,
  packages: z
    .array(PackageSpec)
    .default([])
    .describe(
      'Debian packages; of alternatives (`a | b`) any that is installed will do, else the first that apt can install is',
    ),
  directories: z.array(ProvisionDirectory).default([]).describe('Directories, parents first'),
  files: z.array(ProvisionFile).default([]).describe('Configuration files, without secrets'),
  links: z
    .array(
      z.strictObject({
        path: AbsolutePath.describe('The link'),
        target: z.string().min(1).describe('What it points to'),
      }),
    )
    .default([])
    .describe('Symbolic links'),
  absent: z.array(AbsolutePath).default([]).describe('Files and links that must not be there'),
  check: ConfigurationCheck.optional().describe('What judges the files before they are put to use'),
  compose: z
    .strictObject({
      project: z
        .string()
        .regex(/^[a-z0-9][a-z0-9_-]*$/, 'a compose project name')
        .describe('Its pinned name'),
      directory: AbsolutePath.describe('Directory that holds the compose file'),
      file: z.string().min(1).default('docker-compose.yml').describe('Compose file, relative to the directory'),
    })
    .optional()
    .describe('Compose project that the files belong to; it is started, and again when they change'),
  unit: UnitName.optional().describe('Unit that reads the files'),
  apply: z
    .enum(['restart', 'reload', 'reload-then-restart'])
    .default('reload')
    .describe(
      'How the unit reads changed files; a restart is planned as downtime. `reload-then-restart`: how it stops is one of the settings and has to be in force before, as with Docker, whose `live-restore` lets the containers live on; undone by a reload',
    ),
  start: z
    .enum(['always', 'outside-containers', 'never'])
    .default('always')
    .describe('Whether the unit is enabled and started; `outside-containers`: what only the machine itself can run'),
});
export type Program = z.infer<typeof Program>;

export const SecretFile = z.strictObject({
  on: On,
  path: AbsolutePath.describe('The file'),
  ...owned,
  mode: FileMode.default('0600'),
  elsewhere: z
    .array(AbsolutePath)
    .default([])
    .describe('Environment files of an earlier set-up, whose values count where the file itself has none'),
  without: z
    .array(z.string())
    .default([])
    .describe('Keys that are taken out; other keys that the template does not have are kept below it'),
  source: Source.describe('Template with {{secret:NAME}} or {{secret:NAME|url}} where a secret of this system goes'),
});
export type SecretFile = z.infer<typeof SecretFile>;

export const Provision = z.strictObject({
  values: z
    .record(Name, settable(z.string()))
    .default({})
    .describe('Texts for {{provision.values.NAME}} in the files: no secrets'),
  packages: z
    .record(
      Name,
      z.strictObject({
        on: Places,
        install: z.array(PackageSpec).min(1).describe('Debian packages, with alternatives as under `programs`'),
      }),
    )
    .default({})
    .describe('Packages that belong to no program below'),
  firewall: z
    .strictObject({
      on: Places,
      docker: z
        .boolean()
        .default(true)
        .describe('Whether published ports of containers, which UFW does not see, are held to the flows as well'),
    })
    .optional()
    .describe("UFW with the system's flows and nothing else; the worker's own way in is always kept"),
  accounts: z.record(AccountName, ProvisionAccount).default({}).describe('System users, by login name'),
  directories: z
    .array(ProvisionDirectory.extend({ on: Places }))
    .default([])
    .describe('Directories that belong to no program, parents first'),
  postgresql: z
    .strictObject({
      database: Name.describe('Database of this system: its server, name and owner'),
      memoryGiB: z
        .number()
        .positive()
        .optional()
        .describe('Memory that the settings are derived from; default: what the host has'),
      maxConnections: z.int().min(10).max(5000).describe('max_connections'),
      settings: z
        .record(z.string().regex(/^[a-z_.]+$/), z.string())
        .default({})
        .describe('Further settings, as written in postgresql.conf'),
      password: Name.describe('Secret of this system: the password of the owner'),
      clients: z
        .array(z.string().min(1))
        .default([])
        .describe('Hosts or groups that may log in as the owner over the network; the host itself always may'),
    })
    .optional()
    .describe('PostgreSQL from Debian: settings derived from memory, owner, database, pg_hba as a managed block'),
  secretFiles: z
    .record(Name, SecretFile)
    .default({})
    .describe('Files with secrets: composed on the worker, never part of a plan'),
  programs: z.record(Name, Program).default({}).describe('What is installed and configured, in this order'),
  sshd: z
    .strictObject({
      on: Places,
      options: z
        .record(
          z.string().regex(/^[A-Za-z0-9]+$/, 'a keyword of sshd_config'),
          z.string().regex(/^[^\n\0]+$/, 'one line'),
        )
        .describe('Keywords of sshd_config and their values'),
    })
    .optional()
    .describe('Hardening of sshd by a drop-in file, judged by `sshd -T` and confirmed over a new connection'),
});
export type Provision = z.infer<typeof Provision>;

/** A rule of the firewall: who may open a connection to a port. */
export const FirewallRule = z.strictObject({
  port: z.int().min(1).max(65535),
  protocol: z.enum(['tcp', 'udp']),
  from: z.string().min(1).describe('`any`, an address or a network, as ufw spells them'),
  comment: z.string().regex(/^[^'"\\\n]*$/),
});
export type FirewallRule = z.infer<typeof FirewallRule>;

/** The rule in the words of `ufw show added`: that is how rules are compared. */
export function ruleText({ port, protocol, from, comment }: FirewallRule): string {
  const what =
    from === 'any' ? `allow ${port}/${protocol}` : `allow from ${from} to any port ${port} proto ${protocol}`;
  return comment === '' ? what : `${what} comment '${comment}'`;
}
