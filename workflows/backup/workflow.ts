import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/**
 * Saves the databases and the configuration of a system into the object store and reads the backup back.
 * Replaces backup-db.sh and backup-all.sh of the manuals.
 */
export const backup = runbook(runbooks.backup, async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
  const point = run.resultOf('write-manifest');
  run.result({
    recoveryPoint: point?.['id'],
    location: point?.['location'],
    state: run.resultOf('write-proof')?.['state'],
    bytes: point?.['bytes'],
  });
});
