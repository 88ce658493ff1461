import type { ProductFields } from '../catalog/product-image.ts';
import type { NumberRange, Scalar, SearchFilter } from './search-filter.ts';

/** What makes vectors comparable: two models with different identities must not share a collection. */
export interface ModelIdentity {
  readonly id: string;
  readonly dimension: number;
  /** Hash of the weights' revision and of everything that preprocessing depends on. */
  readonly fingerprint: string;
}

export interface PointPayload extends ProductFields {
  readonly productId: string;
  readonly imageId: string;
  /** Where the image came from: its URL or path; null when its bytes came with the job. */
  readonly imageRef: string | null;
  /** SHA-256 of the image's encoded bytes, in hexadecimal. */
  readonly contentHash: string;
  /** A point is never overwritten by one that is older: of a smaller version, or of the same and a smaller sequence. */
  readonly version: number;
  /** Of the job that wrote it. A deletion covers every point of its product with a smaller sequence. */
  readonly sequence: number;
  /** Epoch milliseconds. */
  readonly indexedAt: number;
}

export interface Point {
  /** `toPointId(productId, imageId)`. */
  readonly id: string;
  /** L2-normalised, as long as the collection's dimension. */
  readonly vector: Float32Array;
  readonly payload: PointPayload;
}

export interface StoredPoint {
  readonly id: string;
  readonly vector: Float32Array;
  readonly payload: PointPayload;
}

export type MatchedBy = 'image' | 'text' | 'words';

/** One thing that is searched with. Weights are positive; they count only when there are several parts. */
export type QueryPart =
  /** By the nearest vectors: of a picture, or of a text where the model has a text encoder. */
  | { readonly by: 'image' | 'text'; readonly vector: Float32Array; readonly weight: number }
  /** By words of the product's data. Any of the words is enough; the last one also matches as a prefix. */
  | { readonly by: 'words'; readonly text: string; readonly weight: number };

export interface SearchRequest {
  /** At least one. Several are fused by reciprocal rank fusion: see fusion.ts. */
  readonly parts: readonly QueryPart[];
  readonly limit: number;
  /** Hits to leave out from the start; 0 by default. With `limit` at most MAX_WINDOW. */
  readonly offset?: number;
  /** The least cosine of what a vector finds. Words have no such limit. */
  readonly scoreThreshold?: number;
  readonly filter?: SearchFilter;
  /** True: a product appears once, with its best image. */
  readonly groupByProduct: boolean;
  /** Products that are left out of the hits, such as the one that is searched with. */
  readonly excludeProductIds?: readonly string[];
  /** 0 to 1: how much the hits should differ from each other; 0, the default, orders them by score alone. */
  readonly diversify?: number;
}

/** The greatest `offset + limit` of a search. */
export const MAX_WINDOW = 1_000;

export interface Hit {
  readonly id: string;
  /** Of one vector: the cosine, −1 to 1. Of words alone: any positive number. Of several parts: the fused score. */
  readonly score: number;
  /** The parts of the query that found it. */
  readonly matchedBy: readonly MatchedBy[];
  readonly payload: PointPayload;
}

export interface FacetRequest {
  readonly filter?: SearchFilter;
  readonly fields: readonly FacetField[];
  /** Top-level keys of `metadata`. */
  readonly metadataKeys: readonly string[];
  readonly priceRanges: readonly NumberRange[];
  /** Values per field, those of the most products first. */
  readonly limit: number;
}

export const FACET_FIELDS = ['category', 'brand', 'tags', 'currency'] as const;
export type FacetField = (typeof FACET_FIELDS)[number];

/** Counts of products with at least one image that passes the filter and has the value. */
export interface Facets {
  /** Products that pass the filter. */
  readonly products: number;
  /** By each requested field. */
  readonly fields: Readonly<Partial<Record<FacetField, readonly FacetCount[]>>>;
  /** By each requested key. */
  readonly metadata: Readonly<Record<string, readonly FacetCount[]>>;
  /** One count per requested range, in order. */
  readonly prices: readonly number[];
}

export interface FacetCount {
  readonly value: Scalar;
  readonly products: number;
}

export interface ProductListRequest {
  readonly filter?: SearchFilter;
  /** Products per page. */
  readonly limit: number;
  /** Of the page before. */
  readonly cursor?: string;
}

export interface ProductPage {
  readonly products: readonly StoredProduct[];
  /** For the next page; null when this is the last one. */
  readonly cursor: string | null;
}

export interface StoredProduct {
  readonly productId: string;
  /** All of its images by image id, also those that don't pass the filter. */
  readonly images: readonly StoredImage[];
}

export type StoredImage = Omit<StoredPoint, 'vector'>;

/**
 * Changes to a product's data. What isn't named stays; null removes a field. Each top-level key of `metadata` is a
 * field of its own; deeper values are replaced as a whole.
 */
