import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ToolboxError } from '../packaging/toolbox.js';
import { command } from './command.js';

/** Mount points at or below the directory, deepest and newest first. */
export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? [])
    .map((point) => point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))))
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse();
}

/** Unmounts everything at or below the directory. Idempotent. */
export async function unmountBelow(directory: string): Promise<void> {
  for (const point of mountsBelow(directory)) {
    try {
      await command(['umount', point]);
    } catch {
      // Still in use: out of sight now, gone with its last user.
      await command(['umount', '--lazy', point]);
    }
  }
}

/** Mounts an overlay at `directory/root`: writes go to `directory/upper`, `layers` are read, the first one on top. */
export async function mountOverlay(directory: string, layers: readonly string[]): Promise<string> {
  const root = path.join(directory, 'root');
  for (const name of ['upper', 'work', 'root']) mkdirSync(path.join(directory, name), { recursive: true });
  // It becomes the mode of the host's root directory.
  chmodSync(path.join(directory, 'upper'), 0o755);
  if (mountsBelow(root).length > 0) return root;
  const special = [directory, ...layers].find((at) => /[:,\\]/.test(at));
  if (special !== undefined)
    throw new ToolboxError(`a colon, comma or backslash in a path is not possible with overlayfs: ${special}`);
  // A directory of a lower layer is renamed as on any disk, and not copied.
  const options = `redirect_dir=on,lowerdir=${layers.join(':')},upperdir=${path.join(directory, 'upper')},workdir=${path.join(directory, 'work')}`;
  try {
    await command(['mount', '-t', 'overlay', 'guardia-lab', '-o', options, root]);
  } catch (cause) {
    throw new ToolboxError(
      `cannot mount an overlay in ${directory}. Its file system must be an ordinary one (ext4, xfs, btrfs; not an overlay itself, as in a ` +
        `container): set GUARDIA_LAB_DIR to a directory on one.\n${cause instanceof Error ? cause.message : ''}`,
      { cause },
    );
  }
  return root;
}
