import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { identify, type ProcessIdentity } from '../../activities/temporal/process-identity.js';

/** Somebody else holds the directory. */
export class DirectoryLocked extends Error {
  override readonly name = 'DirectoryLocked';
  readonly holder: ProcessIdentity;
  constructor(directory: string, holder: ProcessIdentity) {
    super(`${directory} is in use by process ${holder.pid}`);
    this.holder = holder;
  }
}

const PREFIX = 'lock.';
const TRIES = 200;

/**
 * Takes a directory for this process until `release` or the process's end, also by SIGKILL: the lock of a process that is gone counts for
 * nothing.
 *
 * Each process puts up a file of its own, then looks for those of others: of two that try at the same time at least one sees the other and
 * steps back. A file is named after its process and the time of its start, so that whoever removes a stale one can hit no other.
 * Throws DirectoryLocked.
 */
export async function lockDirectory(directory: string): Promise<{ release: () => void }> {
  const own = identify(process.pid);
  if (own === undefined) throw new Error(`cannot tell when process ${process.pid} started`);
  const mine = path.join(directory, nameOf(own));
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(mine, '', { flag: 'wx', mode: 0o600 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw new DirectoryLocked(directory, own);
      throw error;
    }
    const other = othersIn(directory, mine);
    if (other === undefined) {
      writeFileSync(mine, 'held');
      return { release: () => rmSync(mine, { force: true }) };
    }
    rmSync(mine, { force: true });
    // One that is only trying steps back too: try again at another moment than it.
    if (other.holds || attempt >= TRIES) throw new DirectoryLocked(directory, other.process);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
  }
}

/** Another living process that holds the directory, else one that tries to; removes what dead ones left. */
function othersIn(directory: string, mine: string): { process: ProcessIdentity; holds: boolean } | undefined {
  let trying: ProcessIdentity | undefined;
  for (const name of readdirSync(directory)) {
    const file = path.join(directory, name);
    if (!name.startsWith(PREFIX) || file === mine) continue;
    const other = identify(Number(name.split('.')[1]));
    if (other === undefined || nameOf(other) !== name) rmSync(file, { force: true });
    else if (isHeld(file)) return { process: other, holds: true };
    else trying = other;
  }
  return trying === undefined ? undefined : { process: trying, holds: false };
}

function nameOf({ pid, startTime }: ProcessIdentity): string {
  return `${PREFIX}${pid}.${startTime.replaceAll(/\W+/g, '-')}`;
}

function isHeld(file: string): boolean {
  try {
    return readFileSync(file, 'utf8') !== '';
  } catch {
    return false;
  }
}
