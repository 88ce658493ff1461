import type { Page } from 'playwright-core';
import { afterAll, describe, expect, test } from 'vitest';
import { createApiKey, toKeyEntry } from '../../src/config/api-keys.ts';
import { createWorker } from '../../workers/worker.ts';
import { until } from '../support/until.ts';
import { closeBrowser, PHONE, type Visit, visit, WIDE, whyNoBrowser } from './support/browser.ts';
import { indexSamples } from './support/samples.ts';

const reason = whyNoBrowser();
if (reason !== null) console.warn(`skipped: ${reason}`);

afterAll(closeBrowser);

const names = (page: Page) => page.locator('.hit-name').allTextContents();
/** The names of the hits, once there are some for which the check holds. */
const namesWhen = (page: Page, check: (found: readonly string[]) => boolean) =>
  until('the hits', async () => {
    const found = await names(page);
    return check(found) ? found : undefined;
  });

/** The picture of a product as the server shows it. */
async function readPicture({ url }: Visit, productId: string): Promise<Buffer> {
  const response = await fetch(`${url}/products/${productId}/images/main/thumbnail`);
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}

/** Drops or pastes a picture, as a browser reports it. */
const give = (page: Page, event: 'drop' | 'paste', bytes: Buffer) =>
  page.evaluate(`(() => {
    const data = new DataTransfer();
    const bytes = Uint8Array.from(atob('${bytes.toString('base64')}'), (char) => char.charCodeAt(0));
    data.items.add(new File([bytes], 'picture.jpg', { type: 'image/jpeg' }));
    const options = { bubbles: true, cancelable: true };
    dispatchEvent(${
      event === 'drop'
        ? "new DragEvent('drop', { ...options, dataTransfer: data })"
        : "new ClipboardEvent('paste', { ...options, clipboardData: data })"
    });
  })()`);

