import { failure } from './errors.js';
import { hostOf, hostsOf } from './host-groups.js';
import { WORKER_HOST } from './names.js';
import { within } from './network.js';
import { Probe, type ProbeEntry, type ProbeOf } from './probe.js';
import { serverReference } from './database-server.js';
import type { Endpoint, Flow, Service, System } from './system.js';
import { given, isUnset } from './unset.js';

/** What of the inventory has to be filled in before its probes can be made. */
export const probeNeeds = ['hosts.*.connection', 'endpoints.*.url', 'databases.*.version', 'probes'];

/** A probe before its defaults: zod fills them in. */
type Some = { kind: Probe['kind']; id: string; on: string; source: string } & Record<string, unknown>;

/**
 * Every probe of a system, in a fixed order: what follows from its services, endpoints, databases, thresholds and flows, then
 * the entries of its section `probes`; an entry of the same name replaces what follows. Pure. Throws `UnsetValue` where
 * `probeNeeds` are not filled in.
 */
export function probesOf(system: System): Probe[] {
  const entries = Object.entries(system.probes).flatMap(([name, entry]) => lookedUp(system, name, entry));
  const named = new Set([...Object.keys(system.probes), ...entries.map(({ id }) => id)]);
  const derived = [
    ...serviceProbes(system),
    ...endpointProbes(system),
    ...databaseProbes(system),
    ...thresholdProbes(system),
    ...flowProbes(system),
  ];
  return [...derived.filter(({ id }) => !named.has(id)), ...entries].map(complete);
}

/** Those probes that are about services, hosts or kinds: what a deploy waits for. Pure. */
export function probesAbout(
  system: System,
  about: { services?: readonly string[]; on?: readonly string[]; kinds?: readonly Probe['kind'][] },
): Probe[] {
  return probesOf(system).filter(
    (probe) =>
      (about.services === undefined || (probe.about !== undefined && about.services.includes(probe.about))) &&
      (about.on === undefined || about.on.includes(probe.on)) &&
      (about.kinds === undefined || about.kinds.includes(probe.kind)),
  );
}

function complete(some: Some): Probe {
  const bare = Probe.parse({ title: '-', ...some });
  return some['title'] === undefined ? { ...bare, title: titleOf(bare) } : bare;
}

/** One for each host that it is on; a single one keeps the plain name. */
function onEach(hosts: readonly string[], name: string, make: (id: string, host: string) => Some): Some[] {
  return hosts.map((host) => make(hosts.length === 1 ? name : `${name}-${host}`, host));
}

function serviceProbes(system: System): Some[] {
  return Object.entries(system.services).flatMap(([name, service]) =>
    onEach(hostsOf(system, service.on), `service-${name}`, (id, on) => ({
      id,
      on,
      about: name,
      source: `services.${name}`,
      ...runs(service),
    })),
  );
}

function runs(service: Service): { kind: Probe['kind'] } & Record<string, unknown> {
  switch (service.kind) {
    case 'systemd':
      return { kind: 'systemd', unit: service.unit };
    case 'compose':
      return { kind: 'compose', project: service.project, service: service.service };
    case 'container':
      return { kind: 'container', container: service.container };
  }
}

function endpointProbes(system: System): Some[] {
  return Object.entries(system.endpoints).flatMap(([name, endpoint]): Some[] => {
    const about = { on: WORKER_HOST, source: `endpoints.${name}`, ...aboutEndpoint(endpoint) };
    const at = urlOf(name, endpoint, {});
    return [
      {
        ...about,
        id: `endpoint-${name}`,
        kind: 'http',
        ...at,
        status: endpoint.status,
        ...(endpoint.body === undefined ? {} : { body: endpoint.body }),
      },
      ...(at.url.startsWith('https:')
        ? [{ ...about, id: `tls-${name}`, kind: 'tls' as const, ...daysLeftOf(system), ...socketOf(name, endpoint) }]
        : []),
    ];
  });
}

const aboutEndpoint = ({ service }: Endpoint): { about?: string } => (service === undefined ? {} : { about: service });

function aboutDatabase({ service, access }: System['databases'][string]): { about?: string } {
  const about = service ?? (access.kind === 'container' ? access.service : undefined);
  return about === undefined ? {} : { about };
}

/** How long a certificate has to be valid; nothing where the system gives no number. */
function daysLeftOf({ thresholds: { certificateDaysLeft: days } }: System): { daysLeft?: object } {
  return days === undefined ? {} : { daysLeft: { warning: days.warning, critical: days.critical } };
}

