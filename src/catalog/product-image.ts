import { parse, v5 as uuidv5 } from 'uuid';

/** Where the bytes of an image are. */
export type ImageRef =
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'inline'; readonly base64: string };

/** The host that an image is fetched from, in lower case and with its port; null when it comes from elsewhere. */
export function toImageHost(image: ImageRef): string | null {
  return image.kind === 'url' ? (URL.parse(image.url)?.host ?? null) : null;
}

/** What a catalog says of a product. Stored as the point's payload and given back with each hit. */
export interface ProductFields {
  readonly name?: string;
  readonly description?: string;
  readonly category?: string;
  readonly brand?: string;
  readonly price?: number;
  /** ISO 4217 code. */
  readonly currency?: string;
  readonly tags?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** One picture of one product. */
export interface ProductImage {
  readonly productId: string;
  /** Which picture of the product. */
  readonly imageId: string;
  readonly image: ImageRef;
  readonly product: ProductFields;
}

export const DEFAULT_IMAGE_ID = 'main';

/** Namespace of all point ids (RFC 9562, section 6.6): a random UUID, fixed for ever. */
const POINT_NAMESPACE = parse('6f1f0a5e-2f0c-4a57-9d3b-5c1f7f2b8f41');

/**
 * The id of a product image's point, a UUIDv5: the same for the same product image on every machine, so that a
 * repeated upsert writes the same point. JSON keeps ("a", "b\0c") and ("a\0b", "c") apart.
 */
export function toPointId(productId: string, imageId: string): string {
  return uuidv5(JSON.stringify([productId, imageId]), POINT_NAMESPACE);
}

/**
 * The id of the product's tombstone in a store that keeps tombstones as points. No image has it: an image's id is
 * made of two names.
 */
export function toProductTombstoneId(productId: string): string {
  return uuidv5(JSON.stringify([productId]), POINT_NAMESPACE);
}

/** The ids of what a store keeps about a product or an image apart from the image's point. No point has any of them. */
export function toProductChangesId(productId: string): string {
  return uuidv5(JSON.stringify([productId, null, 'changes']), POINT_NAMESPACE);
}

export function toImageTombstoneId(productId: string, imageId: string): string {
  return uuidv5(JSON.stringify([productId, imageId, 'tombstone']), POINT_NAMESPACE);
}
