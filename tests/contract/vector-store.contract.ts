import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { Point, VectorStore } from '../../src/vectors/port.ts';
import type { SearchFilter } from '../../src/vectors/search-filter.ts';
import { byImage, byWords, TEST_MODEL, toPoint } from '../support/points.ts';
import { describeChanges } from './vector-store.changes.ts';
import { describeDuplicates } from './vector-store.duplicates.ts';
import { describeWriteOrder } from './vector-store.order.ts';
import { describeProducts } from './vector-store.products.ts';
import { describeSearch } from './vector-store.search.ts';

/** A place where collections can be: a file, a server. */
export interface VectorStoreBackend {
  /** A new store, as another process would open it; the suite disposes it. */
  open(collection: string): VectorStore;
  /** Removes a collection that the suite has made. */
  drop(collection: string): Promise<void>;
}

/** What every vector store must do, whatever keeps the vectors. */
export function describeVectorStore(name: string, backend: VectorStoreBackend): void {
  describe(`vector store: ${name}`, () => {
    const opened: VectorStore[] = [];
    const open = (collection = `test-${randomUUID()}`): VectorStore => {
      const store = backend.open(collection);
      opened.push(store);
      return store;
    };
    const openReady = async (): Promise<VectorStore> => {
      const store = open();
      await store.ensureCollection(TEST_MODEL);
      return store;
    };
    const search = async (store: VectorStore, filter: SearchFilter = {}, limit = 10): Promise<string[]> => {
      const hits = await store.search({ parts: [byImage()], limit, filter, groupByProduct: false });
      return hits.map((hit) => hit.payload.productId);
    };

    afterEach(async () => {
      for (const store of opened) await store[Symbol.asyncDispose]();
      for (const collection of new Set(opened.map((store) => store.collection)))
        await backend.drop(collection);
      opened.length = 0;
    });

    describe('the collection', () => {
      it('remembers the model it was made for, for every process', async () => {
        const store = open();
        expect(await store.collectionModel()).toBeNull();
        await store.ensureCollection(TEST_MODEL);
        await store.ensureCollection(TEST_MODEL);
        expect(await store.collectionModel()).toEqual(TEST_MODEL);
        expect(await open(store.collection).collectionModel()).toEqual(TEST_MODEL);
      });

      it.each([
        ['another model', { ...TEST_MODEL, id: 'other-model' }],
        ['another dimension', { ...TEST_MODEL, dimension: 5 }],
        ['other preprocessing', { ...TEST_MODEL, fingerprint: 'f2' }],
      ])('refuses %s', async (_, model) => {
        const store = await openReady();
        await expect(open(store.collection).ensureCollection(model)).rejects.toMatchObject({
          code: 'model_mismatch',
        });
        expect(await store.collectionModel()).toEqual(TEST_MODEL);
      });

      it('may be made by several processes at the same time', async () => {
        const collection = `test-${randomUUID()}`;
        const stores = Array.from({ length: 6 }, () => open(collection));
        await Promise.all(stores.map((store) => store.ensureCollection(TEST_MODEL)));
        await Promise.all(stores.map((store, index) => store.upsert([toPoint(`p${index}`, index)])));
        expect(await stores[0]!.count()).toBe(6);
      });

      it('must exist before it is used', async () => {
        const store = open();
        const request = { parts: [byImage()], limit: 1, groupByProduct: true };
        const uses = [
          store.upsert([toPoint('p', 0)]),
          store.search(request),
          store.search({ ...request, parts: [byWords('red mug')] }),
          store.facets({ fields: ['brand'], metadataKeys: [], priceRanges: [], limit: 1 }),
          store.listProducts({ limit: 1 }),
          store.getProduct('p'),
          store.updateProduct('p', { price: 1 }, 2),
          store.deleteProduct('p', 2, ['main']),
          store.deleteImage('p', 'main', 2),
          store.duplicates({ threshold: 0.9, limit: 1 }),
          store.getPayloads([toPointId('p', 'main')]),
          store.count(),
          store.sweepTombstones(0),
        ];
        for (const outcome of await Promise.allSettled(uses)) {
          expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'store_rejected' } });
        }
      });

      it('is separate from other collections', async () => {
        const [one, other] = [await openReady(), await openReady()];
        await one.upsert([toPoint('p', 0)]);
        expect(await other.count()).toBe(0);
        expect(await other.getProduct('p')).toEqual([]);
        expect(await search(other)).toEqual([]);
        expect(await other.deleteProduct('p', 2, ['main'])).toBe(0);
        expect(await one.count()).toBe(1);
      });

      it('answers a ping with or without a collection', async () => {
        const store = open();
        await expect(store.ping()).resolves.toBeUndefined();
        await store.ensureCollection(TEST_MODEL);
        await expect(store.ping()).resolves.toBeUndefined();
      });
    });

    describe('points', () => {
      it('come back whole, by image', async () => {
        const store = await openReady();
        const productId = 'Ärmel/№ 7 "x"\\😀\n%00';
        const full = toPoint(productId, 30, {
          imageId: 'b',
          name: "Shirt, 'blue'",
          description: 'Line one\nline two',
          category: 'shirts',
          brand: 'Ätsch',
          price: 19.99,
          currency: 'EUR',
          tags: ['new', 'sale'],
          metadata: { sizes: [38, 40], nested: { deep: [null, { a: 1 }] }, stock: 0, eco: true, note: null },
        });
        // Its bytes came with the job: there is no reference.
        const bare = toPoint(productId, 60, { imageId: 'a', imageRef: null });
        await store.upsert([full, bare, toPoint('other', 0)]);

        const points = await store.getProduct(productId);
        expect(points.map((point) => point.payload)).toEqual([bare.payload, full.payload]);
        expect(points.map((point) => point.id)).toEqual([bare.id, full.id]);
        for (const [index, { vector }] of [bare, full].entries()) {
          expect(points[index]!.vector).toBeInstanceOf(Float32Array);
          for (const [at, value] of vector.entries()) expect(points[index]!.vector[at]).toBeCloseTo(value, 6);
        }
        expect(await store.getProduct('nothing of this name')).toEqual([]);
        const ids = [bare.id, toPointId('nothing of this name', 'main'), full.id, bare.id];
        expect(await store.getPayloads(ids)).toEqual([bare.payload, null, full.payload, bare.payload]);
        expect(await store.getPayloads([])).toEqual([]);
      });

      it('carry integers of any size in a form that JSON knows', async () => {
        const store = await openReady();
        const metadata = { ean: 2 ** 60, list: [Number.MAX_SAFE_INTEGER, 1e300] };
        await store.upsert([toPoint('p', 0, { metadata })]);
        const [point] = await store.getProduct('p');
        expect(JSON.parse(JSON.stringify(point!.payload.metadata))).toEqual(metadata);
      });

      it('keep where their image came from and its hash, and show both in hits', async () => {
        const store = await openReady();
        const contentHash = '0123456789abcdef'.repeat(4);
        const imageRef = 'https://images.test/shirt.jpg?size=large';
        await store.upsert([
          toPoint('a', 0, { imageRef, contentHash }),
          toPoint('b', 10, { imageRef: 'shirts/blue.png', contentHash }),
        ]);
        for (const groupByProduct of [true, false]) {
          const hits = await store.search({ parts: [byImage()], limit: 2, groupByProduct });
          expect(hits.map((hit) => [hit.payload.imageRef, hit.payload.contentHash])).toEqual([
            [imageRef, contentHash],
            ['shirts/blue.png', contentHash],
          ]);
        }
      });

      it('are replaced as a whole when they are written again', async () => {
        const store = await openReady();
        await store.upsert([toPoint('p', 0, { category: 'old', price: 1, metadata: { a: 1 } })]);
        await store.upsert([toPoint('p', 90, { brand: 'new' })]);
        expect(await store.count()).toBe(1);
        const [point] = await store.getProduct('p');
        expect(point!.payload).toEqual(toPoint('p', 90, { brand: 'new' }).payload);
        expect(point!.vector[1]).toBeCloseTo(1, 6);
        expect(await search(store, { category: 'old' })).toEqual([]);
      });

      it.each([
        ['of another length', Float32Array.of(1, 0, 0)],
        ['with a value that is not a number', Float32Array.of(1, Number.NaN, 0, 0)],
        ['with an infinite value', Float32Array.of(1, Number.POSITIVE_INFINITY, 0, 0)],
      ])('are refused with a vector %s, and so is the rest of their batch', async (_, vector) => {
        const store = await openReady();
        const bad = { ...toPoint('bad', 0), vector };
        await expect(store.upsert([toPoint('good', 0), bad])).rejects.toMatchObject({
          code: 'embedding_invalid',
        });
        expect(await store.count()).toBe(0);
        await expect(
          store.search({ parts: [byImage(vector)], limit: 1, groupByProduct: false }),
        ).rejects.toMatchObject({
          code: 'embedding_invalid',
        });
      });

      it('may be 300 in one call, or none', async () => {
        const store = await openReady();
        expect(await store.upsert([])).toEqual([]);
        const points = Array.from({ length: 300 }, (_, index) =>
          toPoint('p', index / 4, { imageId: `image-${String(index).padStart(3, '0')}`, version: index }),
        );
        await store.upsert(points);
        expect(await store.count()).toBe(300);
        const stored = await store.getProduct('p');
        expect(stored.map((point) => point.payload)).toEqual(points.map((point) => point.payload));
        expect(await store.getPayloads(points.map((point) => point.id))).toEqual(
          stored.map((point) => point.payload),
        );
        expect(await store.deleteProduct('p', 1_000, [])).toBe(300);
        expect(await store.count()).toBe(0);
      });
    });

    describe('search', () => {
      it('returns the nearest first, with the cosine as score', async () => {
        const store = await openReady();
        await store.upsert([toPoint('far', 120), toPoint('near', 10, { name: 'Near' }), toPoint('mid', 60)]);
        const hits = await store.search({ parts: [byImage()], limit: 10, groupByProduct: false });
        expect(hits.map((hit) => hit.payload.productId)).toEqual(['near', 'mid', 'far']);
        expect(hits[0]!.id).toBe(toPointId('near', 'main'));
        expect(hits[0]!.payload).toEqual(toPoint('near', 10, { name: 'Near' }).payload);
        for (const [index, angle] of [10, 60, 120].entries()) {
          expect(hits[index]!.score).toBeCloseTo(Math.cos((angle * Math.PI) / 180), 5);
        }
        expect(await search(store, {}, 2)).toEqual(['near', 'mid']);
      });

      it('never returns a score above one', async () => {
        const store = await openReady();
        const vector = Float32Array.of(0.123, 0.456, 0.789, 0.3919961734507184);
        await store.upsert([{ ...toPoint('p', 0), vector }]);
        const [hit] = await store.search({ parts: [byImage(vector)], limit: 1, groupByProduct: false });
        expect(hit!.score).toBeLessThanOrEqual(1);
        expect(hit!.score).toBeCloseTo(1, 5);
      });

      it('by product returns each product once, with its best image', async () => {
        const store = await openReady();
        await store.upsert([
          toPoint('a', 50, { imageId: 'front' }),
          toPoint('a', 20, { imageId: 'back' }),
          toPoint('a', 25, { imageId: 'side' }),
          toPoint('b', 30),
          toPoint('c', 10, { imageId: 'one' }),
          toPoint('c', 10.5, { imageId: 'two' }),
        ]);
        const hits = await store.search({ parts: [byImage()], limit: 10, groupByProduct: true });
        expect(hits.map((hit) => [hit.payload.productId, hit.payload.imageId])).toEqual([
          ['c', 'one'],
          ['a', 'back'],
          ['b', 'main'],
        ]);
        const two = await store.search({ parts: [byImage()], limit: 2, groupByProduct: true });
        expect(two.map((hit) => hit.payload.productId)).toEqual(['c', 'a']);
        expect(await search(store)).toHaveLength(6);
      });

      it('leaves out the product that is searched with', async () => {
        const store = await openReady();
        await store.upsert([
          toPoint('self', 0),
          toPoint('self', 1, { imageId: 'b' }),
          toPoint('a', 5),
          toPoint('b', 9),
        ]);
        for (const groupByProduct of [true, false]) {
          const request = { parts: [byImage()], limit: 2, groupByProduct, excludeProductIds: ['self'] };
          const hits = await store.search(request);
          expect(hits.map((hit) => hit.payload.productId)).toEqual(['a', 'b']);
        }
      });

      it('filters before it takes the nearest, not after', async () => {
        const store = await openReady();
        const crowd = Array.from({ length: 200 }, (_, index) =>
          toPoint(`crowd-${index}`, index / 100, { category: 'crowd' }),
        );
        await store.upsert([...crowd, toPoint('rare', 170, { category: 'rare' })]);
        expect(await search(store, { category: 'rare' }, 3)).toEqual(['rare']);
      });
    });

    describe('filters', () => {
      const products: readonly Point[] = [
        toPoint('shirt', 1, {
          category: 'shirts',
          brand: 'Acme',
          price: 10,
          currency: 'EUR',
          tags: ['new', 'blue'],
          metadata: {
            size: 40,
            eco: true,
            'a.b[0]': 'dotted',
            sizes: [38, 40],
            code: '1',
            weight: 1.5,
            deep: { size: 40 },
          },
        }),
        toPoint('coat', 2, {
          imageId: 'front',
          category: 'coats',
          brand: 'Acme',
          price: 99.5,
          currency: 'EUR',
          tags: ['sale'],
          metadata: { size: 42, eco: false, sizes: [42], code: 1, weight: 2, note: null },
        }),
        toPoint('sock', 3, {
          category: 'socks',
          brand: 'Zeta',
          price: 0,
          currency: 'USD',
          tags: [],
          metadata: { size: '40', eco: 1, code: true, note: 'x' },
        }),
        toPoint('bare', 4),
      ];
      const cases: readonly (readonly [string, SearchFilter, readonly string[]])[] = [
        ['no condition', {}, ['shirt', 'coat', 'sock', 'bare']],
        ['a category', { category: 'coats' }, ['coat']],
        ['any of two categories', { category: ['coats', 'socks'] }, ['coat', 'sock']],
        ['an empty list of categories', { category: [] }, []],
        ['a category in another case', { category: 'Coats' }, []],
        ['a brand', { brand: 'Acme' }, ['shirt', 'coat']],
        ['a currency', { currency: ['USD'] }, ['sock']],
        ['a product', { productId: 'coat' }, ['coat']],
        ['any of two products', { productId: ['coat', 'bare'] }, ['coat', 'bare']],
        ['an image', { imageId: 'main' }, ['shirt', 'sock', 'bare']],
        ['a tag', { tags: 'blue' }, ['shirt']],
        ['any of two tags', { tags: ['blue', 'sale'] }, ['shirt', 'coat']],
        ['two conditions at once', { brand: 'Acme', tags: 'sale' }, ['coat']],
        ['a price from', { price: { gte: 10 } }, ['shirt', 'coat']],
        ['a price above', { price: { gt: 10 } }, ['coat']],
        ['a price up to', { price: { lte: 10 } }, ['shirt', 'sock']],
        ['a price below', { price: { lt: 10 } }, ['sock']],
        ['a price between', { price: { gt: 0, lt: 99.5 } }, ['shirt']],
        ['a price without a bound', { price: {} }, ['shirt', 'coat', 'sock', 'bare']],
        ['a number, and not the same as text', { metadata: { size: 40 } }, ['shirt']],
        ['text, and not the same as a number', { metadata: { size: '40' } }, ['sock']],
        ['a fraction', { metadata: { weight: 1.5 } }, ['shirt']],
        ['a number written with a fraction of zero', { metadata: { weight: 2.0 } }, ['coat']],
        ['true, and not one', { metadata: { eco: true } }, ['shirt']],
        ['false', { metadata: { eco: false } }, ['coat']],
        ['one, and not true', { metadata: { eco: 1 } }, ['sock']],
        ['any of values of three types', { metadata: { code: ['1', 1, true] } }, ['shirt', 'coat', 'sock']],
        ['an empty list of values', { metadata: { size: [] } }, []],
        ['one of a list in the metadata', { metadata: { sizes: 40 } }, ['shirt']],
        ['a range over a list in the metadata', { metadata: { sizes: { gt: 40 } } }, ['coat']],
        ['a range', { metadata: { size: { gte: 40, lte: 42 } } }, ['shirt', 'coat']],
        ['a key with the signs of a path', { metadata: { 'a.b[0]': 'dotted' } }, ['shirt']],
        ['a part of an object in the metadata', { metadata: { deep: 40 } }, []],
        ['two keys', { metadata: { size: 40, eco: true } }, ['shirt']],
        ['a key that no product has', { metadata: { missing: 'x' } }, []],
        ['any of two brands, in full', { brand: { any: ['Zeta', 'Other'] } }, ['sock']],
        ['all of two tags', { tags: { all: ['new', 'blue'] } }, ['shirt']],
        ['all of two tags, of which one is missing', { tags: { all: ['new', 'sale'] } }, []],
        ['all of no tags', { tags: { all: [] } }, ['shirt', 'coat', 'sock', 'bare']],
        ['not a brand', { brand: { not: ['Acme'] } }, ['sock', 'bare']],
        ['not any of two tags', { tags: { not: ['new', 'sale'] } }, ['sock', 'bare']],
        ['not any of no tags', { tags: { not: [] } }, ['shirt', 'coat', 'sock', 'bare']],
        ['not a product', { productId: { not: ['coat', 'bare'] } }, ['shirt', 'sock']],
        ['an exact price', { price: 10 }, ['shirt']],
        ['a range of prices without one of them', { price: { gte: 0, not: [10] } }, ['coat', 'sock']],
        ['a brand that exists', { brand: { exists: true } }, ['shirt', 'coat', 'sock']],
        ['no brand', { brand: { exists: false } }, ['bare']],
        ['tags that exist: an empty list is none', { tags: { exists: true } }, ['shirt', 'coat']],
        ['no tags', { tags: { exists: false } }, ['sock', 'bare']],
        ['a key that exists', { metadata: { sizes: { exists: true } } }, ['shirt', 'coat']],
        ['a key that exists with an object', { metadata: { deep: { exists: true } } }, ['shirt']],
        [
          'a key that is null or absent',
          { metadata: { note: { exists: false } } },
          ['shirt', 'coat', 'bare'],
        ],
        ['not a value of another type', { metadata: { code: { not: ['1'] } } }, ['coat', 'sock', 'bare']],
        ['not a value in a list', { metadata: { sizes: { not: [40] } } }, ['coat', 'sock', 'bare']],
        ['a range and a list at once', { metadata: { size: { gte: 40, any: [42, 44] } } }, ['coat']],
        ['all of a list in the metadata', { metadata: { sizes: { all: [38, 40] } } }, ['shirt']],
      ];

      it.each(cases)('by %s', async (_, filter, expected) => {
        const store = await openReady();
        await store.upsert(products);
        expect(await search(store, filter)).toEqual(expected);
        const grouped = await store.search({ parts: [byImage()], limit: 10, filter, groupByProduct: true });
        expect(grouped.map((hit) => hit.payload.productId)).toEqual(expected);
      });
    });

    describeWriteOrder({ open, openReady, search });
    describeSearch({ open, openReady, search });
    describeProducts({ open, openReady, search });
    describeChanges({ open, openReady, search });
    describeDuplicates({ open, openReady, search });
  });
}
