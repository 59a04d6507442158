import { describe, expect, test } from '@jest/globals';
import { stripVTControlCharacters } from 'node:util';
import pico from 'picocolors';
import { fit, textTable } from '../../client/text-table.js';
import { ageText, bytesText, durationText } from '../../client/text-units.js';

test.each([
  [0, '0 s'],
  [59_400, '59 s'],
  [59_600, '1 min 00 s'],
  [3_599_000, '59 min 59 s'],
  [3_600_000, '1 h 00 min'],
  [86_400_000, '1 d 0 h'],
  [-5, '0 s'],
])('%i ms is %s', (milliseconds, text) => {
  expect(durationText(milliseconds)).toBe(text);
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [99_940, '99.9 kB'],
  [99_960, '100 kB'],
  [999_499, '999 kB'],
  [999_500, '1.0 MB'],
  [2_147_483_648, '2.1 GB'],
])('%i bytes are %s', (bytes, text) => {
  expect(bytesText(bytes)).toBe(text);
});

test('ages; a moment that cannot be read is a dash', () => {
  expect(ageText('2026-01-31T02:00:00Z', Date.parse('2026-01-31T03:30:00Z'))).toBe('1 h 30 min');
  expect([ageText(undefined, 0), ageText('soon', 0)]).toEqual(['-', '-']);
});

describe('tables', () => {
  test('columns align, colours and wide characters do not count', () => {
    const colors = pico.createColors(true);
    const rows = textTable([
      [colors.green('ok'), 'a', 'x'],
      ['✔ missing', 'bb', 'y'],
    ]);
    expect(rows.split('\n').map((line) => stripVTControlCharacters(line))).toEqual([
      'ok         a   x',
      '✔ missing  bb  y',
    ]);
  });

  test('the last column is left open', () => {
    expect(
      textTable(
        [
          ['a', 'b'],
          ['long', ''],
        ],
        { indent: '  ' },
      ),
    ).toBe('  a     b\n  long');
  });
});

test('text is cut by characters', () => {
  expect(fit('abcdef', 4)).toBe('abc…');
  expect(fit('ab', 4)).toBe('ab');
  expect(fit('🙂🙂🙂', 2)).toBe('🙂…');
});
