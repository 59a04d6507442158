import { afterAll, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TemporalTarget } from '../../../activities/temporal/connection.js';
import {
  chooseServer,
  downloadedBySdk,
  isNewEnough,
  NoTemporalServer,
  OLDEST_SERVER,
  onPath,
  parseServerVersion,
  serverSources,
  TEMPORAL_CLI_VERSION,
  type Source,
} from '../../../infra/temporal/server-executable.js';

// Real servers, also on a busy machine.
jest.setTimeout(120_000);

const home = mkdtempSync(path.join(tmpdir(), 'guardia-executable-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const target: TemporalTarget = {
  address: 'a:1',
  namespace: 'default',
  source: 'TEMPORAL_ADDRESS',
  connection: { address: 'a:1' },
};
const has = (name: string): Source => ({
  name,
  find: async () => ({ path: `/${name}`, serverVersion: '1.29.1', source: name }),
});
const lacks = (name: string): Source => ({ name, find: async () => ({ reason: `no ${name}` }) });
const notAsked = (name: string): Source => ({
  name,
  find: () => {
    throw new Error(`${name} was asked`);
  },
});

/** A `temporal` that answers `--version` with this text. */
function command(says: string): string {
  const directory = mkdtempSync(path.join(home, 'bin-'));
  writeFileSync(path.join(directory, 'temporal'), `#!/bin/sh\necho '${says}'\n`);
  chmodSync(path.join(directory, 'temporal'), 0o755);
  return directory;
}

describe('the order', () => {
  test('what is configured wins, and nothing is looked for', async () => {
    await expect(chooseServer(target, [notAsked('PATH')])).resolves.toEqual({ kind: 'running', target });
  });

  test('the first that has one wins, and later ones are not asked', async () => {
    const choice = await chooseServer(undefined, [lacks('PATH'), has('download'), notAsked('build')]);
    expect(choice).toMatchObject({ kind: 'executable', executable: { path: '/download' } });
  });

  test('the real sources stand in the order PATH, download, build', () => {
    expect(serverSources().map(({ name }) => name)).toEqual([
      '`temporal` on PATH',
      `download of ${TEMPORAL_CLI_VERSION} by the Temporal SDK`,
      `build of ${TEMPORAL_CLI_VERSION} with Go`,
    ]);
  });

  test('none: one error that says what was tried and what helps', async () => {
    const error = await chooseServer(undefined, [lacks('PATH'), lacks('download'), lacks('build')]).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(NoTemporalServer);
    const { message } = error as Error;
    for (const part of [
      'PATH: no PATH',
      'download: no download',
      'build: no build',
      'TEMPORAL_ADDRESS',
      'profile',
      OLDEST_SERVER,
      'Go',
    ]) {
      expect(message).toContain(part);
    }
  });
});

describe('a `temporal` on PATH', () => {
  test('a new one is used, also when it calls itself 0.0.0-DEV', async () => {
    const directory = command('temporal version 0.0.0-DEV (Server 1.29.1, UI 2.42.1)');
    await expect(onPath({ PATH: `/nonexistent:${directory}` }).find()).resolves.toEqual({
      path: path.join(directory, 'temporal'),
      serverVersion: '1.29.1',
      source: 'PATH',
    });
  });

  test('one that is too old or no Temporal is passed over, with the reason', async () => {
    const old = command('temporal version 1.1.0 (Server 1.25.1, UI 2.31.2)');
    const other = command('temporal 3.2 - a calendar');
    await expect(onPath({ PATH: `${old}:${other}` }).find()).resolves.toEqual({
      reason: `${old}/temporal holds server 1.25.1, older than ${OLDEST_SERVER}; ${other}/temporal does not say which server it holds`,
    });
    const good = command('temporal version 1.6.0 (Server 1.30.0, UI 2.44.0)');
    await expect(onPath({ PATH: [old, other, good].join(':') }).find()).resolves.toMatchObject({
      serverVersion: '1.30.0',
    });
  });

  test('a directory of that name, a file without the right to run and a relative entry are none', async () => {
    const directory = mkdtempSync(path.join(home, 'bin-'));
    mkdirSync(path.join(directory, 'temporal'));
    const plain = mkdtempSync(path.join(home, 'bin-'));
    writeFileSync(path.join(plain, 'temporal'), 'x', { mode: 0o644 });
    await expect(onPath({ PATH: `${directory}:${plain}:.:` }).find()).resolves.toEqual({ reason: 'there is none' });
    await expect(onPath({}).find()).resolves.toEqual({ reason: 'there is none' });
  });

  test('versions are compared as numbers', () => {
    expect(isNewEnough(OLDEST_SERVER)).toBe(true);
    expect(['1.28.1', '1.29.0', '1.100.0', '2.0.0'].map(isNewEnough)).toEqual([true, true, true, true]);
    expect(['1.27.9', '1.9.0', '0.30.0'].map(isNewEnough)).toEqual([false, false, false]);
    expect(parseServerVersion('temporal version v1.8.3-server-1.32.0-162.0 (Server 1.32.0-162.0, UI 2.53.3)')).toBe(
      '1.32.0',
    );
    fc.assert(
      fc.property(fc.string(), (text) =>
        expect([undefined, 'string']).toContain(typeof parseServerVersion(text) === 'string' ? 'string' : undefined),
      ),
    );
  });
});

describe('the download by the SDK', () => {
  test('one that was made earlier is used', async () => {
    const directory = mkdtempSync(path.join(home, 'download-'));
    const from = command('temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)');
    const file = path.join(directory, `temporal-v${TEMPORAL_CLI_VERSION}`);
    writeFileSync(file, `#!/bin/sh\nexec ${from}/temporal "$@"\n`, { mode: 0o755 });
    await expect(downloadedBySdk({ directory }).find()).resolves.toEqual({
      path: file,
      serverVersion: '1.29.1',
      source: 'download',
    });
  });

  test('where the network does not reach it: fails fast, and is not tried again for a day', async () => {
    const directory = path.join(home, 'not-there-yet');
    const failed = path.join(directory, 'download-failed');
    // A proxy that nobody listens at stands for such a network.
    const env = { ...process.env, HTTPS_PROXY: 'http://127.0.0.1:1', https_proxy: 'http://127.0.0.1:1' };
    const source = downloadedBySdk({ directory, env });
    const started = Date.now();
    await expect(source.find()).resolves.toEqual({ reason: expect.stringMatching(/refused|tunnel|proxy|connect/i) });
    expect(Date.now() - started).toBeLessThan(15_000);
    expect(existsSync(failed)).toBe(true);

    await expect(source.find()).resolves.toEqual({ reason: expect.stringContaining(`remove ${failed} to try again`) });
    const yesterday = Date.now() / 1000 - 25 * 3600;
    utimesSync(failed, yesterday, yesterday);
    await expect(source.find()).resolves.toEqual({ reason: expect.not.stringContaining('within the last') });
  });
});
