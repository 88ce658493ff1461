import type { Schemas } from '@qdrant/js-client-rest';
import { toImageTombstoneId, toProductChangesId, toProductTombstoneId } from '../../catalog/product-image.ts';
import { FIELDS_OF_OLD_POINTS } from '../payload.ts';
import type { Point, PointPayload, StoredPoint } from '../port.ts';
import { applyChanges, NO_CHANGES, type ProductChanges } from '../product-data.ts';
import type { WordAnalyzer } from '../words.ts';
import { IS_TOMBSTONE } from './filter.ts';
import { type SparseVector, toSparseVector, WORDS_VECTOR } from './words.ts';

/** Named from the first day, so that a second model's vectors can stand next to these. */
export const VECTOR_NAME = 'image';

/** A payload as it is stored, in snake_case. Points and tombstones have these fields of their own: see `toWirePoint`. */
export type WirePayload = Record<string, unknown>;

/** Smaller than every sequence, and than every revision. */
export const NOTHING = -1;

/** What is written: a point, a tombstone or the record of a product's changes. The last two have no vector. */
export interface WirePoint {
  readonly id: string;
  readonly vector: Record<string, number[] | SparseVector>;
  readonly payload: WirePayload;
  /** Holds for a stored point that this one may overwrite. Qdrant inserts a new id whatever the filter says. */
  readonly mayOverwrite: Schemas['Filter'];
}

/** What applies to a point apart from itself: read before each write, and again after it. */
export interface ProductState {
  /** The sequence of the last deletion of the product or the image, or NOTHING. */
  readonly lastDeletion: number;
  readonly changes: ProductChanges;
  /** Of the changes: grows with each of them; NOTHING without any. */
  readonly revision: number;
}

/** The ids whose payloads `toProductState` reads. */
export function toStateIds({ productId, imageId }: Pick<PointPayload, 'productId' | 'imageId'>): string[] {
  return [
    toProductTombstoneId(productId),
    toImageTombstoneId(productId, imageId),
    toProductChangesId(productId),
  ];
}

export function toProductState(
  { productId, imageId }: Pick<PointPayload, 'productId' | 'imageId'>,
  stored: ReadonlyMap<string, WirePayload>,
): ProductState {
  const deletions = [toProductTombstoneId(productId), toImageTombstoneId(productId, imageId)];
  const { changes, revision } = toChanges(stored.get(toProductChangesId(productId)));
  return {
    lastDeletion: Math.max(...deletions.map((id) => Number(stored.get(id)?.['sequence'] ?? NOTHING))),
    changes,
    revision,
  };
}

/** Each field that a filter names, with its index; made before the first point is written. */
export const PAYLOAD_INDEXES = {
  product_id: 'keyword',
  image_id: 'keyword',
  content_hash: 'keyword',
  category: 'keyword',
  brand: 'keyword',
  currency: 'keyword',
  tags: 'keyword',
  price: 'float',
  version: 'integer',
  sequence: 'integer',
  last_deletion: 'integer',
  data_revision: 'integer',
  words_version: 'keyword',
  deleted: 'bool',
  deleted_at: 'integer',
} as const;

/**
 * Those that no search by vectors is narrowed with, but for the few tombstones. By default Qdrant links the vectors of
 * each range of a field's values to each other once more, which takes longer than the index of the vectors itself.
 */
export const FIELDS_WITHOUT_LINKS: readonly string[] = [
  'content_hash',
  'version',
  'sequence',
  'last_deletion',
  'data_revision',
  'words_version',
  'deleted',
  'deleted_at',
] satisfies readonly (keyof typeof PAYLOAD_INDEXES)[];

const WIRE_NAMES = {
  productId: 'product_id',
  imageId: 'image_id',
  imageRef: 'image_ref',
  contentHash: 'content_hash',
  version: 'version',
  sequence: 'sequence',
  indexedAt: 'indexed_at',
  name: 'name',
  description: 'description',
  category: 'category',
  brand: 'brand',
  price: 'price',
  currency: 'currency',
  tags: 'tags',
  metadata: 'metadata',
} as const satisfies Record<keyof PointPayload, string>;

const FIELDS = Object.entries(WIRE_NAMES) as readonly [keyof PointPayload, string][];

/**
 * The point as it is stored. The state that it was made with is stored too: a write from before the last deletion may
 * carry a greater version and still must not overwrite; and one that was made without the last change must not either.
 * @param storedRevision of the point that is there already. It is greater than the state's when the record of the
 *   changes has been swept: they are older than every job that is still on its way.
 */
export function toWirePoint(
  point: Point,
  state: ProductState,
  analyzer: WordAnalyzer,
  storedRevision: number,
): WirePoint {
  const { sequence } = point.payload;
  return {
    ...toContent(point, state, analyzer),
    mayOverwrite: {
      must_not: [
        // Deleted after this point was enqueued: a tombstone, or a point of a later job.
        { key: 'last_deletion', range: { gte: sequence } },
        { key: 'data_revision', range: { gt: Math.max(state.revision, storedRevision) } },
        isNewerThan(point.payload, state.lastDeletion),
      ],
    },
  };
}

