import { Client, type ClientChannel, type ConnectConfig } from 'ssh2';
import type { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import type { HostTarget, SshTarget } from '../../workflows/contracts/host-target.js';
import type { SecretReference } from '../../workflows/contracts/secret-reference.js';
import { failure } from '../../workflows/contracts/errors.js';
import type { ExecuteOptions, Exit, Transport } from './transport.js';

/** sshd's default MaxSessions is 10 (sshd_config(5)); two are left for others. */
const SESSIONS_PER_CONNECTION = 8;
/** A connection without a command is closed after this time. Milliseconds. */
const IDLE_CLOSE_MS = 30_000;
const CONNECT_TIMEOUT_MS = 15_000;
/** A dead link is noticed after about three of these. Milliseconds. */
const KEEPALIVE_MS = 5_000;

interface Connection {
  client: Client;
  sessions: number;
  limit: number;
  /** TCP connections that go through it: sshd does not count them as sessions. */
  forwarded: number;
  closed: boolean;
  idle?: NodeJS.Timeout | undefined;
}

export interface SshPoolOptions {
  /** Reads a private key: the reference from the inventory, resolved on the worker. */
  readIdentity: (reference: SecretReference) => Promise<string>;
}

/** A host that is reached over SSH. */
export type SshHost = Omit<HostTarget, 'connection'> & { connection: SshTarget };

/** SSH connections of one worker, shared by its activities and opened as needed. */
export interface SshPool {
  transport(target: SshHost): Transport;
  /**
   * A TCP connection that the host itself opens. Rejects with an error that has the `code` of a socket's (ECONNREFUSED, ETIMEDOUT, ...) where
   * the other end is in the way, and with a failure of the host where it opens none.
   */
  connect(target: SshHost, address: string, port: number, signal: AbortSignal): Promise<Duplex>;
  /** Ends every connection; commands still running fail with `HostUnreachable`. */
  close(): void;
}

export function createSshPool({ readIdentity }: SshPoolOptions): SshPool {
  const connections = new Map<string, Connection[]>();
  const opening = new Map<string, Promise<unknown>>();

  const list = (key: string): Connection[] => {
    let found = connections.get(key);
    if (!found) connections.set(key, (found = []));
    return found;
  };

  const drop = (key: string, connection: Connection): void => {
    connection.closed = true;
    clearTimeout(connection.idle);
    const rest = list(key);
    const at = rest.indexOf(connection);
    if (at >= 0) rest.splice(at, 1);
    if (rest.length === 0) connections.delete(key);
  };

  async function connect(target: SshHost): Promise<Connection> {
    const { jump, ...last } = target.connection;
    const outer = jump ? await open(target.name, jump, await readIdentity(jump.identity)) : undefined;
    try {
      const through = outer ? await forward(outer, last.address, last.port, target.name) : undefined;
      const client = await open(target.name, last, await readIdentity(last.identity), through);
      if (outer) {
        client.once('close', () => outer.end());
        outer.once('close', () => client.destroy());
      }
      return { client, sessions: 0, limit: SESSIONS_PER_CONNECTION, forwarded: 0, closed: false };
    } catch (error) {
      outer?.end();
      throw error;
    }
  }

  /** A connection with room for one more. Throws the reason of the signal when it comes first. */
  async function acquire(
    key: string,
    target: SshHost,
    use: 'sessions' | 'forwarded',
    signal: AbortSignal | undefined,
  ): Promise<Connection> {
    signal?.throwIfAborted();
    const taken = take(key, target, use);
    if (!signal) return taken;
    let stop: () => void = () => undefined;
    const aborted = new Promise<never>((_, reject) => {
      stop = () => reject(signal.reason as Error);
      signal.addEventListener('abort', stop, { once: true });
    });
    try {
      return await Promise.race([taken, aborted]);
    } catch (error) {
      taken.then((connection) => release(key, connection, use)).catch(() => undefined);
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** One handshake at a time for each host: sshd drops a crowd (MaxStartups). */
  async function take(key: string, target: SshHost, use: 'sessions' | 'forwarded'): Promise<Connection> {
    for (;;) {
      const free = list(key).find(
        ({ closed, sessions, limit }) => !closed && (use === 'forwarded' || sessions < limit),
      );
      if (free) {
        clearTimeout(free.idle);
        free[use] += 1;
        return free;
      }
      const pending = opening.get(key);
      if (pending) {
        await pending.catch(() => undefined);
        continue;
      }
      const attempt = connect(target);
      opening.set(key, attempt);
      try {
        const connection = await attempt;
        list(key).push(connection);
        // At 'end' already: between it and 'close', while sshd restarts, it takes no command any more.
        for (const event of ['end', 'close', 'error'] as const)
          (connection.client as EventEmitter).on(event, () => drop(key, connection));
        connection[use] += 1;
        return connection;
      } finally {
        opening.delete(key);
      }
    }
  }

  function release(key: string, connection: Connection, use: 'sessions' | 'forwarded'): void {
    connection[use] -= 1;
    if (connection.sessions > 0 || connection.forwarded > 0 || connection.closed) return;
    connection.idle = setTimeout(() => {
      drop(key, connection);
      connection.client.end();
    }, IDLE_CLOSE_MS);
    connection.idle.unref();
  }

  const keyOf = ({ connection }: SshHost): string => {
    const { address, port, user, jump, hostKeys, identity } = connection;
    return JSON.stringify([address, port, user, jump?.address, hostKeys, identity]);
  };

  return {
    transport(target) {
      const key = keyOf(target);
      return {
        async execute(commandLine, options) {
          if (options.newConnection) {
            const connection = await connect(target);
            try {
              const started = await session(connection, target.name, commandLine, (channel) =>
                pump(channel, connection.client, target.name, options),
              );
              if (!started && connection.closed)
                throw failure('HostUnreachable', `the connection to ${target.name} was lost`, { host: target.name });
              if (!started)
                throw failure('HostUnusable', `sshd on ${target.name} opens no session`, { host: target.name });
              return await started.exit;
            } finally {
              connection.client.end();
            }
          }
          for (;;) {
            options.signal?.throwIfAborted();
            const connection = await acquire(key, target, 'sessions', options.signal);
            try {
              const started = await session(connection, target.name, commandLine, (channel) =>
                pump(channel, connection.client, target.name, options),
              );
              if (started) return await started.exit;
            } finally {
              release(key, connection, 'sessions');
            }
            // This host allows fewer sessions on one connection than the default: learn it, and open another connection.
            if (connection.sessions === 0 && !connection.closed)
              throw failure('HostUnusable', `sshd on ${target.name} opens no session`, { host: target.name });
            connection.limit = Math.max(1, connection.sessions);
          }
        },
      };
    },
    async connect(target, address, port, signal) {
      const key = keyOf(target);
      const connection = await acquire(key, target, 'forwarded', signal);
      const done = (): void => release(key, connection, 'forwarded');
      try {
        signal.throwIfAborted();
        const channel = await forwardFrom(connection.client, address, port, target.name, signal);
        channel.on('error', () => undefined);
        channel.once('close', done);
        return channel;
      } catch (error) {
        done();
        throw error;
      }
    },
    close() {
      for (const all of connections.values()) for (const connection of [...all]) connection.client.destroy();
      connections.clear();
    },
  };
}

function open(host: string, ssh: Omit<SshTarget, 'jump'>, privateKey: string, sock?: Duplex): Promise<Client> {
  const pinned = ssh.hostKeys.map((line) => line.split(' ') as [string, string]);
  const where = `${host} (${ssh.user}@${ssh.address}:${ssh.port})`;
  let refused: string | undefined;
  const config: ConnectConfig = {
    host: ssh.address,
    port: ssh.port,
    username: ssh.user,
    privateKey,
    readyTimeout: CONNECT_TIMEOUT_MS,
    keepaliveInterval: KEEPALIVE_MS,
    keepaliveCountMax: 3,
    algorithms: {
      serverHostKey: [
        ...new Set(pinned.flatMap(([type]) => (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]))),
      ] as never,
    },
    hostVerifier: (key: Buffer) => {
      const shown = key.toString('base64');
      if (pinned.some(([, data]) => data === shown)) return true;
      refused = shown;
      return false;
    },
    ...(sock ? { sock } : {}),
  };
  return new Promise((resolve, reject) => {
    const client = new Client();
    // Each session on it waits for its end, too.
    client.setMaxListeners(0);
    // For as long as it lives, whoever uses it: an 'error' that nobody listens to ends the worker. What it means, 'close' tells after it.
    client.on('error', () => undefined);
    client.once('ready', () => {
      client.removeListener('error', fail);
      resolve(client);
    });
    client.once('error', fail);
    client.once('close', () => fail(new Error('the connection was closed')));
    function fail(error: Error & { level?: string }): void {
      client.destroy();
      if (refused !== undefined || /no matching host key/i.test(error.message))
        reject(
          failure('HostKeyRefused', `${where} showed a host key that is not in the inventory`, {
            host,
            remedy:
              'If the host was set up anew, check its key on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and change hostKeys in the inventory; otherwise somebody may be in between',
          }),
        );
      else if (error.level === 'client-authentication')
        reject(
          failure('HostLoginRefused', `${where} refused the login with the key ${ssh.identity}`, {
            host,
            remedy: `Add its public key to ~${ssh.user}/.ssh/authorized_keys on the host`,
          }),
        );
      else
        reject(
          failure('HostUnreachable', `${where} does not answer: ${error.message}`, {
            host,
            remedy: `Check that it is up and may be reached${sock ? ' from its jump host' : ''}: nc -vz ${ssh.address} ${ssh.port}`,
          }),
        );
    }
    try {
      client.connect(config);
    } catch (error) {
      reject(
        failure(
          'SecretUnavailable',
          `the private key ${ssh.identity} for ${where} cannot be used: ${(error as Error).message}`,
          { host },
        ),
      );
    }
  });
}

function forward(client: Client, address: string, port: number, host: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const refuse = (error: Error): void =>
      reject(
        failure(
          'HostUnreachable',
          `${host} (${address}:${port}) does not answer through the jump host: ${error.message}`,
          { host },
        ),
      );
    client.once('close', () => refuse(new Error('the connection to it was lost')));
    // A silent address takes the sshd of the jump host two minutes.
    const timer = setTimeout(() => refuse(new Error('no answer in time')), CONNECT_TIMEOUT_MS);
    try {
      client.forwardOut('127.0.0.1', 0, address, port, (error, channel) => {
        clearTimeout(timer);
        if (error) refuse(error);
        else resolve(channel);
      });
    } catch (error) {
      refuse(error as Error); // the connection ended a moment ago
    }
  });
}

