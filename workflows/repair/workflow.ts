import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/** Undoes what a run that was terminated has left on the hosts, newest first, as that run itself would have done. */
export const repair = runbook(runbooks.repair, async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
});
