import { parseCursor, toCursor } from '../cursor.ts';
import { createFacetCounter, type FacetImage } from '../facets.ts';
import {
  FACET_FIELDS,
  type FacetRequest,
  type Facets,
  type PointPayload,
  type ProductListRequest,
  type ProductPage,
  type QueryPart,
  type SearchRequest,
  type StoredImage,
  type StoredPoint,
} from '../port.ts';
import type { Candidate, RankOptions } from '../search.ts';
import type { NumberRange, SearchFilter } from '../search-filter.ts';
import { assertVector, toCosine } from '../vector.ts';
import type { QueryWords } from '../words.ts';
import { requireModel, type SqliteCollection } from './collection.ts';
import { type SqlCondition, toBounds, toSqlConditions } from './filter.ts';
import { toBlob, toPayload } from './points.ts';
import { FACET_PRICE, FACET_VALUES, PRODUCT_INDEX } from './schema.ts';

/** How much less a word counts that only begins with what was typed. */
const PREFIX_WEIGHT = 0.3;

/**
 * For what looks at every point: in the order of the file. By an index of the collection, SQLite would jump from page to
 * page, and sort all points for each part of a scan.
 */
const EVERY_POINT = 'vector_points NOT INDEXED';

/** Points of the collection that pass. */
function toWhere(
  { name }: SqliteCollection,
  filter: SearchFilter = {},
  more: readonly SqlCondition[] = [],
): SqlCondition {
  const conditions = [
    { sql: 'collection = ?', values: [name] },
    { sql: 'deleted_at IS NULL', values: [] },
    ...toSqlConditions(filter),
    ...more,
  ];
  return {
    sql: conditions.map(({ sql }) => `(${sql})`).join(' AND '),
    values: conditions.flatMap(({ values }) => values),
  };
}

export function rank(
  collection: SqliteCollection,
  part: QueryPart,
  request: SearchRequest,
  { limit, withPayload }: RankOptions,
): readonly Candidate[] {
  const { dimension } = requireModel(collection);
  const { filter, groupByProduct, excludeProductIds = [], scoreThreshold } = request;
  const where = toWhere(
    collection,
    filter,
    excludeProductIds.length === 0
      ? []
      : [
          {
            sql: 'product_id NOT IN (SELECT value FROM json_each(?))',
            values: [JSON.stringify(excludeProductIds)],
          },
        ],
  );
  const scored =
    part.by === 'words' ? toWordScores(collection, part.text) : toCosines(part.vector, dimension);
  if (scored === null) return [];
  // With max(), SQLite takes the other columns of a group from the row that has the maximum. Payloads are read for
  // the best rows only: sorting would carry them along.
  const sql = `
    WITH scored AS MATERIALIZED (
      SELECT row, id, product_id, ${scored.score.sql} AS score
      FROM ${scored.from} WHERE ${scored.where.sql} AND ${where.sql}
    )
    SELECT row, id, product_id, ${groupByProduct ? 'max(score) AS score' : 'score'} FROM scored
    ${part.by === 'words' ? '' : 'WHERE score >= ?'}
    ${groupByProduct ? 'GROUP BY product_id' : ''} ORDER BY score DESC, id LIMIT ?`;
  const values = [...scored.score.values, ...scored.where.values, ...where.values];
  const threshold = part.by === 'words' ? [] : [scoreThreshold ?? -2];
  const readPayload = collection.database.prepare('SELECT payload FROM vector_points WHERE row = ?');
  return collection.database
    .prepare(sql)
    .all(...values, ...threshold, limit)
    .map((row) => ({
      id: row['id'] as string,
      productId: row['product_id'] as string,
      score: part.by === 'words' ? (row['score'] as number) : toCosine(row['score'] as number),
      ...(withPayload && { payload: toPayload(readPayload.get(row['row'] as number) ?? {}) }),
    }));
}

interface Scored {
  readonly from: string;
  readonly where: SqlCondition;
  readonly score: SqlCondition;
}

/** @throws VitrineError `embedding_invalid` */
function toCosines(vector: Float32Array, dimension: number): Scored {
  assertVector(vector, dimension);
  return {
    from: EVERY_POINT,
    where: { sql: 'TRUE', values: [] },
    score: { sql: '1 - coalesce(vec_distance_cosine(vector, ?), 1)', values: [toBlob(vector)] },
  };
}

/** Null when the text has no word. */
function toWordScores({ analyzer }: SqliteCollection, text: string): Scored | null {
  const match = toMatch(analyzer.ofQuery(text));
  if (match === null) return null;
  return {
    from: 'vector_words JOIN vector_points ON vector_points.row = vector_words.rowid',
    where: { sql: 'vector_words MATCH ?', values: [match] },
    score: { sql: `-bm25(vector_words, 1, ${PREFIX_WEIGHT})`, values: [] },
  };
}

/** In FTS5's query language. The words are letters and digits only; quotes keep AND and NOT from being operators. */
function toMatch({ stems, prefix }: QueryWords): string | null {
  if (stems.length === 0) return null;
  const any = `stems : (${stems.map((stem) => `"${stem}"`).join(' OR ')})`;
  return prefix === null ? any : `(${any}) OR (words : "${prefix}" *)`;
}

export function loadPoints(collection: SqliteCollection, ids: readonly string[]): readonly StoredPoint[] {
  requireModel(collection);
  const read = collection.database.prepare(
    'SELECT id, payload, vector FROM vector_points WHERE collection = ? AND id = ? AND deleted_at IS NULL',
  );
  return ids.flatMap((id) => {
    const row = read.get(collection.name, id);
    return row === undefined ? [] : [toStoredPoint(row)];
  });
}

