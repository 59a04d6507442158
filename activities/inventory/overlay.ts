import { isUnset } from '../../workflows/contracts/unset.js';
import type { Path } from './source-file.js';

/** What an overlay may fill even where the shipped file has a value; `*` is any name that the shipped file has. */
const fillable = [
  'layout',
  'hosts.*.connection.address',
  'hosts.*.connection.port',
  'hosts.*.connection.identity',
  'hosts.*.connection.hostKeys',
  'hosts.*.stateDirectory',
  'databases.*.port',
  'databases.*.access.address',
  'endpoints.*.url',
  'endpoints.*.address',
  'endpoints.*.ca',
  'objectStore.provider',
  'objectStore.endpoint',
  'objectStore.region',
  'objectStore.bucket',
  'objectStore.keys',
  'backup.recipients',
  'backup.identity',
  'approvers.*.signingKey',
  'approvals.*',
  'notifications.*.signingSecret',
  'mail',
  'watcher',
].map((path) => path.split('.'));

/** For people: what an overlay may hold. */
export const OVERLAY_MAY_HOLD =
  'layout, addresses, ports, endpoints, provider, region and bucket of the object store, keys (hostKeys, identity, objectStore.keys, ' +
  'signingKey, recipients, signingSecret), `approvals`, `mail`, `watcher`, stateDirectory, "connection: local", and whatever the shipped file leaves unset';

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * The shipped system with the overlay laid over it, and the paths of the overlay that go beyond what one may fill.
 * Mappings are merged, everything else is replaced. What an overlay may not change stays as it is shipped.
 */
export function layOver(shipped: unknown, overlay: unknown): { merged: unknown; refused: Path[] } {
  const refused: Path[] = [];
  const walk = (base: unknown, over: unknown, at: string[]): unknown => {
    const open = isUnset(base) || isFillable(at) || (over === 'local' && matches(['hosts', '*', 'connection'], at));
    if (open) return merge(base, over);
    if (isFields(base) && isFields(over)) {
      const result: Fields = { ...base };
      for (const [key, value] of Object.entries(over)) {
        const under = [...at, key];
        const inner = Object.hasOwn(base, key) || isFillable(under) ? walk(base[key], value, under) : undefined;
        if (inner === undefined) refused.push(under);
        else result[key] = inner;
      }
      return result;
    }
    if (base !== over) refused.push(at);
    return base;
  };
  return { merged: walk(shipped, overlay, []), refused };
}

function merge(base: unknown, over: unknown): unknown {
  if (!isFields(base) || !isFields(over) || isUnset(base) || isUnset(over)) return over;
  const result: Fields = { ...base };
  for (const [key, value] of Object.entries(over))
    result[key] = Object.hasOwn(base, key) ? merge(base[key], value) : value;
  return result;
}

const isFillable = (at: readonly string[]) => fillable.some((pattern) => matches(pattern, at));
const matches = (pattern: readonly string[], at: readonly string[]) =>
  pattern.length === at.length && pattern.every((part, i) => part === '*' || part === at[i]);
