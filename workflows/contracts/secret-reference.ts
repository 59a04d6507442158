import { z } from 'zod';

/**
 * Where a secret is found by the worker; never the secret itself.
 * `file:PATH` is relative to the worker's secrets directory (GUARDIA_SECRETS, default /etc/guardia/secrets) unless absolute;
 * `env:NAME` is a variable in the worker's environment.
 */
export const SecretReference = z
  .string()
  .regex(/^(file:[^\0\n]+|env:[A-Za-z_][A-Za-z0-9_]*)$/, 'allowed: file:PATH or env:NAME')
  .describe('Reference to a secret that the worker resolves: file:PATH or env:NAME. Never the secret itself');
export type SecretReference = z.infer<typeof SecretReference>;