function databaseProbes(system: System): Some[] {
  const connections = system.thresholds.databaseConnections;
  return Object.entries(system.databases).map(([name, database]) => ({
    id: `database-${name}`,
    kind: 'postgresql',
    on: hostOf(system, database.on),
    source: [`databases.${name}`, ...(connections ? [connections.source] : [])].join('; '),
    server: serverReference(system, database),
    ...aboutDatabase(database),
    ...(database.owner === undefined ? {} : { role: database.owner }),
    ...(connections ? { connections: levelsOf(connections) } : {}),
  }));
}

/** What every host is measured by. A threshold's `forSeconds` is for alerts: a health check sees one moment. */
function thresholdProbes(system: System): Some[] {
  const {
    diskUsedPercent: disk,
    memoryUsedPercent: memory,
    cpuUsedPercent: cpu,
    loadPerProcessor: load,
  } = system.thresholds;
  return Object.keys(system.hosts).flatMap((on) => [
    ...(disk
      ? (['disk', 'inodes'] as const).map((kind) => ({
          id: `${kind}-${on}`,
          kind,
          on,
          source: disk.source,
          ...levelsOf(disk),
        }))
      : []),
    ...(memory
      ? [{ id: `memory-${on}`, kind: 'memory' as const, on, source: memory.source, ...levelsOf(memory) }]
      : []),
    ...(cpu ? [{ id: `cpu-${on}`, kind: 'cpu' as const, on, source: cpu.source, ...levelsOf(cpu) }] : []),
    ...(load ? [{ id: `load-${on}`, kind: 'load' as const, on, source: load.source, ...levelsOf(load) }] : []),
  ]);
}

const levelsOf = ({ warning, critical }: { warning?: number | undefined; critical?: number | undefined }) => ({
  ...(warning === undefined ? {} : { warning }),
  ...(critical === undefined ? {} : { critical }),
});

/**
 * What the flows say, seen from outside each host: what they open answers, and every other port that a service or a database
 * listens on does not. A port that Docker publishes is open whatever ufw says, so nothing but a look from another machine counts.
 */
function flowProbes(system: System): Some[] {
  return Object.keys(system.hosts).flatMap((to) => {
    const { connection } = system.hosts[to] as System['hosts'][string];
    if (connection === 'local') return []; // the worker is on it: no look from outside
    const behindJump = connection.jump !== undefined;
    const listening = portsOn(system, to);
    // A local host is the machine of the worker: it looks once.
    const others = Object.keys(system.hosts).filter(
      (from) => from !== to && system.hosts[from]?.connection !== 'local',
    );
    return [...(behindJump ? [] : [WORKER_HOST]), ...others].flatMap((from): Some[] => {
      const flows = Object.values(system.flows).filter(
        (flow) => flow.protocol === 'tcp' && hostsOf(system, flow.to).includes(to),
      );
      const open = unique(flows.filter((flow) => opens(system, flow, from) === 'yes').map(({ port }) => port));
      // What is open to everybody is looked at once, from the worker.
      const asked =
        from === WORKER_HOST ? open : unique(flows.filter((flow) => names(system, flow, from)).map(({ port }) => port));
      const closed = listening.filter((port) => !open.includes(port));
      // Whether the worker is in a network is seen when it looks: by its own address on the way there.
      const openToNetworks = flows.flatMap((flow) =>
        typeof flow.from === 'string' && opens(system, flow, from) === 'maybe' && closed.includes(flow.port)
          ? [{ port: flow.port, network: flow.from }]
          : [],
      );
      const reachable = unique([...(from === WORKER_HOST ? [connection.port] : []), ...open]);
      const base = { kind: 'port' as const, on: from, to, address: addressOf(system, to), reachable };
      return [
        ...(asked.length > 0
          ? [{ ...base, id: `open-${to}-from-${from}`, source: 'flows', expect: 'open', ports: asked }]
          : []),
        ...(closed.length > 0
          ? [
              {
                ...base,
                id: `closed-${to}-from-${from}`,
                source: 'flows',
                expect: 'closed',
                ports: closed,
                openToNetworks,
              },
            ]
          : []),
      ];
    });
  });
}

function portsOn(system: System, host: string): number[] {
  return unique([
    ...Object.values(system.services)
      .filter(({ on }) => hostsOf(system, on).includes(host))
      .flatMap(({ ports }) => ports),
    ...Object.values(system.databases)
      .filter(({ on }) => hostsOf(system, on).includes(host))
      .map(({ port }) => port),
  ]);
}

/** Whether a flow lets a host or the worker in. Of a network nobody knows here whether the worker is in it; one that is not filled in opens nothing. */
function opens(system: System, flow: Flow, from: string): 'yes' | 'no' | 'maybe' {
  if (isUnset(flow.from)) return 'no';
  if (flow.from === 'internet' || names(system, flow, from)) return 'yes';
  if (isPlace(system, flow.from)) return 'no';
  const address = from === WORKER_HOST ? undefined : system.hosts[from] && addressOf(system, from);
  return address === undefined ? 'maybe' : within(address, flow.from);
}

