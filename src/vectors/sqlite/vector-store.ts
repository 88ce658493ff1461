import type { DatabaseSync } from 'node:sqlite';
import { getLoadablePath } from 'sqlite-vec';
import { toProductTombstoneId } from '../../catalog/product-image.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import { systemClock } from '../../observability/system-clock.ts';
import { isBusy, openDatabase, readSnapshot, toSqliteCode, writeTransaction } from '../../sqlite/database.ts';
import { FIELDS_OF_OLD_POINTS } from '../payload.ts';
import type {
  Hit,
  ModelIdentity,
  Point,
  PointPayload,
  SearchRequest,
  StoredPoint,
  UpsertOutcome,
  VectorStore,
} from '../port.ts';
import { assertSameModel, assertVector, toCosine } from '../vector.ts';
import { toSqlConditions } from './filter.ts';
import { ensureSchema } from './schema.ts';

export interface SqliteVectorStoreSettings {
  readonly file: string;
  readonly collection: string;
  /** Dates tombstones. */
  readonly clock?: Clock;
}

/** A tombstone gives way to every point: what it covers is refused before this statement. */
const WRITE_POINT = `
  INSERT INTO vector_points (collection, id, product_id, image_id, version, sequence, payload, vector)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (collection, id) DO UPDATE SET
    version = excluded.version, sequence = excluded.sequence, deleted_at = NULL,
    payload = excluded.payload, vector = excluded.vector
  WHERE vector_points.deleted_at IS NOT NULL
    OR (excluded.version, excluded.sequence) >= (vector_points.version, vector_points.sequence)
`;

const WRITE_TOMBSTONE = `
  INSERT INTO vector_points (collection, id, product_id, image_id, version, sequence, deleted_at, payload, vector)
  VALUES (?, ?, ?, '', 0, ?, ?, '{}', x'')
  ON CONFLICT (collection, id) DO UPDATE SET sequence = excluded.sequence, deleted_at = excluded.deleted_at
  WHERE excluded.sequence >= vector_points.sequence
`;

/**
 * Vectors in one SQLite file, compared with all of them (sqlite-vec): exact, and fast enough for tens of thousands
 * of points. Several processes may share the file. It is opened with the first call.
 */
