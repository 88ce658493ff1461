import { describe, expect, it } from 'vitest';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { FacetRequest, Point, VectorStore } from '../../src/vectors/port.ts';
import type { SearchFilter } from '../../src/vectors/search-filter.ts';
import { toPoint } from '../support/points.ts';
import type { OpenStores } from './vector-store.order.ts';

/** Lists of products, counts of products by value, and the deletion of one image. */
export function describeProducts({ open, openReady, search }: OpenStores): void {
  async function openWith(points: readonly Point[]): Promise<VectorStore> {
    const store = await openReady();
    await store.upsert(points);
    return store;
  }

  describe('the list of products', () => {
    async function list(store: VectorStore, limit: number, filter?: SearchFilter): Promise<string[][]> {
      const pages: string[][] = [];
      let cursor: string | null = null;
      do {
        const page = await store.listProducts({
          limit,
          ...(filter !== undefined && { filter }),
          ...(cursor !== null && { cursor }),
        });
        pages.push(page.products.map(({ productId }) => productId));
        cursor = page.cursor;
      } while (cursor !== null);
      return pages;
    }

    const CATALOG = Array.from({ length: 23 }, (_, product) =>
      Array.from({ length: 1 + (product % 4) }, (_, image) =>
        toPoint(`p${product}`, product, {
          imageId: `image-${image}`,
          category: product % 2 === 0 ? 'even' : 'odd',
          ...(image === 1 && { tags: ['second'] }),
        }),
      ),
    ).flat();
    const all = Array.from({ length: 23 }, (_, product) => `p${product}`).toSorted();

    it('has each product once, in pages of the wanted size', async () => {
      const store = await openWith(CATALOG);
      for (const limit of [1, 5, 22, 23, 24, 100]) {
        const pages = await list(store, limit);
        expect(pages.flat().toSorted()).toEqual(all);
        expect(pages.slice(0, -1).every((page) => page.length === limit)).toBe(true);
      }
    });

    it('has the products of which an image passes, each with all of its images in order', async () => {
      const store = await openWith(CATALOG);
      const odd = all.filter((id) => Number(id.slice(1)) % 2 === 1);
      expect((await list(store, 4, { category: 'odd' })).flat().toSorted()).toEqual(odd);
      const { products } = await store.listProducts({ limit: 100, filter: { tags: 'second' } });
      expect(products.map(({ productId }) => productId).toSorted()).toEqual(
        all.filter((id) => Number(id.slice(1)) % 4 >= 1),
      );
      for (const { productId, images } of products) {
        const expected = CATALOG.filter(({ payload }) => payload.productId === productId);
        expect(images).toEqual(expected.map(({ id, payload }) => ({ id, payload })));
      }
      expect(await store.listProducts({ limit: 5, filter: { category: 'none' } })).toEqual({
        products: [],
        cursor: null,
      });
    });

    it('stays the same for what stays, while products come and go between two pages', async () => {
      const store = await openWith(CATALOG);
      const first = await store.listProducts({ limit: 8 });
      const seen = first.products.map(({ productId }) => productId);
      await store.deleteProduct(seen[0] ?? '', 10, []);
      await store.upsert([toPoint('new', 1)]);
      const rest = await store.listProducts({ limit: 100, cursor: first.cursor ?? '' });
      const later = rest.products.map(({ productId }) => productId).filter((id) => id !== 'new');
      expect([...seen, ...later].toSorted()).toEqual(all);
    });

    it('knows no tombstones and no changed data of products without images', async () => {
      const store = await openWith([toPoint('p', 0), toPoint('q', 0)]);
      await store.deleteProduct('p', 10, ['main']);
      await store.updateProduct('nobody', { name: 'x' }, 10);
      expect((await list(store, 1)).flat()).toEqual(['q']);
      expect(await store.count()).toBe(1);
      expect(await search(store)).toEqual(['q']);
    });

    it.each(['', 'x', 'bnVsbA', '%00', Buffer.from('["other","x"]').toString('base64url')])(
      'refuses the cursor "%s"',
      async (cursor) => {
        const store = await openReady();
        await expect(store.listProducts({ limit: 1, cursor })).rejects.toMatchObject({
          code: 'invalid_request',
        });
      },
    );
  });

  describe('facets', () => {
    const POINTS = [
      toPoint('shirt', 1, {
        imageId: 'a',
        category: 'shirts',
        brand: 'Acme',
        price: 10,
        currency: 'EUR',
        tags: ['new', 'blue'],
        metadata: { color: 'blue', size: 40, 'a.b': 'dotted' },
      }),
      toPoint('shirt', 2, {
        imageId: 'b',
        category: 'shirts',
        brand: 'Acme',
        price: 10,
        currency: 'EUR',
        tags: ['blue', 'new', 'new'],
        metadata: { color: 'blue', size: 41 },
      }),
      toPoint('coat', 3, {
        category: 'coats',
        brand: 'Acme',
        price: 99.5,
        currency: 'EUR',
        tags: ['new'],
        metadata: { color: ['blue', 'red'], size: '40', eco: true },
      }),
      toPoint('sock', 4, { category: 'shirts', brand: 'Zeta', price: 0, tags: [], metadata: { eco: 1 } }),
      toPoint('bare', 5),
    ];
    const ALL: FacetRequest = {
      fields: ['category', 'brand', 'tags', 'currency'],
      metadataKeys: ['color', 'size', 'eco', 'a.b', 'missing'],
      priceRanges: [{ lt: 10 }, { gte: 10, lt: 50 }, { gte: 50 }, {}],
      limit: 10,
    };

    it('count products, not images, by each of their values', async () => {
      const store = await openWith(POINTS);
      expect(await store.facets(ALL)).toEqual({
        products: 4,
        fields: {
          category: [
            { value: 'shirts', products: 2 },
            { value: 'coats', products: 1 },
          ],
          brand: [
            { value: 'Acme', products: 2 },
            { value: 'Zeta', products: 1 },
          ],
          tags: [
            { value: 'new', products: 2 },
            { value: 'blue', products: 1 },
          ],
          currency: [{ value: 'EUR', products: 2 }],
        },
        metadata: {
          color: [
            { value: 'blue', products: 2 },
            { value: 'red', products: 1 },
          ],
          size: [
            { value: 40, products: 1 },
            { value: 41, products: 1 },
            { value: '40', products: 1 },
          ],
          eco: [
            { value: true, products: 1 },
            { value: 1, products: 1 },
          ],
          'a.b': [{ value: 'dotted', products: 1 }],
          missing: [],
        },
        prices: [1, 1, 1, 3],
      });
    });

    it('count what passes the filter', async () => {
      const store = await openWith(POINTS);
      const facets = await store.facets({
        ...ALL,
        fields: ['brand'],
        metadataKeys: [],
        filter: { category: 'shirts' },
      });
      expect(facets).toEqual({
        products: 2,
        fields: {
          brand: [
            { value: 'Acme', products: 1 },
            { value: 'Zeta', products: 1 },
          ],
        },
        metadata: {},
        prices: [1, 1, 0, 2],
      });
      expect(await store.facets({ ...ALL, filter: { brand: 'none' } })).toMatchObject({
        products: 0,
        prices: [0, 0, 0, 0],
      });
    });

    it('count products of one image each', async () => {
      const store = await openWith([
        toPoint('a', 0, { category: 'mugs', tags: ['new', 'new', 'red'], price: 5, currency: 'EUR' }),
        toPoint('b', 1, { category: 'mugs', tags: ['red'], price: 10 }),
        toPoint('c', 2, { category: 'cups', tags: [], price: 20 }),
        toPoint('d', 3),
        toPoint('gone', 4, { category: 'cups', price: 5 }),
      ]);
      await store.deleteProduct('gone', 11, ['main']);
      await store.updateProduct('unknown', { category: 'cups' }, 12);
      const request = {
        fields: ['category', 'tags', 'currency', 'brand'],
        metadataKeys: [],
        priceRanges: [{ lt: 10 }, { gte: 10 }, {}],
        limit: 10,
      } as const;
      const counts = {
        products: 4,
        fields: {
          category: [
            { value: 'mugs', products: 2 },
            { value: 'cups', products: 1 },
          ],
          tags: [
            { value: 'red', products: 2 },
            { value: 'new', products: 1 },
          ],
          currency: [{ value: 'EUR', products: 1 }],
          brand: [],
        },
        metadata: {},
        prices: [1, 2, 3],
      };
      expect(await store.facets(request)).toEqual(counts);
      const filter = { category: 'mugs', price: { gte: 6 } };
      expect(await store.facets({ ...request, filter, limit: 1 })).toEqual({
        ...counts,
        products: 1,
        fields: {
          category: [{ value: 'mugs', products: 1 }],
          tags: [{ value: 'red', products: 1 }],
          currency: [],
          brand: [],
        },
        prices: [0, 1, 1],
      });
      // With a second image of one of them, its values count once all the same.
      await store.upsert([toPoint('a', 5, { imageId: 'side', category: 'mugs', tags: ['blue'], price: 5 })]);
      expect(await store.facets(request)).toMatchObject({
        products: 4,
        fields: { category: counts.fields.category, currency: counts.fields.currency },
        prices: counts.prices,
      });
    });

    it('have at most as many values as wanted, those of the most products', async () => {
      const store = await openWith([...POINTS, toPoint('scarf', 6, { category: 'shirts' })]);
      const { fields } = await store.facets({ ...ALL, limit: 1 });
      expect(fields.category).toEqual([{ value: 'shirts', products: 3 }]);
    });

    it('follow changes and deletions', async () => {
      const store = await openWith(POINTS);
      await store.updateProduct('shirt', { category: 'tops', metadata: { color: 'green' } }, 10);
      await store.deleteProduct('sock', 11, ['main']);
      const { fields, metadata, products } = await store.facets(ALL);
      expect(products).toBe(3);
      expect(fields.category).toEqual([
        { value: 'coats', products: 1 },
        { value: 'tops', products: 1 },
      ]);
      expect(metadata['color']).toEqual([
        { value: 'blue', products: 1 },
        { value: 'green', products: 1 },
        { value: 'red', products: 1 },
      ]);
    });
  });

  describe('a deleted image', () => {
    it('is gone, and the others of its product stay', async () => {
      const store = await openWith([toPoint('p', 0), toPoint('p', 1, { imageId: 'b' }), toPoint('q', 2)]);
      expect(await store.deleteImage('p', 'main', 10)).toBe(true);
      expect(await store.deleteImage('p', 'main', 10)).toBe(false);
      expect((await store.getProduct('p')).map(({ payload }) => payload.imageId)).toEqual(['b']);
      expect(await store.getPayloads([toPointId('p', 'main')])).toEqual([null]);
      expect(await search(store)).toEqual(['p', 'q']);
      expect(await store.count()).toBe(2);
    });

    it("doesn't come back by a late write, whatever its version; others do", async () => {
      const store = await openWith([toPoint('p', 0, { version: 5 })]);
      await store.deleteImage('p', 'main', 10);
      const late = toPoint('p', 0, { version: 99, sequence: 9 });
      expect(await store.upsert([late, toPoint('p', 0, { imageId: 'b', version: 9 })])).toEqual([
        'deleted',
        'indexed',
      ]);
      expect((await store.getProduct('p')).map(({ payload }) => payload.imageId)).toEqual(['b']);
    });

    it('comes back by a later job, and stays safe from earlier ones', async () => {
      const store = await openWith([toPoint('p', 0, { version: 5, sequence: 4 })]);
      await store.deleteImage('p', 'main', 10);
      const back = toPoint('p', 0, { version: 1, sequence: 12, category: 'back' });
      expect(await store.upsert([back])).toEqual(['indexed']);
      expect(await store.upsert([toPoint('p', 0, { version: 99, sequence: 9 })])).toEqual(['deleted']);
      expect(await store.getPayloads([back.id])).toEqual([back.payload]);
      expect(await store.deleteImage('p', 'main', 11)).toBe(false);
      expect(await store.getPayloads([back.id])).toEqual([back.payload]);
    });

    it('was never stored: its deletion covers late writes all the same', async () => {
      const store = await openReady();
      expect(await store.deleteImage('p', 'main', 10)).toBe(false);
      expect(await store.upsert([toPoint('p', 0, { version: 9 })])).toEqual(['deleted']);
      expect(await store.count()).toBe(0);
    });

    it('leaves nothing when its deletion and earlier writes race', async () => {
      const store = await openReady();
      const ids = Array.from({ length: 20 }, (_, index) => `image-${index}`);
      await Promise.all(
        ids.flatMap((imageId) => [
          open(store.collection).upsert([toPoint('p', 0, { imageId, version: 9 })]),
          open(store.collection).deleteImage('p', imageId, 10),
        ]),
      );
      expect(await store.count()).toBe(0);
      expect(await store.sweepTombstones(0)).toBeGreaterThan(0);
      expect(await store.sweepTombstones(0)).toBe(0);
    });
  });
}
