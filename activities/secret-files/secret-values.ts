import { randomBytes, randomInt } from 'node:crypto';
import { failure } from '../../workflows/contracts/errors.js';
import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { SecretSource } from '../../workflows/contracts/secret-source.js';
import { lookAtPaths, MOST_CHANGED_BYTES, type PathState } from '../files/paths.js';
import type { Hosts } from '../hosts/hosts.js';
import { Secret } from '../secrets/secret.js';
import type { Secrets } from '../secrets/resolve.js';

/**
 * The value of a key in an environment file, as systemd reads it, or in an environment of a compose file, without quotes. Undefined where the key is
 * missing, empty or only refers to another variable. Pure.
 */
export function valueInEnvironmentFile(text: string, key: string): string | undefined {
  for (const line of text.split(/[\r\n]+/).reverse()) {
    const item = line.trim().replace(/^-\s+/, '');
    // A list item of a compose file may be in quotes as a whole.
    const pair = /^(["'])([A-Za-z_]\w*\s*=.*)\1$/.exec(item)?.[2] ?? item;
    const match = /^(?:export\s+)?(["']?)([A-Za-z_]\w*)\1[ \t]*(?:=|:\s)(.*)$/.exec(pair);
    if (match?.[2] !== key) continue;
    const value = (match[3] ?? '').trim();
    const bare = /^(["'])(.*)\1$/.exec(value)?.[2] ?? value;
    return bare === '' || bare.startsWith('${') ? undefined : bare;
  }
  return undefined;
}

/** The password part of a connection URL, decoded; undefined where it has none or only refers to another variable. Pure. */
export function passwordInUrl(url: string): string | undefined {
  const password = /^[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:([^\s/@]*)@/i.exec(url)?.[1];
  return password === undefined || password === '' || password.startsWith('${')
    ? undefined
    : decodeURIComponent(password);
}

/** A new value: characters of the kind, from the system's source of randomness. */
export function makeSecretValue({ kind, length = 64 }: Pick<SecretSource, 'kind' | 'length'>): string {
  switch (kind) {
    case 'hex':
      return randomBytes(Math.ceil(length / 2))
        .toString('hex')
        .slice(0, length);
    case 'base64':
      return randomBytes(length).toString('base64').slice(0, length);
    case 'alphanumeric': {
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
      return Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('');
    }
    case 'issued':
      throw new Error('somebody else issues this secret');
  }
}

export interface SecretValues {
  values: Map<string, Secret>;
  /** Names of those that are nowhere yet and may be made. */
  missing: SecretSource[];
}

/**
 * A file with secrets that is a link, a directory or the like would be taken for an empty one, and its secrets be made anew. A link to one of `others`,
 * which are looked at themselves, holds nothing of its own. Throws `HostUnusable` that names it. Pure.
 */
export function refuseOtherThanFile(
  host: string,
  path: string,
  { type, target = '' }: PathState,
  others: readonly string[] = [],
): void {
  if (type === 'file' || type === 'absent') return;
  const leads = Buffer.from(target, 'latin1').toString('utf8');
  if (type === 'symlink' && others.includes(leads)) return;
  throw failure('HostUnusable', `${path} on ${host} is ${type === 'symlink' ? `a link to ${leads}` : `no file`}`, {
    host,
    remedy:
      'What it holds is not read, and is not to be lost: put the file itself there, or name in the inventory the one that it leads to',
  });
}

/**
 * Finds secrets: what a file of the host holds wins, then what one of an earlier set-up holds, then the worker's reference. Every value is
 * known to the scrubber from then on. Throws `SecretUnavailable` that names each one that is nowhere and may not be made, that is guarded and would be
 * made although a file names its key, that files of the host do not agree about, or that several hosts need and this one has another value of;
 * `HostUnusable` as `refuseOtherThanFile`.
 */
export async function findSecrets(
  { hosts, secrets }: { hosts: Hosts; secrets: Secrets },
  target: HostTarget,
  sources: readonly SecretSource[],
): Promise<SecretValues> {
  const paths = [...new Set(sources.flatMap(({ on }) => on.map(({ file }) => file)))];
  const states = await lookAtPaths(hosts, target, paths, MOST_CHANGED_BYTES);
  for (const [i, path] of paths.entries())
    refuseOtherThanFile(target.name, path, states[i] ?? { type: 'absent' }, paths);
  const textOf = new Map(
    paths.map((path, i) => [path, Buffer.from(states[i]?.content ?? '', 'latin1').toString('utf8')]),
  );
  const values = new Map<string, Secret>();
  const missing: SecretSource[] = [];
  const nowhere: string[] = [];
  const other: string[] = [];
  const torn: string[] = [];
  const unread: string[] = [];
  for (const source of sources) {
    const found = source.on.flatMap(({ file, key, form, older }) => {
      const text = valueInEnvironmentFile(textOf.get(file) ?? '', key);
      const value = form === 'url' && text !== undefined ? passwordInUrl(text) : text;
      if (value === undefined) return [];
      const secret = new Secret(`secret ${source.name} on ${target.name}`, value);
      secrets.scrubber.remember(secret);
      return [{ place: `${key} of ${file}`, value, secret, older }];
    });
    const valid = found.some(({ older }) => !older) ? found.filter(({ older }) => !older) : found;
    const [first] = valid;
    if (first !== undefined) {
      const held = first.value;
      values.set(source.name, first.secret);
      const placesOf = [...new Set(valid.map(({ value }) => value))].map((one) =>
        valid.flatMap(({ value, place }) => (value === one ? [place] : [])).join(' and '),
      );
      if (placesOf.length > 1) torn.push(`${source.name} (${placesOf.join('; another in ')})`);
      if (source.same && source.from !== undefined && (await secrets.resolve(source.from)).reveal() !== held)
        other.push(source.name);
    } else if (source.from !== undefined) values.set(source.name, await secrets.resolve(source.from));
    else if (source.make) {
      // Guarded: made only where nothing hints at an older value.
      const named = source.guarded
        ? source.on.filter(({ file, key }) => (textOf.get(file) ?? '').split(/\W+/).includes(key))
        : [];
      if (named.length === 0) missing.push(source);
      else unread.push(`${source.name} (${named.map(({ file, key }) => `${key} in ${file}`).join(', ')})`);
    } else if (source.later) values.set(source.name, new Secret(source.name, ''));
    else nowhere.push(source.name);
  }
  if (nowhere.length > 0)
    throw failure('SecretUnavailable', `${target.name} has no value for ${nowhere.join(', ')}`, {
      host: target.name,
      remedy: `Say in secrets.NAME.from of the inventory where the worker finds ${nowhere.length === 1 ? 'it' : 'each'}`,
    });
  // Data would be lost with the value, if there is one in a form that is not understood.
  if (unread.length > 0)
    throw failure(
      'SecretUnavailable',
      `files of ${target.name} name without a value that can be read: ${unread.join(', ')}`,
      {
        host: target.name,
        remedy:
          'Write KEY=value there on one line, or, where there has never been a value, take out what names the key',
      },
    );
  // What runs uses one of them, and only a person can say which: the other one would be written over it.
  if (torn.length > 0)
    throw failure('SecretUnavailable', `${target.name} holds more than one value of ${torn.join(', and of ')}`, {
      host: target.name,
      remedy: 'Find out which value is in use, and correct the other places on the host',
    });
  // Neither is overwritten: which one is right, only a person can say.
  if (other.length > 0)
    throw failure(
      'SecretUnavailable',
      `${target.name} holds another value of ${other.join(', ')} than the one that the inventory names for all its hosts`,
      {
        host: target.name,
        remedy: 'Find out which value is right, and correct the file on the host or what secrets.NAME.from refers to',
      },
    );
  return { values, missing };
}
