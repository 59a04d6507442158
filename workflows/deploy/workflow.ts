import { runbooks } from '../contracts/runbooks.js';
import { runbook } from '../lib/runbook.js';

/**
 * Brings a release of an application to its hosts: built beside the one that runs, migrated once, switched host by host, watched.
 * Replaces deploy.sh of the manuals.
 */
export const deploy = runbook(runbooks.deploy, async (run) => {
  const planned = await run.plan();
  await run.approve(planned);
  await run.apply(planned);
  // What a way back hours later has to know beside the plan: contracts/deploy.ts reads it from the record.
  const migrations = run.resultOf('migrate');
  run.result({
    recoveryPoint: run.resultOf('recovery-point')?.['recoveryPoint'],
    ...(migrations ? { migrations: { applied: migrations['applied'], baseline: migrations['baseline'] } } : {}),
  });
});
