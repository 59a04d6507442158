import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { say, ToolboxError } from '../packaging/toolbox-cache.js';
import { endsWithParent } from '../temporal/parent-death.js';
import type { Place } from './place.js';

const built = fileURLToPath(new URL('../../', import.meta.url));
const command = path.join(built, 'client/main.js');
const UI_PORT = 8233;

/**
 * Starts `guardia dev` for the place, runs one backup with the command and shows what the bucket holds afterwards.
 * Returns the exit code of the backup. `stay`: keep everything up until it resolves.
 */
export async function showBackup(
  place: Place,
  { stay, interrupted }: { stay: Promise<void> | undefined; interrupted: Promise<void> },
): Promise<number> {
  const state = mkdtempSync(path.join(tmpdir(), 'guardia-demo-'));
  const environment = { ...process.env, ...place.environment, GUARDIA_STATE: state };
  for (const name of Object.keys(environment))
    if (name.startsWith('TEMPORAL_')) delete (environment as Record<string, unknown>)[name];
  const dev = await startDev(environment);
  try {
    say('');
    say('$ guardia run backup proofpass');
    const code = await Promise.race([
      guardia(['run', 'backup', 'proofpass', '--follow'], environment),
      interrupted.then(() => 130),
    ]);
    if (code !== 0) return code;
    say('');
    say('$ guardia backups proofpass');
    await guardia(['backups', 'proofpass'], environment);
    say('');
    for (const link of place.links) say(link);
    say(`web UI:  ${dev.uiUrl}`);
    if (stay) {
      say('');
      say('Everything stays up. In another terminal:');
      say(
        `  export GUARDIA_STATE=${state} ${Object.entries(place.environment)
          .map(([name, value]) => `${name}=${value}`)
          .join(' ')}`,
      );
      say('  npm run -s guardia -- run backup proofpass       another backup');
      say('  npm run -s guardia -- status                     what runs, what ran');
      say('Ctrl-C takes it down.');
      await stay;
    }
    return 0;
  } finally {
    await dev.stop();
    rmSync(state, { recursive: true, force: true });
  }
}

/** Runs the command as an operator would; resolves with its exit code. */
function guardia(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [command, ...args], { env, stdio: 'inherit' });
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

async function startDev(env: NodeJS.ProcessEnv): Promise<{ uiUrl: string; stop: () => Promise<void> }> {
  const uiPort = (await isFree(UI_PORT)) ? UI_PORT : 0;
  const child = spawn(
    ...endsWithParent(process.execPath, [
      path.join(built, 'infra/temporal/dev.js'),
      ...['--port', '0', '--ui-port', String(uiPort)],
    ]),
    {
      env,
      // Ctrl-C at the terminal reaches it through us, after the command has had its say.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  process.once('exit', () => child.kill('SIGTERM'));
  let said = '';
  const uiUrl = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', (chunk: Buffer) => {
      const text = chunk.toString();
      if (said.length < 100_000) said += text;
      for (const line of text.split('\n')) if (/^guardia: |^building|done in/.test(line)) say(line);
      if (/guardia worker: serving/.test(said)) resolve(/Web UI: (\S+)/.exec(said)?.[1] ?? '');
    });
    child.on('exit', (code) => reject(new ToolboxError(`guardia dev ended (${code}):\n${said}`)));
  });
  return {
    uiUrl,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
