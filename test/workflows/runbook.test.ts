import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { WorkflowFailedError } from '@temporalio/client';
import { failure } from '../../workflows/contracts/errors.js';
import { GuardiaEnd } from '../../workflows/contracts/search-attributes.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { fails, held } from './acts.js';
import { attributesOf, scheduled } from './run-history.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from './scripted-runs.js';
import { smallSystem } from './small-system.js';
import { lane, step, toyPlan } from './toy-plan.js';

jest.setTimeout(30_000);

let runs: ScriptedRuns;
beforeAll(async () => {
  runs = await openScriptedRuns();
}, 120_000);
afterEach(async () => {
  await runs.settle();
}, 30_000);
afterAll(() => runs.close());

/** Whether the run asked for anything to be done: an activity, a local activity, a timer, a child. */
async function askedForAnything(run: ScriptedRun): Promise<boolean> {
  const history = await run.history();
  return (
    ['activityTaskScheduled', 'markerRecorded', 'timerStarted', 'startChildWorkflowExecutionInitiated'] as const
  ).some((kind) => attributesOf(history, `${kind}EventAttributes`).length > 0);
}

describe('bad input fails the run at once, in one sentence that names every wrong field', () => {
  test.each<[string, unknown, string[]]>([
    ['an unknown field', { sistem: 'x' }, ['unknown field "sistem"', '"system" is missing', 'Allowed fields: system,']],
    [
      'everything wrong',
      { system: 'Proof Pass', plan: 'yes', requester: 7, acceptAnomaly: null, force: true },
      ['"system"', 'lower-case letters', '"plan"', '"requester"', '"acceptAnomaly"', 'unknown field "force"'],
    ],
    ['nothing', {}, ['"system" is missing']],
    ['a string', 'proofpass', ['expected object, received string']],
    ['null', null, ['expected object, received null']],
    ['a list', [{ system: 'proofpass' }], ['expected object, received array']],
    ['a path instead of a name', { system: '../../etc/passwd' }, ['"system"']],
  ])('%s', async (_, input, says) => {
    const run = await runs.start({}, { input });
    const { type, message } = await run.failure();
    expect(type).toBe('InvalidInput');
    expect(message).toMatch(/^the input of backup is wrong: /);
    expect(message).toMatch(/Nothing was started$/);
    expect(message).not.toContain('\n');
    for (const part of says) expect(message).toContain(part);
    expect(await askedForAnything(run)).toBe(false);
    expect(attributesOf(await run.history(), 'workflowTaskCompletedEventAttributes')).toHaveLength(1);
  });

  test('no input at all', async () => {
    const handle = await runs.client.workflow.start('backup', {
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowId: 'without-input',
      args: [],
    });
    const error: unknown = await handle.result().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(WorkflowFailedError);
    expect((error as WorkflowFailedError).cause?.message).toContain('expected object, received undefined');
  });
});

describe('a run is refused, and nothing is started', () => {
  const refused = async (run: ScriptedRun) => {
    const { type, message, report } = await run.failure();
    expect(type).toBe('refused');
    expect(message).toMatch(/; nothing was started$/);
    expect(report).toMatchObject({ end: 'refused', message, steps: [] });
    expect((await run.handle.describe()).typedSearchAttributes.get(GuardiaEnd)).toBe('refused');
    expect(run.names().filter((name) => name !== 'look')).toEqual([]);
    expect(attributesOf(await run.history(), 'startChildWorkflowExecutionInitiatedEventAttributes')).toEqual([]);
    return message;
  };

  test('for a system that does not exist', async () => {
    runs.system(smallSystem, 'proofpass');
    const run = await runs.start({}, { system: 'prooofpass' });
    expect(await refused(run)).toMatch(/no system "prooofpass"; did you mean "proofpass"\?.*Systems: .*proofpass/);
  });

  test('for values of the inventory that are not filled in', async () => {
    const run = await runs.start({ needs: ['backup.recipients', 'backup.identity', 'objectStore'] });
    expect(await refused(run)).toMatch(
      /backup needs a value of system .* not filled in yet: backup\.recipients \(its recipients\)/,
    );
  });

  test('for an inventory with mistakes, naming each with file and line', async () => {
    const system = runs.system((name) =>
      smallSystem(name).replace('timezone: UTC', 'timezone: Mars').replace('bucket: backups', 'bucket: B'),
    );
    const message = await refused(await runs.start({}, { system }));
    expect(message).toContain('has 2 mistakes');
    expect(message).toMatch(new RegExp(`${system}.yaml:3.*timezone`));
    expect(message).toMatch(/bucket/);
  });

  test('for a plan that cannot be run', async () => {
    const run = await runs.start({ plan: [lane('app', 'a', 'a')] });
    expect(await refused(run)).toMatch(/step a stands in it twice/);
  });

  test.each([false, true])('for a plan on a host that the system does not have (plan only: %s)', async (plan) => {
    const system = runs.system();
    const run = await runs.start({ plan: [lane('app', 'a'), lane('web', 'b')] }, { system, input: { system, plan } });
    expect(await refused(run)).toMatch(/has no host web \(it has: app, db\)/);
  });
});

