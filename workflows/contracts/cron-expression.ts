const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const days = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const fields: readonly { name: string; low: number; high: number; names?: readonly string[] }[] = [
  { name: 'minute', low: 0, high: 59 },
  { name: 'hour', low: 0, high: 23 },
  { name: 'day of month', low: 1, high: 31 },
  { name: 'month', low: 1, high: 12, names: months },
  { name: 'day of week', low: 0, high: 6, names: days },
];

/** What is wrong with a cron expression, as the rest of a sentence, of five fields (minute, hour, day of month, month, day of week), or undefined. */
export function cronMistake(expression: string): string | undefined {
  const parts = expression.trim().split(/\s+/);
  if (parts.length !== fields.length)
    return `is no cron expression: it has ${parts.length} field${parts.length === 1 ? '' : 's'}, not five: minute, hour, day of month, month, day of week`;
  for (const [i, field] of fields.entries()) {
    for (const item of (parts[i] ?? '').split(',')) {
      const [range = '', step, ...more] = item.split('/');
      const ends = range === '*' ? [field.low, field.high] : range.split('-').map((end) => number(end, field));
      const [low, high = low] = ends;
      const valid =
        more.length === 0 &&
        ends.length <= 2 &&
        (step === undefined || (/^\d{1,2}$/.test(step) && Number(step) >= 1)) &&
        low !== undefined &&
        high !== undefined &&
        low >= field.low &&
        high <= field.high &&
        low <= high;
      if (!valid)
        return `is no cron expression: its ${field.name} cannot be "${item}"; allowed: ${field.low} to ${field.high}, *, ranges (1-5), lists (1,3) and steps (*/6)`;
    }
  }
  return undefined;
}

function number(text: string, field: { low: number; names?: readonly string[] }): number {
  const named = field.names?.indexOf(text.toLowerCase()) ?? -1;
  if (named >= 0) return named + field.low;
  return /^\d{1,2}$/.test(text) ? Number(text) : NaN;
}
