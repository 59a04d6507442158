import { z } from 'zod';
import { AbsolutePath, HOST_NAME, Name, Port } from './names.js';
import { ProbeId, Severity } from './probe-result.js';
import { SecretReference } from './secret-reference.js';
import { ServerReference } from './server-reference.js';
import { settable } from './unset.js';

/*
 * Probes: what a health check looks at, as data. `ProbeEntry` is how the inventory writes one, with names of endpoints, databases and
 * groups; `Probe` is what an activity gets, with all of that looked up (system-probes.ts). Neither holds a secret. What one found is a
 * `ProbeResult` (probe-result.ts): runs read that, and every one of them would have to load what is here.
 */

const Address = z.string().regex(HOST_NAME, 'a host name or an IP address');
const Url = z.url({ protocol: /^https?$/, error: 'a URL that starts with https:// or http://' });
const Percent = z.number().min(0).max(100);

/** What is said about every probe. */
const common = {
  on: Name.describe('Where it looks from: a host, a group of hosts, or `worker` for the machine of the worker'),
  severity: Severity.default('critical').describe(
    'What it counts as when it fails; warnings do not fail a health check',
  ),
  source: z.string().min(1).describe("Where it comes from: the manual's lines, or `ours`"),
  about: Name.optional().describe('Service of this system that it is about'),
  timeoutSeconds: z.int().min(1).max(60).default(10).describe('Seconds after which the answer counts as missing'),
};

/** Either may be left out, not both: says when a number is a problem. */
const levels = (of: z.ZodNumber) => ({
  warning: of.optional().describe('At or above: a warning'),
  critical: of.optional().describe('At or above: critical'),
});

const ca = SecretReference.optional().describe(
  'PEM file of the certificate authority to trust, instead of the public ones',
);
const running = z.boolean().default(true).describe('Whether it shall run; false: it must not');
const maximumRestarts = z
  .int()
  .nonnegative()
  .optional()
  .describe('More automatic restarts than this since it was started are a warning');

export const HeaderExpectation = z.union([
  z.strictObject({ equals: z.string().describe('The whole value, in any case') }),
  z.strictObject({ contains: z.string().describe('Part of the value, in any case') }),
  z.strictObject({ present: z.boolean().describe('Whether the header is there at all') }),
]);
export type HeaderExpectation = z.infer<typeof HeaderExpectation>;

export const CookieExpectation = z.strictObject({
  secure: z.boolean().optional().describe('Whether it has the attribute Secure'),
  httpOnly: z.boolean().optional().describe('Whether it has the attribute HttpOnly'),
  sameSite: z.enum(['Strict', 'Lax', 'None']).optional().describe('Its attribute SameSite'),
});
export type CookieExpectation = z.infer<typeof CookieExpectation>;

/** How a URL of an endpoint is varied: only in the inventory. */
const atEndpoint = {
  endpoint: Name.optional().describe('Endpoint of this system that is asked; or give `url`'),
  scheme: z.enum(['http', 'https']).optional().describe("Instead of the endpoint's own; `http` means port 80"),
  path: z.string().startsWith('/').optional().describe("Instead of the endpoint's own path"),
};
/** Where an HTTP probe goes to, looked up. */
const atUrl = {
  url: Url.describe('What is asked for'),
  address: Address.optional().describe('Where to connect to, instead of asking DNS for the name in the URL'),
  ca,
};

/** A login as the application has it, over TCP, instead of as `access` of the database says. The password stays on its host and on the worker. */
const login = {
  file: AbsolutePath.describe('Environment file on the host `on` that holds the password'),
  key: z.string().min(1).describe('Its variable there'),
  form: z.enum(['value', 'url']).default('value').describe('`url`: it is the password part of a connection URL'),
};

