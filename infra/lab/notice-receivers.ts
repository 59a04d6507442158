import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { SMTPServer } from 'smtp-server';

/*
 * Who is told, for tests and labs: an HTTP server for webhooks of all kinds, and an SMTP server with TLS and login. What they are sent stays here:
 * nothing is handed on. smtp-server speaks all of the protocol that a notice meets; a whole MTA would only add its queue.
 */

/** Where a server listens; by default on any free port of 127.0.0.1. */
export interface Listening {
  address?: string;
  port?: number;
}

export interface Posted {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface WebReceiver {
  /** `http://ADDRESS:PORT` */
  url: string;
  posted: Posted[];
  /** Those whose path begins with this. */
  at(path: string): Posted[];
  close(): Promise<void>;
}

/** A real HTTP server; `answer` decides what it says, 200 by default. */
export async function startWebReceiver(
  answer: (request: Posted, response: ServerResponse, earlier: Posted[]) => void = (_, response) => response.end('ok'),
  { address = '127.0.0.1', port: wanted = 0 }: Listening = {},
): Promise<WebReceiver> {
  const posted: Posted[] = [];
  const server: Server = createServer((request, response) => {
    void readAll(request).then((body) => {
      const one = { path: request.url ?? '', headers: request.headers, body };
      const earlier = posted.filter((each) => each.path === one.path);
      posted.push(one);
      answer(one, response, earlier);
    });
  });
  await new Promise<void>((resolve) => server.listen(wanted, address, resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://${address}:${port}`,
    posted,
    at: (beginning) => posted.filter((each) => each.path.startsWith(beginning)),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface Mailed {
  to: string[];
  from: string;
  secure: boolean;
  user: string | undefined;
  /** The whole message as it came, headers first. */
  text: string;
}

export interface MailReceiver {
  port: number;
  /** PEM file: who vouches for its certificate. */
  authorities: string;
  mails: Mailed[];
  close(): Promise<void>;
}

/**
 * A real SMTP server that asks for a login over TLS. `refuse` is what it answers to a recipient, `directory` where its certificate is made: by default
 * one that goes with it.
 */
export async function startMailReceiver(
  options: {
    security: 'starttls' | 'tls' | 'none';
    login?: { user: string; password: string };
    refuse?: (to: string, times: number) => { code: number; message: string } | undefined;
    received?: (mail: Mailed) => void;
    directory?: string;
  } & Listening,
): Promise<MailReceiver> {
  const { address = '127.0.0.1', port: wanted = 0 } = options;
  const directory = options.directory ?? mkdtempSync(path.join(tmpdir(), 'guardia-mail-'));
  const [key, certificate] = [path.join(directory, 'key.pem'), path.join(directory, 'certificate.pem')];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=mail.test', '-addext', `subjectAltName=IP:${address}`, '-keyout', key, '-out', certificate],
    ],
    { stdio: 'pipe' },
  );
  const mails: Mailed[] = [];
  const asked = new Map<string, number>();
  const { login, security, refuse } = options;
  const server = new SMTPServer({
    secure: security === 'tls',
    key: readFileSync(key),
    cert: readFileSync(certificate),
    logger: false,
    disabledCommands: [...(login ? [] : ['AUTH']), ...(security === 'none' ? ['STARTTLS'] : [])],
    authOptional: login === undefined,
    onAuth(auth, _, done) {
      if (auth.username === login?.user && auth.password === login?.password) done(null, { user: auth.username });
      else done(new Error('no such user or password'));
    },
    onRcptTo(address, _, done) {
      const times = (asked.get(address.address) ?? 0) + 1;
      asked.set(address.address, times);
      const refused = refuse?.(address.address, times);
      if (refused) done(Object.assign(new Error(refused.message), { responseCode: refused.code }));
      else done();
    },
    onData(stream, session, done) {
      void readAll(stream).then((text) => {
        const mail: Mailed = {
          to: session.envelope.rcptTo.map(({ address }) => address),
          from: session.envelope.mailFrom === false ? '' : session.envelope.mailFrom.address,
          secure: session.secure,
          user: session.user as string | undefined,
          text,
        };
        mails.push(mail);
        options.received?.(mail);
        done();
      });
    },
  });
  server.on('error', () => undefined);
  await new Promise<void>((resolve) => server.listen(wanted, address, resolve));
  const { port } = server.server.address() as { port: number };
  return {
    port,
    authorities: certificate,
    mails,
    async close() {
      await new Promise<void>((resolve) => server.close(resolve));
      if (options.directory === undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}