describe.skipIf(reason !== null)('search', () => {
  test('an empty catalog offers the samples, and shows them as they are indexed', () =>
    visit({}, async ({ context, page, open, checkAccessibility }) => {
      await open();
      await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
      await checkAccessibility();
      await page.getByRole('button', { name: 'Load the sample catalog' }).click();
      await page.getByText('on the way').waitFor();
      const worker = createWorker(context);
      const running = worker.run();
      await namesWhen(page, (found) => found.length > 0);
      worker.stop();
      await running;
    }));

  test('finds by words as they are typed, and the address holds the search', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 4);
      await open();
      await namesWhen(page, (found) => found.length === 24);
      await page.getByLabel('Search with words').fill('red mug');
      const found = await namesWhen(page, ([first]) => first === 'Red mug');
      expect(page.url()).toContain('q=red+mug');
      await page.reload();
      expect(await namesWhen(page, (again) => again.length > 0)).toEqual(found);
      await page.getByText('by words').first().waitFor();
      await page.goBack();
      await namesWhen(page, (all) => all.length === 24);
    }));

  test.each(['drop', 'paste'] as const)('finds with a picture after a %s, also in a frame of it', (event) =>
    visit({}, async (visited) => {
      const { context, page, open } = visited;
      await indexSamples(context, 4);
      // Anywhere: the view does not matter.
      await open('#/system');
      await give(page, event, await readPicture(visited, 'MUG-001'));
      await namesWhen(page, ([first]) => first === 'Red mug');
      await page.getByAltText('The picture that is searched with').waitFor();
      const box = (await page.locator('.query-picture').boundingBox())!;
      await page.mouse.move(box.x + box.width * 0.1, box.y + box.height * 0.1);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.8, box.y + box.height * 0.9, { steps: 4 });
      await page.mouse.up();
      await until('the frame in the address', () => (page.url().includes('crop=0.1') ? true : undefined));
      await page.locator('.frame').waitFor();
      // A reload keeps the picture: it is in this browser.
      await page.reload();
      await page.getByAltText('The picture that is searched with').waitFor();
      await namesWhen(page, (found) => found.length > 0);
    }),
  );

  test('the frame can be set, moved and removed with the keyboard alone', () =>
    visit({}, async (visited) => {
      const { context, page, open } = visited;
      await indexSamples(context, 12);
      await open();
      await page.setInputFiles('#choose', {
        name: 'a.jpg',
        mimeType: 'image/jpeg',
        buffer: await readPicture(visited, 'MUG-001'),
      });
      await page.getByRole('button', { name: 'Add a frame' }).focus();
      await page.keyboard.press('ArrowRight');
      await until('a frame', () => (page.url().includes('crop=0.200') ? true : undefined));
      await page.keyboard.press('ArrowRight');
      await until('a moved frame', () => (page.url().includes('crop=0.250') ? true : undefined));
      await page.keyboard.press('Shift+ArrowLeft');
      await until('a smaller frame', () => (page.url().includes('0.550') ? true : undefined));
      await page.keyboard.press('Escape');
      await until('no frame', () => (page.url().includes('crop') ? undefined : true));
    }));

  test('narrows down by facets, and finds more like one product', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 4);
      await open();
      await page.getByLabel('mug').check();
      await namesWhen(page, (found) => found.length === 3 && found.every((name) => name.endsWith('mug')));
      await page.getByRole('button', { name: 'Remove all filters' }).click();
      await namesWhen(page, (found) => found.length === 24);
      await page.getByLabel('10 to 25').check();
      await namesWhen(page, (found) => found.length > 0 && found.length < 24);
      await page.getByRole('link', { name: /More like this.*Red mug/ }).click();
      await page.getByText('Like MUG-001').waitFor();
      expect(await namesWhen(page, (found) => found.length > 0 && !found.includes('Red mug'))).toBeTruthy();
    }));

  test('leads from words to a product and to more like it with the keyboard alone', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 4);
      await open();
      await namesWhen(page, (found) => found.length === 24);
      /** Presses Tab until the element has the focus; each stop on the way can be seen. */
      const tabTo = (selector: string) =>
        until(`the focus on ${selector}`, async () => {
          await page.keyboard.press('Tab');
          const outline = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle');
          expect(outline).not.toBe('none');
          return (await page.evaluate(`document.activeElement.matches('${selector}')`)) ? true : undefined;
        });
      await tabTo('#words');
      await page.keyboard.type('red mug');
      await page.keyboard.press('Enter');
      await namesWhen(page, ([first]) => first === 'Red mug');
      await tabTo('.hit-link');
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { name: 'Red mug' }).waitFor();
      await tabTo('main a.button');
      await page.keyboard.press('Enter');
      await page.getByText('Like MUG-001').waitFor();
    }));

  test('on a phone the ways to give a picture stand side by side, and the view that is shown can be seen', () =>
    visit({ viewport: PHONE, hasTouch: true }, async ({ page, context, open }) => {
      await indexSamples(context, 24);
      await open();
      const boxOf = async (selector: string) => (await page.locator(selector).boundingBox())!;
      const [choose, photo] = [await boxOf('label[for=choose]'), await boxOf('label[for=photo]')];
      expect(photo.y).toBe(choose.y);
      expect(photo.width).toBeCloseTo(choose.width, 0);
      expect(photo.x + photo.width).toBeCloseTo(PHONE.width - choose.x, 0);
      await open('#/system');
      const tab = page.locator('nav [aria-current=page]');
      await until('the tab', async () => {
        const { x, width } = (await tab.boundingBox())!;
        return x >= 0 && x + width <= PHONE.width ? true : undefined;
      });
      // What a setting means may name another: that is shown as code.
      await page.locator('summary').first().click();
      await page.locator('td:last-child code').getByText('0.0.0.0', { exact: true }).waitFor();
    }));

  test('says when nothing is found, and when the picture is of another browser', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 24);
      await open('#/search?q=zeppelin');
      await page.getByRole('heading', { name: 'Nothing was found' }).waitFor();
      await open('#/search?picture=unknown');
      await page.getByText('is not in this browser').waitFor();
    }));

  test('pictures arrive without moving anything', () =>
    visit({}, async ({ context, page, open }) => {
      await indexSamples(context, 1);
      await page.addInitScript(`
        window.shifts = 0;
        new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.shifts += entry.value; })
          .observe({ type: 'layout-shift', buffered: true });`);
      await open();
      await namesWhen(page, (found) => found.length === 60);
      await until('the pictures', async () =>
        (await page.evaluate(
          `[...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight).every((image) => image.complete)`,
        ))
          ? true
          : undefined,
      );
      expect(await page.evaluate('window.shifts')).toBeLessThan(0.02);
    }));

  test.each([
    ['a phone, light', { viewport: PHONE, colorScheme: 'light' }],
    ['a phone, dark', { viewport: PHONE, colorScheme: 'dark' }],
    ['a wide screen, light', { viewport: WIDE, colorScheme: 'light' }],
    ['a wide screen, dark', { viewport: WIDE, colorScheme: 'dark' }],
  ] as const)('is accessible on %s, and fits', (_name, options) =>
    visit(options, async (visited) => {
      const { context, page, open, checkAccessibility } = visited;
      await indexSamples(context, 12);
      await open('#/search?q=mug&like=BAG-001');
      await namesWhen(page, (found) => found.length > 0);
      await checkAccessibility();
      await give(page, 'drop', await readPicture(visited, 'MUG-001'));
      await page.getByAltText('The picture that is searched with').waitFor();
      await checkAccessibility();
      expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
    }),
  );
});

