/**
 * The one text of a JSON value: object keys sorted by UTF-16 code units, no white space, numbers and strings as
 * ECMAScript writes them (RFC 8785). Fields that are `undefined` are left out, as JSON.stringify does.
 * Throws TypeError for what JSON cannot hold: NaN, infinities, lone surrogates, functions, symbols, bigints, class instances.
 */
export function canonicalJson(value: unknown): string {
  return write(value, '$');
}

function write(value: unknown, at: string): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') {
    if (/\p{Surrogate}/u.test(value)) throw new TypeError(`canonical JSON: ${at} holds a lone surrogate`);
    return JSON.stringify(value);
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`canonical JSON: ${at} is ${value}`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${Array.from(value, (item: unknown, i) => write(item, `${at}[${i}]`)).join(',')}]`;
  if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null)
      throw new TypeError(`canonical JSON: ${at} is not a plain object`);
    const entries = Object.entries(value as Record<string, unknown>).filter(([, field]) => field !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return `{${entries.map(([key, field]) => `${write(key, `${at} (a key)`)}:${write(field, `${at}.${key}`)}`).join(',')}}`;
  }
  throw new TypeError(`canonical JSON: ${at} is ${typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`}`);
}
