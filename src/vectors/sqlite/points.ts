import { toImageTombstoneId, toPointId, toProductTombstoneId } from '../../catalog/product-image.ts';
import { writeTransaction } from '../../sqlite/database.ts';
import { FIELDS_OF_OLD_POINTS } from '../payload.ts';
import type { Point, PointPayload, ProductPatch, UpsertOutcome } from '../port.ts';
import { applyChanges, mergePatch, NO_CHANGES, type ProductChanges } from '../product-data.ts';
import { assertVector } from '../vector.ts';
import { createWordsWriter, requireModel, type SqliteCollection } from './collection.ts';

/** A tombstone gives way to every point: what it covers is refused before this statement. */
const WRITE_POINT = `
  INSERT INTO vector_points (collection, id, product_id, image_id, version, sequence, payload, vector)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (collection, id) DO UPDATE SET
    version = excluded.version, sequence = excluded.sequence, deleted_at = NULL,
    payload = excluded.payload, vector = excluded.vector
  WHERE vector_points.deleted_at IS NOT NULL
    OR (excluded.version, excluded.sequence) >= (vector_points.version, vector_points.sequence)
  RETURNING row
`;

const WRITE_TOMBSTONE = `
  INSERT INTO vector_points (collection, id, product_id, image_id, version, sequence, deleted_at, payload, vector)
  VALUES (?, ?, ?, ?, 0, ?, ?, '{}', x'')
  ON CONFLICT (collection, id) DO UPDATE SET sequence = excluded.sequence, deleted_at = excluded.deleted_at
  WHERE excluded.sequence >= vector_points.sequence
`;

const READ_CHANGES = 'SELECT changes FROM vector_product_changes WHERE collection = ? AND product_id = ?';

export async function upsert(
  collection: SqliteCollection,
  points: readonly Point[],
): Promise<readonly UpsertOutcome[]> {
  const { database, name, analyzer } = collection;
  const { dimension } = requireModel(collection);
  for (const point of points) assertVector(point.vector, dimension);
  const readDeletion = database.prepare(
    'SELECT max(sequence) AS sequence FROM vector_points WHERE collection = ? AND id IN (?, ?)',
  );
  const writePoint = database.prepare(WRITE_POINT);
  const writeWords = createWordsWriter(database);
  return writeTransaction(database, () =>
    points.map(({ id, vector, payload }): UpsertOutcome => {
      const { productId, imageId, version, sequence } = payload;
      const tombstones = [toProductTombstoneId(productId), toImageTombstoneId(productId, imageId)] as const;
      const deletion = readDeletion.get(name, ...tombstones)?.['sequence'] as number | null | undefined;
      if (sequence <= (deletion ?? -1)) return 'deleted';
      const current = applyChanges(payload, sequence, readChanges(collection, productId));
      const json = JSON.stringify(current);
      const written = writePoint.get(name, id, productId, imageId, version, sequence, json, toBlob(vector));
      if (written === undefined) return 'superseded';
      writeWords(written['row'] as number, analyzer.ofProduct(current));
      return 'indexed';
    }),
  );
}

function readChanges({ database, name }: SqliteCollection, productId: string): ProductChanges {
  const row = database.prepare(READ_CHANGES).get(name, productId);
  return row === undefined ? NO_CHANGES : (JSON.parse(row['changes'] as string) as ProductChanges);
}

export async function updateProduct(
  collection: SqliteCollection,
  productId: string,
  patch: ProductPatch,
  sequence: number,
): Promise<number> {
  const { database, name, analyzer, clock } = collection;
  requireModel(collection);
  const writeChanges = database.prepare(
    `INSERT INTO vector_product_changes (collection, product_id, changes, changed_at) VALUES (?, ?, ?, ?)
     ON CONFLICT (collection, product_id) DO UPDATE SET
       changes = excluded.changes, changed_at = excluded.changed_at`,
  );
  const readPoints = database.prepare(
    `SELECT row, sequence, payload FROM vector_points
     WHERE collection = ? AND product_id = ? AND deleted_at IS NULL`,
  );
  const writePayload = database.prepare('UPDATE vector_points SET payload = ? WHERE row = ?');
  const writeWords = createWordsWriter(database);
  return writeTransaction(database, () => {
    const changes = mergePatch(readChanges(collection, productId), patch, sequence);
    writeChanges.run(name, productId, JSON.stringify(changes), clock.now());
    const rows = readPoints.all(name, productId);
    for (const row of rows) {
      const current = applyChanges(toPayload(row), row['sequence'] as number, changes);
      writePayload.run(JSON.stringify(current), row['row'] as number);
      writeWords(row['row'] as number, analyzer.ofProduct(current));
    }
    return rows.length;
  });
}

/** Images need no tombstones of their own: each write reads the product's in its transaction. */
export async function deleteProduct(
  collection: SqliteCollection,
  productId: string,
  sequence: number,
): Promise<number> {
  const removed = await deletePoints(
    collection,
    { id: toProductTombstoneId(productId), productId, imageId: '' },
    sequence,
    'product_id = ?',
    productId,
  );
  return removed;
}

export async function deleteImage(
  collection: SqliteCollection,
  productId: string,
  imageId: string,
  sequence: number,
): Promise<boolean> {
  const removed = await deletePoints(
    collection,
    { id: toImageTombstoneId(productId, imageId), productId, imageId },
    sequence,
    'id = ?',
    toPointId(productId, imageId),
  );
  return removed > 0;
}

interface Tombstone {
  readonly id: string;
  readonly productId: string;
  readonly imageId: string;
}

/** Leaves the tombstone and removes the points that it covers, with their words. */
async function deletePoints(
  collection: SqliteCollection,
  tombstone: Tombstone,
  sequence: number,
  condition: string,
  value: string,
): Promise<number> {
  const { database, name, clock } = collection;
  requireModel(collection);
  const writeTombstone = database.prepare(WRITE_TOMBSTONE);
  const removePoints = database.prepare(
    `DELETE FROM vector_points
     WHERE collection = ? AND ${condition} AND deleted_at IS NULL AND sequence <= ? RETURNING row`,
  );
  const removeWords = database.prepare('DELETE FROM vector_words WHERE rowid = ?');
  return writeTransaction(database, () => {
    writeTombstone.run(name, tombstone.id, tombstone.productId, tombstone.imageId, sequence, clock.now());
    const removed = removePoints.all(name, value, sequence);
    for (const { row } of removed) removeWords.run(row as number);
    return removed.length;
  });
}

export async function sweep(collection: SqliteCollection, olderThanMs: number): Promise<number> {
  const { database, name, clock } = collection;
  requireModel(collection);
  const removals = [
    'DELETE FROM vector_points WHERE collection = ? AND deleted_at <= ?',
    'DELETE FROM vector_product_changes WHERE collection = ? AND changed_at <= ?',
  ].map((sql) => database.prepare(sql));
  return writeTransaction(database, () => {
    const removed = removals.map((removal) => Number(removal.run(name, clock.now() - olderThanMs).changes));
    return removed.reduce((sum, count) => sum + count, 0);
  });
}

export function toPayload(row: Record<string, unknown>): PointPayload {
  return { ...FIELDS_OF_OLD_POINTS, ...JSON.parse(row['payload'] as string) };
}

export function toBlob(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
}
