import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { stateDirectory } from '../../activities/temporal/dev-server-state.js';
import { Condition } from './condition.js';

const Time = z.iso.datetime();

const KeptCondition = z.object({
  condition: Condition,
  dedupeKey: z.string(),
  incident: z
    .string()
    .optional()
    .describe(
      'Names the matter to targets, where it came back before everybody was told that it was over; else dedupeKey',
    ),
  since: Time.describe('When the watcher saw it first'),
  told: z.array(z.string()).describe('Targets that know of it'),
  tries: z.int().describe('Rounds that could not tell everybody'),
  notBefore: Time.optional().describe('When those that do not know are tried again'),
  over: Time.optional().describe('When it was seen to be over'),
  toldOver: z
    .array(z.string())
    .describe('Targets that know that, too; it is forgotten once all do that were told of it'),
});
export type KeptCondition = z.infer<typeof KeptCondition>;

/** What the watcher has to know of its earlier rounds. The bucket knows what was told to whom; this is for what the bucket does not know, or when it is away. */
export const WatcherMemory = z.object({
  schemaVersion: z.literal(1),
  conditions: z.record(z.string(), KeptCondition).describe('By key'),
  past: z.record(z.string(), Time).describe('Occurrences that are over, by dedupeKey'),
  waits: z
    .record(z.string(), z.object({ waitedMs: z.number(), since: Time.optional() }))
    .describe('By run id: how long an open run has waited, and since when it waits now'),
  schedules: z
    .record(z.string(), z.object({ says: z.string(), since: Time }))
    .describe('By SYSTEM/SCHEDULE: since when it says this. It was not due before'),
  failing: z.record(z.string(), z.int()).describe('Rounds in a row in which a look failed, by its key'),
});
export type WatcherMemory = z.infer<typeof WatcherMemory>;

export const emptyMemory = (): WatcherMemory => ({
  schemaVersion: 1,
  conditions: {},
  past: {},
  waits: {},
  schedules: {},
  failing: {},
});

/** Where the watcher of this machine keeps its memory. */
export function memoryFile(env: Readonly<Record<string, string | undefined>>): string {
  return path.join(stateDirectory(env), 'watcher', 'memory.json');
}

/** The memory as it was kept; an empty one, and why, when there is none that can be read. */
export function readMemory(file: string): { memory: WatcherMemory; lost?: string } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { memory: emptyMemory(), ...(code === 'ENOENT' ? {} : { lost: `${file} cannot be read (${code})` }) };
  }
  try {
    return { memory: WatcherMemory.parse(JSON.parse(text)) };
  } catch {
    return { memory: emptyMemory(), lost: `${file} is damaged: it is written anew` };
  }
}

/** Replaces the file as a whole. Throws as node:fs does. */
export function writeMemory(file: string, memory: WatcherMemory): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, `${JSON.stringify(memory, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
