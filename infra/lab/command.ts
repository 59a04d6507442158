import { execa } from 'execa';

/** Runs a program of this machine and returns its standard output. Throws with the end of what it printed. */
export async function command(
  argv: readonly [string, ...string[]],
  options: { stdin?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const [program, ...rest] = argv;
  const result = await execa(program, rest, {
    all: true,
    reject: false,
    env: { LC_ALL: 'C.UTF-8', ...options.env },
    ...(options.stdin === undefined ? { stdin: 'ignore' as const } : { input: options.stdin }),
  });
  if (result.failed) {
    const output = (result.all ?? '').trimEnd().split('\n').slice(-30).join('\n');
    throw new Error(`${argv.slice(0, 4).join(' ')} failed (${result.exitCode ?? result.shortMessage}):\n${output}`);
  }
  return result.stdout;
}
