import { describe, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import { TemporalConnectionError } from '../../activities/temporal/connection.js';
import { CommandFailure } from '../../client/command-failure.js';
import { errorBlock } from '../../client/command.js';
import { exitCodeFor, exitCodeTable, explain } from '../../client/exit-codes.js';
import { failure } from '../../workflows/contracts/errors.js';
import { commandExitCodes, endStates } from '../../workflows/contracts/run.js';

describe('exit codes', () => {
  test('the table holds every end of a run and of the command, sorted', () => {
    const names = exitCodeTable().map(({ name }) => name);
    expect(new Set(names)).toEqual(new Set([...Object.keys(endStates), ...Object.keys(commandExitCodes)]));
    const codes = exitCodeTable().map(({ exitCode }) => exitCode);
    expect(codes).toEqual([...codes].sort((a, b) => a - b));
  });

  test.each([
    [new CommandFailure('usage', { message: 'x' }), 2],
    [failure('UnknownSystem', 'there is no system x'), 13],
    [failure('InvalidInventory', 'mistakes'), 3],
    [failure('UnsetValue', 'open'), 3],
    [failure('SecretUnavailable', 'gone'), 3],
    [failure('ObjectStoreUnavailable', 'silent'), 12],
    [failure('HostUnreachable', 'silent'), 12],
    [failure('BackupDamaged', 'bad'), 1],
    [ApplicationFailure.create({ type: 'rolled back', message: 'x' }), 5],
    [new TemporalConnectionError('cannot reach it; start it'), 12],
    [new TypeError('x is not a function'), 70],
    ['a string', 70],
  ])('%s', (error, code) => {
    expect(exitCodeFor(explain(error).reason)).toBe(code);
  });

  test('a prompt left by Ctrl-C started nothing', () => {
    const left = new Error('User force closed the prompt');
    left.name = 'ExitPromptError';
    expect(explain(left)).toMatchObject({
      reason: 'usage',
      message: expect.stringContaining('nothing was started') as unknown,
    });
  });
});

describe('what an error says', () => {
  test('the remedy stands apart and not twice', () => {
    const explained = explain(failure('UnsetValue', 'backup needs a value', { remedy: 'Fill it in' }));
    expect(explained).toMatchObject({ message: 'backup needs a value', remedy: 'Fill it in' });
    expect(errorBlock(explained.message, explained.remedy)).toBe('guardia: backup needs a value\n  -> Fill it in');
  });

  test('further lines are indented', () => {
    expect(errorBlock('two mistakes:\na\nb', undefined)).toBe('guardia: two mistakes:\n  a\n  b');
  });

  test('a mistake in guardia is called one, and a stack is never part of it', () => {
    const error = new TypeError('x is not a function');
    const block = errorBlock(explain(error).message, explain(error).remedy);
    expect(block).toContain('a mistake in guardia');
    expect(block).not.toMatch(/\n\s+at /);
  });
});