/** Whether a flow names the host, or a group that it is in. The worker may be one of them. */
function names(system: System, flow: Flow, from: string): boolean {
  return (
    typeof flow.from === 'string' &&
    isPlace(system, flow.from) &&
    hostsOf(system, flow.from).some(
      (host) => host === from || (from === WORKER_HOST && system.hosts[host]?.connection === 'local'),
    )
  );
}

const isPlace = (system: System, name: string): boolean =>
  Object.hasOwn(system.hosts, name) || Object.hasOwn(system.groups, name);

/** The address that a host is looked at by. */
function addressOf(system: System, host: string): string {
  const connection = system.hosts[host]?.connection;
  if (connection === undefined || connection === 'local') return '127.0.0.1';
  return given(connection.address, `hosts.${host}.connection.address`);
}

/** The probes of an entry of the inventory. */
function lookedUp(system: System, name: string, entry: ProbeEntry): Some[] {
  const on = entry.on ?? (entry.kind === 'postgresql' ? databaseOf(system, name, entry.database).on : WORKER_HOST);
  const hosts = on === WORKER_HOST ? [WORKER_HOST] : hostsOf(system, on);
  return onEach(hosts, name, (id, host) => ({ ...entry, id, on: host })).flatMap((some): Some[] => {
    switch (entry.kind) {
      case 'http':
      case 'rate-limit': {
        const rest = without(some, 'endpoint', 'scheme', 'path');
        const vary = { scheme: entry.scheme, path: entry.path };
        if (entry.endpoint === undefined)
          return [
            { ...rest, url: varied(given(entry.url ?? missing(name, 'endpoint or url'), `probes.${name}.url`), vary) },
          ];
        const endpoint = endpointOf(system, name, entry.endpoint);
        return [{ ...aboutEndpoint(endpoint), ...rest, ...urlOf(entry.endpoint, endpoint, vary) }];
      }
      case 'tls': {
        const rest = { ...daysLeftOf(system), ...without(some, 'endpoint') };
        if (entry.endpoint !== undefined) {
          const endpoint = endpointOf(system, name, entry.endpoint);
          return [{ ...aboutEndpoint(endpoint), ...rest, ...socketOf(entry.endpoint, endpoint) }];
        }
        const address = given(entry.address ?? missing(name, 'endpoint or address'), `probes.${name}.address`);
        return [{ ...rest, address, port: entry.port ?? 443, serverName: entry.serverName ?? address }];
      }
      case 'postgresql': {
        const rest = without(some, 'database', 'login');
        const database = databaseOf(system, name, entry.database);
        return [
          {
            // That of the application from each of its hosts is for the whole look: the server is what others wait for.
            ...(entry.login === undefined ? aboutDatabase(database) : {}),
            ...rest,
            server: serverReference(system, database),
            ...loginOf(system, name, some.on, entry),
          },
        ];
      }
      case 'clock': {
        const { critical, warning } = system.thresholds.clockSkewSeconds ?? {};
        const most = critical ?? warning;
        return [{ ...(most === undefined ? {} : { maximumSkewSeconds: most }), ...some }];
      }
      case 'port':
        return hostsOf(system, entry.to)
          .filter((to) => to !== some.on)
          .map((to, _, all) => ({
            ...some,
            id: all.length === 1 ? some.id : `${some.id}-${to}`,
            to,
            address: addressOf(system, to),
            reachable: reachableFrom(system, some.on, to),
          }));
      default:
        return [some];
    }
  });
}

/** A login of the application, with where the server is as seen from a host. */
function loginOf(
  system: System,
  name: string,
  on: string,
  { login, database: of }: Extract<ProbeEntry, { kind: 'postgresql' }>,
): { login?: object } {
  if (login === undefined) return {};
  const database = databaseOf(system, name, of);
  const server = hostOf(system, database.on);
  return {
    login: {
      ...login,
      user: login.user ?? database.owner ?? missing(name, `owner of the database ${of}`),
      address: server === on ? '127.0.0.1' : addressOf(system, server),
    },
  };
}

const without = (some: Some, ...names: string[]): Some =>
  Object.fromEntries(Object.entries(some).filter(([name]) => !names.includes(name))) as Some;

function reachableFrom(system: System, from: string, to: string): number[] {
  const connection = system.hosts[to]?.connection;
  const flows = Object.values(system.flows).filter(
    (flow) => flow.protocol === 'tcp' && hostsOf(system, flow.to).includes(to) && opens(system, flow, from) === 'yes',
  );
  const ssh =
    from === WORKER_HOST && connection !== undefined && connection !== 'local' && connection.jump === undefined
      ? [connection.port]
      : [];
  return unique([...ssh, ...flows.map(({ port }) => port)]);
}

