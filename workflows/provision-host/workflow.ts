import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/**
 * Makes hosts what the inventory says: packages, firewall, users, files, units, PostgreSQL, sshd. Plans what differs only. Replaces the
 * manuals' initial configuration.
 */
export const provisionHost = runbook(runbooks['provision-host'], async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
});
