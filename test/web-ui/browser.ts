// Chromium as the tests of the Web UI use it. GUARDIA_TEST_SCREENSHOTS names a directory that gets pictures of it.
import path from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { ensurePackages } from '../../infra/packaging/toolbox.js';

/** Starts Chromium, which leaves its files in `directory`. */
export async function startBrowser(directory: string): Promise<Browser> {
  await ensurePackages('ui');
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    // It leaves files at home, and a directory of PulseAudio's.
    env: { ...process.env, HOME: directory, PULSE_RUNTIME_PATH: path.join(directory, 'pulse') },
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'],
      ...['--disable-background-networking', '--disable-component-update'],
    ],
  });
}

export async function openPage(browser: Browser): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  page.setDefaultTimeout(60_000);
  // Chromium gives up what it loads when any interface of the machine comes or goes (ERR_NETWORK_CHANGED), as those of labs do: Node loads it.
  await page.route('**/*', async (route) => {
    const response = await route.fetch({ timeout: 0 }).catch(() => undefined);
    // The page may be gone by then.
    await (response ? route.fulfill({ response }) : route.abort()).catch(() => undefined);
  });
  return page;
}

/** Keeps a picture of the page where somebody wants to see it. */
export async function picture(page: Page, name: string): Promise<void> {
  const directory = process.env['GUARDIA_TEST_SCREENSHOTS'];
  if (directory) await page.screenshot({ path: path.join(directory, `${name}.png`), fullPage: true });
}

/** The text of the panel "Current Details" of a run's page, which the Web UI renders in a frame. */
export async function currentDetails(page: Page): Promise<string> {
  await page.getByRole('tab', { name: 'User Metadata' }).click();
  const frame = page.frameLocator('iframe').last();
  await frame.getByText('Requested by').waitFor();
  return frame.locator('body').innerText();
}
