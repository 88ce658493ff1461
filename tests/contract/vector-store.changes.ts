import { describe, expect, it } from 'vitest';
import type { VectorStore } from '../../src/vectors/port.ts';
import { byWords, toPoint } from '../support/points.ts';
import type { OpenStores } from './vector-store.order.ts';

/** What a change of a product's data means for its images: stored ones, and those of jobs on their way. */
export function describeChanges({ open, openReady, search }: OpenStores): void {
  const dataOf = async (store: VectorStore, productId = 'p') =>
    (await store.getProduct(productId)).map(({ payload: { name, price, category, tags, metadata } }) => ({
      name,
      price,
      category,
      tags,
      metadata,
    }));
  const JOB = {
    name: 'Red mug',
    price: 10,
    category: 'mugs',
    tags: ['new'],
    metadata: { stock: 3, color: 'red', sizes: { s: 1 } },
  };

  describe('a change of the data', () => {
    it('reaches every image, and leaves vectors, versions and other fields as they are', async () => {
      const store = await openReady();
      const images = [
        toPoint('p', 0, { ...JOB, version: 5 }),
        toPoint('p', 60, { ...JOB, imageId: 'b', version: 6 }),
      ];
      await store.upsert([...images, toPoint('q', 5, { version: 5, ...JOB })]);
      const patch = { price: 8.5, name: 'Ruby cup', tags: ['sale'], metadata: { stock: 0 } };
      expect(await store.updateProduct('p', patch, 10)).toBe(2);
      const stored = await store.getProduct('p');
      const expected = images.toSorted((a, b) => (a.payload.imageId < b.payload.imageId ? -1 : 1));
      expect(stored.map(({ payload }) => payload)).toEqual(
        expected.map(({ payload }) => ({
          ...payload,
          ...patch,
          metadata: { ...JOB.metadata, stock: 0 },
        })),
      );
      for (const [index, { vector }] of stored.entries())
        for (const [at, value] of vector.entries())
          expect(value).toBeCloseTo(expected[index]?.vector[at] ?? 2, 6);
      expect(await dataOf(store, 'q')).toEqual([JOB]);
    });

    it('removes a field with null, and a key of the metadata', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, JOB)]);
      await store.updateProduct(
        'p',
        { price: null, tags: null, metadata: { stock: null, nothing: null } },
        10,
      );
      const [point] = await store.getProduct('p');
      expect(point?.payload).not.toHaveProperty('price');
      expect(point?.payload).not.toHaveProperty('tags');
      expect(point?.payload.metadata).toEqual({ color: 'red', sizes: { s: 1 } });
      expect(await search(store, { price: { exists: false } })).toEqual(['p']);
    });

    it('is seen by filters and by search by words', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, JOB)]);
      await store.updateProduct(
        'p',
        { name: 'Green bowl', category: 'bowls', metadata: { color: 'green' } },
        10,
      );
      expect(await search(store, { category: 'mugs' })).toEqual([]);
      expect(await search(store, { category: 'bowls', metadata: { color: 'green' } })).toEqual(['p']);
      const find = async (text: string) =>
        (await store.search({ parts: [byWords(text)], limit: 5, groupByProduct: true })).length;
      expect([await find('bowl'), await find('red'), await find('mug')]).toEqual([1, 0, 0]);
    });

    it.each([
      ['before the image was ever written', false],
      ['after an earlier image of the same product was written', true],
    ])('reaches a job on its way: %s', async (_, isStored) => {
      const store = await openReady();
      if (isStored) await store.upsert([toPoint('p', 0, { ...JOB, version: 3, imageId: 'other' })]);
      expect(await store.updateProduct('p', { price: 8, metadata: { stock: 0 } }, 10)).toBe(isStored ? 1 : 0);
      const job = toPoint('p', 0, { ...JOB, version: 5 });
      expect(await store.upsert([job])).toEqual(['indexed']);
      expect(await store.upsert([job])).toEqual(['indexed']);
      const changed = { ...JOB, price: 8, metadata: { ...JOB.metadata, stock: 0 } };
      expect(await dataOf(store)).toEqual(isStored ? [changed, changed] : [changed]);
    });

    it('neither refuses a later picture of an earlier job nor is undone by it', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { ...JOB, version: 3 })]);
      await store.updateProduct('p', { price: 8, category: null }, 10);
      const job = toPoint('p', 90, { ...JOB, version: 5, contentHash: 'cd'.repeat(32) });
      expect(await store.upsert([job])).toEqual(['indexed']);
      const [point] = await store.getProduct('p');
      expect(point?.payload).toMatchObject({
        price: 8,
        name: 'Red mug',
        contentHash: 'cd'.repeat(32),
        version: 5,
      });
      expect(point?.payload).not.toHaveProperty('category');
      expect(point?.vector[1]).toBeCloseTo(1, 5);
    });

    it('gives way to the data of a later job, whatever the version', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { ...JOB, version: 3, sequence: 3 })]);
      await store.updateProduct('p', { price: 8, metadata: { stock: 0 } }, 10);
      await store.upsert([toPoint('p', 0, { ...JOB, price: 12, version: 4, sequence: 11 })]);
      expect(await dataOf(store)).toEqual([{ ...JOB, price: 12 }]);
      // The same change, sent once more.
      await store.updateProduct('p', { price: 8, metadata: { stock: 0 } }, 10);
      expect(await dataOf(store)).toEqual([{ ...JOB, price: 12 }]);
      await store.updateProduct('p', { price: 9 }, 12);
      expect(await dataOf(store)).toEqual([{ ...JOB, price: 9 }]);
    });

    it('keeps, field by field, the value of the greatest sequence, in whatever order the changes arrive', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { ...JOB, version: 3 })]);
      await store.updateProduct('p', { price: 30, name: 'Of 30', metadata: { stock: 30 } }, 30);
      await store.updateProduct(
        'p',
        { price: 10, category: 'of 10', metadata: { stock: 10, color: 'ten' } },
        10,
      );
      await store.updateProduct('p', { category: 'of 20', tags: null }, 20);
      const expected = {
        name: 'Of 30',
        price: 30,
        category: 'of 20',
        tags: undefined,
        metadata: { stock: 30, color: 'ten', sizes: { s: 1 } },
      };
      expect(await dataOf(store)).toEqual([expected]);
      await store.upsert([toPoint('p', 0, { ...JOB, imageId: 'late', version: 5 })]);
      expect(await dataOf(store)).toEqual([expected, expected]);
      await store.upsert([toPoint('p', 0, { ...JOB, imageId: 'middle', version: 15 })]);
      const ofMiddle = { ...expected, metadata: { ...expected.metadata, color: 'red' } };
      expect(await dataOf(store)).toEqual([expected, expected, ofMiddle]);
    });

    it('keeps every field when several changes and jobs race', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { ...JOB, version: 1 })]);
      const changes = Array.from({ length: 6 }, (_, index) =>
        open(store.collection).updateProduct(
          'p',
          { price: index, metadata: { [`k${index}`]: index } },
          20 + index,
        ),
      );
      const jobs = Array.from({ length: 6 }, (_, index) =>
        open(store.collection).upsert([
          toPoint('p', 0, { ...JOB, imageId: `i${index}`, version: 5 + index }),
        ]),
      );
      const outcomes = await Promise.all(jobs);
      expect(outcomes.flat()).toEqual(Array(6).fill('indexed'));
      await Promise.all(changes);
      const metadata = { ...JOB.metadata, k0: 0, k1: 1, k2: 2, k3: 3, k4: 4, k5: 5 };
      expect(await dataOf(store)).toEqual(Array(7).fill({ ...JOB, price: 5, metadata }));
    });

    it("doesn't reach a product that was deleted later and came back", async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { ...JOB, version: 3 })]);
      await store.updateProduct('p', { price: 8 }, 10);
      await store.deleteProduct('p', 20, ['main']);
      expect(await store.updateProduct('p', { name: 'Late' }, 15)).toBe(0);
      expect(await store.upsert([toPoint('p', 0, { ...JOB, version: 30 })])).toEqual(['indexed']);
      expect(await dataOf(store)).toEqual([JOB]);
    });

    it('stays in what is stored when its record is swept', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { ...JOB, version: 3 })]);
      await store.updateProduct('p', { price: 8 }, 10);
      expect(await store.sweepTombstones(3_600_000)).toBe(0);
      expect(await store.sweepTombstones(0)).toBe(1);
      expect(await dataOf(store)).toEqual([{ ...JOB, price: 8 }]);
      expect(await store.upsert([toPoint('p', 0, { ...JOB, version: 12 })])).toEqual(['indexed']);
      expect(await store.updateProduct('p', { price: 7 }, 15)).toBe(1);
      expect(await dataOf(store)).toEqual([{ ...JOB, price: 7 }]);
    });

    it('may have keys of any name', async () => {
      const store = await openReady();
      await store.upsert([toPoint('p', 0, { metadata: { 'a.b[0]': 1 } })]);
      const keys = { 'a.b[0]': 2, 'with "quotes"': 'x', constructor: 'c', 'ключ 🙂': [1, { deep: true }] };
      await store.updateProduct('p', { metadata: keys }, 10);
      expect((await store.getProduct('p'))[0]?.payload.metadata).toEqual(keys);
    });
  });
}
