import { createHmac, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, mkdir, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import { failure } from '../../workflows/contracts/errors.js';
import { Secret } from './secret.js';

const KEY_BYTES = 32;

export interface Fingerprints {
  /**
   * Tells whether two values are the same without telling the value: HMAC-SHA-256 in hex under the worker's key. The same value
   * has another fingerprint under another key. Of a secret, or of the bytes of a file that may hold secrets.
   */
  of(value: Secret | Uint8Array): string;
}

/**
 * Reads the key for fingerprints (32 bytes, mode 0600), and makes one the first time. Workers that compare fingerprints need the
 * same key. Throws `SecretUnavailable` for a key that others can read or that is damaged.
 */
export async function openFingerprints(keyFile: string): Promise<Fingerprints> {
  const key = (await readKey(keyFile)) ?? (await makeKey(keyFile));
  return {
    of: (value) =>
      createHmac('sha256', key)
        .update(value instanceof Secret ? Buffer.from(value.reveal(), 'utf8') : value)
        .digest('hex'),
  };
}

async function readKey(keyFile: string): Promise<Buffer | undefined> {
  const refuse = (what: string, remedy: string) =>
    failure('SecretUnavailable', `the key for fingerprints, ${keyFile}, ${what}`, { remedy });
  let handle;
  try {
    handle = await open(keyFile, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw refuse(`cannot be read (${code ?? String(error)})`, 'Give it to the user that the worker runs as');
  }
  try {
    const status = await handle.stat();
    if (status.mode & 0o077)
      throw refuse(
        `can be read by others (mode ${(status.mode & 0o777).toString(8).padStart(4, '0')})`,
        `chmod 600 ${keyFile}`,
      );
    if (!status.isFile() || status.size !== KEY_BYTES)
      throw refuse(
        `is not a key of ${KEY_BYTES} bytes`,
        'Bring the right one back, or remove it: fingerprints made before will then not compare',
      );
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Never seen half written, and made once even when two workers start together. */
async function makeKey(keyFile: string): Promise<Buffer> {
  await mkdir(path.dirname(keyFile), { recursive: true, mode: 0o700 });
  const draft = `${keyFile}.${process.pid}.${randomBytes(6).toString('hex')}`;
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(randomBytes(KEY_BYTES));
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    await link(draft, keyFile);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await unlink(draft);
  }
  const key = await readKey(keyFile);
  if (!key) throw failure('SecretUnavailable', `the key for fingerprints, ${keyFile}, vanished as it was made`);
  return key;
}
