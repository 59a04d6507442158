import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/**
 * Takes over a host that was set up by hand: its checkout becomes a release, its data moves beside the releases, its cron lines give way to
 * schedules. The way back is the run's own undo.
 */
export const adopt = runbook(runbooks.adopt, async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
});
