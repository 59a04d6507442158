import { describe, expect, test } from '@jest/globals';
import { isAddress, spelled, within } from '../../../workflows/contracts/network.js';

describe('addresses and networks', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['10.0.0.1/32', '10.0.0.1'],
    ['192.168.1.10/24', '192.168.1.0/24'],
    ['10.1.2.3/0', '0.0.0.0/0'],
    ['2001:DB8::0:5', '2001:db8::5'],
    ['2001:db8::5/128', '2001:db8::5'],
    ['2001:db8:1:2:3:4:5:6/32', '2001:db8::/32'],
    ['2001:db8::/32', '2001:db8::/32'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
    ['::', '::'],
    ['::1', '::1'],
    ['fe80:0:0:0:0:0:0:0', 'fe80::'],
    ['::FFFF:A00:1', '::ffff:10.0.0.1'],
    ['app.lan', 'app.lan'],
  ])('%s is spelled %s', (text, as) => {
    expect(spelled(text)).toBe(as);
    expect(spelled(as)).toBe(as);
  });

  test.each([
    '300.1.1.1',
    '10.0.0',
    '10.0.0.0/33',
    '::/129',
    '1:2:3',
    '1::2::3',
    '12345::',
    ':',
    '',
    'fe80::1%eth0',
    'abc',
  ])('%j is none', (text) => expect(isAddress(text)).toBe(false));

  test.each([
    ['10.0.0.9', '10.0.0.0/8', 'yes'],
    ['11.0.0.9', '10.0.0.0/8', 'no'],
    ['255.255.255.255', '0.0.0.0/0', 'yes'],
    ['10.0.0.9', '10.0.0.9', 'yes'],
    ['10.0.0.9', '10.0.0.8', 'no'],
    ['fd00:beef::2a', 'FD00::/8', 'yes'],
    ['fe00::2a', 'fd00::/8', 'no'],
    ['fd00::2a', 'fd00:0::2A', 'yes'],
    ['10.0.0.9', 'fd00::/8', 'no'],
    ['app.lan', '10.0.0.0/8', 'maybe'],
    ['app.lan', 'app.lan', 'yes'],
  ])('%s in %s: %s', (address, network, answer) => expect(within(address, network)).toBe(answer));
});
