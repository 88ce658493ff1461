import type { Schemas } from '@qdrant/js-client-rest';
import { FIELDS_OF_OLD_POINTS } from '../payload.ts';
import type { Point, PointPayload, StoredPoint } from '../port.ts';
import { IS_TOMBSTONE } from './filter.ts';

/** Named from the first day, so that a second model's vectors can stand next to these. */
export const VECTOR_NAME = 'image';

/** A payload as it is stored, in snake_case. Points and tombstones have these fields of their own: see `toWirePoint`. */
export type WirePayload = Record<string, unknown>;

/** Smaller than every sequence. */
export const NO_DELETION = -1;

/** What is written: a point, or a tombstone, which has no vector. */
export interface WirePoint {
  readonly id: string;
  readonly vector: Record<string, number[]>;
  readonly payload: WirePayload;
  /** Holds for a stored point that this one may overwrite. Qdrant inserts a new id whatever the filter says. */
  readonly mayOverwrite: Schemas['Filter'];
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
  deleted: 'bool',
  deleted_at: 'integer',
} as const;

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
 * The point as it is stored.
 * @param lastDeletion the sequence of its product's last deletion, smaller than the point's own; or NO_DELETION.
 *   It is stored too: a write from before that deletion may carry a greater version and still must not overwrite.
 */
export function toWirePoint({ id, vector, payload }: Point, lastDeletion: number): WirePoint {
  const fields = FIELDS.filter(([field]) => payload[field] !== undefined && payload[field] !== null);
  return {
    id,
    // A typed array would be sent as an object.
    vector: { [VECTOR_NAME]: Array.from(vector) },
    payload: {
      ...Object.fromEntries(fields.map(([field, name]) => [name, payload[field]])),
      ...(lastDeletion !== NO_DELETION && { last_deletion: lastDeletion }),
    },
    mayOverwrite: {
      must_not: [
        // Deleted after this point was enqueued: a tombstone, or a point of a later job.
        { key: 'last_deletion', range: { gte: payload.sequence } },
        isNewerThan(payload, lastDeletion),
      ],
    },
  };
}

/** A stored point of a greater (version, sequence), unless a deletion that this point comes after covers it. */
function isNewerThan({ version, sequence }: PointPayload, lastDeletion: number): Schemas['Filter'] {
  return {
    must: lastDeletion === NO_DELETION ? [] : [{ key: 'sequence', range: { gt: lastDeletion } }],
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

export function toStoredPoint({ id, vector, payload }: Schemas['Record']): StoredPoint {
  const vectors = (vector ?? {}) as Record<string, readonly number[]>;
  return {
    id: String(id),
    vector: Float32Array.from(vectors[VECTOR_NAME] ?? []),
    payload: toPayload(payload ?? {}),
  };
}
