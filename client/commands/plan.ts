import { z } from 'zod';
import { command } from '../command.js';
import { planOf } from '../decisions.js';
import { planText } from '../plan-text.js';
import { findRun } from '../runs.js';
import { withTemporal } from '../temporal-access.js';

/** `guardia plan ID`. */
export const plan = command({
  options: z.object({ id: z.string(), system: z.string().optional() }),
  async execute({ id, system }, terminal) {
    await withTemporal(terminal.env, async (access) => {
      const run = await findRun(access, id, system);
      const current = await planOf(access, run);
      terminal.document({ workflowId: run.workflowId, runId: run.runId, ...current });
      terminal.print(planText(current.plan, { digest: current.digest, colors: terminal.colors }));
    });
  },
});
