import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'ssh2';
import { createHosts, type Hosts } from '../../../activities/hosts/hosts.js';
import { createSshPool, type SshHost, type SshPool } from '../../../activities/hosts/ssh-pool.js';
import { startLab, type Lab } from '../../../infra/lab/lab.js';
import { followerProcess, newId, promisesOfRunAndJob, script, type HostUnderTest } from './job-behaviour.js';

jest.setTimeout(300_000);

describe('a host over SSH, with systemd', () => {
  let lab: Lab;
  let pool: SshPool;
  let hosts: Hosts;
  let target: SshHost;
  const shell = async (line: string): Promise<string> => (await lab.exec('app', ['/bin/sh', '-c', line])).stdout;
  const under = (): HostUnderTest => ({
    hosts,
    target,
    shell,
    follower: { GUARDIA_TEST_TARGET: JSON.stringify(target) },
  });

  beforeAll(async () => {
    lab = await startLab({ hosts: [{ name: 'app' }, { name: 'bastion' }], systems: [], owner: true });
    pool = createSshPool({
      readIdentity: (reference) => Promise.resolve(readFileSync(reference.replace('file:', ''), 'utf8')),
    });
    hosts = createHosts({ ssh: pool, workerStateDirectory: '/nonexistent', scrub: (text) => text });
    target = targetOf('app');
  });
  afterAll(async () => {
    pool?.close();
    await lab?.down();
  });

  function targetOf(name: string): SshHost {
    const host = lab.hosts[name];
    if (!host) throw new Error(`no host ${name}`);
    return {
      name,
      site: 'main',
      become: 'sudo',
      stateDirectory: '/var/lib/guardia',
      connection: {
        address: host.address,
        port: host.port,
        user: host.user,
        identity: `file:${host.identityFile}`,
        hostKeys: host.hostKeys,
      },
    };
  }

  promisesOfRunAndJob(under);

  const once = (id: string, seconds: number): { id: string; script: string; timeoutSeconds: number } => ({
    id,
    script: `echo once >> /tmp/${id}; echo 'guardia:progress {"bytes":1}' >&2; sleep ${seconds}; echo "ran $(wc -l </tmp/${id})"`,
    timeoutSeconds: 600,
  });

  test('the link is cut for 60 s: the job goes on, the follower comes back, the command ran once', async () => {
    const follower = followerProcess(under().follower, once(newId(), 20));
    await follower.until('"bytes":1');
    await lab.cut('app');
    await delay(60_000);
    expect(follower.seen.some((line) => line.includes('unreachable'))).toBe(true);
    await lab.heal('app');
    await follower.until('result ran 1', 60);
    expect(await follower.ended).toBe(0);
  });

  test('sshd restarted in mid-run: the follower comes back, the command ran once', async () => {
    const follower = followerProcess(under().follower, once(newId(), 6));
    await follower.until('"bytes":1');
    await shell(
      `systemctl restart ssh; for p in $(pgrep -x sshd); do [ "$p" = "$(systemctl show -p MainPID --value ssh)" ] || kill "$p"; done`,
    );
    await follower.until('result ran 1', 60);
    expect(await follower.ended).toBe(0);
  });

  test('a stale unit of the same name, without its files, is replaced', async () => {
    const id = newId();
    await shell(`systemd-run --unit=guardia-job-${id} sleep 1000`);
    const result = await hosts.job(target, { id, command: script('echo fresh'), timeoutSeconds: 30 });
    expect(result.stdout).toBe('fresh\n');
    expect(await shell(`systemctl list-units --all --plain --no-legend 'guardia-job-${id}*'`)).toBe('');
  });

  test('what leaves its session and clears its environment is stopped too', async () => {
    const id = newId();
    const mark = `sleep 96${Date.now() % 100_000}`;
    await hosts.startJob(target, {
      id,
      command: script(`env -i setsid ${mark} & disown; sleep 0.5; sleep 1000`),
      timeoutSeconds: 2000,
    });
    await delay(1000);
    expect((await shell(`pgrep -fx '${mark}' | wc -l`)).trim()).toBe('1');
    await hosts.cancelJob(target, id);
    expect((await shell(`pgrep -fx '${mark}' | wc -l`)).trim()).toBe('0');
  });

  test('a changed host key is refused, with what to do', async () => {
    const other = { ...target, connection: { ...target.connection, hostKeys: lab.hosts['bastion']?.hostKeys ?? [] } };
    await expect(hosts.run(other, { argv: ['true'] })).rejects.toMatchObject({
      type: 'HostKeyRefused',
      nonRetryable: true,
      message: expect.stringMatching(/not in the inventory.*ssh-keygen -lf/s),
    });
  });

  test('missing sudo rights are a clear error', async () => {
    await shell(
      `useradd -m -s /bin/sh plain; mkdir -p ~plain/.ssh; cp ~guardia/.ssh/authorized_keys ~plain/.ssh/; chown -R plain ~plain/.ssh`,
    );
    const plain = { ...target, connection: { ...target.connection, user: 'plain' } };
    await expect(hosts.run(plain, { argv: ['id'] })).rejects.toMatchObject({
      type: 'SudoMissing',
      message: expect.stringMatching(/plain ALL=\(ALL\) NOPASSWD: ALL/),
    });
  });

  test('what sudo warns of before it does as told is no refusal', async () => {
    await shell(`cp /etc/hosts /etc/hosts.kept; sed -i '2,$d' /etc/hosts; hostname nowhere.invalid`);
    try {
      const { exitCode, stderr } = await hosts.run(target, { argv: ['sh', '-c', 'exit 1'], okCodes: [0, 1] });
      expect(stderr).toContain('sudo: unable to resolve host');
      expect(exitCode).toBe(1);
    } finally {
      await shell('hostname app; cat /etc/hosts.kept >/etc/hosts');
    }
  });

  test('a login that is refused and a host that does not answer are told apart', async () => {
    const nobody = { ...target, connection: { ...target.connection, user: 'nobody-here' } };
    await expect(hosts.run(nobody, { argv: ['id'] })).rejects.toMatchObject({
      type: 'HostLoginRefused',
      nonRetryable: true,
    });
    const closed = { ...target, connection: { ...target.connection, port: 9 } };
    await expect(hosts.run(closed, { argv: ['id'] })).rejects.toMatchObject({
      type: 'HostUnreachable',
      nonRetryable: false,
    });
  });

  test('through a jump host', async () => {
    const through = { ...target, connection: { ...target.connection, jump: targetOf('bastion').connection } };
    expect((await hosts.run(through, { argv: ['hostname'] })).stdout.trim()).toBe((await shell('hostname')).trim());
    const result = await hosts.job(through, {
      id: newId(),
      command: script('echo "$SSH_CONNECTION"; hostname'),
      timeoutSeconds: 30,
    });
    expect(result.stdout).toContain((await shell('hostname')).trim());
  });

  test('a host that is silent behind its jump host is told in time, and nobody has to wait for it', async () => {
    const rule = `OUTPUT -d ${target.connection.address} -p tcp --dport ${target.connection.port} -j DROP`;
    const bastion = (line: string) => lab.exec('bastion', ['/bin/sh', '-c', line]);
    // Nobody has a connection to it yet.
    const through = {
      ...target,
      connection: { ...target.connection, user: 'silent', jump: targetOf('bastion').connection },
    };
    await bastion(`iptables -A ${rule}`);
    try {
      const began = Date.now();
      const lost = hosts.run(through, { argv: ['true'] }).catch((error: unknown) => error);
      await expect(hosts.run(through, { argv: ['true'] }, { signal: AbortSignal.timeout(500) })).rejects.toThrow();
      expect(Date.now() - began).toBeLessThan(5_000);
      expect(await lost).toMatchObject({
        type: 'HostUnreachable',
        message: expect.stringContaining('does not answer through the jump host: no answer in time') as unknown,
      });
      expect(Date.now() - began).toBeLessThan(30_000);
    } finally {
      await bastion(`iptables -D ${rule}`);
    }
  });

  describe('a link that is cut in mid-command', () => {
    /** A TCP hop on this machine, which can reset every connection that goes through it. */
    async function hop(to: SshHost['connection']) {
      const sockets = new Set<net.Socket>();
      const server = net.createServer((inner) => {
        const outer = net.connect(to.port, to.address);
        for (const [from, other] of [
          [inner, outer],
          [outer, inner],
        ] as const) {
          sockets.add(from);
          from.on('error', () => other.destroy());
          from.pipe(other);
        }
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return {
        connection: { ...to, address: '127.0.0.1', port: (server.address() as net.AddressInfo).port },
        reset: () => {
          for (const socket of sockets) socket.resetAndDestroy();
          sockets.clear();
        },
        end: () => {
          for (const socket of sockets) socket.end();
        },
        close: () => server.close(),
      };
    }

    test.each([
      ['to the jump host', true, false],
      ['to the jump host, on a connection of its own', true, true],
      ['to the host', false, false],
      ['to the host, on a connection of its own', false, true],
    ])('%s, is HostUnreachable at once, and the next command connects anew', async (_, jump, newConnection) => {
      const way = await hop(targetOf(jump ? 'bastion' : 'app').connection);
      try {
        const through = jump
          ? { ...target, connection: { ...target.connection, jump: way.connection } }
          : { ...target, connection: way.connection };
        const mark = `/tmp/${newId()}`;
        const lost = hosts
          .run(through, { argv: ['sh', '-c', `touch ${mark}; sleep 30`] }, { newConnection })
          .catch((error: unknown) => error);
        await shell(`until [ -e ${mark} ]; do sleep 0.1; done; rm ${mark}`);
        const began = Date.now();
        way.reset();
        expect(await lost).toMatchObject({ type: 'HostUnreachable' });
        expect(Date.now() - began).toBeLessThan(3_000);
        // Idle, it has nobody else who listens.
        expect((await hosts.run(through, { argv: ['echo', 'back'] })).stdout).toBe('back\n');
        way.reset();
        await delay(200);
        expect((await hosts.run(through, { argv: ['echo', 'back'] })).stdout).toBe('back\n');
      } finally {
        way.reset();
        way.close();
      }
    });

    test('is not used any more from the moment on that the other end has said goodbye', async () => {
      const way = await hop(target.connection);
      try {
        const there = { ...target, connection: way.connection };
        await hosts.run(there, { argv: ['true'] });
        // The moment between 'end' and 'close' is short: the next command is given in it.
        const emit = jest.spyOn(Client.prototype, 'emit');
        const next = new Promise<{ run: Promise<{ stdout: string }> }>((resolve) => {
          emit.mockImplementation(function (this: Client, event: string | symbol, ...args: unknown[]) {
            const heard = EventEmitter.prototype.emit.call(this, event, ...args);
            if (event === 'end') {
              emit.mockRestore();
              resolve({ run: hosts.run(there, { argv: ['echo', 'anew'] }) });
            }
            return heard;
          } as typeof Client.prototype.emit);
        });
        way.end();
        expect((await (await next).run).stdout).toBe('anew\n');
      } finally {
        way.reset();
        way.close();
      }
    });
  });

  test('worker SIGKILLed in the middle of a write: the file is the old one, and the journal has no entry', async () => {
    const file = `/tmp/${newId()}`;
    const run = newId();
    const write = () =>
      execa(process.execPath, ['.build/test/activities/hosts/file-writer.js', file, '1500000', run], {
        env: { GUARDIA_TEST_TARGET: JSON.stringify(target) },
        reject: false,
      });
    await shell(`echo old >${file}`);
    await lab.slow('app', '1mbit');
    try {
      // 3 MB take about 24 s: the worker dies before any of it has come, and in the middle of it.
      for (const milliseconds of [1_000, 3_000, 7_000]) {
        const worker = write();
        await delay(milliseconds);
        worker.kill('SIGKILL');
        expect((await worker).signal).toBe('SIGKILL');
      }
    } finally {
      await lab.heal('app');
    }
    await delay(1_000);
    expect(await shell(`cat ${file}; ls ${file}.draft 2>/dev/null; true`)).toBe('old\n');
    expect(await hosts.journalGet(target, run, 'write')).toBeUndefined();
    expect((await write()).exitCode).toBe(0);
    expect(await shell(`stat -c %s ${file}; rm ${file}`)).toBe('1500000\n');
    expect((await hosts.journalGet(target, run, 'write'))?.length).toBe(1_500_000);
    await hosts.journalForget(target, run);
  });

  test('the exit of a command that ends at once is never missed', async () => {
    const jump = targetOf('bastion').connection;
    const through = { ...target, connection: { ...target.connection, jump } };
    for (const at of [target, through])
      for (let round = 0; round < 10; round++)
        await Promise.all(Array.from({ length: 8 }, () => hosts.run(at, { argv: ['true'] })));
  });

  test('the host is rebooted: JobLost, and a new attempt only where the step says it may', async () => {
    const id = newId();
    await hosts.startJob(target, { id, command: script('sleep 1000'), timeoutSeconds: 2000 });
    await lab.poweroff('app');
    await lab.poweron('app');
    await expect(hosts.job(target, { id, command: script('echo again'), timeoutSeconds: 30 })).rejects.toMatchObject({
      type: 'JobLost',
      message: expect.stringMatching(/went down/),
    });
    expect(
      (await hosts.job(target, { id, command: script('echo again'), timeoutSeconds: 30, runAgainIfLost: true })).stdout,
    ).toBe('again\n');
  });
});
