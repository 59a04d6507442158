import type { Probe } from '../../workflows/contracts/probe.js';
import type { ProbeResult, ProbeState } from '../../workflows/contracts/probe-result.js';

/** What a probe came to. `failed` counts as the severity of the probe says. */
export interface Verdict {
  state: Exclude<ProbeState, 'critical'> | 'critical' | 'failed';
  /** What was seen, and what was to be seen: a few words. */
  measured: string;
  expected: string;
  /** Why it is not ok. Default: measured against expected. */
  message?: string | undefined;
  remedy?: string | undefined;
}

export const ok = (measured: string, expected: string): Verdict => ({ state: 'ok', measured, expected });
export const failed = (measured: string, expected: string, remedy?: string): Verdict => ({
  state: 'failed',
  measured,
  expected,
  remedy,
});
/** It could not be looked at: `why` says what is in the way. */
export const unknown = (why: string, expected: string, remedy?: string): Verdict => ({
  state: 'unknown',
  measured: 'could not be looked at',
  expected,
  message: why,
  remedy,
});

/** A number against its levels: at or above is a problem. */
export function judgeLevels(
  value: number,
  { warning, critical }: { warning?: number | undefined; critical?: number | undefined },
  unit: string,
  about = '',
): Verdict {
  const measured = `${Number(value.toFixed(1))}${unit}${about}`;
  const expected = `below ${[warning, critical]
    .filter((level) => level !== undefined)
    .map((level) => `${level}${unit}`)
    .join(', at worst ')}`;
  if (critical !== undefined && value >= critical)
    return { state: 'critical', measured, expected, message: `${measured}, critical from ${critical}${unit} on` };
  if (warning !== undefined && value >= warning)
    return { state: 'warning', measured, expected, message: `${measured}, a warning from ${warning}${unit} on` };
  return ok(measured, expected);
}

/** The worst of several verdicts about one thing; what is wrong is told together. */
export function worst(verdicts: readonly Verdict[]): Verdict {
  const order = ['ok', 'warning', 'unknown', 'failed', 'critical'];
  const bad = verdicts
    .filter(({ state }) => state !== 'ok')
    .sort((a, b) => order.indexOf(b.state) - order.indexOf(a.state));
  const join = (texts: (string | undefined)[]): string => texts.filter((text) => text).join('; ');
  const shown = bad.length === 0 ? verdicts : bad;
  return {
    state: bad[0]?.state ?? 'ok',
    measured: join(shown.map(({ measured }) => measured)),
    expected: join(shown.map(({ expected }) => expected)),
    ...(bad.length === 0
      ? {}
      : {
          message: join(bad.map((verdict) => verdict.message ?? against(verdict))),
          remedy: bad.find(({ remedy }) => remedy)?.remedy,
        }),
  };
}

const against = ({ measured, expected }: Verdict): string => `${measured}, expected ${expected}`;

/** The result that people and other runs read: short, and without secrets. */
export function resultOf(
  probe: Probe,
  verdict: Verdict,
  milliseconds: number,
  scrub: (text: string) => string,
): ProbeResult {
  const state = verdict.state === 'failed' ? probe.severity : verdict.state;
  const line = (text: string, most: number): string => {
    const one = scrub(text).replaceAll(/\s+/g, ' ').trim();
    return one.length <= most ? one : `${one.slice(0, most - 1)}…`;
  };
  return {
    id: probe.id,
    title: line(probe.title, 200),
    on: probe.on,
    severity: probe.severity,
    state,
    measured: line(verdict.measured, 200),
    expected: line(verdict.expected, 200),
    ...(state === 'ok' ? {} : { message: line(verdict.message ?? against(verdict), 300) }),
    ...(state === 'ok' || verdict.remedy === undefined ? {} : { remedy: line(verdict.remedy, 300) }),
    milliseconds: Math.round(milliseconds),
  };
}