export type ProductPatch = {
  readonly [Field in Exclude<keyof ProductFields, 'metadata'>]?: ProductFields[Field] | null;
} & { readonly metadata?: Readonly<Record<string, unknown>> };

export interface DuplicatesRequest {
  /** The least cosine of two near duplicates, 0.8 to 1. */
  readonly threshold: number;
  /** Groups at most: the largest ones. */
  readonly limit: number;
  readonly signal?: AbortSignal;
}

export interface Duplicates {
  /** The largest first. */
  readonly groups: readonly DuplicateGroup[];
  /** Images that were looked at. */
  readonly images: number;
  /** Groups found, also those beyond `limit`. */
  readonly totalGroups: number;
  /** Pairs of images whose vectors were compared. */
  readonly comparedPairs: number;
}

/** Images of at least two products that are the same picture, or nearly so. */
export interface DuplicateGroup {
  /** `exact`: all have the same bytes. */
  readonly kind: 'exact' | 'near';
  readonly images: readonly DuplicateImage[];
}

export interface DuplicateImage {
  readonly id: string;
  readonly productId: string;
  readonly imageId: string;
  readonly imageRef: string | null;
  readonly contentHash: string;
  /** The greatest cosine with another image of the group. */
  readonly similarity: number;
}

export type UpsertOutcome = 'indexed' | 'superseded' | 'deleted';

/**
 * Vectors with payloads, one collection of one model. Errors thrown by every method: `store_unavailable` when
 * the backend can't be reached in time (trying again may help), `store_rejected` when it refused the request.
 */
export interface VectorStore extends AsyncDisposable {
  readonly collection: string;
  /**
   * Makes the collection with its indexes unless it is there, and upgrades one of an earlier version of Vitrine or of
   * another LANGUAGE: what search by words needs is made of the stored data, nothing is embedded again.
   * @throws VitrineError `model_mismatch` when it holds vectors of another model.
   */
  ensureCollection(model: ModelIdentity): Promise<void>;
  /** The model that the collection was made for; null when there is no collection yet. */
  collectionModel(): Promise<ModelIdentity | null>;
  /**
   * Writes the points, and returns what became of each when that is applied: `indexed`, `superseded` when a newer point
   * is stored, `deleted` when its product was deleted after the point's sequence. Deletions are read after the write, and
   * what they cover is removed again, so that a write which arrives late brings nothing back.
   * @throws VitrineError `embedding_invalid` for a vector of another length or with a value that isn't finite.
   */
  upsert(points: readonly Point[]): Promise<readonly UpsertOutcome[]>;
  /**
   * The stored points of these ids, without vectors; null for each that isn't there. Completes what a write that was
   * cut off has left to do, so that a point that is returned is one that `upsert` reports as `indexed`.
   */
  getPayloads(ids: readonly string[]): Promise<readonly (PointPayload | null)[]>;
  /** The best first. @throws VitrineError `embedding_invalid` for a vector that `upsert` would refuse */
  search(request: SearchRequest): Promise<readonly Hit[]>;
  /** Exact, also for products with several images. */
  facets(request: FacetRequest): Promise<Facets>;
  /**
   * Products with at least one image that passes the filter, in an order that stays the same while products are
   * added and removed between pages.
   * @throws VitrineError `invalid_request` for a cursor that this store didn't make
   */
  listProducts(request: ProductListRequest): Promise<ProductPage>;
  /** The product's points by image id, in order, with vectors. */
  getProduct(productId: string): Promise<readonly StoredPoint[]>;
  /**
   * Changes the data of all of the product's images, without their vectors. Images of jobs with a smaller sequence get
   * it too, however late they are written; a later job's data is newer and wins. May be repeated, and calls may arrive
   * in any order: each field keeps the value of the greatest sequence.
   * @returns how many images the product has
   */
  updateProduct(productId: string, patch: ProductPatch, sequence: number): Promise<number>;
  /**
   * Deletes the product's points of smaller sequences, and leaves a tombstone of this sequence: no write of an earlier
   * job brings an image of the product back, however late it arrives; a later job does. May be repeated.
   * @param imageIds images with unfinished jobs, for a store that needs a tombstone per image too
   * @returns how many points there were
   */
  deleteProduct(productId: string, sequence: number, imageIds: readonly string[]): Promise<number>;
  /** The same for one image of the product. @returns whether there was one */
  deleteImage(productId: string, imageId: string, sequence: number): Promise<boolean>;
  /** Groups of the same or nearly the same picture across products. Reads every point, and compares few pairs. */
  duplicates(request: DuplicatesRequest): Promise<Duplicates>;
  /** Points, tombstones not counted. */
  count(): Promise<number>;
  /** Removes tombstones, and records of changed data, that are of this age or older; returns how many. */
  sweepTombstones(olderThanMs: number): Promise<number>;
  /** Answers or fails within a second. @throws VitrineError `store_unavailable` */
  ping(): Promise<void>;
}
