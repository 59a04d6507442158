import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ToolboxError } from '../packaging/toolbox.js';
import { command } from './command.js';

/** One version of a package of the npm registry, and the digest that its archive must have. */
export interface PinnedPackage {
  name: string;
  version: string;
  /** As a lock file writes it: `sha512-...`. */
  integrity: string;
}

/**
 * Fetches the package from this machine's npm registry and unpacks it into the directory.
 * @throws ToolboxError when its digest is another one
 */
export async function unpackPackage({ name, version, integrity }: PinnedPackage, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  await command(['npm', 'pack', '--silent', `--pack-destination=${directory}`, `${name}@${version}`]);
  const archive = path.join(directory, `${name}-${version}.tgz`);
  const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
  if (found !== integrity) {
    throw new ToolboxError(`${name}@${version} has the digest ${found}, not the pinned ${integrity}: it is not used.`);
  }
  await command(['tar', '-xzf', archive, '-C', directory, '--strip-components=1', '--no-same-owner']);
  await command(['rm', archive]);
}
