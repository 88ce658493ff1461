import type { DatabaseSync } from 'node:sqlite';
import { getLoadablePath } from 'sqlite-vec';
import { toPointId } from '../../catalog/product-image.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import { systemClock } from '../../observability/system-clock.ts';
import { inTransaction, isBusy, openDatabase, toSqliteCode } from '../../sqlite/database.ts';
import type {
  Hit,
  ModelIdentity,
  Point,
  PointPayload,
  SearchRequest,
  StoredPoint,
  VectorStore,
} from '../port.ts';
import { assertSameModel, assertVector, toCosine } from '../vector.ts';
import { toSqlConditions } from './filter.ts';

export interface SqliteVectorStoreSettings {
  readonly file: string;
  readonly collection: string;
  /** Dates tombstones. */
  readonly clock?: Clock;
}

/** A row without `deleted_at` is a point; with it, a tombstone, whose vector and payload are empty. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS vector_collections (
    name TEXT PRIMARY KEY,
    model_id TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    fingerprint TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS vector_points (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    image_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted_at INTEGER,
    payload TEXT NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (collection, id)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS vector_points_by_product ON vector_points (collection, product_id);
`;

const WRITE = `
  INSERT INTO vector_points (collection, id, product_id, image_id, version, deleted_at, payload, vector)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (collection, id) DO UPDATE SET
    version = excluded.version, deleted_at = excluded.deleted_at,
    payload = excluded.payload, vector = excluded.vector
  WHERE excluded.version >= vector_points.version
`;

interface ImageVersion {
  readonly imageId: string;
  readonly version: number;
}

/**
 * Vectors in one SQLite file, compared with all of them (sqlite-vec): exact, and fast enough for tens of thousands
 * of points. Several processes may share the file.
 * @throws VitrineError `store_unavailable` when the file can't be opened
 */
