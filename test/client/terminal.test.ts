import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { smallSystem } from '../workflows/small-system.js';
import { DOWN, ESCAPE, typedCommand, type Answer } from './typed-command.js';

jest.setTimeout(60_000);

describe('on a terminal', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'guardia-terminal-'));
    mkdirSync(path.join(directory, 'systems'));
    for (const name of ['one', 'two'])
      writeFileSync(path.join(directory, 'systems', `${name}.yaml`), smallSystem(name));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const typed = (argv: string[], answers: Answer[], env: Record<string, string> = {}) =>
    typedCommand(argv, answers, {
      HOME: directory,
      GUARDIA_SYSTEMS: path.join(directory, 'systems'),
      GUARDIA_STATE: path.join(directory, 'state'),
      TEMPORAL_ADDRESS: '127.0.0.1:1',
      ...env,
    });

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
