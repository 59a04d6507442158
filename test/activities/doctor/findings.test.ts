import { describe, expect, test } from '@jest/globals';
import { atLeast, installLine, isHealthy, packagesOf, type Finding } from '../../../activities/doctor/findings.js';

const finding = (state: Finding['state'], packages?: string[]): Finding => ({
  id: 'x',
  title: 'x',
  state,
  found: '',
  ...(packages ? { packages } : {}),
});

test.each([
  ['7.88.1', '7.88', true],
  ['7.9', '7.88', false],
  ['8', '7.88', true],
  ['20.19.0', '20.19.0', true],
  ['20.19', '20.19.1', false],
  ['1.1.1', '1.1', true],
])('%s is at least %s: %s', (version, least, expected) => {
  expect(atLeast(version, least)).toBe(expected);
});

describe('packages', () => {
  test('each once, only of what is not there', () => {
    expect(
      packagesOf([finding('missing', ['age', 'zstd']), finding('ok', ['curl']), finding('missing', ['zstd'])]),
    ).toEqual(['age', 'zstd']);
  });

  test('the line is typed where guardia runs', () => {
    expect(installLine([])).toBeUndefined();
    expect(installLine(['age', 'zstd'], { user: 'guardia', address: 'app.example', port: 22 })).toBe(
      "ssh guardia@app.example 'sudo apt-get update && sudo apt-get install -y age zstd'",
    );
    expect(installLine(['age'], { user: 'root', address: '10.0.0.1', port: 2222 })).toBe(
      "ssh -p 2222 root@10.0.0.1 'apt-get update && apt-get install -y age'",
    );
  });
});

test('only what is required and missing makes ill', () => {
  expect(isHealthy([{ about: 'x', findings: [finding('ok'), finding('warning'), finding('skipped')] }])).toBe(true);
  expect(isHealthy([{ about: 'x', findings: [finding('ok'), finding('missing')] }])).toBe(false);
});
