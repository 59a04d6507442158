import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/** Restarts a service, host after host, each out of the balancer meanwhile where there is one. Replaces the restart sections of the manuals. */
export const restartService = runbook(runbooks['restart-service'], async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
});
