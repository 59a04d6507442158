import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  changedSettings,
  fillSecrets,
  shownText,
  withKeptLines,
} from '../../../activities/secret-files/secret-file-activities.js';
import {
  makeSecretValue,
  passwordInUrl,
  valueInEnvironmentFile,
} from '../../../activities/secret-files/secret-values.js';
import { scramVerifier } from '../../../activities/postgres/cluster-activities.js';

describe('values that a host holds', () => {
  test.each([
    ['A=1\nKEY=value', 'value'],
    ['KEY=old\nKEY=new', 'new'],
    ['export KEY="two words"', 'two words'],
    ["KEY='x'", 'x'],
    ['      - KEY=in-a-list', 'in-a-list'],
    ['      KEY: in-a-mapping', 'in-a-mapping'],
    ['KEY = spaced', 'spaced'],
    ['KEY =spaced', 'spaced'],
    ['KEY=a\r\nB=1\r\n', 'a'],
    ['KEY="a b"\r\n', 'a b'],
    ['      - "KEY=quoted"', 'quoted'],
    ["      - 'KEY=quoted'", 'quoted'],
    ['      "KEY": "quoted"', 'quoted'],
    ['      - KEY="quoted"', 'quoted'],
    ['KEY=', undefined],
    ['KEY=${OTHER}', undefined],
    ['# KEY=commented', undefined],
    ['KEYS=other', undefined],
  ])('%j', (text, value) => {
    expect(valueInEnvironmentFile(text, 'KEY')).toBe(value);
  });

  test('a password comes out of a URL as it went in', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, unit: 'binary-ascii' }), (password) => {
        expect(passwordInUrl(`postgresql://user:${encodeURIComponent(password)}@host:5432/db`)).toBe(password);
      }),
    );
    expect(passwordInUrl('postgresql://host/db')).toBeUndefined();
  });
});

describe('a new value', () => {
  test.each([
    ['hex', /^[0-9a-f]{33}$/],
    ['base64', /^[A-Za-z0-9+/=]{33}$/],
    ['alphanumeric', /^[A-Za-z0-9]{33}$/],
  ] as const)('%s has its alphabet and length, and is another each time', (kind, form) => {
    const values = Array.from({ length: 50 }, () => makeSecretValue({ kind, length: 33 }));
    for (const value of values) expect(value).toMatch(form);
    expect(new Set(values).size).toBe(50);
  });
});