/** As a socket's errors are called, by what sshd says. */
const connectCodes = [
  [/refused/i, 'ECONNREFUSED'],
  [/timed out/i, 'ETIMEDOUT'],
  [/no route|unreachable/i, 'EHOSTUNREACH'],
  [/name or service|resolve|nodename/i, 'ENOTFOUND'],
] as const;
/** Reason of a refused channel: forwarding is switched off (RFC 4254, 5.1). */
const ADMINISTRATIVELY_PROHIBITED = 1;

function forwardFrom(
  client: Client,
  address: string,
  port: number,
  host: string,
  signal: AbortSignal,
): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    let given = false;
    const give = (act: () => void): void => {
      signal.removeEventListener('abort', stop);
      client.removeListener('close', lost);
      given = true;
      act();
    };
    const stop = (): void => give(() => reject(signal.reason as Error));
    const lost = (): void =>
      give(() => reject(failure('HostUnreachable', `the connection to ${host} was lost`, { host })));
    signal.addEventListener('abort', stop, { once: true });
    client.once('close', lost);
    try {
      client.forwardOut('127.0.0.1', 0, address, port, (error, channel) => {
        // Nobody waits for it any more: a silent address takes sshd two minutes.
        if (given) return void channel?.destroy();
        if (!error) return give(() => resolve(channel));
        const { reason } = error as { reason?: number };
        if (reason === ADMINISTRATIVELY_PROHIBITED)
          return give(() =>
            reject(
              failure('HostUnusable', `sshd on ${host} opens no connections for others`, {
                host,
                remedy:
                  'Allow it for the login: AllowTcpForwarding local in sshd_config, and `PermitOpen` where it is set',
              }),
            ),
          );
        const code = connectCodes.find(([words]) => words.test(error.message))?.[1] ?? 'ECONNREFUSED';
        give(() => reject(Object.assign(new Error(`${address}:${port}: ${error.message}`), { code })));
      });
    } catch {
      lost(); // the connection ended a moment ago
    }
  });
}

