import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { identify, isRunning, type ProcessIdentity } from '../../activities/temporal/process-identity.js';

/** Somebody else holds the directory. */
export class DirectoryLocked extends Error {
  override readonly name = 'DirectoryLocked';
  readonly holder: ProcessIdentity;
  constructor(directory: string, holder: ProcessIdentity) {
    super(`${directory} is in use by process ${holder.pid}`);
    this.holder = holder;
  }
}

/**
 * Takes a directory for this process until `release` or the process's end, also by SIGKILL: a lock whose holder is gone counts as free.
 * Throws DirectoryLocked.
 */
export function lockDirectory(directory: string): { release: () => void } {
  const lock = path.join(directory, 'lock');
  const own = identify(process.pid);
  if (own === undefined) throw new Error(`cannot tell when process ${process.pid} started`);
  const text = JSON.stringify(own);
  const mine = `${lock}.${process.pid}`;
  writeFileSync(mine, text, { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < 20; attempt++) {
      try {
        // Appears with its content or not at all.
        linkSync(mine, lock);
        return { release: () => rmSync(lock, { force: true }) };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const found = read(lock);
      if (found === undefined) continue;
      const holder = parse(found);
      if (holder !== undefined && isRunning(holder)) throw new DirectoryLocked(directory, holder);
      // Only one of several starters can rename the stale lock. If it was replaced by a live one in between, that one goes back.
      const aside = `${mine}.stale`;
      try {
        renameSync(lock, aside);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        throw error;
      }
      if (read(aside) !== found) renameSync(aside, lock);
      else rmSync(aside, { force: true });
    }
    throw new Error(`cannot take ${lock}: it changes hands all the time`);
  } finally {
    rmSync(mine, { force: true });
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function parse(text: string): ProcessIdentity | undefined {
  try {
    const value = JSON.parse(text) as Partial<ProcessIdentity>;
    return typeof value.pid === 'number' && typeof value.startTime === 'string'
      ? { pid: value.pid, startTime: value.startTime }
      : undefined;
  } catch {
    return undefined;
  }
}
