import { failure } from '../contracts/errors.js';
import type { HealthCheckResult } from '../contracts/health-check.js';
import { stepsOf } from '../contracts/plan.js';
import { isFailing, tally, type ProbeResult } from '../contracts/probe-result.js';
import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/** How many failing probes the sentence at the end names; all are in the report. */
const NAMED = 5;

/**
 * Looks at everything that the manual of a system checks, from its hosts and from outside. Changes nothing and takes no lock.
 * Replaces health-check.sh and the connectivity checks of the manuals.
 */
export const healthCheck = runbook(runbooks['health-check'], async (run) => {
  const planned = await run.plan();
  await run.apply(planned);
  const probes = stepsOf(planned.plan).flatMap(
    ({ step }) => (run.resultOf(step.id)?.['results'] ?? []) as ProbeResult[],
  );
  const result: HealthCheckResult = { ...tally(probes), probes };
  run.result(result);
  const failing = probes.filter(isFailing);
  if (failing.length > 0) throw failure('Unhealthy', sentence(failing, probes.length));
});

/** "2 of 41 probes are critical: ...; 1 could not be looked at: ...". */
function sentence(failing: readonly ProbeResult[], all: number): string {
  const named = (some: readonly ProbeResult[]): string => {
    const told = some.slice(0, NAMED).map(({ title, on, message }) => `${title} (from ${on}: ${message})`);
    return `${told.join('; ')}${some.length > NAMED ? `; and ${some.length - NAMED} more` : ''}`;
  };
  const critical = failing.filter(({ state }) => state === 'critical');
  const unknown = failing.filter(({ state }) => state === 'unknown');
  const are = (count: number): string => (count === 1 ? 'is' : 'are');
  return [
    ...(critical.length > 0
      ? [`${critical.length} of ${all} probes ${are(critical.length)} critical: ${named(critical)}`]
      : []),
    ...(unknown.length > 0 ? [`${unknown.length} of ${all} could not be looked at: ${named(unknown)}`] : []),
  ].join('; ');
}
