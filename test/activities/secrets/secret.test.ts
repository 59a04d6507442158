import { describe, expect, test } from '@jest/globals';
import { ApplicationFailure, defaultPayloadConverter } from '@temporalio/common';
import { format, inspect } from 'node:util';
import { serialize } from 'node:v8';
import { Secret } from '../../../activities/secrets/secret.js';

const value = 'correct-horse-battery-staple';
const secret = new Secret('file:s3/secret', value);

describe('Secret', () => {
  test('reveals its value on request only', () => {
    expect(secret.reveal()).toBe(value);
    expect(secret.name).toBe('file:s3/secret');
  });

  test.each([
    ['template', () => `${secret as unknown as string}`],
    ['concatenation', () => '' + (secret as unknown as string)],
    ['String', () => String(secret)],
    ['join', () => [secret].join()],
    ['inspect', () => inspect(secret)],
    ['inspect, hidden fields too', () => inspect({ deep: [secret] }, { showHidden: true, depth: 9 })],
    ['format', () => format('%s %o %O', secret, secret, { secret })],
    ['error message', () => new Error(`failed with ${String(secret)}`).stack ?? ''],
  ])('%s shows its name', (_, show) => {
    expect(show()).toContain('[secret file:s3/secret]');
    expect(show()).not.toContain(value);
  });

  test.each([
    ['JSON', () => JSON.stringify({ deep: [secret] })],
    ['a payload of the history', () => defaultPayloadConverter.toPayload({ secret })],
    [
      'details of a failure that are stored',
      () => defaultPayloadConverter.toPayload(ApplicationFailure.create({ details: [secret] }).details),
    ],
  ])('refuses to become %s', (_, store) => {
    expect(store).toThrow(/cannot become JSON: hand on its reference|Unable to convert .* to payload/);
  });

  test.each([
    ['its keys', () => JSON.stringify(Reflect.ownKeys(secret))],
    ['a copy', () => JSON.stringify({ ...secret })],
    ['Object.assign', () => inspect(Object.assign({}, secret), { showHidden: true })],
    ['structuredClone', () => inspect(structuredClone(secret), { showHidden: true })],
    ['v8.serialize', () => serialize(secret).toString('latin1')],
  ])('%s does not hold the value', (_, copy) => {
    expect(copy()).not.toContain(value);
  });

  test('cannot be changed', () => {
    expect(() => Object.assign(secret, { reveal: () => 'other' })).toThrow(TypeError);
  });
});
