// People decide in Temporal's Web UI, in Chromium: what they paste is what the run's details show. GUARDIA_TEST_SCREENSHOTS names a directory that gets pictures.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { execa } from 'execa';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { signRequest } from '../../client/requester.js';
import { runMain } from '../client/command-run.js';
import { failsFirst } from '../workflows/acts.js';
import { openScriptedRuns, until, type ScriptedRun, type ScriptedRuns } from '../workflows/scripted-runs.js';
import { smallSystem } from '../workflows/small-system.js';
import { lane, toyPlan } from '../workflows/toy-plan.js';
import { currentDetails, openPage, picture, startBrowser } from './browser.js';

jest.setTimeout(180_000);

const directory = mkdtempSync(path.join(tmpdir(), 'guardia-web-ui-'));
const key = path.join(directory, 'ana-key');
const kimsKey = path.join(directory, 'kim-key');
let runs: ScriptedRuns;
let browser: Browser;
let page: Page;
beforeAll(async () => {
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'ana', '-f', key]);
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'kim', '-f', kimsKey]);
  [runs, browser] = await Promise.all([openScriptedRuns(), startBrowser(directory)]);
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await runs?.close();
  rmSync(directory, { recursive: true, force: true });
}, 60_000);
beforeEach(async () => {
  page = await openPage(browser);
  page.setDefaultTimeout(20_000);
});
afterEach(async () => {
  await page.close();
  await runs.settle();
}, 60_000);

const asking = (policy: string) => (name: string) => `${smallSystem(name)}approvers:
  ana: { email: ana@example.org, signingKey: '${readFileSync(`${key}.pub`, 'utf8').trim()}' }
  ben: { email: ben@example.org, signingKey: { unset: his key } }
  kim: { email: kim@example.org, signingKey: '${readFileSync(`${kimsKey}.pub`, 'utf8').trim()}' }
approvals: { backup: ${policy} }
`;

/** What the command sends for kim. */
async function signedStart(system: string, workflowId: string): Promise<object> {
  const input = { system, requester: 'kim@laptop' };
  const place = { namespace: runs.server.namespace, workflowId, runbook: 'backup' };
  const env = { GUARDIA_SYSTEMS: runs.systemsDirectory, GUARDIA_SIGNING_KEY: kimsKey };
  const { proof, unproved } = await signRequest(place, input, env);
  if (proof === undefined) throw new Error(unproved);
  return { ...input, requesterProof: proof };
}

/** A run that waits in its gate, with its page open. */
async function waiting(policy: string): Promise<ScriptedRun> {
  const system = runs.system(asking(policy));
  const run = await runs.start({}, { system, input: { system, requester: 'kim' } });
  await until(async () => (await run.status()).gates.length === 1, 'the gate is open');
  await open(run);
  return run;
}

async function open(run: ScriptedRun): Promise<void> {
  const { runId } = await run.status();
  await page.goto(`${runs.server.uiUrl}/namespaces/default/workflows/${run.workflowId}/${runId}/history`);
  await page.getByRole('heading', { name: run.workflowId }).waitFor();
}

/** The JSON that the details show, as a person copies it. */
async function shownJson(): Promise<string> {
  const shown = /\{"(?:gate|hold)":.*\}/.exec(await currentDetails(page))?.[0];
  if (shown === undefined) throw new Error('the details show no JSON');
  return shown;
}

/** With the words that a person puts in. */
const filledIn = (json: string, name: string): string =>
  json.replace('YOUR NAME', name).replace('WHY', 'looks right').replace('NAME OF THE SYSTEM', 'shop');

/** More Actions, Send an Update (or a Signal), the name, the JSON, Submit. */
async function send(kind: 'update' | 'signal', name: string, json: string): Promise<void> {
  await page.getByRole('button', { name: 'More Actions' }).click();
  await page.getByRole('menuitem', { name: kind === 'update' ? 'Send an Update' : 'Send a Signal' }).click();
  const form = page.getByRole('dialog');
  await form.getByTestId(`${kind}-select-button`).click();
  await form.getByRole('option', { name }).click();
  await form.getByRole('textbox').last().click();
  await page.keyboard.insertText(json);
  // Leaving the editor formats the input, which moves the button away from under a click.
  await form.getByText('only single JSON payload').click();
  await page.waitForTimeout(500);
  await form.getByTestId('confirm-modal-button').click();
}

/** What the person reads about an update that was refused. */
async function refusal(): Promise<string> {
  const alert = page.getByRole('dialog').getByRole('alert');
  await alert.filter({ hasText: /./ }).waitFor();
  await picture(page, 'refused');
  const text = await alert.innerText();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).last().click();
  return text;
}

