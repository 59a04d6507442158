// The process that serves: everything is wired here.
import path from 'node:path';
import { Worker } from '@temporalio/worker';
import { createHosts } from '../activities/hosts/hosts.js';
import { createSshPool } from '../activities/hosts/ssh-pool.js';
import { inventoryLocations } from '../activities/inventory/locations.js';
import { openFingerprints } from '../activities/secrets/fingerprint.js';
import { createSecrets, secretsDirectory } from '../activities/secrets/resolve.js';
import { connectClient, connectWorker } from '../activities/temporal/connection.js';
import { stateDirectory } from '../activities/temporal/dev-server-state.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../workflows/contracts/task-queues.js';
import { createActivities } from './activities.js';
import { activityInterceptor } from './activity-interceptor.js';
import { planners } from './planners.js';
import { createPlanningActivities } from './planning-activities.js';
import { activityWorkerOptions, installRuntime, workflowWorkerOptions } from './worker-options.js';

/** All activities of a site. */
type Activities = ReturnType<typeof createActivities>;

/**
 * Serves workflows and the activities of the sites of GUARDIA_SITES until the process is told to stop. `wrapped` gives the activities that are
 * served for the real ones: for tests that plant faults. Throws TemporalConnectionError where Temporal cannot be reached.
 */
export async function runWorker(
  wrapped: (activities: Activities) => Activities = (activities) => activities,
): Promise<void> {
  const secrets = createSecrets({ directory: secretsDirectory(), environment: process.env });
  const { scrubber } = secrets;
  installRuntime({ write: (line) => process.stderr.write(`${scrubber.scrub(line)}\n`) });
  const ssh = createSshPool({ readIdentity: async (reference) => (await secrets.resolve(reference)).reveal() });
  const hosts = createHosts({
    ssh,
    workerStateDirectory: path.join(stateDirectory(), 'worker'),
    scrub: (text) => scrubber.scrub(text),
  });
  const fingerprints = await openFingerprints(path.join(stateDirectory(), 'fingerprint-key'));
  const { connection, target } = await connectWorker();
  const { client, connection: clientConnection } = await connectClient({ target });
  const interceptors = { activity: [activityInterceptor((text) => scrubber.scrub(text))] };

  const sites = (process.env['GUARDIA_SITES'] ?? DEFAULT_SITE).split(',').map((site) => site.trim());
  const common = { connection, namespace: target.namespace };
  const activities = wrapped(createActivities({ hosts, secrets, client, fingerprints }));
  const workers = await Promise.all([
    Worker.create({
      ...workflowWorkerOptions({
        ...common,
        taskQueue: WORKFLOW_TASK_QUEUE,
        activities: createPlanningActivities(planners, inventoryLocations()),
      }),
      interceptors,
    }),
    ...sites.map((site) =>
      Worker.create({
        ...activityWorkerOptions({ ...common, taskQueue: taskQueueOfSite(site), activities }),
        interceptors,
      }),
    ),
  ]);
  process.stderr.write(
    `guardia worker: serving ${target.address}, namespace ${target.namespace}, sites ${sites.join(', ')}\n`,
  );
  try {
    await Promise.all(workers.map((worker) => worker.run()));
  } finally {
    ssh.close();
    await clientConnection.close();
    await connection.close();
  }
}
