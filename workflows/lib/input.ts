import type { z } from 'zod';
import { failure } from '../contracts/errors.js';

/**
 * Parses the one input object of a workflow, update or signal. Throws `InvalidInput` that names every wrong field and what
 * is allowed: a ZodError would park the run instead of failing it.
 */
export function parseInput<T>(schema: z.ZodType<T>, raw: unknown, what: string): T {
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const at = issue.path.join('.');
    if (issue.code === 'unrecognized_keys') return `unknown field ${issue.keys.map((key) => `"${key}"`).join(', ')}`;
    if (issue.code === 'invalid_type' && raw !== null && typeof raw === 'object' && at !== '' && !(at in raw))
      return `"${at}" is missing (${issue.expected})`;
    return at === '' ? issue.message : `"${at}": ${issue.message}`;
  });
  const shape = (schema as { shape?: Record<string, unknown> }).shape;
  throw failure('InvalidInput', `the input of ${what} is wrong: ${problems.join('; ')}`, {
    remedy: shape ? `Allowed fields: ${Object.keys(shape).join(', ')}. Nothing was started` : 'Nothing was started',
  });
}
