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
  /** A point is never overwritten by one of a smaller version. */
  readonly version: number;
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
   * Writes the points and returns when they are applied. A stored point of a greater version stays as it is.
   * @throws VitrineError `embedding_invalid` for a vector of another length or with a value that isn't finite.
   */
  upsert(points: readonly Point[]): Promise<void>;
  search(request: SearchRequest): Promise<readonly Hit[]>;
  /** The product's points by image id, in order, with vectors. */
  getProduct(productId: string): Promise<readonly StoredPoint[]>;
  /**
   * Deletes the product's points, and leaves a tombstone for each of them and for each named image, of a version
   * one above the greatest of the point's own and the named one, so that a late upsert doesn't bring it back.
   * @returns how many points there were.
   */
  deleteProduct(
    productId: string,
    images: readonly { readonly imageId: string; readonly version: number }[],
  ): Promise<number>;
  /** Points, tombstones not counted. */
  count(): Promise<number>;
  /** Removes tombstones that are of this age or older; gives how many. */
  sweepTombstones(olderThanMs: number): Promise<number>;
  /** @throws VitrineError `store_unavailable` */
  ping(): Promise<void>;
}
