import { z } from 'zod';
import { commandExitCodes } from '../../workflows/contracts/run.js';
import { command } from '../command.js';
import { explain } from '../exit-codes.js';
import { archivedRun } from '../run-archive.js';
import { followRun } from '../run-following.js';
import { lookAtRun } from '../run-observer.js';
import { runTree } from '../run-text.js';
import type { RunView } from '../run-view.js';
import { findRun } from '../runs.js';
import { withTemporal } from '../temporal-access.js';
import type { Terminal } from '../terminal.js';

/** `guardia watch ID`. */
export const watch = command({
  options: z.object({ id: z.string(), system: z.string().optional(), once: z.boolean().default(false) }),
  async execute({ id, system, once }, terminal) {
    try {
      return await withTemporal(terminal.env, async (access) => {
        const run = await findRun(access, id, system);
        if (!once && run.open) return followRun(access, run, terminal);
        return show(await lookAtRun(access, run), terminal);
      });
    } catch (error) {
      // Temporal forgets runs after their retention, and can be lost; one that is set up anew knows no search attributes yet, and refuses to look for
      // them. Their records in the object store stay.
      if (id === 'latest' || !['not found', 'unreachable', 'refused'].includes(explain(error).reason)) throw error;
      const { archived, why } = await fromArchive(terminal, id, system);
      if (archived === undefined) {
        if (why !== undefined) terminal.say(`The object store cannot tell, either: ${why}`);
        throw error;
      }
      terminal.say(`From the record in the object store: ${explain(error).message}\n`);
      return show(archived, terminal);
    }
  },
});

async function fromArchive(
  terminal: Terminal,
  id: string,
  system: string | undefined,
): Promise<{ archived?: RunView | undefined; why?: string }> {
  try {
    return { archived: await archivedRun(terminal.env, id, system) };
  } catch (error) {
    return { why: explain(error).message };
  }
}

function show(view: RunView, terminal: Terminal): number {
  terminal.line(view);
  terminal.print(runTree(view, { now: Date.now(), columns: terminal.columns, colors: terminal.colors }));
  return view.exitCode ?? commandExitCodes['still running'].exitCode;
}
