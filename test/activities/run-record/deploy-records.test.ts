import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { putOnce } from '../../../activities/object-store/objects.js';
import { readDeploys } from '../../../activities/run-record/deploy-records.js';
import { recordKeys } from '../../../workflows/contracts/run-record.js';
import { status, step as stepStatus } from '../../client/sample-run.js';
import { lane, step, toyPlan } from '../../workflows/toy-plan.js';
import { startGateway, type Gateway } from '../object-store/versity-gateway.js';

const DIRECTORY = '/opt/app';

let gateway: Gateway;
beforeAll(async () => (gateway = await startGateway()));
afterAll(() => gateway?.remove());

/** The record of a deploy that succeeded, under this workflow id. */
async function deployed(workflowId: string, second: number): Promise<void> {
  const argument = { directory: DIRECTORY, from: null, to: `20261122T08000${second}-0123456789ab` };
  const switching = { ...step('switch-app', { undo: false }), do: { activity: 'switchRelease', with: argument } };
  const report = {
    ...status({ runbook: 'deploy', system: 'one', workflowId, end: 'succeeded', phase: 'ended' }),
    endedAt: `2026-11-22T08:00:0${second}.000Z`,
    steps: [stepStatus('switch-app', { state: 'done' })],
    plan: toyPlan('one', [lane('app', switching)], { runbook: 'deploy' }),
  };
  const record = JSON.stringify({ schemaVersion: 1, entry: 'end', previous: null, report });
  await putOnce(gateway.bucket, recordKeys('', 'one', { workflowId, runId: `r${second}` }).entry('end'), record);
}

test('the last deploys are found under any workflow id that a person has typed', async () => {
  await deployed('deploy/one/20261122T080000-abc', 1);
  await deployed('hotfix/v3', 2);
  await deployed('Friday', 3);
  // What guardia calls the runs of other runbooks is not even read.
  await deployed('backup/one/20261122T080000-abc', 4);
  const found = await new MockActivityEnvironment().run(() =>
    readDeploys(gateway.bucket, { prefix: '', system: 'one' }, DIRECTORY, 5),
  );
  expect((found as { workflowId: string }[]).map(({ workflowId }) => workflowId)).toEqual([
    'Friday',
    'hotfix/v3',
    'deploy/one/20261122T080000-abc',
  ]);
});