export function getPayloads(
  collection: SqliteCollection,
  ids: readonly string[],
): readonly (PointPayload | null)[] {
  requireModel(collection);
  const read = collection.database.prepare(
    'SELECT payload FROM vector_points WHERE collection = ? AND id = ? AND deleted_at IS NULL',
  );
  return ids.map((id) => {
    const row = read.get(collection.name, id);
    return row === undefined ? null : toPayload(row);
  });
}

export function getProduct(collection: SqliteCollection, productId: string): readonly StoredPoint[] {
  requireModel(collection);
  return collection.database
    .prepare(
      `SELECT id, payload, vector FROM vector_points
       WHERE collection = ? AND product_id = ? AND deleted_at IS NULL ORDER BY image_id`,
    )
    .all(collection.name, productId)
    .map(toStoredPoint);
}

export function listProducts(
  collection: SqliteCollection,
  { filter, limit, cursor }: ProductListRequest,
): ProductPage {
  requireModel(collection);
  const { database, name } = collection;
  const after = cursor === undefined ? '' : parseCursor('sqlite', cursor);
  const where = toWhere(collection, filter, [{ sql: 'product_id > ?', values: [after] }]);
  const ids = database
    .prepare(`SELECT DISTINCT product_id AS id FROM vector_points WHERE ${where.sql} ORDER BY id LIMIT ?`)
    .all(...where.values, limit + 1)
    .map((row) => row['id'] as string);
  const readImages = database.prepare(
    `SELECT id, payload FROM vector_points
     WHERE collection = ? AND product_id = ? AND deleted_at IS NULL ORDER BY image_id`,
  );
  const page = ids.slice(0, limit);
  return {
    products: page.map((productId) => ({
      productId,
      images: readImages
        .all(name, productId)
        .map((row): StoredImage => ({ id: row['id'] as string, payload: toPayload(row) })),
    })),
    cursor: ids.length > limit ? toCursor('sqlite', page.at(-1) ?? '') : null,
  };
}

/** Products with the same values are counted by SQLite; only what differs is looked at here. */
export function facets(collection: SqliteCollection, request: FacetRequest): Facets {
  requireModel(collection);
  const where = toWhere(collection, request.filter);
  const paths = request.metadataKeys.map((key) => `$.metadata.${JSON.stringify(key)}`);
  const ranges = request.priceRanges.map(isInPriceRange);
  const rows = collection.database
    .prepare(
      `SELECT images, count(*) AS products FROM (
         SELECT json_group_array(DISTINCT json_array(
           json(${FACET_VALUES}),
           json_array(${paths.map(() => 'payload -> ?').join(', ')}),
           json_array(${ranges.map(({ sql }) => sql).join(', ')})
         )) AS images
         FROM vector_points INDEXED BY ${PRODUCT_INDEX} WHERE ${where.sql} GROUP BY product_id
       ) GROUP BY images`,
    )
    .iterate(...paths, ...ranges.flatMap(({ values }) => values), ...where.values);
  const counter = createFacetCounter(request);
  for (const row of rows) {
    const images = JSON.parse(row['images'] as string) as readonly ImageValues[];
    counter.add(
      images.map((image) => toFacetImage(request, image)),
      row['products'] as number,
    );
  }
  return counter.toFacets();
}

type ImageValues = readonly [
  fields: readonly unknown[],
  metadata: readonly unknown[],
  ranges: readonly unknown[],
];

function toFacetImage({ metadataKeys }: FacetRequest, [fields, metadata, ranges]: ImageValues): FacetImage {
  return {
    fields: Object.fromEntries(FACET_FIELDS.map((field, index) => [field, fields[index]])),
    metadata: Object.fromEntries(metadataKeys.map((key, index) => [key, metadata[index]])),
    isInRange: ranges.map((inside) => inside === 1),
  };
}

function isInPriceRange(range: NumberRange): SqlCondition {
  const bounds = toBounds(range);
  const tests = bounds.map(({ comparison }) => `${FACET_PRICE} ${comparison} ?`);
  return {
    sql: [`typeof(${FACET_PRICE}) IN ('integer', 'real')`, ...tests].join(' AND '),
    values: bounds.map(({ value }) => value),
  };
}

export function count(collection: SqliteCollection): number {
  requireModel(collection);
  const where = toWhere(collection);
  return collection.database
    .prepare(`SELECT count(*) AS points FROM vector_points WHERE ${where.sql}`)
    .get(...where.values)?.['points'] as number;
}

/** Points after the given row, in the order of rows. */
export function scanPoints(
  collection: SqliteCollection,
  after: number,
  limit: number,
): { readonly points: readonly StoredPoint[]; readonly last: number | null } {
  requireModel(collection);
  const where = toWhere(collection, {}, [{ sql: 'row > ?', values: [after] }]);
  const rows = collection.database
    .prepare(`SELECT row, id, payload, vector FROM ${EVERY_POINT} WHERE ${where.sql} ORDER BY row LIMIT ?`)
    .all(...where.values, limit);
  return {
    points: rows.map(toStoredPoint),
    last: rows.length < limit ? null : (rows.at(-1)?.['row'] as number),
  };
}

function toStoredPoint(row: Record<string, unknown>): StoredPoint {
  return {
    id: row['id'] as string,
    vector: toVector(row['vector'] as Uint8Array),
    payload: toPayload(row),
  };
}

/** A copy: SQLite's bytes need not be aligned to four. */
function toVector(blob: Uint8Array): Float32Array {
  return new Float32Array(blob.slice().buffer);
}
