import { z } from 'zod';
import { Adoption } from './adopt.js';
import { cronMistake } from './cron-expression.js';
import { ApprovalPolicy } from './gate.js';
import { Deployment } from './deployment.js';
import { AbsolutePath, HOST_NAME, Name, Port, SYSTEM_LANE, SystemName, WORKER_HOST } from './names.js';
import { Mail, NotificationTarget, Tier } from './notifications.js';
import { ProbeEntry } from './probe.js';
import { Provision } from './provision.js';
import { SecretReference } from './secret-reference.js';
import { systemMistakes } from './system-rules.js';
import { settable } from './unset.js';
import { Watching } from './watching.js';

const HostRef = Name.describe('Name of a host of this system');
const PlaceRef = Name.describe('Name of a host of this system, or of a group of its hosts');
const ServiceRef = Name.describe('Name of a service of this system');
const PUBLIC_KEY = /^(ssh-|ecdsa-)\S+ [A-Za-z0-9+/=]+$/;

export const SshConnection = z.strictObject({
  address: settable(z.string().regex(HOST_NAME, 'a host name or an IP address, without user and port')).describe(
    'Host name or IP address',
  ),
  port: Port.default(22).describe('TCP port of sshd'),
  user: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/, 'a login name')
    .describe('Login name'),
  identity: settable(SecretReference).describe('Private key that the worker logs in with'),
  hostKeys: settable(
    z.array(z.string().regex(PUBLIC_KEY, 'a public host key without name and comment: "ssh-ed25519 AAAA..."')).min(1),
  ).describe(
    'Public host keys that are accepted, as in known_hosts without the name: "ssh-ed25519 AAAA..."; any other key is refused',
  ),
  jump: HostRef.optional().describe('Host of this system that the connection goes through (as ProxyJump)'),
});
export type SshConnection = z.infer<typeof SshConnection>;

export const Host = z.strictObject({
  description: z.string().optional().describe('What the machine is for'),
  site: Name.default('main').describe('Where the host can be reached from: picks the task queue of the workers there'),
  connection: z
    .union([z.literal('local').describe('The machine that the worker runs on'), SshConnection])
    .describe('How the worker reaches the host: over SSH, or `local` for the machine that the worker runs on'),
  become: z.enum(['sudo', 'none']).default('sudo').describe('How to become root: `sudo -n`, or not at all'),
  stateDirectory: AbsolutePath.default('/var/lib/guardia').describe(
    'Directory on the host for jobs, journal and fence; mode 0700',
  ),
  smallest: z
    .strictObject({
      cpus: z.int().min(1).describe('Processor cores'),
      memoryGiB: z.number().positive().describe('Memory, GiB'),
      diskGiB: z.number().positive().describe('Disk, GiB'),
    })
    .optional()
    .describe('Smallest machine that the manual allows; what a replacement must have'),
});
export type Host = z.infer<typeof Host>;

const described = {
  on: PlaceRef,
  description: z.string().optional().describe('What the service does'),
  ports: z
    .array(Port)
    .default([])
    .describe(
      'TCP ports that it listens on or publishes; the health check sees that each is closed where no flow opens it',
    ),
  requires: z
    .array(ServiceRef)
    .default([])
    .describe('Services that it does not work without: a restart of one of them takes it along'),
};
export const Service = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('systemd'),
      ...described,
      unit: z
        .string()
        .regex(/^[A-Za-z0-9:_.@\\-]+\.(service|timer|socket)$/, 'a unit name that ends in .service, .timer or .socket')
        .describe('Unit name with its suffix'),
    })
    .describe('A systemd unit'),
  z
    .strictObject({
      kind: z.literal('compose'),
      ...described,
      project: z
        .string()
        .regex(/^[a-z0-9][a-z0-9_-]*$/, 'a compose project name: lower-case letters, digits, - and _')
        .describe('Compose project name, pinned: another name would create new, empty volumes'),
      directory: AbsolutePath.describe('Directory that holds the compose file'),
      file: z.string().min(1).default('docker-compose.yml').describe('Compose file, relative to the directory'),
      overrides: z
        .array(z.string().min(1))
        .default([])
        .describe('Further compose files laid over the first, in this order (-f ... -f ...)'),
      service: z.string().min(1).describe('Name of the service in the compose file'),
    })
    .describe('A service of a docker compose project'),
  z
    .strictObject({
      kind: z.literal('container'),
      ...described,
      container: z.string().min(1).describe('Container name'),
    })
    .describe('A container started by `docker run`, outside any compose project'),
]);
export type Service = z.infer<typeof Service>;

