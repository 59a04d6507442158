import { z } from 'zod';
import { endStates } from '../../workflows/contracts/run.js';
import { command } from '../command.js';
import { requesterHere } from '../requester.js';
import { followRun } from '../run-following.js';
import { cancelRun, findRun } from '../runs.js';
import { withTemporal } from '../temporal-access.js';

/** `guardia cancel ID`. */
export const cancel = command({
  options: z.object({
    id: z.string(),
    system: z.string().optional(),
    reason: z.string().optional(),
    follow: z.boolean().default(true),
  }),
  async execute({ id, system, reason, follow }, terminal) {
    return withTemporal(terminal.env, async (access) => {
      const run = await findRun(access, id, system, { toAnswer: true });
      const asked = await cancelRun(access, run, { reason, requester: requesterHere(terminal.env) });
      if (!asked) terminal.say(`${run.workflowId} has ended already; there is nothing to cancel.`);
      else terminal.say(`${run.workflowId} was asked to stop; it undoes what it did.`);
      if (!follow) {
        terminal.document({ workflowId: run.workflowId, runId: run.runId, asked });
        return 0;
      }
      const exitCode = await followRun(access, run, terminal);
      // What was asked for is what came, or there was nothing to do: that is no failure of this command.
      return !asked || exitCode === endStates.cancelled.exitCode ? 0 : exitCode;
    });
  },
});
