import { z } from 'zod';
import { command } from '../command.js';
import { followRun } from '../run-following.js';
import { lookAtRun } from '../run-observer.js';
import { runTree } from '../run-text.js';
import { findRun } from '../runs.js';
import { withTemporal } from '../temporal-access.js';
import { commandExitCodes } from '../../workflows/contracts/run.js';

/** `guardia watch ID`. */
export const watch = command({
  options: z.object({ id: z.string(), system: z.string().optional(), once: z.boolean().default(false) }),
  async execute({ id, system, once }, terminal) {
    return withTemporal(terminal.env, async (access) => {
      const run = await findRun(access, id, system);
      if (!once && run.open) return followRun(access, run, terminal);
      const view = await lookAtRun(access, run);
      terminal.line(view);
      terminal.print(runTree(view, { now: Date.now(), columns: terminal.columns, colors: terminal.colors }));
      return view.exitCode ?? commandExitCodes['still running'].exitCode;
    });
  },
});