export const Database = z.strictObject({
  engine: z.literal('postgresql'),
  on: PlaceRef.describe('Host that the server runs on, or a group of this one host'),
  name: z.string().min(1).max(63).describe('Name of the database'),
  version: settable(z.int().min(10).max(99)).describe(
    "Major version of the server; the dump uses the server's own pg_dump",
  ),
  port: Port.default(5432).describe('TCP port of the server; picks the socket for `peer`'),
  service: ServiceRef.optional().describe('Service that serves it; of a server in a container the one of `access`'),
  owner: z.string().min(1).max(63).optional().describe('Role that owns the tables; a restore creates it first'),
  access: z
    .discriminatedUnion('kind', [
      z
        .strictObject({
          kind: z.literal('peer'),
          osUser: z.string().default('postgres').describe('Operating-system user'),
        })
        .describe('Unix socket, as this operating-system user'),
      z
        .strictObject({
          kind: z.literal('password'),
          address: z
            .string()
            .regex(HOST_NAME, 'a host name or an IP address')
            .default('127.0.0.1')
            .describe('As seen from the host'),
          user: z.string().min(1).describe('Role to log in as'),
          password: SecretReference,
        })
        .describe('TCP with a password'),
      z
        .strictObject({
          kind: z.literal('container'),
          service: ServiceRef.describe(
            'Compose service or container of this system, on the same host, that runs the server',
          ),
          user: z.string().min(1).describe('Role to log in as'),
        })
        .describe('Inside the container of the server'),
    ])
    .describe('How guardia logs in on the host'),
  expect: z
    .strictObject({
      tables: z
        .array(z.string().regex(/^[^.\s]+\.[^.\s]+$/, 'schema.table, for example public.users'))
        .default([])
        .describe('Tables, as schema.name, that every dump must hold; a dump without one is refused'),
      minimumBytes: z.int().nonnegative().default(0).describe('Smallest believable dump, in bytes before compression'),
    })
    .prefault({})
    .describe('What a believable dump holds'),
});
export type Database = z.infer<typeof Database>;

export const ConfigurationSet = z.strictObject({
  on: PlaceRef,
  paths: z.array(AbsolutePath).min(1).describe('Files, directories and shell patterns that must exist'),
  optional: z.array(AbsolutePath).default([]).describe('The same, saved where they exist'),
});
export type ConfigurationSet = z.infer<typeof ConfigurationSet>;

export const FileTree = z.strictObject({
  on: PlaceRef,
  paths: settable(z.array(AbsolutePath).min(1)).describe('Directories, with everything below them'),
  description: z.string().optional().describe('What lies there'),
});
export type FileTree = z.infer<typeof FileTree>;

const AccessKey = z.strictObject({
  accessKeyId: settable(SecretReference).describe('Access key id'),
  secretAccessKey: settable(SecretReference).describe('Secret access key'),
});
export type AccessKey = z.infer<typeof AccessKey>;

