import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { failure } from '../../workflows/contracts/errors.js';
import { SecretReference } from '../../workflows/contracts/secret-reference.js';
import { createScrubber, type Scrubber } from './scrubber.js';
import { Secret } from './secret.js';

/** Where references without an absolute path are looked up: GUARDIA_SECRETS, or /etc/guardia/secrets. */
export function secretsDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return path.resolve(environment.GUARDIA_SECRETS || '/etc/guardia/secrets');
}

/** Bytes. Keys and tokens are far smaller: a larger file is not what was meant. */
const LARGEST = 64 * 1024;

export interface Secrets {
  /**
   * Reads a secret anew each time, so that a rotated one is seen, and makes the scrubber know it.
   * `file:` values lose one trailing newline. Throws `SecretUnavailable`, which names the reference and the remedy, never the value.
   */
  resolve(reference: SecretReference): Promise<Secret>;
  scrubber: Scrubber;
}

export function createSecrets(options: {
  directory: string;
  environment: Readonly<Record<string, string | undefined>>;
  scrubber?: Scrubber;
}): Secrets {
  const { directory, environment, scrubber = createScrubber() } = options;
  return {
    scrubber,
    async resolve(reference) {
      // What does not look like a reference may be the secret itself, pasted: it is not repeated.
      if (!SecretReference.safeParse(reference).success)
        throw failure('SecretUnavailable', 'a secret is referred to by something that is no reference', {
          remedy: 'Write file:PATH or env:NAME',
        });
      const [provider, rest] = [
        reference.slice(0, reference.indexOf(':')),
        reference.slice(reference.indexOf(':') + 1),
      ];
      const value =
        provider === 'env'
          ? fromEnvironment(rest, environment)
          : await fromFile(path.resolve(directory, rest), reference, environment['CREDENTIALS_DIRECTORY']);
      const secret = new Secret(reference, value);
      scrubber.remember(secret);
      return secret;
    },
  };
}

function fromEnvironment(name: string, environment: Readonly<Record<string, string | undefined>>): string {
  const value = environment[name];
  if (!value)
    throw failure(
      'SecretUnavailable',
      `secret env:${name}: the worker's environment has ${value === '' ? 'an empty' : 'no'} ${name}`,
      {
        remedy: `Set ${name} where the worker is started`,
      },
    );
  return value;
}

async function fromFile(file: string, reference: string, credentials: string | undefined): Promise<string> {
  const refuse = (what: string, remedy: string) =>
    failure('SecretUnavailable', `secret ${reference}: ${file} ${what}`, { remedy });
  let bytes: Buffer;
  try {
    // Not blocking: a named pipe would wait for ever.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const status = await handle.stat();
      if (!status.isFile()) throw refuse('is not a file', `Put the secret into a file, or correct the reference`);
      const mode = status.mode & 0o777;
      if (mode & 0o077 && !isCredential(file, status, credentials))
        throw refuse(`can be read by others (mode ${mode.toString(8).padStart(4, '0')})`, `chmod 600 ${file}`);
      if (status.size > LARGEST)
        throw refuse(`has ${status.size} bytes; a secret has at most ${LARGEST}`, 'Correct the reference');
      bytes = await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw refuse('does not exist', `Create it: install -m 600 /dev/stdin ${file}`);
    if (code === 'EACCES') throw refuse('may not be read by the worker', `Give it to the user that the worker runs as`);
    if (typeof code === 'string' && code.startsWith('E'))
      throw refuse(`cannot be read (${code})`, 'Look at the file and its disk');
    throw error;
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refuse('is not text in UTF-8', 'Encode a binary secret, for example in base64');
  }
  text = text.replace(/\r?\n$/, '');
  if (text === '') throw refuse('is empty', 'Write the secret into it');
  if (text.includes('\0')) throw refuse('holds a NUL byte', 'Encode a binary secret, for example in base64');
  return text;
}

/**
 * Whether systemd has handed the file to this unit alone (`LoadCredential=`). From version 254 on it does so with an access list, whose mask
 * shows as a permission of the group root, in a directory that only the unit can enter (systemd/systemd#29435).
 */
const isCredential = (file: string, { mode, uid, gid }: Stats, credentials: string | undefined): boolean =>
  credentials !== undefined &&
  path.dirname(file) === path.resolve(credentials) &&
  uid === 0 &&
  gid === 0 &&
  (mode & 0o777) === 0o440;
