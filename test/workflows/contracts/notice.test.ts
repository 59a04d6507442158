import { describe, expect, test } from '@jest/globals';
import { endNotice, Notice, notice, waitNotices } from '../../../workflows/contracts/notice.js';
import { eventsOf, isFor, NotificationTarget } from '../../../workflows/contracts/notifications.js';
import { endStates, type EndState } from '../../../workflows/contracts/run.js';
import { status, step } from '../../client/sample-run.js';

const now = '2026-11-22T09:00:00.000Z';

describe('the notice about the end of a run', () => {
  test('says what happened, where, what is left to do by hand, and what to type', () => {
    const run = status({
      end: 'rollback incomplete',
      message: 'deploy of proofpass: step "switch" on app failed: no such device',
      remaining: ['undo of "install" on app: read-only file system'],
      notes: ['Log of switch: s3://b/x'],
      steps: [step('install', { state: 'undo failed' }), step('switch', { state: 'failed' })],
      reason: 'release 2',
    });
    const told = Notice.parse(endNotice(run));
    expect(told).toMatchObject({
      event: 'rollback incomplete',
      severity: 'critical',
      tier: 1,
      step: 'install',
      host: 'app',
      title: `${run.runbook} of ${run.system}: rollback incomplete`,
      command: `guardia watch ${run.workflowId}`,
      dedupeKey: `end/${run.runId}`,
      incident: `end/${run.runId}`,
    });
    expect(told.text).toBe(
      [
        'deploy of proofpass: step "switch" on app failed: no such device',
        'To be done by hand:\n- undo of "install" on app: read-only file system',
        'Notes:\n- Log of switch: s3://b/x',
        `Requested by ${run.requester}: release 2`,
      ].join('\n\n'),
    );
  });

  test('is there for every end but the good ones', () => {
    const silent = (Object.keys(endStates) as EndState[]).filter((end) => endNotice(status({ end })) === undefined);
    expect(silent).toEqual(['succeeded', 'nothing to do', 'planned']);
  });

  test('is cut to what every target takes', () => {
    const told = endNotice(status({ end: 'failed', message: 'x'.repeat(20_000) }));
    expect(Notice.safeParse(told).success).toBe(true);
    expect(told?.text).toHaveLength(8000);
  });
});

test('all notices of one wait are one matter, and no two of them the same notice', () => {
  const run = status({});
  const wait = waitNotices(run, {
    event: 'needs a person',
    key: 'step-switch',
    title: 'the undo of "switch" failed',
    text: 'Decide.',
    command: `guardia recover ${run.workflowId} retry`,
    since: now,
  });
  const all = [
    wait.first(1),
    wait.reminder(1, now, 1),
    wait.reminder(2, now, 2),
    wait.escalation(2, now),
    wait.escalation(3, now),
    wait.takenUp('ana', now, 3),
    wait.over('ana said retry', now, 3),
  ].map((one) => Notice.parse(one));
  expect(new Set(all.map(({ incident }) => incident)).size).toBe(1);
  expect(new Set(all.map(({ dedupeKey }) => dedupeKey)).size).toBe(all.length);
  expect(all.map(({ about }) => about)).toEqual([undefined, ...Array<string>(6).fill('needs a person')]);
  expect(all.map(({ tier }) => tier)).toEqual([1, 1, 2, 2, 3, 3, 3]);
  expect(all[0]).toMatchObject({ severity: 'critical', command: expect.stringContaining('guardia recover') });
});

test('an escalation is for whoever wants escalations, and so is what follows it; before it, nothing of a gate is', () => {
  const wait = waitNotices(status({}), {
    event: 'waits for a person',
    key: 'gate',
    title: 'deploy?',
    text: 'Decide.',
    since: now,
  });
  type Target = Parameters<typeof isFor>[0];
  const duty: Target = { kind: 'pagerduty', tier: 1 };
  const escalations: Target = { kind: 'webhook', tier: 1, events: ['escalation'] };
  const gates: Target = { kind: 'webhook', tier: 1, events: ['waits for a person'] };
  const mail: Target = { kind: 'email', tier: 1 };
  const before = [wait.first(1), wait.reminder(1, now, 1), wait.takenUp('ana', now, 1), wait.over('yes', now, 1)];
  const after = [
    wait.escalation(2, now),
    wait.reminder(2, now, 2),
    wait.takenUp('ana', now, 2),
    wait.over('ana said yes', now, 2),
  ];
  for (const target of [duty, escalations, { ...duty, tier: 2 }]) {
    expect(before.map((one) => isFor(target, Notice.parse(one)))).toEqual([false, false, false, false]);
    expect(after.map((one) => isFor(target, Notice.parse(one)))).toEqual([true, true, true, true]);
  }
  for (const target of [gates, mail])
    expect([...before, ...after].every((one) => isFor(target, Notice.parse(one)))).toBe(true);
  expect(after.some((one) => isFor({ ...duty, events: ['failed'] }, one))).toBe(false);
  expect(after.some((one) => isFor({ ...duty, tier: 3 }, one))).toBe(false);
});

describe('what a target is told of without saying so', () => {
  test('everything but what somebody decided; PagerDuty only what is an error or critical', () => {
    expect(eventsOf({ kind: 'email' })).not.toEqual(expect.arrayContaining(['rejected']));
    expect(eventsOf({ kind: 'email' })).not.toEqual(expect.arrayContaining(['cancelled']));
    expect(eventsOf({ kind: 'email' })).toEqual(expect.arrayContaining(['refused', 'overdue', 'terminated']));
    expect(eventsOf({ kind: 'pagerduty' })).toEqual(expect.arrayContaining(['failed', 'needs a person', 'missed']));
    expect(eventsOf({ kind: 'pagerduty' })).not.toEqual(expect.arrayContaining(['overdue']));
    expect(eventsOf({ kind: 'pagerduty', events: ['overdue'] })).toEqual(['overdue']);
  });

  test('a mail server is told no password in clear', () => {
    const mail = { host: 'mail', from: 'a@example.org', user: 'a', password: 'env:P', security: 'none' };
    const parsed = NotificationTarget.safeParse({ kind: 'email', to: 'a@example.org', mail });
    expect(parsed.error?.issues).toEqual([
      expect.objectContaining({ path: ['mail', 'security'], message: 'would send the password in clear' }),
    ]);
  });

  test('severity follows from the event unless it is said', () => {
    const words = { system: 'a', title: 't', text: '', dedupeKey: 'k', occurredAt: now };
    expect(notice({ ...words, event: 'parked' }).severity).toBe('error');
    expect(notice({ ...words, event: 'parked', severity: 'info' }).severity).toBe('info');
  });
});
