// Requests that flow all the time while something is deployed, and what became of them; and a user whose session and uploads have to outlive it.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { BackupLab } from '../backup/harness.js';

/** A name that is asked for at an address, over TLS. */
export interface Site {
  address: string;
  name: string;
  /** File of the authority that signed its certificate. */
  ca: string;
}

export interface Answer {
  /** Milliseconds since 1970, when it was sent and when it was answered. */
  sentAt: number;
  endedAt: number;
  /** HTTP status; 0 where there was none. */
  status: number;
  /** What the application says that it is. */
  version?: string;
}

/** One request over a connection of its own. Status 0 where there was no answer within 10 s. */
function ask(
  { address, name }: Site,
  options: { ca: Buffer; method?: string; path: string; headers?: Record<string, string>; send?: string },
): Promise<{ status: number; body: string }> {
  return new Promise((resolve) => {
    const { ca, method = 'GET', path, headers, send } = options;
    let body = '';
    const call = request(
      {
        ...{ host: address, servername: name, method, path, ca, agent: false, timeout: 10_000 },
        headers: { host: name, ...headers },
      },
      (response) => {
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
        response.on('error', () => resolve({ status: 0, body }));
      },
    );
    call.on('error', () => resolve({ status: 0, body })).on('timeout', () => call.destroy(new Error('timeout')));
    call.end(send);
  });
}

/** Asks for a page, a new connection each time, until it is stopped. `everyMs`: the pause between two requests of a client; `clients`: side by side. */
export function startTraffic(options: Site & { path: string; everyMs?: number; clients?: number }) {
  const ca = readFileSync(options.ca);
  const answers: Answer[] = [];
  let stopped = false;
  const flow = async (): Promise<void> => {
    while (!stopped) {
      const sentAt = Date.now();
      const { status, body } = await ask(options, { ca, path: options.path });
      const version = /"version":"([^"]+)"/.exec(body)?.[1];
      answers.push({ sentAt, endedAt: Date.now(), status, ...(version === undefined ? {} : { version }) });
      await delay(options.everyMs ?? 100);
    }
  };
  const flowing = Promise.all(Array.from({ length: options.clients ?? 1 }, flow));
  return {
    async stop(): Promise<Answer[]> {
      stopped = true;
      await flowing;
      return answers.sort((a, b) => a.endedAt - b.endedAt);
    },
  };
}

export const failed = (answers: readonly Answer[]): Answer[] => answers.filter(({ status }) => status !== 200);

/** Those that were under way while a host went away: milliseconds since 1970. Its processes end one after the other. Pure. */
export const underWay = (answers: readonly Answer[], from: number, to: number): Answer[] =>
  answers.filter(({ sentAt, endedAt }) => sentAt <= to && endedAt >= from);

/** From the first request that failed to the first good answer after the last failure: seconds, 0 where none failed. Pure. */
export function downtimeSeconds(answers: readonly Answer[]): number {
  const first = answers.findIndex(({ status }) => status !== 200);
  if (first < 0) return 0;
  const last = answers.findLastIndex(({ status }) => status !== 200);
  const [from, to] = [answers[first], answers[last + 1] ?? answers[last]];
  return ((to?.endedAt ?? 0) - (from?.sentAt ?? 0)) / 1000;
}

/** The longest time without a good answer, seconds. Pure. */
export function longestGapSeconds(answers: readonly Answer[]): number {
  const good = answers.filter(({ status }) => status === 200).map(({ endedAt }) => endedAt);
  return Math.max(0, ...good.slice(1).map((at, i) => at - (good[i] ?? at))) / 1000;
}

/** A user who has logged in once. */
export interface Visitor {
  /** Whether the session is still good: the token of before, shown to the API through the entrance, several times, so that every server is asked. */
  isLoggedIn(): Promise<boolean>;
  /** Whether each upload is still given out by the host that took it. */
  hasUploads(): Promise<boolean>;
}

/** Logs in through the entrance, and uploads a file to each host. */
export async function arrive(here: BackupLab, site: Site, hosts: readonly string[]): Promise<Visitor> {
  const ca = readFileSync(site.ca);
  const password = readFileSync(`${here.lab.secretsDirectory}/proofpass/admin-password`, 'utf8').trim();
  const login = JSON.stringify({ email: 'admin@proofpass.test', password });
  const { status, body } = await ask(site, { ca, method: 'POST', path: '/auth/login', send: login });
  if (status !== 200) throw new Error(`the login was answered ${status}`);
  const { token } = JSON.parse(body) as { token: string };
  const authorization = `Bearer ${token}`;
  /** Asks the API of a host on the host itself; the session goes by standard input. */
  const onHost = async (host: string, path: string, data?: string): Promise<string> => {
    const lines = [`url = "http://127.0.0.1:4000${path}"`, `header = "authorization: ${authorization}"`];
    if (data !== undefined) lines.push(`data = "${data}"`);
    const argv = ['curl', '--silent', '--max-time', '10', '--config', '-'];
    return (await here.lab.exec(host, argv, { stdin: `${lines.join('\n')}\n` })).stdout;
  };
  const text = (host: string): string => `kept by ${host}`;
  const uploads = new Map<string, string>();
  for (const host of hosts) {
    const answer = await onHost(host, '/uploads', text(host));
    uploads.set(host, (JSON.parse(answer) as { id: string }).id);
  }
  return {
    async isLoggedIn() {
      for (let i = 0; i < 2 * hosts.length; i++)
        if ((await ask(site, { ca, path: '/attestations', headers: { authorization } })).status !== 200) return false;
      return true;
    },
    async hasUploads() {
      for (const [host, id] of uploads) if ((await onHost(host, `/uploads/${id}`)) !== text(host)) return false;
      return true;
    },
  };
}
