import { setTimeout } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { createWorker } from '../../workers/worker.ts';
import { startProgram } from '../support/program.ts';
import { newWorkerReport } from '../support/worker-reports.ts';
import { closeBrowser, PHONE, visit, WIDE, whyNoBrowser } from './support/browser.ts';
import { enqueue } from './support/samples.ts';

const reason = whyNoBrowser();
if (reason !== null) console.warn(`skipped: ${reason}`);

afterAll(closeBrowser);

const MINUTE_MS = 60_000;

describe.skipIf(reason !== null)('the queue', () => {
  test.each([
    ['on a phone, light', { viewport: PHONE, colorScheme: 'light' }],
    ['on a phone, dark', { viewport: PHONE, colorScheme: 'dark' }],
    ['on a wide screen, light', { viewport: WIDE, colorScheme: 'light' }],
    ['on a wide screen, dark', { viewport: WIDE, colorScheme: 'dark' }],
  ] as const)('is accessible %s', (_name, options) =>
    visit(options, async ({ context, page, open, checkAccessibility }) => {
      await context.queue.heartbeat(newWorkerReport('w1'));
      await open('#/queue');
      await page.getByRole('cell', { name: 'host 42' }).waitFor();
      await checkAccessibility();
      await open('#/system');
      await page.getByText('answers in').first().waitFor();
      await checkAccessibility();
      // Nothing is wider than the screen.
      expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
    }),
  );

  test('pauses and resumes, and says so', () =>
    visit({}, async ({ context, page, open }) => {
      await open('#/queue');
      await page.getByRole('button', { name: 'Pause' }).click();
      await page.getByText('Paused.').waitFor();
      expect((await context.queue.stats()).paused).toBe(true);
      await page.getByRole('button', { name: 'Resume' }).click();
      await page.getByText('Paused.').waitFor({ state: 'detached' });
    }));

  test(
    'says when the first minute will be there, and shows it as soon as it is',
    async () => {
      // Not just before a minute ends: it would be there at once.
      const left = MINUTE_MS - (Date.now() % MINUTE_MS);
      if (left < 20_000) await setTimeout(left);
      await visit({}, async ({ context, page, open, checkAccessibility }) => {
        await open('#/queue');
        await page.getByRole('heading', { name: 'The first minute appears at' }).waitFor();
        await checkAccessibility();
        await enqueue(context, [{ product_id: 'broken', image_base64: btoa('not an image') }]);
        await createWorker(context).run({ once: true });
        const bar = page.locator('.chart-bad rect');
        await bar.waitFor({ timeout: MINUTE_MS + 15_000 });
        expect(await bar.getAttribute('x')).toBe('59.1');
        expect(await page.locator('.chart-good rect').getAttribute('height')).toBe('0');
        await page.locator('.chart-good').getByText('most: 0').waitFor();
        await checkAccessibility();
      });
    },
    3 * MINUTE_MS,
  );

  test('a worker appears with its heartbeat, and disappears when it is gone', () =>
    visit({}, async ({ context, page, open }) => {
      await open('#/queue');
      await page.getByText('No worker is running').waitFor();
      await context.queue.heartbeat(newWorkerReport('w1'));
      await page.getByRole('cell', { name: 'host 42' }).waitFor();
      await context.queue.removeWorker('w1');
      await page.getByText('No worker is running').waitFor();
    }));

  test(
    'a worker process that is killed disappears',
    () =>
      visit({}, async ({ context, page, open }) => {
        await using worker = startProgram('workers/main.ts', {
          DATA_DIR: context.config.dataDir,
          MODEL: 'builtin',
        });
        await open('#/queue');
        const row = page.getByRole('row').filter({ hasText: String(worker.child.pid) });
        await row.getByText('idle').waitFor({ timeout: 60_000 });
        worker.child.kill('SIGKILL');
        await row.getByText('silent').waitFor({ timeout: 60_000 });
        // Its heartbeat is kept for 60 seconds.
        await page.getByText('No worker is running').waitFor({ timeout: 180_000 });
      }),
    300_000,
  );
});
