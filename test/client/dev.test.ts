import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runningDevServer } from '../../activities/temporal/dev-server-state.js';
import { isRunning } from '../../activities/temporal/process-identity.js';
import { compiled } from '../../infra/temporal/server-executable.js';

jest.setTimeout(90_000);

describe('guardia dev', () => {
  let directory: string;
  let env: NodeJS.ProcessEnv;
  beforeAll(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'guardia-command-dev-'));
    env = { PATH: process.env['PATH'], HOME: directory, GUARDIA_STATE: path.join(directory, 'state') };
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const start = (...argv: string[]) =>
    spawn(process.execPath, [compiled('client/main.js'), ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] });

  test('is the development server as a child: it passes arguments and signals on, and ends as it ends', async () => {
    const child = start('dev', '--port', '0', '--ui-port', '0', '--no-worker');
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    for (const deadline = Date.now() + 60_000; !said.includes('Ctrl-C stops');) {
      if (Date.now() > deadline || child.exitCode !== null) throw new Error(said);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const state = runningDevServer(env);
    expect(said).toContain(state?.uiUrl ?? 'no server');

    // The command finds that server by itself.
    const status = start('status', '--json');
    let text = '';
    status.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await once(status, 'close');
    expect(JSON.parse(text)).toMatchObject({ temporal: { address: state?.address, webUi: state?.uiUrl }, open: [] });

    child.kill('SIGTERM');
    const [exitCode] = (await once(child, 'exit')) as [number | null];
    expect(exitCode).toBe(0);
    expect(said).toContain('stopped');
    expect(state?.server !== undefined && isRunning(state.server)).toBe(false);
  });

  test('a wrong argument is refused by the child, with its exit code', async () => {
    const child = start('dev', '--prot', '1');
    const [exitCode] = (await once(child, 'exit')) as [number | null];
    expect(exitCode).toBe(2);
  });
});
