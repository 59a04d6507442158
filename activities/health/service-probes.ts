import type { Duplex } from 'node:stream';
import type { ProbeOf } from '../../workflows/contracts/probe.js';
import { ask, shakeHands, valueAt, type Answer, type Dial } from './asking.js';
import { failed, ok, unknown, worst, type Verdict } from './verdict.js';

/** The probes that speak to one particular server: OpenBao, Redis, RabbitMQ, Uptime Kuma. */

/** `sys/seal-status` needs no token and answers whatever the state is. */
export async function probeOpenbao(
  probe: ProbeOf<'openbao'>,
  ca: string | undefined,
  dial: Dial,
  signal: AbortSignal,
): Promise<Verdict> {
  const answer = await ask({ url: below(probe.url, '/v1/sys/seal-status'), ca }, dial, signal);
  const status = jsonOf(answer);
  if (answer.status !== 200 || typeof valueAt(status, 'sealed') !== 'boolean')
    return failed(`status ${answer.status} without a seal status`, 'a seal status');
  const [initialised, sealed] = [valueAt(status, 'initialized') === true, valueAt(status, 'sealed') === true];
  const told = valueAt(status, 'version');
  const version = typeof told === 'string' ? told : 'unknown';
  return worst([
    (initialised === probe.initialised ? ok : failed)(
      initialised ? 'initialised' : 'not initialised',
      probe.initialised ? 'initialised' : 'not initialised',
    ),
    sealed === probe.sealed
      ? ok(sealed ? 'sealed' : 'unsealed', probe.sealed ? 'sealed' : 'unsealed')
      : failed(
          sealed ? 'sealed' : 'unsealed',
          probe.sealed ? 'sealed' : 'unsealed',
          sealed ? 'Unseal it with the shares of its holders' : undefined,
        ),
    probe.version === undefined || probe.version === version
      ? ok(`version ${version}`, 'any version')
      : failed(`version ${version}`, `version ${probe.version}`),
  ]);
}

/** PING, first without and then with the password: one that answers without it is open to everybody who reaches it. */
export async function probeRedis(
  probe: ProbeOf<'redis'> & { address: string },
  secret: { password: string | undefined; ca: string | undefined },
  dial: Dial,
  signal: AbortSignal,
): Promise<Verdict> {
  const raw = await dial(probe.address, probe.port, signal);
  try {
    const socket: Duplex = probe.tls
      ? await shakeHands(raw, { serverName: probe.serverName ?? probe.address, ca: secret.ca }, signal)
      : raw;
    const say = conversation(socket, signal);
    const before = await say(['PING']);
    if (secret.password === undefined)
      return before === '+PONG'
        ? ok('PONG', 'PONG')
        : failed(before, 'PONG', before.startsWith('-NOAUTH') ? 'It asks for a password: give `password`' : undefined);
    if (before === '+PONG')
      return failed('it answers without a password', 'a password is asked for', 'Set requirepass, and restart it');
    if (!before.startsWith('-NOAUTH')) return failed(before, '-NOAUTH before the password');
    const login = await say(['AUTH', secret.password]);
    if (login !== '+OK') return failed(login.startsWith('-WRONGPASS') ? 'the password is refused' : login, 'a login');
    const after = await say(['PING']);
    return (after === '+PONG' ? ok : failed)(after.replace(/^\+/, ''), 'PONG after the login');
  } finally {
    raw.destroy();
  }
}

