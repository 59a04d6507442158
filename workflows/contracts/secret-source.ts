import { z } from 'zod';
import { AbsolutePath } from './names.js';
import { SecretReference } from './secret-reference.js';

/** Where the value of an application's secret is found, as a plan may say it: on the host, by reference, or made anew. */
export const SecretSource = z.strictObject({
  name: z.string(),
  kind: z.enum(['hex', 'base64', 'alphanumeric', 'issued']),
  length: z.int().positive().optional(),
  on: z
    .array(
      z.strictObject({
        file: AbsolutePath,
        key: z.string(),
        form: z.enum(['value', 'url']),
        older: z.boolean().default(false).describe('Of an earlier set-up: counts where no other file holds it'),
      }),
    )
    .describe('Environment files of this host that may hold it, and that have to agree'),
  from: SecretReference.optional().describe('Read by the worker where no file of the host holds it'),
  make: z.boolean().describe('Whether a value may be made where there is none'),
  guarded: z.boolean().default(false).describe('None is made while one of the files names its key in any form'),
  same: z.boolean().default(false).describe('Several hosts need it: what a file holds has to be what `from` refers to'),
  later: z.boolean().describe('Left empty where there is none'),
});
export type SecretSource = z.infer<typeof SecretSource>;

/** A place for a secret in a template: `{{secret:NAME}}`, or `{{secret:NAME|url}}` as a part of a URL. */
export const SECRET_PLACE = /\{\{secret:([a-z][a-z0-9-]*)(\|url)?\}\}/g;
