import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A small valid system, as text, to be changed by tests. */
export const smallSystem = (name: string) => `system: ${name}
title: A small system
timezone: UTC
hosts:
  app:
    connection:
      address: { unset: its address }
      user: guardia
      identity: file:ssh/id
      hostKeys: ['ssh-ed25519 AAAA']
databases:
  main:
    engine: postgresql
    on: app
    name: shop
    version: 15
    access: { kind: peer }
objectStore:
  provider: minio
  endpoint: { unset: its endpoint }
  bucket: backups
  keys:
    worker: { accessKeyId: env:WORKER_ID, secretAccessKey: file:s3/worker }
    hosts:
      app: { accessKeyId: env:APP_ID, secretAccessKey: file:s3/app }
backup:
  recipients: { unset: its recipients }
  identity: file:age/identity
`;

/** An inventory of its own below the temporary directory: `systems` and `overlay` map file names to texts. */
export function inventoryDirectory(systems: Record<string, string>, overlay?: Record<string, string>) {
  const root = mkdtempSync(path.join(tmpdir(), 'guardia-inventory-'));
  const write = (directory: string, files: Record<string, string>) => {
    mkdirSync(directory);
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(directory, name), text);
    return directory;
  };
  return {
    systemsDirectory: write(path.join(root, 'systems'), systems),
    overlayDirectory: overlay ? write(path.join(root, 'overlay'), overlay) : undefined,
    remove: () => rmSync(root, { recursive: true }),
  };
}
