import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';

/** A process of its own, which lies beside the command in the build. */
const ENTRY = fileURLToPath(new URL('../../infra/temporal/dev.js', import.meta.url));

/** `guardia dev`: the development server and a worker, as a child process. Its exit code is ours. */
export const dev = command({
  options: z.object({ arguments: z.array(z.string()).default([]) }),
  async execute({ arguments: given }) {
    if (!existsSync(ENTRY))
      throw new CommandFailure('internal', { message: `${ENTRY} is missing`, remedy: 'npm run build' });
    const child = spawn(process.execPath, [ENTRY, ...given], { stdio: 'inherit' });
    // A terminal sends Ctrl-C to the child as well, which takes the two for one.
    const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, passOn);
    return new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    });
  },
});
