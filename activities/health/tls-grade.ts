export const grades = ['A+', 'A', 'B', 'C', 'F', 'T'] as const;
export type Grade = (typeof grades)[number];

/** What a server accepts, as the probe found it by trying. */
export interface TlsFacts {
  /** Chain, dates and name are right. */
  trusted: boolean;
  /** Versions that it speaks: TLSv1, TLSv1.1, TLSv1.2, TLSv1.3. */
  protocols: readonly string[];
  /** It accepts a cipher without encryption or without authentication. */
  insecureCiphers: boolean;
  /** What it agrees on with a present-day client has forward secrecy (ECDHE, DHE, TLS 1.3). */
  forwardSecrecy: boolean;
  /** The same is authenticated encryption (GCM, CCM, ChaCha20). */
  aead: boolean;
  /** Strength of the certificate's key as bits of RSA; an elliptic curve of 256 bits counts as 3072. */
  keyBits: number;
  /** `max-age` of Strict-Transport-Security, seconds; undefined without the header. */
  hstsSeconds: number | undefined;
}

/** Half a year: SSL Labs asks as much for A+. Seconds. */
const HSTS_SECONDS = 180 * 86_400;

/**
 * The grade, and what keeps it from a better one. The rule is the table in workflows/health-check/README.md: each row that
 * applies caps the grade. Pure.
 */
export function gradeTls(facts: TlsFacts): { grade: Grade; because: string[] } {
  const has = (version: string): boolean => facts.protocols.includes(version);
  const caps: [boolean, Grade, string][] = [
    [!facts.trusted, 'T', 'chain, dates or name of the certificate are wrong'],
    [facts.insecureCiphers, 'F', 'a cipher without encryption or authentication is accepted'],
    [facts.keyBits < 1024, 'F', `the key has ${facts.keyBits} bits`],
    [facts.keyBits >= 1024 && facts.keyBits < 2048, 'C', `the key has ${facts.keyBits} bits`],
    [!has('TLSv1.2') && !has('TLSv1.3'), 'C', 'neither TLS 1.2 nor 1.3'],
    [has('TLSv1') || has('TLSv1.1'), 'B', 'TLS 1.0 or 1.1 is accepted'],
    [!facts.forwardSecrecy, 'B', 'no forward secrecy'],
    [!facts.aead, 'B', 'no authenticated encryption'],
    [!has('TLSv1.3'), 'A', 'no TLS 1.3'],
    [
      facts.hstsSeconds === undefined || facts.hstsSeconds < HSTS_SECONDS,
      'A',
      facts.hstsSeconds === undefined ? 'no HSTS' : `HSTS for less than ${HSTS_SECONDS / 86_400} days`,
    ],
  ];
  const applying = caps.filter(([applies]) => applies);
  const grade = applying.reduce<Grade>(
    (worst, [, cap]) => (grades.indexOf(cap) > grades.indexOf(worst) ? cap : worst),
    'A+',
  );
  return { grade, because: applying.filter(([, cap]) => cap === grade).map(([, , reason]) => reason) };
}

/** Whether a grade is as good as asked for. Pure. */
export const atLeast = (grade: Grade, lowest: Grade): boolean => grades.indexOf(grade) <= grades.indexOf(lowest);
