import { existsSync, readFileSync } from 'node:fs';

/** What a campaign has kept so far, one value to a line; nothing where it has not begun. */
export function readLines<T>(file: string): T[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}