export function createSqliteVectorStore(settings: SqliteVectorStoreSettings): VectorStore {
  const { file, collection, clock = systemClock } = settings;
  const database = openStore(file);
  const write = database.prepare(WRITE);
  let knownModel: ModelIdentity | null = null;

  const readModel = (): ModelIdentity | null => {
    knownModel ??= (database
      .prepare('SELECT model_id AS id, dimension, fingerprint FROM vector_collections WHERE name = ?')
      .get(collection) ?? null) as ModelIdentity | null;
    return knownModel === null ? null : { ...knownModel };
  };

  const requireModel = (): ModelIdentity => {
    const model = readModel();
    if (model === null) throw new VitrineError('store_rejected', `There is no collection "${collection}".`);
    return model;
  };

  const upsert = (points: readonly Point[]): void => {
    const { dimension } = requireModel();
    for (const point of points) assertVector(point.vector, dimension);
    inTransaction(database, () => {
      for (const { id, vector, payload } of points) {
        const { productId, imageId, version } = payload;
        write.run(collection, id, productId, imageId, version, null, JSON.stringify(payload), toBlob(vector));
      }
    });
  };

  const search = (request: SearchRequest): readonly Hit[] => {
    assertVector(request.vector, requireModel().dimension);
    const conditions = [
      { sql: 'collection = ?', values: [collection] },
      { sql: 'deleted_at IS NULL', values: [] },
      ...(request.excludeProductId === undefined
        ? []
        : [{ sql: 'product_id <> ?', values: [request.excludeProductId] }]),
      ...toSqlConditions(request.filter ?? {}),
    ];
    const distance = 'coalesce(vec_distance_cosine(vector, ?), 1)';
    // With min(), SQLite takes the other columns of a group from the row that has the minimum.
    const sql = `
      SELECT id, payload, ${request.groupByProduct ? `min(${distance})` : distance} AS distance
      FROM vector_points WHERE ${conditions.map((condition) => condition.sql).join(' AND ')}
      ${request.groupByProduct ? 'GROUP BY product_id' : ''} ORDER BY distance, id LIMIT ?`;
    const rows = database
      .prepare(sql)
      .all(toBlob(request.vector), ...conditions.flatMap((condition) => condition.values), request.limit);
    return rows.map((row) => ({
      id: row['id'] as string,
      score: toCosine(1 - (row['distance'] as number)),
      payload: JSON.parse(row['payload'] as string) as PointPayload,
    }));
  };

  const getProduct = (productId: string): readonly StoredPoint[] => {
    requireModel();
    return database
      .prepare(
        `SELECT id, payload, vector FROM vector_points
         WHERE collection = ? AND product_id = ? AND deleted_at IS NULL ORDER BY image_id`,
      )
      .all(collection, productId)
      .map((row) => ({
        id: row['id'] as string,
        vector: toVector(row['vector'] as Uint8Array),
        payload: JSON.parse(row['payload'] as string) as PointPayload,
      }));
  };

  const deleteProduct = (productId: string, images: readonly ImageVersion[]): number => {
    requireModel();
    return inTransaction(database, () => {
      const stored = database
        .prepare(
          `SELECT image_id AS imageId, version FROM vector_points
           WHERE collection = ? AND product_id = ? AND deleted_at IS NULL`,
        )
        .all(collection, productId) as unknown as readonly ImageVersion[];
      const deletedAt = clock.now();
      for (const { imageId, version } of [...stored, ...images]) {
        const id = toPointId(productId, imageId);
        write.run(collection, id, productId, imageId, version + 1, deletedAt, '{}', new Uint8Array());
      }
      return stored.length;
    });
  };

  const count = (): number => {
    requireModel();
    return database
      .prepare('SELECT count(*) AS points FROM vector_points WHERE collection = ? AND deleted_at IS NULL')
      .get(collection)?.['points'] as number;
  };

  const sweep = (olderThanMs: number): number => {
    requireModel();
    return Number(
      database
        .prepare('DELETE FROM vector_points WHERE collection = ? AND deleted_at <= ?')
        .run(collection, clock.now() - olderThanMs).changes,
    );
  };

  const ensureCollection = (model: ModelIdentity): void => {
    database
      .prepare(
        `INSERT INTO vector_collections (name, model_id, dimension, fingerprint) VALUES (?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      )
      .run(collection, model.id, model.dimension, model.fingerprint);
    assertSameModel(collection, requireModel(), model);
  };

  return {
    collection,
    ensureCollection: async (model) => guarded(() => ensureCollection(model)),
    collectionModel: async () => guarded(readModel),
    upsert: async (points) => guarded(() => upsert(points)),
    search: async (request) => guarded(() => search(request)),
    getProduct: async (productId) => guarded(() => getProduct(productId)),
    deleteProduct: async (productId, images) => guarded(() => deleteProduct(productId, images)),
    count: async () => guarded(count),
    sweepTombstones: async (olderThanMs) => guarded(() => sweep(olderThanMs)),
    ping: async () => guarded(() => void database.prepare('SELECT count(*) FROM vector_collections').get()),
    async [Symbol.asyncDispose]() {
      if (database.isOpen) database.close();
    },
  };
}

function openStore(file: string): DatabaseSync {
  return guarded(() => {
    const database = openDatabase(file);
    try {
      database.loadExtension(getLoadablePath());
      database.enableLoadExtension(false);
      database.exec(SCHEMA);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  });
}

/** A statement that can't work however often it is tried; sqlite.org/rescode.html. */
const REJECTED: readonly number[] = [1, 18, 19, 20, 21, 25];

function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof VitrineError) throw error;
    const suggestion = 'Check DATA_DIR, its free space and its rights; `vitrine doctor` tells more.';
    if (isBusy(error)) {
      throw new VitrineError('store_unavailable', 'The database is busy.', { cause: error, suggestion });
    }
    if (REJECTED.includes(toSqliteCode(error) ?? 0)) {
      throw new VitrineError('store_rejected', 'The database refused the statement.', { cause: error });
    }
    throw new VitrineError('store_unavailable', 'The database file is not usable.', {
      cause: error,
      suggestion,
    });
  }
}

function toBlob(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
}

/** A copy: SQLite's bytes need not be aligned to four. */
function toVector(blob: Uint8Array): Float32Array {
  return new Float32Array(blob.slice().buffer);
}
