import { z } from 'zod';
import { SecretReference } from './secret-reference.js';
import type { System } from './system.js';
import { given } from './unset.js';

const KeyReference = z.object({ accessKeyId: SecretReference, secretAccessKey: SecretReference });

/** A system's bucket as a plan names it: the address, the place in it, and references to the keys. Holds no secret. */
export const StoreReference = z.object({
  provider: z.enum(['aws', 'minio', 'r2', 'ceph', 'versitygw', 'other']),
  endpoint: z.string(),
  region: z.string(),
  bucket: z.string(),
  prefix: z.string(),
  system: z.string(),
  workerKey: KeyReference,
  hostKey: KeyReference.optional().describe('The key of the host that the step runs on'),
});
export type StoreReference = z.infer<typeof StoreReference>;

/** What of the inventory a run needs to reach the bucket; `hosts` upload by themselves. */
export function storeNeeds(hosts: readonly string[]): string[] {
  return [
    'objectStore.endpoint',
    'objectStore.bucket',
    'objectStore.keys.worker',
    ...hosts.map((host) => `objectStore.keys.hosts.${host}`),
  ];
}

/** The reference for a step on `host`, or for the worker's own steps. Call after `storeNeeds` was checked. Throws `UnsetValue`. */
export function storeReference(
  system: Pick<System, 'system' | 'objectStore'> & { backup: Pick<System['backup'], 'prefix'> },
  host?: string,
): StoreReference {
  const { objectStore, backup } = system;
  const key = (entry: System['objectStore']['keys']['worker'], at: string): z.infer<typeof KeyReference> => ({
    accessKeyId: given(entry.accessKeyId, `${at}.accessKeyId`),
    secretAccessKey: given(entry.secretAccessKey, `${at}.secretAccessKey`),
  });
  const hostEntry = host === undefined ? undefined : objectStore.keys.hosts[host];
  return {
    provider: objectStore.provider,
    endpoint: given(objectStore.endpoint, 'objectStore.endpoint'),
    region: objectStore.region,
    bucket: given(objectStore.bucket, 'objectStore.bucket'),
    prefix: backup.prefix,
    system: system.system,
    workerKey: key(objectStore.keys.worker, 'objectStore.keys.worker'),
    ...(hostEntry ? { hostKey: key(hostEntry, `objectStore.keys.hosts.${host}`) } : {}),
  };
}
