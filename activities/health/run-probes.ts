import { setMaxListeners } from 'node:events';
import { WORKER_HOST } from '../../workflows/contracts/names.js';
import { workerHost, type HostTarget } from '../../workflows/contracts/host-target.js';
import type { Probe } from '../../workflows/contracts/probe.js';
import type { ProbeResult } from '../../workflows/contracts/probe-result.js';
import type { SecretReference } from '../../workflows/contracts/secret-reference.js';
import { given, type Unset } from '../../workflows/contracts/unset.js';
import type { Hosts } from '../hosts/hosts.js';
import { serverSource } from '../postgres/server-source.js';
import type { Secrets } from '../secrets/resolve.js';
import { applicationSource } from './application-login.js';
import { ask, explain, type Dial } from './asking.js';
import { probeDatabase } from './database-probe.js';
import { askHost, isHostProbe, type HostProbe } from './host-probes.js';
import { judgeAnswer, probeRateLimit } from './http-probes.js';
import { probeOpenbao, probeRabbitmq, probeRedis, probeUptimeKuma } from './service-probes.js';
import { probeTls } from './tls-probe.js';
import { resultOf, unknown, type Verdict } from './verdict.js';

/** How many probes of a call run side by side, beside the one script on each host. */
const AT_ONCE = 8;
/** Time for the login to a host that probes look from, before their own time begins: a pooled connection that died takes 20 s to be noticed, and another 15 s are tried. Milliseconds. */
const WAY_MS = 40_000;
/** Connections of a rate limit probe side by side: from the worker, and from a host, through one SSH connection for eight. */
const BURST = { worker: 50, host: 8 };

export interface ProbeAccess {
  hosts: Hosts;
  secrets: Secrets;
  /** How to reach the hosts that the probes look from. */
  targets: Readonly<Record<string, HostTarget>>;
}

type SpokenProbe = Exclude<Probe, HostProbe>;

/**
 * Looks at everything, in the order of `probes`. Never throws for what a probe finds, nor for a host that cannot be reached: that is a
 * result, too. Rejects only when `signal` aborts. What is asked of a host's own tools is one call for each host; the others run
 * side by side, a bounded number at once; rate limits come last, one after the other, as they use up what the others need.
 */
export async function runProbes(
  probes: readonly Probe[],
  access: ProbeAccess,
  signal: AbortSignal,
): Promise<ProbeResult[]> {
  const results = new Map<Probe, ProbeResult>();
  const scrub = (text: string): string => access.secrets.scrubber.scrub(text);
  const put = (probe: Probe, verdict: Verdict, milliseconds: number): void =>
    void results.set(probe, resultOf(probe, verdict, milliseconds, scrub));
  const targetOf = (on: string): HostTarget | undefined =>
    on === WORKER_HOST ? (access.targets[on] ?? workerHost) : access.targets[on];

  /** Logs in once for everything that is looked at from there: a slow login is no slow answer, and a dead host is waited for once. */
  const ways = new Map<string, Promise<Verdict | undefined>>();
  const wayTo = (target: HostTarget): Promise<Verdict | undefined> => {
    if (target.connection === 'local') return Promise.resolve(undefined);
    const before = ways.get(target.name);
    if (before) return before;
    const late = AbortSignal.timeout(WAY_MS);
    const way = access.hosts.run(target, { argv: ['true'] }, { signal: AbortSignal.any([signal, late]) }).then(
      () => undefined,
      (error: unknown) =>
        unknown(
          late.aborted ? `${target.name} did not answer within ${WAY_MS / 1000} s` : messageOf(error),
          `${target.name} can be reached`,
        ),
    );
    ways.set(target.name, way);
    return way;
  };

  const ofHost = async (on: string, some: HostProbe[]): Promise<void> => {
    const target = targetOf(on);
    const blocked = target ? await wayTo(target) : noWay(on);
    if (!target || blocked) return some.forEach((probe) => put(probe, blocked ?? noWay(on), 0));
    try {
      const answers = await askHost(access.hosts, target, some, signal);
      some.forEach((probe, i) => {
        const answer = answers[i];
        if (answer) put(probe, answer.verdict, answer.milliseconds);
      });
    } catch (error) {
      signal.throwIfAborted();
      for (const probe of some) put(probe, unknown(messageOf(error), `${on} can be asked`), 0);
    }
  };
  const spoken = async (probe: SpokenProbe): Promise<void> => {
    const target = targetOf(probe.on);
    if (!target) return put(probe, noWay(probe.on), 0);
    const blocked = await wayTo(target);
    const began = performance.now();
    put(probe, blocked ?? (await speak(probe, target, access, signal)), performance.now() - began);
  };

  const hostProbes = probes.filter(isHostProbe);
  const others = probes.filter((probe): probe is SpokenProbe => !isHostProbe(probe));
  const last = others.filter(({ kind }) => kind === 'rate-limit');
  const queue = others.filter(({ kind }) => kind !== 'rate-limit');
  const worker = async (): Promise<void> => {
    for (let probe = queue.shift(); probe; probe = queue.shift()) await spoken(probe);
  };
  await Promise.all([
    ...[...new Set(hostProbes.map(({ on }) => on))].map((on) =>
      ofHost(
        on,
        hostProbes.filter((probe) => probe.on === on),
      ),
    ),
    ...Array.from({ length: AT_ONCE }, worker),
  ]);
  for (const probe of last) await spoken(probe);
  signal.throwIfAborted();
  return probes.flatMap((probe) => results.get(probe) ?? []);
}

