import { Name, WORKER_HOST } from './names.js';
import { isAddress } from './network.js';
import { isUnset } from './unset.js';

/** A mistake across fields: `path` is where it has to be corrected. */
export interface SystemMistake {
  path: (string | number)[];
  message: string;
}

type Fields = Record<string, unknown>;

/**
 * The rules across fields of a system: every name that is used is defined, jumps do not go in circles, every host that uploads
 * has a key, tiers exist. Takes a system that may have other mistakes and passes over what does not have the right shape.
 */
export function systemMistakes(system: unknown): SystemMistake[] {
  const mistakes: SystemMistake[] = [];
  const root = fields(system);
  const hosts = fields(root.hosts);
  const services = fields(root.services);
  const databases = fields(root.databases);
  const backup = fields(root.backup);
  const keys = fields(fields(root.objectStore).keys);
  const groups = fields(root.groups);
  const members = (on: unknown): string[] => {
    const group = typeof on === 'string' ? groups[on] : undefined;
    return Array.isArray(group) ? group.filter((name) => typeof name === 'string') : [String(on)];
  };

  const refer = (path: (string | number)[], name: unknown, to: Fields, what: string): boolean => {
    if (typeof name !== 'string' || Object.hasOwn(to, name)) return typeof name === 'string';
    if (!Name.safeParse(name).success || !isFields(root.hosts)) return false; // said by the field itself
    mistakes.push({ path, message: `there is no ${what} "${name}"; ${known(what, to)}` });
    return false;
  };
  const host = (path: (string | number)[], name: unknown) => refer(path, name, hosts, 'host');
  /** A host, or a group of hosts. */
  const place = (path: (string | number)[], name: unknown) =>
    typeof name === 'string' && Object.hasOwn(groups, name) ? true : host(path, name);
  const service = (path: (string | number)[], name: unknown) => refer(path, name, services, 'service');

  if (isFields(root.hosts) && Object.keys(hosts).length === 0)
    mistakes.push({ path: ['hosts'], message: 'a system has at least one host' });

  for (const [name, list] of Object.entries(groups)) {
    if (Object.hasOwn(hosts, name))
      mistakes.push({ path: ['groups', name], message: `"${name}" is a host; give the group a name of its own` });
    const of: unknown[] = Array.isArray(list) ? list : [];
    for (const [i, member] of of.entries()) {
      host(['groups', name, i], member);
      if (of.indexOf(member) !== i)
        mistakes.push({ path: ['groups', name, i], message: `"${String(member)}" stands in it twice` });
    }
  }

  const machines = new Map<string, string>();
  for (const [name, value] of Object.entries(hosts)) {
    const connection = fields(value).connection;
    const machine = machineOf(connection, hosts);
    if (machine !== undefined) {
      const other = machines.get(machine);
      if (other !== undefined)
        mistakes.push({
          path: ['hosts', name, 'connection'],
          message: `is the same machine as host "${other}" (${machine}); one machine is one host`,
        });
      machines.set(machine, name);
    }
    if (!isFields(connection) || connection.jump === undefined) continue;
    const { jump } = connection;
    const at = ['hosts', name, 'connection', 'jump'];
    if (!host(at, jump) || typeof jump !== 'string') continue;
    const circle = circleFrom(name, hosts);
    if (circle) mistakes.push({ path: at, message: `goes in a circle: ${circle.join(' -> ')}` });
    else if (fields(hosts[jump]).connection === 'local')
      mistakes.push({ path: at, message: `host "${jump}" is local; leave the jump out` });
  }

  const servicesIn = (path: (string | number)[], list: unknown): void => {
    for (const [i, of] of (Array.isArray(list) ? list : []).entries()) service([...path, i], of);
  };
  for (const [name, value] of Object.entries(services)) {
    place(['services', name, 'on'], fields(value).on);
    servicesIn(['services', name, 'requires'], fields(value).requires);
  }

  for (const [name, value] of Object.entries(fields(root.deployments))) {
    const deployment = fields(value);
    const at = ['deployments', name];
    place([...at, 'on'], deployment.on);
    const of = Array.isArray(deployment.services) ? (deployment.services as unknown[]) : [];
    for (const [i, one] of of.entries()) {
      if (!service([...at, 'services', i], one)) continue;
      const where = fields(services[String(one)]).on;
      if (where !== deployment.on)
        mistakes.push({
          path: [...at, 'services', i],
          message: `service "${String(one)}" is on "${String(where)}", the deployment on "${String(deployment.on)}"`,
        });
    }
    const migrations = fields(deployment.migrations);
    if (migrations.database !== undefined)
      refer([...at, 'migrations', 'database'], migrations.database, databases, 'database');
    const balancer = fields(deployment.balancer);
    if (balancer.service !== undefined) service([...at, 'balancer', 'service'], balancer.service);
    if (inside(deployment.releases, deployment.directory))
      mistakes.push({ path: [...at, 'releases'], message: 'lies below `directory`, which is a link to one of them' });
    for (const [i, one] of (Array.isArray(deployment.shared) ? (deployment.shared as unknown[]) : []).entries())
      for (const field of ['releases', 'directory'])
        if (inside(fields(one).target, deployment[field]))
          mistakes.push({
            path: [...at, 'shared', i, 'target'],
            message: `lies below \`${field}\`: it would go with a release`,
          });
  }
  mistakes.push(...sharedPlaces(fields(root.deployments), members));

  const uploads = new Map<string, string>();
  for (const [name, value] of Object.entries(databases)) {
    const database = fields(value);
    const access = fields(database.access);
    if (database.service !== undefined) service(['databases', name, 'service'], database.service);
    if (place(['databases', name, 'on'], database.on)) {
      const on = members(database.on);
      if (on.length === 1) uploads.set(String(on[0]), `database ${name}`);
      else
        mistakes.push({
          path: ['databases', name, 'on'],
          message: `group "${String(database.on)}" has ${on.length} hosts; a database is on one host`,
        });
    }
    if (access.kind !== 'container' || !service(['databases', name, 'access', 'service'], access.service)) continue;
    const server = fields(services[access.service as string]);
    const at = ['databases', name, 'access', 'service'];
    if (server.kind === 'systemd')
      mistakes.push({ path: at, message: `service "${String(access.service)}" is a systemd unit, not a container` });
    else if (typeof database.on === 'string' && !members(database.on).every((on) => members(server.on).includes(on)))
      mistakes.push({
        path: at,
        message: `service "${String(access.service)}" is on host "${String(server.on)}", the database on "${database.on}"`,
      });
  }
  for (const part of ['configuration', 'files']) {
    for (const [name, value] of Object.entries(fields(backup[part]))) {
      const on = fields(value).on;
      if (!place(['backup', part, name, 'on'], on)) continue;
      for (const each of members(on)) if (!uploads.has(each)) uploads.set(each, `backup.${part}.${name}`);
    }
  }
  if (isFields(keys.hosts)) {
    for (const name of Object.keys(keys.hosts)) host(['objectStore', 'keys', 'hosts', name], name);
    for (const [name, what] of uploads)
      if (!Object.hasOwn(keys.hosts, name))
        mistakes.push({
          path: ['objectStore', 'keys', 'hosts'],
          message: `host "${name}" has no key, but uploads (${what}); add "${name}", unset if need be`,
        });
  }

  for (const [name, value] of Object.entries(fields(root.endpoints))) {
    const { service: of, through } = fields(value);
    if (of !== undefined) service(['endpoints', name, 'service'], of);
    servicesIn(['endpoints', name, 'through'], through);
  }
  for (const [name, value] of Object.entries(fields(root.flows))) {
    const { from, to } = fields(value);
    place(['flows', name, 'to'], to);
    const places = { ...hosts, ...groups };
    if (typeof from === 'string' && from !== 'internet' && !Object.hasOwn(places, from))
      if (!isAddress(from))
        mistakes.push({
          path: ['flows', name, 'from'],
          message: `"${from}" is neither "internet", nor a network; ${known('host', places)}`,
        });
      // ufw keeps no rule that says so: it would be planned anew for ever.
      else if (/\/0+$/.test(from))
        mistakes.push({ path: ['flows', name, 'from'], message: `"${from}" is everybody: write "internet"` });
  }
  for (const [name, value] of Object.entries(fields(root.probes))) {
    const probe = fields(value);
    const at = (field: string) => ['probes', name, field];
    if (probe.on !== undefined && probe.on !== WORKER_HOST) place(at('on'), probe.on);
    if (probe.kind === 'port' && probe.to !== undefined) place(at('to'), probe.to);
    if (probe.about !== undefined) service(at('about'), probe.about);
    if (probe.endpoint !== undefined) refer(at('endpoint'), probe.endpoint, fields(root.endpoints), 'endpoint');
    if (probe.database !== undefined) refer(at('database'), probe.database, databases, 'database');
    const target = { http: 'url', 'rate-limit': 'url', tls: 'address' }[String(probe.kind)];
    if (target !== undefined && (probe.endpoint === undefined) === (probe[target] === undefined))
      mistakes.push({ path: ['probes', name], message: `give either \`endpoint\` or \`${target}\`` });
    if (['disk', 'inodes', 'memory', 'cpu', 'load'].includes(String(probe.kind))) {
      const { warning, critical } = probe;
      if (warning === undefined && critical === undefined)
        mistakes.push({ path: ['probes', name], message: 'give `warning`, `critical` or both' });
      if (typeof warning === 'number' && typeof critical === 'number' && warning > critical)
        mistakes.push({ path: at('warning'), message: 'is above `critical`' });
    }
  }
  for (const [name, value] of Object.entries(fields(root.secrets))) {
    const { consumers } = fields(value);
    if (!Array.isArray(consumers)) continue;
    for (const [i, item] of consumers.entries()) {
      const consumer = fields(item);
      const at = ['secrets', name, 'consumers', i];
      if (consumer.on !== undefined) place([...at, 'on'], consumer.on);
      if (consumer.service !== undefined) service([...at, 'service'], consumer.service);
      if (consumer.database !== undefined) refer([...at, 'database'], consumer.database, databases, 'database');
      if (Array.isArray(consumer.restarts))
        for (const [j, of] of consumer.restarts.entries()) service([...at, 'restarts', j], of);
    }
  }

  const approvers = fields(root.approvers);
  mistakes.push(...samePerson(approvers));
  for (const [runbook, value] of Object.entries(fields(root.approvals))) {
    if (value === 'none') continue;
    const policy = fields(value);
    const named: unknown[] | undefined = Array.isArray(policy.approvers) ? policy.approvers : undefined;
    for (const [i, name] of (named ?? []).entries())
      refer(['approvals', runbook, 'approvers', i], name, approvers, 'approver');
    const people = new Set(named ?? Object.keys(approvers)).size;
    const wanted = typeof policy.approvals === 'number' ? policy.approvals : 1;
    if (people < wanted)
      mistakes.push({
        path: ['approvals', runbook],
        message: `wants ${wanted} to agree, but only ${people} may decide: it would always time out`,
      });
  }

  const provision = fields(root.provision);
  const places = (path: (string | number)[], on: unknown): void => {
    for (const [i, one] of (Array.isArray(on) ? (on as unknown[]) : [on]).entries())
      if (one !== undefined) place(Array.isArray(on) ? [...path, i] : path, one);
  };
  for (const part of ['packages', 'accounts', 'secretFiles', 'programs'])
    for (const [name, value] of Object.entries(fields(provision[part])))
      places(['provision', part, name, 'on'], fields(value).on);
  for (const part of ['firewall', 'sshd']) places(['provision', part, 'on'], fields(provision[part]).on);
  for (const [i, value] of (Array.isArray(provision.directories) ? provision.directories : []).entries())
    places(['provision', 'directories', i, 'on'], fields(value).on);
  const cluster = fields(provision.postgresql);
  refer(['provision', 'postgresql', 'database'], cluster.database, databases, 'database');
  refer(['provision', 'postgresql', 'password'], cluster.password, fields(root.secrets), 'secret');
  const adoption = fields(root.adopt);
  for (const [name, value] of Object.entries(fields(adoption.checkouts))) {
    refer(['adopt', 'checkouts', name, 'deployment'], fields(value).deployment, fields(root.deployments), 'deployment');
  }
  for (const [name, value] of Object.entries(fields(adoption.cron))) {
    const { on, replacedBy } = fields(value);
    place(['adopt', 'cron', name, 'on'], on);
    for (const [i, of] of (Array.isArray(replacedBy) ? replacedBy : []).entries())
      refer(['adopt', 'cron', name, 'replacedBy', i], of, fields(root.schedules), 'schedule');
  }

  if (Array.isArray(root.escalation)) {
    const tiers = new Set<unknown>();
    for (const [i, value] of root.escalation.entries()) {
      const { tier } = fields(value);
      if (tiers.has(tier))
        mistakes.push({ path: ['escalation', i, 'tier'], message: `tier ${String(tier)} is listed twice` });
      tiers.add(tier);
    }
    for (const part of ['approvers', 'notifications']) {
      for (const [name, value] of Object.entries(fields(root[part]))) {
        const { tier } = fields(value);
        if (typeof tier === 'number' && !tiers.has(tier))
          mistakes.push({
            path: [part, name, 'tier'],
            message: `there is no tier ${tier}; escalation has: ${[...tiers].join(', ')}`,
          });
      }
    }
  }
  return mistakes;
}

