import { afterAll, describe, expect, jest, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { identify } from '../../../activities/temporal/process-identity.js';
import { DirectoryLocked, lockDirectory } from '../../../infra/temporal/directory-lock.js';
import { compiled } from '../../../infra/temporal/server-executable.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const home = mkdtempSync(path.join(tmpdir(), 'guardia-lock-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const directory = () => mkdtempSync(path.join(home, 'd-'));

const gone = 2 ** 30;
const ours = () => {
  const own = identify(process.pid);
  if (own === undefined) throw new Error('we have no identity');
  return own;
};

describe('the lock of a directory', () => {
  test('is held once, names its holder, and leaves nothing', async () => {
    const at = directory();
    const lock = await lockDirectory(at);
    await expect(lockDirectory(at)).rejects.toThrow(DirectoryLocked);
    await expect(lockDirectory(at)).rejects.toThrow(`process ${process.pid}`);
    lock.release();
    expect(readdirSync(at)).toEqual([]);
    (await lockDirectory(at)).release();
  });

  test.each([
    ['a process that is gone', () => `lock.${gone}.some-time`],
    ['an earlier process of the same number', () => `lock.${process.pid}.some-time`],
    ['an earlier process of a number that lives', () => `lock.${process.ppid}.some-time`],
    ['nobody who can be read', () => 'lock.x'],
  ])('held by %s, it is free, and that is removed', async (_, name) => {
    const at = directory();
    writeFileSync(path.join(at, name()), 'held');
    (await lockDirectory(at)).release();
    expect(readdirSync(at)).toEqual([]);
  });

  test('other files are left alone', async () => {
    const at = directory();
    writeFileSync(path.join(at, 'temporal.db'), '');
    (await lockDirectory(at)).release();
    expect(readdirSync(at)).toEqual(['temporal.db']);
  });

  test.each([1, 2, 3])(
    'of twelve processes that find a stale one at the same time, one gets it (round %d)',
    async () => {
      const at = directory();
      writeFileSync(path.join(at, `lock.${gone}.some-time`), 'held');
      const module = compiled('infra/temporal/directory-lock.js');
      // All wait for the same moment, then try.
      const moment = Date.now() + 4000;
      const script = `const { lockDirectory } = await import(${JSON.stringify(module)});
      while (Date.now() < ${moment}) {}
      await lockDirectory(${JSON.stringify(at)}).then(() => console.log('got it'), (error) => console.log(error.name));
      setTimeout(() => {}, 600_000);`;
      const children = Array.from({ length: 12 }, () =>
        spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] }),
      );
      try {
        const said = await Promise.all(
          children.map(async (child) => String((await once(child.stdout, 'data'))[0]).trim()),
        );
        expect(said.sort()).toEqual([...Array.from({ length: 11 }, () => 'DirectoryLocked'), 'got it']);
        await expect(lockDirectory(at)).rejects.toThrow(DirectoryLocked);
      } finally {
        for (const child of children) {
          child.kill('SIGKILL');
          if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
        }
      }
      // Its holder was killed: it is free again.
      (await lockDirectory(at)).release();
      expect(readdirSync(at)).toEqual([]);
    },
  );

  test('one who is only trying does not hold it for ever', async () => {
    const at = directory();
    const { pid, startTime } = ours();
    const own = `lock.${pid}.${startTime.replaceAll(/\W+/g, '-')}`;
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 600_000)']);
    const other = identify(child.pid ?? 0);
    if (other === undefined) throw new Error('a living process has no identity');
    const file = path.join(at, `lock.${other.pid}.${other.startTime.replaceAll(/\W+/g, '-')}`);
    writeFileSync(file, '');
    const waiting = lockDirectory(at);
    setTimeout(() => rmSync(file), 300);
    const lock = await waiting;
    expect(readdirSync(at)).toEqual([own]);
    lock.release();
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
});
