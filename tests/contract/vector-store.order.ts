import { describe, expect, it } from 'vitest';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { VectorStore } from '../../src/vectors/port.ts';
import type { SearchFilter } from '../../src/vectors/search-filter.ts';
import { byImage, toPoint } from '../support/points.ts';

/** What the suite lends to its parts. */
export interface OpenStores {
  open(collection: string): VectorStore;
  /** A store with a new collection. */
  openReady(): Promise<VectorStore>;
  /** The product ids of the hits, nearest first. */
  search(store: VectorStore, filter?: SearchFilter): Promise<string[]>;
}

/** Which write wins, and what a deletion covers. */
export function describeWriteOrder({ open, openReady, search }: OpenStores): void {
  const categoryOf = async (store: VectorStore, productId = 'p'): Promise<string | undefined> =>
    (await store.getProduct(productId))[0]?.payload.category;

  describe('versions', () => {
    it('never go back', async () => {
      const store = await openReady();
      expect(await store.upsert([toPoint('p', 0, { version: 5, category: 'five' })])).toEqual(['indexed']);
      expect(await store.upsert([toPoint('p', 90, { version: 4, category: 'four' })])).toEqual([
        'superseded',
      ]);
      expect(await categoryOf(store)).toBe('five');
      expect(await store.upsert([toPoint('p', 0, { version: 6, category: 'six' })])).toEqual(['indexed']);
      expect(await categoryOf(store)).toBe('six');
    });

    it('that are equal are ordered by sequence', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { version: 7, sequence: 20, category: 'of 20' })]);
      expect(await store.upsert([toPoint('p', 0, { version: 7, sequence: 19 })])).toEqual(['superseded']);
      expect(await categoryOf(store)).toBe('of 20');
      const later = toPoint('p', 0, { version: 7, sequence: 21, category: 'of 21' });
      expect(await store.upsert([later])).toEqual(['indexed']);
      expect(await categoryOf(store)).toBe('of 21');
    });

    it('count before sequences', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { version: 7, sequence: 20 })]);
      expect(await store.upsert([toPoint('p', 0, { version: 6, sequence: 21 })])).toEqual(['superseded']);
      expect(await store.upsert([toPoint('p', 0, { version: 8, sequence: 19 })])).toEqual(['indexed']);
      expect((await store.getProduct('p'))[0]?.payload).toMatchObject({ version: 8, sequence: 19 });
    });

    it('and sequences as large as they come are compared exactly', async () => {
      const store = await openReady();
      const [version, sequence] = [Number.MAX_SAFE_INTEGER, 1_790_000_000_000_001];
      await store.upsert([toPoint('p', 0, { version, sequence })]);
      const earlier = toPoint('p', 0, { version, sequence: sequence - 1 });
      expect(await store.upsert([earlier])).toEqual(['superseded']);
      expect(await store.upsert([toPoint('p', 0, { version: version - 1, sequence })])).toEqual([
        'superseded',
      ]);
      expect(await store.upsert([toPoint('p', 0, { version, sequence: sequence + 1 })])).toEqual(['indexed']);
      expect((await store.getProduct('p'))[0]?.payload).toMatchObject({ version, sequence: sequence + 1 });
    });

    it('of a repeated write are the same, and it is indexed again', async () => {
      const store = await openReady();
      const point = toPoint('p', 0, { version: 5, sequence: 9, category: 'five' });
      expect(await store.upsert([point])).toEqual(['indexed']);
      expect(await store.upsert([point])).toEqual(['indexed']);
      expect(await store.getPayloads([point.id])).toEqual([point.payload]);
    });

    it('are compared point by point within one call', async () => {
      const store = await openReady();
      await store.upsert(
        Array.from({ length: 5 }, (_, index) =>
          toPoint(`p${index}`, index, { version: 10 + index, category: 'stored' }),
        ),
      );
      // Products 0 to 4 are stored with versions 10 to 14.
      const versions = [12, 11, 12, 13, 13];
      const outcomes = await store.upsert([
        ...versions.map((version, index) => toPoint(`p${index}`, index, { version, category: 'new' })),
        toPoint('fresh', 9, { version: 1, category: 'new' }),
      ]);
      expect(outcomes).toEqual(['indexed', 'indexed', 'indexed', 'indexed', 'superseded', 'indexed']);
      const categories = await Promise.all([0, 1, 2, 3, 4].map((index) => categoryOf(store, `p${index}`)));
      expect(categories).toEqual(['new', 'new', 'new', 'new', 'stored']);
      expect(await categoryOf(store, 'fresh')).toBe('new');
    });

    it('decide between two writes of the same point in one call, whatever their order', async () => {
      const store = await openReady();
      const [older, newer] = [1, 2].map((version) => toPoint('p', 0, { version, category: `of ${version}` }));
      expect((await store.upsert([newer!, older!]))[0]).toBe('indexed');
      expect(await categoryOf(store)).toBe('of 2');
      expect(await store.count()).toBe(1);
    });

    it('decide between processes, whatever their order', async () => {
      const store = await openReady();
      const versions = [7, 3, 9, 1, 8, 2, 10, 4, 6, 5];
      await Promise.all(
        versions.map((version) =>
          open(store.collection).upsert([toPoint('p', 0, { version, category: `of ${version}` })]),
        ),
      );
      expect(await categoryOf(store)).toBe('of 10');
    });
  });

  describe('a deleted product', () => {
    it('is gone from search, from its address, from its points and from the count', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0), toPoint('p', 1, { imageId: 'b' }), toPoint('q', 2)]);
      expect(await store.deleteProduct('p', 10, ['main', 'c'])).toBe(2);
      expect(await store.getProduct('p')).toEqual([]);
      expect(await store.getPayloads(['main', 'b', 'c'].map((image) => toPointId('p', image)))).toEqual([
        null,
        null,
        null,
      ]);
      expect(await search(store)).toEqual(['q']);
      expect(await search(store, { productId: 'p' })).toEqual([]);
      const grouped = await store.search({ parts: [byImage()], limit: 9, groupByProduct: true });
      expect(grouped.map((hit) => hit.payload.productId)).toEqual(['q']);
      expect(await store.count()).toBe(1);
    });

    it("doesn't come back by a late write: of a stored image, of a named one, of one never heard of", async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { version: 5 })]);
      expect(await store.deleteProduct('p', 10, ['named'])).toBe(1);
      const late = ['main', 'named', 'unknown'].map((imageId) => toPoint('p', 0, { imageId, version: 9 }));
      expect(await store.upsert([...late, toPoint('q', 5)])).toEqual([
        'deleted',
        'deleted',
        'deleted',
        'indexed',
      ]);
      expect(await store.getProduct('p')).toEqual([]);
      expect(await store.getPayloads(late.map((point) => point.id))).toEqual([null, null, null]);
      expect(await store.count()).toBe(1);
    });

    it("doesn't come back by a late write with a greater version", async () => {
      const store = await openReady();
      await store.deleteProduct('p', 10, []);
      const late = toPoint('p', 0, { version: 2 ** 53 - 1, sequence: 9 });
      expect(await store.upsert([late])).toEqual(['deleted']);
      expect(await store.count()).toBe(0);
    });

    it('may be deleted again, and every deletion leaves its tombstone', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { version: 5 })]);
      expect(await store.deleteProduct('p', 10, ['main'])).toBe(1);
      expect(await store.deleteProduct('p', 10, ['main'])).toBe(0);
      expect(await store.deleteProduct('p', 20, [])).toBe(0);
      expect(await store.upsert([toPoint('p', 0, { version: 15 })])).toEqual(['deleted']);
      expect(await store.upsert([toPoint('p', 0, { imageId: 'new', version: 15 })])).toEqual(['deleted']);
      expect(await store.count()).toBe(0);
    });

    it('was never stored: its deletion covers late writes all the same', async () => {
      const store = await openReady();
      expect(await store.deleteProduct('p', 10, [])).toBe(0);
      expect(await store.upsert([toPoint('p', 0, { version: 9 })])).toEqual(['deleted']);
      expect(await store.count()).toBe(0);
    });

    it.each([
      ['the same version', 5],
      ['a lower version', 1],
      ['a greater version', 50],
    ])('comes back by a later job with %s', async (_, version) => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { version: 5, sequence: 4 })]);
      await store.deleteProduct('p', 10, ['main']);
      await store.deleteProduct('p', 11, ['main']);
      const back = toPoint('p', 0, { version, sequence: 12, category: 'back' });
      expect(await store.upsert([back])).toEqual(['indexed']);
      expect(await store.upsert([back])).toEqual(['indexed']);
      expect(await search(store, { category: 'back' })).toEqual(['p']);
      expect((await store.getProduct('p')).map((point) => point.payload)).toEqual([back.payload]);
      expect(await store.count()).toBe(1);
    });

    it('that came back is not overwritten by a job from before its deletion, whatever its version', async () => {
      const store = await openReady();
      await store.deleteProduct('p', 10, []);
      const back = toPoint('p', 0, { version: 1, sequence: 12 });
      await store.upsert([back]);
      const stale = toPoint('p', 90, { version: 9, sequence: 9, category: 'stale' });
      expect(await store.upsert([stale])).toEqual(['deleted']);
      expect(await store.getPayloads([back.id])).toEqual([back.payload]);
    });

    it('keeps what a later job wrote before the deletion arrived', async () => {
      const store = await openReady();
      await store.upsert([
        toPoint('p', 0, { version: 20, category: 'later' }),
        toPoint('p', 0, { imageId: 'b', version: 3 }),
      ]);
      expect(await store.deleteProduct('p', 10, ['main', 'b'])).toBe(1);
      expect((await store.getProduct('p')).map((point) => point.payload.category)).toEqual(['later']);
    });

    it('is covered by the greatest deletion when an earlier one arrives late', async () => {
      const store = await openReady();
      await store.deleteProduct('p', 10, ['main']);
      await store.deleteProduct('p', 5, ['main']);
      expect(await store.upsert([toPoint('p', 0, { version: 9 })])).toEqual(['deleted']);
      expect(await store.count()).toBe(0);
    });

    it('leaves nothing of one sequence and all of the other when writes and deletions race', async () => {
      const store = await openReady();
      const [before, after] = [9, 11].map((version) =>
        Array.from({ length: 20 }, (_, index) =>
          toPoint('p', index, { imageId: `${version}-${index}`, version }),
        ),
      );
      const writers = [...before!, ...after!].map((point) => open(store.collection).upsert([point]));
      const deletion = open(store.collection).deleteProduct('p', 10, []);
      await Promise.all([...writers, deletion]);
      const left = (await store.getProduct('p')).map((point) => point.payload.sequence);
      expect(left).toEqual(after!.map(() => 11));
    });

    it('leaves tombstones that are swept when they are old', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { version: 5 }), toPoint('q', 2)]);
      await store.deleteProduct('p', 10, ['b']);
      expect(await store.sweepTombstones(3_600_000)).toBe(0);
      expect(await store.upsert([toPoint('p', 0, { version: 5 })])).toEqual(['deleted']);
      expect(await store.count()).toBe(1);
      expect(await store.sweepTombstones(0)).toBeGreaterThan(0);
      expect(await store.sweepTombstones(0)).toBe(0);
      expect(await store.count()).toBe(1);
      expect(await store.upsert([toPoint('p', 0, { version: 5 })])).toEqual(['indexed']);
      expect(await store.count()).toBe(2);
    });
  });
}
