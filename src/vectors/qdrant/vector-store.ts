import type { Schemas } from '@qdrant/js-client-rest';
import { toPointId, toProductTombstoneId } from '../../catalog/product-image.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import { systemClock } from '../../observability/system-clock.ts';
import type {
  Hit,
  ModelIdentity,
  Point,
  SearchRequest,
  StoredPoint,
  UpsertOutcome,
  VectorStore,
} from '../port.ts';
import { assertVector, toCosine } from '../vector.ts';
import { ensureCollection, readModel } from './collection.ts';
import { assertCompleted, type CallOptions, createQdrantConnection, type Send } from './connection.ts';
import { IS_TOMBSTONE, isOfProduct, toConditions } from './filter.ts';
import {
  isTombstone,
  NO_DELETION,
  toPayload,
  toStoredPoint,
  toTombstone,
  toWirePoint,
  VECTOR_NAME,
  type WirePayload,
  type WirePoint,
} from './points.ts';

export interface QdrantVectorStoreSettings {
  readonly url: string;
  readonly apiKey?: string | undefined;
  readonly collection: string;
  readonly logger?: Logger | undefined;
  /** The whole time a request may take, its retries included. */
  readonly timeoutMs: number;
  /** Dates tombstones. */
  readonly clock?: Clock;
}

