import type { DatabaseSync } from 'node:sqlite';
import { getLoadablePath } from 'sqlite-vec';
import type { Language } from '../../config/languages.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import { systemClock } from '../../observability/system-clock.ts';
import { isBusy, openDatabase, readSnapshot, toSqliteCode } from '../../sqlite/database.ts';
import { findDuplicates } from '../duplicates.ts';
import type { StoredPoint, VectorStore } from '../port.ts';
import { search } from '../search.ts';
import { loadWordAnalyzer } from '../words.ts';
import { ensureCollection, readModel, type SqliteCollection } from './collection.ts';
import { deleteImage, deleteProduct, sweep, updateProduct, upsert } from './points.ts';
import {
  count,
  facets,
  getPayloads,
  getProduct,
  listProducts,
  loadPoints,
  rank,
  scanPoints,
} from './reads.ts';
import { ensureSchema } from './schema.ts';

export interface SqliteVectorStoreSettings {
  readonly file: string;
  readonly collection: string;
  /** Of the products' texts; English by default. */
  readonly language?: Language;
  /** Dates tombstones. */
  readonly clock?: Clock;
}

const POINTS_PER_SCAN = 500;

/**
 * Vectors in one SQLite file, compared with all of them (sqlite-vec): exact, and fast enough for tens of thousands
 * of points. Several processes may share the file. It is opened with the first call.
 */
export function createSqliteVectorStore(settings: SqliteVectorStoreSettings): VectorStore {
  const { file, collection: name, language = 'english', clock = systemClock } = settings;
  let opening: Promise<SqliteCollection> | null = null;
  let closed = false;

  /** Every method runs in here: opens the database first, and turns SQLite's errors into ours. */
  async function use<T>(work: (collection: SqliteCollection) => T | Promise<T>): Promise<T> {
    try {
      if (closed) throw new VitrineError('store_unavailable', 'The store is closed.');
      opening ??= open().catch((error) => {
        opening = null;
        throw error;
      });
      return await work(await opening);
    } catch (error) {
      throw toStoreError(error);
    }
  }

  async function open(): Promise<SqliteCollection> {
    const analyzer = await loadWordAnalyzer(language);
    return { database: await openStore(file), name, analyzer, clock };
  }

  /** For methods that only read: they wait for no writer. */
  const read = <T>(work: (collection: SqliteCollection) => T): Promise<T> =>
    use((collection) => readSnapshot(collection.database, () => work(collection)));

  async function* scan(): AsyncGenerator<readonly StoredPoint[]> {
    for (let after: number | null = 0; after !== null; ) {
      const from: number = after;
      const page = await read((collection) => scanPoints(collection, from, POINTS_PER_SCAN));
      yield page.points;
      after = page.last;
    }
  }

  const backend = {
    rank: (...[part, request, options]: Parameters<Parameters<typeof search>[0]['rank']>) =>
      read((collection) => rank(collection, part, request, options)),
    loadPoints: (ids: readonly string[]) => read((collection) => loadPoints(collection, ids)),
    getPayloads: (ids: readonly string[]) => read((collection) => getPayloads(collection, ids)),
    count: () => read(count),
    scan,
  };

  return {
    collection: name,
    ensureCollection: (model) => use((collection) => ensureCollection(collection, model)),
    collectionModel: () => read(readModel),
    upsert: (points) => use((collection) => upsert(collection, points)),
    getPayloads: backend.getPayloads,
    search: (request) => search(backend, request),
    facets: (request) => read((collection) => facets(collection, request)),
    listProducts: (request) => read((collection) => listProducts(collection, request)),
    getProduct: (productId) => read((collection) => getProduct(collection, productId)),
    updateProduct: (productId, patch, sequence) =>
      use((collection) => updateProduct(collection, productId, patch, sequence)),
    deleteProduct: (productId, sequence) =>
      use((collection) => deleteProduct(collection, productId, sequence)),
    deleteImage: (productId, imageId, sequence) =>
      use((collection) => deleteImage(collection, productId, imageId, sequence)),
    duplicates: (request) => findDuplicates(backend, request),
    count: backend.count,
    sweepTombstones: (olderThanMs) => use((collection) => sweep(collection, olderThanMs)),
    ping: () =>
      read(({ database }) => void database.prepare('SELECT count(*) FROM vector_collections').get()),
    async [Symbol.asyncDispose]() {
      closed = true;
      const { database } = (await opening?.catch(() => null)) ?? {};
      if (database?.isOpen) database.close();
    },
  };
}

async function openStore(file: string): Promise<DatabaseSync> {
  const database = openDatabase(file);
  try {
    database.loadExtension(getLoadablePath());
    database.enableLoadExtension(false);
    await ensureSchema(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** A statement that can't work however often it is tried; sqlite.org/rescode.html. */
const REJECTED: readonly number[] = [1, 18, 19, 20, 21, 25];

function toStoreError(error: unknown): VitrineError {
  if (error instanceof VitrineError) return error;
  const suggestion = 'Check DATA_DIR, its free space and its permissions. `vitrine doctor` shows more.';
  if (isBusy(error)) {
    return new VitrineError('store_unavailable', 'The database is busy.', { cause: error, suggestion });
  }
  if (REJECTED.includes(toSqliteCode(error) ?? 0)) {
    return new VitrineError('store_rejected', 'The database refused the statement.', { cause: error });
  }
  return new VitrineError('store_unavailable', 'The database file is not usable.', {
    cause: error,
    suggestion,
  });
}
