/** What PostgreSQL says of a setting: its `vartype`, and the unit that a number without one is in, such as `8kB` or `ms`. */
export interface SettingKind {
  type: string;
  unit: string | null;
}

/** Bytes, and milliseconds. */
const UNITS: Record<string, number> = {
  ...{ B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 },
  ...{ us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 },
};

/** A value as in postgresql.conf, without its quotes. Pure. */
export function unquoted(text: string): string {
  const inner = /^'(.*)'$/.exec(text.trim())?.[1];
  return inner === undefined ? text.trim() : inner.replace(/''|\\'/g, "'");
}

/** The entries of a setting that is a list of names, such as shared_preload_libraries. Pure. */
export function listed(text: string): string[] {
  return unquoted(text)
    .split(',')
    .map((one) => one.trim().replace(/^"(.*)"$/, '$1'))
    .filter((one) => one !== '');
}

/** Whether two texts say the same to PostgreSQL: `4GB` and `4096MB`, `on` and `true`. Pure. */
export function sameSetting(name: string, one: string, other: string, kind: SettingKind): boolean {
  const [a, b] = [one, other].map((text) => comparable(name, unquoted(text), kind));
  return a === b;
}

function comparable(name: string, text: string, { type, unit }: SettingKind): string | number {
  if (type === 'integer' || type === 'real') return inUnits(text, unit) ?? text;
  if (type === 'bool') return /^(?:on|t(?:rue)?|y(?:es)?|1)$/i.test(text) ? 'on' : 'off';
  if (type === 'enum') return text.toLowerCase();
  return name.endsWith('_libraries') ? listed(text).join(',') : text;
}

function inUnits(text: string, unit: string | null): number | undefined {
  const [, number, own] = /^([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([a-z]*)$/i.exec(text) ?? [];
  if (number === undefined) return undefined;
  const [, times = '', base = ''] = /^(\d*)(\w+)$/.exec(unit ?? '') ?? [];
  const factor = own ? UNITS[own] : (times === '' ? 1 : Number(times)) * (UNITS[base] ?? 1);
  return factor === undefined ? undefined : Number(number) * factor;
}
