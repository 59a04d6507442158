import { describe, expect, test } from '@jest/globals';
import { Readable } from 'node:stream';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { CommandFailure } from '../../client/command-failure.js';
import {
  composeInput,
  inputFields,
  parseInputText,
  parseSettings,
  readInput,
  type InputPart,
} from '../../client/run-input.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { runInput } from '../../workflows/contracts/run.js';

const { backup } = runbooks;
const said = (values: Record<string, unknown>): InputPart => ({
  values,
  place: (field) => (field === 'system' ? 'SYSTEM' : `--${field}`),
});

function refusal(act: () => unknown): CommandFailure {
  try {
    act();
  } catch (error) {
    if (error instanceof CommandFailure) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('the input of a run', () => {
  test('later parts win; defaults are left to the worker', () => {
    const file = parseInputText('{"system": "proofpass", "reason": "from the file", "acceptAnomaly": true}', 'in.json');
    expect(
      composeInput(backup, [
        file,
        parseSettings(['acceptAnomaly=false'], backup),
        said({ requester: 'ana', reason: undefined }),
      ]),
    ).toEqual({
      system: 'proofpass',
      reason: 'from the file',
      acceptAnomaly: false,
      requester: 'ana',
    });
  });

  test('every wrong field is named, with its place and what is allowed', () => {
    const file = parseInputText('system: proofpass\nacceptAnomali: true\nreason: 7\n', 'in.yaml');
    const { message, reason } = refusal(() => composeInput(backup, [file, parseSettings(['plan=perhaps'], backup)]));
    expect(reason).toBe('usage');
    expect(message).toContain('nothing was started');
    expect(message).toMatch(
      /in\.yaml:2:1: there is no field "acceptAnomali"; did you mean "acceptAnomaly"\? \(allowed: .*acceptAnomaly/,
    );
    expect(message).toMatch(/in\.yaml:3:1: "reason": .*\(allowed: text, at most 2000 characters\)/);
    expect(message).toMatch(/--set plan: "plan": .*\(allowed: true or false\)/);
  });

  test('a missing field is called missing', () => {
    expect(refusal(() => composeInput(backup, [said({})])).message).toContain('"system" is missing (allowed: text');
  });

  test('text stays text, whatever it looks like', () => {
    const runbook = {
      name: 'x',
      input: z.strictObject({ ...runInput, count: z.int().optional(), words: z.array(z.string()).optional() }),
    };
    expect(parseSettings(['reason=12', 'count=12', 'words=["a","b=c"]', 'system=true'], runbook).values).toEqual({
      reason: '12',
      count: 12,
      words: ['a', 'b=c'],
      system: 'true',
    });
  });

  test('--set without a value is refused', () => {
    expect(refusal(() => parseSettings(['acceptAnomaly'], backup)).remedy).toBe('Write --set FIELD=VALUE');
  });

  test.each([
    ['{"system": ', 'in.json:1:'],
    ['a: 1\na: 2\n', 'in.json:2:1: this field stands here twice'],
    ['[1]', 'the input is a list'],
    ['', 'the input is empty'],
    ['text', 'the input is a single value'],
  ])('%j cannot be an input', (text, expected) => {
    expect(refusal(() => parseInputText(text, 'in.json')).message).toContain(expected);
  });

  test('fields are described for people', () => {
    const fields = inputFields(backup);
    expect(fields.find(({ name }) => name === 'system')).toMatchObject({ required: true, allowed: 'text' });
    expect(fields.find(({ name }) => name === 'acceptAnomaly')).toMatchObject({
      required: false,
      fallback: false,
      allowed: 'true or false',
    });
  });
});

describe('--input', () => {
  test('from standard input', async () => {
    expect((await readInput('-', Readable.from(['{"system":', '"proofpass"}']))).values).toEqual({
      system: 'proofpass',
    });
  });

  test('from a file; a missing one and a directory are refused in words', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'guardia-input-'));
    try {
      const file = path.join(directory, 'in.yaml');
      writeFileSync(file, 'system: proofpass\n');
      expect((await readInput(file, Readable.from([]))).values).toEqual({ system: 'proofpass' });
      await expect(readInput(path.join(directory, 'none'), Readable.from([]))).rejects.toThrow('it does not exist');
      await expect(readInput(directory, Readable.from([]))).rejects.toThrow('it is a directory');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
