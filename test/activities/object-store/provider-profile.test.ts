import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { objectUrl } from '../../../activities/object-store/object-store.js';
import { partSizeFor, type Provider, providerProfiles } from '../../../activities/object-store/provider-profile.js';

const MiB = 1024 * 1024;
const providers = Object.keys(providerProfiles) as Provider[];

describe('the size of parts', () => {
  test.each([
    [0, 16],
    [2 * 1024 * MiB, 16],
    [93 * 1024 * MiB, 16],
    [96 * 1024 * MiB, 17],
    [1024 * 1024 * MiB, 175],
  ])('for an estimate of %d bytes at Amazon is %d MiB', (estimate, expected) => {
    expect(partSizeFor(estimate, providerProfiles.aws)).toBe(expected * MiB);
  });

  test('is whole MiB within what the provider takes, and leaves room for half as much again', () => {
    fc.assert(
      fc.property(fc.constantFrom(...providers), fc.integer({ min: 0, max: 2 ** 42 }), (provider, estimate) => {
        const profile = providerProfiles[provider];
        const size = partSizeFor(estimate, profile);
        expect(size % MiB).toBe(0);
        expect(size).toBeGreaterThanOrEqual(Math.max(16 * MiB, profile.minPartSize));
        expect(size).toBeLessThanOrEqual(profile.maxPartSize);
        if (size < profile.maxPartSize) expect(size * profile.maxParts).toBeGreaterThan(estimate * 1.5);
        expect(size * profile.maxParts).toBeGreaterThanOrEqual(estimate);
      }),
    );
  });

  test('does not exist for what fits nowhere', () => {
    expect(() => partSizeFor(2 ** 50, providerProfiles.other)).toThrow(
      /1125899906842624 bytes does not fit into 1000 parts/,
    );
    for (const wrong of [-1, NaN, Infinity]) expect(() => partSizeFor(wrong, providerProfiles.aws)).toThrow(RangeError);
  });
});

test('the URL of an object follows the provider, and takes only keys of the layout', () => {
  const address = { endpoint: 'https://s3.example.test:8443', region: 'r', bucket: 'bucket' };
  expect(objectUrl({ ...address, provider: 'minio' }, 'a/b-c.age')).toBe(
    'https://s3.example.test:8443/bucket/a/b-c.age',
  );
  expect(objectUrl({ ...address, provider: 'aws' }, 'a/b')).toBe('https://bucket.s3.example.test:8443/a/b');
  for (const key of ['a b', 'a?b', 'ñ', ''])
    expect(() => objectUrl({ ...address, provider: 'aws' }, key)).toThrow(RangeError);
});
