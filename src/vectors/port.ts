import type { ProductFields } from '../catalog/product-image.ts';
import type { SearchFilter } from './search-filter.ts';

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

export interface SearchRequest {
  readonly vector: Float32Array;
  readonly limit: number;
  readonly filter?: SearchFilter;
  /** True: a product appears once, with its best image. */
  readonly groupByProduct: boolean;
  /** Left out of the hits: the product that is searched with. */
  readonly excludeProductId?: string;
}

export interface Hit {
  readonly id: string;
  /** Cosine similarity, −1 to 1. */
  readonly score: number;
  readonly payload: PointPayload;
}

export type UpsertOutcome = 'indexed' | 'superseded' | 'deleted';

/**
 * Vectors with payloads, one collection of one model. Errors thrown by every method: `store_unavailable` when
 * the backend can't be reached in time (trying again may help), `store_rejected` when it refused the request.
 */
export interface VectorStore extends AsyncDisposable {
  readonly collection: string;
  /**
   * Makes the collection with its indexes unless it is there.
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
  /** The stored points of these ids, without vectors; null for each that isn't there. */
  getPayloads(ids: readonly string[]): Promise<readonly (PointPayload | null)[]>;
  search(request: SearchRequest): Promise<readonly Hit[]>;
  /** The product's points by image id, in order, with vectors. */
  getProduct(productId: string): Promise<readonly StoredPoint[]>;
  /**
   * Deletes the product's points of smaller sequences, and leaves a tombstone of this sequence: no write of an earlier
   * job brings an image of the product back, however late it arrives; a later job does. May be repeated.
   * @param imageIds images with unfinished jobs, for a store that needs a tombstone per image too
   * @returns how many points there were
   */
  deleteProduct(productId: string, sequence: number, imageIds: readonly string[]): Promise<number>;
  /** Points, tombstones not counted. */
  count(): Promise<number>;
  /** Removes tombstones that are of this age or older; returns how many. */
  sweepTombstones(olderThanMs: number): Promise<number>;
  /** Answers or fails within a second. @throws VitrineError `store_unavailable` */
  ping(): Promise<void>;
}
