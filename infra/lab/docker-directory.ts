// A host's /var/lib/docker as a directory of this machine: copied without the bytes of its images.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { command } from './command.js';

/** Names below overlay2 of the layers of images: Docker writes them once and never again. What containers write is in others. */
function imageLayers(docker: string): string[] {
  const at = path.join(docker, 'image/overlay2/layerdb/sha256');
  if (!existsSync(at)) return [];
  return readdirSync(at).map((id) => readFileSync(path.join(at, id, 'cache-id'), 'utf8'));
}

/** Copies the directory of a Docker that does not run. Files of images become hard links where both are on one file system. */
export async function copyDocker(from: string, to: string): Promise<void> {
  const layers = imageLayers(from);
  mkdirSync(to, { recursive: true });
  if (layers.length === 0) {
    await command(['cp', '--archive', '--reflink=auto', `${from}/.`, to]);
    return;
  }
  const others = (directory: string, without: readonly string[]) =>
    readdirSync(directory).flatMap((name) => (without.includes(name) ? [] : [path.join(directory, name)]));
  await command(['cp', '--archive', '--reflink=auto', ...others(from, ['overlay2']), to]);
  const [source, target] = [path.join(from, 'overlay2'), path.join(to, 'overlay2')];
  mkdirSync(target, { mode: 0o710 });
  await command(['cp', '--archive', '--reflink=auto', ...others(source, layers), target]);
  const linked = layers.map((layer) => path.join(source, layer));
  try {
    await command(['cp', '--archive', '--link', ...linked, target]);
  } catch {
    // On another file system.
    await command(['cp', '--archive', '--reflink=auto', ...linked, target]);
  }
}

/** Moves it; copies where the other place is on another file system. */
export async function moveDocker(from: string, to: string): Promise<void> {
  rmSync(to, { recursive: true, force: true });
  await command(['mv', from, to]);
}
