import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { createScrubber } from '../../../activities/secrets/scrubber.js';
import { Secret } from '../../../activities/secrets/secret.js';

const shown = '[secret file:k]';
const knowing = (...values: string[]) => {
  const scrubber = createScrubber();
  values.forEach((value, i) => scrubber.remember(new Secret(i === 0 ? 'file:k' : `file:k${i}`, value)));
  return scrubber;
};
/** Values that do not by chance stand in the text that replaces them. */
const secretValue = (minLength = 8) =>
  fc
    .string({ minLength, maxLength: 60, unit: 'grapheme' })
    .filter((value) => value.length >= minLength && !`${shown}[secret file:k1]`.includes(value));
const anyText = fc.string({ maxLength: 200, unit: 'grapheme' });
const nasty = 'p@ss w0rd/+"\'$(x)`\\&<ñ>%';

describe('scrub', () => {
  test('leaves text without secrets as it is', () => {
    fc.assert(fc.property(anyText, (text) => expect(createScrubber().scrub(text)).toBe(text)));
    expect(knowing('a-secret-value').scrub('nothing to see here')).toBe('nothing to see here');
  });

  test('takes every occurrence out of any text', () => {
    fc.assert(
      fc.property(secretValue(), fc.array(anyText, { minLength: 2, maxLength: 5 }), (value, parts) => {
        const clean = knowing(value).scrub(parts.join(value));
        expect(clean).not.toContain(value);
        expect(clean).toContain(shown);
      }),
    );
  });

  test.each<[string, (value: string) => string]>([
    ['base64', (value) => Buffer.from(value).toString('base64')],
    ['base64 of user:password', (value) => Buffer.from(`guardia:${value}`).toString('base64')],
    ['base64url within JSON', (value) => JSON.stringify({ a: Buffer.from(`x${value}y`).toString('base64url') })],
    ['base64url', (value) => Buffer.from(value).toString('base64url')],
    ['hex', (value) => Buffer.from(value).toString('hex')],
    ['upper-case hex', (value) => Buffer.from(value).toString('hex').toUpperCase()],
    ['a URL', (value) => `postgresql://user:${encodeURIComponent(value)}@host/db`],
    [
      'a URL with lower-case escapes',
      (value) => encodeURIComponent(value).replace(/%../g, (byte) => byte.toLowerCase()),
    ],
    ['a form', (value) => new URLSearchParams({ password: value }).toString()],
    ['a shell word in single quotes', (value) => `'${value.replaceAll("'", `'\\''`)}'`],
    ['a shell word in double quotes', (value) => `"${value.replace(/[\\"$`]/g, '\\$&')}"`],
    ['what sh prints with set -x', (value) => traced('sh', value)],
    ['JSON', (value) => JSON.stringify({ password: value })],
    [
      'XML',
      (value) =>
        `<Key>${value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')}</Key>`,
    ],
  ])('finds a secret in %s', (form, encode) => {
    for (const value of [nasty, 'plain-value-of-a-key', 'ñandú-ñandú-ñandú', 'AKIA/+/+/+/+/+/+=']) {
      const clean = knowing(value).scrub(`before ${encode(value)} after`);
      expect(clean).toContain(shown);
      expect(clean).not.toContain(value);
      // Nothing that could be turned back: what is left of the encoded form is the frame around it.
      expect(clean.length).toBeLessThan(encode('').length + 'before  after'.length + shown.length + 24);
      expect(form).not.toBe('');
    }
  });

  test('what bash prints with set -x and %q is found', () => {
    for (const value of [nasty, 'two\nlines-of-it', "it's-a-value"]) {
      const trace = traced('bash', value);
      const clean = knowing(value).scrub(trace);
      expect(clean).toContain(shown);
      for (const line of value.split('\n').filter(({ length }) => length > 7)) expect(clean).not.toContain(line);
    }
    const ascii = nasty.replace('ñ', 'n');
    expect(
      knowing(ascii).scrub(execFileSync('bash', ['-c', 'printf %q "$1"', 'bash', ascii], { encoding: 'utf8' })),
    ).toBe(shown);
  });

  test('a private key is found whole, line by line, and in part', () => {
    const { privateKey } = generateKeyPairSync('ed25519', {
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    const scrubber = knowing(privateKey.trimEnd());
    const body = privateKey.split('\n')[1] ?? '';
    expect(scrubber.scrub(privateKey)).toBe(`${shown}\n`);
    expect(scrubber.scrub(`|  ${body}\r\n`)).toBe(`|  ${shown}\r\n`);
    expect(scrubber.scrub('no -----BEGIN PRIVATE KEY----- here')).toBe('no -----BEGIN PRIVATE KEY----- here');
  });

  test('a piece that is cut off at either end of the text is taken out', () => {
    const scrubber = knowing('0123456789abcdef');
    expect(scrubber.scrub('89abcdef and more')).toBe(`${shown} and more`);
    expect(scrubber.scrub('it says 01234567')).toBe(`it says ${shown}`);
    expect(scrubber.scrub('0123456789abcde')).toBe(shown);
    expect(scrubber.scrub('in the middle 456789abc of it')).toBe('in the middle 456789abc of it');
  });

  test('secrets that overlap leave no rest', () => {
    const scrubber = knowing('abcdefgh', 'fghijklm', 'cdef');
    expect(scrubber.scrub('<abcdefghijklm>')).toBe(`<${shown}>`);
    expect(scrubber.scrub('<cdefghijklm>')).toBe('<[secret file:k2]>');
    expect(knowing('aaaa').scrub('<aaaaaaaaaaaaaaaaaaaaaa>')).toBe(`<${shown}>`);
  });

  test('the longer of two secrets that begin alike is meant', () => {
    expect(knowing('pass', 'password-of-all').scrub('password-of-all pass')).toBe(`[secret file:k1] ${shown}`);
  });

  test('too short a value is not searched for', () => {
    expect(knowing('abc').scrub('abcdef')).toBe('abcdef');
  });

  test('is fast enough for logs: 8 MB with thirty keys in under five seconds', () => {
    const keys = Array.from({ length: 30 }, (_, i) => `key-${i}-${'x'.repeat(40)}`);
    const scrubber = knowing(...keys);
    const text = `${'an ordinary line of a log with key-value pairs and numbers 12345\n'.repeat(125_000)}${keys[7]}`;
    const started = performance.now();
    expect(scrubber.scrub(text).endsWith('[secret file:k7]')).toBe(true);
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

/** What a shell prints about a command that is given the value, with `set -x`. */
function traced(shell: string, value: string): string {
  const env = { ...process.env, LC_ALL: 'C.UTF-8' };
  return execFileSync(shell, ['-c', 'exec 2>&1; set -x; : "$1"', shell, value], { encoding: 'utf8', env });
}

describe('streams', () => {
  /** The text cut at these places. */
  const cut = (text: string, places: number[]) => {
    const at = [0, ...places.map((place) => place % (text.length + 1)).sort((a, b) => a - b), text.length];
    return at.slice(1).map((end, i) => text.slice(at[i], end));
  };
  const through = (scrubber: ReturnType<typeof createScrubber>, pieces: string[]) => {
    const stream = scrubber.textStream();
    return pieces.map((piece) => stream.push(piece)).join('') + stream.end();
  };

  test('give the same for any cut as the text in one piece', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(secretValue(5), { minLength: 1, maxLength: 3 }),
        fc.array(fc.oneof(anyText, fc.nat(2)), { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (values, parts, places) => {
          const text = parts.map((part) => (typeof part === 'number' ? (values[part] ?? '') : part)).join('');
          const scrubber = knowing(...values);
          const whole = scrubber.textStream();
          expect(through(scrubber, cut(text, places))).toBe(whole.push(text) + whole.end());
        },
      ),
    );
  });

  test('never let a secret through, wherever it is cut', () => {
    fc.assert(
      fc.property(
        secretValue(),
        anyText,
        anyText,
        fc.array(fc.nat(), { maxLength: 12 }),
        (value, before, after, places) => {
          const clean = through(knowing(value), cut(before + value + after, places));
          expect(clean).not.toContain(value);
          expect(clean).toContain(shown);
        },
      ),
    );
  });

  test('bytes: a secret that is cut within a character', () => {
    const value = 'ñandú-🔑-ñandú';
    const bytes = Buffer.concat([Buffer.from([0xff, 0x00]), Buffer.from(value), Buffer.from([0xfe])]);
    for (let at = 0; at <= bytes.length; at++) {
      const stream = knowing(value).byteStream();
      const clean = Buffer.concat([stream.push(bytes.subarray(0, at)), stream.push(bytes.subarray(at)), stream.end()]);
      expect(clean).toEqual(Buffer.concat([Buffer.from([0xff, 0x00]), Buffer.from(shown), Buffer.from([0xfe])]));
    }
  });

  test('bytes without secrets pass unchanged', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 8 }), (chunks) => {
        const stream = knowing('a-secret-of-some-length').byteStream();
        const out = [...chunks.map((chunk) => stream.push(Buffer.from(chunk))), stream.end()];
        expect(Buffer.concat(out)).toEqual(Buffer.concat(chunks));
      }),
    );
  });

  test('hold back only what may be the beginning of a secret', () => {
    const stream = knowing('0123456789abcdef').textStream();
    expect(stream.push('ordinary text 01234')).toBe('ordinary text ');
    expect(stream.push('x goes on\n')).toBe('01234x goes on\n');
    expect(stream.push('0123')).toBe('');
    expect(stream.end()).toBe('0123');
  });

  test('hold back no more than a secret is long, whatever comes', () => {
    const stream = knowing('aaaa').textStream();
    let out = '';
    for (let i = 0; i < 1000; i++) out += stream.push('a'.repeat(100));
    out += stream.push('b') + stream.end();
    expect(out).toBe(`${shown}b`);
  });

  test('a secret that repeats itself is shown once, wherever it is cut', () => {
    for (const pieces of [
      ['     ', ''],
      ['', '     '],
      ['  ', '   '],
      ['    ', ' '],
    ])
      expect(through(knowing('     '), pieces)).toBe(shown);
  });

  test('know a secret that is resolved while they run', () => {
    const scrubber = createScrubber();
    const stream = scrubber.textStream();
    expect(stream.push('first later-secret ')).toBe('first later-secret ');
    scrubber.remember(new Secret('file:k', 'later-secret'));
    expect(stream.push('then later-secret') + stream.end()).toBe(`then ${shown}`);
  });
});
