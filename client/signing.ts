import { execa } from 'execa';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { homeDirectory } from '../activities/temporal/dev-server-state.js';
import { CommandFailure } from './command-failure.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Keys that ssh-keygen makes by itself, the first that is there. */
const USUAL_KEYS = ['id_ed25519', 'id_ed25519_sk', 'id_ecdsa', 'id_ecdsa_sk', 'id_rsa'];

/** The key that people sign with: what was said, GUARDIA_SIGNING_KEY, or the first usual key. Throws `usage` where none is there. */
export function signingKey(given: string | undefined, env: Environment): string {
  const home = homeDirectory(env);
  const said = given ?? env['GUARDIA_SIGNING_KEY'];
  const candidates = said === undefined ? USUAL_KEYS.map((name) => path.join(home, '.ssh', name)) : [said];
  const found = candidates.find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new CommandFailure('usage', {
    message: said === undefined ? `there is no SSH key in ${path.join(home, '.ssh')}` : `there is no key ${said}`,
    remedy:
      'Name the private key (or the public one of a key in your agent) with --key, or decide with --unsigned where the gate allows it',
  });
}

/** `ssh-keygen -Y sign`, which asks for a passphrase itself or has the agent sign. Without a signature: what it said. */
export async function signText(
  text: string,
  by: { key: string; namespace: string },
): Promise<{ signature: string } | { signature?: never; trouble: string }> {
  const signed = await execa('ssh-keygen', ['-Y', 'sign', '-n', by.namespace, '-f', by.key], {
    input: text,
    reject: false,
  });
  if (!signed.failed) return { signature: `${signed.stdout}\n` };
  return { trouble: signed.stderr.trim().split('\n').at(-1) || String(signed.shortMessage) };
}
