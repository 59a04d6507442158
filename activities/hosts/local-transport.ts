import { execa } from 'execa';
import type { ExecuteOptions, Exit, Transport } from './transport.js';

/** This machine as a host: command lines run as children of the worker. */
export const localTransport: Transport = {
  async execute(commandLine: string, options: ExecuteOptions): Promise<Exit> {
    const child = execa('/bin/sh', ['-c', commandLine], {
      buffer: false,
      reject: false,
      stdin: 'pipe',
      // The child sees the worker's environment only where it needs it: no key or password of the worker leaks into a command.
      extendEnv: false,
      env: {
        PATH: process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin',
        HOME: process.env['HOME'] ?? '/',
        LANG: 'C.UTF-8',
      },
      ...(options.signal ? { cancelSignal: options.signal } : {}),
    });
    child.stdout.on('data', (chunk: Buffer) => options.onStdout?.(chunk));
    child.stderr.on('data', (chunk: Buffer) => options.onStderr?.(chunk));
    // A command that does not read its input to the end is no error.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.stdin ?? '');
    // On an abort the shell is ended, but what it started may hold its output open for as long as a job lasts.
    const result = await Promise.race([child, aborted(options.signal)]);
    options.signal?.throwIfAborted();
    return { code: result.exitCode ?? null, signal: result.signal ?? null };
  },
};

/** Rejects when the signal is aborted; never resolves. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) =>
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
  );
}
