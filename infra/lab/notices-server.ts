import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { compiled } from '../temporal/server-executable.js';
import { startDetached } from './control-group.js';
import { directoryOf, groupOf, type LabState } from './lab-state.js';
import { gatewayOf } from './network.js';

export const WEB_PORT = 7080;
export const MAIL_PORT = 7025;
export const MAIL_USER = 'guardia';
export const PASSWORD_FILE = 'mail-password';
export const RECEIVED_FILE = 'received.jsonl';

/** One notice as it came. */
export interface Received {
  /** ISO 8601. */
  at: string;
  /** Path of the request (`/slack`, `/pagerduty`, `/webhook`, as the target's address has it), or the addresses of a mail. */
  to: string;
  /** The body of the request, or the mail with its headers. */
  text: string;
}

const directory = (state: LabState): string => path.join(directoryOf(state.name), 'notices');

/** Who is told: an HTTP server for webhooks, Slack and PagerDuty, and a mail server with STARTTLS and a login. */
export const noticesServer = {
  name: 'notices',
  wanted: (state: LabState): boolean => state.systems.includes('proofpass'),
  start(state: LabState): Promise<ProcessIdentity> {
    const at = directory(state);
    mkdirSync(at, { recursive: true, mode: 0o700 });
    const password = path.join(at, PASSWORD_FILE);
    if (!existsSync(password)) writeFileSync(password, randomBytes(18).toString('base64url'), { mode: 0o600 });
    const argv = [process.execPath, compiled('infra/lab/notices-process.js'), gatewayOf(state.index), at];
    return Promise.resolve(startDetached(`${groupOf(state.index)}/notices`, argv, path.join(at, 'log')));
  },
  async ready(state: LabState): Promise<void> {
    for (const until = Date.now() + 30_000; ; await sleep(50)) {
      try {
        return void (await fetch(`${noticesOf(state).url}/`));
      } catch (cause) {
        if (Date.now() > until)
          throw new Error(`the receivers of notices do not answer; see ${path.join(directory(state), 'log')}`, {
            cause,
          });
      }
    }
  },
};

/** Where the lab's receivers are, and what they were sent. */
export function noticesOf(state: LabState) {
  const file = path.join(directory(state), RECEIVED_FILE);
  const address = gatewayOf(state.index);
  return {
    url: `http://${address}:${WEB_PORT}`,
    mail: {
      ...{ host: address, port: MAIL_PORT, security: 'starttls' as const, user: MAIL_USER },
      authorities: path.join(directory(state), 'certificate.pem'),
    },
    password: (): string => readFileSync(path.join(directory(state), PASSWORD_FILE), 'utf8'),
    received: (): Received[] =>
      existsSync(file)
        ? readFileSync(file, 'utf8')
            .trimEnd()
            .split('\n')
            .map((line) => JSON.parse(line) as Received)
        : [],
  };
}

/** A notice on one line: when, to whom, and what it is about. Pure. */
export const noticeLine = ({ at, to, text }: Received): string => `${at}  ${to.padEnd(24)}  ${subjectOf(text)}`;

function subjectOf(text: string): string {
  const subject = /^Subject: (.*(?:\r?\n[ \t].*)*)/im.exec(text)?.[1];
  if (subject !== undefined) return subject.replaceAll(/\r?\n[ \t]/g, ' ');
  const { title, text: said, payload, event_action: action } = jsonOf(text);
  const { summary } = (payload ?? {}) as { summary?: unknown };
  return [title, said, summary, action].find((one): one is string => typeof one === 'string') ?? '';
}

function jsonOf(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return { title: text.slice(0, 100) };
  }
}