/** Commands and one-line replies of the Redis protocol. */
function conversation(socket: Duplex, signal: AbortSignal): (words: readonly string[]) => Promise<string> {
  let heard = '';
  return (words) =>
    new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        socket.off('data', listen).off('error', fail).off('close', closed);
        signal.removeEventListener('abort', stop);
        act();
      };
      const listen = (chunk: Buffer): void => {
        heard += chunk.toString('latin1');
        const end = heard.indexOf('\r\n');
        if (end < 0) return;
        const line = heard.slice(0, end);
        heard = heard.slice(end + 2);
        settle(() => resolve(line.slice(0, 200)));
      };
      const fail = (error: Error): void => settle(() => reject(error));
      const closed = (): void =>
        fail(Object.assign(new Error('the connection was closed before the answer'), { code: 'ECONNRESET' }));
      const stop = (): void => fail(signal.reason as Error);
      socket.on('data', listen).on('error', fail).on('close', closed);
      signal.addEventListener('abort', stop, { once: true });
      socket.write(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`);
    });
}

/** `health/checks/alarms`: 200 without alarms, 503 with the reason. */
export async function probeRabbitmq(
  probe: ProbeOf<'rabbitmq'> & { url: string },
  secret: { password: string; ca: string | undefined },
  dial: Dial,
  signal: AbortSignal,
): Promise<Verdict> {
  const authorization = `Basic ${Buffer.from(`${probe.user}:${secret.password}`).toString('base64')}`;
  const answer = await ask(
    { url: below(probe.url, '/api/health/checks/alarms'), ca: secret.ca, headers: { authorization } },
    dial,
    signal,
  );
  const expected = 'no alarms';
  if (answer.status === 200) return ok('no alarms', expected);
  if (answer.status === 401) return failed(`the login of ${probe.user} is refused`, expected);
  const reason = valueAt(jsonOf(answer), 'reason');
  return failed(typeof reason === 'string' ? reason : `status ${answer.status}`, expected);
}

/** Each monitor of a status page has a last heartbeat: 0 down, 1 up, 2 pending, 3 in maintenance. */
export async function probeUptimeKuma(
  probe: ProbeOf<'uptime-kuma'>,
  ca: string | undefined,
  dial: Dial,
  signal: AbortSignal,
): Promise<Verdict> {
  if (probe.statusPage === undefined) {
    const { status } = await ask({ url: below(probe.url, '/'), ca }, dial, signal);
    return (status < 400 ? ok : failed)(`status ${status}`, 'an answer');
  }
  const get = (path: string): Promise<Answer> => ask({ url: below(probe.url, path), ca }, dial, signal);
  const [page, beats] = await Promise.all([
    get(`/api/status-page/${probe.statusPage}`),
    get(`/api/status-page/heartbeat/${probe.statusPage}`),
  ]);
  const expected = 'all monitors up';
  const lists = valueAt(jsonOf(beats), 'heartbeatList');
  if (typeof lists !== 'object' || lists === null)
    return failed(`no status page ${probe.statusPage} (status ${beats.status})`, expected);
  const names = new Map<string, string>();
  const groups = valueAt(jsonOf(page), 'publicGroupList');
  for (const group of Array.isArray(groups) ? (groups as unknown[]) : []) {
    const monitors = valueAt(group, 'monitorList');
    for (const monitor of Array.isArray(monitors) ? (monitors as unknown[]) : [])
      names.set(String(valueAt(monitor, 'id')), String(valueAt(monitor, 'name')));
  }
  const all = Object.entries(lists as Record<string, unknown>).map(([id, list]) => ({
    name: names.get(id) ?? `monitor ${id}`,
    status: Array.isArray(list) ? valueAt((list as unknown[]).at(-1), 'status') : undefined,
  }));
  if (all.length === 0) return unknown(`status page ${probe.statusPage} has no monitors`, expected);
  const down = all.filter(({ status }) => status === 0 || status === undefined);
  return down.length === 0
    ? ok(`${all.length} monitors up`, expected)
    : failed(`down: ${down.map(({ name }) => name).join(', ')}`, expected);
}

const below = (base: string, path: string): string => `${base.replace(/\/+$/, '')}${path}`;

function jsonOf(answer: Answer): unknown {
  try {
    return JSON.parse(answer.body) as unknown;
  } catch {
    return undefined;
  }
}