function urlOf(
  name: string,
  endpoint: Endpoint,
  vary: { scheme?: 'http' | 'https' | undefined; path?: string | undefined },
): { url: string; address?: string; ca?: string } {
  return {
    url: varied(given(endpoint.url, `endpoints.${name}.url`), vary),
    ...(endpoint.address === undefined ? {} : { address: endpoint.address }),
    ...(endpoint.ca === undefined ? {} : { ca: endpoint.ca }),
  };
}

function varied(text: string, { scheme, path }: { scheme?: string | undefined; path?: string | undefined }): string {
  const url = new URL(text);
  if (scheme !== undefined && url.protocol !== `${scheme}:`) {
    url.port = '';
    url.protocol = `${scheme}:`;
  }
  if (path === undefined) return url.href;
  const [pathname = '/', query] = path.split('?');
  url.pathname = pathname;
  url.search = query === undefined ? '' : `?${query}`;
  return url.href;
}

function socketOf(
  name: string,
  endpoint: Endpoint,
): { address: string; port: number; serverName: string; ca?: string } {
  const { hostname, port } = new URL(given(endpoint.url, `endpoints.${name}.url`));
  return {
    address: endpoint.address ?? hostname,
    port: port === '' ? 443 : Number(port),
    serverName: hostname,
    ...(endpoint.ca === undefined ? {} : { ca: endpoint.ca }),
  };
}

function endpointOf(system: System, probe: string, name: string): Endpoint {
  return system.endpoints[name] ?? missing(probe, `endpoint ${name}`);
}

function databaseOf(system: System, probe: string, name: string): System['databases'][string] {
  return system.databases[name] ?? missing(probe, `database ${name}`);
}

function missing(probe: string, what: string): never {
  throw failure('InvalidPlan', `probe ${probe} has no ${what}`);
}

const unique = (ports: readonly number[]): number[] => [...new Set(ports)].sort((a, b) => a - b);

/** What a probe looks at, in a few words. Pure. */
export function titleOf(probe: Probe): string {
  switch (probe.kind) {
    case 'systemd':
      return `${probe.unit} ${probe.running ? 'runs' : 'does not run'}`;
    case 'compose':
      return `${probe.service} of ${probe.project} ${probe.running ? 'runs' : 'does not run'}`;
    case 'container':
      return `container ${probe.container} ${probe.running ? 'runs' : 'does not run'}`;
    case 'http':
      return httpTitle(probe);
    case 'rate-limit':
      return `${probe.url} limits the rate`;
    case 'tls':
      return `TLS of ${probe.serverName}${probe.grade === undefined ? '' : ` is at least ${probe.grade}`}`;
    case 'postgresql':
      if (probe.login !== undefined && probe.query === undefined)
        return `database ${probe.server.database} lets ${probe.login.user} in`;
      return probe.query === undefined
        ? `database ${probe.server.database} answers`
        : `database ${probe.server.database}: ${probe.query}`;
    case 'disk':
      return `space used on ${probe.path}`;
    case 'inodes':
      return `inodes used on ${probe.path}`;
    case 'memory':
      return 'memory used';
    case 'cpu':
      return 'processors used';
    case 'load':
      return 'load of each processor';
    case 'openbao':
      return `OpenBao is ${probe.sealed ? 'sealed' : 'unsealed'}`;
    case 'file':
      return `${probe.path} ${probe.exists ? 'is there' : 'is not there'}`;
    case 'clock':
      return 'clock';
    case 'failed-units':
      return 'no unit has failed';
    case 'firewall':
      return `ufw is ${probe.active ? 'active' : 'not active'}`;
    case 'redis':
      return 'Redis answers';
    case 'rabbitmq':
      return 'RabbitMQ has no alarms';
    case 'uptime-kuma':
      return probe.statusPage === undefined ? 'Uptime Kuma answers' : `monitors of ${probe.statusPage} are up`;
    case 'port':
      return `${probe.to}: ${probe.expect} from ${probe.on}: ${probe.ports.join(', ')}`;
  }
}

function httpTitle({ method, url, status, redirect, headers, cookies, sendSecret }: ProbeOf<'http'>): string {
  const what = `${method === 'GET' ? '' : `${method} `}${url}`;
  if (redirect !== undefined) return `${what} redirects to ${redirect}`;
  if (headers !== undefined) return `${what} sends ${Object.keys(headers).join(', ')}`;
  if (cookies !== undefined) return `${what} sets safe cookies`;
  return `${what} answers ${status}${sendSecret === undefined ? '' : ` with ${Object.keys(sendSecret).join(', ')}`}`;
}
