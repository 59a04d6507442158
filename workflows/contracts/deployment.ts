import { z } from 'zod';
import { Name } from './names.js';
import { SecretReference } from './secret-reference.js';
import { settable } from './unset.js';

const AbsolutePath = z.string().regex(/^\/[^\p{Cc}]*[^\p{Cc}/]$/u, 'an absolute path without a slash at its end');
const RelativePath = z
  .string()
  .regex(
    /^(?!\/)(?!(?:.*\/)?\.\.(?:\/|$))[^\p{Cc}]*[^\p{Cc}/]$/u,
    'a path below the release, without .. and without a slash at its end',
  );
const Seconds = z.int().min(1).max(86_400);
/** An activity that waits on a host ends within 10 minutes. */
const Waiting = z.int().min(1).max(500);
const Argv = z
  .array(z.string().regex(/^[^\0]*$/, 'no NUL'))
  .min(1)
  .describe('Program and arguments; no shell reads them');
const Variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'a variable name');

/** A command of the application, run as its user inside a release. */
export const ReleaseCommand = z.strictObject({
  run: Argv,
  in: RelativePath.optional().describe('Directory below the release that it runs in; default: the release itself'),
  timeoutSeconds: Seconds.default(900).describe('Seconds after which it is stopped and counts as failed'),
});
export type ReleaseCommand = z.infer<typeof ReleaseCommand>;

/** What a command finds in its environment beside HOME, USER, PATH and LANG. */
export const CommandEnvironment = z.strictObject({
  files: z
    .array(AbsolutePath)
    .default([])
    .describe('Environment files on the host (KEY=VALUE lines, as systemd reads them), later ones win'),
  values: z.record(Variable, z.string()).default({}).describe('Variables that are no secret'),
  secrets: z
    .record(Variable, SecretReference)
    .default({})
    .describe('Variables that are: the login of a role of its own, for example. They win over the files'),
});
export type CommandEnvironment = z.infer<typeof CommandEnvironment>;

export const ReleaseSource = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('git'),
      url: settable(
        z
          .string()
          .regex(/^(?:https?|ssh|git|file):\/\/[^\s\0]+$/, 'a URL that starts with https://, ssh:// or git://')
          .regex(
            /^(?!https?:\/\/[^/@]*@|[a-z]+:\/\/[^/@]*:[^/@]*@)/,
            'a URL without a token or password, which would stand in plans, histories and process lists: give the hosts a deploy key, or git a credential helper',
          ),
      ).describe('Repository, as the hosts reach it; they need read access of their own'),
      ref: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/, 'a branch, a tag or a commit')
        .default('main')
        .describe('Branch, tag or commit that is deployed when the run names none'),
    })
    .describe('A git repository that the hosts fetch from'),
  z
    .strictObject({
      kind: z.literal('archive'),
      prefix: z
        .string()
        .regex(/^(?:[a-z0-9][a-z0-9._-]*\/)*$/, 'names that each end in a slash')
        .default('releases/')
        .describe("Where the archives are, below the system's own prefix: PREFIX SHA256.tar.zst"),
    })
    .describe("Archives in the system's bucket, each named by its SHA-256; the run names the digest"),
]);
export type ReleaseSource = z.infer<typeof ReleaseSource>;

export const SharedPath = z.strictObject({
  path: RelativePath.describe('Path in the release, which becomes a link'),
  target: AbsolutePath.describe('Where the data is, outside every release'),
});
export type SharedPath = z.infer<typeof SharedPath>;

const migrationCommand = {
  database: Name.describe('Database of this system that is migrated'),
  up: ReleaseCommand.describe('Applies every migration that is not applied yet; each in a transaction of its own'),
  environment: CommandEnvironment.prefault({}).describe('Whose login it runs under: an own role is best'),
  applicationName: z
    .string()
    .regex(/^[^'\\\p{Cc}]{1,63}$/u, 'an application name of PostgreSQL')
    .optional()
    .describe(
      'application_name of the sessions of these commands, where they set one; guardia sets PGAPPNAME. No other session may have it: those of a command that was stopped are ended by it',
    ),
  applied: z
    .strictObject({
      table: z
        .string()
        .regex(/^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$/, 'schema.table')
        .describe('Table that lists the applied migrations'),
      name: z
        .string()
        .regex(/^[a-z_][a-z0-9_]*$/, 'a column name')
        .default('name')
        .describe('Column with the name of a migration; sorting by it is the order of application'),
    })
    .describe('Where the database itself says what is applied'),
  files: z
    .strictObject({
      directory: RelativePath.describe('Directory of the migrations, in the repository'),
      up: z
        .string()
        .regex(/^[A-Za-z0-9._-]+$/, 'the end of a file name')
        .describe('How the file of a migration ends: what comes before it is its name'),
      down: z
        .string()
        .regex(/^[A-Za-z0-9._-]+$/, 'the end of a file name')
        .describe('How the file that takes it back ends; without that file the migration is irreversible'),
    })
    .optional()
    .describe(
      'How the plan sees, before anything is fetched, which migrations a release brings and which of them can be taken back',
    ),
  atStake: z
    .array(
      z.strictObject({
        table: z
          .string()
          .regex(/^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$/, 'schema.table')
          .describe('Table'),
        createdAt: z
          .string()
          .regex(/^[a-z_][a-z0-9_]*$/, 'a column name')
          .describe('Column with the time at which a row was written'),
      }),
    )
    .default([])
    .describe(
      "Tables whose new rows are counted exactly when going back would lose them; what is updated or deleted there, and all of the other tables, by the server's counters",
    ),
};

export const Migrations = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }).describe('The application has no migrations'),
  z
    .strictObject({
      kind: z.literal('reversible'),
      ...migrationCommand,
      down: ReleaseCommand.describe(
        'Takes one migration back; in an argument {migration} stands for its name, {before} for the one that is the newest then, or `none`. Run once for each, newest first',
      ),
    })
    .describe('Migrations that can be taken back'),
  z
    .strictObject({ kind: z.literal('irreversible'), ...migrationCommand })
    .describe('Migrations that cannot: the deploy asks a person once one is applied and something fails'),
]);
export type Migrations = z.infer<typeof Migrations>;

