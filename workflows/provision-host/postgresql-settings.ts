import { listed, sameSetting, unquoted } from '../contracts/postgresql-setting.js';
import type { SeenSetting } from '../contracts/provision-observation.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** Another kernel or a balloon moves what a machine says of its memory by some MB: that is no reason for a restart of the database. */
const STEP = 256 * MIB;

/**
 * The settings that the manual derives from memory (16 GiB: 4 GB, 12 GB, 1 GB, 20 MB), for another size of machine. Pure.
 * shared_buffers 25 %, effective_cache_size 75 %, maintenance_work_mem a sixteenth (at most 2 GB), work_mem what is left of memory
 * shared among three sorts of every connection. Of memory only whole steps of 256 MiB count.
 */
export function settingsFor(seenBytes: number, maxConnections: number): Record<string, string> {
  const memoryBytes = seenBytes < STEP ? seenBytes : Math.floor(seenBytes / STEP) * STEP;
  const shared = memoryBytes * 0.25;
  return {
    max_connections: String(maxConnections),
    shared_buffers: size(shared),
    effective_cache_size: size(memoryBytes * 0.75),
    maintenance_work_mem: size(Math.min(memoryBytes / 16, 2 * GIB)),
    work_mem: size(Math.max((memoryBytes - shared) / (3 * maxConnections), 4 * MIB)),
  };
}

/** In the largest unit that leaves at least two digits, rounded down. */
function size(bytes: number): string {
  return bytes >= 10 * GIB ? `${Math.floor(bytes / GIB)}GB` : `${Math.max(1, Math.floor(bytes / MIB))}MB`;
}

/** Names of all settings that guardia writes, with these further ones of the inventory. Pure. */
export function settingNames(further: Record<string, string>): string[] {
  return [...new Set(['listen_addresses', ...Object.keys(settingsFor(0, 1)), ...Object.keys(further)])];
}

/** Settings as they stand in a file. Pure. */
export const settingLines = (settings: Record<string, string>): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}\n`)
    .join('');

const WAL_LEVELS = ['minimal', 'replica', 'logical'];

/**
 * The wanted settings without those that would take away what the server works with: libraries that it loads stay, in their order and first,
 * and wal_level is never lowered, because with a logical slot the server would not start. Pure.
 */
export function withKept(wanted: Record<string, string>, inForce: Record<string, SeenSetting>): Record<string, string> {
  const settings = { ...wanted };
  const { shared_preload_libraries: libraries, wal_level: level } = wanted;
  if (libraries !== undefined) {
    const own = listed(libraries);
    const all = [...new Set([...listed(inForce['shared_preload_libraries']?.value ?? ''), ...own])];
    if (all.join() !== own.join()) settings['shared_preload_libraries'] = `'${all.join(',')}'`;
  }
  const now = inForce['wal_level']?.value ?? '';
  if (level !== undefined && WAL_LEVELS.indexOf(now) > WAL_LEVELS.indexOf(unquoted(level).toLowerCase()))
    settings['wal_level'] = now;
  return settings;
}

/** What changes on the server, a line for each setting: our file wins over what stands elsewhere, so that its own diff does not show it. Pure. */
export function settingChanges(
  wanted: Record<string, string>,
  inForce: Record<string, SeenSetting>,
  file: string,
): string[] {
  return Object.entries(wanted).flatMap(([name, value]) => {
    const now = inForce[name];
    if (now === undefined || sameSetting(name, value, now.value, now)) return [];
    const from = now.file === null || now.file === file ? '' : `, so far in ${now.file}`;
    const shown = /^[\w.,:*-]+$/.test(now.value) ? now.value : `'${now.value}'`;
    return [`${name}: ${shown} -> ${value}${from}`];
  });
}
