import { PassThrough, Readable } from 'node:stream';
import { main } from '../../client/program.js';
import { createTerminal } from '../../client/terminal.js';

/** Runs a command line in this process; nobody sits at the terminal. */
export async function runMain(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const text = { stdout: '', stderr: '' };
  stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk));
  stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk));
  const exitCode = await main(argv, (options) =>
    createTerminal({ ...options, env, streams: { stdin: Readable.from([]), stdout, stderr } }),
  );
  await new Promise((resolve) => setImmediate(resolve));
  return { exitCode, ...text };
}