/** One HTTP call of a smoke test. It runs on the host itself, so it needs no open port. */
export const SmokeCall = z.strictObject({
  title: z.string().min(1).describe('What it shows: "a user logs in"'),
  method: z.enum(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']).default('GET').describe('HTTP method'),
  url: z
    .string()
    .regex(/^https?:\/\/[^\s\0"\\]+$/, 'a URL')
    .describe('As the host itself reaches it; {NAME} stands for what an earlier call has kept'),
  headers: z
    .record(z.string().regex(/^[A-Za-z0-9-]+$/, 'a header name'), z.string())
    .default({})
    .describe('Headers; {NAME} as above'),
  json: z
    .record(
      z.string(),
      z.union([settable(z.string()), z.number(), z.boolean(), z.strictObject({ secret: settable(SecretReference) })]),
    )
    .optional()
    .describe('Body; { secret: REFERENCE } stands for a secret, {NAME} in a text as above'),
  status: z.int().min(100).max(599).default(200).describe('Status of a good answer'),
  expect: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe('Dotted path in the JSON of the answer, and its value'),
  keep: z
    .record(Variable, z.string())
    .default({})
    .describe('Dotted path in the JSON of the answer that later calls use under this name; it must be there'),
});
export type SmokeCall = z.infer<typeof SmokeCall>;

export const Balancer = z.strictObject({
  service: Name.describe('Service of this system that balances: HAProxy'),
  socket: AbsolutePath.default('/run/haproxy/admin.sock').describe('Its admin socket, level admin'),
  backends: z
    .array(
      z.strictObject({
        name: z
          .string()
          .regex(/^[A-Za-z0-9_.:-]+$/, 'a name of HAProxy')
          .describe('Backend'),
        servers: z
          .record(Name, z.string().regex(/^[A-Za-z0-9_.:-]+$/, 'a name of HAProxy'))
          .default({})
          .describe('Host and the name of its server in the backend; default: the name of the host'),
      }),
    )
    .min(1)
    .describe('Backends that the hosts of the deployment are servers of'),
  drainSeconds: Waiting.default(60).describe(
    'How long the requests in flight on a drained server may take, at most 500',
  ),
  readySeconds: Waiting.default(60).describe(
    "How long the balancer's own check may take to see a server again, at most 500",
  ),
});
export type Balancer = z.infer<typeof Balancer>;

/** How one application of a system gets from its source to its hosts. */
export const Deployment = z.strictObject({
  description: z.string().optional().describe('What is deployed'),
  on: Name.describe('Host or group of this system that runs the application'),
  directory: AbsolutePath.describe('Path that units name: a link to the current release, of this deployment alone'),
  releases: AbsolutePath.describe('Directory of the releases, which no other deployment of the host shares'),
  keep: z.int().min(2).max(100).default(5).describe('How many releases stay on a host'),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]*$/, 'a user of the host')
    .describe('Operating-system user that owns the releases and runs their commands'),
  source: ReleaseSource.describe('Where releases come from'),
  shared: z.array(SharedPath).default([]).describe('What outlives a release: environment file, uploads, logs'),
  build: z.array(ReleaseCommand).default([]).describe('Commands that make a release out of its source, in this order'),
  environment: CommandEnvironment.prefault({}).describe('What the build and the preflight find in their environment'),
  neededMegabytes: z
    .int()
    .min(1)
    .default(500)
    .describe(
      'Room that a release needs; less than that, or than the current release takes, is refused before anything starts',
    ),
  preflight: ReleaseCommand.optional().describe(
    'Run in the finished release on every host before anything is switched; changes nothing',
  ),
  migrations: Migrations.describe('What the release does to the database'),
  services: z.array(Name).min(1).describe('Services that run the release, in start order; they stop in reverse'),
  patienceSeconds: Seconds.default(60).describe(
    'How long a host may take after its start to pass the probes about its services that look from the host itself',
  ),
  downtimeSeconds: z
    .int()
    .min(0)
    .default(60)
    .describe('Downtime that a plan states for a host without a balancer, until runs have measured it'),
  smoke: z
    .record(Name, SmokeCall)
    .default({})
    .describe(
      'Calls that show on each host that the release works, in this order; behind a balancer before it gets requests',
    ),
  balancer: Balancer.optional().describe('What sends requests to the hosts; without one a deploy has a downtime'),
  rolling: z
    .strictObject({
      atOnce: z.int().min(1).default(1).describe('How many hosts are changed at the same time'),
      errorBudget: z.int().min(0).default(0).describe('How many hosts may fail before the deploy is undone'),
    })
    .prefault({})
    .describe('How the hosts are walked'),
  bake: z
    .strictObject({
      minutes: z.number().min(0).max(1440).default(10).describe('Minutes; 0 leaves it out'),
      tolerated: z.int().min(0).default(2).describe('How often in a row a probe may fail without ending the deploy'),
    })
    .prefault({})
    .describe('How long the new release is watched before the deploy counts as done'),
});
export type Deployment = z.infer<typeof Deployment>;
