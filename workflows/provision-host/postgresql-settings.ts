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
