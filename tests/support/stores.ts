import { randomUUID } from 'node:crypto';
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
}

/** SQLite, the Qdrant double, and the real Qdrant at QDRANT_URL where that is set. */
export function listTestStores(): readonly TestStore[] {
  const real = findRealQdrant();
  return [
    { name: 'SQLite', start: async () => ({ environment: {}, async [Symbol.asyncDispose]() {} }) },
    { name: 'Qdrant double', start: startDouble },
    ...(real === null
      ? []
      : [{ name: `Qdrant at ${new URL(real.url).host}`, start: async () => useCollection(real) }]),
  ];
}

async function startDouble(): Promise<StartedStore> {
  const double = await startQdrantDouble();
  return {
    environment: { QDRANT_URL: double.url },
    [Symbol.asyncDispose]: () => double[Symbol.asyncDispose](),
  };
}

/** A collection of its own, which is dropped at the end. */
function useCollection({ url, apiKey, drop }: RealQdrant): StartedStore {
  const collection = `test-${randomUUID()}`;
  return {
    environment: {
      QDRANT_URL: url,
      QDRANT_COLLECTION: collection,
      ...(apiKey !== undefined && { QDRANT_API_KEY: apiKey }),
    },
    [Symbol.asyncDispose]: () => drop(collection),
  };
}
