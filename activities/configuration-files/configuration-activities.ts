import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import type { Hosts } from '../hosts/hosts.js';
import { StoreArtifact, storeArtifact } from '../object-store/store-artifact.js';
import type { Secrets } from '../secrets/resolve.js';
import { archiveJob } from './archive-job.js';

const SaveConfiguration = StoreArtifact.extend({ paths: z.array(z.string()), optional: z.array(z.string()) });

export function createConfigurationActivities({ hosts, secrets }: { hosts: Hosts; secrets: Secrets }) {
  return {
    /** Saves configuration files of a host as one encrypted archive. Idempotent by (run, step, generation). */
    async saveConfiguration({ with: raw, context }: CallInput) {
      const argument = SaveConfiguration.parse(raw);
      return storeArtifact({ hosts, secrets }, argument, context, {
        job: (target, key) => archiveJob(argument, target, key),
      });
    },
  };
}
