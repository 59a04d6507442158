// Requests that flow all the time while something is deployed, and what became of them.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';

export interface Answer {
  /** Milliseconds since 1970, when it was sent and when it was answered. */
  sentAt: number;
  endedAt: number;
  /** HTTP status; 0 where there was none. */
  status: number;
  /** What the application says that it is. */
  version?: string;
}

/** Asks for a page over TLS, a new connection each time, until it is stopped. `everyMs`: the pause between two requests. */
export function startTraffic(options: { address: string; name: string; path: string; ca: string; everyMs?: number }) {
  const ca = readFileSync(options.ca);
  const answers: Answer[] = [];
  let stopped = false;
  const ask = (): Promise<void> =>
    new Promise((resolve) => {
      const sentAt = Date.now();
      const done = (status: number, body = ''): void => {
        const version = /"version":"([^"]+)"/.exec(body)?.[1];
        answers.push({ sentAt, endedAt: Date.now(), status, ...(version === undefined ? {} : { version }) });
        resolve();
      };
      const call = request(
        {
          host: options.address,
          servername: options.name,
          path: options.path,
          headers: { host: options.name },
          ca,
          agent: false,
          timeout: 10_000,
        },
        (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
          response.on('end', () => done(response.statusCode ?? 0, body)).on('error', () => done(0));
        },
      );
      call.on('error', () => done(0)).on('timeout', () => call.destroy(new Error('timeout')));
      call.end();
    });
  const flowing = (async () => {
    while (!stopped) {
      await ask();
      await delay(options.everyMs ?? 100);
    }
  })();
  return {
    async stop(): Promise<Answer[]> {
      stopped = true;
      await flowing;
      return answers;
    },
  };
}

export const failed = (answers: readonly Answer[]): Answer[] => answers.filter(({ status }) => status !== 200);

/** From the first request that failed to the first good answer after the last failure: seconds, 0 where none failed. Pure. */
export function downtimeSeconds(answers: readonly Answer[]): number {
  const first = answers.findIndex(({ status }) => status !== 200);
  if (first < 0) return 0;
  const last = answers.findLastIndex(({ status }) => status !== 200);
  const [from, to] = [answers[first], answers[last + 1] ?? answers[last]];
  return ((to?.endedAt ?? 0) - (from?.sentAt ?? 0)) / 1000;
}