export const ObjectStore = z.strictObject({
  provider: z
    .enum(['aws', 'minio', 'r2', 'ceph', 'versitygw', 'other'])
    .describe('Which S3 the endpoint is: picks part sizes and checksums'),
  endpoint: settable(z.url({ protocol: /^https?$/, error: 'a URL that starts with https:// or http://' })).describe(
    'URL of the S3 API',
  ),
  region: z
    .string()
    .regex(/^[a-z0-9-]+$/, 'a region name: lower-case letters, digits and hyphens')
    .default('us-east-1')
    .describe('Region that requests are signed for'),
  bucket: settable(
    z
      .string()
      .regex(
        /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
        'a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens',
      ),
  ).describe('Bucket, with versioning and object lock'),
  keys: z
    .strictObject({
      worker: AccessKey.describe('Reads and writes everything, may not shorten retention; used by the worker only'),
      hosts: z.record(Name, AccessKey).describe("One key per host, limited to writing below the system's prefix"),
    })
    .describe('Access keys, by who holds them'),
});
export type ObjectStore = z.infer<typeof ObjectStore>;

const Days = z.int().min(1).max(3660).describe('Days');
export const Retention = z.strictObject({
  localDays: Days.optional().describe('Days that a copy on the host is kept'),
  remoteDays: Days.describe('Days that the copy in the object store is kept'),
});
export type Retention = z.infer<typeof Retention>;

/** What recovery points are made of. */
export const ArtifactKind = z.enum(['database', 'configuration', 'openbao', 'files']);
export type ArtifactKind = z.infer<typeof ArtifactKind>;

export const Backup = z.strictObject({
  recipients: settable(z.array(z.string().regex(/^age1[a-z0-9]{58}$/, 'an age recipient: age1...')).min(2)).describe(
    'age recipients that every artifact is encrypted to: the operations key and an offline escrow key at least',
  ),
  identity: settable(SecretReference).describe(
    'age identity that the verifying machine decrypts with; never on a host of the system',
  ),
  prefix: z
    .string()
    .regex(/^([a-z0-9][a-z0-9-]*\/)*$/, 'empty, or names that each end in a slash: "backups/production/"')
    .default('')
    .describe("Prefix in the bucket above the system's own"),
  lowestShareOfMedian: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe('A dump smaller than this share of the median of the last seven is refused as anomalous'),
  configuration: z.record(Name, ConfigurationSet).default({}).describe('Configuration files that each set holds'),
  files: z.record(Name, FileTree).default({}).describe('File trees that belong to a set: uploads, volumes'),
  retention: z
    .partialRecord(ArtifactKind, Retention)
    .default({})
    .describe('How long recovery points are kept, by artifact kind'),
});
export type Backup = z.infer<typeof Backup>;

/** Every runbook that a schedule can name. Not all of them exist yet: a schedule of one that does not is listed, not applied. */
export const ScheduledRunbook = z.enum([
  'adopt',
  'backup',
  'database-maintenance',
  'deploy',
  'diagnose',
  'disaster-recovery',
  'health-check',
  'init-openbao',
  'patch-host',
  'provision-host',
  'renew-certificate',
  'restart-service',
  'repair',
  'restore',
  'rollback',
  'rotate-secret',
  'unseal-openbao',
  'verify-backup',
]);
export type ScheduledRunbook = z.infer<typeof ScheduledRunbook>;

export const Schedule = z.strictObject({
  runbook: ScheduledRunbook.describe('Runbook that is started'),
  cron: z
    .string()
    .superRefine((value, context) => {
      const mistake = cronMistake(value);
      if (mistake) context.addIssue(mistake);
    })
    .describe('Minute, hour, day of month, month, day of week, in the time zone of the system'),
  input: z.record(z.string(), z.json()).default({}).describe('Input of the runbook besides the system'),
  replaces: z.string().optional().describe("The manual's own lines that this schedule replaces"),
});
export type Schedule = z.infer<typeof Schedule>;

export const EscalationTier = z.strictObject({
  tier: z.int().min(1).max(9).describe('Number of the tier'),
  title: z.string().describe('Who this tier is'),
  afterMinutes: z
    .int()
    .nonnegative()
    .describe('Minutes after the first notice at which this tier is told, if nobody has answered'),
});
export type EscalationTier = z.infer<typeof EscalationTier>;

