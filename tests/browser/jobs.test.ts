import { afterAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createWorker } from '../../workers/worker.ts';
import { newJob } from '../support/jobs.ts';
import { until } from '../support/until.ts';
import { closeBrowser, PHONE, visit, WIDE, whyNoBrowser } from './support/browser.ts';
import { enqueue, enqueueSamples, indexSamples } from './support/samples.ts';

const reason = whyNoBrowser();
if (reason !== null) console.warn(`skipped: ${reason}`);

afterAll(closeBrowser);

const broken = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    product_id: `broken-${i}`,
    image_base64: Buffer.from('not a picture').toString('base64'),
  }));
const forbidden = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    product_id: `forbidden-${i}`,
    image_url: 'http://127.0.0.1:1/a.jpg',
  }));

/** Jobs that fail for good: with bytes that are no picture, and with an address that may not be fetched. */
async function fail(context: Context, counts: { broken: number; forbidden: number }): Promise<void> {
  await enqueue(context, [...broken(counts.broken), ...forbidden(counts.forbidden)]);
  await createWorker(context).run({ once: true });
}

describe.skipIf(reason !== null)('jobs', () => {
  test('lists those of a state, and shows what happened to one', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 24);
      await fail(context, { broken: 1, forbidden: 0 });
      await open('#/jobs');
      await page.getByText('MUG-001 / main').waitFor();
      await page.getByRole('link', { name: 'failed' }).click();
      await page.getByText('broken-0 / main').click();
      await page.getByText('Attempt 1: failed').waitFor();
      await page.getByText('Ended: failed').waitFor();
      await page.getByRole('link', { name: 'image_unsupported' }).waitFor();
    }));

  test('finds by job and by product', () =>
    visit({}, async ({ context, page, open }) => {
      const job = newJob('findable', { notBefore: { delayMs: 3_600_000 } });
      await context.queue.enqueue([job]);
      await open('#/jobs');
      await page.getByLabel('Find by job or product').fill('findable');
      await page.getByRole('button', { name: 'Find' }).click();
      await page.getByText('findable / main').waitFor();
      await page.getByLabel('Find by job or product').fill(job.id);
      await page.getByLabel('Find by job or product').press('Enter');
      await page.getByRole('heading', { name: 'findable / main' }).waitFor();
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('Ended: cancelled').waitFor();
      expect((await context.queue.status(job.id))?.status).toBe('cancelled');
    }));

  test('a job that failed is tried again', () =>
    visit({}, async ({ context, page, open }) => {
      await fail(context, { broken: 1, forbidden: 0 });
      const [job] = (await context.queue.list({ status: 'failed', limit: 1 })).jobs;
      await open(`#/jobs/${job!.id}`);
      await page.getByRole('button', { name: 'Retry' }).click();
      await page.getByText('The job waits again.').waitFor();
      expect((await context.queue.status(job!.id))?.status).toBe('queued');
    }));

  test('ten thousand scroll, with few of them in the document', () =>
    visit({}, async ({ context, page, open }) => {
      for (let at = 0; at < 10_000; at += 1_000) {
        await context.queue.enqueue(Array.from({ length: 1_000 }, (_, i) => newJob(`many-${at + i}`)));
      }
      await open('#/jobs?status=queued');
      await page.getByText('10,000 in all').waitFor();
      const list = page.getByRole('region', { name: 'Jobs' });
      // The end comes nearer as pages arrive.
      await until('the last job', async () => {
        await list.evaluate('(list) => list.scrollTo(0, list.scrollHeight)').catch(() => undefined);
        await page.evaluate(`document.querySelector('.job-list').scrollTo(0, 1e9)`);
        return (await page.locator('.job-list li[aria-posinset="10000"]').count()) === 1 ? true : undefined;
      });
      expect(await page.locator('.job-list li').count()).toBeLessThan(80);
      await list.focus();
      await page.keyboard.press('Home');
      await page.locator('.job-list li[aria-posinset="1"]').waitFor();
    }));
});

