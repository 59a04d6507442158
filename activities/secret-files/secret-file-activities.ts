import { createTwoFilesPatch } from 'diff';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { AccountName, FileMode } from '../../workflows/contracts/files.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import type { SeenSecretFile } from '../../workflows/contracts/provision-observation.js';
import { SECRET_PLACE, SecretSource } from '../../workflows/contracts/secret-source.js';
import { targetOf } from '../activity-context.js';
import { changePath, wantedFile } from '../files/file-activities.js';
import { maskUnknown, namesSecret, type Mark } from '../files/mask.js';
import { lookAtPath } from '../files/paths.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Fingerprints } from '../secrets/fingerprint.js';
import { Secret } from '../secrets/secret.js';
import type { Secrets } from '../secrets/resolve.js';
import { findSecrets, makeSecretValue, refuseOtherThanFile, valueInEnvironmentFile } from './secret-values.js';

export const SecretFileArgument = z.strictObject({
  path: AbsolutePath,
  mode: FileMode,
  owner: AccountName,
  group: AccountName,
  template: z.string().describe('Text with {{secret:NAME}} where a secret goes'),
  without: z.array(z.string()).describe('Keys that must not be in it'),
  secrets: z.array(SecretSource),
});
export type SecretFileArgument = z.infer<typeof SecretFileArgument>;

interface Dependencies {
  hosts: Hosts;
  secrets: Secrets;
  fingerprints: Fingerprints;
}

