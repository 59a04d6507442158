import { z } from 'zod';

export const ProbeId = z.string().regex(/^[a-z][a-z0-9-]{0,139}$/);
export const Severity = z.enum(['critical', 'warning']);

/** `unknown`: it could not be looked at, which for a critical probe is as bad as a failure. */
export const ProbeState = z.enum(['ok', 'warning', 'critical', 'unknown']);
export type ProbeState = z.infer<typeof ProbeState>;

/** What one probe found. Small, and without secrets: it is kept in histories and shown to people. */
export const ProbeResult = z.object({
  id: ProbeId,
  title: z.string(),
  on: z.string(),
  severity: Severity,
  state: ProbeState,
  measured: z.string().describe('What was seen; at most 200 characters'),
  expected: z.string().describe('What was to be seen; at most 200 characters'),
  message: z.string().optional().describe('Why it is not ok; at most 300 characters'),
  remedy: z.string().optional().describe('What a person can do; at most 300 characters'),
  milliseconds: z.number(),
});
export type ProbeResult = z.infer<typeof ProbeResult>;

/** A problem that fails a health check: critical, or a critical probe that could not be looked at. Pure. */
export const isFailing = ({ state, severity }: Pick<ProbeResult, 'state' | 'severity'>): boolean =>
  state === 'critical' || (state === 'unknown' && severity === 'critical');

export type Tally = Record<ProbeState, number>;

/** How many results are in each state. Pure. */
export function tally(results: readonly Pick<ProbeResult, 'state'>[]): Tally {
  const counts: Tally = { ok: 0, warning: 0, critical: 0, unknown: 0 };
  for (const { state } of results) counts[state] += 1;
  return counts;
}

/** `38 ok, 1 warning, 2 critical`. Pure. */
export function tallyText(counts: Tally): string {
  return Object.entries(counts)
    .filter(([state, count]) => count > 0 || state === 'ok')
    .map(([state, count]) => `${count} ${state}`)
    .join(', ');
}
