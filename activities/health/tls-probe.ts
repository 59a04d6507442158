import { createHash, X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import tls, { type DetailedPeerCertificate, type PeerCertificate, type SecureVersion } from 'node:tls';
import type { ProbeOf } from '../../workflows/contracts/probe.js';
import { ask, shakeHands, wordsFor, type Dial } from './asking.js';
import { atLeast, gradeTls, type TlsFacts } from './tls-grade.js';
import { failed, ok, worst, type Verdict } from './verdict.js';

/** What one handshake showed. */
export interface Served {
  /** SHA-256 in hex. */
  fingerprint: string;
  validTo: Date;
  protocol: string;
  cipher: string;
  keyBits: number;
  /** Why the chain or its dates are not right; undefined when they are. */
  chain?: string | undefined;
  /** Why the name is not right. */
  name?: string | undefined;
}

const versions: readonly SecureVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];
/** An elliptic curve of 256 bits is as strong as RSA of this size. Bits. */
const CURVE_BITS = 3072;

/**
 * Looks at what is served. With a grade it tries each protocol version and the ciphers without encryption or authentication as well, one
 * connection each. Node's own TLS does the trying: what that does not know (SSL 3, RC4, 3DES, export ciphers) stays unseen.
 */
export async function probeTls(
  probe: ProbeOf<'tls'>,
  ca: string | undefined,
  dial: Dial,
  signal: AbortSignal,
): Promise<Verdict> {
  const connect = (): Promise<Duplex> => dial(probe.address, probe.port, signal);
  const served = await handshake(probe, ca, connect, signal);
  const accepts = async (
    context: Pick<tls.SecureContextOptions, 'minVersion' | 'maxVersion' | 'ciphers'>,
  ): Promise<tls.CipherNameAndProtocol | undefined> => {
    const raw = await connect();
    try {
      const socket = await shakeHands(raw, { serverName: probe.serverName, trust: 'anything', ...context }, signal);
      return socket.getCipher();
    } catch {
      signal.throwIfAborted();
      return undefined; // the server, or Node, does not agree to it
    } finally {
      raw.destroy();
    }
  };
  let facts: TlsFacts | undefined;
  if (probe.grade !== undefined) {
    // Level 0, because Node's own default would hide what the server still accepts.
    const tried = await Promise.all(
      versions.map((version) =>
        accepts({ minVersion: version, maxVersion: version, ciphers: 'ALL:@SECLEVEL=0' }).then((cipher) => ({
          version,
          cipher,
        })),
      ),
    );
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.2' } as const;
    const agreed = await accepts({ minVersion: 'TLSv1', maxVersion: 'TLSv1.2' });
    const insecure = await accepts({ ...old, ciphers: 'eNULL:aNULL:@SECLEVEL=0' });
    const headers: Record<string, string> = await ask(
      { url: `https://${hostOf(probe.serverName)}:${probe.port}/`, address: probe.address, ca },
      dial,
      signal,
    ).then(
      (answer) => ({ ...answer.headers }),
      () => ({}),
    );
    facts = {
      trusted: served.chain === undefined && served.name === undefined,
      protocols: tried.flatMap(({ version, cipher }) => (cipher === undefined ? [] : [version])),
      insecureCiphers: insecure !== undefined,
      // Where TLS 1.2 is not spoken, TLS 1.3 has both.
      forwardSecrecy: agreed === undefined || /^(EC)?DHE-/.test(agreed.name),
      aead: agreed === undefined || /GCM|CCM|CHACHA20/.test(agreed.name),
      keyBits: served.keyBits,
      hstsSeconds: maxAge(headers['strict-transport-security']),
    };
  }
  return judgeTls(probe, served, facts, new Date());
}

const hostOf = (name: string): string => (name.includes(':') ? `[${name}]` : name);