const POINTS_PER_REQUEST = 128;
/** Of a batch's points and of their products' tombstones at once. */
const IDS_PER_REQUEST = 2 * POINTS_PER_REQUEST;
const PING_MS = 1_000;

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

  async function upsert(points: readonly Point[]): Promise<readonly UpsertOutcome[]> {
    const { dimension } = await requireModel();
    for (const point of points) assertVector(point.vector, dimension);
    const outcomes: UpsertOutcome[] = [];
    for (const batch of toChunks(points, POINTS_PER_REQUEST)) outcomes.push(...(await upsertBatch(batch)));
    return outcomes;
  }

  /**
   * Qdrant compares a point with the stored one of the same id, and inserts what is new: it can't know of the product's
   * deletion. So deletions are read before the write, for the comparison, and again after it, together with what is
   * stored now: that tells what became of each point, and which one must go because its product was deleted in between.
   */
  async function upsertBatch(batch: readonly Point[]): Promise<readonly UpsertOutcome[]> {
    const tombstoneIds = [...new Set(batch.map(({ payload }) => toProductTombstoneId(payload.productId)))];
    const before = await retrieve(tombstoneIds);
    const alive = batch.filter((point) => point.payload.sequence > toDeletion(point, before));
    await write(toNewest(alive).map((point) => toWirePoint(point, toDeletion(point, before))));

    const after = await retrieve([...batch.map((point) => point.id), ...tombstoneIds]);
    const late = batch.filter(
      (point) => point.payload.sequence <= toDeletion(point, after) && isPoint(after.get(point.id)),
    );
    const deletedAt = clock.now();
    await write(
      late.map((point) =>
        toTombstone(point.id, point.payload.productId, toDeletion(point, after), deletedAt),
      ),
    );
    return batch.map((point) => toOutcome(point, after));
  }

  /** Writes each point unless what is stored under its id is newer, however often or late the request arrives. */
  async function write(points: readonly WirePoint[]): Promise<void> {
    for (const batch of toChunks(points, POINTS_PER_REQUEST)) {
      const body = {
        points: batch.map(({ id, vector, payload }) => ({ id, vector, payload })),
        // One filter for all: each point of the request has an alternative of its own.
        update_filter: {
          should: batch.map(({ id, mayOverwrite }) => ({ must: [{ has_id: [id] }, mayOverwrite] })),
        },
      };
      await call(
        'upsert points',
        (api, options) => api.upsertPoints({ ...inCollection, wait: true, ...body }, options),
        { check: assertCompleted },
      );
    }
  }

  /** What is stored under the ids, tombstones included. */
  async function retrieve(ids: readonly string[]): Promise<ReadonlyMap<string, WirePayload>> {
    const found = new Map<string, WirePayload>();
    for (const chunk of toChunks(ids, IDS_PER_REQUEST)) {
      const records = await call('retrieve points', (api, options) =>
        api.getPoints({ ...inCollection, ids: [...chunk], with_payload: true }, options),
      );
      for (const { id, payload } of records) found.set(String(id), payload ?? {});
    }
    return found;
  }

  async function deleteProduct(
    productId: string,
    sequence: number,
    imageIds: readonly string[],
  ): Promise<number> {
    const deletedAt = clock.now();
    // First: a point that is written after the product's points are listed below finds it.
    await write([toTombstone(toProductTombstoneId(productId), productId, sequence, deletedAt)]);
    const covered = {
      must: [isOfProduct(productId)],
      must_not: [IS_TOMBSTONE, { key: 'sequence', range: { gt: sequence } }],
    };
    const stored = (await scroll(covered, false)).map((record) => String(record.id));
    const named = imageIds.map((imageId) => toPointId(productId, imageId));
    const ids = [...new Set([...stored, ...named])];
    await write(ids.map((id) => toTombstone(id, productId, sequence, deletedAt)));
    return stored.length;
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

  async function getProduct(productId: string): Promise<readonly StoredPoint[]> {
    const records = await scroll({ must: [isOfProduct(productId)], must_not: [IS_TOMBSTONE] }, true);
    return records.map(toStoredPoint).toSorted((a, b) => (a.payload.imageId < b.payload.imageId ? -1 : 1));
  }

  /** All that match, page by page. */
  async function scroll(
    filter: Schemas['Filter'],
    withContent: boolean,
  ): Promise<readonly Schemas['Record'][]> {
    const records: Schemas['Record'][] = [];
    let offset: Schemas['ScrollResult']['next_page_offset'];
    do {
      const page = await call('scroll points', (api, options) =>
        api.scrollPoints(
          {
            ...inCollection,
            filter,
            limit: POINTS_PER_REQUEST,
            with_payload: withContent,
            with_vector: withContent ? [VECTOR_NAME] : false,
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

  async function countWhere(filter: Schemas['Filter']): Promise<number> {
    const { count } = await call('count points', (api, options) =>
      api.countPoints({ ...inCollection, exact: true, filter }, options),
    );
    return count;
  }

  return {
    collection,
    ensureCollection: (model) => ensureCollection(connection, collection, model),
    collectionModel: () => readModel(connection, collection),
    upsert,
    async getPayloads(ids) {
      const found = await retrieve([...new Set(ids)]);
      return ids.map((id) => {
        const payload = found.get(id);
        return isPoint(payload) ? toPayload(payload) : null;
      });
    },
    search,
    getProduct,
    deleteProduct,
    count: () => countWhere({ must_not: [IS_TOMBSTONE] }),
    async sweepTombstones(olderThanMs) {
      const filter = {
        must: [IS_TOMBSTONE, { key: 'deleted_at', range: { lte: clock.now() - olderThanMs } }],
      };
      const found = await countWhere(filter);
      if (found === 0) return 0;
      await call(
        'delete points',
        (api, options) => api.deletePoints({ ...inCollection, wait: true, filter }, options),
        { check: assertCompleted },
      );
      return found;
    },
    async ping() {
      // Unlike /livez and /readyz, this needs the API key to be right.
      await call('collection exists', (api, options) => api.collectionExists(inCollection, options), {
        onceWithinMs: Math.min(PING_MS, timeoutMs),
      });
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}

function toChunks<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  const count = Math.ceil(all.length / size);
  return Array.from({ length: count }, (_, index) => all.slice(index * size, (index + 1) * size));
}

/** Of points with the same id, only the newest: Qdrant compares each with what was stored before the request. */
function toNewest(points: readonly Point[]): readonly Point[] {
  const oldestFirst = points.toSorted(
    ({ payload: a }, { payload: b }) => a.version - b.version || a.sequence - b.sequence,
  );
  return [...new Map(oldestFirst.map((point) => [point.id, point])).values()];
}

/** The sequence of the last deletion of the point's product. */
function toDeletion({ payload }: Point, stored: ReadonlyMap<string, WirePayload>): number {
  return Number(stored.get(toProductTombstoneId(payload.productId))?.['sequence'] ?? NO_DELETION);
}

function isPoint(payload: WirePayload | undefined): payload is WirePayload {
  return payload !== undefined && !isTombstone(payload);
}

/** What became of a point, by what is stored after its write. */
function toOutcome(point: Point, stored: ReadonlyMap<string, WirePayload>): UpsertOutcome {
  const { version, sequence } = point.payload;
  const own = stored.get(point.id);
  const deletion = Math.max(toDeletion(point, stored), Number(own?.['last_deletion'] ?? NO_DELETION));
  if (sequence <= deletion) return 'deleted';
  if (own === undefined)
    throw new VitrineError('store_unavailable', 'Qdrant completed a write, but does not have the point.');
  return own['version'] === version && own['sequence'] === sequence ? 'indexed' : 'superseded';
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