/**
 * Opens a session for one command; undefined when the server refuses one more session on this connection, or the connection is over. Throws
 * `HostUnreachable` where it was lost on the way: the command may have begun, and is not sent once more here. `listen` is called
 * at once: the exit of a fast command can lie in the same packet as the answer, and nobody repeats it.
 */
function session(
  connection: Connection,
  host: string,
  commandLine: string,
  listen: (channel: ClientChannel) => Promise<Exit>,
): Promise<{ exit: Promise<Exit> } | undefined> {
  return new Promise((resolve, reject) => {
    const lost = (): void => {
      connection.closed = true;
      reject(failure('HostUnreachable', `the connection to ${host} was lost`, { host }));
    };
    connection.client.once('close', lost);
    try {
      connection.client.exec(commandLine, (error, channel) => {
        connection.client.removeListener('close', lost);
        if (!error) {
          const exit = listen(channel);
          exit.catch(() => undefined); // it is awaited a moment later
          resolve({ exit });
        } else if (/open failure|Channel open|Unable to exec/i.test(error.message)) resolve(undefined);
        else reject(error);
      });
    } catch {
      // The connection ended a moment ago: nothing was sent.
      connection.client.removeListener('close', lost);
      connection.closed = true;
      resolve(undefined);
    }
  });
}

function pump(channel: ClientChannel, client: Client, host: string, options: ExecuteOptions): Promise<Exit> {
  return new Promise((resolve, reject) => {
    let exit: Exit | undefined;
    const stop = (): void => {
      channel.close();
      settle(() => reject(options.signal?.reason as Error));
    };
    const lost = (): void =>
      settle(() => reject(failure('HostUnreachable', `the connection to ${host} was lost`, { host })));
    let settled = false;
    function settle(act: () => void): void {
      if (settled) return;
      settled = true;
      options.signal?.removeEventListener('abort', stop);
      client.removeListener('close', lost);
      act();
    }
    if (options.signal?.aborted) return stop();
    options.signal?.addEventListener('abort', stop, { once: true });
    client.once('close', lost);
    channel.on('data', (chunk: Buffer) => options.onStdout?.(chunk));
    channel.stderr.on('data', (chunk: Buffer) => options.onStderr?.(chunk));
    channel.on('exit', (code: number | null, signal?: string) => {
      exit = { code, signal: signal ?? null };
    });
    channel.on('close', () => {
      const ended = exit;
      if (ended) settle(() => resolve(ended));
      else lost();
    });
    channel.on('error', () => undefined);
    channel.end(options.stdin ? Buffer.from(options.stdin) : undefined);
  });
}