export const Approver = z.strictObject({
  title: z.string().optional().describe('Who that is'),
  email: settable(z.email('an e-mail address')).describe(
    'Tells whether somebody asked for a run himself, who then may not agree to it. Who is told, and how, stands in `notifications`',
  ),
  tier: Tier,
  signingKey: settable(
    z
      .string()
      .regex(/^(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]+( .*)?$/, 'an SSH public key: "ssh-ed25519 AAAA... comment"'),
  ).describe('SSH public key that the decisions are signed with'),
});
export type Approver = z.infer<typeof Approver>;

const form = z
  .enum(['value', 'url'])
  .default('value')
  .describe('`value`: the whole value; `url`: the password part of a connection URL, percent-encoded');
const restarts = z
  .array(ServiceRef)
  .default([])
  .describe('Services that read a new value only after a restart, in this order');
export const SecretConsumer = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('env-file'),
      on: PlaceRef,
      file: AbsolutePath.describe('The file'),
      key: z.string().min(1).describe('Variable'),
      form,
      restarts,
    })
    .describe('A KEY=VALUE line of an environment file'),
  z
    .strictObject({
      kind: z.literal('yaml-file'),
      on: PlaceRef,
      file: AbsolutePath.describe('The file'),
      key: z.string().min(1).describe('Dotted path in the file; a list of KEY=VALUE counts as a mapping'),
      form,
      restarts,
    })
    .describe('A value in a YAML file, such as a compose file'),
  z
    .strictObject({
      kind: z.literal('postgresql-role'),
      database: Name.describe('Name of a database of this system'),
      role: z.string().min(1).describe('Name of the role'),
    })
    .describe('The password of a database role'),
  z
    .strictObject({
      kind: z.literal('openbao'),
      service: ServiceRef,
      path: z.string().min(1).describe('Mount and path'),
      field: z.string().min(1).describe('Field of the entry'),
    })
    .describe('A field in the key-value store of OpenBao'),
]);
export type SecretConsumer = z.infer<typeof SecretConsumer>;

/** A secret of the applications, described and never contained: what it is, how a new one is made and who reads it. */
export const ApplicationSecret = z.strictObject({
  description: z.string().describe('What it protects'),
  kind: z
    .enum(['hex', 'base64', 'alphanumeric', 'issued'])
    .describe(
      'How a new value is made: from this alphabet, or `issued` by somebody else (a provider, a blockchain, OpenBao)',
    ),
  length: z
    .int()
    .min(1)
    .max(4096)
    .optional()
    .describe('Characters of the value as it is written, not bytes of entropy'),
  guarded: z
    .boolean()
    .default(false)
    .describe(
      'Losing or replacing it loses data or money: never generated anew once it exists, nor while a file of the host names its key',
    ),
  from: settable(SecretReference)
    .optional()
    .describe(
      'Where the worker finds its first value: for what somebody else issues, and for what several hosts share. A value that is on a host wins',
    ),
  later: z
    .boolean()
    .default(false)
    .describe('Comes to be after the hosts are set up; until then its place in files with secrets is empty'),
  rotateEveryDays: Days.optional().describe('Days after the last rotation at which the next is due'),
  consumers: z.array(SecretConsumer).min(1).describe('Every place that holds or checks the value'),
});
export type ApplicationSecret = z.infer<typeof ApplicationSecret>;

export const Endpoint = z.strictObject({
  url: settable(z.url({ protocol: /^https?$/, error: 'a URL that starts with https:// or http://' })).describe(
    'What is asked for, from outside',
  ),
  service: ServiceRef.optional().describe('Service that answers'),
  through: z
    .array(ServiceRef)
    .default([])
    .describe(
      'Services that hand its requests on, such as a proxy or a balancer: a restart of one takes the endpoint along, and is judged by it. Those on no host are passed over',
    ),
  address: z
    .string()
    .regex(HOST_NAME, 'a host name or an IP address, without port')
    .optional()
    .describe('Where to connect to, instead of asking DNS for the name in the URL'),
  ca: SecretReference.optional().describe('PEM file of the certificate authority to trust, instead of the public ones'),
  status: z
    .int()
    .min(100)
    .max(599)
    .default(200)
    .describe('HTTP status of a healthy answer; redirects are not followed'),
  body: z.string().min(1).optional().describe('Text that a healthy answer holds'),
  limit: z
    .strictObject({
      perSecond: z.int().min(1).describe('Requests a second that one address may send for long'),
      burst: z.int().min(1).describe('Requests that it may send at once'),
      unlimited: z
        .array(z.string().regex(/^\/[A-Za-z0-9_./-]*$/, 'a path'))
        .default([])
        .describe('Beginnings of paths that have no limit'),
      source: z.string().min(1).describe("Where the numbers come from: the manual's lines, or `ours`"),
    })
    .optional()
    .describe('How many requests are taken from one address; more are answered 429 by what stands in front'),
});
export type Endpoint = z.infer<typeof Endpoint>;

