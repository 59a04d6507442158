import { describe, expect, test } from '@jest/globals';
import type { Plan } from '../../workflows/contracts/plan.js';
import { isFailure } from '../../workflows/contracts/errors.js';
import { checkPlan } from '../../workflows/lib/check-plan.js';
import { resolveReferences } from '../../workflows/lib/calls.js';
import { lane, stage, step, toyPlan } from './toy-plan.js';

const plan = (...parts: Parameters<typeof toyPlan>[1]): Plan => toyPlan('proofpass', parts);
const from = (id: string, path = 'id') => ({ with: { id: { from: id, path } } });

/** What checkPlan has against a plan; undefined when it passes. */
function mistakes(candidate: unknown): string | undefined {
  try {
    expect(checkPlan(candidate as Plan)).toBe(candidate);
    return undefined;
  } catch (error) {
    if (!isFailure(error, 'InvalidPlan')) throw error;
    expect(error.nonRetryable).toBe(true);
    return error.message;
  }
}

describe('a plan that passes', () => {
  test.each<[string, Plan]>([
    ['no stages', plan()],
    ['a reference to an earlier step of the lane', plan(lane('app', 'a', step('b', from('a'))))],
    ['a reference to another lane of an earlier stage', plan(lane('app', 'a'), lane('db', step('b', from('a', ''))))],
    ['references deep in an argument', plan(lane('app', 'a', step('b', { with: { list: [[from('a').with]] } })))],
    ['a verification that reads the result of its own step', plan(lane('app', step('a', { verify: from('a').with })))],
    ['a point of no return', toyPlan('proofpass', [lane('app', 'a', 'b')], { pointOfNoReturn: 'a' })],
    [
      'data that only looks a little like a reference',
      plan(lane('app', step('a', { with: { from: 'z', path: 'y', more: 1 } }))),
    ],
  ])('%s', (_, candidate) => expect(mistakes(candidate)).toBeUndefined());
});

describe('a plan that is refused', () => {
  test.each<[string, unknown, RegExp]>([
    ['a step twice', plan(lane('app', 'a', 'b'), lane('db', 'a')), /step a stands in it twice/],
    [
      'a call that does not exist',
      plan(lane('app', { ...step('a'), do: { activity: 'rm', with: {} } })),
      /step a calls rm, which does not exist/,
    ],
    [
      'a call named like a method of objects',
      plan(lane('app', { ...step('a'), do: { activity: 'toString', with: {} } })),
      /calls toString/,
    ],
    [
      'an undo that does not exist',
      plan(lane('app', { ...step('a'), undo: { activity: 'unrm', with: {} } })),
      /step a calls unrm/,
    ],
    [
      'a verification that does not exist',
      plan(lane('app', { ...step('a'), verify: { activity: 'see', with: {} } })),
      /step a calls see/,
    ],
    [
      'a reference to a step that is not there',
      plan(lane('app', step('a', from('z')))),
      /step a needs a result of z, which does not run before it/,
    ],
    ['a reference to itself', plan(lane('app', step('a', from('a')))), /needs a result of a/],
    ['a reference to a later step', plan(lane('app', step('a', from('b')), 'b')), /needs a result of b/],
    [
      'a reference to a lane beside it',
      plan(stage([lane('app', 'a'), lane('db', step('b', from('a')))])),
      /needs a result of a/,
    ],
    [
      'an undo that needs a result',
      plan(lane('app', 'z', { ...step('a'), undo: { activity: 'withdrawManifest', with: from('z').with } })),
      /the undo of a needs a result of z/,
    ],
    [
      'a point of no return that is no step',
      toyPlan('proofpass', [lane('app', 'a')], { pointOfNoReturn: 'z' }),
      /the point of no return z is no step of it/,
    ],
    [
      'a point of no return beside other lanes: what they did would stand half done',
      toyPlan('proofpass', [stage([lane('app', 'a'), lane('db', 'b')])], { pointOfNoReturn: 'a' }),
      /the point of no return a has other lanes beside it/,
    ],
    [
      'too many steps',
      plan(lane('app', ...Array.from({ length: 1001 }, (_, n) => `s${n}`))),
      /it has 1001 steps, at most 1000 fit one run/,
    ],
    [
      'more than a run can carry',
      plan(lane('app', step('a', { with: { content: 'x'.repeat(310_000) } }))),
      /it has 310\d\d\d bytes, at most 300000 fit one run/,
    ],
    [
      'the wrong shape',
      { ...plan(lane('app', 'a')), format: 2, stages: [{ title: 'x', atOnce: 0, errorBudget: 0, lanes: [] }] },
      /wrong shape: .*format.*stages\.0\.atOnce.*stages\.0\.lanes/,
    ],
    [
      'something that is no JSON',
      plan(lane('app', step('a', { with: { at: new Date() as never } }))),
      /wrong shape: stages\.0\.lanes\.0\.steps\.0\.do\.with\.at/,
    ],
    ['fields that nobody knows', { ...plan(), when: 'now' }, /wrong shape/],
    ['nothing', undefined, /wrong shape/],
  ])('%s', (_, candidate, says) => expect(mistakes(candidate)).toMatch(says));

  test('every mistake is named at once', () => {
    const said = mistakes(
      toyPlan('proofpass', [lane('app', 'a', 'a', step('b', from('z')))], { pointOfNoReturn: 'q' }),
    );
    expect(said).toMatch(/^the plan of backup for proofpass is wrong: /);
    for (const part of [/step a .*twice/, /needs a result of z/, /no return q/]) expect(said).toMatch(part);
  });
});

describe('references', () => {
  const results = new Map<string, unknown>([['a', { id: 7, list: [{ x: 1 }], none: null, text: '' }]]);

  test.each([
    ['a whole result', { from: 'a', path: '' }, results.get('a')],
    ['a member', { from: 'a', path: 'id' }, 7],
    ['an element', { from: 'a', path: 'list.0.x' }, 1],
    ['null is a value', { from: 'a', path: 'none' }, null],
    ['so is empty text', { from: 'a', path: 'text' }, ''],
    ['anywhere in an argument', { k: [1, { from: 'a', path: 'id' }] }, { k: [1, 7] }],
    [
      'what is no reference stays',
      { from: 'a', path: 'id', more: 1, at: null },
      { from: 'a', path: 'id', more: 1, at: null },
    ],
  ])('%s', (_, value, expected) => expect(resolveReferences(value, results)).toEqual(expected));

  test.each([
    [{ from: 'z', path: 'id' }, 'step z gave no id'],
    [{ from: 'a', path: 'id.deep' }, 'step a gave no id.deep'],
    [{ from: 'a', path: 'none.deep' }, 'step a gave no none.deep'],
  ])('%j is refused with its name', (value, says) => {
    expect(() => resolveReferences(value, results)).toThrow(says);
  });
});
