import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createHash, createHmac } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openFingerprints } from '../../../activities/secrets/fingerprint.js';
import { Secret } from '../../../activities/secrets/secret.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'guardia-fingerprint-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('fingerprints', () => {
  test('tell equal values from others under one key, and nothing under another', async () => {
    const [one, two] = [
      await openFingerprints(path.join(directory, 'one')),
      await openFingerprints(path.join(directory, 'two')),
    ];
    const secret = new Secret('file:a', 'ñandú');
    expect(one.of(secret)).toMatch(/^[0-9a-f]{64}$/);
    expect(one.of(secret)).toBe(one.of(new Secret('env:B', 'ñandú')));
    expect(one.of(secret)).toBe(one.of(Buffer.from('ñandú')));
    expect(one.of(secret)).not.toBe(one.of(new Secret('file:a', 'nandu')));
    expect(one.of(secret)).not.toBe(two.of(secret));
    expect(one.of(secret)).not.toBe(createHash('sha256').update('ñandú').digest('hex'));
    expect(one.of(secret)).toBe(
      createHmac('sha256', readFileSync(path.join(directory, 'one')))
        .update('ñandú')
        .digest('hex'),
    );
  });

  test('the key is made once, for its owner only, also when many start together', async () => {
    const keyFile = path.join(directory, 'deep/below/key');
    const all = await Promise.all(Array.from({ length: 20 }, () => openFingerprints(keyFile)));
    expect(new Set(all.map((each) => each.of(Buffer.from('x')))).size).toBe(1);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(readFileSync(keyFile)).toHaveLength(32);
    expect(readdirSync(path.dirname(keyFile))).toEqual(['key']);
  });

  test('a key that others can read or that is damaged is refused, not replaced', async () => {
    const keyFile = path.join(directory, 'open');
    writeFileSync(keyFile, Buffer.alloc(32, 1));
    chmodSync(keyFile, 0o640);
    await expect(openFingerprints(keyFile)).rejects.toMatchObject({
      type: 'SecretUnavailable',
      message: expect.stringContaining('can be read by others (mode 0640)'),
    });
    chmodSync(keyFile, 0o600);
    await expect(openFingerprints(keyFile)).resolves.toBeDefined();
    writeFileSync(keyFile, 'short');
    await expect(openFingerprints(keyFile)).rejects.toMatchObject({
      type: 'SecretUnavailable',
      message: expect.stringContaining('is not a key of 32 bytes'),
    });
  });
});
