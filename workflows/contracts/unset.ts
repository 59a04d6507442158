import { z } from 'zod';
import { failure } from './errors.js';

/** A value that the manual leaves open. A run that needs it refuses and says which one is missing. */
export const Unset = z
  .strictObject({ unset: z.string().min(1).describe("What has to be filled in, and the manual's own placeholder") })
  .describe('Not filled in yet; a run that needs this value refuses with its name');
export type Unset = z.infer<typeof Unset>;

/** A value that may still be unset. */
export const settable = <T extends z.ZodType>(value: T) => z.union([value, Unset]);

export function isUnset(value: unknown): value is Unset {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.keys(value).length === 1 &&
    typeof (value as Unset).unset === 'string'
  );
}

/** A place in a system that is not filled in: its dotted path and what the inventory says about it. */
export interface UnsetPlace {
  path: string;
  text: string;
}

/**
 * The unset values of a system at or below the given dotted paths, in the order of the system; all of them without paths.
 * `*` stands for any one name: `hosts.*.connection` covers address, identity and host keys of every host.
 * Pure: the same in a planner, an activity and the command.
 */
export function unsetNeeded(system: object, paths: readonly string[] = ['']): UnsetPlace[] {
  const patterns = paths.map((path) => (path === '' ? [] : path.split('.')));
  const found: UnsetPlace[] = [];
  const walk = (value: unknown, at: string[]): void => {
    if (isUnset(value)) {
      const needed = patterns.some(
        (pattern) => pattern.length <= at.length && pattern.every((part, i) => part === '*' || part === at[i]),
      );
      if (needed) found.push({ path: at.join('.'), text: value.unset });
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) walk(inner, [...at, key]);
    }
  };
  walk(system, []);
  return found;
}

/**
 * Refuses, in one sentence that names every value, when one of `paths` (as for unsetNeeded) is not filled in.
 * Throws `UnsetValue`.
 */
export function refuseUnset(system: { system: string }, paths: readonly string[], purpose: string): void {
  const missing = unsetNeeded(system, paths);
  if (missing.length === 0) return;
  const list = missing.map(({ path, text }) => `${path} (${text})`).join('; ');
  throw failure(
    'UnsetValue',
    `${purpose} needs ${missing.length === 1 ? 'a value' : `${missing.length} values`} of system ${system.system} not filled in yet: ${list}`,
    {
      remedy: `Fill ${missing.length === 1 ? 'it' : 'them'} in in ${system.system}.yaml of the inventory or of the overlay (GUARDIA_OVERLAY)`,
    },
  );
}

/** The value, narrowed to set. Call refuseUnset first, which names all that is missing at once. Throws `UnsetValue`. */
export function given<T>(value: T | Unset, path: string): T {
  if (isUnset(value)) throw failure('UnsetValue', `${path} is not filled in yet: ${value.unset}`);
  return value;
}
