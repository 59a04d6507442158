// Four hosts as the manual's scaling section has them, set up by guardia itself: HAProxy, two servers, and one for the database.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { keptHosts } from '../../infra/lab/kept-hosts.js';
import { startLab } from '../../infra/lab/lab.js';
import { startBackupLab, type BackupLab } from '../backup/harness.js';

export const SCALED_HOSTS = ['balancer', 'app1', 'app2', 'db'] as const;
const layout = 'scaled';

/** Bare hosts, with nothing but the certificates on the balancer. */
export const startBareScaledLab = async (): Promise<BackupLab> => {
  const here = await startBackupLab({ hosts: SCALED_HOSTS.map((name) => ({ name, bare: true })), layout });
  await here.lab.certificates('balancer');
  return here;
};

/** provision-host on all of them, and what the manual has a person do then: OpenBao runs, and the application has its login to it. */
export async function setUpScaled(here: BackupLab): Promise<void> {
  const { end, message } = await here.run({}, 'provision-host');
  if (end !== 'succeeded') throw new Error(`provision-host: ${end}: ${message}`);
  await here.lab.openbao('db', '0.0.0.0');
}

/** Hosts that were set up so and have their first release, v1: made once on this machine, and started from there. */
export async function startScaledLab(): Promise<BackupLab> {
  const kept = await keptHosts({
    name: layout,
    madeOf: ['3', ...recipe()],
    start: startLab,
    setUp: async () => {
      const here = await startBareScaledLab();
      try {
        shorten(here);
        await setUpScaled(here);
        const { end, message } = await here.run({ ref: 'v1' }, 'deploy');
        if (end !== 'succeeded') throw new Error(`deploy of v1: ${end}: ${message}`);
        return await here.leave();
      } catch (error) {
        await here.down();
        throw error;
      }
    },
  });
  const here = await startBackupLab({ hosts: SCALED_HOSTS.map((name) => ({ name, bare: true, kept })), layout });
  shorten(here);
  return here;
}

/** The watch of ten minutes is for production. */
export const shorten = (here: BackupLab): void =>
  here.changeInventory('bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }');

/** What provision-host makes of the hosts: the inventory, its files, and the planner. */
function recipe(): string[] {
  const root = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../../' : '../../../', import.meta.url));
  return ['infra/systems/proofpass.yaml', 'infra/systems/proofpass', 'workflows/provision-host'].flatMap((place) => {
    const at = path.join(root, place);
    if (!place.includes('.'))
      return readdirSync(at, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name))
        .sort()
        .map((file) => `${path.relative(root, file)}\0${readFileSync(file, 'utf8')}`);
    return [readFileSync(at, 'utf8')];
  });
}

/** What an observer who is not guardia sees of a server: releases, link, units, what answers, shared data. */
export const OBSERVED = `
  cd /opt/proofpass; readlink platform; ls -A releases | grep -v '^.mirror'; systemctl is-active proofpass-api proofpass-platform
  curl -s http://127.0.0.1:4000/version; echo; find shared -printf '%p %y %m %u:%g\\n' | sort`;