const inside = (path: unknown, directory: unknown): boolean =>
  typeof path === 'string' && typeof directory === 'string' && `${path}/`.startsWith(`${directory}/`);

/** Deployments of one host with a place in common: each would prune the releases of the other, or take its link for its own. */
function sharedPlaces(deployments: Fields, members: (on: unknown) => string[]): SystemMistake[] {
  const places = ['directory', 'releases'] as const;
  const all = Object.entries(deployments).map(([name, value]) => ({ name, of: fields(value) }));
  return all.flatMap(({ name, of }, index) =>
    all
      .slice(0, index)
      .filter((other) => members(of.on).some((host) => members(other.of.on).includes(host)))
      .flatMap((other) =>
        places.flatMap((field) =>
          places
            .filter((its) => inside(of[field], other.of[its]) || inside(other.of[its], of[field]))
            .map((its) => ({
              path: ['deployments', name, field],
              message: `is, holds or lies in \`${its}\` of deployment "${other.name}", which is on the same host; give each a place of its own`,
            })),
        ),
      ),
  );
}

/**
 * Approvers with one signing key or one e-mail address: a person under two names would count twice, and could agree to a run of their own. The
 * comment of a key does not make it another one.
 */
function samePerson(approvers: Fields): SystemMistake[] {
  const mistakes: SystemMistake[] = [];
  const wordsOf: Record<string, (text: string) => string> = {
    signingKey: (text) => text.trim().split(/\s+/).slice(0, 2).join(' '),
    email: (text) => text.trim().toLowerCase(),
  };
  for (const [field, words] of Object.entries(wordsOf)) {
    const first = new Map<string, string>();
    for (const [name, value] of Object.entries(approvers)) {
      const text = fields(value)[field];
      if (typeof text !== 'string' || isUnset(text)) continue;
      const other = first.get(words(text));
      if (other === undefined) first.set(words(text), name);
      else
        mistakes.push({
          path: ['approvers', name, field],
          message: `is that of "${other}" too: one person under two names would count twice, and could agree to a run of their own`,
        });
    }
  }
  return mistakes;
}