describe('a run that waits in a gate', () => {
  test('decide as an update: refused with the reason in the form, then counted', async () => {
    const run = await waiting('{ approvals: 1 }');
    const json = await shownJson();
    await send('update', 'decide', json);
    expect(await refusal()).toContain('the input of decide is wrong: "approver"');
    await send('update', 'decide', filledIn(json, 'zoe'));
    expect(await refusal()).toContain('zoe may not decide here; who may: ana, ben, kim');
    await send('update', 'decide', filledIn(json, 'ben'));
    await page.getByText('Completed', { exact: true }).first().waitFor();
    expect((await run.report()).gates).toMatchObject([
      { state: 'approved', decisions: [{ approver: 'ben', reason: 'looks right', signed: false }] },
    ]);
  });

  test('decide as a signal: the refusal stands in the details, then it counts', async () => {
    const run = await waiting('{ typedSystemName: true }');
    const json = await shownJson();
    await send('signal', 'decide', filledIn(json, 'ana'));
    const refused = 'A decision was refused: the typed name "shop" is not the system of this run';
    await until(async () => (await run.details()).includes(refused), 'it was refused');
    await page.reload();
    // The Web UI makes other quotation marks of those in text.
    expect(await currentDetails(page)).toMatch(
      /A decision was refused: the typed name .shop. is not the system of this run/,
    );
    await picture(page, 'refused-signal');
    await send('signal', 'decide', filledIn(json, 'ana').replace('"shop"', `"${run.system}"`));
    expect((await run.report()).gates).toMatchObject([{ state: 'approved', decisions: [{ approver: 'ana' }] }]);
  });

  test('where only signatures count the details print the command, and that command decides', async () => {
    const system = runs.system(asking('{ signed: true, approvers: [ana, ben] }'));
    const workflowId = 'signed-by-kim';
    const run = await runs.start({}, { system, workflowId, input: await signedStart(system, workflowId) });
    await until(async () => (await run.status()).gates.length === 1, 'the gate is open');
    await open(run);
    const shown = await currentDetails(page);
    expect(shown).toContain('Only signed decisions count here: use the command');
    expect(shown).not.toContain('{"gate"');
    const line = /guardia (approve \S+)/.exec(shown)?.[1] ?? '';
    const { exitCode, stderr } = await runMain([...line.split(' '), '--as', 'ana', '--reason', 'go'], {
      ...process.env,
      TEMPORAL_ADDRESS: runs.server.address,
      TEMPORAL_NAMESPACE: runs.server.namespace,
      GUARDIA_SYSTEMS: runs.systemsDirectory,
      GUARDIA_SIGNING_KEY: key,
    });
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    await page.getByText('Completed', { exact: true }).first().waitFor();
    expect((await run.report()).gates).toMatchObject([{ decisions: [{ approver: 'ana', signed: true }] }]);
  });
});

describe('a run that holds', () => {
  test('recover as an update: refused with the choices in the form, then the run goes on', async () => {
    const system = runs.system();
    const run = await runs.start(
      {
        plan: (name) => toyPlan(name, [lane('app', 'a')], { unattended: false }),
        acts: { 'do a': failsFirst(1, 'CommandFailed') },
      },
      { system, input: { system, requester: 'kim', onFailure: 'hold' } },
    );
    await until(async () => (await run.status()).holds.length === 1, 'the run holds');
    await open(run);
    const json = await shownJson();
    await send('update', 'recover', filledIn(json.replace('"retry"', '"accept"'), 'ana'));
    expect(await refusal()).toContain('accept is no choice at "do a"; choices: retry (do it again)');
    await send('update', 'recover', filledIn(json, 'ana'));
    const report = await run.report();
    expect(report.recoveries).toMatchObject([{ id: 'a', decision: 'retry', why: 'looks right', by: 'ana' }]);
  });

  test('recover as a signal', async () => {
    const system = runs.system();
    const run = await runs.start(
      {
        plan: (name) => toyPlan(name, [lane('app', 'a')], { unattended: false }),
        acts: { 'do a': failsFirst(1, 'CommandFailed') },
      },
      { system, input: { system, requester: 'kim', onFailure: 'hold' } },
    );
    await until(async () => (await run.status()).holds.length === 1, 'the run holds');
    await open(run);
    await send('signal', 'recover', filledIn(await shownJson(), 'ana'));
    expect((await run.report()).end).toBe('succeeded');
  });
});
