import { z } from 'zod';
import { runInput } from './run.js';

export const RepairInput = z.strictObject({
  ...runInput,
  run: z.string().max(100).optional().describe('Run id of the terminated run; may be left out while there is one'),
  leave: z
    .boolean()
    .default(false)
    .describe('Undo nothing: the hosts stay as they are, and other runs may go on. Say why in `reason`'),
});
export type RepairInput = z.infer<typeof RepairInput>;
