import { setTimeout as delay } from 'node:timers/promises';
import { cancellationSignal } from '@temporalio/activity';
import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { HostTarget } from '../../workflows/contracts/host-target.js';
import { Probe } from '../../workflows/contracts/probe.js';
import { isFailing, ProbeId, tally, tallyText, type ProbeResult } from '../../workflows/contracts/probe-result.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Secrets } from '../secrets/resolve.js';
import { runProbes, type ProbeAccess } from './run-probes.js';

const Targets = z
  .record(z.string(), HostTarget)
  .default({})
  .describe('Hosts that the probes look from, beside that of the lane');
const Seconds = z.number().positive();
const ProbeHost = z.strictObject({
  probes: z.array(Probe).min(1).max(300),
  targets: Targets,
  timeoutSeconds: Seconds.describe('Time of the activity'),
});
const CheckHealth = ProbeHost.extend({
  patienceSeconds: Seconds.describe('How long it may take until all of them pass'),
  intervalSeconds: Seconds.default(1).describe('Pause between two looks'),
  consecutive: z.int().min(1).default(1).describe('How many looks in a row must pass'),
  failingBefore: z.array(ProbeId).default([]).describe('Probes that failed before the change: they are not waited for'),
});
const WatchHealth = ProbeHost.extend({
  seconds: Seconds.describe('How long they are watched'),
  intervalSeconds: Seconds.default(5).describe('Pause between two looks'),
  tolerated: z.int().nonnegative().default(0).describe('How many failures in a row of one probe are borne'),
  failingBefore: z
    .array(ProbeId)
    .default([])
    .describe('Probes that failed before the change: each is judged once it has passed'),
});

/** How many failing probes a failure tells in words; all are counted. */
const TOLD = 5;

/** Looking at hosts and services through probes. All of it reads only. */
export function createHealthActivities({ hosts, secrets }: { hosts: Hosts; secrets: Secrets }) {
  const access = (targets: Record<string, HostTarget>, own: HostTarget | undefined): ProbeAccess => ({
    hosts,
    secrets,
    targets: { ...targets, ...(own ? { [own.name]: own } : {}) },
  });
  return {
    /**
     * Looks once, and returns what every probe found: `results` in the order of the probes, the ids of those that are `failing`, and a summary.
     * Never fails for what it finds; a host that cannot be reached makes its probes `unknown`. At most 300 probes, about two minutes.
     */
    async probeHost({ with: raw, context }: CallInput) {
      const { probes, targets } = ProbeHost.parse(raw);
      const results = await runProbes(probes, access(targets, context.target), cancellationSignal());
      return { results, failing: results.filter(isFailing).map(({ id }) => id), summary: summaryOf(results) };
    },

    /**
     * Waits until all probes pass `consecutive` times in a row, but for those of `failingBefore`; warnings pass. Throws `VerificationFailed` after `patienceSeconds`, naming
     * each probe that fails with what was seen. A retry after a dead worker waits anew.
     */
    async checkHealth({ with: raw, context }: CallInput) {
      const { probes, targets, patienceSeconds, intervalSeconds, consecutive, failingBefore } = CheckHealth.parse(raw);
      const began = performance.now();
      for (let passed = 0, looks = 1; ; looks++) {
        const results = await runProbes(probes, access(targets, context.target), cancellationSignal());
        const failing = results.filter((result) => isFailing(result) && !failingBefore.includes(result.id));
        passed = failing.length === 0 ? passed + 1 : 0;
        const seconds = (performance.now() - began) / 1000;
        if (passed >= consecutive)
          return { results, looks, seconds, summary: `${summaryOf(results)} after ${seconds.toFixed(1)} s` };
        if (seconds + intervalSeconds > patienceSeconds)
          throw unhealthy(
            failing.length > 0 ? failing : results,
            failing.length > 0
              ? `not healthy within ${patienceSeconds} s`
              : `healthy only ${passed} times in a row within ${patienceSeconds} s, not ${consecutive}`,
            context,
          );
        await delay(intervalSeconds * 1000, undefined, { signal: cancellationSignal() });
      }
    },

    /**
     * Watches the probes for `seconds`. Throws `VerificationFailed` as soon as one of them fails more than `tolerated` times in a row. One of
     * `failingBefore` counts from its first success on; those that never pass are told in the summary. A retry after a dead worker watches
     * anew, without a gap in it.
     */
    async watchHealth({ with: raw, context }: CallInput) {
      const { probes, targets, seconds, intervalSeconds, tolerated, failingBefore } = WatchHealth.parse(raw);
      const inARow = new Map<string, number>();
      const unjudged = new Set(failingBefore);
      let failures = 0;
      const end = performance.now() + seconds * 1000;
      for (let looks = 1; ; looks++) {
        const results = await runProbes(probes, access(targets, context.target), cancellationSignal());
        for (const result of results) {
          if (!isFailing(result)) unjudged.delete(result.id);
          if (unjudged.has(result.id)) continue;
          const count = isFailing(result) ? (inARow.get(result.id) ?? 0) + 1 : 0;
          inARow.set(result.id, count);
          if (count > 0) failures += 1;
        }
        const beyond = results.filter(({ id }) => (inARow.get(id) ?? 0) > tolerated);
        if (beyond.length > 0)
          throw unhealthy(beyond, `failed ${tolerated + 1} ${tolerated === 0 ? 'time' : 'times in a row'}`, context);
        if (performance.now() + intervalSeconds * 1000 > end) {
          const still = results.filter(({ id }) => unjudged.has(id)).map(({ title }) => title);
          const told = still.length === 0 ? '' : `; failing before and still: ${listed(still)}`;
          return {
            looks,
            failures,
            summary: `${probes.length} probes watched for ${seconds} s: ${looks} looks, ${failures} failures${told}`,
          };
        }
        await delay(intervalSeconds * 1000, undefined, { signal: cancellationSignal() });
      }
    },
  };
}

/** "12 ok, 1 critical: space used on / (91 % of /, 3.1 GiB free)": one line for a step. */
function summaryOf(results: readonly ProbeResult[]): string {
  const bad = results.filter(({ state }) => state !== 'ok');
  const told = listed(bad.map(({ title, message, measured }) => `${title} (${message ?? measured})`));
  return `${tallyText(tally(results))}${told === '' ? '' : `: ${told}`}`.slice(0, 1000);
}

const listed = (all: readonly string[]): string =>
  `${all.slice(0, TOLD).join('; ')}${all.length > TOLD ? ` and ${all.length - TOLD} more` : ''}`;

function unhealthy(failing: readonly ProbeResult[], what: string, context: CallInput['context']): Error {
  const told = failing
    .slice(0, TOLD)
    .map(({ title, on, measured, expected, message, state }) =>
      state === 'unknown'
        ? `${title} (from ${on}): ${message}`
        : `${title} (from ${on}): ${measured}, expected ${expected}`,
    );
  const more = failing.length > TOLD ? `; and ${failing.length - TOLD} more` : '';
  const remedy = failing.find((result) => result.remedy !== undefined)?.remedy;
  return failure('VerificationFailed', `${what}: ${told.join('; ')}${more}`, {
    step: context.step,
    ...(context.target ? { host: context.target.name } : {}),
    ...(remedy === undefined ? {} : { remedy }),
    probes: failing.slice(0, 20),
  });
}
