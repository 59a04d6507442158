import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { builtOnce, withLock } from '../../infra/packaging/toolbox-cache.js';
import { ensureTool, tools } from '../../infra/packaging/toolbox.js';

jest.setTimeout(60_000);

describe('the cache of what is built once', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'guardia-toolbox-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const discard = async (temporary: string): Promise<void> => rmSync(temporary, { recursive: true, force: true });

  test('builds for the first of many askers only, and shows all of them the finished thing', async () => {
    const at = path.join(directory, 'thing');
    let builds = 0;
    const ask = () =>
      builtOnce(
        at,
        'building a thing',
        async (temporary) => {
          builds++;
          mkdirSync(temporary);
          await sleep(100);
          expect(existsSync(at)).toBe(false);
          writeFileSync(path.join(temporary, 'done'), '');
        },
        discard,
      );
    expect(await Promise.all([ask(), ask(), ask()])).toEqual([at, at, at]);
    expect(builds).toBe(1);
    expect(readdirSync(at)).toEqual(['done']);
  });

  test('a build that fails is not taken for a result, and the next one starts clean', async () => {
    const at = path.join(directory, 'broken');
    const fail = builtOnce(
      at,
      'building what fails',
      async (temporary) => {
        mkdirSync(temporary);
        writeFileSync(path.join(temporary, 'half'), '');
        throw new Error('no compiler');
      },
      discard,
    );
    await expect(fail).rejects.toThrow('no compiler');
    expect(existsSync(at)).toBe(false);
    await builtOnce(at, 'building it again', async (temporary) => void mkdirSync(temporary), discard);
    expect(readdirSync(at)).toEqual([]);
  });

  test('a lock ends with the process that held it, also when that is killed', async () => {
    const file = path.join(directory, 'lock');
    const holder = spawn(process.execPath, ['.build/test/lab/lock-holder.js', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    let entered = false;
    const waiting = withLock(file, async () => {
      entered = true;
    });
    await sleep(300);
    expect(entered).toBe(false);
    holder.kill('SIGKILL');
    await waiting;
    expect(entered).toBe(true);
  });
});

describe('the toolbox', () => {
  test('what it built is of the version that was asked for', async () => {
    expect(execFileSync(await ensureTool('temporal'), ['--version'], { encoding: 'utf8' })).toContain(
      `version ${tools.temporal.version} (`,
    );
    expect(execFileSync(await ensureTool('versitygw'), ['--version'], { encoding: 'utf8' })).toContain(
      tools.versitygw.version,
    );
    const compose = execFileSync(await ensureTool('docker-compose'), ['docker-cli-plugin-metadata'], {
      encoding: 'utf8',
    });
    expect(JSON.parse(compose)).toMatchObject({ Version: `v${tools['docker-compose'].version}` });
  });

  test('as a command it prints paths on standard output, and names the tools when asked for another', () => {
    const command = (name: string) =>
      spawnSync(process.execPath, ['.build/infra/packaging/toolbox.js', name], { encoding: 'utf8' });
    const found = command('versitygw');
    expect(found.status).toBe(0);
    expect(existsSync(found.stdout.trim())).toBe(true);
    const unknown = command('terraform');
    expect(unknown).toMatchObject({ status: 1, stdout: '' });
    expect(unknown.stderr).toMatch(/no such tool: terraform[^]*temporal,.* versitygw, docker-compose/);
  });
});
