import { z } from 'zod';
import { Name } from './names.js';
import { runInput } from './run.js';

export const ProvisionHostInput = z.strictObject({
  ...runInput,
  host: Name.optional().describe('One host, or a group of hosts; by default every host that the inventory provisions'),
});
export type ProvisionHostInput = z.infer<typeof ProvisionHostInput>;
