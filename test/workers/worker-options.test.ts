import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { logLine, SHUTDOWN_FORCE_SECONDS, SHUTDOWN_GRACE_SECONDS } from '../../workers/worker-options.js';

const time = new Date('2026-11-22T08:00:00.000Z');

describe('a log line', () => {
  test('reads time, level, message, attributes', () => {
    expect(
      logLine(time, 'WARN', 'Activity failed', {
        workflowId: 'backup/proofpass/1',
        attempt: 2,
        reason: 'no route to host',
      }),
    ).toBe(
      '2026-11-22T08:00:00.000Z WARN  Activity failed workflowId=backup/proofpass/1 attempt=2 reason="no route to host"',
    );
  });

  test("leaves out the SDK's own, and what is absent", () => {
    expect(logLine(time, 'INFO', 'x', { sdkComponent: 'worker', taskToken: 'AAA', runId: undefined, empty: '' })).toBe(
      '2026-11-22T08:00:00.000Z INFO  x',
    );
  });

  test('keeps the stack of an error, on the same line', () => {
    const error = new TypeError('first\nsecond');
    const line = logLine(time, 'ERROR', 'bug', { error });
    expect(line).toContain('error="TypeError: first\\nsecond');
    expect(line).toContain('worker-options.test.ts');
    expect(line.split('\n')).toHaveLength(1);
  });

  test('is one line whatever is logged', () => {
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    const anyText = fc.string({ unit: 'binary' });
    const values = fc.oneof(fc.anything({ withBigInt: true, withDate: true }), fc.constant(loop), fc.string());
    fc.assert(
      fc.property(anyText, fc.dictionary(anyText, values), (message, attributes) => {
        expect(logLine(time, 'INFO', message, attributes)).not.toMatch(/[\n\r\u2028\u2029]/);
      }),
    );
  });
});

test('a stopping worker gives up later than its grace ends', () => {
  expect(SHUTDOWN_FORCE_SECONDS).toBeGreaterThan(SHUTDOWN_GRACE_SECONDS);
});
