import { describe, expect, test } from '@jest/globals';
import { maskText } from '../../../activities/files/mask.js';

const mark = (value: string) => `<${value.length}>`;

describe('masking', () => {
  test('of a file that may hold secrets leaves names and heads', () => {
    const text = [
      '# ======',
      '# GENERAL',
      '# OLD=abc',
      'A=b c',
      'export TOKEN="x y"',
      '  yaml: value',
      '- LIST=1',
      '[section]',
      '',
      '0 2 * * * curl user:pw@x',
      'EMPTY=',
    ].join('\n');
    expect(maskText(text, true, mark)).toBe(
      [
        '# ======',
        '# GENERAL',
        '# OLD=<3>',
        'A=<3>',
        'export TOKEN=<5>',
        '  yaml: <5>',
        '- LIST=<1>',
        '[section]',
        '',
        '<24>',
        'EMPTY=',
      ].join('\n'),
    );
  });

  test.each([
    ['Environment=DB_PASSWORD=hunter2 A=1', 'Environment=DB_PASSWORD=<7> A=1'],
    ['url: postgresql://u:s3cret@h:5/d', 'url: postgresql://u:<6>@h:5/d'],
    ['ssl_certificate_key /etc/x/privkey.pem;', 'ssl_certificate_key /etc/x/privkey.pem;'],
    ['PASSWORD=${PASSWORD}', 'PASSWORD=${PASSWORD}'],
    ['access_token: "a b"', 'access_token: <5>'],
    ['limit_req zone=api burst=20;', 'limit_req zone=api burst=20;'],
    ['-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nx', '<58>\nx'],
  ])('of any other file hides what is secret by form or name: %s', (text, shown) => {
    expect(maskText(text, false, mark)).toBe(shown);
  });
});