describe('looking', () => {
  test('a look that fails ends the run before anything is started', async () => {
    const run = await runs.start({ acts: { look: fails('HostKeyRefused', 'app shows another key') } });
    const { type, message } = await run.failure();
    expect(type).toBe('failed');
    expect(message).toMatch(/app shows another key; nothing was started$/);
    expect(run.names()).toEqual(['look']);
  });

  test('a planner with a mistake ends the run before anything is started', async () => {
    const run = await runs.start({
      plan: () => {
        throw new TypeError('x is not a function');
      },
    });
    const { type, message } = await run.failure();
    expect(type).toBe('failed');
    expect(message).toMatch(/x is not a function; nothing was started$/);
    expect(run.names()).toEqual(['look']);
  });

  test('the planner is told every answer under its name; looks run side by side', async () => {
    const seen: unknown[] = [];
    const look = (as: string, on: string) => ({ as, on, call: { activity: 'observePostgres', with: { of: as } } });
    const one = held();
    const run = await runs.start({
      observe: [look('one', 'app'), look('two', 'db'), look('three', 'system')],
      acts: {
        look: (call) => {
          const { of } = call.input['with'] as { of: string };
          return of === 'one' ? one.act(call) : { was: of };
        },
      },
      plan: (system, observation) => {
        seen.push(observation);
        return toyPlan(system, [lane('app', 'a')]);
      },
    });
    await until(() => run.happened('look').length === 3, 'three looks at once');
    one.release({ was: 'one' });
    await run.report();
    expect(seen[0]).toEqual({ one: { was: 'one' }, two: { was: 'two' }, three: { was: 'three' } });
    expect(scheduled(await run.history()).slice(0, 3)).toEqual(['look at one', 'look at two', 'look at three']);
  });
});