const fields = {
  systemd: {
    kind: z.literal('systemd'),
    unit: z.string().min(1).describe('Unit name with its suffix'),
    running,
    enabled: z.boolean().optional().describe('Whether it shall start with the host'),
    outsideContainers: z
      .boolean()
      .default(false)
      .describe(
        'What only the machine itself can run: where the host is a container, it is not judged, and the result says so',
      ),
    maximumRestarts,
  },
  compose: {
    kind: z.literal('compose'),
    project: z.string().min(1).describe('Compose project'),
    service: z.string().min(1).describe('Service of the project'),
    running,
    maximumRestarts,
  },
  container: {
    kind: z.literal('container'),
    container: z.string().min(1).describe('Container name'),
    running,
    maximumRestarts,
  },
  http: {
    kind: z.literal('http'),
    method: z.enum(['GET', 'HEAD', 'POST']).default('GET').describe('HTTP method'),
    send: z.record(z.string(), z.string()).optional().describe('Headers of the request'),
    sendSecret: z
      .record(z.string(), settable(SecretReference))
      .optional()
      .describe('Headers of the request whose values are secrets, such as an API key'),
    status: z.int().min(100).max(599).default(200).describe('HTTP status; redirects are not followed'),
    body: z.string().min(1).optional().describe('Text that the answer holds'),
    json: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
      .optional()
      .describe('Values in a JSON answer by their dotted path: { status: healthy, "checks.0.ok": true }'),
    headers: z.record(z.string(), HeaderExpectation).optional().describe('Headers of the answer'),
    cookies: z
      .record(z.string(), CookieExpectation)
      .optional()
      .describe('Cookies that the answer sets, by name; `*` is each one that it sets'),
    redirect: z
      .union([z.literal('https'), Url])
      .optional()
      .describe('Where it redirects to: this URL, or `https` for the same host by https'),
    slowMilliseconds: z
      .int()
      .min(1)
      .optional()
      .describe('A healthy answer that takes longer is a warning, milliseconds'),
  },
  'rate-limit': {
    kind: z.literal('rate-limit'),
    requests: z
      .int()
      .min(2)
      .max(500)
      .describe('Requests that are sent at once: more than rate and burst let through, at least one is refused'),
    refusal: z.int().min(400).max(599).default(429).describe('HTTP status of a refusal'),
    unlimited: z
      .array(z.string().startsWith('/'))
      .default([])
      .describe('Paths of the same site that must never be refused; each gets as many requests'),
  },
  tls: {
    kind: z.literal('tls'),
    daysLeft: z
      .strictObject({
        warning: z.int().nonnegative().describe('Fewer days of validity than this are a warning'),
        critical: z.int().nonnegative().describe('Fewer days of validity than this are critical'),
      })
      .optional()
      .describe(
        'How long the certificate must still be valid, in days; by default thresholds.certificateDaysLeft, without which it only has to be valid',
      ),
    grade: z
      .enum(['A+', 'A', 'B', 'C'])
      .optional()
      .describe(
        'Lowest grade (workflows/health-check/README.md has the rule); without it protocols and ciphers are not tried',
      ),
    fingerprint: z
      .string()
      .regex(/^[0-9a-f]{64}$/, 'SHA-256 in hex, lower case, without colons')
      .optional()
      .describe('SHA-256 of the certificate that shall be served'),
  },
  postgresql: {
    kind: z.literal('postgresql'),
    query: z.string().min(1).optional().describe('A query; runs in a read-only transaction that is rolled back'),
    answer: z.string().optional().describe('What it returns, as `psql -A -t` prints it; without it any answer will do'),
    role: z.string().min(1).optional().describe('Role that must exist and may log in'),
    connections: z
      .strictObject(levels(z.number().nonnegative()))
      .optional()
      .describe('Open connections to the database'),
  },
  disk: {
    kind: z.literal('disk'),
    path: AbsolutePath.default('/').describe('Any path on the file system'),
    ...levels(Percent),
  },
  inodes: {
    kind: z.literal('inodes'),
    path: AbsolutePath.default('/').describe('Any path on the file system'),
    ...levels(Percent),
  },
  memory: { kind: z.literal('memory'), ...levels(Percent) },
  cpu: {
    kind: z.literal('cpu'),
    ...levels(Percent),
    sampleSeconds: z.int().min(1).max(30).default(2).describe('How long it is measured, seconds'),
  },
  load: { kind: z.literal('load'), ...levels(z.number().nonnegative()) },
  openbao: {
    kind: z.literal('openbao'),
    url: Url.describe('Base URL of the API, as seen from `on`: http://127.0.0.1:8200'),
    ca,
    initialised: z.boolean().default(true).describe('Whether it is initialised'),
    sealed: z.boolean().default(false).describe('Whether it is sealed'),
    version: z.string().optional().describe('Version that it reports'),
  },
  file: {
    kind: z.literal('file'),
    path: AbsolutePath.describe('The file or directory'),
    exists: z.boolean().default(true).describe('Whether it is there'),
    mode: z
      .string()
      .regex(/^[0-7]{3,4}$/, 'octal, such as 600')
      .optional()
      .describe('Permissions in octal; quote it'),
    owner: z.string().optional().describe('Name of the owner'),
    group: z.string().optional().describe('Name of the group'),
    maximumAgeSeconds: z.int().min(1).optional().describe('Written within this time, seconds'),
  },
  clock: {
    kind: z.literal('clock'),
    maximumSkewSeconds: z
      .number()
      .positive()
      .optional()
      .describe(
        "Largest difference to the worker's clock, seconds; by default thresholds.clockSkewSeconds, without which it is told and not judged",
      ),
    synchronised: z.boolean().optional().describe('Whether the clock is kept by a time server (timedatectl)'),
  },
  'failed-units': {
    kind: z.literal('failed-units'),
    except: z.array(z.string()).default([]).describe('Units that may have failed'),
    exceptInContainers: z
      .array(z.string())
      .default([])
      .describe('Units that may have failed where the host is a container, in which they cannot run'),
  },
  firewall: {
    kind: z.literal('firewall'),
    active: z.boolean().default(true).describe('Whether ufw is active'),
    incoming: z
      .enum(['deny', 'reject', 'allow'])
      .default('deny')
      .describe('What ufw does with the rest of what comes in'),
  },
  redis: {
    kind: z.literal('redis'),
    address: settable(Address).prefault('127.0.0.1').describe('As seen from `on`'),
    port: Port.default(6379).describe('TCP port'),
    tls: z.boolean().default(false).describe('Whether it speaks TLS'),
    serverName: z.string().optional().describe('Name in its certificate, where that is not the address'),
    ca,
    password: settable(SecretReference).optional().describe('Its password; a server that answers without one fails'),
  },
  rabbitmq: {
    kind: z.literal('rabbitmq'),
    url: settable(Url).describe('Base URL of the management API, as seen from `on`: http://127.0.0.1:15672'),
    ca,
    user: z.string().min(1).describe('User with the tag monitoring'),
    password: settable(SecretReference).describe('Its password'),
  },
  'uptime-kuma': {
    kind: z.literal('uptime-kuma'),
    url: Url.describe('Base URL, as seen from `on`: http://127.0.0.1:3001'),
    ca,
    statusPage: z
      .string()
      .regex(/^[a-z0-9-]+$/, 'a slug: lower-case letters, digits and hyphens')
      .optional()
      .describe('Slug of a status page: each of its monitors must be up. Without it the page has to answer'),
  },
  port: {
    kind: z.literal('port'),
    expect: z
      .enum(['open', 'closed'])
      .describe('`closed` is believed only where another port of the same host answers: silence may be a dead link'),
    ports: z.array(Port).min(1).max(100).describe('TCP ports'),
  },
} as const;

