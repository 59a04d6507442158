import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { scrubbed } from '../../workers/activity-interceptor.js';
import { failure } from '../../workflows/contracts/errors.js';
import { openScriptedRuns, type ScriptedRuns } from './scripted-runs.js';
import { lane } from './toy-plan.js';

jest.setTimeout(30_000);

const SECRET = 'correct-horse-battery';
const scrub = (text: string) => text.replaceAll(SECRET, '[secret]');

describe('a failure that leaves an activity', () => {
  test('says the same without secrets, however deep they lie', () => {
    const error = scrubbed(
      failure('JobFailed', `psql postgres://u:${SECRET}@db failed`, {
        host: 'app',
        output: `PGPASSWORD=${SECRET}`,
        more: [{ deep: `${SECRET}!`, count: 3, none: null }],
      }),
      scrub,
    ) as ApplicationFailure;
    expect(error.type).toBe('JobFailed');
    expect(error.nonRetryable).toBe(true);
    expect(error.message).toBe('psql postgres://u:[secret]@db failed');
    expect(error.details).toEqual([
      { host: 'app', output: 'PGPASSWORD=[secret]', more: [{ deep: '[secret]!', count: 3, none: null }] },
    ]);
  });

  test('keeps what Temporal goes by, and loses cause and stack, which may hold anything', () => {
    const made = scrubbed(
      ApplicationFailure.create({
        message: 'later',
        type: 'HostUnreachable',
        cause: new Error(SECRET),
      }),
      scrub,
    ) as ApplicationFailure;
    expect(made).toMatchObject({ type: 'HostUnreachable', nonRetryable: false });
    expect(made.cause).toBeUndefined();
    expect(made.stack).not.toContain(SECRET);
  });

  test.each([
    ['an error of a library', new RangeError(`bad ${SECRET}`), 'RangeError', 'bad [secret]'],
    ['something that is no error', `text ${SECRET}`, 'Error', 'text [secret]'],
  ])('%s becomes one that can be tried again', (_, thrown, type, message) => {
    expect(scrubbed(thrown, scrub)).toMatchObject({ type, message, nonRetryable: false });
  });

  test('a cancel stays a cancel', () => {
    const cancel = new CancelledFailure('stop');
    expect(scrubbed(cancel, scrub)).toBe(cancel);
  });
});

describe('in a real run', () => {
  let runs: ScriptedRuns;
  beforeAll(async () => {
    runs = await openScriptedRuns({ scrub });
  }, 120_000);
  afterEach(async () => {
    await runs.settle();
  }, 30_000);
  afterAll(() => runs.close());

  test('no failed attempt, of an activity or of the planner, carries a secret into the history, the status or the record', async () => {
    const leak = (): never => {
      throw new Error(`with ${SECRET}`, { cause: new Error(SECRET) });
    };
    const run = await runs.start({
      plan: [lane('app', 'a', 'b')],
      acts: {
        'do a': ({ attempt }) => (attempt === 1 ? leak() : {}),
        'do b': () => {
          throw failure('CommandFailed', `b said ${SECRET}`, { output: SECRET });
        },
        'undo a': () => {
          throw failure('CommandFailed', `undo said ${SECRET}`);
        },
      },
    });
    const { message } = await run.failure();
    expect(message).toContain('b said [secret]');
    const planless = await runs.start({ plan: leak });
    expect((await planless.failure()).message).toContain('with [secret]');
    for (const each of [run, planless]) {
      const text = historyToJSON(await each.history());
      const decoded = text.replaceAll(/"data": ?"([A-Za-z0-9+/=]+)"/g, (_, data: string) =>
        Buffer.from(data, 'base64').toString(),
      );
      expect(decoded).toContain('[secret]');
      expect(decoded).not.toContain(SECRET);
      expect(JSON.stringify([await each.status(), await each.details(), each.log])).not.toContain(SECRET);
    }
  });
});
