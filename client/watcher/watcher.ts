import { setTimeout as delay } from 'node:timers/promises';
import { createSecrets, secretsDirectory } from '../../activities/secrets/resolve.js';
import { explain } from '../exit-codes.js';
import { memoryFile, readMemory, writeMemory, type WatcherMemory } from './memory.js';
import { watchRound, type Round, type RoundOptions } from './round.js';

export interface WatcherOptions extends Omit<RoundOptions, 'secrets'> {
  /** Seconds from the beginning of one round to that of the next. */
  intervalSeconds: number;
  /** Told after each round. */
  onRound: (round: Round) => void;
  /** Ends the watching after the round that is under way. */
  signal: AbortSignal;
}

/** Watches until `signal` is aborted. Whatever goes wrong in a round, the next one goes on: it is told as trouble. */
export async function watch(options: WatcherOptions): Promise<void> {
  const { signal, intervalSeconds, onRound } = options;
  let memory: WatcherMemory | undefined;
  while (!signal.aborted) {
    const began = Date.now();
    try {
      const { round, memory: kept } = await watchOnce(options, memory);
      memory = kept;
      onRound(round);
    } catch (error) {
      onRound({
        at: new Date(began).toISOString(),
        findings: [],
        trouble: [{ text: `the round failed: ${explain(error).message}` }],
      });
    }
    const rest = Math.max(1_000, intervalSeconds * 1_000 - (Date.now() - began));
    await delay(rest, undefined, { signal }).catch(() => undefined);
  }
}

/** One round, with the memory of this machine or the given one, which is kept unless nobody is told. */
export async function watchOnce(
  options: Omit<RoundOptions, 'secrets'>,
  known?: WatcherMemory,
): Promise<{ round: Round; memory: WatcherMemory }> {
  const { env, tell } = options;
  const secrets = createSecrets({ directory: secretsDirectory(env), environment: env });
  const file = memoryFile(env);
  const { memory, lost } = known === undefined ? readMemory(file) : { memory: known, lost: undefined };
  const round = await watchRound(memory, { ...options, secrets });
  if (lost !== undefined) round.trouble.push({ text: lost });
  if (tell)
    try {
      writeMemory(file, memory);
    } catch (error) {
      // The bucket remembers most of it.
      round.trouble.push({ text: `the memory cannot be kept: ${(error as Error).message}` });
    }
  return { round, memory };
}
