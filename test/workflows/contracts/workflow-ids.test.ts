import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { searchAttributes } from '../../../workflows/contracts/search-attributes.js';
import { DEFAULT_SITE, taskQueueOfSite, WORKFLOW_TASK_QUEUE } from '../../../workflows/contracts/task-queues.js';
import {
  lockWorkflowId,
  parseLockWorkflowId,
  parseRunWorkflowId,
  runWorkflowId,
} from '../../../workflows/contracts/workflow-ids.js';

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,39}$/);
const runbook = name.filter((value) => value !== 'lock');
const lockable = fc.record({ system: name, host: name }, { requiredKeys: ['system'] });
const suffix = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,119}$/);

describe('workflow ids', () => {
  test('what is put together is read back', () => {
    fc.assert(
      fc.property(runbook, name, suffix, (runbook, system, suffix) => {
        expect(parseRunWorkflowId(runWorkflowId(runbook, system, suffix))).toEqual({ runbook, system, suffix });
      }),
    );
    fc.assert(fc.property(lockable, (what) => expect(parseLockWorkflowId(lockWorkflowId(what))).toEqual(what)));
  });

  test('one kind is never taken for the other, and any text is read without an error', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          lockable.map(lockWorkflowId),
          fc.tuple(runbook, name, suffix).map((parts) => runWorkflowId(...parts)),
        ),
        (id) => {
          const run = parseRunWorkflowId(id);
          const lock = parseLockWorkflowId(id);
          expect(run !== undefined && lock !== undefined).toBe(false);
          if (run !== undefined) expect(runWorkflowId(run.runbook, run.system, run.suffix)).toBe(id);
          if (lock !== undefined) expect(lockWorkflowId(lock)).toBe(id);
        },
      ),
    );
  });

  test('an id of a schedule, which appends the time, is read', () => {
    expect(parseRunWorkflowId('backup/proofpass/nightly-2026-11-22T02:00:00Z')).toEqual({
      runbook: 'backup',
      system: 'proofpass',
      suffix: 'nightly-2026-11-22T02:00:00Z',
    });
  });

  test.each([
    ['', 'proofpass', '1'],
    ['lock', 'proofpass', '1'],
    ['backup', 'Proof/pass', '1'],
    ['backup', 'proofpass', ''],
    ['backup', 'proofpass', 'a/b'],
    ['backup', 'proofpass', '../x'],
  ])('%j, %j, %j are refused', (runbook, system, suffix) => {
    expect(() => runWorkflowId(runbook, system, suffix)).toThrow(TypeError);
  });

  test.each(['', 'a b', 'a/b', 'A'])('%j is no system to lock', (system) => {
    expect(() => lockWorkflowId({ system })).toThrow(TypeError);
  });
});

describe('task queues', () => {
  test('a site has its own, and none is the one of the workflows', () => {
    expect(taskQueueOfSite(DEFAULT_SITE)).toBe('guardia-main');
    expect(taskQueueOfSite('clinic')).toBe('guardia-clinic');
    fc.assert(fc.property(name, (site) => expect(taskQueueOfSite(site)).not.toBe(WORKFLOW_TASK_QUEUE)));
  });

  test.each(['', 'Main', 'a b', '-a'])('%j is no site', (site) => {
    expect(() => taskQueueOfSite(site)).toThrow(TypeError);
  });
});

describe('search attributes', () => {
  test('are named once, and are few enough for a development server', () => {
    const names = searchAttributes.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => name.startsWith('Guardia'))).toBe(true);
    expect(searchAttributes.filter(({ type }) => type === 'KEYWORD').length).toBeLessThanOrEqual(10);
    expect(searchAttributes.filter(({ type }) => type === 'KEYWORD_LIST').length).toBeLessThanOrEqual(3);
  });
});
