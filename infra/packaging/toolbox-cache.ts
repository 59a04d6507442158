import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** An error that the operator can act on: printed without a stack. */
export class ToolboxError extends Error {
  override name = 'ToolboxError';
}

/** Where everything that is built once is kept: GUARDIA_CACHE, else /var/cache/guardia as root, else ~/.cache/guardia. */
export function cacheDirectory(): string {
  const chosen = process.env['GUARDIA_CACHE'];
  if (chosen !== undefined && chosen !== '') return path.resolve(chosen);
  if (process.getuid?.() === 0) return '/var/cache/guardia';
  return path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'guardia');
}

/**
 * Runs `work` while this process holds the lock file; others wait. The lock is the kernel's (flock), held by a child that
 * ends with this process, so a builder that was killed leaves no lock behind.
 * @param waiting called once when somebody else holds the lock
 */
export async function withLock<T>(file: string, work: () => Promise<T>, waiting: () => void = () => {}): Promise<T> {
  const patience = setTimeout(waiting, 1000);
  const release = await takeLock(file).finally(() => clearTimeout(patience));
  if (release === undefined) throw new ToolboxError(`cannot lock ${file}`);
  try {
    return await work();
  } finally {
    await release();
  }
}

/** The same, but does nothing when somebody else holds the lock. */
export async function ifUnlocked(file: string, work: () => Promise<void>): Promise<void> {
  const release = await takeLock(file, '--nonblock');
  if (release === undefined) return;
  try {
    await work();
  } finally {
    await release();
  }
}

/** Takes the lock and returns how to give it back; undefined when somebody else holds it and `how` is not to wait. */
async function takeLock(file: string, how?: '--nonblock'): Promise<(() => Promise<void>) | undefined> {
  mkdirSync(path.dirname(file), { recursive: true });
  // A process group of its own: Ctrl-C must not release the lock while this process still cleans up.
  const holder = spawn('flock', [...(how === undefined ? [] : [how]), '--exclusive', file, 'cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const ended = new Promise<void>((resolve) => holder.once('close', () => resolve()));
  const held = await new Promise<boolean>((resolve, reject) => {
    holder.once('error', (cause) =>
      reject(new ToolboxError(`cannot lock ${file}: the command flock does not run. Install util-linux.`, { cause })),
    );
    holder.once('exit', (code) => {
      if (code === 1) resolve(false);
      else reject(new ToolboxError(`cannot lock ${file}: flock ended with exit code ${code}`));
    });
    holder.stdin.on('error', () => {});
    holder.stdout.once('data', () => resolve(true));
    holder.stdin.write('held\n');
  });
  if (!held) return undefined;
  return async () => {
    holder.stdin.end();
    await ended;
  };
}

/** Prints one line of progress on stderr. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Shows `title ... done in N s` around the work, and a sign of life every 30 seconds. */
export async function shown<T>(title: string, work: () => Promise<T>): Promise<T> {
  const started = Date.now();
  const seconds = () => `${((Date.now() - started) / 1000).toFixed(1)} s`;
  say(`${title} ...`);
  const alive = setInterval(() => say(`${title}: ${seconds()} so far`), 30_000);
  try {
    const result = await work();
    say(`${title}: done in ${seconds()}`);
    return result;
  } catch (error) {
    say(`${title}: failed after ${seconds()}`);
    throw error;
  } finally {
    clearInterval(alive);
  }
}

/**
 * Returns `path`, building it first where it is missing: `build` writes to a temporary path beside it, which is renamed when
 * complete. One builder at a time on this machine. Idempotent by `path`, which must name everything that the result depends on.
 */
export async function builtOnce(
  at: string,
  title: string,
  build: (temporary: string) => Promise<void>,
  discard: (temporary: string) => Promise<void>,
): Promise<string> {
  if (existsSync(at)) return at;
  return await withLock(
    `${at}.lock`,
    async () => {
      if (existsSync(at)) return at;
      const temporary = `${at}.building`;
      await discard(temporary);
      await shown(title, () => build(temporary));
      renameSync(temporary, at);
      return at;
    },
    () => say(`${title}: waiting for another process that builds it`),
  );
}
