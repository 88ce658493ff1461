import { afterAll, beforeAll, expect } from 'vitest';
import type { VectorStore } from '../../src/vectors/port.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { TEST_MODEL } from './points.ts';
import { type QdrantDouble, startQdrantDouble } from './qdrant-double.ts';

/** Two stores on one collection of a Qdrant double, for all tests of a file. */
export function useTwoStores(collection: string) {
  let double: QdrantDouble;
  let stores: readonly [VectorStore, VectorStore];

  beforeAll(async () => {
    double = await startQdrantDouble();
    const settings = { url: double.url, collection, timeoutMs: 30_000 };
    stores = [createQdrantVectorStore(settings), createQdrantVectorStore(settings)];
    await stores[0].ensureCollection(TEST_MODEL);
  });

  afterAll(async () => {
    for (const store of stores) await store[Symbol.asyncDispose]();
    await double[Symbol.asyncDispose]();
    expect(double.violations).toEqual([]);
  });

  return {
    double: () => double,
    firstStore: () => stores[0],
    secondStore: () => stores[1],
  };
}

export interface Race {
  readonly productId: string;
  /** How many requests the first had sent when the second ran. */
  readonly sent: number;
}

/**
 * For calls that are several requests each: runs `first` again and again, for a new product each time, and `second` as
 * a whole before its first request, before its second one, and so on.
 */
export async function raceAtEveryRequest<T>(
  double: QdrantDouble,
  name: string,
  prepare: (productId: string) => Promise<unknown>,
  first: (productId: string) => Promise<T>,
  second: (productId: string) => Promise<unknown>,
  check: (race: Race, result: T) => Promise<void>,
): Promise<void> {
  for (let sent = 0; ; sent += 1) {
    const productId = `${name}-${sent}`;
    await prepare(productId);
    let [seen, armed, ran] = [0, true, false];
    double.before(
      () => armed && seen++ === sent,
      async () => {
        ran = true;
        await second(productId);
      },
    );
    const result = await first(productId);
    armed = false;
    if (!ran) {
      expect(sent).toBeGreaterThan(1);
      return;
    }
    await check({ productId, sent }, result);
  }
}
