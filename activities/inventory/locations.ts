import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface InventoryLocations {
  /** Directory of the shipped files, `NAME.yaml` each. */
  systemsDirectory: string;
  /** Directory of the overlays, `NAME.yaml` each. */
  overlayDirectory?: string | undefined;
}

/**
 * Where the inventory lies: GUARDIA_SYSTEMS (default: `infra/systems` of the installation that this file belongs to) and
 * GUARDIA_OVERLAY (default: no overlay).
 */
export function inventoryLocations(environment: NodeJS.ProcessEnv = process.env): InventoryLocations {
  const { GUARDIA_SYSTEMS: systems, GUARDIA_OVERLAY: overlay } = environment;
  return {
    systemsDirectory: systems ? path.resolve(systems) : installedSystems(),
    ...(overlay ? { overlayDirectory: path.resolve(overlay) } : {}),
  };
}

/** Compiled code lies one level deeper, in `.build/`: the files that operators edit win over the copies beside it. */
function installedSystems(): string {
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
  const edited = path.join(path.dirname(root), 'infra/systems');
  return path.basename(root) === '.build' && existsSync(edited) ? edited : path.join(root, 'infra/systems');
}
