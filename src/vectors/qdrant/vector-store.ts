import type { Schemas } from '@qdrant/js-client-rest';
import { toPointId } from '../../catalog/product-image.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import { systemClock } from '../../observability/system-clock.ts';
import type { Hit, ModelIdentity, Point, SearchRequest, StoredPoint, VectorStore } from '../port.ts';
import { assertVector, toCosine } from '../vector.ts';
import { ensureCollection, readModel, VECTOR_NAME } from './collection.ts';
import { type CallOptions, createQdrantConnection, type Send } from './connection.ts';
import { assertCompleted } from './failure.ts';
import { IS_TOMBSTONE, isOfProduct, toConditions, toUpdateFilter } from './filter.ts';
import { toPayload, toTombstone, toWirePayload, type WirePayload } from './payload.ts';

export interface QdrantVectorStoreSettings {
  readonly url: string;
  readonly apiKey?: string | undefined;
  readonly collection: string;
  readonly logger?: Logger | undefined;
  /** The whole time a request may take, its retries included. */
  readonly timeoutMs: number;
  readonly clock?: Clock;
}

/** What is sent to be written: a point, or a tombstone without vectors. */
interface WirePoint {
  readonly id: string;
  readonly version: number;
  readonly vector: Record<string, number[]>;
  readonly payload: WirePayload;
}

const POINTS_A_REQUEST = 128;

