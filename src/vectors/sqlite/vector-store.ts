import type { VectorStore } from '../port.ts';
import { ensureCollection, readModel } from './collection.ts';
import { deleteImage, deleteProduct, sweep, updateProduct, upsert } from './points.ts';
import { createQueryThreads } from './query-threads.ts';
import { count, getPayloads, getProduct } from './reads.ts';
import { createStoreFile, type SqliteVectorStoreSettings } from './store-file.ts';

/**
 * Vectors in one SQLite file, compared with all of them (sqlite-vec): exact, and fast enough for tens of thousands
 * of points. Several processes may share the file. It is opened with the first call.
 */
export function createSqliteVectorStore(settings: SqliteVectorStoreSettings): VectorStore {
  const { clock: _, ...threadSettings } = settings;
  const storeFile = createStoreFile(settings);
  const threads = createQueryThreads(threadSettings);
  const { use, read } = storeFile;

  return {
    collection: settings.collection,
    ensureCollection: (model) => use((collection) => ensureCollection(collection, model)),
    collectionModel: () => read(readModel),
    upsert: (points) => use((collection) => upsert(collection, points)),
    getPayloads: (ids) => read((collection) => getPayloads(collection, ids)),
    search: threads.search,
    facets: threads.facets,
    listProducts: threads.listProducts,
    getProduct: (productId) => read((collection) => getProduct(collection, productId)),
    updateProduct: (productId, patch, sequence) =>
      use((collection) => updateProduct(collection, productId, patch, sequence)),
    deleteProduct: (productId, sequence) =>
      use((collection) => deleteProduct(collection, productId, sequence)),
    deleteImage: (productId, imageId, sequence) =>
      use((collection) => deleteImage(collection, productId, imageId, sequence)),
    duplicates: threads.duplicates,
    count: () => read(count),
    sweepTombstones: (olderThanMs) => use((collection) => sweep(collection, olderThanMs)),
    ping: () =>
      read(({ database }) => void database.prepare('SELECT count(*) FROM vector_collections').get()),
    async [Symbol.asyncDispose]() {
      await Promise.all([storeFile, threads].map((part) => part[Symbol.asyncDispose]()));
    },
  };
}