/**
 * What tells one machine from another: address and port of sshd, and the way there. Undefined while the address is unset.
 * A private address behind two different jump hosts is two machines.
 */
export function machineOf(connection: unknown, hosts: Fields, depth = 0): string | undefined {
  if (connection === 'local') return 'local';
  const { address, port, jump } = fields(connection);
  if (typeof address !== 'string' || isUnset(address) || depth > 9) return undefined;
  const own = `${address.toLowerCase()} port ${typeof port === 'number' ? port : 22}`;
  if (typeof jump !== 'string') return own;
  const through = machineOf(fields(hosts[jump]).connection, hosts, depth + 1);
  return through === undefined ? undefined : `${own} through ${through}`;
}

function circleFrom(start: string, hosts: Fields): string[] | undefined {
  const way = [start];
  for (let at = start; ;) {
    const { jump } = fields(fields(hosts[at]).connection);
    if (typeof jump !== 'string') return undefined;
    const seen = way.includes(jump);
    way.push(jump);
    if (seen) return jump === start ? way : undefined;
    at = jump;
  }
}

function known(what: string, names: Fields): string {
  const list = Object.keys(names);
  return list.length === 0 ? `the system has no ${what}s` : `${what}s: ${list.join(', ')}`;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fields(value: unknown): Fields {
  return isFields(value) ? value : {};
}
