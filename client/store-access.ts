import { loadSystem } from '../activities/inventory/load.js';
import { inventoryLocations } from '../activities/inventory/locations.js';
import { createSecrets, secretsDirectory } from '../activities/secrets/resolve.js';
import { withBucket } from '../activities/object-store/open-store.js';
import type { Bucket } from '../activities/object-store/object-store.js';
import { storeNeeds, storeReference, type StoreReference } from '../workflows/contracts/store-reference.js';
import type { System } from '../workflows/contracts/system.js';
import { refuseUnset } from '../workflows/contracts/unset.js';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Opens a system's bucket from this machine, with the worker's key, for as long as `use` runs. Needs no Temporal.
 * Throws `UnknownSystem`, `InvalidInventory`, `UnsetValue`, `SecretUnavailable` and what the store refuses.
 */
export async function withSystemStore<T>(
  env: Environment,
  name: string,
  use: (bucket: Bucket, store: StoreReference, system: System) => Promise<T>,
): Promise<T> {
  const { system } = loadSystem(name, inventoryLocations(env));
  refuseUnset(system, storeNeeds([]), 'reading the object store');
  const store = storeReference(system);
  const secrets = createSecrets({ directory: secretsDirectory(env), environment: env });
  return withBucket(secrets, store, (bucket) => use(bucket, store, system));
}
