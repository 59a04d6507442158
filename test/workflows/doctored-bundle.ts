import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { WORKFLOW_BUNDLE } from '../../workers/worker-options.js';

/**
 * Today's workflow bundle with parts of its text replaced, as a file: another version of the workflows. Throws where a text does not
 * occur in it, so that a test cannot silently run today's version.
 */
export function doctoredBundle(replacements: Record<string, string>): string {
  let text = readFileSync(WORKFLOW_BUNDLE, 'utf8');
  for (const [from, to] of Object.entries(replacements)) {
    if (!text.includes(from)) throw new Error(`the bundle does not hold: ${from}`);
    text = text.replaceAll(from, () => to);
  }
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'guardia-bundle-')), 'workflow-bundle.js');
  writeFileSync(file, text);
  return file;
}
