import { readFileSync } from 'node:fs';
import path from 'node:path';
import { failure } from '../../workflows/contracts/errors.js';
import { MOST_FILE_BYTES } from '../../workflows/contracts/files.js';
import type { InventoryLocations } from './locations.js';

/**
 * Texts of files beside the inventory, by their names relative to its directory. Throws `InvalidInventory` that names every file that is
 * missing, too large or no text.
 */
export function readSources(
  names: readonly string[],
  { systemsDirectory }: InventoryLocations,
): Record<string, string> {
  const wrong: string[] = [];
  const texts: Record<string, string> = {};
  for (const name of new Set(names)) {
    const file = path.join(systemsDirectory, name);
    try {
      const bytes = readFileSync(file);
      if (bytes.length > MOST_FILE_BYTES) wrong.push(`${file} has ${bytes.length} bytes, at most ${MOST_FILE_BYTES}`);
      else texts[name] = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      wrong.push(`${file} ${code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? String(error)})`}`);
    }
  }
  if (wrong.length > 0)
    throw failure('InvalidInventory', `files that the inventory names: ${wrong.join('; ')}`, {
      remedy: 'Put them beside the inventory, or correct their names in it',
    });
  return texts;
}
