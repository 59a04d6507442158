import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { isRunning } from './process-identity.js';

const Process = z.object({ pid: z.int().positive(), startTime: z.string() });

/** What `guardia dev` writes to `server.json` in its directory while it runs. Unknown fields are left alone. */
export const DevServerState = z.object({
  address: z.string().describe('gRPC address, host:port'),
  namespace: z.string(),
  uiUrl: z.string().describe('Web UI'),
  supervisor: Process.describe('The process that watches over the others'),
  server: Process.optional().describe('The Temporal server; absent when one that was already there is used'),
  worker: Process.optional(),
  ready: z.boolean().describe('Whether the server answers'),
});
export type DevServerState = z.infer<typeof DevServerState>;

type Environment = Readonly<Record<string, string | undefined>>;

/** HOME, or the home of the account; `/` for a user id that has no account. */
export function homeDirectory(env: Environment = process.env, ofAccount: () => string = homedir): string {
  if (env['HOME'] !== undefined) return env['HOME'];
  try {
    return ofAccount();
  } catch {
    return '/';
  }
}

/** Where guardia keeps what it must find again on this machine: GUARDIA_STATE, or `guardia` below XDG_STATE_HOME or ~/.local/state. */
export function stateDirectory(env: Environment = process.env): string {
  const chosen = env['GUARDIA_STATE'];
  if (chosen !== undefined && chosen !== '') return path.resolve(chosen);
  const xdg = env['XDG_STATE_HOME'];
  return path.join(
    xdg !== undefined && path.isAbsolute(xdg) ? xdg : path.join(homeDirectory(env), '.local/state'),
    'guardia',
  );
}

/** The directory of `guardia dev`: database, log, state file. */
export function devServerDirectory(env: Environment = process.env): string {
  return path.join(stateDirectory(env), 'dev');
}

export function devServerStateFile(directory: string): string {
  return path.join(directory, 'server.json');
}

/** The state file, undefined when there is none that can be read. Says nothing about whether its processes still live. */
export function readDevServerState(directory: string): DevServerState | undefined {
  try {
    return DevServerState.parse(JSON.parse(readFileSync(devServerStateFile(directory), 'utf8')));
  } catch {
    return undefined;
  }
}

/** The `guardia dev` that runs and answers now, undefined when there is none. */
export function runningDevServer(env: Environment = process.env): DevServerState | undefined {
  const state = readDevServerState(devServerDirectory(env));
  if (state === undefined || !state.ready || !isRunning(state.supervisor)) return undefined;
  if (state.server !== undefined && !isRunning(state.server)) return undefined;
  return state;
}
