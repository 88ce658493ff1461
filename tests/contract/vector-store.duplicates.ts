import { describe, expect, it } from 'vitest';
import type { Point } from '../../src/vectors/port.ts';
import { toPoint } from '../support/points.ts';
import type { OpenStores } from './vector-store.order.ts';

export function describeDuplicates({ openReady }: OpenStores): void {
  const hash = (letter: string): string => letter.repeat(64);
  const toImage = (productId: string, angle: number, contentHash: string, imageId = 'main'): Point =>
    toPoint(productId, angle, { contentHash, imageId });

  describe('duplicates', () => {
    it('are groups of several products: the same bytes, or vectors that are nearly the same', async () => {
      const store = await openReady();
      await store.upsert([
        toImage('same-1', 0, hash('a')),
        toImage('same-2', 0, hash('a')),
        toImage('same-3', 0, hash('a'), 'side'),
        toImage('near-1', 40, hash('b')),
        toImage('near-2', 41, hash('c')),
        toImage('own', 80, hash('d'), 'front'),
        toImage('own', 80, hash('d'), 'back'),
        toImage('own', 80.5, hash('e'), 'side'),
        toImage('alone', 150, hash('f')),
        toImage('unknown-1', 110, ''),
        toImage('unknown-2', 130, ''),
      ]);
      await store.deleteProduct('nobody', 3, []);
      await store.updateProduct('nobody', { price: 1 }, 3);
      const found = await store.duplicates({ threshold: Math.cos((2 * Math.PI) / 180), limit: 10 });
      expect(found).toMatchObject({ images: 11, totalGroups: 2 });
      const [exact, near] = found.groups;
      expect(exact?.kind).toBe('exact');
      expect(exact?.images.map(({ productId, similarity }) => [productId, similarity])).toEqual([
        ['same-1', 1],
        ['same-2', 1],
        ['same-3', 1],
      ]);
      expect(near?.kind).toBe('near');
      expect(near?.images).toEqual(
        ['near-1', 'near-2'].map((productId) => ({
          id: toPoint(productId, 0).id,
          productId,
          imageId: 'main',
          imageRef: 'https://images.test/main.jpg',
          contentHash: productId === 'near-1' ? hash('b') : hash('c'),
          similarity: expect.closeTo(Math.cos(Math.PI / 180), 5),
        })),
      );
    });

    it('are all found among many images, the largest groups first, at most as many as wanted', async () => {
      const store = await openReady();
      // Groups of 2, 3 and 4 around 60 directions that are 6 degrees apart.
      const points = Array.from({ length: 60 }, (_, group) =>
        Array.from({ length: 2 + (group % 3) }, (_, at) =>
          toImage(`${group}-${at}`, group * 6 + at * 0.2, `${group}-${at}`.padEnd(64, '0')),
        ),
      ).flat();
      await store.upsert(points);
      const request = { threshold: Math.cos((1 * Math.PI) / 180), limit: 100 };
      const { groups, totalGroups, images } = await store.duplicates(request);
      expect([totalGroups, images]).toEqual([60, points.length]);
      expect(groups.map((group) => group.images.length)).toEqual(
        [4, 3, 2].flatMap((size) => Array(20).fill(size)),
      );
      const few = await store.duplicates({ ...request, limit: 3 });
      expect(few).toMatchObject({ groups: groups.slice(0, 3), totalGroups: 60, images: points.length });
      expect(few.comparedPairs).toBeLessThan((points.length * points.length) / 20);
    });

    it('are none in an empty collection, and the search ends when it is cancelled', async () => {
      const store = await openReady();
      expect(await store.duplicates({ threshold: 0.9, limit: 10 })).toEqual({
        groups: [],
        images: 0,
        totalGroups: 0,
        comparedPairs: 0,
      });
      await store.upsert([toImage('a', 0, hash('a')), toImage('b', 0, hash('b'))]);
      const signal = AbortSignal.abort();
      await expect(store.duplicates({ threshold: 0.9, limit: 10, signal })).rejects.toMatchObject({
        name: 'AbortError',
      });
    });
  });
}