export function createSqliteVectorStore(settings: SqliteVectorStoreSettings): VectorStore {
  const { file, collection, clock = systemClock } = settings;
  let opening: Promise<DatabaseSync> | null = null;
  let closed = false;
  let knownModel: ModelIdentity | null = null;

  /** Every method runs in here: opens the database first, and turns SQLite's errors into ours. */
  async function use<T>(work: (database: DatabaseSync) => T | Promise<T>): Promise<T> {
    try {
      if (closed) throw new VitrineError('store_unavailable', 'The store is closed.');
      opening ??= openStore(file).catch((error) => {
        opening = null;
        throw error;
      });
      return await work(await opening);
    } catch (error) {
      throw toStoreError(error);
    }
  }

  /** For methods that only read: they wait for no writer. */
  const read = <T>(work: (database: DatabaseSync) => T): Promise<T> =>
    use((database) => readSnapshot(database, () => work(database)));

  function readModel(database: DatabaseSync): ModelIdentity | null {
    knownModel ??= (database
      .prepare('SELECT model_id AS id, dimension, fingerprint FROM vector_collections WHERE name = ?')
      .get(collection) ?? null) as ModelIdentity | null;
    return knownModel === null ? null : { ...knownModel };
  }

  function requireModel(database: DatabaseSync): ModelIdentity {
    const model = readModel(database);
    if (model === null) throw new VitrineError('store_rejected', `There is no collection "${collection}".`);
    return model;
  }

  async function ensureCollection(database: DatabaseSync, model: ModelIdentity): Promise<void> {
    if (readModel(database) === null) {
      const insert = database.prepare(
        `INSERT INTO vector_collections (name, model_id, dimension, fingerprint) VALUES (?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      );
      await writeTransaction(database, () =>
        insert.run(collection, model.id, model.dimension, model.fingerprint),
      );
    }
    assertSameModel(collection, requireModel(database), model);
  }

  async function upsert(database: DatabaseSync, points: readonly Point[]): Promise<readonly UpsertOutcome[]> {
    const { dimension } = requireModel(database);
    for (const point of points) assertVector(point.vector, dimension);
    const readDeletion = database.prepare(
      'SELECT sequence FROM vector_points WHERE collection = ? AND id = ?',
    );
    const writePoint = database.prepare(WRITE_POINT);
    return writeTransaction(database, () =>
      points.map(({ id, vector, payload }): UpsertOutcome => {
        const { productId, imageId, version, sequence } = payload;
        const deletion = readDeletion.get(collection, toProductTombstoneId(productId))?.['sequence'];
        if (deletion !== undefined && sequence <= (deletion as number)) return 'deleted';
        const json = JSON.stringify(payload);
        const blob = toBlob(vector);
        const { changes } = writePoint.run(collection, id, productId, imageId, version, sequence, json, blob);
        return changes === 0 ? 'superseded' : 'indexed';
      }),
    );
  }

  function getPayloads(database: DatabaseSync, ids: readonly string[]): readonly (PointPayload | null)[] {
    requireModel(database);
    const read = database.prepare(
      'SELECT payload FROM vector_points WHERE collection = ? AND id = ? AND deleted_at IS NULL',
    );
    return ids.map((id) => {
      const row = read.get(collection, id);
      return row === undefined ? null : toPayload(row);
    });
  }

  function search(database: DatabaseSync, request: SearchRequest): readonly Hit[] {
    assertVector(request.vector, requireModel(database).dimension);
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
      payload: toPayload(row),
    }));
  }

  function getProduct(database: DatabaseSync, productId: string): readonly StoredPoint[] {
    requireModel(database);
    return database
      .prepare(
        `SELECT id, payload, vector FROM vector_points
         WHERE collection = ? AND product_id = ? AND deleted_at IS NULL ORDER BY image_id`,
      )
      .all(collection, productId)
      .map((row) => ({
        id: row['id'] as string,
        vector: toVector(row['vector'] as Uint8Array),
        payload: toPayload(row),
      }));
  }

  /** Images need no tombstones of their own: each write reads the product's in its transaction. */
  async function deleteProduct(database: DatabaseSync, productId: string, sequence: number): Promise<number> {
    requireModel(database);
    const writeTombstone = database.prepare(WRITE_TOMBSTONE);
    const removePoints = database.prepare(
      `DELETE FROM vector_points
       WHERE collection = ? AND product_id = ? AND deleted_at IS NULL AND sequence <= ?`,
    );
    return writeTransaction(database, () => {
      writeTombstone.run(collection, toProductTombstoneId(productId), productId, sequence, clock.now());
      return Number(removePoints.run(collection, productId, sequence).changes);
    });
  }

  function count(database: DatabaseSync): number {
    requireModel(database);
    return database
      .prepare('SELECT count(*) AS points FROM vector_points WHERE collection = ? AND deleted_at IS NULL')
      .get(collection)?.['points'] as number;
  }

  async function sweep(database: DatabaseSync, olderThanMs: number): Promise<number> {
    requireModel(database);
    const remove = database.prepare('DELETE FROM vector_points WHERE collection = ? AND deleted_at <= ?');
    return writeTransaction(database, () =>
      Number(remove.run(collection, clock.now() - olderThanMs).changes),
    );
  }

  return {
    collection,
    ensureCollection: (model) => use((database) => ensureCollection(database, model)),
    collectionModel: () => read(readModel),
    upsert: (points) => use((database) => upsert(database, points)),
    getPayloads: (ids) => read((database) => getPayloads(database, ids)),
    search: (request) => read((database) => search(database, request)),
    getProduct: (productId) => read((database) => getProduct(database, productId)),
    deleteProduct: (productId, sequence) => use((database) => deleteProduct(database, productId, sequence)),
    count: () => read(count),
    sweepTombstones: (olderThanMs) => use((database) => sweep(database, olderThanMs)),
    ping: () => read((database) => void database.prepare('SELECT count(*) FROM vector_collections').get()),
    async [Symbol.asyncDispose]() {
      closed = true;
      const database = await opening?.catch(() => null);
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

function toPayload(row: Record<string, unknown>): PointPayload {
  return { ...FIELDS_OF_OLD_POINTS, ...JSON.parse(row['payload'] as string) };
}

function toBlob(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
}

/** A copy: SQLite's bytes need not be aligned to four. */
function toVector(blob: Uint8Array): Float32Array {
  return new Float32Array(blob.slice().buffer);
}
