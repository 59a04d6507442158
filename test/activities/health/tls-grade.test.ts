import { describe, expect, test } from '@jest/globals';
import { atLeast, gradeTls, type TlsFacts } from '../../../activities/health/tls-grade.js';
import { maxAge } from '../../../activities/health/tls-probe.js';

const best: TlsFacts = {
  trusted: true,
  protocols: ['TLSv1.2', 'TLSv1.3'],
  insecureCiphers: false,
  forwardSecrecy: true,
  aead: true,
  keyBits: 3072,
  hstsSeconds: 31_536_000,
};

describe('the grade', () => {
  test.each<[Partial<TlsFacts>, string, string | undefined]>([
    [{}, 'A+', undefined],
    [{ protocols: ['TLSv1.3'] }, 'A+', undefined],
    [{ keyBits: 2048 }, 'A+', undefined],
    [{ hstsSeconds: undefined }, 'A', 'no HSTS'],
    [{ hstsSeconds: 3600 }, 'A', 'HSTS for less than 180 days'],
    [{ protocols: ['TLSv1.2'] }, 'A', 'no TLS 1.3'],
    [{ protocols: ['TLSv1.1', 'TLSv1.2', 'TLSv1.3'] }, 'B', 'TLS 1.0 or 1.1 is accepted'],
    [{ forwardSecrecy: false }, 'B', 'no forward secrecy'],
    [{ aead: false }, 'B', 'no authenticated encryption'],
    [{ protocols: ['TLSv1'] }, 'C', 'neither TLS 1.2 nor 1.3'],
    [{ keyBits: 1024 }, 'C', 'the key has 1024 bits'],
    [{ keyBits: 512 }, 'F', 'the key has 512 bits'],
    [{ insecureCiphers: true }, 'F', 'a cipher without encryption or authentication is accepted'],
    [{ trusted: false, insecureCiphers: true }, 'T', 'chain, dates or name of the certificate are wrong'],
  ])('%j is %s: %s', (change, grade, because) => {
    const found = gradeTls({ ...best, ...change });
    expect(found.grade).toBe(grade);
    expect(found.because).toEqual(because === undefined ? [] : [because]);
  });

  test('is compared in its own order', () => {
    expect(atLeast('A+', 'A')).toBe(true);
    expect(atLeast('A', 'A')).toBe(true);
    expect(atLeast('B', 'A')).toBe(false);
    expect(atLeast('T', 'C')).toBe(false);
  });

  test.each([
    ['max-age=31536000; includeSubDomains', 31_536_000],
    ['includeSubDomains; Max-Age="10"', 10],
    ['includeSubDomains', undefined],
    [undefined, undefined],
  ])('HSTS %s lasts %s s', (header, seconds) => expect(maxAge(header)).toBe(seconds));
});
