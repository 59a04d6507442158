// The process of the lab's receivers: `notices-process.js ADDRESS DIRECTORY`. Writes down what it is sent, one JSON object on a line of received.jsonl.
import { appendFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { startMailReceiver, startWebReceiver } from './notice-receivers.js';
import { MAIL_PORT, MAIL_USER, PASSWORD_FILE, RECEIVED_FILE, WEB_PORT, type Received } from './notices-server.js';

const [address = '', directory = ''] = process.argv.slice(2);
const received = (one: Omit<Received, 'at'>): void =>
  appendFileSync(path.join(directory, RECEIVED_FILE), `${JSON.stringify({ at: new Date().toISOString(), ...one })}\n`, {
    mode: 0o600,
  });

// The mail server first: who reaches the other one finds both.
await startMailReceiver({
  ...{ security: 'starttls', address, port: MAIL_PORT, directory },
  login: { user: MAIL_USER, password: readFileSync(path.join(directory, PASSWORD_FILE), 'utf8').trim() },
  received: ({ to, text }) => received({ to: to.join(', '), text }),
});
await startWebReceiver(
  ({ path: to, body }, response) => {
    if (body !== '') received({ to, text: body });
    // As PagerDuty answers; the others look at the status only.
    response.writeHead(to === '/pagerduty' ? 202 : 200).end('{"status":"success"}');
  },
  { address, port: WEB_PORT },
);
