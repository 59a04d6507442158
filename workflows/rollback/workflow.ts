import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/** Goes back to the release from before the last deploy, however long ago that was, and takes its migrations back where that loses nothing. */
export const rollback = runbook(runbooks.rollback, async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
});
