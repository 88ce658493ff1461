import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { startQdrantDouble } from './qdrant-double.ts';
import { findRealQdrant, type RealQdrant } from './real-qdrant.ts';

/** A place for vectors that a whole context can be tested on. */
export interface TestStore {
  readonly name: string;
  start(): Promise<StartedStore>;
}

export interface StartedStore extends AsyncDisposable {
  /** Settings of a context that keeps its vectors there. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether the vectors that were written are all in their index; it waits for that, as long as that. */
  isIndexed(withinMs: number): Promise<boolean>;
}

const NOTHING_TO_DO = async () => {};
/** It compares a vector with all others. */
const NEEDS_NO_INDEX = async () => true;

/** SQLite, the Qdrant double, and the real Qdrant at QDRANT_URL where that is set. */
export function listTestStores(): readonly TestStore[] {
  const [sqlite, ...others] = listRealStores();
  return [sqlite, { name: 'Qdrant double', start: startDouble }, ...others];
}

/** The same without the double. */
export function listRealStores(): readonly [TestStore, ...TestStore[]] {
  const qdrant = findRealQdrant();
  return [
    { name: 'SQLite', start: startSqlite },
    ...(qdrant === null
      ? []
      : [{ name: `Qdrant at ${new URL(qdrant.url).host}`, start: async () => useCollection(qdrant) }]),
  ];
}

const startSqlite = async (): Promise<StartedStore> => ({
  environment: {},
  isIndexed: NEEDS_NO_INDEX,
  [Symbol.asyncDispose]: NOTHING_TO_DO,
});

async function startDouble(): Promise<StartedStore> {
  const double = await startQdrantDouble();
  return {
    environment: { QDRANT_URL: double.url },
    isIndexed: NEEDS_NO_INDEX,
    [Symbol.asyncDispose]: () => double[Symbol.asyncDispose](),
  };
}

/** A collection of its own, which is dropped at the end. */
function useCollection({ url, apiKey, drop, isIndexed }: RealQdrant): StartedStore {
  const collection = `test-${randomUUID()}`;
  return {
    environment: {
      QDRANT_URL: url,
      QDRANT_COLLECTION: collection,
      ...(apiKey !== undefined && { QDRANT_API_KEY: apiKey }),
    },
    async isIndexed(withinMs) {
      const end = performance.now() + withinMs;
      while (!(await isIndexed(collection))) {
        if (performance.now() > end) return false;
        await sleep(500);
      }
      return true;
    },
    [Symbol.asyncDispose]: () => drop(collection),
  };
}
