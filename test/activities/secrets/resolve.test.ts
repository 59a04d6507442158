import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createSecrets, secretsDirectory } from '../../../activities/secrets/resolve.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'guardia-secrets-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function put(name: string, content: string | Buffer, mode = 0o600): string {
  const file = path.join(directory, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
  return file;
}

const secrets = (environment: Record<string, string> = {}) => createSecrets({ directory, environment });
const value = async (reference: string, environment?: Record<string, string>) =>
  (await secrets(environment).resolve(reference)).reveal();

async function refusal(reference: string, environment?: Record<string, string>): Promise<ApplicationFailure> {
  const error: unknown = await secrets(environment)
    .resolve(reference)
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  expect(error).toBeInstanceOf(ApplicationFailure);
  expect(error).toMatchObject({ type: 'SecretUnavailable', nonRetryable: true });
  return error as ApplicationFailure;
}

describe('resolve', () => {
  test('reads a file below the directory, and an absolute one', async () => {
    const file = put('s3/secret', 'abc');
    expect(await value('file:s3/secret')).toBe('abc');
    expect(await value(`file:${file}`)).toBe('abc');
    const secret = await secrets().resolve('file:s3/secret');
    expect(String(secret)).toBe('[secret file:s3/secret]');
  });

  test('reads a variable as it is', async () => {
    expect(await value('env:KEY', { KEY: 'a b\n' })).toBe('a b\n');
    expect(await value('env:KEY', { KEY: 'x:y=z' })).toBe('x:y=z');
  });

  test.each([
    ['abc\n', 'abc'],
    ['abc\r\n', 'abc'],
    ['abc\n\n', 'abc\n'],
    ['a\nb\n', 'a\nb'],
    [' abc ', ' abc '],
    ['ñandú 🔑', 'ñandú 🔑'],
    ['\ufeffabc', '\ufeffabc'],
  ])('%j is the secret %j', async (content, expected) => {
    put('newline', content);
    expect(await value('file:newline')).toBe(expected);
  });

  test('follows a link, as secret stores mount them, and judges its target', async () => {
    const file = put('target', 'abc', 0o400);
    symlinkSync(file, path.join(directory, 'link'));
    expect(await value('file:link')).toBe('abc');
    chmodSync(file, 0o440);
    expect((await refusal('file:link')).message).toContain('can be read by others (mode 0440)');
  });

  test('a rotated secret is seen at once', async () => {
    const store = secrets();
    put('rotated', 'old-value');
    expect((await store.resolve('file:rotated')).reveal()).toBe('old-value');
    put('rotated', 'new-value');
    expect((await store.resolve('file:rotated')).reveal()).toBe('new-value');
    expect(store.scrubber.scrub('old-value new-value')).toBe('[secret file:rotated] [secret file:rotated]');
  });

  test.each([0o640, 0o604, 0o660, 0o644, 0o610, 0o601])('mode %o is refused with the remedy', async (mode) => {
    const file = put('open', 'the-value-itself', mode);
    const { message } = await refusal('file:open');
    expect(message).toBe(
      `secret file:open: ${file} can be read by others (mode 0${mode.toString(8)}). chmod 600 ${file}`,
    );
  });

  // As root, whose file it has to be: `npm test` runs so.
  test('what systemd hands to the unit is taken, of another owner or in another directory it is not', async () => {
    const [credential, elsewhere] = [put('handed/key', 'abc', 0o440), put('other/key', 'abc', 0o440)];
    const environment = { CREDENTIALS_DIRECTORY: path.join(directory, 'handed') };
    chownSync(credential, 0, 0);
    expect(await value(`file:${credential}`, environment)).toBe('abc');
    for (const [file, given] of [
      [credential, {}],
      [elsewhere, environment],
    ] as const)
      expect((await refusal(`file:${file}`, given)).message).toContain('can be read by others (mode 0440)');
    chownSync(credential, 0, 1);
    expect((await refusal(`file:${credential}`, environment)).message).toContain('can be read by others (mode 0440)');
  });

  test('a missing file, directory or variable is named with the remedy', async () => {
    expect((await refusal('file:none')).message).toBe(
      `secret file:none: ${directory}/none does not exist. Create it: install -m 600 /dev/stdin ${directory}/none`,
    );
    put('plain', 'x');
    expect((await refusal('file:plain/below')).message).toContain('does not exist');
    expect((await refusal('env:NONE')).message).toBe(
      "secret env:NONE: the worker's environment has no NONE. Set NONE where the worker is started",
    );
    expect((await refusal('env:EMPTY', { EMPTY: '' })).message).toContain('has an empty EMPTY');
  });

  test('what is no secret is refused', async () => {
    mkdirSync(path.join(directory, 'folder'));
    expect((await refusal('file:folder')).message).toContain('is not a file');
    put('empty', '');
    expect((await refusal('file:empty')).message).toContain('is empty');
    put('newline-only', '\n');
    expect((await refusal('file:newline-only')).message).toContain('is empty');
    put('binary', Buffer.from([0x61, 0xff, 0xfe]));
    expect((await refusal('file:binary')).message).toContain('is not text in UTF-8');
    put('nul', 'a\0b');
    expect((await refusal('file:nul')).message).toContain('holds a NUL byte');
    put('large', 'x'.repeat(70_000));
    expect((await refusal('file:large')).message).toContain('has 70000 bytes');
  });

  test('a named pipe does not block the worker', async () => {
    execFileSync('mkfifo', ['-m', '600', path.join(directory, 'pipe')]);
    expect((await refusal('file:pipe')).message).toContain('is not a file');
  });

  test('a secret in place of a reference is not repeated', async () => {
    for (const pasted of ['hunter2-the-password', 'file:', 'env:a-b', 'vault:x', 'https://u:hunter2@h/']) {
      const { message } = await refusal(pasted);
      expect(message).toBe('a secret is referred to by something that is no reference. Write file:PATH or env:NAME');
    }
  });

  test('the directory is GUARDIA_SECRETS or /etc/guardia/secrets', () => {
    expect(secretsDirectory({})).toBe('/etc/guardia/secrets');
    expect(secretsDirectory({ GUARDIA_SECRETS: '/run/keys' })).toBe('/run/keys');
  });
});