describe('plan: true', () => {
  test('only looks, takes no lock, and returns the plan', async () => {
    const system = runs.system();
    const run = await runs.start({ plan: [lane('app', 'a', 'b')] }, { system, input: { system, plan: true } });
    const report = await run.report();
    expect(report).toMatchObject({
      end: 'planned',
      message: 'the plan has 2 steps; nothing was started',
      plan: { stages: [{ lanes: [{ on: 'app', steps: [{ id: 'a' }, { id: 'b' }] }] }] },
      planDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(report.steps.map(({ state }) => state)).toEqual(['waiting', 'waiting']);
    expect(run.names()).toEqual(['look']);
    expect(attributesOf(await run.history(), 'startChildWorkflowExecutionInitiatedEventAttributes')).toEqual([]);
    expect((await run.handle.describe()).typedSearchAttributes.get(GuardiaEnd)).toBe('planned');
  });

  test('returns the plan that a run without it makes', async () => {
    const system = runs.system();
    const script = { plan: [lane('app', 'a', 'b')] };
    const dry = await (await runs.start(script, { system, input: { system, plan: true } })).report();
    const wet = await (await runs.start(script, { system, input: { system } })).report();
    expect(wet.plan).toEqual(dry.plan);
    expect(wet.planDigest).toBe(dry.planDigest);
  });
});

describe('a plan without steps', () => {
  test('is nothing to do: no lock, no record, its notes say why', async () => {
    const run = await runs.start({ plan: (system) => toyPlan(system, [], { notes: ['all is well', 'really'] }) });
    expect(await run.report()).toMatchObject({ end: 'nothing to do', message: 'all is well; really' });
    expect(run.names()).toEqual(['look']);
  });

  test('also when somebody else did it before the lock was held', async () => {
    let looks = 0;
    const run = await runs.start({
      acts: { look: () => ({ look: Math.min(++looks, 2) }) },
      plan: (system, seen) => {
        const first = (seen as { system: { look: number } }).system.look === 1;
        return toyPlan(system, first ? [lane('app', 'a')] : []);
      },
    });
    expect(await run.report()).toMatchObject({ end: 'nothing to do', steps: [] });
    expect(run.names()).toEqual(['look', 'fence app', 'fence db', 'look', 'leave app', 'leave db']);
    await until(async () => !(await runs.lockIsHeld(run.system)), 'the lock is free');
  });
});

describe('what changes between the plan and the lock', () => {
  test('is planned anew, and the new plan runs', async () => {
    let looks = 0;
    const run = await runs.start({
      acts: { look: () => ({ look: Math.min(++looks, 2) }) },
      plan: (system, seen) =>
        toyPlan(system, [lane('app', `look-${(seen as { system: { look: number } }).system.look}`)]),
    });
    const report = await run.report();
    expect(report.end).toBe('succeeded');
    expect(report.notes).toEqual(['The hosts (seen) changed between the plan and the lock: planned anew.']);
    // While people are asked once more others may work there: the hosts are left like the lock, and taken over again.
    const taken = ['fence app', 'fence db', 'look'];
    expect(run.names()).toEqual([
      ...['look', ...taken, 'leave app', 'leave db', ...taken],
      ...['record plan', 'do look-2', 'record end', 'leave app', 'leave db'],
    ]);
    expect(run.happened('leave app').map(({ input }) => input['again'])).toEqual([true, false]);
    expect(report.plan?.stages[0]?.lanes[0]?.steps[0]?.id).toBe('look-2');
  });

  test('what the plan does not rest on may change', async () => {
    let looks = 0;
    const run = await runs.start({
      acts: { look: () => ({ load: ++looks }) },
      plan: (system) => toyPlan(system, [lane('app', `plan-${looks}`)]),
      facets: () => 'the same',
    });
    // The plan is the one that was made first.
    expect((await run.report()).steps.map(({ id }) => id)).toEqual(['plan-1']);
    expect(run.names()).toContain('do plan-1');
  });

  test('an inventory that was edited meanwhile is planned anew too: the plan rests on it', async () => {
    const system = runs.system();
    const run = await runs.start(
      {
        acts: {
          look: ({ input }) => {
            const { step: at } = input['context'] as { step: string };
            if (at === 'observe') runs.system((name) => smallSystem(name, { bucket: 'other' }), system);
            return {};
          },
        },
        plan: (name, _, __, { objectStore }) =>
          toyPlan(name, [lane('app', step('a', { with: { bucket: JSON.stringify(objectStore.bucket) } }))]),
      },
      { system },
    );
    const report = await run.report();
    expect(report.notes).toEqual(['The inventory changed between the plan and the lock: planned anew.']);
    expect(run.happened('do a')[0]?.input).toMatchObject({ with: { bucket: '"other"' } });
  });

  test('what keeps changing is refused after three new plans, and the lock is free again', async () => {
    let looks = 0;
    const run = await runs.start({ acts: { look: () => ({ look: ++looks }) }, plan: [lane('app', 'a')] });
    const { type, message } = await run.failure();
    expect(type).toBe('refused');
    expect(message).toMatch(
      /keeps changing while the run waits for its lock.*start the run again; nothing was started$/,
    );
    const each = ['fence app', 'fence db', 'look', 'leave app', 'leave db'];
    expect(run.names()).toEqual(['look', ...each, ...each, ...each, ...each]);
    await until(async () => !(await runs.lockIsHeld(run.system)), 'the lock is free');
  });

  test('a look that fails once the lock is held frees it', async () => {
    let looks = 0;
    const run = await runs.start({
      plan: [lane('app', 'a')],
      acts: {
        look: () => {
          if (++looks > 1) throw failure('HostLoginRefused', 'the key was withdrawn');
          return {};
        },
      },
    });
    expect((await run.failure()).message).toMatch(/the key was withdrawn; nothing was started$/);
    expect(run.names().slice(-2)).toEqual(['leave app', 'leave db']);
    await until(async () => !(await runs.lockIsHeld(run.system)), 'the lock is free');
  });
});

test('a plan as large as one may be runs, comes back whole, and its history can be read, also when it was made anew', async () => {
  const content = 'x'.repeat(298_000);
  let looks = 0;
  const run = await runs.start({
    plan: [lane('app', step('a', { with: { content } }), 'b')],
    acts: { look: () => ({ look: Math.min(++looks, 4) }), 'do b': fails() },
  });
  const { report } = await run.failure();
  expect(run.happened('look')).toHaveLength(5);
  expect(report?.plan?.stages[0]?.lanes[0]?.steps[0]?.do.with['content']).toBe(content);
  expect(run.happened('record end')).toHaveLength(1);
});
