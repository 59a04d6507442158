import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import { defaultPayloadConverter } from '@temporalio/common';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { z } from 'zod';
import { BackupInput } from '../../workflows/contracts/backup.js';
import { CallContext } from '../../workflows/contracts/calls.js';
import { Plan, stepsOf } from '../../workflows/contracts/plan.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { System } from '../../workflows/contracts/system.js';
import { checkPlan } from '../../workflows/lib/check-plan.js';
import { doctoredBundle } from '../workflows/doctored-bundle.js';
import { attributesOf, replay, unnamed, type History } from '../workflows/run-history.js';

jest.setTimeout(60_000);

const directory = path.join(import.meta.dirname, 'histories');
const names = readdirSync(directory)
  .filter((name) => name.endsWith('.json'))
  .map((name) => path.basename(name, '.json'));
const recorded = (name: string): History =>
  historyFromJSON(JSON.parse(readFileSync(path.join(directory, `${name}.json`), 'utf8')));

beforeAll(() => {
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } },
  });
});

/** Everything that a history holds as JSON: arguments, results, and what local activities answered. */
function values(history: History): unknown[] {
  const found: unknown[] = [];
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return;
    const payload = value as { metadata?: { encoding?: Uint8Array }; data?: Uint8Array };
    if (payload.metadata?.encoding && payload.data) {
      if (Buffer.from(payload.metadata.encoding).toString() === 'json/plain')
        found.push(defaultPayloadConverter.fromPayload(payload));
    } else Object.values(value).forEach(walk);
  };
  walk(history);
  return found;
}

/** What lies under a name anywhere in these values. */
function under(name: string, inside: unknown): unknown[] {
  if (typeof inside !== 'object' || inside === null) return [];
  return Object.entries(inside).flatMap(([key, value]: [string, unknown]): unknown[] => [
    ...(key === name ? [value] : []),
    ...under(name, value),
  ]);
}

/** Schemas only widen: what an earlier version wrote is read by this one. */
function fits(schema: z.ZodType, value: unknown): void {
  const { error } = schema.safeParse(value);
  expect(error?.issues ?? []).toEqual([]);
}

const isFields = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

describe('a run of an earlier version goes on under this one', () => {
  test('of every kind of run there is a recording', () => {
    for (const kind of [
      'succeeded',
      'planned',
      'rolled-back',
      'rollback-incomplete',
      'cancelled',
      'bad-input',
      'lock',
      'backup',
      'open-waiting-for-the-lock',
      'open-in-a-step',
      'open-undoing',
    ])
      expect(names).toContain(kind);
  });

  test.each(names)('%s: replays', async (name) => {
    expect(await replay([{ workflowId: name, history: recorded(name) }])).toEqual([]);
  });

  test.each(names.filter((name) => name.startsWith('open-')))('%s: is really open', (name) => {
    const last = recorded(name).events?.at(-1);
    expect(last?.workflowExecutionCompletedEventAttributes ?? last?.workflowExecutionFailedEventAttributes).toBeFalsy();
    expect(last?.workflowExecutionCanceledEventAttributes).toBeFalsy();
  });

  test.each(names.filter((name) => !name.includes('lock') && name !== 'bad-input'))(
    '%s: what was recorded fits the schemas',
    (name) => {
      const all = values(recorded(name));
      const plans = under('plan', all).filter((plan) => isFields(plan) && 'stages' in plan);
      expect(plans.length).toBeGreaterThan(0);
      for (const plan of plans) {
        fits(Plan, plan);
        expect(checkPlan(plan as Plan)).toBe(plan);
        expect(stepsOf(plan as Plan).length).toBeGreaterThan(0);
      }
      for (const context of under('context', all)) fits(CallContext, context);
      // Notices get only the part of the system that says how to send them.
      for (const system of under('system', all).filter((each) => isFields(each) && 'hosts' in each))
        fits(System, system);
      for (const report of [...under('report', all), ...all.filter((value) => isFields(value) && 'steps' in value)])
        fits(RunReport, report);
      const [started] = attributesOf(recorded(name), 'workflowExecutionStartedEventAttributes');
      for (const payload of started?.attributes.input?.payloads ?? [])
        fits(BackupInput, defaultPayloadConverter.fromPayload(payload));
    },
  );

  test.each(names)('%s: says of every activity, timer and child what it is for', (name) => {
    expect(unnamed(recorded(name))).toEqual([]);
  });
});

describe('the replay notices', () => {
  const history = () => recorded('succeeded');
  const replayed = async (changed: History, bundle?: string) =>
    (await replay([{ workflowId: 'changed', history: changed }], bundle)).join('\n');

  test('a version that does things in another order', async () => {
    const other = doctoredBundle({
      'await takeOver(before.plan);': "await record('plan'); await takeOver(before.plan);",
    });
    expect(await replayed(history(), other)).toMatch(/TMPRL1100|[Nn]ondeterminism/);
  });

  test('a version that leaves something out', async () => {
    expect(await replayed(history(), doctoredBundle({ "await record('plan');": '' }))).toMatch(
      /TMPRL1100|[Nn]ondeterminism/,
    );
  });

  test('a version that breaks on what was recorded', async () => {
    const broken = doctoredBundle({
      'async function applyStep(run, stage, lane, step) {':
        "async function applyStep(run, stage, lane, step) { if (step.id === 'b') undefined.mistake;",
    });
    expect(await replayed(history(), broken)).toContain("reading 'mistake'");
  });

  test('a history whose activities come in another order', async () => {
    const changed = history();
    const [first, second] = attributesOf(changed, 'activityTaskScheduledEventAttributes')
      .map(({ attributes }) => attributes)
      .filter(({ activityType }) => ['raiseFence', 'recordRun'].includes(activityType?.name ?? ''))
      .slice(1, 3);
    if (!first || !second) throw new Error('there are no two');
    expect(first.activityType?.name).not.toBe(second.activityType?.name);
    [first.activityType, second.activityType] = [second.activityType ?? null, first.activityType ?? null];
    expect(await replayed(changed)).toMatch(/TMPRL1100|[Nn]ondeterminism/);
  });

  test('and, so that this means something, nothing in the same history as it is', async () => {
    expect(await replayed(history())).toBe('');
  });
});
