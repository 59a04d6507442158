import { afterAll, beforeAll, beforeEach, expect, jest, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import { createBalancerActivities } from '../../../activities/balancer/balancer-activities.js';
import type { ServerStates } from '../../../workflows/contracts/balancer.js';
import { startLabActivities, type LabActivities } from '../lab-activities.js';

jest.setTimeout(180_000);

/** HAProxy before two servers of nginx that answer slowly when they are asked to: /slow takes about three seconds. */
const SET_UP = `set -e
  apt-get -qq update >/dev/null; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y haproxy >/dev/null 2>&1
  rm -f /etc/nginx/sites-enabled/*
  for i in 1 2; do
    mkdir -p /srv/web$i; head -c 300000 /dev/zero >/srv/web$i/slow; echo app$i >/srv/web$i/name; echo ok >/srv/web$i/health
    echo "server { listen 127.0.0.1:810$i; root /srv/web$i; location = /slow { limit_rate 100k; } }" >/etc/nginx/conf.d/web$i.conf
    echo "server { listen 127.0.0.1:820$i; root /srv/web$i; }" >>/etc/nginx/conf.d/web$i.conf
  done
  systemctl start nginx
  cat >/etc/haproxy/haproxy.cfg <<'END'
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
    maxconn 500
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    default-server inter 200ms fall 2 rise 2
frontend front
    bind 127.0.0.1:8000
    default_backend api_backend
backend api_backend
    balance roundrobin
    option httpchk GET /health
    server app1 127.0.0.1:8101 check
    server app2 127.0.0.1:8102 check
backend platform_backend
    option httpchk GET /health
    server app1 127.0.0.1:8201 check
    server app2 127.0.0.1:8202 check
backend other_backend
    server app1 127.0.0.1:9
END
  systemctl restart haproxy`;

const socket = '/run/haproxy/admin.sock';
const of = (host: string, state: string, waitSeconds = 20) => ({
  socket,
  servers: [`api_backend/${host}`, `platform_backend/${host}`],
  state,
  waitSeconds,
});

let here: LabActivities;
let balancer: ReturnType<LabActivities['calls']>;
let number = 0;
const step = () => ({ step: `step-${(number += 1)}` });
const states = async (): Promise<Record<string, string>> => {
  const { servers } = (await balancer('observeBalancer', {
    socket,
    backends: ['api_backend', 'platform_backend'],
  })) as {
    servers: ServerStates;
  };
  return Object.fromEntries(Object.entries(servers).map(([name, { admin }]) => [name, admin]));
};
const calm = {
  'api_backend/app1': 'ready',
  'api_backend/app2': 'ready',
  'platform_backend/app1': 'ready',
  'platform_backend/app2': 'ready',
};
/** Two slow requests, one at each server, that are in flight when this returns. `ended` is what they say. */
const twoInFlight = async (): Promise<{ ended: Promise<string> }> => {
  const ended = here.shell(
    'for i in 1 2; do curl -sf -o /dev/null -w "%{http_code} %{size_download}\\n" http://127.0.0.1:8000/slow & done; wait',
  );
  for (const deadline = Date.now() + 20_000; ; await delay(50)) {
    const { servers } = (await balancer('observeBalancer', { socket, backends: ['api_backend'] })) as {
      servers: ServerStates;
    };
    if (Object.values(servers).every(({ sessions }) => sessions > 0)) return { ended };
    if (Date.now() > deadline) throw new Error(`two requests were never in flight: ${JSON.stringify(servers)}`);
  }
};
/** Who answers, of so many requests. */
const answers = async (count = 10): Promise<string[]> =>
  (await here.shell(`for i in $(seq ${count}); do curl -sf http://127.0.0.1:8000/name || echo failed; done`))
    .trim()
    .split('\n');

beforeAll(async () => {
  here = await startLabActivities();
  balancer = here.calls(createBalancerActivities(here));
  await here.shell(SET_UP);
}, 600_000);
afterAll(() => here?.down());
beforeEach(async () => {
  for (const host of ['app1', 'app2']) await balancer('setServers', of(host, 'ready'), step());
});

test('tells every server of the backends that are asked for, and no other', async () => {
  expect(await states()).toEqual(calm);
  expect(await balancer('observeBalancer', { socket, backends: ['api_backend'] })).toMatchObject({
    servers: { 'api_backend/app1': { admin: 'ready', sessions: 0, queued: 0, check: 'UP' } },
  });
});

test('a drained server gets no new request, and the step waits for those in flight', async () => {
  const slow = await twoInFlight();
  const began = Date.now();
  const draining = step();
  const done = balancer('setServers', of('app1', 'drain'), draining);
  while ((await states())['api_backend/app1'] !== 'drain') await delay(20);
  expect(new Set(await answers())).toEqual(new Set(['app2']));
  expect(await done).toMatchObject({
    summary: expect.stringContaining('api_backend/app1, platform_backend/app1: drain'),
  });
  expect(Date.now() - began).toBeGreaterThan(1000);
  expect(await slow.ended).toBe('200 300000\n200 300000\n');
  expect(await states()).toEqual({ ...calm, 'api_backend/app1': 'drain', 'platform_backend/app1': 'drain' });
  await balancer('setServers', of('app1', 'drain'), draining); // a second attempt of the same step
  for (const _ of [1, 2]) await balancer('restoreServers', of('app1', 'drain'), draining);
  expect(await states()).toEqual(calm);
  expect(new Set(await answers())).toEqual(new Set(['app1', 'app2']));
});

test('requests that do not end in time fail the step, and the undo gives the server requests again', async () => {
  const slow = await twoInFlight();
  const draining = step();
  await expect(balancer('setServers', of('app1', 'drain', 1), draining)).rejects.toMatchObject({
    type: 'VerificationFailed',
    message: expect.stringContaining('not drain after 1 s: api_backend/app1 is drain with 1 requests in flight'),
  });
  await balancer('restoreServers', of('app1', 'drain', 1), draining);
  expect(await states()).toEqual(calm);
  await slow.ended;
});

test('of two that leave at the same moment one is refused', async () => {
  const ends = await Promise.allSettled(
    ['app1', 'app2'].map((host) => balancer('setServers', of(host, 'drain'), step())),
  );
  expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(ends.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { type: 'NoServerLeft' } });
  expect(new Set(await answers()).size).toBe(1);
});

