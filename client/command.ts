import type { z } from 'zod';
import { CommandFailure } from './command-failure.js';
import { exitCodeFor, explain } from './exit-codes.js';
import type { Terminal } from './terminal.js';

/** What the file of a command exports: the schema of its arguments and options, and what it does. */
export interface Command<O = unknown> {
  options: z.ZodType<O>;
  /** Returns the exit code; nothing for 0. Throws what exit-codes.ts can explain. */
  execute(options: O, terminal: Terminal): Promise<number | void>;
}

export function command<O>(definition: Command<O>): Command<O> {
  return definition;
}

/**
 * The one way in which a command runs: parses its arguments, runs it, and turns whatever is thrown into one readable block
 * and an exit code. Never throws.
 */
export async function runCommand(
  load: () => Promise<Command>,
  raw: Record<string, unknown>,
  terminal: Terminal,
): Promise<number> {
  try {
    const loaded = await load();
    const parsed = loaded.options.safeParse(raw);
    if (!parsed.success) throw new CommandFailure('usage', { message: wrongOptions(parsed.error) });
    return (await loaded.execute(parsed.data, terminal)) ?? 0;
  } catch (error) {
    return showError(error, terminal);
  }
}

/** Shows an error and returns its exit code. */
export function showError(error: unknown, terminal: Terminal): number {
  const { reason, message, remedy } = explain(error);
  const exitCode = exitCodeFor(reason);
  terminal.say(errorBlock(message, remedy));
  if ((terminal.env['GUARDIA_DEBUG'] ?? '') !== '') terminal.say(stackOf(error));
  terminal.document({ error: { reason, exitCode, message, ...(remedy === undefined ? {} : { remedy }) } });
  return exitCode;
}

/** `guardia: what happened`, further lines indented, and what to do. Pure. */
export function errorBlock(message: string, remedy: string | undefined): string {
  const indented = message.trim().replaceAll('\n', '\n  ');
  return remedy === undefined
    ? `guardia: ${indented}`
    : `guardia: ${indented}\n  -> ${remedy.trim().replaceAll('\n', '\n     ')}`;
}

function wrongOptions(error: z.ZodError): string {
  const problems = error.issues.map(({ path, message }) => {
    const [first] = path;
    return first === undefined ? message : `${String(first)}: ${message}`;
  });
  return problems.length === 1 ? (problems[0] as string) : `the command line is wrong:\n${problems.join('\n')}`;
}

function stackOf(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at instanceof Error; at = at.cause) parts.push(at.stack ?? at.message);
  return parts.join('\ncaused by: ');
}