const entry = {
  ...common,
  title: z.string().min(1).optional().describe('What is looked at, for people; made from the rest where it is missing'),
};
const titles = {
  systemd: 'A systemd unit',
  compose: 'A service of a compose project; healthy where it has a health check',
  container: 'A container; healthy where it has a health check',
  http: 'One HTTP request and what it is answered',
  'rate-limit': 'More requests than are allowed: at least one is refused. Runs after all other probes',
  tls: 'What is served over TLS: dates, chain, name, protocols, ciphers, certificate',
  postgresql: 'A login to a database, and a query',
  disk: 'Used space of a file system, percent as df has it',
  inodes: 'Used inodes of a file system, percent',
  memory: 'Used memory, percent: everything but what the kernel calls available',
  cpu: 'Used processor time, percent',
  load: 'Load of the last five minutes, for each processor',
  openbao: 'Seal status of OpenBao',
  file: 'A file or directory',
  clock: 'The clock of the host',
  'failed-units': 'Units that systemd lists as failed',
  firewall: 'ufw',
  redis: 'PING to Redis',
  rabbitmq: 'Alarms of RabbitMQ, from its management API',
  'uptime-kuma': 'Uptime Kuma and its monitors',
  port: 'TCP ports of a host, seen from another one',
} as const;

/** A probe as the inventory writes it. */
export const ProbeEntry = z.discriminatedUnion('kind', [
  z.strictObject({ ...entry, ...fields.systemd }).describe(titles.systemd),
  z.strictObject({ ...entry, ...fields.compose }).describe(titles.compose),
  z.strictObject({ ...entry, ...fields.container }).describe(titles.container),
  z
    .strictObject({ ...entry, ...atEndpoint, url: settable(Url).optional().describe('URL'), ca, ...fields.http })
    .describe(titles.http),
  z
    .strictObject({
      ...entry,
      ...atEndpoint,
      url: settable(Url).optional().describe('URL'),
      ca,
      ...fields['rate-limit'],
    })
    .describe(titles['rate-limit']),
  z
    .strictObject({
      ...entry,
      endpoint: Name.optional().describe('Endpoint of this system; or give `address`'),
      address: settable(Address).optional().describe('Where to connect to'),
      port: Port.optional().describe('TCP port; 443, or that of the endpoint'),
      serverName: z.string().optional().describe('Name that is asked for (SNI), where that is not the address'),
      ca,
      ...fields.tls,
    })
    .describe(titles.tls),
  z
    .strictObject({
      ...entry,
      on: Name.optional().describe('Host of the database, if given'),
      database: Name.describe('Database of this system'),
      login: z
        .strictObject({
          ...login,
          user: z.string().min(1).optional().describe('Role; default: the owner of the database'),
        })
        .optional()
        .describe('Logs in as the application does, over TCP and with its password'),
      ...fields.postgresql,
    })
    .describe(titles.postgresql),
  z.strictObject({ ...entry, ...fields.disk }).describe(titles.disk),
  z.strictObject({ ...entry, ...fields.inodes }).describe(titles.inodes),
  z.strictObject({ ...entry, ...fields.memory }).describe(titles.memory),
  z.strictObject({ ...entry, ...fields.cpu }).describe(titles.cpu),
  z.strictObject({ ...entry, ...fields.load }).describe(titles.load),
  z.strictObject({ ...entry, ...fields.openbao }).describe(titles.openbao),
  z.strictObject({ ...entry, ...fields.file }).describe(titles.file),
  z.strictObject({ ...entry, ...fields.clock }).describe(titles.clock),
  z.strictObject({ ...entry, ...fields['failed-units'] }).describe(titles['failed-units']),
  z.strictObject({ ...entry, ...fields.firewall }).describe(titles.firewall),
  z.strictObject({ ...entry, ...fields.redis }).describe(titles.redis),
  z.strictObject({ ...entry, ...fields.rabbitmq }).describe(titles.rabbitmq),
  z.strictObject({ ...entry, ...fields['uptime-kuma'] }).describe(titles['uptime-kuma']),
  z
    .strictObject({
      ...entry,
      to: Name.describe('Host or group of hosts that is looked at'),
      ...fields.port,
    })
    .describe(titles.port),
]);
export type ProbeEntry = z.infer<typeof ProbeEntry>;

