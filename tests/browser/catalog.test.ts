import type { Page } from 'playwright-core';
import { afterAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createWorker } from '../../workers/worker.ts';
import { drawImage } from '../support/images.ts';
import { until } from '../support/until.ts';
import { closeBrowser, PHONE, visit, WIDE, whyNoBrowser } from './support/browser.ts';
import { indexSamples } from './support/samples.ts';

const reason = whyNoBrowser();
if (reason !== null) console.warn(`skipped: ${reason}`);

afterAll(closeBrowser);

/** Runs a worker meanwhile. */
async function working(context: Context, work: () => Promise<void>): Promise<void> {
  const worker = createWorker(context);
  const running = worker.run();
  try {
    await work();
  } finally {
    worker.stop();
    await running;
  }
}

const choose = (page: Page, files: readonly { name: string; mimeType: string; buffer: Buffer }[]) =>
  page.setInputFiles('#files', [...files]);

describe.skipIf(reason !== null)('the catalog', () => {
  test('says what it can not take of a file in the order of its lines', () =>
    visit({}, async ({ page, open }) => {
      await open('#/catalog/import');
      const lines = ['product_id,price,image_path', 'a,1,none.jpg', 'b,cheap,none.jpg', 'c,2,none.jpg'];
      await choose(page, [{ name: 'shop.csv', mimeType: 'text/csv', buffer: Buffer.from(lines.join('\n')) }]);
      await page.getByText("3 entries can't be taken").waitFor();
      expect(await page.locator('.lines strong').allTextContents()).toEqual(['line 2', 'line 3', 'line 4']);
    }));

  test('lists the products, and opens one with its data', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 12);
      await open('#/catalog');
      await page.getByText('Red mug').click();
      await page.getByRole('heading', { name: 'Red mug' }).waitFor();
      await page.getByText('A straight mug in red, drawn for the sample catalog').waitFor();
      await page.getByText('indexed', { exact: true }).first().waitFor();
      await page.goBack();
      await page.getByText('Red handbag').waitFor();
    }));

  test('edits the data of a product, and takes it back', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 12);
      const nameNow = async () => (await context.store.getProduct('MUG-001'))[0]?.payload.name;
      await open('#/catalog/MUG-001');
      await page.getByRole('button', { name: 'Edit' }).click();
      await page.getByLabel('name', { exact: true }).fill('Scarlet mug');
      await page.getByLabel('price').fill('9.5');
      await page.getByRole('button', { name: 'Save' }).click();
      await page.getByRole('heading', { name: 'Scarlet mug' }).waitFor();
      expect(await nameNow()).toBe('Scarlet mug');
      await page.getByText('Saved 2 fields.').waitFor();
      await page.getByRole('button', { name: 'Undo' }).click();
      await page.getByRole('heading', { name: 'Red mug' }).waitFor();
      expect(await nameNow()).toBe('Red mug');
    }));

  test('deletes a product only after a confirmation that names the number', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 12);
      await open('#/catalog/MUG-001');
      await page.getByRole('button', { name: 'Delete', exact: true }).click();
      await page.getByRole('button', { name: 'Cancel' }).click();
      expect(await context.store.getProduct('MUG-001')).toHaveLength(1);
      await page.getByRole('button', { name: 'Delete', exact: true }).click();
      await page.getByRole('button', { name: 'Delete 1 image' }).click();
      await page.getByText('Deleted MUG-001 with 1 image.').waitFor();
      expect(await context.store.getProduct('MUG-001')).toEqual([]);
      await page.getByText('Red handbag').waitFor();
    }));

  test('says so when there is no such product', () =>
    visit({ expectsRefusals: true }, async ({ context, page, open }) => {
      await indexSamples(context, 24);
      await open('#/catalog/nothing');
      await page.getByRole('alert').getByRole('link', { name: 'product_not_found' }).waitFor();
    }));
});