/** Vectors in Qdrant, 1.16 or later. Nothing is sent before the first call. */
export function createQdrantVectorStore(settings: QdrantVectorStoreSettings): VectorStore {
  const { collection, apiKey, logger, clock = systemClock, url, timeoutMs } = settings;
  const connection = createQdrantConnection({ url, apiKey, timeoutMs, clock, logger });
  const inCollection = { collection_name: collection };
  let knownModel: ModelIdentity | null = null;

  async function call<T>(what: string, send: Send<T>, options?: CallOptions<T>): Promise<T> {
    const result = await connection.call(what, send, options);
    if (result === undefined) throw new VitrineError('store_rejected', `Qdrant refused: ${what}.`);
    return result;
  }

  async function requireModel(): Promise<ModelIdentity> {
    knownModel ??= await readModel(connection, collection);
    if (knownModel === null)
      throw new VitrineError('store_rejected', `There is no collection "${collection}".`);
    return knownModel;
  }

  /** An older version never overwrites a newer one, in whatever order the requests arrive or are repeated. */
  async function write(points: readonly WirePoint[]): Promise<void> {
    const newest = new Map<string, WirePoint>();
    for (const point of points) {
      if (point.version >= (newest.get(point.id)?.version ?? Number.NEGATIVE_INFINITY))
        newest.set(point.id, point);
    }
    const all = [...newest.values()];
    for (let start = 0; start < all.length; start += POINTS_A_REQUEST) {
      const batch = all.slice(start, start + POINTS_A_REQUEST);
      const body = {
        points: batch.map(({ id, vector, payload }) => ({ id, vector, payload })),
        update_filter: toUpdateFilter(batch),
      };
      await call(
        'upsert points',
        (api, options) => api.upsertPoints({ ...inCollection, wait: true, ...body }, options),
        { check: assertCompleted },
      );
    }
  }

  async function search(request: SearchRequest): Promise<readonly Hit[]> {
    assertVector(request.vector, (await requireModel()).dimension);
    const { excludeProductId, groupByProduct, limit } = request;
    const query = {
      ...inCollection,
      query: Array.from(request.vector),
      using: VECTOR_NAME,
      limit,
      with_payload: true,
      filter: {
        must: toConditions(request.filter ?? {}),
        must_not: [IS_TOMBSTONE, ...(excludeProductId === undefined ? [] : [isOfProduct(excludeProductId)])],
      },
    };
    if (!groupByProduct) {
      const { points } = await call('query points', (api, options) => api.queryPoints(query, options));
      return toHits(points);
    }
    const { groups } = await call('query groups', (api, options) =>
      api.queryPointsGroups({ ...query, group_by: 'product_id', group_size: 1 }, options),
    );
    return toHits(groups.flatMap((group) => group.hits));
  }

  /** All of the product's points, page by page. */
  async function scroll(productId: string, withVector: boolean): Promise<readonly Schemas['Record'][]> {
    const records: Schemas['Record'][] = [];
    let offset: Schemas['ScrollResult']['next_page_offset'];
    do {
      const page = await call('scroll points', (api, options) =>
        api.scrollPoints(
          {
            ...inCollection,
            filter: { must: [isOfProduct(productId)], must_not: [IS_TOMBSTONE] },
            limit: POINTS_A_REQUEST,
            with_payload: true,
            with_vector: withVector ? [VECTOR_NAME] : false,
            ...(offset === undefined || offset === null ? {} : { offset }),
          },
          options,
        ),
      );
      records.push(...page.points);
      offset = page.next_page_offset;
    } while (offset !== undefined && offset !== null);
    return records;
  }

  const countWhere = async (filter: Schemas['Filter']): Promise<number> =>
    (
      await call('count points', (api, options) =>
        api.countPoints({ ...inCollection, exact: true, filter }, options),
      )
    ).count;

  return {
    collection,
    ensureCollection: (model) => ensureCollection(connection, collection, model),
    collectionModel: () => readModel(connection, collection),
    async upsert(points) {
      const { dimension } = await requireModel();
      for (const point of points) assertVector(point.vector, dimension);
      await write(points.map(toWirePoint));
    },
    search,
    async getProduct(productId) {
      const points = (await scroll(productId, true)).map(toStoredPoint);
      return points.toSorted((a, b) => (a.payload.imageId < b.payload.imageId ? -1 : 1));
    },
    async deleteProduct(productId, images) {
      const stored = (await scroll(productId, false)).map((record) => toPayload(record.payload ?? {}));
      const deletedAt = clock.now();
      const tombstones = [...stored, ...images].map(({ imageId, version }) => ({
        id: toPointId(productId, imageId),
        version: version + 1,
        vector: {},
        payload: toTombstone(productId, imageId, version + 1, deletedAt),
      }));
      await write(tombstones);
      return stored.length;
    },
    count: () => countWhere({ must_not: [IS_TOMBSTONE] }),
    async sweepTombstones(olderThanMs) {
      const filter = {
        must: [IS_TOMBSTONE, { key: 'deleted_at', range: { lte: clock.now() - olderThanMs } }],
      };
      const found = await countWhere(filter);
      await call(
        'delete points',
        (api, options) => api.deletePoints({ ...inCollection, wait: true, filter }, options),
        { check: assertCompleted },
      );
      return found;
    },
    async ping() {
      // Unlike /livez and /readyz, this needs the API key to be right.
      await call('collection exists', (api, options) => api.collectionExists(inCollection, options));
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}

/** A typed array would be written as an object. */
function toWirePoint({ id, vector, payload }: Point): WirePoint {
  return {
    id,
    version: payload.version,
    vector: { [VECTOR_NAME]: Array.from(vector) },
    payload: toWirePayload(payload),
  };
}

function toStoredPoint({ id, vector, payload }: Schemas['Record']): StoredPoint {
  const vectors = (vector ?? {}) as Record<string, readonly number[]>;
  return {
    id: String(id),
    vector: Float32Array.from(vectors[VECTOR_NAME] ?? []),
    payload: toPayload(payload ?? {}),
  };
}

/** Best first; equal ones by id, as the embedded store has them. */
function toHits(points: readonly Schemas['ScoredPoint'][]): readonly Hit[] {
  return points
    .map(({ id, score, payload }) => ({
      id: String(id),
      score: toCosine(score),
      payload: toPayload(payload ?? {}),
    }))
    .toSorted((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
}
