import { expect, test } from 'vitest';
import { createSharedDuplicates } from '../../src/products/duplicates.ts';
import type { Duplicates, DuplicatesRequest } from '../../src/vectors/port.ts';

/** Searches that end when the test says so, or when they are aborted. */
function createHeldStore() {
  const searches: { readonly request: DuplicatesRequest; end(found: Duplicates): void }[] = [];
  return {
    searches,
    duplicates(request: DuplicatesRequest): Promise<Duplicates> {
      const { promise, resolve, reject } = Promise.withResolvers<Duplicates>();
      request.signal?.addEventListener('abort', () => reject(request.signal?.reason));
      searches.push({ request, end: resolve });
      return promise;
    },
  };
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

const GROUPS = [1, 2, 3].map(() => ({ kind: 'near', images: [] }) as const);
const FOUND: Duplicates = { groups: GROUPS, images: 6, totalGroups: 3, comparedPairs: 9 };

test('those who ask for the same threshold share a search, each with as many groups as it wants', async () => {
  const store = createHeldStore();
  const find = createSharedDuplicates(store, 50);
  const answers = [1, 2, 10].map((limit) => find({ threshold: 0.9, limit }));
  await nextTurn();
  expect(store.searches.map(({ request }) => request)).toMatchObject([{ threshold: 0.9, limit: 50 }]);
  store.searches[0]?.end(FOUND);
  expect((await Promise.all(answers)).map(({ groups }) => groups.length)).toEqual([1, 2, 3]);
  void find({ threshold: 0.9, limit: 1 });
  await nextTurn();
  expect(store.searches).toHaveLength(2);
});

test('other thresholds wait, up to a number of them', async () => {
  const store = createHeldStore();
  const find = createSharedDuplicates(store, 50);
  const thresholds = Array.from({ length: 8 }, (_, index) => 0.9 + index / 100);
  const answers = thresholds.map((threshold) => find({ threshold, limit: 1 }));
  await expect(find({ threshold: 0.8, limit: 1 })).rejects.toMatchObject({
    code: 'server_busy',
    retryAfterMs: expect.any(Number),
  });
  const alsoFirst = find({ threshold: 0.9, limit: 1 });
  for (let index = 0; index < thresholds.length; index += 1) {
    await nextTurn();
    expect(store.searches).toHaveLength(index + 1);
    store.searches[index]?.end(FOUND);
  }
  await Promise.all([...answers, alsoFirst]);
});

test('a search ends when all who asked have gone, and not before', async () => {
  const store = createHeldStore();
  const find = createSharedDuplicates(store, 50);
  const [first, second] = [new AbortController(), new AbortController()];
  const answers = [first, second].map(({ signal }) => find({ threshold: 0.9, limit: 1, signal }));
  const settled = Promise.allSettled(answers);
  await nextTurn();
  first.abort();
  await expect(answers[0]).rejects.toThrow();
  expect(store.searches[0]?.request.signal?.aborted).toBe(false);
  second.abort();
  await settled;
  expect(store.searches[0]?.request.signal?.aborted).toBe(true);
  const next = find({ threshold: 0.9, limit: 1 });
  await nextTurn();
  store.searches[1]?.end(FOUND);
  expect(await next).toMatchObject({ images: 6 });
});
