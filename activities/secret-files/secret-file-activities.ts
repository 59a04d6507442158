import { createTwoFilesPatch } from 'diff';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { AbsolutePath, AccountName, FileMode } from '../../workflows/contracts/files.js';
import type { SeenSecretFile } from '../../workflows/contracts/provision-observation.js';
import { SECRET_PLACE, SecretSource } from '../../workflows/contracts/secret-source.js';
import { targetOf } from '../activity-context.js';
import { changePath, wantedFile } from '../files/file-activities.js';
import { maskText } from '../files/mask.js';
import { lookAtPath } from '../files/paths.js';
import type { Hosts } from '../hosts/hosts.js';
import type { Fingerprints } from '../secrets/fingerprint.js';
import { Secret } from '../secrets/secret.js';
import type { Secrets } from '../secrets/resolve.js';
import { findSecrets, makeSecretValue } from './secret-values.js';

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
const keyOf = (line: string): string | undefined => /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=/.exec(line)?.[1];

/**
 * The filled template, and below it the lines of the old file whose keys it does not have: what somebody added by hand is not lost. Pure.
 */
export function withKeptLines(filled: string, before: string, without: readonly string[]): string {
  const own = new Set(filled.split('\n').map(keyOf));
  const kept = before.split('\n').filter((line) => {
    const key = keyOf(line);
    return key !== undefined && !own.has(key) && !without.includes(key);
  });
  return kept.length === 0 ? filled : `${filled.trimEnd()}\n\n${KEPT}\n${kept.join('\n')}\n`;
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
  const made = new Set(missing.map(({ name }) => name));
  const before = Buffer.from(now.content ?? '', 'latin1').toString('utf8');
  const filled = fillSecrets(argument.template, (name) =>
    made.has(name) ? `new ${name}` : (values.get(name)?.reveal() ?? ''),
  );
  const after = withKeptLines(filled, before, argument.without);
  const owned = now.mode === argument.mode && now.owner === argument.owner && now.group === argument.group;
  if (now.type === 'file' && owned && made.size === 0 && before === after) return { same: true, made: [] };
  const mark = (value: string): string =>
    /^new [a-z0-9-]+$/.test(value)
      ? `[${value}]`
      : `[masked ${fingerprints.of(Buffer.from(value, 'utf8')).slice(0, 6)}]`;
  const patch = createTwoFilesPatch(
    now.type === 'file' ? argument.path : '/dev/null',
    argument.path,
    maskText(before, true, mark),
    maskText(after, true, mark),
    undefined,
    undefined,
    { context: 1 },
  );
  return {
    same: false,
    made: [...made],
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
        const text = withKeptLines(
          filled,
          Buffer.from(before.content ?? '', 'latin1').toString('utf8'),
          argument.without,
        );
        return wantedFile(Buffer.from(text, 'utf8').toString('latin1'), argument.mode, argument.owner, argument.group);
      });
      return {
        summary: missing.length > 0 ? `made: ${missing.map(({ name }) => name).join(', ')}` : 'nothing was made',
      };
    },
  };
}
