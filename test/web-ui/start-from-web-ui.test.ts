// A person starts a backup from Temporal's Web UI, in Chromium. GUARDIA_TEST_SCREENSHOTS names a directory that gets pictures of it.
import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals';
import type { Browser, Page } from 'playwright-core';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { startBackupLab, type BackupLab } from '../backup/harness.js';
import { currentDetails, openPage, picture, startBrowser } from './browser.js';

jest.setTimeout(180_000);

let here: BackupLab;
let browser: Browser;
let page: Page;
beforeAll(async () => {
  here = await startBackupLab({ bulkMegabytes: 40 });
  // With the lab its files go.
  browser = await startBrowser(here.state);
}, 900_000);
afterAll(async () => {
  await browser?.close();
  await here?.down();
}, 120_000);
beforeEach(async () => {
  page = await openPage(browser);
});
afterEach(() => page.close());

/** Follows a link to the start form, as documentation and the command give it, types the input and starts. Ends on the run's page. */
async function startByForm(workflowId: string, input: string): Promise<void> {
  const prefilled = new URLSearchParams({ taskQueue: WORKFLOW_TASK_QUEUE, workflowType: 'backup', workflowId });
  await page.goto(`${here.server.uiUrl}/namespaces/default/workflows/start-workflow?${prefilled.toString()}`);
  await page.getByText('Task Queue is Active').waitFor();
  await page.getByRole('textbox').filter({ hasNotText: /./ }).last().click();
  await page.keyboard.type(input);
  // Leaving the editor formats the input, which moves the button away from under a click.
  await page.getByRole('heading', { name: 'Start a Workflow' }).click();
  await page.waitForTimeout(500);
  await picture(page, `${workflowId}-form`);
  await page.getByRole('button', { name: 'Start Workflow' }).click();
  await page.getByRole('link', { name: 'Workflow started successfully' }).click();
  await page.getByRole('heading', { name: workflowId }).waitFor();
}

test('with {"system":"proofpass"}: the run page tells where it stands, and at the end what came of it', async () => {
  await here.lab.slow('app', '60mbit');
  await startByForm('from-the-form', '{"system":"proofpass"}');
  const handle = here.client.workflow.getHandle('from-the-form');
  await here.untilStep(handle, 'database-main', 'running');

  // The timeline on the first page names what runs now.
  await page
    .getByText(/dump database proofpass_prod \(\d+ MB\) into the bucket/)
    .first()
    .waitFor();
  await picture(page, 'running-history');
  expect(await currentDetails(page)).toMatch(
    /^backup of proofpass: applying \([0-2] of 8 steps done\)\s+▶ dump database proofpass_prod \(\d+ MB\) into the bucket \(app, running\)\s+[☐▶✔] save roles .*\(app[^]*☐ write the proof: .*Requested by unknown\. Plan [0-9a-f]{12}/s,
  );
  await picture(page, 'running-details');

  await here.lab.heal('app');
  expect((await here.ended(handle)).end).toBe('succeeded');
  await page.reload();
  await page.getByText('Completed', { exact: true }).first().waitFor();
  const point = (await here.points())[0]?.manifest.id ?? '';
  expect(await currentDetails(page)).toMatch(
    new RegExp(
      `^backup of proofpass: succeeded\\s[^]*recoveryPoint ${point}, [^]*state verified[^]*✔ dump database .*MB as .*MB in [^]*✔ write the proof: .*${point} is verified`,
    ),
  );
  await picture(page, 'completed-details');
  await page.getByRole('tab', { name: /^History/ }).click();
  await page.getByText('"succeeded"').first().waitFor();
  await picture(page, 'completed-history');
});

test('with {"sistem":"x"}: it fails at once, and says what is wrong and what is allowed', async () => {
  await startByForm('with-a-mistake', '{"sistem":"x"}');
  await page.getByText('Failed', { exact: true }).first().waitFor();
  const sentence =
    'the input of backup is wrong: "system" is missing (string); unknown field "sistem". Allowed fields: system, plan, requester, reason, onFailure, waitForLockMinutes, requesterProof, acceptAnomaly, only. Nothing was started';
  await page.getByText(sentence).first().waitFor();
  await picture(page, 'mistake-history');
  const { startTime, closeTime } = await here.client.workflow.getHandle('with-a-mistake').describe();
  expect((closeTime?.getTime() ?? Infinity) - startTime.getTime()).toBeLessThan(10_000);
});
