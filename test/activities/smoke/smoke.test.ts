import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createHosts } from '../../../activities/hosts/hosts.js';
import { createSshPool } from '../../../activities/hosts/ssh-pool.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import { createSmokeActivities, curlConfiguration } from '../../../activities/smoke/smoke-activities.js';
import type { CallInput } from '../../../workflows/contracts/calls.js';
import { SmokeCall } from '../../../workflows/contracts/deployment.js';

const PASSWORD = 'se"cr\\et $(id) {token}';
const TOKEN = 'to.ke-n';
let server: Server;
let base: string;
let directory: string;
let seen: { url: string; body: string; type: string | undefined }[] = [];

/** An application with a login and one call behind it. */
beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'guardia-smoke-'));
  writeFileSync(path.join(directory, 'password'), PASSWORD, { mode: 0o600 });
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      seen.push({ url: request.url ?? '', body, type: request.headers['content-type'] });
      const answer = (status: number, value: unknown) =>
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
      if (request.url === '/login') {
        const { user, password } = JSON.parse(body) as Record<string, string>;
        return password === PASSWORD ? answer(200, { session: { token: TOKEN }, user }) : answer(401, {});
      }
      if (request.headers.authorization !== `Bearer ${TOKEN}`) return answer(401, {});
      if (request.url === '/text') return response.writeHead(200).end('hello');
      return answer(201, { total: 3, open: true });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

const login = (more = {}) => ({
  title: 'a user logs in',
  method: 'POST',
  url: `${base}/login`,
  json: { user: 'me', password: { secret: 'file:password' } },
  expect: { user: 'me' },
  keep: { token: 'session.token' },
  ...more,
});
const order = (more = {}) => ({
  title: 'an order is written',
  method: 'POST',
  url: `${base}/orders`,
  headers: { authorization: 'Bearer {token}' },
  json: { note: 'by {token}', count: 2 },
  status: 201,
  expect: { total: 3, open: true },
  ...more,
});

async function run(...calls: object[]): Promise<unknown> {
  seen = [];
  const secrets = createSecrets({ directory, environment: {} });
  const hosts = createHosts({
    ssh: createSshPool({ readIdentity: () => Promise.reject(new Error('no SSH here')) }),
    workerStateDirectory: directory,
    scrub: (text) => secrets.scrubber.scrub(text),
  });
  const activities = createSmokeActivities({ hosts, secrets });
  return new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR') }).run(
    (input: CallInput) => activities.runSmokeTest(input),
    {
      with: { calls },
      context: {
        system: 'test',
        runbook: 'test',
        workflowId: 'w',
        runId: 'r',
        step: 'smoke',
        generation: 1,
        runAgainIfLost: false,
        target: {
          name: 'here',
          site: 'main',
          become: 'none' as const,
          stateDirectory: directory,
          connection: 'local' as const,
        },
      },
    },
  );
}

describe('a smoke test', () => {
  test('logs in, keeps the token, and uses it; a secret is sent as it is', async () => {
    expect(await run(login(), order())).toEqual({ summary: '2 calls answered well' });
    expect(seen).toEqual([
      { url: '/login', body: JSON.stringify({ user: 'me', password: PASSWORD }), type: 'application/json' },
      { url: '/orders', body: JSON.stringify({ note: `by ${TOKEN}`, count: 2 }), type: 'application/json' },
    ]);
  });

  test.each<[string, () => object[], string]>([
    [
      'a wrong status',
      () => [login(), order({ status: 200 })],
      '"an order is written" did not work: it was answered with status 201, not 200',
    ],
    ['another value', () => [login(), order({ expect: { total: 4 } })], 'total of the answer is another value, not 4'],
    ['a value that is missing', () => [login({ expect: { 'a.b': 'x' } })], 'a.b of the answer is missing, not "x"'],
    ['nothing to keep', () => [login({ keep: { token: 'token' } })], 'token is missing in the answer'],
    ['no JSON', () => [login(), order({ url: `${base}/text`, status: 200 })], 'the answer is not JSON'],
    ['nobody there', () => [login({ url: 'http://127.0.0.1:1/' })], 'Failed to connect to 127.0.0.1'],
  ])('%s ends it, and names the call', async (_, calls, sentence) => {
    const failed = await run(...calls()).catch((error: unknown) => error);
    expect(failed).toMatchObject({ type: 'VerificationFailed', nonRetryable: true });
    expect((failed as Error).message).toContain(sentence);
    expect(JSON.stringify([failed, (failed as Error).message])).not.toMatch(/se.*cr.*et|to\.ke-n/);
  });
});

test('a request for curl is a file in which nothing is taken for an option', () => {
  const text = curlConfiguration({
    method: 'POST',
    url: 'http://h/',
    headers: { a: 'b"\noutput = "/x' },
    body: '\\"\t',
  });
  expect(text).toBe(
    'request = "POST"\nurl = "http://h/"\nheader = "a: b\\"\\noutput = \\"/x"\ndata-raw = "\\\\\\"\\t"\n',
  );
  expect(SmokeCall.safeParse({ title: 't', url: 'http://h/"x' }).success).toBe(false);
});
