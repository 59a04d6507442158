import type { Client } from '@temporalio/client';
import { createConfigurationActivities } from '../activities/configuration-files/configuration-activities.js';
import { createDecisionActivities } from '../activities/decisions/decision-activities.js';
import { createHealthActivities } from '../activities/health/health-activities.js';
import { createFenceActivities } from '../activities/hosts/fence-activities.js';
import type { Hosts } from '../activities/hosts/hosts.js';
import { inventoryLocations } from '../activities/inventory/locations.js';
import { createNotifyActivities } from '../activities/notify/notify-activities.js';
import { createRecoveryPointActivities } from '../activities/object-store/recovery-point-activities.js';
import { createPostgresActivities } from '../activities/postgres/postgres-activities.js';
import { createRunRecordActivities } from '../activities/run-record/run-record-activities.js';
import type { Secrets } from '../activities/secrets/resolve.js';
import { createLockActivities } from '../activities/temporal/lock-activities.js';

export interface Dependencies {
  hosts: Hosts;
  secrets: Secrets;
  client: Client;
}

/** Everything that touches the world, as one flat object: the activities of a site. */
export function createActivities({ hosts, secrets, client }: Dependencies) {
  return {
    ...createFenceActivities(hosts),
    ...createDecisionActivities(),
    ...createLockActivities(client),
    ...createHealthActivities({ hosts, secrets }),
    ...createPostgresActivities({ hosts, secrets }),
    ...createConfigurationActivities({ hosts, secrets }),
    ...createRecoveryPointActivities({ hosts, secrets }),
    ...createRunRecordActivities({ hosts, secrets }),
    ...createNotifyActivities({ secrets, locations: inventoryLocations(), webUi: process.env['GUARDIA_WEB_UI'] }),
  };
}