/** A point as it was read, with the product's changes, and the words of this analyzer. */
export function toRefreshedPoint(
  { id, vector, payload }: StoredWirePoint,
  { lastDeletion, changes, revision }: ProductState,
  analyzer: WordAnalyzer,
): WirePoint {
  const point = { id, vector, payload: toPayload(payload) };
  const { version, sequence } = point.payload;
  const storedRevision = toRevision(payload);
  const state = {
    lastDeletion: Math.max(lastDeletion, Number(payload['last_deletion'] ?? NOTHING)),
    // Never those from before the ones that it has.
    changes: storedRevision > revision ? NO_CHANGES : changes,
    revision: Math.max(revision, storedRevision),
  };
  return {
    ...toContent(point, state, analyzer),
    mayOverwrite: {
      must: [isEqual('version', version), isEqual('sequence', sequence)],
      must_not: [IS_TOMBSTONE, { key: 'data_revision', range: { gt: state.revision } }],
    },
  };
}

function isEqual(key: string, value: number): Schemas['Condition'] {
  return { key, range: { gte: value, lte: value } };
}

function toContent(
  { id, vector, payload }: Point,
  { changes, revision, lastDeletion }: ProductState,
  analyzer: WordAnalyzer,
): Omit<WirePoint, 'mayOverwrite'> {
  const current = applyChanges(payload, payload.sequence, changes);
  const fields = FIELDS.filter(([field]) => current[field] !== undefined && current[field] !== null);
  return {
    id,
    // A typed array would be sent as an object.
    vector: {
      [VECTOR_NAME]: Array.from(vector),
      [WORDS_VECTOR]: toSparseVector(analyzer.ofProduct(current)),
    },
    payload: {
      ...Object.fromEntries(fields.map(([field, name]) => [name, current[field]])),
      ...(lastDeletion !== NOTHING && { last_deletion: lastDeletion }),
      ...(revision !== NOTHING && { data_revision: revision }),
      words_version: analyzer.version,
    },
  };
}

/** A stored point of a greater (version, sequence), unless a deletion that this point comes after covers it. */
function isNewerThan({ version, sequence }: PointPayload, lastDeletion: number): Schemas['Filter'] {
  return {
    must: lastDeletion === NOTHING ? [] : [{ key: 'sequence', range: { gt: lastDeletion } }],
    must_not: [IS_TOMBSTONE],
    should: [
      { key: 'version', range: { gt: version } },
      {
        must: [
          { key: 'version', range: { gte: version } },
          { key: 'sequence', range: { gt: sequence } },
        ],
      },
    ],
  };
}

/** A tombstone of a deletion, for the id of an image or of a product; it overwrites what the deletion covers. */
export function toTombstone(id: string, productId: string, sequence: number, deletedAtMs: number): WirePoint {
  return {
    id,
    vector: {},
    payload: {
      product_id: productId,
      sequence,
      last_deletion: sequence,
      deleted: true,
      deleted_at: deletedAtMs,
    },
    mayOverwrite: { must_not: [{ key: 'sequence', range: { gt: sequence } }] },
  };
}

/**
 * The record of a product's changes. Like a tombstone, it has no vector and is no point, for processes of earlier
 * versions too, and is swept in its time.
 * @param replaced the revision of the record that this one was made of, or NOTHING
 */
export function toChangesRecord(
  productId: string,
  changes: ProductChanges,
  revision: number,
  replaced: number,
  changedAtMs: number,
): WirePoint {
  return {
    id: toProductChangesId(productId),
    vector: {},
    payload: {
      product_id: productId,
      // As text: the keys of metadata are not to become paths.
      changes: JSON.stringify(changes),
      data_revision: revision,
      deleted: true,
      deleted_at: changedAtMs,
    },
    mayOverwrite: { must: [isEqual('data_revision', replaced)] },
  };
}

export function toChanges(record: WirePayload | undefined): Pick<ProductState, 'changes' | 'revision'> {
  if (record === undefined) return { changes: NO_CHANGES, revision: NOTHING };
  return {
    changes: JSON.parse(String(record['changes'])) as ProductChanges,
    revision: toRevision(record),
  };
}

/** Of a record, or of the changes that a point was made with. */
export function toRevision(payload: WirePayload | undefined): number {
  return Number(payload?.['data_revision'] ?? NOTHING);
}

export function isTombstone(payload: WirePayload): boolean {
  return payload['deleted'] === true;
}

export function toPayload(wire: WirePayload): PointPayload {
  const fields = FIELDS.filter(([, name]) => wire[name] !== undefined && wire[name] !== null);
  return {
    ...FIELDS_OF_OLD_POINTS,
    ...Object.fromEntries(fields.map(([field, name]) => [field, toJson(wire[name])])),
  } as unknown as PointPayload;
}

/** The client reads integers that a number can't hold exactly as BigInt, which JSON doesn't know. */
function toJson(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, toJson(part)]));
}

/** With the payload as it is stored. */
export interface StoredWirePoint {
  readonly id: string;
  readonly vector: Float32Array;
  readonly payload: WirePayload;
}

export function toStoredWirePoint({ id, vector, payload }: Schemas['Record']): StoredWirePoint {
  const vectors = (vector ?? {}) as Record<string, readonly number[]>;
  return { id: String(id), vector: Float32Array.from(vectors[VECTOR_NAME] ?? []), payload: payload ?? {} };
}

export function toStoredPoint(record: Schemas['Record']): StoredPoint {
  const point = toStoredWirePoint(record);
  return { ...point, payload: toPayload(point.payload) };
}