export const Flow = z.strictObject({
  from: settable(z.string().min(1)).describe(
    '`internet` for anybody, a host or a group of this system, an IP address or a network (10.0.0.0/8)',
  ),
  to: PlaceRef,
  port: Port.describe('Port on the host'),
  protocol: z.enum(['tcp', 'udp']).default('tcp').describe('Transport protocol'),
  why: z.string().describe('What the connection is for'),
});
export type Flow = z.infer<typeof Flow>;

export const Threshold = z
  .strictObject({
    warning: z.number().nonnegative().optional().describe('At or above: a warning'),
    critical: z.number().nonnegative().optional().describe('At or above: critical; a health gate fails'),
    forSeconds: z.int().nonnegative().default(0).describe('Seconds that the value has to stay there'),
    source: z.string().min(1).describe("Where the numbers come from: the manual's lines, or `ours`"),
  })
  .superRefine((value, context) => {
    if (value.warning === undefined && value.critical === undefined)
      context.addIssue('give `warning`, `critical` or both');
    if (value.warning !== undefined && value.critical !== undefined && value.warning > value.critical)
      context.addIssue({ code: 'custom', path: ['warning'], message: 'is above `critical`' });
  });
export type Threshold = z.infer<typeof Threshold>;

/** A value of which there has to be enough: the levels are the other way round. */
export const LowThreshold = z
  .strictObject({
    warning: z.number().nonnegative().describe('Below: a warning'),
    critical: z.number().nonnegative().describe('Below: critical; a health gate fails'),
    source: z.string().min(1).describe("Where the numbers come from: the manual's lines, or `ours`"),
  })
  .superRefine(({ warning, critical }, context) => {
    if (warning < critical) context.addIssue({ code: 'custom', path: ['warning'], message: 'is below `critical`' });
  });

export const Thresholds = z.strictObject({
  diskUsedPercent: Threshold.optional().describe('Space and inodes used'),
  memoryUsedPercent: Threshold.optional().describe('Memory that is not available'),
  cpuUsedPercent: Threshold.optional().describe('Time that the processors are busy'),
  loadPerProcessor: Threshold.optional().describe('Load of five minutes, for each processor'),
  databaseConnections: Threshold.optional().describe('Open connections to a database'),
  clockSkewSeconds: Threshold.optional().describe("Difference of a clock to the worker's"),
  certificateDaysLeft: LowThreshold.optional().describe('Days that a certificate is still valid'),
  errorPercent: Threshold.optional().describe('Requests that fail'),
  p99Milliseconds: Threshold.optional().describe('Time that all but one in a hundred requests take'),
});

