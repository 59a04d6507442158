import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { explainJobFailure, jobFailureIn, jobFailures } from '../../../activities/object-store/job-failures.js';
import { argumentsOf, secretLines } from '../../../activities/object-store/job-text.js';
import { failure } from '../../../workflows/contracts/errors.js';

const scripts = [
  'object-store/job-frame.sh',
  'object-store/part-upload.sh',
  'object-store/object-download.sh',
  'postgres/server-access.sh',
  'postgres/dump-to-store.sh',
  'postgres/globals-to-store.sh',
  'postgres/verify-artifact.sh',
  'configuration-files/archive-to-store.sh',
].map((file) => readFileSync(new URL(`../../../activities/${file}`, import.meta.url), 'utf8'));

describe('the failures of jobs', () => {
  test('have the same exit status in the scripts', () => {
    const table = /declare -A failure_status=\(([^)]*)\)/.exec(scripts[0] ?? '')?.[1] ?? '';
    const inScript = Object.fromEntries(
      [...table.matchAll(/\[([\w-]+)\]=(\d+)/g)].map(([, code, status]) => [code ?? '', Number(status)]),
    );
    expect(inScript).toEqual(
      Object.fromEntries(Object.entries(jobFailures).map(([code, { status }]) => [code, status])),
    );
    expect(new Set(Object.values(inScript)).size).toBe(Object.keys(inScript).length);
  });

  test('that the scripts raise are all known, and all known ones are raised', () => {
    const raised = new Set(
      scripts.flatMap((text) =>
        [...text.matchAll(/(?:\bfail|put_failed|fail_for_database|code=|echo ["'])\s*([a-z]+(?:-[a-z]+)+)\b/g)].map(
          ([, code]) => code ?? '',
        ),
      ),
    );
    expect([...raised].filter((code) => !Object.hasOwn(jobFailures, code))).toEqual([]);
    expect(Object.keys(jobFailures).filter((code) => !raised.has(code))).toEqual([]);
  });

  test('become a typed failure with place, reason and remedy; the last line counts', () => {
    const output =
      'noise\nguardia:error {"code":"tool-missing","message":"zstd"}\nguardia:error {"code":"path-missing","message":"not found: /etc/x."}\n';
    const explained = explainJobFailure(
      failure('JobFailed', 'ended with code 82', { host: 'app1', output }),
      'the configuration of app1',
    );
    expect(explained).toMatchObject({ type: 'CommandFailed', details: [{ host: 'app1', problem: 'path-missing' }] });
    expect((explained as Error).message).toMatch(
      /^the configuration of app1 on app1: configuration files are missing: not found: \/etc\/x\. Restore them/,
    );
  });

  test('leave everything else as it is', () => {
    for (const error of [
      new Error('x'),
      failure('JobLost', 'x', { output: 'guardia:error {"code":"tool-missing","message":"zstd"}' }),
      failure('JobFailed', 'x', { output: 'Segmentation fault' }),
      failure('JobFailed', 'x', { output: 'guardia:error {"code":"unheard-of","message":""}' }),
      failure('JobFailed', 'x', { output: 'guardia:error {"code":' }),
    ]) {
      expect(explainJobFailure(error, 'it')).toBe(error);
    }
    expect(jobFailureIn('')).toBeUndefined();
  });
});

test('arguments repeat the name of a list and leave out what is not given', () => {
  expect(argumentsOf({ a: 1, list: ['x', 'y=z'], none: undefined, empty: [] })).toEqual(['a=1', 'list=x', 'list=y=z']);
});

test('a secret that cannot be a line is refused by its name', () => {
  expect(secretLines({ a: 'x=y ', b: undefined }).toString()).toBe('a=x=y \n');
  for (const value of ['a\nb', 'a\0b', 'a\r']) {
    expect(() => secretLines({ password: value })).toThrow('the secret password holds a line break or NUL');
  }
});