test('an undo that drains again goes on past requests that do not end, and tells', async () => {
  const out = step();
  await balancer('setServers', of('app1', 'drain'), step());
  await balancer('setServers', of('app1', 'ready'), out);
  const slow = await twoInFlight();
  expect(await balancer('restoreServers', of('app1', 'ready', 1), out)).toMatchObject({
    summary: expect.stringContaining('1 requests in flight'),
  });
  expect((await states())['api_backend/app1']).toBe('drain');
  await slow.ended;
});

test('the last server is never taken out, be the others out or ill', async () => {
  const first = step();
  await balancer('setServers', of('app1', 'drain'), first);
  await expect(balancer('setServers', of('app2', 'drain'), step())).rejects.toMatchObject({
    type: 'NoServerLeft',
    message: expect.stringContaining(
      'without api_backend/app2 nobody is left in api_backend: app1 is drain,'.replace('app1', 'api_backend/app1'),
    ),
  });
  await balancer('restoreServers', of('app1', 'drain'), first);
  await here.shell('mv /etc/nginx/conf.d/web1.conf /root/; nginx -s reload; sleep 1');
  await expect(balancer('setServers', of('app2', 'maint'), step())).rejects.toThrow(
    /nobody is left in api_backend: api_backend\/app1 is ready, DOWN/,
  );
  await here.shell('mv /root/web1.conf /etc/nginx/conf.d/; nginx -s reload');
});

test('an undo does not take the last server out either', async () => {
  const back = step();
  await balancer('setServers', of('app1', 'drain'), step());
  await balancer('setServers', of('app1', 'ready'), back);
  await balancer('setServers', of('app2', 'drain'), step());
  await expect(balancer('restoreServers', of('app1', 'ready'), back)).rejects.toMatchObject({ type: 'NoServerLeft' });
  expect((await states())['api_backend/app1']).toBe('ready');
  expect(new Set(await answers())).toEqual(new Set(['app1']));
});

test('a server that answers nobody may always be taken out, and its undo does not wait for it', async () => {
  await here.shell('mv /etc/nginx/conf.d/web*.conf /root/; nginx -s reload; sleep 1');
  const out = step();
  await balancer('setServers', of('app1', 'drain'), out);
  expect((await states())['api_backend/app1']).toBe('drain');
  const began = Date.now();
  await balancer('restoreServers', of('app1', 'drain'), out);
  expect(Date.now() - began).toBeLessThan(10_000);
  expect(await states()).toEqual(calm);
  await here.shell('mv /root/web*.conf /etc/nginx/conf.d/; nginx -s reload');
});

test('one that does not come up on the way back is out again: what it has by the time it does, nobody has looked at', async () => {
  const out = step();
  await balancer('setServers', of('app1', 'drain'), out);
  await here.shell('mv /etc/nginx/conf.d/web1.conf /root/; nginx -s reload; sleep 1');
  await expect(balancer('restoreServers', of('app1', 'drain', 1), out)).rejects.toMatchObject({
    type: 'VerificationFailed',
    message: expect.stringMatching(/not ready after 1 s: api_backend\/app1 is ready, DOWN/),
  });
  expect((await states())['api_backend/app1']).toBe('drain');
  await here.shell('mv /root/web1.conf /etc/nginx/conf.d/; nginx -s reload; sleep 1');
  expect(new Set(await answers())).toEqual(new Set(['app2']));
  await balancer('restoreServers', of('app1', 'drain'), out);
  expect(await states()).toEqual(calm);
});

test('ready waits for the health check of the balancer, and its undo takes the server out again', async () => {
  await balancer('setServers', of('app1', 'drain'), step());
  await here.shell('rm /srv/web1/health; sleep 1');
  await expect(balancer('setServers', of('app1', 'ready', 1), step())).rejects.toThrow(
    /not ready after 1 s: api_backend\/app1 is ready, DOWN/,
  );
  await balancer('setServers', of('app1', 'maint'), step());
  const ready = step();
  const done = balancer('setServers', of('app1', 'ready'), ready);
  await delay(1000);
  await here.shell('echo ok >/srv/web1/health');
  expect(await done).toMatchObject({ summary: expect.stringMatching(/ready, UP/) });
  await balancer('restoreServers', of('app1', 'ready'), ready);
  expect((await states())['api_backend/app1']).toBe('maint');
});

test('an unknown server and a socket that is not there are named', async () => {
  await expect(
    balancer('setServers', { ...of('app1', 'drain'), servers: ['api_backend/app9'] }, step()),
  ).rejects.toThrow('HAProxy has no server api_backend/app9');
  await expect(balancer('observeBalancer', { socket: '/run/none.sock', backends: [] })).rejects.toThrow(
    'there is no admin socket /run/none.sock',
  );
});
