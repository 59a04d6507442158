import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { settleDeadMan, underDeadMan, type Act } from '../../../activities/hosts/dead-man.js';
import type { Hosts } from '../../../activities/hosts/hosts.js';
import type { CallContext } from '../../../workflows/contracts/calls.js';
import { failure } from '../../../workflows/contracts/errors.js';
import { startLabActivities, type LabActivities } from '../lab-activities.js';

jest.setTimeout(180_000);

/** The switch itself, with a file in the place of the firewall: what it does where its own parts fail. */
describe("a dead man's switch", () => {
  const directory = '/var/lib/guardia/dead-man';
  const unit = '/etc/systemd/system/guardia-dead-man.service';
  const script = readFileSync('activities/hosts/dead-man.sh', 'utf8');
  const undo = 'echo old >/etc/guarded\n\n';
  let here: LabActivities;
  const context = (stateDirectory = '/var/lib/guardia'): CallContext => ({
    system: 'test',
    runbook: 'test',
    workflowId: 'test/1',
    runId: 'run',
    step: 'step',
    generation: 1,
    runAgainIfLost: false,
    target: { ...here.target(), stateDirectory },
  });
  const makeNew = (act: Act) => act(['sh', '-c', 'echo new >/etc/guarded']);
  const guarded = () => here.shell('cat /etc/guarded');
  const leftovers = () => here.shell(`ls -d ${directory} ${directory}.new ${directory}.old ${unit} 2>/dev/null; true`);
  let saved: Buffer;
  const guard = (more: { undo?: string; seconds?: number } = {}) => ({
    what: 'the file',
    saved,
    undo,
    seconds: 5,
    ...more,
  });
  const command = async (...args: string[]) =>
    (
      await here.hosts.run(here.target(), {
        argv: ['/bin/bash', '-c', script, 'dead-man', ...args],
        okCodes: [0, 6, 7, 8, 9],
      })
    ).exitCode;

  beforeAll(async () => {
    here = await startLabActivities();
    await here.shell('mkdir -p /var/lib/guardia && echo old >/etc/guarded');
    saved = Buffer.from(await here.shell('tar -c -C "$(mktemp -d)" . | base64 -w0'), 'base64');
  });
  afterAll(() => here?.down());

  test('confirmed, the change stands; not confirmed, the host takes it back', async () => {
    await underDeadMan(here.hosts, context(), guard(), makeNew);
    expect([await guarded(), await leftovers()]).toEqual(['new\n', '']);
    await expect(
      underDeadMan(here.hosts, context(), guard({ seconds: 1 }), async (act) => {
        await makeNew(act);
        await delay(2_000);
      }),
    ).rejects.toMatchObject({ type: 'AccessLost' });
    expect([await guarded(), await leftovers()]).toEqual(['old\n', '']);
  });

  test('that cannot be written, as the disk is full, changes nothing and leaves nothing', async () => {
    const small = '/mnt/small';
    await here.shell(`mkdir -p ${small} && mount -t tmpfs -o size=64k none ${small} && mkdir ${small}/guardia`);
    try {
      // Room for files without content: their names are there, what they say is not.
      await here.shell(`cat /dev/zero >${small}/fill 2>/dev/null; true`);
      let began = false;
      await expect(
        underDeadMan(here.hosts, context(`${small}/guardia`), guard(), async () => void (began = true)),
      ).rejects.toMatchObject({
        type: 'HostUnusable',
        message: expect.stringMatching(/^the file on app was not changed: .*cannot be armed: .*See that/),
      });
      expect(began).toBe(false);
      expect(await here.shell(`find ${small}/guardia -mindepth 1; ls ${unit} 2>/dev/null; true`)).toBe('');
    } finally {
      await here.shell(`umount ${small}`);
    }
  });

  test('whose unit cannot be installed changes nothing and leaves nothing', async () => {
    await here.shell(`mkdir ${unit}`);
    let began = false;
    await expect(underDeadMan(here.hosts, context(), guard(), async () => void (began = true))).rejects.toMatchObject({
      type: 'HostUnusable',
    });
    await here.shell(`rmdir ${unit}`);
    expect([began, await leftovers()]).toEqual([false, '']);
  });

  test('of which only a part is left does not stand in the way', async () => {
    await here.shell(`mkdir -p ${directory}/saved`);
    await settleDeadMan(here.hosts, context());
    expect(await leftovers()).toBe('');
    await here.shell(`mkdir -p ${directory}/saved ${directory}.new/saved`);
    await underDeadMan(here.hosts, context(), guard(), makeNew);
    expect([await guarded(), await leftovers()]).toEqual(['new\n', '']);
  });

  test('a confirmation whose answer was lost counts, also when it is asked again too late', async () => {
    const losing = (times: number): Hosts => ({
      ...here.hosts,
      run: async (...args) => {
        const result = await here.hosts.run(...args);
        if (args[1].argv.includes('confirm') && times-- > 0) {
          await delay(500);
          throw failure('HostUnreachable', 'the answer was lost');
        }
        return result;
      },
    });
    for (const times of [1, 100]) {
      await here.shell('echo old >/etc/guarded');
      await underDeadMan(losing(times), context(), guard(), makeNew);
      expect([await guarded(), await leftovers()]).toEqual(['new\n', '']);
    }
    expect(await command('confirm', directory)).toBe(0);
    await command('forget', directory);
    expect(await command('confirm', directory)).toBe(7);
  });

  test('a host that shows another key since the change is waited for until it is as it was', async () => {
    await here.shell('echo old >/etc/guarded');
    const refusing: Hosts = {
      ...here.hosts,
      run: async (...args) => {
        if (args[2]?.newConnection && (await guarded()) === 'new\n') throw failure('HostKeyRefused', 'another key');
        return here.hosts.run(...args);
      },
    };
    await expect(underDeadMan(refusing, context(), guard({ seconds: 2 }), makeNew)).rejects.toMatchObject({
      type: 'AccessLost',
      message: expect.stringContaining('another key'),
    });
    expect([await guarded(), await leftovers()]).toEqual(['old\n', '']);
  });

  test.each<[string, (act: Act) => Promise<void>]>([
    [
      'never began',
      async () => {
        throw failure('HostUnreachable', 'the connection to app was lost');
      },
    ],
    [
      'was killed in its middle',
      (act) => act(['sh', '-c', 'echo half >/etc/guarded; kill -TERM $$; echo new >/etc/guarded']),
    ],
  ])('a change that %s is not confirmed, whoever can be reached', async (_, change) => {
    await here.shell('echo old >/etc/guarded');
    await expect(underDeadMan(here.hosts, context(), guard(), change)).rejects.toMatchObject({
      type: 'HostUnreachable',
      nonRetryable: false,
    });
    expect([await guarded(), await leftovers()]).toEqual(['old\n', '']);
  });

  test('a change that is whole on the host is confirmed, also where its answer was lost', async () => {
    await underDeadMan(here.hosts, context(), guard(), async (act) => {
      await makeNew(act);
      throw failure('HostUnreachable', 'the connection to app was lost');
    });
    expect([await guarded(), await leftovers()]).toEqual(['new\n', '']);
  });

  test('that was confirmed does not fire any more, whatever came in between', async () => {
    await here.shell('echo new >/etc/guarded');
    await here.hosts.run(here.target(), {
      argv: ['/bin/bash', '-c', script, 'dead-man', 'arm', directory, '600', undo],
      stdin: saved,
    });
    // The host went down between the decision and its tidying up: the unit runs at the next boot.
    await here.shell(`touch ${directory}/acted ${directory}/confirmed && systemctl start guardia-dead-man.service`);
    expect(await guarded()).toBe('new\n');
    expect(await command('act', directory, 'sh', '-c', 'echo late >/etc/guarded')).toBe(8);
    expect(await command('confirm', directory)).toBe(0);
    expect([await guarded(), await leftovers()]).toEqual(['new\n', '']);
  });

  test('that has fired by itself is only forgotten: what a person has changed since stays', async () => {
    await here.shell('echo new >/etc/guarded');
    await here.hosts.run(here.target(), {
      argv: ['/bin/bash', '-c', script, 'dead-man', 'arm', directory, '1', undo],
      stdin: saved,
    });
    await here.shell(`until [ -e ${directory}/restored ]; do sleep 0.1; done`);
    expect(await guarded()).toBe('old\n');
    await here.shell('echo by hand >/etc/guarded');
    await settleDeadMan(here.hosts, context());
    expect([await guarded(), await leftovers()]).toEqual(['by hand\n', '']);
  });

  test('whose undo fails says so, is kept, and can be tried again', async () => {
    const broken = 'echo "cannot restore it" >&2; [ -e /etc/mended ] && echo old >/etc/guarded';
    for (const change of [
      async (act: Act) => {
        await makeNew(act);
        throw failure('CommandFailed', 'it broke');
      },
      async (act: Act) => {
        await makeNew(act);
        await delay(2_000);
      },
    ]) {
      await here.shell('rm -f /etc/mended; echo old >/etc/guarded');
      await expect(
        underDeadMan(here.hosts, context(), guard({ undo: broken, seconds: 1 }), change),
      ).rejects.toMatchObject({
        type: 'HostUnusable',
        message: expect.stringMatching(
          /^the file on app.*: the host could not put the old state back\. Look at .*\/log/,
        ),
      });
      expect(await here.shell(`cat ${directory}/log`)).toBe('cannot restore it\n');
      await expect(settleDeadMan(here.hosts, context())).rejects.toMatchObject({ type: 'HostUnusable' });
      await here.shell('touch /etc/mended');
      await settleDeadMan(here.hosts, context());
      expect([await guarded(), await leftovers()]).toEqual(['old\n', '']);
    }
  });
});