describe('a file with secrets', () => {
  test('refuses a value that an environment file would change', () => {
    for (const value of ['a b ', 'a#b', 'a"b', "a'b", 'a$b', 'a\nb', 'a\\b'])
      expect(() => fillSecrets('K={{secret:s}}', () => value)).toThrow(/^the value of secret s holds a character/);
    expect(fillSecrets('K={{secret:s}} U=x:{{secret:s|url}}@', () => 'a/b')).toBe('K=a/b U=x:a%2Fb@');
  });

  test('keeps what somebody added by hand, once, and takes out what the inventory says', () => {
    const before = 'A=old\n# theirs\nMINE=1\nGONE=2\n';
    const once = withKeptLines('A=new\n', before, ['GONE']);
    expect(once).toBe('A=new\n\n# Not in the template of guardia; kept as they were.\nMINE=1\n');
    expect(withKeptLines('A=new\n', once, ['GONE'])).toBe(once);
    expect(withKeptLines('A=new\n', '', [])).toBe('A=new\n');
  });

  test.each([
    ['quotes', 'KEY="-----BEGIN\nA=abc==\n-----END"'],
    ['single quotes', "KEY='a\n\nGONE=b\n'"],
    ['a backslash', 'KEY=a \\\nGONE=b'],
    ['quotes with escaped ones', 'KEY="a\\"\nGONE=b"'],
    ['a backslash, and nothing before it', 'NODE_OPTIONS=\\\n--max-old-space-size=4096'],
    ['spaces around the sign', 'HAND_ADDED = x'],
    ['one line, with quotes in it', `KEY=it's "x`],
    ['one line, with a backslash that is escaped', 'KEY=a\\\\'],
  ])('keeps a value as a whole: in %s', (_, entry) => {
    expect(withKeptLines('A=new\n', `A=old\n${entry}\nGONE=1\nLAST=1\n`, ['GONE'])).toBe(
      `A=new\n\n# Not in the template of guardia; kept as they were.\n${entry}\nLAST=1\n`,
    );
  });

  test('refuses what belongs to a value where nobody can tell, and names the key, not the value', () => {
    expect(() => withKeptLines('A=new\n', 'B="open\nC=1\n', [], '/opt/.env')).toThrow(
      /^the value of B in \/opt\/\.env opens quotes that are never closed\. Close them/,
    );
  });

  test.each([
    ['A=debug', 'A=debug'],
    ['A=600000', 'A=600000'],
    ['A="https://old.example:8443/"', 'A="https://old.example:8443/"'],
    ['A=mail.old.example', 'A=mail.old.example'],
    ['A = /var/lib/x,80,no', 'A = /var/lib/x,80,no'],
    ['A=wanted,x8kPq2', 'A=wanted,<6>'],
    ['A=https://hooks.example/services/T0/x8kPq2', 'A=https:<34>'],
    ['A=https://x8kPq2@host/', 'A=https:<14>'],
    ['A=http://admin:pa/ss@h', 'A=http:<7>:<5><2>'],
    ['A="x\nzauberwort\n"', 'A=<15>'],
    ['A=x\\\nzauberwort', 'A=<13>'],
    ['B=debug', 'B=<5>'],
    ['B = debug\r', 'B = <5>'],
    ['B=', 'B='],
    ['MINE=1', 'MINE=<1>'],
    ['ZmDf1Pg==', '<9>'],
    ['# tiger', '# <5>'],
    ['# ======', '# ======'],
    ['tiger', '<5>'],
  ])('shows of a setting what is plain or wanted, and nothing else: %s', (text, shown) => {
    const mark = (value: string) => `<${value.length}>`;
    expect(shownText(text, 'A=wanted\nB={{secret:s}}\n', mark)).toBe(shown);
  });

  test('settings are seen with spaces around the sign and with CRLF', () => {
    expect(changedSettings('A = 1\r\nB = 2\r\n', 'A=1\nB=3\n')).toEqual(['B']);
  });

  test('shows which settings change, and of everything else no value', () => {
    const template =
      'STELLAR_NETWORK=PUBLIC\nLOG_LEVEL=info\nTOKEN_TTL=60\nAPI_URL=https://new.example\nSECRET={{secret:s}}\n';
    const before =
      'STELLAR_NETWORK=TESTNET\nLOG_LEVEL="info"\nTOKEN_TTL=9\nAPI_URL=https://u:pw@old.example\nSECRET=x1\nMINE="y\nABC="\n';
    const mark = (value: string) => `<${value.length}>`;
    expect(shownText(before, template, mark)).toBe(
      'STELLAR_NETWORK=TESTNET\nLOG_LEVEL="info"\nTOKEN_TTL=<1>\nAPI_URL=https://u:<2><12>\nSECRET=<2>\nMINE=<8>\n',
    );
    expect(
      shownText(
        fillSecrets(template, () => 'x1'),
        template,
        mark,
      ),
    ).toBe(template.replace('{{secret:s}}', '<2>'));
    expect(changedSettings(before, template)).toEqual(['STELLAR_NETWORK', 'TOKEN_TTL', 'API_URL']);
    expect(changedSettings('', template)).toEqual([]);
  });
});

test('the SCRAM verifier is the one that PostgreSQL would keep', () => {
  // RFC 7677, section 3: the example for "pencil".
  const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
  expect(scramVerifier('pencil', salt, 4096)).toBe(
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
  );
});
