import { z } from 'zod';
import { failure } from './errors.js';
import { Name } from './names.js';
import type { System } from './system.js';

const name = Name.describe('Of the service, in the inventory');

/** A service as a plan names it: how a host runs it. */
export const ServiceReference = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('systemd'), name, unit: z.string() }),
  z.object({
    kind: z.literal('compose'),
    name,
    project: z.string(),
    service: z.string(),
    directory: z.string(),
    file: z.string(),
    overrides: z.array(z.string()).default([]),
  }),
  z.object({ kind: z.literal('container'), name, container: z.string() }),
]);
export type ServiceReference = z.infer<typeof ServiceReference>;

/** The reference for a service of a system. Throws `InvalidPlan` for an unknown one. Pure. */
export function serviceReference(system: System, of: string): ServiceReference {
  const service = system.services[of];
  if (!service)
    throw failure(
      'InvalidPlan',
      `system ${system.system} has no service ${of} (it has: ${Object.keys(system.services).join(', ')})`,
    );
  return ServiceReference.parse({ ...service, name: of });
}
