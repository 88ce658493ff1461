import type { PointPayload } from '../port.ts';

/** The payload as it is stored: snake_case, and a tombstone is told by `deleted`. */
export type WirePayload = Record<string, unknown>;

/** Wire name by field, and the index that filters need; made before the first point is written. */
export const PAYLOAD_INDEXES = {
  product_id: 'keyword',
  image_id: 'keyword',
  category: 'keyword',
  brand: 'keyword',
  currency: 'keyword',
  tags: 'keyword',
  price: 'float',
  version: 'integer',
  deleted: 'bool',
  deleted_at: 'integer',
} as const;

const WIRE_NAMES = {
  productId: 'product_id',
  imageId: 'image_id',
  version: 'version',
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

export function toWirePayload(payload: PointPayload): WirePayload {
  return Object.fromEntries(
    FIELDS.filter(([field]) => payload[field] !== undefined).map(([field, name]) => [name, payload[field]]),
  );
}

export function toPayload(wire: WirePayload): PointPayload {
  const fields = FIELDS.filter(([, name]) => wire[name] !== undefined && wire[name] !== null);
  return Object.fromEntries(
    fields.map(([field, name]) => [field, toJson(wire[name])]),
  ) as unknown as PointPayload;
}

/** The client reads integers that a number can't hold exactly as BigInt, which JSON doesn't know. */
function toJson(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, toJson(part)]));
}

export function toTombstone(
  productId: string,
  imageId: string,
  version: number,
  deletedAt: number,
): WirePayload {
  return { product_id: productId, image_id: imageId, version, deleted: true, deleted_at: deletedAt };
}