const noWay = (on: string): Verdict => unknown(`the call has no way to ${on}`, 'a way there');
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** One probe that speaks to a server itself, with its own time. */
async function speak(
  probe: SpokenProbe,
  target: HostTarget,
  { hosts, secrets }: ProbeAccess,
  signal: AbortSignal,
): Promise<Verdict> {
  const whole = AbortSignal.any([signal, AbortSignal.timeout(probe.timeoutSeconds * 1000)]);
  // Each connection of a burst listens to it.
  setMaxListeners(0, whole);
  const dial: Dial = (address, port, own) => hosts.connect(target, address, port, own);
  const reveal = async (reference: SecretReference | Unset | undefined, what: string): Promise<string | undefined> =>
    reference === undefined ? undefined : (await secrets.resolve(given(reference, what))).reveal();
  try {
    return await within(whole, () => look(probe, { hosts, target, dial, reveal, secrets, signal: whole }));
  } catch (error) {
    signal.throwIfAborted();
    return explain(error, probe.title, whole, probe.timeoutSeconds);
  }
}

/** Ends with the signal also where what is waited for does not listen to it. */
function within<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = (): void => reject(signal.reason as Error);
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop, { once: true });
    act()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', stop));
  });
}

async function look(
  probe: SpokenProbe,
  by: {
    hosts: Hosts;
    target: HostTarget;
    dial: Dial;
    reveal: (reference: SecretReference | Unset | undefined, what: string) => Promise<string | undefined>;
    secrets: Secrets;
    signal: AbortSignal;
  },
): Promise<Verdict> {
  const { hosts, target, dial, reveal, signal } = by;
  const ca = 'ca' in probe ? await reveal(probe.ca, `probes.${probe.id}.ca`) : undefined;
  switch (probe.kind) {
    case 'http': {
      const secret: Record<string, string> = {};
      for (const [name, reference] of Object.entries(probe.sendSecret ?? {}))
        secret[name] = (await reveal(reference, `probes.${probe.id}.sendSecret.${name}`)) ?? '';
      const { url, address, method } = probe;
      return judgeAnswer(
        probe,
        await ask({ url, address, ca, method, headers: { ...probe.send, ...secret } }, dial, signal),
      );
    }
    case 'rate-limit': {
      const { url, address } = probe;
      const atOnce = target.connection === 'local' ? BURST.worker : BURST.host;
      return probeRateLimit(probe, { url, address, ca }, dial, signal, atOnce);
    }
    case 'tls':
      return probeTls(probe, ca, dial, signal);
    case 'postgresql':
      return probeDatabase(
        hosts,
        target,
        probe,
        probe.login === undefined
          ? await serverSource(probe.server, by.secrets)
          : await applicationSource(hosts, target, { server: probe.server, login: probe.login }, by.secrets, signal),
        signal,
      );
    case 'openbao':
      return probeOpenbao(probe, ca, dial, signal);
    case 'redis': {
      const address = given(probe.address, `probes.${probe.id}.address`);
      const password = await reveal(probe.password, `probes.${probe.id}.password`);
      return probeRedis({ ...probe, address }, { password, ca }, dial, signal);
    }
    case 'rabbitmq': {
      const url = given(probe.url, `probes.${probe.id}.url`);
      const password = (await reveal(probe.password, `probes.${probe.id}.password`)) ?? '';
      return probeRabbitmq({ ...probe, url }, { password, ca }, dial, signal);
    }
    case 'uptime-kuma':
      return probeUptimeKuma(probe, ca, dial, signal);
  }
}
