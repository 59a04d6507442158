import { z } from 'zod';
import { SecretReference } from './secret-reference.js';

/** A PostgreSQL server as a plan names it. Holds no secret. */
export const ServerReference = z.object({
  database: z.string(),
  version: z.int(),
  port: z.int(),
  access: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('peer'), osUser: z.string() }),
    z.object({ kind: z.literal('password'), address: z.string(), user: z.string(), password: SecretReference }),
    z.object({ kind: z.literal('compose'), project: z.string(), service: z.string(), user: z.string() }),
    z.object({ kind: z.literal('container'), container: z.string(), user: z.string() }),
  ]),
});
export type ServerReference = z.infer<typeof ServerReference>;