describe.skipIf(reason !== null)('the page', () => {
  test('asks for an API key once, and has a session then', async () => {
    const { key, entry } = createApiKey('shop', ['search', 'read']);
    await visit(
      { environment: { API_KEYS: toKeyEntry(entry) }, expectsRefusals: true },
      async ({ page, open }) => {
        await open();
        await page.getByLabel('API key').fill('vitrine_wrong');
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.getByText('does not know this API key').waitFor();
        await page.getByLabel('API key').fill(key);
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
        await page.reload();
        await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
        await page.getByRole('button', { name: 'Sign out' }).click();
        await page.getByLabel('API key').waitFor();
      },
    );
  });

  test('shows its first view within a second on a slow processor', () =>
    visit({}, async ({ context, page, url }) => {
      await indexSamples(context, 12);
      // The server has had a visitor before, the browser knows nothing of the page.
      await page.goto(url);
      await page.locator('.hit-name').first().waitFor();
      await using visitor = await page.context().browser()?.newContext();
      const fresh = (await visitor?.newPage()) ?? page;
      const session = await fresh.context().newCDPSession(fresh);
      await session.send('Emulation.setCPUThrottlingRate', { rate: 4 });
      await fresh.addInitScript(`
        new MutationObserver((_, observer) => {
          if (document.querySelector('.hit-name') === null) return;
          performance.mark('first-view');
          observer.disconnect();
        }).observe(document, { childList: true, subtree: true });`);
      await fresh.goto(url);
      await fresh.locator('.hit-name').first().waitFor();
      const shownAt = (await fresh.evaluate(
        `performance.getEntriesByName('first-view')[0]?.startTime`,
      )) as number;
      console.log(`first view after ${Math.round(shownAt)} ms`);
      // A second is promised; three, on a machine that is busy with other tests.
      expect(shownAt).toBeLessThan(3_000);
    }));

  test('knows all modules of its first view at once, and loads other views when they are opened', () =>
    visit({}, async ({ page, url }) => {
      const modules = new Set<string>();
      page.on('request', (request) => {
        if (request.resourceType() === 'script' || request.url().endsWith('.ts')) modules.add(request.url());
      });
      await page.goto(url);
      await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
      const told = await page.evaluate(
        `[...document.querySelectorAll('link[rel=modulepreload]')].map(({ href }) => href)`,
      );
      expect([...modules].toSorted()).toEqual((told as string[]).toSorted());
      expect([...modules].some((each) => each.endsWith('/search.ts'))).toBe(true);
      modules.clear();
      await page.getByRole('link', { name: 'Queue' }).click();
      await page.getByRole('heading', { name: 'Workers' }).waitFor();
      const names = [...modules].map((each) => each.split('/').slice(5).join('/'));
      expect(names.toSorted()).toEqual(['lib/chart.ts', 'queue.ts']);
    }));

  test('asks for what its first view shows before it is there itself', () =>
    visit({}, async ({ context, page, url }) => {
      await indexSamples(context, 12);
      const asked: string[] = [];
      page.on('request', (request) => asked.push(new URL(request.url()).pathname));
      const released = Promise.withResolvers<void>();
      await page.route('**/main.ts', async (route) => {
        await released.promise;
        await route.continue();
      });
      const opened = page.goto(url);
      const data = ['/session', '/search', '/products'];
      await until('the requests', () => (data.every((path) => asked.includes(path)) ? true : undefined));
      released.resolve();
      await opened;
      await namesWhen(page, (found) => found.length === 8);
      // Once each: the view takes the answers that were begun.
      expect(asked.filter((path) => data.includes(path)).toSorted()).toEqual(data.toSorted());
    }));

  test('is not sent again until it changes', () =>
    visit({}, async ({ page, url }) => {
      await page.goto(url);
      await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
      await page.goto(`${url}/?again`);
      await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
      const sent = await page.evaluate(
        `performance.getEntriesByType('resource').filter(({ name, transferSize }) =>
           name.includes('/dashboard/') && transferSize > 0).map(({ name }) => name)`,
      );
      expect(sent).toEqual([]);
      // A page of an older version gets the file of this one, and does not keep it.
      const old = await fetch(`${url}/dashboard/older/queue.ts`);
      expect(old.status).toBe(200);
      expect(old.headers.get('cache-control')).toBe('no-store');
    }));

  test('is less than 120 kB compressed, with its libraries', () =>
    visit({}, async ({ page, url }) => {
      const sizes: number[] = [];
      page.on('response', (response) => {
        if (!/\/dashboard\/|:\d+\/$/.test(response.url())) return;
        sizes.push(Number(response.headers()['content-length'] ?? 0));
      });
      await page.goto(url);
      await page.getByRole('heading', { name: 'Your catalog is empty' }).waitFor();
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      console.log(`the page: ${sizes.length} files, ${bytes} bytes`);
      expect(sizes.length).toBeGreaterThan(20);
      expect(bytes).toBeLessThan(120_000);
    }));
});
