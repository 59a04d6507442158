import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { WORKFLOW_BUNDLE } from '../../workers/worker-options.js';

/**
 * Today's workflow bundle with parts of its text replaced, as a file beside it: another version of the workflows. Throws where a text does
 * not occur in it, so that a test cannot silently run today's version.
 */
export function doctoredBundle(replacements: Record<string, string>): string {
  let text = readFileSync(WORKFLOW_BUNDLE, 'utf8');
  for (const [from, to] of Object.entries(replacements)) {
    if (!text.includes(from)) throw new Error(`the bundle does not hold: ${from}`);
    text = text.replaceAll(from, () => to);
  }
  const name = createHash('sha256').update(JSON.stringify(replacements)).digest('hex').slice(0, 12);
  const file = path.join(path.dirname(WORKFLOW_BUNDLE), 'doctored', `${name}.js`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}
