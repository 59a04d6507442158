import type { Client } from '@temporalio/client';
import { createConfigurationActivities } from '../activities/configuration-files/configuration-activities.js';
import { createDecisionActivities } from '../activities/decisions/decision-activities.js';
import { createHealthActivities } from '../activities/health/health-activities.js';
import { createBalancerActivities } from '../activities/balancer/balancer-activities.js';
import { createAccountActivities } from '../activities/accounts/account-activities.js';
import { createFirewallActivities } from '../activities/firewall/firewall-activities.js';
import { createPackageActivities } from '../activities/packages/package-activities.js';
import { createClusterActivities } from '../activities/postgres/cluster-activities.js';
import { createAdoptionActivities } from '../activities/adoption/adoption-activities.js';
import { createComposeActivities } from '../activities/compose/compose-activities.js';
import { createProvisionActivities } from '../activities/provision/provision-activities.js';
import { createSecretFileActivities } from '../activities/secret-files/secret-file-activities.js';
import { createSshdActivities } from '../activities/sshd/sshd-activities.js';
import { createSysctlActivities } from '../activities/sysctl/sysctl-activities.js';
import { createFileActivities } from '../activities/files/file-activities.js';
import { createFenceActivities } from '../activities/hosts/fence-activities.js';
import type { Hosts } from '../activities/hosts/hosts.js';
import { inventoryLocations } from '../activities/inventory/locations.js';
import { createNotifyActivities } from '../activities/notify/notify-activities.js';
import { createMigrationActivities } from '../activities/migrations/migration-activities.js';
import { createRecoveryPointActivities } from '../activities/object-store/recovery-point-activities.js';
import { createPostgresActivities } from '../activities/postgres/postgres-activities.js';
import { createReleaseActivities } from '../activities/releases/release-activities.js';
import { createDeployRecordActivities } from '../activities/run-record/deploy-records.js';
import { createRunRecordActivities } from '../activities/run-record/run-record-activities.js';
import type { Fingerprints } from '../activities/secrets/fingerprint.js';
import type { Secrets } from '../activities/secrets/resolve.js';
import { createServiceActivities } from '../activities/services/service-activities.js';
import { createSmokeActivities } from '../activities/smoke/smoke-activities.js';
import { createSystemdActivities } from '../activities/systemd/systemd-activities.js';
import { createLockActivities, isOpen, runsOf } from '../activities/temporal/lock-activities.js';

export interface Dependencies {
  hosts: Hosts;
  secrets: Secrets;
  client: Client;
  /** Under the key of this worker: tells whether a file that may hold secrets has changed. */
  fingerprints: Fingerprints;
}

/** Everything that touches the world, as one flat object: the activities of a site. */
export function createActivities({ hosts, secrets, client, fingerprints }: Dependencies) {
  return {
    ...createFenceActivities(hosts),
    ...createDecisionActivities({ runsOf: (workflowId) => runsOf(client, workflowId) }),
    ...createLockActivities(client),
    ...createHealthActivities({ hosts, secrets }),
    ...createPostgresActivities({ hosts, secrets }),
    ...createConfigurationActivities({ hosts, secrets }),
    ...createRecoveryPointActivities({ hosts, secrets }),
    ...createFileActivities({ hosts, fingerprints }),
    ...createSystemdActivities({ hosts }),
    ...createPackageActivities({ hosts }),
    ...createAccountActivities({ hosts }),
    ...createFirewallActivities({ hosts }),
    ...createSshdActivities({ hosts }),
    ...createSysctlActivities({ hosts }),
    ...createSecretFileActivities({ hosts, secrets, fingerprints }),
    ...createClusterActivities({ hosts, secrets }),
    ...createAdoptionActivities({ hosts }),
    ...createComposeActivities({ hosts }),
    ...createProvisionActivities({ hosts, secrets, fingerprints }),
    ...createRunRecordActivities({ hosts, secrets, isOpen: (run) => isOpen(client, run) }),
    ...createNotifyActivities({ secrets, locations: inventoryLocations(), webUi: process.env['GUARDIA_WEB_UI'] }),
    ...createDeployRecordActivities({ secrets }),
    ...createServiceActivities({ hosts }),
    ...createReleaseActivities({ hosts, secrets }),
    ...createMigrationActivities({ hosts, secrets }),
    ...createBalancerActivities({ hosts }),
    ...createSmokeActivities({ hosts, secrets }),
  };
}
