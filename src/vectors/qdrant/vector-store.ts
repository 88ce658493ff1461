import type { Language } from '../../config/languages.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import { systemClock } from '../../observability/system-clock.ts';
import { findDuplicates } from '../duplicates.ts';
import type { ModelIdentity, PointPayload, SearchRequest, VectorStore } from '../port.ts';
import { search } from '../search.ts';
import { assertVector } from '../vector.ts';
import { loadWordAnalyzer } from '../words.ts';
import { ensureCollection, readModel } from './collection.ts';
import { assertCompleted, createQdrantConnection } from './connection.ts';
import { facets } from './facets.ts';
import { IS_TOMBSTONE, toPointFilter } from './filter.ts';
import { toPayload, toStateIds, type WirePayload } from './points.ts';
import { getProduct, listProducts, loadPoints, rank, scanPoints } from './reads.ts';
import { createQdrantRequests } from './requests.ts';
import { deleteImage, deleteProduct, isPoint, settle, updateProduct, upsert } from './writes.ts';

export interface QdrantVectorStoreSettings {
  readonly url: string;
  readonly apiKey?: string | undefined;
  readonly collection: string;
  /** Of the products' texts; English by default. */
  readonly language?: Language;
  readonly logger?: Logger | undefined;
  /** The whole time a request may take, its retries included. */
  readonly timeoutMs: number;
  /** Dates tombstones. */
  readonly clock?: Clock;
}

const PING_MS = 1_000;

/** Vectors in Qdrant, 1.16 or later. Nothing is sent before the first call. */
export function createQdrantVectorStore(settings: QdrantVectorStoreSettings): VectorStore {
  const { collection, apiKey, language = 'english', logger, clock = systemClock, url, timeoutMs } = settings;
  const connection = createQdrantConnection({ url, apiKey, timeoutMs, clock, logger });
  const requests = createQdrantRequests(connection, collection);
  const parts = async () => ({ requests, clock, analyzer: await loadWordAnalyzer(language) });
  let knownModel: ModelIdentity | null = null;

  async function requireModel(): Promise<ModelIdentity> {
    knownModel ??= await readModel(connection, collection);
    if (knownModel === null)
      throw new VitrineError('store_rejected', `There is no collection "${collection}".`);
    return knownModel;
  }

  function toPayloads(
    ids: readonly string[],
    stored: ReadonlyMap<string, WirePayload>,
  ): (PointPayload | null)[] {
    return ids.map((id) => {
      const payload = stored.get(id);
      return isPoint(payload) ? toPayload(payload) : null;
    });
  }

  const backend = {
    rank: async (...[part, request, options]: Parameters<Parameters<typeof search>[0]['rank']>) =>
      rank(await parts(), part, request, options),
    loadPoints: (ids: readonly string[]) => loadPoints(requests, ids),
    getPayloads: async (ids: readonly string[]) =>
      toPayloads(ids, await requests.retrieve([...new Set(ids)])),
    count: () => requests.count(toPointFilter()),
    scan: () => scanPoints(requests),
  };

  async function checkVectors(request: SearchRequest): Promise<void> {
    const { dimension } = await requireModel();
    for (const part of request.parts) if (part.by !== 'words') assertVector(part.vector, dimension);
  }

  return {
    collection,
    ensureCollection: async (model) =>
      ensureCollection({ ...(await parts()), connection, collection }, model),
    collectionModel: () => readModel(connection, collection),
    async upsert(points) {
      const { dimension } = await requireModel();
      for (const point of points) assertVector(point.vector, dimension);
      return upsert(await parts(), points);
    },
    async getPayloads(ids) {
      const stored = await requests.retrieve([...new Set(ids)]);
      const images = toPayloads(ids, stored).filter((payload) => payload !== null);
      const states = await requests.retrieve([...new Set(images.flatMap(toStateIds))]);
      return toPayloads(ids, await settle(await parts(), images, new Map([...stored, ...states])));
    },
    async search(request) {
      await checkVectors(request);
      return search(backend, request);
    },
    facets: (request) => facets(requests, request),
    listProducts: (request) => listProducts(requests, request),
    getProduct: (productId) => getProduct(requests, productId),
    updateProduct: async (productId, patch, sequence) =>
      updateProduct(await parts(), productId, patch, sequence),
    deleteProduct: async (productId, sequence, imageIds) =>
      deleteProduct(await parts(), productId, sequence, imageIds),
    deleteImage: async (productId, imageId, sequence) =>
      deleteImage(await parts(), productId, imageId, sequence),
    duplicates: (request) => findDuplicates(backend, request),
    count: backend.count,
    async sweepTombstones(olderThanMs) {
      const filter = {
        must: [IS_TOMBSTONE, { key: 'deleted_at', range: { lte: clock.now() - olderThanMs } }],
      };
      const found = await requests.count(filter);
      if (found === 0) return 0;
      await requests.call(
        'delete points',
        (api, options) => api.deletePoints({ ...requests.inCollection, wait: true, filter }, options),
        { check: assertCompleted },
      );
      return found;
    },
    async ping() {
      // Unlike /livez and /readyz, this needs the API key to be right.
      await requests.call(
        'collection exists',
        (api, options) => api.collectionExists(requests.inCollection, options),
        { onceWithinMs: Math.min(PING_MS, timeoutMs) },
      );
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}
