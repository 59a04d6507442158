import { z } from 'zod';
import { AbsolutePath } from './names.js';

export const FileMode = z
  .string()
  .regex(/^[0-7]{4}$/, 'four octal digits in quotes: "0644"')
  .describe('Permissions, four octal digits');
export const AccountName = z
  .string()
  .regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'a login or group name: lower-case letters, digits, _ and -');

/** The longest text of a file that is carried into an observation or a plan. Bytes. */
export const MOST_FILE_BYTES = 32 * 1024;

/** What stands at a path. Never holds a secret: values of files that may hold secrets are masked in `text`. */
export const SeenFile = z.object({
  type: z.enum(['absent', 'file', 'directory', 'symlink', 'other']),
  mode: z.string().optional(),
  owner: z.string().optional(),
  group: z.string().optional(),
  size: z.int().optional().describe('Bytes'),
  digest: z
    .string()
    .optional()
    .describe('Tells whether the content changed: SHA-256, or a keyed digest where the file may hold secrets'),
  target: z.string().optional().describe('What a symlink points to, as written in it'),
  leadsTo: z
    .object({ mode: z.string(), owner: z.string(), group: z.string() })
    .optional()
    .describe('Of a symlink to a directory: mode and owner of that'),
  same: z.boolean().optional().describe('Whether the content is the wanted one, where the question named one'),
  text: z.string().optional().describe('The content, where it is asked for or not the wanted one; masked'),
  cut: z.boolean().optional().describe('`text` is only the beginning'),
  masked: z.boolean().optional().describe('Values in `text` are masked'),
});
export type SeenFile = z.infer<typeof SeenFile>;

/** One question of `observeFiles`. */
export const FileQuestion = z.strictObject({
  path: AbsolutePath,
  secret: z
    .boolean()
    .default(false)
    .describe('It may hold secrets: every value of it is masked that is not `known` or `wanted`'),
  known: z
    .array(z.string())
    .optional()
    .describe(
      'Texts that hold no secret: lines that they have as well are never masked. Where the file may hold secrets, their words stay readable too, and what is plain, such as a number or a path',
    ),
  wanted: z.string().optional().describe('The content that is wanted: answered by `same`; the text comes only if not'),
  text: z.boolean().default(false).describe('Bring the text in any case'),
});
export type FileQuestion = z.infer<typeof FileQuestion>;
