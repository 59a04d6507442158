import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ApplicationFailure } from '@temporalio/common';
import { closestName } from '../../../activities/inventory/closest-name.js';
import { cronMistake } from '../../../workflows/contracts/cron-expression.js';
import { given, isUnset, refuseUnset, unsetNeeded } from '../../../workflows/contracts/unset.js';

describe('unset values', () => {
  const system = {
    system: 'shop',
    hosts: { a: { address: { unset: 'address of a' } }, b: { address: '10.0.0.1', key: { unset: 'key of b' } } },
    list: [{ unset: 'first' }, 'second'],
  };

  test('are found at and below the paths that are asked for', () => {
    const paths = (...asked: string[]) => unsetNeeded(system, asked).map(({ path }) => path);
    expect(unsetNeeded(system)).toHaveLength(3);
    expect(paths('hosts.*.address')).toEqual(['hosts.a.address']);
    expect(paths('hosts.b')).toEqual(['hosts.b.key']);
    expect(paths('hosts')).toEqual(['hosts.a.address', 'hosts.b.key']);
    expect(paths('list', 'hosts.*.key')).toEqual(['hosts.b.key', 'list.0']);
    expect(paths('hosts.a.address.unset', 'host', 'nothing.there')).toEqual([]);
    expect(paths('*', 'hosts.a')).toEqual(['hosts.a.address', 'hosts.b.key', 'list.0']);
  });

  test('refuse a run in one sentence that names each', () => {
    expect(() => refuseUnset(system, ['hosts'], 'backup')).toThrow(
      'backup needs 2 values of system shop not filled in yet: hosts.a.address (address of a); hosts.b.key (key of b). ' +
        'Fill them in in shop.yaml of the inventory or of the overlay (GUARDIA_OVERLAY)',
    );
    expect(() => refuseUnset(system, ['hosts.a'], 'backup')).toThrow(
      /^backup needs a value of system shop not filled in yet: hosts\.a\.address \(address of a\)\. Fill it in/,
    );
    expect(() => refuseUnset(system, ['hosts.b.address'], 'backup')).not.toThrow();
    try {
      refuseUnset(system, ['hosts'], 'backup');
    } catch (error) {
      expect(error).toBeInstanceOf(ApplicationFailure);
      expect(error).toMatchObject({ type: 'UnsetValue', nonRetryable: true });
    }
  });

  test('given narrows a value or says what is missing', () => {
    expect(given(5, 'a.b')).toBe(5);
    expect(() => given({ unset: 'five' }, 'a.b')).toThrow('a.b is not filled in yet: five');
  });

  test('look like { unset: TEXT } and nothing else', () => {
    expect([{ unset: 'x' }, { unset: 'x', more: 1 }, { unset: 1 }, {}, null, 'unset', ['unset']].map(isUnset)).toEqual([
      true,
      false,
      false,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('cron expressions', () => {
  test.each([
    '0 2 * * *',
    '*/15 * * * *',
    '0 8,14,20 * * *',
    '0 3 1 */3 *',
    '0 3 * * 0',
    '0 3 * * sun',
    '5-10/2 0-23 1,15 jan-mar MON-FRI',
    '  0  2 * * *  ',
  ])('%j is one', (expression) => expect(cronMistake(expression)).toBeUndefined());

  test.each([
    '',
    '0 2 * *',
    '0 2 * * * *',
    '60 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * * 13 *',
    '* * * * 7',
    '*/0 * * * *',
    '5-1 * * * *',
    '1-2-3 * * * *',
    'a * * * *',
    '1,,2 * * * *',
    '@daily',
    '-1 * * * *',
    '1/2/3 * * * *',
  ])('%j is not', (expression) => expect(cronMistake(expression)).toMatch(/^is no cron expression: /));
});

describe('closestName', () => {
  test('finds what was meant', () => {
    const names = ['proofpass', 'proofpass-cloud', 'ferreteria', 'certitrack', 'heartguard'];
    expect(closestName('profpass', names)).toBe('proofpass');
    expect(closestName('Ferreteria', names)).toBe('ferreteria');
    expect(closestName('haertguard', names)).toBe('heartguard');
    expect(closestName('cert', names)).toBe('certitrack');
    expect(closestName('zzz', names)).toBeUndefined();
    expect(closestName('x', [])).toBeUndefined();
  });

  test('one wrong letter in a name of four or more is forgiven', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z]{4,12}$/), fc.nat(), fc.stringMatching(/^[a-z]$/), (name, at, letter) => {
        const i = at % name.length;
        expect(closestName(name.slice(0, i) + letter + name.slice(i + 1), [name])).toBe(name);
      }),
    );
  });
});
