import { spawn } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';
import { compiled } from '../../infra/temporal/server-executable.js';

export const ESCAPE = '\u001b';
export const DOWN = `${ESCAPE}[B`;

/** `before`: what happens while the question stands there. */
export type Answer = [question: string, keys: string, before?: () => Promise<unknown>];

/**
 * The built command on a terminal, which `script` (util-linux) makes. Types each answer once the question before it is there. Resolves with all
 * that was shown, and the exit code.
 */
export function typedCommand(
  argv: readonly string[],
  answers: readonly Answer[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ shown: string; raw: string; exitCode: number | null }> {
  const line = `stty cols 120 rows 40; exec ${process.execPath} ${compiled('client/main.js')} ${argv.join(' ')}`;
  const child = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
    env: { PATH: process.env['PATH'], TERM: 'xterm', ...env },
  });
  let raw = '';
  let answered = 0;
  const left = [...answers];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    raw += text;
    const next = left[0];
    // Behind the last answer: a question may be asked twice.
    const at = next === undefined ? -1 : stripVTControlCharacters(raw.slice(answered)).indexOf(next[0]);
    if (next === undefined || at < 0) return;
    left.shift();
    answered = raw.length;
    const [, keys, before = () => Promise.resolve()] = next;
    // The prompt listens a moment after it is shown.
    setTimeout(() => void before().finally(() => child.stdin.write(keys)), 300);
  });
  return new Promise((resolve) =>
    child.once('close', (exitCode) => resolve({ shown: stripVTControlCharacters(raw), raw, exitCode })),
  );
}