describe.skipIf(reason !== null)('the import', () => {
  test('takes a CSV with its pictures: shows what will happen, starts, and shows how each goes', () =>
    visit({}, async ({ context, page, open, checkAccessibility }) => {
      await open('#/catalog/import');
      await checkAccessibility();
      const csv = [
        'product_id,name,price,image',
        'a,Stool,20,pictures/one.png',
        'b,Table,90,pictures/broken.png',
        'c,Shelf,30,pictures/missing.png',
        ',Nameless,1,pictures/one.png',
      ].join('\n');
      await choose(page, [
        { name: 'products.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) },
        { name: 'one.png', mimeType: 'image/png', buffer: await drawImage(1) },
        { name: 'broken.png', mimeType: 'image/png', buffer: Buffer.from('not a picture') },
      ]);
      await page.getByRole('heading', { name: '2 pictures of 2 products' }).waitFor();
      await page.getByText('its picture pictures/missing.png was not dropped with the file.').waitFor();
      await page.getByText('it has no product_id.').waitFor();
      await checkAccessibility();
      await working(context, async () => {
        await page.getByRole('button', { name: 'Index 2 pictures' }).click();
        await page.getByText('Done: 1 indexed, 1 failed').waitFor();
      });
      const tile = page.getByRole('listitem').filter({ hasText: 'Stool' });
      expect(await tile.textContent()).toContain('indexed');
      await checkAccessibility();
      expect((await context.store.getProduct('a'))[0]?.payload).toMatchObject({ name: 'Stool', price: 20 });
    }));

  test('takes pictures alone, by their names', () =>
    visit({}, async ({ context, page, open }) => {
      await open('#/catalog/import');
      const files = await Promise.all(
        ['red-chair.png', 'lamp.png'].map(async (name, index) => ({
          name,
          mimeType: 'image/png',
          buffer: await drawImage(index + 1),
        })),
      );
      await choose(page, files);
      await working(context, async () => {
        await page.getByRole('button', { name: 'Index 2 pictures' }).click();
        await page.getByText('Done: 2 indexed, 0 failed').waitFor();
      });
      await page.getByRole('link', { name: 'Search them' }).click();
      await page.getByText('red-chair').first().waitFor();
    }));

  test('takes a JSONL file by addresses, in batches', () =>
    visit({}, async ({ context, page, open }) => {
      await open('#/catalog/import');
      const lines = Array.from({ length: 620 }, (_, i) =>
        JSON.stringify({ product_id: `p${i}`, image_url: `https://example.com/${i}.jpg` }),
      );
      await choose(page, [
        { name: 'all.jsonl', mimeType: 'application/x-ndjson', buffer: Buffer.from(lines.join('\n')) },
      ]);
      await page.getByRole('button', { name: 'Index 620 pictures' }).click();
      await until('all jobs', async () => {
        const { waiting } = await context.queue.stats();
        return waiting.normal === 620 ? true : undefined;
      });
      await page.getByText('0 of 620 pictures').waitFor();
    }));

  test('says what is wrong with a file that it can not take', () =>
    visit({ expectsRefusals: true }, async ({ page, open }) => {
      await open('#/catalog/import');
      await choose(page, [{ name: 'a.csv', mimeType: 'text/csv', buffer: Buffer.from('name,price\nx,1\n') }]);
      await page.getByText("The CSV's header has no column product_id.").waitFor();
    }));
});

describe.skipIf(reason !== null)('each view of the catalog', () => {
  test.each([
    ['a phone, light', { viewport: PHONE, colorScheme: 'light' }],
    ['a phone, dark', { viewport: PHONE, colorScheme: 'dark' }],
    ['a wide screen, light', { viewport: WIDE, colorScheme: 'light' }],
    ['a wide screen, dark', { viewport: WIDE, colorScheme: 'dark' }],
  ] as const)('is accessible on %s, and fits', (_name, options) =>
    visit(options, async ({ context, page, open, checkAccessibility }) => {
      await indexSamples(context, 24);
      for (const [view, text] of [
        ['#/catalog', 'Red handbag'],
        ['#/catalog/BAG-001', 'Data'],
        ['#/catalog/import', 'Choose files'],
      ] as const) {
        await open(view);
        await page.getByText(text).first().waitFor();
        await checkAccessibility();
        expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), view).toBe(true);
      }
      await open('#/catalog/BAG-001');
      await page.getByRole('button', { name: 'Edit' }).click();
      await checkAccessibility();
    }),
  );
});