/** One system of the inventory: the content of `infra/systems/NAME.yaml`. Rules across fields are in system-rules.ts. */
export const System = z
  .strictObject({
    system: SystemName,
    title: z.string().min(1).describe('Name for people'),
    manual: z
      .string()
      .optional()
      .describe('The operations manual that this file replaces; comments cite its lines as L123'),
    timezone: z
      .string()
      .refine(isTimeZone, 'is no time zone; use an IANA name such as UTC, Europe/Madrid or America/Mexico_City')
      .describe('IANA time zone that schedules are read in'),
    objectives: z
      .strictObject({
        recoveryTimeMinutes: z.int().min(1).describe('RTO: minutes until the service is back'),
        recoveryPointMinutes: z.int().min(1).describe('RPO: minutes of data that may be lost'),
        source: z.string().min(1).describe("Where the numbers come from: the manual's lines, or `ours`"),
      })
      .optional()
      .describe('What recovery is measured against'),
    hosts: z
      .record(
        Name.refine(
          (name) => name !== WORKER_HOST && name !== SYSTEM_LANE,
          `"${WORKER_HOST}" and "${SYSTEM_LANE}" are reserved`,
        ),
        Host,
      )
      .describe('Machines, by name'),
    groups: z
      .record(
        Name.refine(
          (name) => name !== WORKER_HOST && name !== SYSTEM_LANE,
          `"${WORKER_HOST}" and "${SYSTEM_LANE}" are reserved`,
        ),
        z.array(HostRef),
      )
      .default({})
      .describe('Hosts by the part that they play: wherever `on` names a host, it may name a group. May be empty'),
    layout: Name.optional().describe(
      'Which of the layouts is in force; without it the file as it stands. An overlay may choose another',
    ),
    layouts: z
      .record(Name, z.record(z.string(), z.json()))
      .default({})
      .describe(
        'Other ways to lay the system out on machines. Each says what is different, as a JSON merge patch (RFC 7396): mappings are merged, null takes away, everything else replaces',
      ),
    services: z.record(Name, Service).default({}).describe('Services, by name'),
    deployments: z.record(Name, Deployment).default({}).describe('Applications that are deployed, by name'),
    databases: z.record(Name, Database).default({}).describe('Databases, by name'),
    endpoints: z.record(Name, Endpoint).default({}).describe('What answers over HTTP when the system is healthy'),
    flows: z.record(Name, Flow).default({}).describe('Every connection that the firewall lets in; all else is closed'),
    secrets: z
      .record(Name, ApplicationSecret)
      .default({})
      .describe('Secrets of the applications: what they are, never their values'),
    probes: z
      .record(Name, ProbeEntry)
      .default({})
      .describe(
        'What a health check looks at beside what follows from the rest of the file; one of the same name replaces it',
      ),
    thresholds: Thresholds.prefault({}).describe(
      'When a measured value is a problem; what has no number here is not judged',
    ),
    provision: Provision.optional().describe('What a bare host gets: packages, firewall, users, files, units'),
    adopt: Adoption.optional().describe('What was set up by hand and is taken over'),
    objectStore: ObjectStore.describe('Where backups and records are kept'),
    backup: Backup.describe('What is backed up, and how'),
    schedules: z.record(Name, Schedule).default({}).describe('What runs by itself'),
    escalation: z
      .array(EscalationTier)
      .min(1)
      .default([{ tier: 1, title: 'operators', afterMinutes: 0 }])
      .describe('Who is told when'),
    approvers: z.record(Name, Approver).default({}).describe('Who may decide, by name'),
    approvals: z
      .partialRecord(ScheduledRunbook, z.union([z.literal('none'), ApprovalPolicy]))
      .default({})
      .describe(
        'Which runbooks wait for people before they change anything, and for whom. `none`, or no line: nobody is asked',
      ),
    notifications: z.record(Name, NotificationTarget).default({}).describe('Where notices go'),
    mail: Mail.optional().describe('SMTP server of the targets that are e-mail addresses'),
    watcher: Watching.prefault({}).describe('How `guardia watcher` looks after the system'),
  })
  .superRefine(
    (value, context) => {
      for (const { path, message } of systemMistakes(value)) context.addIssue({ code: 'custom', path, message });
    },
    // Also after other mistakes, so that one look shows all of them.
    { when: () => true },
  );
export type System = z.infer<typeof System>;

function isTimeZone(value: string): boolean {
  if (typeof Intl === 'undefined') return true;
  try {
    new Intl.DateTimeFormat('en', { timeZone: value });
    return true;
  } catch {
    return false;
  }
}
