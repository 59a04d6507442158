import { describe, expect, test } from '@jest/globals';
import { lookAtRun } from '../../client/run-observer.js';
import type { TemporalAccess } from '../../client/temporal-access.js';
import { status } from './sample-run.js';

const secondsAgo = (seconds: number) => ({ seconds: Math.floor(Date.now() / 1000) - seconds });
const activity = (change: object) => ({ activityType: { name: 'dumpDatabase' }, state: 1, attempt: 1, ...change });

interface Seen {
  pendingActivities?: object[];
  /** What the question for its status ends with; without it the run answers. */
  error?: Error;
  /** Task queues that a worker asks for tasks of. */
  served: string[];
}

/** A Temporal with one open run, as far as a look at it asks. */
function temporalWith({ pendingActivities = [], error, served }: Seen): TemporalAccess {
  const handle = {
    describe: () =>
      Promise.resolve({
        ...{ workflowId: 'backup/proofpass/one', runId: 'r', type: 'backup', startTime: new Date(), historyLength: 7 },
        ...{ status: { name: 'RUNNING' }, typedSearchAttributes: { get: () => undefined }, raw: { pendingActivities } },
      }),
    query: () => (error === undefined ? Promise.resolve(status()) : Promise.reject(error)),
  };
  const client = {
    options: { loadedDataConverter: { payloadCodecs: [] } },
    withDeadline: (_: number, call: () => Promise<unknown>) => call(),
    workflow: { getHandle: () => handle },
    workflowService: {
      describeTaskQueue: ({ taskQueue }: { taskQueue: { name: string } }) =>
        Promise.resolve({
          pollers: served.includes(taskQueue.name) ? [{ identity: 'w', lastAccessTime: secondsAgo(1) }] : [],
        }),
    },
  };
  return { client, target: { namespace: 'default', address: 'a:1' }, webUi: undefined } as unknown as TemporalAccess;
}

const troubleOf = async (seen: Seen) =>
  (await lookAtRun(temporalWith(seen), { workflowId: 'backup/proofpass/one' })).trouble?.message;

describe('who follows a run reads that no worker is there', () => {
  test('for the site that its work waits for', async () => {
    const waits = activity({
      scheduledTime: secondsAgo(10),
      activityOptions: { taskQueue: { name: 'guardia-branch' } },
    });
    const served = ['guardia', 'guardia-main'];
    expect(await troubleOf({ pendingActivities: [waits], served })).toMatch(
      /^no worker asks for tasks of guardia-branch: /,
    );
    expect(await troubleOf({ pendingActivities: [waits], served: [...served, 'guardia-branch'] })).toBeUndefined();
    // It waits for a second only, or is under way.
    const taken = [activity({ ...waits, scheduledTime: secondsAgo(1) }), activity({ ...waits, state: 2 })];
    expect(await troubleOf({ pendingActivities: taken, served })).toBeUndefined();
  });

  test('when the worker died in the middle of the work, which is then tried again', async () => {
    const again = activity({ attempt: 2, scheduledTime: secondsAgo(10) });
    expect(await troubleOf({ pendingActivities: [again], served: [] })).toMatch(
      /^no worker asks for tasks of guardia and guardia-main: /,
    );
  });

  test('when Temporal does not pass questions on any more, because nobody was there for long', async () => {
    const error = Object.assign(new Error('9 FAILED_PRECONDITION: no poller'), { code: 9, details: 'no poller' });
    expect(await troubleOf({ error, served: [] })).toMatch(/^no worker asks for tasks of guardia and guardia-main: /);
    // The run is parked, or of a kind that knows no such question: somebody is there.
    expect(await troubleOf({ error, served: ['guardia', 'guardia-main'] })).toBeUndefined();
    expect(await troubleOf({ error: Object.assign(new Error('unknown'), { code: 3 }), served: [] })).toBeUndefined();
  });
});
