/** Whether an address lies in a network; names cannot be told here. Pure. */
export function within(address: string, network: string): 'yes' | 'no' | 'maybe' {
  const [of, at] = [parsed(network), parsed(address)];
  if (of === undefined || at === undefined) return address === network ? 'yes' : 'maybe';
  return of.bits === at.bits && first(at.value, at.bits - of.length) === first(of.value, of.bits - of.length)
    ? 'yes'
    : 'no';
}

/** Whether this is an address or a network in figures: what a firewall and PostgreSQL compare with, and not a name. Pure. */
export const isAddress = (text: string): boolean => parsed(text) !== undefined;

/**
 * An address or a network in its one spelling, which ufw leaves as it is: the first address of a network, IPv6 short and in small letters, no length for
 * a single address. What is none stays as it is. Pure.
 */
export function spelled(text: string): string {
  const found = parsed(text);
  if (found === undefined) return text;
  const { value, bits, length } = found;
  const base = first(value, bits - length);
  const address = bits === 32 ? dotted(base) : colons(base);
  return length === bits ? address : `${address}/${length}`;
}

interface Network {
  value: bigint;
  /** Of an address: 32 or 128. */
  bits: 32 | 128;
  length: number;
}

/** The first address of a network. */
const first = (value: bigint, free: number): bigint => (value >> BigInt(free)) << BigInt(free);

function parsed(text: string): Network | undefined {
  const [, address = '', length] = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const bits = address.includes(':') ? 128 : 32;
  const value = bits === 128 ? fromColons(address) : fromDotted(address);
  if (value === undefined || Number(length ?? bits) > bits) return undefined;
  return { value, bits, length: Number(length ?? bits) };
}

function fromDotted(text: string): bigint | undefined {
  if (!/^\d{1,3}(?:\.\d{1,3}){3}$/.test(text)) return undefined;
  const parts = text.split('.').map(Number);
  return parts.every((part) => part <= 255) ? joined(parts, 8) : undefined;
}

function fromColons(text: string): bigint | undefined {
  // Its last 32 bits may be written as IPv4.
  const [, front = '', tail] = /^(.*:)(\d+\.[\d.]+)$/.exec(text) ?? [];
  const last = tail === undefined ? undefined : fromDotted(tail);
  if (tail !== undefined && last === undefined) return undefined;
  const whole = last === undefined ? text : `${front}${(last >> 16n).toString(16)}:${(last & 0xffffn).toString(16)}`;
  const sides = whole.split('::').map((side) => (side === '' ? [] : side.split(':')));
  const given = sides.flat();
  if (sides.length > 2 || !given.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  const missing = 8 - given.length;
  if (sides.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const [before = [], after = []] = sides;
  const groups = [...before, ...Array.from({ length: missing }, () => '0'), ...after];
  return joined(
    groups.map((group) => Number.parseInt(group, 16)),
    16,
  );
}

const joined = (parts: readonly number[], size: number): bigint =>
  parts.reduce((sum, part) => (sum << BigInt(size)) + BigInt(part), 0n);

const split = (value: bigint, count: number, size: number): number[] =>
  Array.from({ length: count }, (_, i) =>
    Number((value >> BigInt(size * (count - 1 - i))) & ((1n << BigInt(size)) - 1n)),
  );

const dotted = (value: bigint): string => split(value, 4, 8).join('.');

/** As inet_ntop does: the first of the longest runs of zeros is left out; an address that holds one of IPv4 says so. */
function colons(value: bigint): string {
  const groups = split(value, 8, 16).map((group) => group.toString(16));
  const runs = groups.map((_, from) => {
    const end = groups.findIndex((group, i) => i >= from && group !== '0');
    return (end === -1 ? 8 : end) - from;
  });
  const longest = Math.max(...runs);
  const at = runs.indexOf(longest);
  if (at === 0 && (longest === 6 || (longest === 5 && groups[5] === 'ffff')))
    return `::${longest === 5 ? 'ffff:' : ''}${dotted(value & 0xffffffffn)}`;
  if (longest < 2) return groups.join(':');
  return `${groups.slice(0, at).join(':')}::${groups.slice(at + longest).join(':')}`;
}
