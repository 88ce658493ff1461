import { existsSync } from 'node:fs';
import { chromium, type Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { startServer } from '../../src/http/server.ts';
import { createTestContext } from '../support/context.ts';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);
if (executablePath === undefined) console.warn('skipped: no Chromium on this machine to open the pages with');

type Visit = (path: string) => Promise<Page>;

async function browse(work: (visit: Visit) => Promise<void>): Promise<void> {
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
    await work(async (path) => {
      await page.goto(`${server.url}${path}`);
      return page;
    });
    expect(faults).toEqual([]);
  } finally {
    await browser.close();
    await server.stop();
  }
}

describe.skipIf(executablePath === undefined)('each page shows itself under its own policy', () => {
  test('/docs, with the operations', () =>
    browse(async (visit) => {
      const page = await visit('/docs');
      await page.getByText('/queue/enqueue/batch').waitFor();
      await page.getByText('/queue/enqueue/batch').click();
      await page.getByText('Nothing is stored before').waitFor();
    }));

  test('/errors, with its style', () =>
    browse(async (visit) => {
      const page = await visit('/errors');
      await page.locator('#job_not_found').waitFor();
      expect(await page.evaluate('getComputedStyle(document.body).maxWidth')).toBe('704px');
    }));
});
