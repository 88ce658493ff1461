import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse } from 'csv-parse/sync';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createSampleCatalog } from '../../src/samples/sample-catalog.ts';
import { createWorker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { listTestStores } from '../support/stores.ts';

// The catalog is indexed with the real model before the first test.
vi.setConfig({ hookTimeout: 120_000 });

interface Hit {
  readonly product_id: string;
  readonly image_id: string;
  readonly score: number;
  readonly matched_by: readonly string[];
  readonly payload: {
    readonly name: string;
    readonly category: string;
    readonly brand: string;
    readonly price: number;
    readonly tags: readonly string[];
  };
}

const idsOf = (hits: readonly Hit[]) => hits.map(({ product_id }) => product_id);

describe.each(listTestStores())('a shop with its vectors in $name', ({ start }) => {
  const stack = new AsyncDisposableStack();
  let folder: string;
  let context: Context;
  let api: ApiClient;
  afterAll(() => stack.disposeAsync());

  const picture = (path: string) => readFile(join(folder, path));

  async function index(jobs: readonly object[]): Promise<void> {
    expect((await api.post('/queue/enqueue/batch', jobs)).body).toMatchObject({ rejected: [] });
    await createWorker(context).run({ once: true });
  }

  async function ask(body: object): Promise<{ readonly hits: readonly Hit[]; readonly facets?: unknown }> {
    const answer = await api.post('/search', body);
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
    return answer.body as never;
  }
  const search = async (body: object) => (await ask(body)).hits;

  beforeAll(async () => {
    const temporary = stack.use(await createTempFolder());
    const { csv } = await createSampleCatalog(temporary.path);
    folder = dirname(csv);
    const { environment } = stack.use(await start());
    context = stack.use(
      await createTestContext({
        IMAGE_ROOTS: folder,
        FACET_KEYS: 'color,stock',
        ...environment,
      }),
    );
    api = await createApiClient(context);
    const records: Record<string, string>[] = parse(await readFile(csv), { columns: true });
    const jobs = records.map((record, at) => ({
      ...record,
      price: Number(record['price']),
      tags: record['tags']!.split(';'),
      metadata: { color: record['tags']!.split(';').at(-1), stock: at % 3 },
    }));
    await index(jobs);
    // A second picture of one product: the handle side of the same mug.
    const side = await sharp(await picture('images/mug/mug-001.png'))
      .flop()
      .png()
      .toBuffer();
    const { image_path, ...mug }: Record<string, unknown> = jobs[0]!;
    await index([
      { ...mug, image_id: 'side', image_base64: side.toString('base64') },
      // The same file under another name.
      { product_id: 'COPY-1', image_path, name: 'Crimson cup', category: 'mug', price: 9 },
    ]);
  });

  describe('is searched', () => {
    test('by a picture: the product itself, then others of its kind', async () => {
      const hits = await search({ image_path: 'images/chair/chr-003.png', limit: 6 });
      expect(hits[0]).toMatchObject({ product_id: 'CHR-003', matched_by: ['image'] });
      expect(hits[0]!.score).toBeCloseTo(1, 2);
      expect(hits.map(({ payload }) => payload.category)).toEqual(Array(6).fill('chair'));
    });

    test('by words, with any model: "red mug" finds the red mug first', async () => {
      const hits = await search({ text: 'red mug', limit: 5 });
      expect(hits[0]).toMatchObject({
        product_id: 'MUG-001',
        matched_by: ['words'],
        payload: { name: 'Red mug' },
      });
      // Then what is one of both.
      for (const { payload } of hits)
        expect(payload.category === 'mug' || payload.tags.includes('red')).toBe(true);
      expect(idsOf(await search({ text: 'RED  mugs!', limit: 1 }))).toEqual(['MUG-001']);
      expect(
        (await search({ text: 'drinking bot', limit: 3 })).map(({ payload }) => payload.category),
      ).toEqual(Array(3).fill('bottle'));
    });

    test('by both: like this picture, but red', async () => {
      const [best] = await search({ image_path: 'images/lamp/lmp-002.jpg', text: 'red', limit: 1 });
      expect(best).toMatchObject({
        payload: { category: 'lamp', name: 'Red table lamp' },
        matched_by: ['image', 'words'],
      });
      const noWords = { image_path: 'images/lamp/lmp-002.jpg', text: 'red', weights: { words: 0 }, limit: 5 };
      const onlyLook = await search(noWords);
      expect(onlyLook[0]).toMatchObject({ product_id: 'LMP-002', matched_by: ['image'] });
      expect(onlyLook).toEqual(await search({ image_path: 'images/lamp/lmp-002.jpg', limit: 5 }));
    });

    test('by a picture, a product and words at once, of which the heaviest decides', async () => {
      const query = { image_path: 'images/mug/mug-001.png', product_id: 'LMP-002', text: 'watch', limit: 1 };
      for (const [heavy, category] of [
        ['image', 'mug'],
        ['product', 'lamp'],
        ['words', 'watch'],
      ]) {
        const weights = { image: 1, product: 1, words: 1, [heavy!]: 100 };
        const [best] = await search({ ...query, weights, exclude: ['MUG-001'] });
        expect(best, heavy).toMatchObject({ payload: { category } });
        expect(best!.matched_by).toContain(heavy === 'words' ? 'words' : 'image');
        expect(best!.product_id).not.toBe('MUG-001');
      }
    });

    test('by a product, as a form and as JSON, with words and without', async () => {
      const like = await search({ product_id: 'SHO-004', limit: 5 });
      expect(idsOf(like)).not.toContain('SHO-004');
      expect(like.map(({ payload }) => payload.category)).toEqual(Array(5).fill('shoe'));
      const [blue] = await search({ product_id: 'SHO-004', text: 'blue', limit: 1 });
      expect(blue).toMatchObject({ product_id: 'SHO-002' });
      const form = await api.postForm('/search', [
        ['image', new Blob([new Uint8Array(await picture('images/shoe/sho-004.jpg'))])],
        ['text', 'blue'],
        ['weights', '{"words": 2}'],
        ['exclude', 'SHO-004'],
        ['exclude', 'SHO-002'],
        ['limit', '3'],
        ['offset', '1'],
        ['facets', '{"fields": ["category"]}'],
      ]);
      expect(form).toMatchObject({ status: 200, body: { facets: { products: 97 } } });
      expect(idsOf(form.body['hits'] as Hit[])).toHaveLength(3);
    });

    test('by a part of a picture', async () => {
      const [shoe, mug] = await Promise.all([
        picture('images/shoe/sho-005.png'),
        picture('images/mug/mug-003.png'),
      ]);
      const half = { width: 480, height: 480 };
      const both = await sharp({ create: { width: 960, height: 480, channels: 3, background: '#fff' } })
        .composite([
          { input: await sharp(shoe).resize(half).toBuffer(), left: 0, top: 0 },
          { input: await sharp(mug).resize(half).toBuffer(), left: 480, top: 0 },
        ])
        .png()
        .toBuffer();
      const image_base64 = both.toString('base64');
      const left = { x: 0, y: 0, width: 0.5, height: 1 };
      expect(idsOf(await search({ image_base64, crop: left, limit: 1 }))).toEqual(['SHO-005']);
      expect(idsOf(await search({ image_base64, crop: { ...left, x: 0.5 }, limit: 1 }))).toEqual(['MUG-003']);
    });

    test('page by page, without a gap and without a repetition', async () => {
      for (const query of [
        { image_path: 'images/bag/bag-001.png' },
        { text: 'red bag', product_id: 'BAG-002' },
      ]) {
        const all = await search({ ...query, limit: 30 });
        const pages = [];
        for (let offset = 0; offset < 30; offset += 10) {
          pages.push(...(await search({ ...query, limit: 10, offset })));
        }
        expect(pages).toEqual(all);
        expect(new Set(idsOf(all)).size).toBe(30);
      }
      expect(await search({ text: 'mug', limit: 10, offset: 990 })).toEqual([]);
      expect(await api.post('/search', { text: 'mug', limit: 10, offset: 991 })).toMatchObject({
        status: 400,
        body: { code: 'invalid_request' },
      });
    });

    test('grouped by product, or image by image', async () => {
      const query = { image_path: 'images/mug/mug-001.png', filter: { product_id: 'MUG-001' } };
      expect(await search(query)).toMatchObject([{ image_id: 'main' }]);
      expect(await search({ ...query, group_by_product: false })).toMatchObject([
        { image_id: 'main' },
        { image_id: 'side' },
      ]);
    });

    test('diversified: the first hit stays, and the others differ more', async () => {
      const query = { text: 'red', limit: 8 };
      const alike = await search({ image_path: 'images/watch/wch-001.png', limit: 8 });
      const diverse = await search({ image_path: 'images/watch/wch-001.png', limit: 8, diversify: 0.7 });
      expect(diverse[0]).toMatchObject({ product_id: 'WCH-001' });
      const kinds = (hits: readonly Hit[]) => new Set(hits.map(({ payload }) => payload.category)).size;
      expect(kinds(alike)).toBe(1);
      expect(kinds(diverse)).toBeGreaterThan(2);
      expect(idsOf(await search({ ...query, diversify: 0 }))).toEqual(idsOf(await search(query)));
    });

    test('with a least score, which words do not have', async () => {
      const query = { image_path: 'images/bottle/btl-001.png', limit: 100 };
      const hits = await search({ ...query, score_threshold: 0.9 });
      expect(hits.length).toBeGreaterThan(0);
      expect(hits.length).toBeLessThan(97);
      for (const { score } of hits) expect(score).toBeGreaterThanOrEqual(0.9);
      const words = await search({ text: 'mug', score_threshold: 1, limit: 100 });
      expect(words.length).toBeGreaterThanOrEqual(12);
    });

    test('and nothing is found', async () => {
      expect(await ask({ text: 'submarine', facets: {}, filter: { category: 'boats' } })).toMatchObject({
        hits: [],
        facets: { products: 0, fields: { category: [] }, price_ranges: [] },
      });
      expect(await search({ text: '?!' })).toEqual([]);
      expect(await search({ product_id: 'MUG-001', filter: { price: { gt: 1e6 } } })).toEqual([]);
    });
  });

  describe('is filtered', () => {
    const select = async (filter: object) =>
      (await search({ product_id: 'WCH-001', limit: 200, filter })).map(({ payload }) => payload);

    test('by every kind of condition', async () => {
      const red = await select({ tags: 'red' });
      expect(red.map(({ category }) => category).toSorted()).toEqual(
        ['bag', 'bottle', 'chair', 'lamp', 'mug', 'shoe', 't-shirt'].toSorted(),
      );
      expect(await select({ tags: { all: ['red', 'kitchen'] } })).toHaveLength(2);
      expect(await select({ tags: { any: ['red', 'blue'], not: ['kitchen'] } })).toHaveLength(11);
      expect(await select({ brand: { exists: false } })).toMatchObject([{ name: 'Crimson cup' }]);
      expect(await select({ category: 'mug', brand: { exists: true } })).toHaveLength(12);
      for (const { price } of await select({ price: { gte: 20, lt: 30 } })) {
        expect(price).toBeGreaterThanOrEqual(20);
        expect(price).toBeLessThan(30);
      }
      expect(await select({ currency: { not: ['EUR'] } })).toMatchObject([{ name: 'Crimson cup' }]);
      expect(await select({ metadata: { color: ['teal', 'navy'], stock: { gte: 1 } } })).toHaveLength(
        (await select({ metadata: { color: ['teal', 'navy'] } })).length -
          (await select({ metadata: { color: ['teal', 'navy'], stock: 0 } })).length,
      );
      // Types count.
      expect(await select({ metadata: { stock: '1' } })).toEqual([]);
    });

    test.each([
      [{ colour: 'red' }, 'filter.colour is not a known field.'],
      [{ price: { below: 5 } }, 'filter.price.below is not a known field.'],
      [{ price: 'cheap' }, 'filter.price has a value of the wrong kind.'],
      [{ category: [] }, 'filter.category must have at least 1 entries.'],
      [{ tags: { all: 'red' } }, 'filter.tags.all must be a list.'],
      [{ metadata: { stock: { gt: '1' } } }, 'filter.metadata.stock has a value of the wrong kind.'],
      ['red', 'filter must be an object.'],
    ])('and says what is wrong with the filter %j', async (filter, sentence) => {
      const answer = await api.post('/search', { text: 'mug', filter });
      expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
      expect(answer.body['detail']).toContain(sentence);
      const list = await api.get(`/products?filter=${encodeURIComponent(JSON.stringify(filter))}`);
      expect(list).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
      expect(list.body['detail']).toContain(sentence);
    });
  });

  describe('shows facets', () => {
    test('of all products, without anything to search with', async () => {
      const { hits, facets } = await ask({
        limit: 0,
        facets: { price_ranges: [{ lt: 50 }, { gte: 50 }], limit: 3 },
      });
      expect(hits).toEqual([]);
      expect(facets).toMatchObject({
        products: 97,
        fields: {
          category: [
            { value: 'mug', products: 13 },
            { value: 'bag', products: 12 },
            { value: 'bottle', products: 12 },
          ],
          currency: [{ value: 'EUR', products: 96 }],
        },
        metadata: {
          color: [
            { value: 'blue', products: 8 },
            { value: 'brown', products: 8 },
            { value: 'cream', products: 8 },
          ],
          stock: [
            { value: 0, products: 32 },
            { value: 1, products: 32 },
            { value: 2, products: 32 },
          ],
        },
        price_ranges: [{ range: { lt: 50 } }, { range: { gte: 50 } }],
      });
      const ranges = (facets as { price_ranges: { products: number }[] }).price_ranges;
      expect(ranges[0]!.products + ranges[1]!.products).toBe(97);
    });

    test('of what passes the filter, next to the hits of that page', async () => {
      const { hits, facets } = await ask({
        text: 'red',
        filter: { category: ['mug', 'bag'] },
        limit: 1,
        facets: { fields: ['category'], metadata: [] },
      });
      expect(hits).toHaveLength(1);
      expect(facets).toEqual({
        products: 25,
        fields: {
          category: [
            { value: 'mug', products: 13 },
            { value: 'bag', products: 12 },
          ],
        },
        metadata: {},
        price_ranges: [],
      });
    });

    test('of no other keys of metadata than those of FACET_KEYS', async () => {
      const answer = await api.post('/search', { limit: 0, facets: { metadata: ['colour'] } });
      expect(answer).toMatchObject({ status: 400 });
      expect(answer.body['detail']).toContain('did you mean color?');
    });
  });

  describe('links to similar products', () => {
    test('with what a search by the product finds, and an ETag for caches', async () => {
      const first = await api.get('/products/CHR-001/similar?limit=4&category=chair&max_price=200');
      expect(first.status).toBe(200);
      expect(first.headers.get('cache-control')).toBe('public, max-age=60');
      const filter = { category: 'chair', price: { lte: 200 } };
      expect(first.body['hits']).toEqual(await search({ product_id: 'CHR-001', limit: 4, filter }));
      const app = (await import('../../src/http/app.ts')).createApp(context);
      const etag = first.headers.get('etag')!;
      const again = await app.request('/products/CHR-001/similar?limit=4&category=chair&max_price=200', {
        headers: { 'If-None-Match': etag },
      });
      expect([again.status, await again.text()]).toEqual([304, '']);
      const next = await api.get('/products/CHR-001/similar?limit=2&offset=2&category=chair&max_price=200');
      expect(next.body['hits']).toEqual((first.body['hits'] as Hit[]).slice(2));
      expect(next.headers.get('etag')).not.toBe(etag);
    });

    test('and says what it does not know', async () => {
      expect(await api.get('/products/none/similar')).toMatchObject({ status: 404 });
      for (const query of [
        'limit=0',
        'limit=many',
        'colour=red',
        'limit=900&offset=900',
        'min_price=cheap',
      ]) {
        expect(await api.get(`/products/CHR-001/similar?${query}`), query).toMatchObject({ status: 400 });
      }
    });
  });

  describe('lists products', () => {
    async function listAll(query: string): Promise<string[]> {
      const ids: string[] = [];
      for (let cursor: string | null = ''; cursor !== null; ) {
        const { status, body } = await api.get(
          `/products?${query}${cursor === '' ? '' : `&cursor=${cursor}`}`,
        );
        expect(status).toBe(200);
        ids.push(...(body['products'] as Hit[]).map(({ product_id }) => product_id));
        cursor = body['next_cursor'] as string | null;
      }
      return ids;
    }

    test('page by page, with filters', async () => {
      const all = await listAll('limit=10');
      expect(all).toHaveLength(97);
      expect(new Set(all).size).toBe(97);
      expect((await listAll('limit=5&category=mug')).toSorted()).toEqual(
        all.filter((id) => id.startsWith('MUG') || id === 'COPY-1').toSorted(),
      );
      expect(await listAll('category=mug&category=bag&max_price=20')).toEqual(
        await listAll(
          `filter=${encodeURIComponent('{"category":["mug","bag"],"price":{"lte":20}}')}&limit=7`,
        ),
      );
      expect(await listAll('tag=red&category=mug')).toEqual(['MUG-001']);
    });

    test('with all images of each', async () => {
      expect(await api.get('/products?tag=red&category=mug')).toMatchObject({
        body: {
          products: [
            {
              product_id: 'MUG-001',
              images: [
                { image_id: 'main', state: 'indexed', image_ref: 'images/mug/mug-001.png' },
                { image_id: 'side', state: 'indexed', image_ref: null },
              ],
            },
          ],
          next_cursor: null,
        },
      });
    });

    test.each([
      ['limit=0', 'limit must be at least 1.'],
      ['colour=red', 'colour is not a known field.'],
      ['cursor=nonsense', 'The cursor is none'],
      ['category=mug&filter={"category":"bag"}', 'filter names category, which is already given by itself.'],
    ])('and refuses %s', async (query, sentence) => {
      const { status, body } = await api.get(`/products?${query}`);
      expect([status, body['detail']]).toEqual([400, expect.stringContaining(sentence)]);
    });
  });

  test('finds the pictures that several products share', async () => {
    const exact = {
      kind: 'exact',
      images: [
        { product_id: expect.any(String), image_id: 'main', image_ref: 'images/mug/mug-001.png' },
        { product_id: expect.any(String), image_id: 'main', similarity: 1 },
      ],
    };
    const { status, body } = await api.get('/products/duplicates?threshold=1');
    expect([status, body]).toMatchObject([200, { images: 98, total_groups: 1, groups: [exact] }]);
    // Those who ask at the same time wait for each other.
    const answers = await Promise.all(
      ['', '?limit=1', '?threshold=0.9'].map((query) => api.get(`/products/duplicates${query}`)),
    );
    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200]);
    expect(answers[1]!.body['groups']).toHaveLength(1);
    expect(await api.get('/products/duplicates?threshold=0.5')).toMatchObject({ status: 400 });
  });

  test('answers searches as before and after, and never in between, while products change and go', async () => {
    await index(
      Array.from({ length: 8 }, (_, at) => ({
        product_id: `busy-${at}`,
        image_path: 'images/bag/bag-001.png',
        name: 'Zebra satchel',
        price: 10,
      })),
    );
    let isDone = false;
    const edits = (async () => {
      for (let at = 0; at < 8; at++) {
        expect(await api.patch(`/products/busy-${at}`, { price: 5, name: 'Zebra rucksack' })).toMatchObject({
          status: 200,
        });
        if (at % 2 === 0) {
          expect(await api.ask('DELETE', `/products/busy-${at}`)).toMatchObject({ status: 200 });
        }
      }
      isDone = true;
    })();
    let searches = 0;
    do {
      const filter = { product_id: Array.from({ length: 8 }, (_, at) => `busy-${at}`) };
      for (const query of [{ text: 'zebra' }, { image_path: 'images/bag/bag-001.png', text: 'zebra' }]) {
        for (const { payload } of await search({ ...query, filter })) {
          expect(['Zebra satchel 10', 'Zebra rucksack 5']).toContain(`${payload.name} ${payload.price}`);
        }
        searches++;
      }
    } while (!isDone);
    await edits;
    expect(searches).toBeGreaterThan(1);
    const left = await search({ text: 'rucksack' });
    expect(idsOf(left).toSorted()).toEqual(['busy-1', 'busy-3', 'busy-5', 'busy-7']);
    expect(await search({ text: 'satchel' })).toEqual([]);
  });
});