const looked = { ...common, id: ProbeId, title: z.string().min(1) };

/** A probe with everything looked up, as an activity gets it. `on` is a host or `worker`. */
export const Probe = z.discriminatedUnion('kind', [
  z.strictObject({ ...looked, ...fields.systemd }),
  z.strictObject({ ...looked, ...fields.compose }),
  z.strictObject({ ...looked, ...fields.container }),
  z.strictObject({ ...looked, ...atUrl, ...fields.http }),
  z.strictObject({ ...looked, ...atUrl, ...fields['rate-limit'] }),
  z.strictObject({ ...looked, address: Address, port: Port, serverName: z.string(), ca, ...fields.tls }),
  z.strictObject({
    ...looked,
    server: ServerReference,
    login: z
      .strictObject({
        ...login,
        user: z.string().min(1).describe('Role'),
        address: Address.describe('The server, as seen from `on`'),
      })
      .optional(),
    ...fields.postgresql,
  }),
  z.strictObject({ ...looked, ...fields.disk }),
  z.strictObject({ ...looked, ...fields.inodes }),
  z.strictObject({ ...looked, ...fields.memory }),
  z.strictObject({ ...looked, ...fields.cpu }),
  z.strictObject({ ...looked, ...fields.load }),
  z.strictObject({ ...looked, ...fields.openbao }),
  z.strictObject({ ...looked, ...fields.file }),
  z.strictObject({ ...looked, ...fields.clock }),
  z.strictObject({ ...looked, ...fields['failed-units'] }),
  z.strictObject({ ...looked, ...fields.firewall }),
  z.strictObject({ ...looked, ...fields.redis }),
  z.strictObject({ ...looked, ...fields.rabbitmq }),
  z.strictObject({ ...looked, ...fields['uptime-kuma'] }),
  z.strictObject({
    ...looked,
    to: Name.describe('Host that is looked at'),
    address: Address.describe('Its address, as seen from `on`'),
    reachable: z.array(Port).describe('Ports of it that are open to `on`: one must answer before silence means closed'),
    openToNetworks: z
      .array(z.strictObject({ port: Port, network: z.string() }))
      .default([])
      .describe('Ports among these that a network may reach: not judged where `on` turns out to be in it'),
    ...fields.port,
  }),
]);
export type Probe = z.infer<typeof Probe>;
export type ProbeKind = Probe['kind'];
export type ProbeOf<K extends ProbeKind> = Extract<Probe, { kind: K }>;
