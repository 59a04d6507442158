import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import type { Duplex } from 'node:stream';
import { isFailure } from '../../workflows/contracts/errors.js';
import { failed, unknown, type Verdict } from './verdict.js';

/** Opens a TCP connection from where a probe looks: the worker, or a host. */
export type Dial = (address: string, port: number, signal: AbortSignal) => Promise<Duplex>;

/** No answer that a probe needs is longer. Bytes. */
const BODY_BYTES = 1024 * 1024;

export interface Question {
  url: string;
  /** Where to connect to, instead of the name in the URL. */
  address?: string | undefined;
  /** Certificates to trust, PEM; the public ones without it. */
  ca?: string | undefined;
  method?: string;
  headers?: Record<string, string>;
}

export interface Answer {
  status: number;
  /** Names in lower case; several of one name are joined. */
  headers: Readonly<Record<string, string>>;
  /** Each `Set-Cookie`. */
  cookies: readonly string[];
  /** At most 1 MiB. */
  body: string;
  milliseconds: number;
}

/** Asks once, over a connection of its own; redirects are not followed. Rejects with what is in the way: see `explain`. */
export async function ask(question: Question, dial: Dial, signal: AbortSignal): Promise<Answer> {
  const began = performance.now();
  const url = new URL(question.url);
  const socket = await connect(url, question, dial, signal);
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const request = http.request({
        // The connection is there already, with TLS or without.
        createConnection: () => socket,
        host: url.hostname,
        method: question.method ?? 'GET',
        path: `${url.pathname}${url.search}`,
        headers: { host: url.host, 'user-agent': 'guardia', accept: '*/*', connection: 'close', ...question.headers },
        signal,
      });
      request.on('error', reject);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        const done = (): void =>
          resolve({
            status: response.statusCode ?? 0,
            headers: Object.fromEntries(
              Object.entries(response.headers).map(([name, value]) => [
                name,
                Array.isArray(value) ? value.join(', ') : (value ?? ''),
              ]),
            ),
            cookies: response.headers['set-cookie'] ?? [],
            body: Buffer.concat(chunks).toString('utf8'),
            milliseconds: performance.now() - began,
          });
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          chunks.push(chunk);
          if (bytes > BODY_BYTES) {
            done();
            request.destroy();
          }
        });
        response.on('end', done);
        response.on('error', reject);
      });
      request.end();
    });
  } finally {
    socket.destroy();
  }
}

async function connect(url: URL, question: Question, dial: Dial, signal: AbortSignal): Promise<Duplex> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const secure = url.protocol === 'https:';
  const raw = await dial(question.address ?? host, Number(url.port || (secure ? 443 : 80)), signal);
  return secure ? await shakeHands(raw, { serverName: host, ca: question.ca }, signal) : raw;
}

/** TLS over a connection. Rejects unless chain, dates and name are right; with `trust: 'anything'` only when there is no handshake at all. */
export async function shakeHands(
  raw: Duplex,
  options: { serverName: string; ca?: string | undefined; trust?: 'anything' } & tls.SecureContextOptions,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const { serverName, ca, trust, ...context } = options;
  const socket = tls.connect({
    socket: raw,
    // SNI takes names only.
    ...(net.isIP(serverName) === 0 ? { servername: serverName } : {}),
    host: serverName,
    ...(ca === undefined ? {} : { ca }),
    rejectUnauthorized: trust === undefined,
    ALPNProtocols: ['http/1.1'],
    ...context,
  });
  const stop = (): void => void socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
      socket.once('close', () => reject(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' })));
    });
    // Later errors are those of whoever uses the connection; without anybody they are none.
    socket.on('error', () => undefined);
    return socket;
  } catch (error) {
    raw.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** A value in JSON by its dotted path. Undefined where there is none. Pure. */
export function valueAt(json: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>(
      (at, name) => (typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[name] : undefined),
      json,
    );
}

/** Words for what socket and TLS errors mean, by their code. */
const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there: the connection was refused',
  ETIMEDOUT: 'no answer',
  EHOSTUNREACH: 'there is no way to it',
  ENETUNREACH: 'there is no way to it',
  ENOTFOUND: 'its name is not known (DNS)',
  EAI_AGAIN: 'its name cannot be looked up now (DNS)',
  ECONNRESET: 'the connection was closed before the answer',
  EPIPE: 'the connection was closed before the answer',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is signed by nobody but itself',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is signed by an authority that is not trusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate chain is incomplete or not trusted',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate chain is incomplete or not trusted',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
};

/** The words for an error code of a socket or of TLS. */
export const wordsFor = (code: string): string => words[code] ?? code;

/** Codes that say something about the certificate. */
const remedies: readonly [RegExp, string][] = [
  [
    /^(CERT_|DEPTH_|SELF_|UNABLE_|ERR_TLS_CERT)/,
    'Look at the certificate: openssl s_client -connect HOST:443 -servername NAME -showcerts',
  ],
  [/^(ECONNREFUSED)$/, 'Start what listens there, or correct address and port in the inventory'],
  [/^(ENOTFOUND|EAI_AGAIN)$/, 'Correct the name in DNS, or give `address` in the inventory'],
];

/** An error of a look from somewhere: where the place to look from fails nothing is known, else it is the service that failed. */
export function explain(error: unknown, expected: string, signal: AbortSignal, seconds: number): Verdict {
  if (
    isFailure(
      error,
      'HostUnreachable',
      'HostUnusable',
      'HostKeyRefused',
      'HostLoginRefused',
      'SudoMissing',
      'SecretUnavailable',
      'UnsetValue',
    )
  )
    return unknown(error.message, expected);
  if (signal.aborted)
    return { ...failed(`no answer within ${seconds} s`, expected), message: `no answer within ${seconds} s` };
  const { code, message } = error as NodeJS.ErrnoException;
  const said = (typeof code === 'string' ? words[code] : undefined) ?? (message || String(error));
  const remedy = typeof code === 'string' ? remedies.find(([codes]) => codes.test(code))?.[1] : undefined;
  return { ...failed(said, expected, remedy), message: said };
}
