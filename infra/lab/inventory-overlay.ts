import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { command } from './command.js';
import { directoryOf, secretsDirectory, type LabState } from './lab-state.js';
import { noticesOf } from './notices-server.js';
import { proofpassOverlay } from './proofpass-overlay.js';
import { s3Of } from './s3-server.js';

export const overlayDirectory = (state: LabState): string => path.join(directoryOf(state.name), 'overlay');
export const identityFile = (state: LabState): string => path.join(secretsDirectory(state), 'ssh/lab');

/** The login key of the lab's hosts and the two age key pairs. */
export async function makeSecrets(state: LabState): Promise<void> {
  const at = secretsDirectory(state);
  for (const name of ['ssh', 'age', 's3', 'notices']) mkdirSync(path.join(at, name), { recursive: true, mode: 0o700 });
  await Promise.all([
    command([
      'ssh-keygen',
      '-q',
      '-t',
      'ed25519',
      '-N',
      '',
      '-C',
      `guardia lab ${state.name}`,
      '-f',
      identityFile(state),
    ]),
    command(['age-keygen', '-o', path.join(at, 'age/operations.txt')]),
    command(['age-keygen', '-o', path.join(at, 'age/escrow.txt')]),
  ]);
}

/**
 * Writes what the worker needs to look after this lab: for each system an overlay of its inventory file, which fills addresses,
 * keys and endpoints only, and the files that its secret references name.
 */
export async function writeOverlay(state: LabState): Promise<void> {
  const at = secretsDirectory(state);
  const s3 = s3Of(state);
  const secret = (name: string, value: string): string => {
    writeFileSync(path.join(at, name), `${value}\n`, { mode: 0o600 });
    return `file:${name}`;
  };
  const key = (name: string, value: { accessKeyId: string; secretAccessKey: string }) => ({
    accessKeyId: secret(`s3/${name}.id`, value.accessKeyId),
    secretAccessKey: secret(`s3/${name}.secret`, value.secretAccessKey),
  });
  const recipients = await Promise.all(
    ['operations', 'escrow'].map(async (name) =>
      (await command(['age-keygen', '-y', path.join(at, `age/${name}.txt`)])).trim(),
    ),
  );
  mkdirSync(overlayDirectory(state), { recursive: true });
  for (const system of state.systems) {
    const overlay = {
      ...(state.layout === undefined ? {} : { layout: state.layout }),
      hosts: Object.fromEntries(
        state.hosts.map((host) => [
          host.name,
          { connection: { address: host.address, identity: 'file:ssh/lab', hostKeys: host.hostKeys } },
        ]),
      ),
      objectStore: {
        provider: 'versitygw',
        endpoint: s3.endpoint,
        region: s3.region,
        bucket: s3.bucket,
        keys: {
          worker: key('worker', s3.keys.worker),
          hosts: Object.fromEntries(
            Object.entries(s3.keys.hosts[system] ?? {}).map(([host, one]) => [host, key(`${system}-${host}`, one)]),
          ),
        },
      },
      ...(system === 'proofpass' ? { ...proofpassOverlay(state), ...told(state, secret) } : {}),
      backup: { recipients, identity: 'file:age/operations.txt' },
    };
    const text = `# Written by the lab ${state.name}: addresses, keys and endpoints of its hosts and servers.\n${stringify(overlay, { lineWidth: 0 })}`;
    writeFileSync(path.join(overlayDirectory(state), `${system}.yaml`), text);
  }
}

/** ProofPass's people are told at the lab's own receivers. */
function told(state: LabState, secret: (name: string, value: string) => string): object {
  const { url, mail, password } = noticesOf(state);
  const to = (who: string) => ({ to: `${who}@proofpass.test` });
  return {
    notifications: {
      slack: { webhook: secret('notices/slack', `${url}/slack`) },
      ...{ support: to('support'), devops: to('devops'), engineering: to('engineering') },
    },
    mail: { ...mail, from: 'guardia@proofpass.test', password: secret('notices/mail-password', password()) },
  };
}