describe.skipIf(reason !== null)('dead letters', () => {
  test('are grouped by code, and redriven by code after a confirmation', () =>
    visit({}, async ({ context, page, open }) => {
      await fail(context, { broken: 3, forbidden: 2 });
      await open('#/dead-letters');
      await page.getByRole('heading', { name: '3 jobs: image_unsupported' }).waitFor();
      await page.getByRole('button', { name: 'Redrive these 3' }).click();
      await page.getByText('Redrive 3 dead letters?').waitFor();
      await page.getByRole('button', { name: 'Redrive 3', exact: true }).click();
      await page.getByText('3 jobs wait again.').waitFor();
      expect(await context.queue.stats()).toMatchObject({ dead: 2, waiting: { normal: 3 } });
    }));

  test('those that are selected are deleted, and nothing without a confirmation', () =>
    visit({}, async ({ context, page, open }) => {
      await fail(context, { broken: 3, forbidden: 0 });
      await open('#/dead-letters');
      await page.getByLabel('Select broken-0 / main').check();
      await page.getByLabel('Select broken-2 / main').check();
      const selection = page.getByRole('region', { name: 'Selected dead letters' });
      await selection.getByRole('button', { name: 'Delete 2' }).click();
      await page.getByText('Delete 2 dead letters?').waitFor();
      await page.keyboard.press('Escape');
      await page.getByText('Delete 2 dead letters?').waitFor({ state: 'detached' });
      expect((await context.queue.stats()).dead).toBe(3);
      await selection.getByRole('button', { name: 'Delete 2' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Delete 2' }).click();
      await page.getByText('2 dead letters deleted.').waitFor();
      const left = await context.queue.list({ status: 'failed', limit: 9 });
      expect(left.jobs.map(({ productId }) => productId)).toEqual(['broken-1']);
    }));

  test('all are deleted at once', () =>
    visit({}, async ({ context, page, open }) => {
      await fail(context, { broken: 2, forbidden: 2 });
      await open('#/dead-letters');
      await page.getByRole('button', { name: 'Delete all 4' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Delete 4' }).click();
      await page.getByText('Nothing failed for good').waitFor();
      expect((await context.queue.stats()).dead).toBe(0);
    }));
});

describe.skipIf(reason !== null)('the numbers', () => {
  test('move while 200 images are indexed', () =>
    visit({}, async ({ context, page, open }) => {
      const samples = await enqueueSamples(context, 1);
      expect(samples).toBe(96);
      await enqueue(context, broken(104));
      await open('#/queue');
      const waiting = page.locator('.figure').filter({ hasText: 'Waiting' }).locator('dd');
      await until('what waits', async () =>
        (await waiting.textContent())?.startsWith('200') ? true : undefined,
      );
      const seen = new Set<string>();
      const worker = createWorker(context);
      const running = worker.run({ once: true });
      await until('all to end', async () => {
        seen.add(Number.parseInt((await waiting.textContent()) ?? '', 10).toString());
        return seen.has('0') ? true : undefined;
      });
      await running;
      expect(seen.size).toBeGreaterThan(2);
      await page.getByRole('heading', { name: 'Just ended' }).waitFor();
      const dead = page.locator('.figure').filter({ hasText: 'Dead letters' }).locator('dd');
      await until('the dead letters', async () =>
        (await dead.textContent())?.startsWith('104') ? true : undefined,
      );
    }));
});

describe.skipIf(reason !== null)('each view of jobs', () => {
  test.each([
    ['a phone, light', { viewport: PHONE, colorScheme: 'light' }],
    ['a phone, dark', { viewport: PHONE, colorScheme: 'dark' }],
    ['a wide screen, light', { viewport: WIDE, colorScheme: 'light' }],
    ['a wide screen, dark', { viewport: WIDE, colorScheme: 'dark' }],
  ] as const)('is accessible on %s, and fits', (_name, options) =>
    visit(options, async ({ context, page, open, checkAccessibility }) => {
      await fail(context, { broken: 2, forbidden: 1 });
      const [job] = (await context.queue.list({ status: 'failed', limit: 1 })).jobs;
      for (const [view, text] of [
        ['#/jobs?status=failed', 'broken-0 / main'],
        [`#/jobs/${job!.id}`, 'Timeline'],
        ['#/dead-letters', 'Export'],
      ] as const) {
        await open(view);
        await page.getByText(text).first().waitFor();
        await checkAccessibility();
        expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), view).toBe(true);
      }
    }),
  );
});
