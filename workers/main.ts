// `node .build/workers/main.js`: the worker. Runs workflows and the activities of the sites that it serves until it is told to stop.
// Environment: TEMPORAL_* (or a profile), GUARDIA_SYSTEMS, GUARDIA_OVERLAY, GUARDIA_SECRETS, GUARDIA_STATE, GUARDIA_SITES.
import { TemporalConnectionError } from '../activities/temporal/connection.js';
import { runWorker } from './run-worker.js';

try {
  await runWorker();
} catch (error) {
  const known = error instanceof TemporalConnectionError;
  process.stderr.write(`guardia worker: ${known ? error.message : ((error as Error).stack ?? String(error))}\n`);
  process.exit(1);
}
