import { describe, expect, test } from 'vitest';
import { createBatcher, runOrSplit } from '../../workers/batcher.ts';
import { createFakeClock } from '../support/fake-clock.ts';

const fulfilled = <T>(values: readonly T[]) =>
  values.map((value) => ({ status: 'fulfilled' as const, value }));

describe('createBatcher', () => {
  test('items that come together go in full batches, and the rest in one more', async () => {
    const sizes: number[] = [];
    const batcher = createBatcher<number, number>({
      maxSize: 4,
      concurrency: () => 1,
      async run(items) {
        sizes.push(items.length);
        return fulfilled(items.map((item) => item * 2));
      },
    });
    const results = await Promise.all(Array.from({ length: 10 }, (_, item) => batcher.add(item)));
    expect(results).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    expect(sizes).toEqual([4, 4, 2]);
  });

  test('never runs more batches at once than allowed, and the next one fills while it waits', async () => {
    let running = 0;
    let most = 0;
    const gates: (() => void)[] = [];
    const sizes: number[] = [];
    const batcher = createBatcher<number, number>({
      maxSize: 8,
      concurrency: () => 1,
      async run(items) {
        most = Math.max(most, ++running);
        sizes.push(items.length);
        await new Promise<void>((resolve) => gates.push(resolve));
        running--;
        return fulfilled(items);
      },
    });
    const first = batcher.add(1);
    await expect.poll(() => gates.length).toBe(1);
    const others = [2, 3, 4].map((item) => batcher.add(item));
    gates[0]?.();
    await first;
    await expect.poll(() => gates.length).toBe(2);
    gates[1]?.();
    expect(await Promise.all(others)).toEqual([2, 3, 4]);
    expect(sizes).toEqual([1, 3]);
    expect(most).toBe(1);
  });

  test('a full batch may start ahead, one that is not full waits', async () => {
    const sizes: number[] = [];
    const gate = Promise.withResolvers<void>();
    const batcher = createBatcher<number, number>({
      maxSize: 4,
      concurrency: () => 1,
      fullAhead: 1,
      async run(items) {
        sizes.push(items.length);
        await gate.promise;
        return fulfilled(items);
      },
    });
    const added = [batcher.add(1)];
    await expect.poll(() => sizes).toEqual([1]);
    added.push(...[2, 3, 4].map((item) => batcher.add(item)));
    await new Promise((resolve) => setImmediate(resolve));
    expect(sizes).toEqual([1]);
    added.push(...[5, 6].map((item) => batcher.add(item)));
    await expect.poll(() => sizes).toEqual([1, 4]);
    gate.resolve();
    await Promise.all(added);
    expect(sizes).toEqual([1, 4, 1]);
  });

  describe('a batch that is not full', () => {
    function createFilling() {
      const clock = createFakeClock();
      const sizes: number[] = [];
      let isMoreComing = true;
      const batcher = createBatcher<number, number>({
        maxSize: 4,
        concurrency: () => 1,
        filling: { isMoreComing: () => isMoreComing, maxMs: 50, clock },
        async run(items) {
          sizes.push(items.length);
          return fulfilled(items);
        },
      });
      return { clock, sizes, batcher, endOfMore: () => (isMoreComing = false) };
    }

    test('waits while more items are on their way, and no longer', async () => {
      const { clock, sizes, batcher, endOfMore } = createFilling();
      const first = batcher.add(1);
      await clock.advance(49);
      expect(sizes).toEqual([]);
      endOfMore();
      await Promise.all([first, batcher.add(2)]);
      expect(sizes).toEqual([2]);
    });

    test('starts when it is full', async () => {
      const { sizes, batcher } = createFilling();
      await Promise.all([1, 2, 3, 4].map((item) => batcher.add(item)));
      expect(sizes).toEqual([4]);
    });

    test('starts after the longest wait, and the next one waits again', async () => {
      const { clock, sizes, batcher } = createFilling();
      const first = batcher.add(1);
      await clock.advance(50);
      await first;
      const second = batcher.add(2);
      await clock.advance(49);
      expect(sizes).toEqual([1]);
      await clock.advance(1);
      await second;
      expect(sizes).toEqual([1, 1]);
    });
  });

  test('a batch that throws fails only its own items', async () => {
    const batcher = createBatcher<string, string>({
      maxSize: 2,
      concurrency: () => 1,
      async run(items) {
        if (items.includes('bad')) throw new Error('no');
        return fulfilled(items);
      },
    });
    const outcomes = await Promise.allSettled(['bad', 'with it', 'a', 'b'].map((item) => batcher.add(item)));
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled', 'fulfilled']);
  });
});

test('an item that comes alone does not wait for others', async () => {
  const batcher = createBatcher<number, number>({
    maxSize: 100,
    concurrency: () => 1,
    run: async (items) => fulfilled(items),
  });
  const started = performance.now();
  for (let item = 0; item < 50; item++) expect(await batcher.add(item)).toBe(item);
  expect(performance.now() - started).toBeLessThan(1_000);
});

describe('runOrSplit', () => {
  const run = async (items: readonly string[]) => {
    if (items.includes('bad')) throw new Error('a bad item');
    return items.map((item) => item.toUpperCase());
  };

  test('after a failed batch, each item is tried alone: only the bad one fails', async () => {
    const outcomes = await runOrSplit(['a', 'bad', 'c'], run, () => true);
    expect(outcomes).toMatchObject([
      { status: 'fulfilled', value: 'A' },
      { status: 'rejected' },
      { status: 'fulfilled', value: 'C' },
    ]);
  });

  test('a call that returns too few results gives none of them to the wrong item', async () => {
    const outcomes = await runOrSplit(
      ['a', 'b'],
      async (items) => (items.length > 1 ? ['B'] : items),
      () => true,
    );
    expect(outcomes).toMatchObject([{ value: 'a' }, { value: 'b' }]);
  });

  test('an error that no item can be the cause of fails all, at once', async () => {
    await expect(runOrSplit(['a', 'bad'], run, () => false)).rejects.toThrow('a bad item');
  });
});
