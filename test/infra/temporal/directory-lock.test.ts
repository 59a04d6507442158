import { afterAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { identify } from '../../../activities/temporal/process-identity.js';
import { DirectoryLocked, lockDirectory } from '../../../infra/temporal/directory-lock.js';
import { compiled } from '../../../infra/temporal/server-executable.js';

const home = mkdtempSync(path.join(tmpdir(), 'guardia-lock-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const directory = () => mkdtempSync(path.join(home, 'd-'));

describe('the lock of a directory', () => {
  test('is held once, names its holder, and leaves nothing', () => {
    const at = directory();
    const lock = lockDirectory(at);
    expect(() => lockDirectory(at)).toThrow(DirectoryLocked);
    expect(() => lockDirectory(at)).toThrow(`process ${process.pid}`);
    lock.release();
    expect(readdirSync(at)).toEqual([]);
    lockDirectory(at).release();
  });

  test.each([
    ['a process that is gone', JSON.stringify({ pid: 2 ** 30, startTime: 'x' })],
    ['an earlier process of the same number', JSON.stringify({ pid: process.pid, startTime: 'x' })],
    ['nobody who can be read', '{ half'],
    ['nobody', ''],
  ])('held by %s, it is free', (_, content) => {
    const at = directory();
    writeFileSync(path.join(at, 'lock'), content);
    lockDirectory(at).release();
    expect(readdirSync(at)).toEqual([]);
  });

  test('of many processes that find a stale one at the same time, one gets it', async () => {
    const at = directory();
    writeFileSync(path.join(at, 'lock'), JSON.stringify({ pid: 2 ** 30, startTime: 'x' }));
    const module = compiled('infra/temporal/directory-lock.js');
    const script = `const { lockDirectory } = await import(${JSON.stringify(module)});
      try { lockDirectory(${JSON.stringify(at)}); console.log('got it'); setTimeout(() => {}, 60_000); } catch (error) { console.log(error.name); }`;
    const children = Array.from({ length: 12 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    const said = await Promise.all(children.map(async (child) => String((await once(child.stdout, 'data'))[0]).trim()));
    expect(said.filter((line) => line === 'got it')).toHaveLength(1);
    expect(said.filter((line) => line === 'DirectoryLocked')).toHaveLength(11);
    const holder = children[said.indexOf('got it')];
    holder?.kill('SIGKILL');
    if (holder !== undefined) await once(holder, 'exit');
    expect(identify(holder?.pid ?? 0)).toBeUndefined();
    lockDirectory(at).release();
    expect(existsSync(path.join(at, 'lock'))).toBe(false);
  }, 30_000);
});