/** Strength of the key, in bits of RSA. Node tells the bits of RSA keys and of the curves that have a name in X9.62. */
function keyBits({ asn1Curve, bits, raw }: PeerCertificate): number {
  if (asn1Curve !== undefined) return Math.round(((bits ?? 256) / 256) * CURVE_BITS);
  if (bits !== undefined) return bits;
  return /^ed(25519|448)$/.test(new X509Certificate(raw).publicKey.asymmetricKeyType ?? '') ? CURVE_BITS : 0;
}

async function handshake(
  probe: ProbeOf<'tls'>,
  ca: string | undefined,
  connect: () => Promise<Duplex>,
  signal: AbortSignal,
): Promise<Served> {
  const raw = await connect();
  try {
    const socket = await shakeHands(raw, { serverName: probe.serverName, ca, trust: 'anything' }, signal);
    const certificate: DetailedPeerCertificate = socket.getPeerCertificate(true);
    const wrongName = tls.checkServerIdentity(probe.serverName, certificate);
    // A code, whatever its type says.
    const code = socket.authorizationError as unknown as string | null;
    // Node adds the name to what it refuses; that is told apart here.
    const chain = socket.authorized || code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? undefined : (code ?? 'not trusted');
    return {
      fingerprint: createHash('sha256').update(certificate.raw).digest('hex'),
      validTo: new Date(certificate.valid_to),
      protocol: socket.getProtocol() ?? 'unknown',
      cipher: socket.getCipher().name,
      keyBits: keyBits(certificate),
      ...(chain === undefined ? {} : { chain: wordsFor(chain) }),
      ...(wrongName === undefined
        ? {}
        : {
            name: `its certificate is for ${certificate.subjectaltname?.replaceAll('DNS:', '') ?? String(certificate.subject.CN)}`,
          }),
    };
  } finally {
    raw.destroy();
  }
}

/** Judges what is served. Pure. */
export function judgeTls(probe: ProbeOf<'tls'>, served: Served, facts: TlsFacts | undefined, now: Date): Verdict {
  const days = Math.floor((served.validTo.getTime() - now.getTime()) / 86_400_000);
  const { warning, critical } = probe.daysLeft ?? { warning: 0, critical: 0 };
  const until = `valid for ${days} more days`;
  const renew = 'Renew the certificate, and see that the server was reloaded since';
  const found: Verdict[] = [
    days < critical
      ? { ...failed(until, `at least ${critical} days`, renew), state: 'critical' }
      : days < warning
        ? { ...failed(until, `at least ${warning} days`, renew), state: 'warning' }
        : ok(until, `at least ${warning} days`),
    served.chain === undefined ? ok('trusted', 'trusted') : failed(served.chain, 'a chain that is trusted'),
    served.name === undefined ? ok(probe.serverName, probe.serverName) : failed(served.name, `for ${probe.serverName}`),
  ];
  if (probe.fingerprint !== undefined)
    found.push(
      served.fingerprint === probe.fingerprint
        ? ok('the expected certificate', 'the expected certificate')
        : failed(
            `certificate ${served.fingerprint.slice(0, 16)}…`,
            `certificate ${probe.fingerprint.slice(0, 16)}…`,
            'Another certificate is served than the one that was installed: reload the server',
          ),
    );
  if (facts !== undefined && probe.grade !== undefined) {
    const { grade, because } = gradeTls(facts);
    found.push(
      atLeast(grade, probe.grade)
        ? ok(`grade ${grade}`, `at least ${probe.grade}`)
        : failed(`grade ${grade}: ${because.join('; ')}`, `at least ${probe.grade}`),
    );
  }
  const verdict = worst(found);
  return verdict.state === 'ok'
    ? { ...verdict, measured: `${verdict.measured}; ${served.protocol} ${served.cipher}` }
    : verdict;
}

/** `max-age` of a Strict-Transport-Security header. Pure. */
export function maxAge(header: string | undefined): number | undefined {
  const found = /(?:^|;)\s*max-age\s*=\s*"?(\d+)/i.exec(header ?? '');
  return found ? Number(found[1]) : undefined;
}
