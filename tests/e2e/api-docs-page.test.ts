import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { expect, test } from 'vitest';
import { startServer } from '../../src/api/server.ts';
import { createTestContext } from '../support/context.ts';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);
if (executablePath === undefined) console.warn('skipped: no Chromium on this machine to open /docs with');

test.skipIf(executablePath === undefined)('/docs shows the operations under its own policy', async () => {
  await using context = await createTestContext({ PORT: '0' });
  const server = await startServer(context);
  const browser = await chromium.launch({ executablePath: executablePath!, args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage();
    const faults: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error') faults.push(message.text());
    });
    page.on('pageerror', (error) => faults.push(error.message));
    await page.goto(`${server.url}/docs`);
    await page.getByText('/queue/enqueue/batch').waitFor();
    await page.getByText('/queue/enqueue/batch').click();
    await page.getByText('Nothing is stored before').waitFor();
    expect(faults).toEqual([]);
  } finally {
    await browser.close();
    await server.stop();
  }
});
