import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { canonicalJson } from '../../../activities/inventory/canonical-json.js';

const json = () => fc.jsonValue({ stringUnit: 'grapheme-composite' });

/** The same value with the keys of every object in another order. */
function shuffled(value: unknown, order: (keys: string[]) => string[]): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffled(item, order));
  if (typeof value !== 'object' || value === null) return value;
  const fields = value as Record<string, unknown>;
  return Object.fromEntries(order(Object.keys(fields)).map((key) => [key, shuffled(fields[key], order)]));
}

describe('canonicalJson', () => {
  test('is JSON of the same value', () => {
    fc.assert(
      fc.property(json(), (value) =>
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value))),
      ),
    );
  });

  test('does not depend on the order of keys', () => {
    fc.assert(
      fc.property(json(), (value) =>
        expect(canonicalJson(shuffled(value, (keys) => keys.reverse()))).toBe(canonicalJson(value)),
      ),
    );
  });

  test('two values with the same text are the same value', () => {
    fc.assert(
      fc.property(json(), json(), (a, b) => {
        if (canonicalJson(a) === canonicalJson(b))
          expect(JSON.parse(JSON.stringify(a))).toEqual(JSON.parse(JSON.stringify(b)));
      }),
    );
  });

  test('is stable: the canonical text of what was read back is the same', () => {
    fc.assert(
      fc.property(json(), (value) =>
        expect(canonicalJson(JSON.parse(canonicalJson(value)))).toBe(canonicalJson(value)),
      ),
    );
  });

  test('the example of RFC 8785, section 3.2.2', () => {
    const value = {
      numbers: [Number('333333333.33333329'), 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      string: '\u20ac$\u000F\u000aA\'\u0042\u0022\u005c\\"/',
      literals: [null, true, false],
    };
    expect(canonicalJson(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  test('keys are sorted by UTF-16 code units (RFC 8785, section 3.2.3)', () => {
    const value = {
      '\u20ac': 'Euro Sign',
      '\r': 'Carriage Return',
      '\ufb33': 'Hebrew Letter Dalet With Dagesh',
      '1': 'One',
      '\ud83d\ude00': 'Emoji: Grinning Face',
      '\u0080': 'Control',
      '\u00f6': 'Latin Small Letter O With Diaeresis',
    };
    expect(Object.values(JSON.parse(canonicalJson(value)) as object)).toEqual([
      'One',
      'Carriage Return',
      'Control',
      'Latin Small Letter O With Diaeresis',
      'Euro Sign',
      'Emoji: Grinning Face',
      'Hebrew Letter Dalet With Dagesh',
    ]);
  });

  test('fields that are undefined are left out, -0 is 0', () => {
    expect(canonicalJson({ b: undefined, a: -0 })).toBe('{"a":0}');
  });

  test.each([
    ['NaN', { a: [NaN] }, '$.a[0] is NaN'],
    ['an infinity', -Infinity, '$ is -Infinity'],
    ['undefined', undefined, '$ is undefined'],
    ['a hole', [undefined], '$[0] is undefined'],
    ['a function', { a: () => 1 }, '$.a is a function'],
    ['a bigint', 1n, '$ is a bigint'],
    ['a date', { at: new Date(0) }, '$.at is not a plain object'],
    ['a map', new Map(), '$ is not a plain object'],
    ['a lone surrogate', { a: '\ud800' }, '$.a holds a lone surrogate'],
  ])('refuses %s, which JSON cannot hold', (_, value, message) => {
    expect(() => canonicalJson(value)).toThrow(new TypeError(`canonical JSON: ${message}`));
  });
});
