import type { Client } from '@temporalio/client';
import { createFenceActivities } from '../activities/hosts/fence-activities.js';
import type { Hosts } from '../activities/hosts/hosts.js';
import type { Secrets } from '../activities/secrets/resolve.js';
import { createLockActivities } from '../activities/temporal/lock-activities.js';

export interface Dependencies {
  hosts: Hosts;
  secrets: Secrets;
  client: Client;
}

/** Everything that touches the world, as one flat object: the activities of a site. */
export function createActivities({ hosts, client }: Dependencies) {
  return {
    ...createFenceActivities(hosts),
    ...createLockActivities(client),
  };
}
