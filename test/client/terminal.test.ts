import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { compiled } from '../../infra/temporal/server-executable.js';
import { smallSystem } from '../workflows/small-system.js';

jest.setTimeout(60_000);

/** The command on a terminal: `script` (util-linux) makes one. */
describe('on a terminal', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'guardia-terminal-'));
    mkdirSync(path.join(directory, 'systems'));
    for (const name of ['one', 'two'])
      writeFileSync(path.join(directory, 'systems', `${name}.yaml`), smallSystem(name));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** Types each answer once the question before it is there. Resolves with all that was shown, and the exit code. */
  function typed(
    argv: string[],
    answers: [question: string, keys: string][],
    env: Record<string, string> = {},
  ): Promise<{ shown: string; raw: string; exitCode: number | null }> {
    const line = `stty cols 120 rows 40; exec ${process.execPath} ${compiled('client/main.js')} ${argv.join(' ')}`;
    const child = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
      env: {
        PATH: process.env['PATH'],
        HOME: directory,
        TERM: 'xterm',
        GUARDIA_SYSTEMS: path.join(directory, 'systems'),
        GUARDIA_STATE: path.join(directory, 'state'),
        TEMPORAL_ADDRESS: '127.0.0.1:1',
        ...env,
      },
    });
    let raw = '';
    const left = [...answers];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      raw += text;
      const next = left[0];
      if (next === undefined || !stripVTControlCharacters(raw).includes(next[0])) return;
      left.shift();
      // The prompt listens a moment after it is shown.
      setTimeout(() => child.stdin.write(next[1]), 300);
    });
    return new Promise((resolve) =>
      child.once('close', (exitCode) => resolve({ shown: stripVTControlCharacters(raw), raw, exitCode })),
    );
  }

  const ESCAPE = '\u001b';
  const DOWN = `${ESCAPE}[B`;

  test('run asks what is missing', async () => {
    const { shown, exitCode } = await typed(
      ['run'],
      [
        ['What is to be done?', '\r'],
        ['On which system?', `${DOWN}\r`],
      ],
    );
    expect(shown).toMatch(/On which system\? two/);
    // It came as far as Temporal, which is not there.
    expect(shown).toContain('cannot reach Temporal at 127.0.0.1:1');
    expect(exitCode).toBe(12);
  });

  test('Ctrl-C at a question starts nothing', async () => {
    const { shown, exitCode } = await typed(['run'], [['What is to be done?', '\u0003']]);
    expect(shown).toContain('nothing was started');
    expect(exitCode).toBe(2);
  });

  test('colours are for terminals, and not with NO_COLOR', async () => {
    const colour = new RegExp(`${ESCAPE}\\[\\d+m`);
    expect((await typed(['systems'], [])).raw).toMatch(colour);
    expect((await typed(['systems'], [], { NO_COLOR: '1' })).raw).not.toMatch(colour);
    expect((await typed(['systems', '--json'], [])).raw).not.toMatch(colour);
  });
});