/** The text with its secrets. A value that an environment file cannot hold is refused. Pure. */
export function fillSecrets(template: string, value: (name: string) => string): string {
  return template.replaceAll(SECRET_PLACE, (_, name: string, url?: string) => {
    const text = value(name);
    if (url !== undefined) return encodeURIComponent(text);
    if (/[\n\r'"\\$`#]|^\s|\s$/.test(text))
      throw failure(
        'SecretUnavailable',
        `the value of secret ${name} holds a character that an environment file cannot`,
        {
          remedy: 'Have another value issued, without quotes, backslash, dollar, # and line ends',
        },
      );
    return text;
  });
}

const KEPT = '# Not in the template of guardia; kept as they were.';

/** A key with its value, over as many lines as it takes, or any other line. `head` is what stands before the value. */
interface Entry {
  key?: string;
  head?: string;
  text: string;
}

/**
 * An environment file in entries, as systemd reads it: a value in quotes goes on until they are closed, a line with a backslash at its end on the
 * next one. Throws `HostUnusable` where quotes are never closed: what would be lost cannot be told. Pure.
 */
export function entriesOf(text: string, path = 'the file'): Entry[] {
  const lines = text.split('\n');
  const entries: Entry[] = [];
  for (let at = 0; at < lines.length; at++) {
    let whole = lines[at] ?? '';
    const [head, key] = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*/.exec(whole) ?? [];
    if (head === undefined || key === undefined) {
      entries.push({ text: whole });
      continue;
    }
    while (isOpen(whole.slice(head.length))) {
      at += 1;
      if (at >= lines.length)
        throw failure('HostUnusable', `the value of ${key} in ${path} opens quotes that are never closed`, {
          remedy: 'Close them in the file on the host, so that it is plain what belongs to the value',
        });
      whole += `\n${lines[at]}`;
    }
    entries.push({ key, head, text: whole });
  }
  return entries;
}

/** Whether a value goes on in the next line. */
const isOpen = (value: string): boolean =>
  !/^[^\S\n]*(?:(?:"(?:[^"\\]|\\[^])*"|'[^']*')[^\S\n]*)*(?:(?:[^\s"'\\]|\\[^])(?:[^\\\n]|\\[^])*)?$/.test(value);

/**
 * The filled template, and below it the entries of the old file whose keys it does not have: what somebody added by hand is not lost. Throws as
 * `entriesOf`. Pure.
 */
export function withKeptLines(filled: string, before: string, without: readonly string[], path?: string): string {
  const own = new Set(entriesOf(filled).map(({ key }) => key));
  const kept = entriesOf(before, path).flatMap(({ key, text }) =>
    key !== undefined && !own.has(key) && !without.includes(key) ? [text] : [],
  );
  return kept.length === 0 ? filled : `${filled.trimEnd()}\n\n${KEPT}\n${kept.join('\n')}\n`;
}

/** A word, a number, or a host with or without scheme and port. */
const PLAIN_SETTING =
  /^(["']?)(?:[A-Za-z]{1,12}|\d{1,9}|(?:[a-z]+:\/\/)?[a-z][a-z-]*(?:\.[a-z][a-z-]*)+(?::\d{1,5})?\/?)\1$/;

/**
 * A file with secrets for people: lines of the template that hold none as they are. Of a value whose key holds no secret there, what is wanted or
 * plain, or one word, number or host alone; every other value and comment is masked. Pure.
 */
export function shownText(text: string, template: string, mark: Mark): string {
  const own = entriesOf(template);
  const plain = plainEntries(template);
  const lines = new Set(plain.map((one) => one.text));
  const keys = new Set(own.map(({ key }) => key));
  const settings = new Set(plain.flatMap(({ key }) => (key === undefined || namesSecret(key) ? [] : [key])));
  return entriesOf(text)
    .map(({ key, head = '', text: whole }) => {
      if (lines.has(whole)) return whole;
      if (key === undefined) return maskUnknown(whole, [template], mark);
      const value = whole.slice(head.length).trim();
      if (settings.has(key) && !value.includes('\n'))
        return head + (PLAIN_SETTING.test(value) ? value : maskUnknown(value, [template], mark));
      // Without a value behind it, the name may be one: the end of a key in base64 that somebody pasted.
      if (/^=*$/.test(value)) return keys.has(key) ? whole : mark(whole);
      return head + mark(value);
    })
    .join('\n');
}

const plainEntries = (template: string): Entry[] =>
  entriesOf(template).filter(({ text }) => !text.includes('{{secret:'));

/** Keys that hold no secret, are in the old file, and get another value from the template. Pure. */
export function changedSettings(before: string, template: string): string[] {
  const there = new Set(entriesOf(before).map(({ key }) => key));
  return plainEntries(template).flatMap(({ key }) =>
    key !== undefined && there.has(key) && valueInEnvironmentFile(before, key) !== valueInEnvironmentFile(template, key)
      ? [key]
      : [],
  );
}

/** Compares a file with what it should hold, on the worker: values go nowhere. Reads only. */
export async function observeSecretFile(
  { hosts, secrets, fingerprints }: Dependencies,
  context: CallContext,
  argument: SecretFileArgument,
): Promise<SeenSecretFile> {
  const target = targetOf(context);
  const { values, missing } = await findSecrets({ hosts, secrets }, target, argument.secrets);
  const now = await lookAtPath(hosts, target, argument.path);
  refuseOtherThanFile(target.name, argument.path, now);
  const made = new Set(missing.map(({ name }) => name));
  const before = Buffer.from(now.content ?? '', 'latin1').toString('utf8');
  const filled = fillSecrets(argument.template, (name) =>
    made.has(name) ? `new ${name}` : (values.get(name)?.reveal() ?? ''),
  );
  const after = withKeptLines(filled, before, argument.without, argument.path);
  const owned = now.mode === argument.mode && now.owner === argument.owner && now.group === argument.group;
  if (now.type === 'file' && owned && made.size === 0 && before === after) return { same: true, made: [] };
  const settings = changedSettings(before, argument.template);
  const mark = (value: string): string =>
    /^new [a-z0-9-]+$/.test(value)
      ? `[${value}]`
      : `[masked ${fingerprints.of(Buffer.from(value, 'utf8')).slice(0, 6)}]`;
  const patch = createTwoFilesPatch(
    now.type === 'file' ? argument.path : '/dev/null',
    argument.path,
    shownText(before, argument.template, mark),
    shownText(after, argument.template, mark),
    undefined,
    undefined,
    { context: 1 },
  );
  return {
    same: false,
    made: [...made],
    ...(settings.length === 0 ? {} : { settings }),
    diff: patch
      .replace(/^(?:Index: .*\n)?=+\n/, '')
      .trimEnd()
      .slice(0, 6000),
  };
}

export function createSecretFileActivities(dependencies: Dependencies) {
  const { hosts } = dependencies;
  return {
    /**
     * Writes a file with secrets, composed here: what the host holds stays, what is referred to is read, the rest is made. Idempotent by
     * (run, step): a value that was made is found in the file by the next attempt. Undo `restorePath`.
     */
    async writeSecretFile({ with: raw, context }: CallInput) {
      const argument = SecretFileArgument.parse(raw);
      const { values, missing } = await findSecrets(dependencies, targetOf(context), argument.secrets);
      for (const source of missing) {
        const secret = new Secret(source.name, makeSecretValue(source));
        dependencies.secrets.scrubber.remember(secret);
        values.set(source.name, secret);
      }
      const filled = fillSecrets(argument.template, (name) => values.get(name)?.reveal() ?? '');
      // An attempt that came as far as its journal has its values in there: the journal wins over what was made just now.
      await changePath(hosts, context, argument.path, (before) => {
        refuseOtherThanFile(targetOf(context).name, argument.path, before);
        const text = withKeptLines(
          filled,
          Buffer.from(before.content ?? '', 'latin1').toString('utf8'),
          argument.without,
          argument.path,
        );
        return wantedFile(Buffer.from(text, 'utf8').toString('latin1'), argument.mode, argument.owner, argument.group);
      });
      return {
        summary: missing.length > 0 ? `made: ${missing.map(({ name }) => name).join(', ')}` : 'nothing was made',
      };
    },
  };
}
