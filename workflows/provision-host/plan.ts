import type { Observation } from '../contracts/calls.js';
import { failure } from '../contracts/errors.js';
import { hostsOf } from '../contracts/host-groups.js';
import { PLAN_FORMAT, type Lane, type Stage, type Step } from '../contracts/plan.js';
import type { Planner } from '../contracts/planning.js';
import type { Probe } from '../contracts/probe.js';
import type { ProvisionHostInput } from '../contracts/provision-host.js';
import { DOCKER_BLOCK, overrideText, type SeenHost } from '../contracts/provision-observation.js';
import { isInstalled, ruleText } from '../contracts/provision.js';
import { probeNeeds, probesAbout } from '../contracts/system-probes.js';
import type { System } from '../contracts/system.js';
import { call, idPart } from '../steps/call.js';
import { directory, textDiff } from '../steps/file.js';
import { asBefore, stillWorks } from '../steps/health.js';
import { summed } from './downtime.js';
import { recoveryPointAfter } from '../steps/recovery-point.js';
import { isBelow, isNotedEarly, noted } from './compose-project.js';
import { opensToNeighbours, publishedPortRules, rulesFor } from './firewall.js';
import {
  deploymentsOn,
  isProvisioned,
  partOf,
  question,
  secretFileArgument,
  SSHD_DROP_IN,
  type HostPart,
} from './observation.js';
import { postgresql } from './postgresql.js';
import { program } from './program.js';
import { PACKAGE_SECONDS, readLater, type Work } from './work.js';

/** Probes that see the whole way that a request takes; the others are for the look at the end. */
const TELLING: readonly string[] = ['http', 'openbao', 'postgresql'];

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
    refuseWhatNoSourceHas(works);
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
    const saved = stages.length === 0 ? { stages: [], notes: [] } : recoveryPointAfter(system);
    return {
      format: PLAN_FORMAT,
      runbook: 'provision-host',
      system: system.system,
      stages: [...health.before, ...distinct(stages), ...health.after, ...saved.stages],
      downtime: summed(works.flatMap(({ downtime }) => downtime)),
      notes: [...new Set([...works.flatMap(({ notes }) => notes), ...saved.notes])],
    };
  },

  // By part, so that a change says where it is. Where the login comes from is the worker's own, not the host's: another worker sees the same host,
  // and where the rules of the plan would cut it off, the dead man's switch takes them back.
  facets(observation: Observation) {
    return Object.fromEntries(
      Object.entries(observation as Record<string, SeenHost>).flatMap(([host, seen]) =>
        Object.entries(seen).map(([part, value]): [string, unknown] => [
          `${host}: ${part}`,
          part === 'firewall' ? { ...seen.firewall, login: undefined } : value,
        ]),
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

/** Half of the packages help nobody, and what apt would say comes only once the run has begun. Throws `HostUnusable` that names all of them. */
function refuseWhatNoSourceHas(works: Work[]): void {
  const lacking = works.filter(({ now }) => (now.unavailable ?? []).length > 0);
  if (lacking.length === 0) return;
  throw failure(
    'HostUnusable',
    lacking
      .map(({ part, now }) => `apt on ${part.host} can install no ${(now.unavailable ?? []).join(', and no ')}`)
      .join('; '),
    {
      remedy:
        'Add the package source that has it to the host and run apt-get update there, or name another package under provision of the inventory; workflows/provision-host/README.md names the sources',
    },
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
  const missing = part.packages.filter((spec) => !isInstalled(spec, now.packages));
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
  const open = opensToNeighbours(system, part.host, seen?.networks ?? []);
  if (open.length > 0)
    notes.push(
      `${part.host}: hosts beside it are let in as well by ${open.join('; ')}. Where its containers are meant, narrow the flow to their networks: docker network inspect.`,
    );
  if (rules.length === 0)
    throw failure('InvalidInventory', `no flow of ${system.system} lets anything in to ${part.host}`, {
      remedy: 'Name the flows to it in the inventory; at least the way in of the operators',
    });
  if (part.firewall.docker) refuseOtherBridges(part.host, seen?.bridges ?? []);
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

/** Rules let pass what comes in by br-*: through an interface of that name that is not Docker's the whole network would reach published ports. */
function refuseOtherBridges(host: string, bridges: readonly string[]): void {
  if (bridges.length === 0) return;
  throw failure(
    'HostUnusable',
    `${host} has interfaces that are called like bridges of Docker and are none that it has named: ${bridges.join(', ')}: what comes in there would pass for containers, and reach every published port`,
    {
      host,
      remedy:
        'Give them another name, such as br0 (those of Docker networks: without com.docker.network.bridge.name), or take the guard of published ports out: provision.firewall.docker: false',
    },
  );
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
    directory(now.files[path], {
      ...{ path, mode, owner, group, host: part.host },
      why: `${system.title} keeps its files there`,
    }),
  );
  return [...accounts, ...directories];
}

function secretFiles(work: Work): Step[] {
  const { system, part, now, sources, notes } = work;
  const projects = part.programs.flatMap(([name, { compose }]) => (compose ? [{ name, compose }] : []));
  const before = projects.flatMap(({ name, compose }) => (isNotedEarly(work, compose) ? [noted(name, compose)] : []));
  const steps = part.secretFiles.flatMap(([, one]): Step[] => {
    const argument = secretFileArgument(system, part.host, one, sources);
    const seen = now.secretFiles[one.path];
    if (seen?.same) return [];
    const made = seen?.made ?? [];
    if (seen?.settings !== undefined)
      notes.push(
        `${part.host}: ${seen.settings.join(', ')} of ${one.path} get other values than they have: those of the inventory.`,
      );
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

function sshd({ system, part, now }: Work): Step[] {
  if (!part.sshd) return [];
  const { options } = part.sshd;
  const content = [
    '# Written by guardia.',
    ...Object.entries(options).map(([keyword, value]) => `${keyword} ${value}`),
    '',
  ].join('\n');
  refuseSshdOverrides(part.host, now);
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

/**
 * What sshd reads before the drop-in wins, and so does a Match block: root could go on logging in, with everything as the inventory says. Throws
 * `HostUnusable` that names all of it.
 */
function refuseSshdOverrides(host: string, { sshd: seen }: SeenHost): void {
  const lost = seen?.overridden ?? [];
  if (lost.length === 0) return;
  throw failure(
    'HostUnusable',
    `sshd on ${host} would go on with ${lost.map(overrideText).join(', ')}: it takes what it reads first, and a Match block before anything else, so that ${SSHD_DROP_IN} says it in vain`,
    {
      host,
      remedy: lost.some(({ place }) => place !== '')
        ? 'Take these lines out of the files, or say the same under provision.sshd.options of the inventory'
        : 'See that /etc/ssh/sshd_config begins with Include /etc/ssh/sshd_config.d/*.conf',
    },
  );
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
