import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { ModelIdentity } from '../port.ts';
import { assertSameModel } from '../vector.ts';
import type { WordAnalyzer } from '../words.ts';
import { assertCompleted, type QdrantConnection } from './connection.ts';
import { toPointFilter } from './filter.ts';
import {
  FIELDS_WITHOUT_LINKS,
  PAYLOAD_INDEXES,
  toPayload,
  toProductState,
  toRefreshedPoint,
  toStateIds,
  toStoredWirePoint,
  VECTOR_NAME,
} from './points.ts';
import type { QdrantRequests } from './requests.ts';
import { WORDS_VECTOR } from './words.ts';

/**
 * The first Qdrant with both things that Vitrine can't do without: `update_filter` in upserts, and metadata of a
 * collection. All else that is used is older: queries and sparse vectors with inverse document frequencies (1.10),
 * grouped queries (1.11), exact facets (1.12).
 */
const MIN_VERSION = '1.16';

/** The first Qdrant that adds a named vector to a collection that exists: only an upgrade needs it. */
const MIN_VERSION_FOR_UPGRADE = '1.18';

/** Where the collection's metadata says which model it was made for. */
const METADATA_KEY = 'vitrine';

const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const NOT_FOUND = 404;
const CONFLICT = 409;

export interface EnsureParts {
  readonly connection: QdrantConnection;
  readonly requests: QdrantRequests;
  readonly analyzer: WordAnalyzer;
  readonly collection: string;
}

/**
 * Makes what is missing: the collection, its indexes, and the words of points that an earlier version of Vitrine wrote
 * or that were made for another language. Several processes may do it at the same time.
 * @throws VitrineError `model_mismatch`; `store_rejected` when Qdrant is too old
 */
export async function ensureCollection(
  { connection, requests, analyzer, collection }: EnsureParts,
  model: ModelIdentity,
): Promise<void> {
  const version = await readServerVersion(connection);
  checkVersion(version, MIN_VERSION, 'Vitrine');
  let info = await readInfo(connection, collection);
  if (info === undefined) {
    await create(connection, collection, model);
    info = await readInfo(connection, collection);
  }
  if (info === undefined) {
    throw new VitrineError(
      'store_unavailable',
      `The collection "${collection}" disappeared while it was being made.`,
    );
  }
  assertSameModel(collection, toModel(collection, info), model);
  if (info.config.params.sparse_vectors?.[WORDS_VECTOR] === undefined) {
    checkVersion(version, MIN_VERSION_FOR_UPGRADE, `the upgrade of the collection "${collection}"`);
    await addWordsVector(connection, collection);
  }
  for (const [field, type] of Object.entries(PAYLOAD_INDEXES)) {
    if (info.payload_schema[field]?.data_type === type) continue;
    const schema = FIELDS_WITHOUT_LINKS.includes(field) ? { type, enable_hnsw: false } : type;
    await connection.call(
      'create payload index',
      (api, options) =>
        api.createFieldIndex(
          { collection_name: collection, wait: true, field_name: field, field_schema: schema },
          options,
        ),
      { check: assertCompleted },
    );
  }
  await rebuildWords(requests, analyzer);
}

/** May be repeated: Qdrant answers as to the first request. */
async function addWordsVector(connection: QdrantConnection, collection: string): Promise<void> {
  await connection.call(
    'create vector',
    (api, options) =>
      api.createVectorName(
        {
          collection_name: collection,
          vector_name: WORDS_VECTOR,
          wait: true,
          sparse: { modifier: 'idf' },
        },
        options,
      ),
    { check: assertCompleted },
  );
}

/** Writes each point that has no words of this analyzer once more, with the vector that it has. */
async function rebuildWords(requests: QdrantRequests, analyzer: WordAnalyzer): Promise<void> {
  const outdated = toPointFilter(
    {},
    { mustNot: [{ key: 'words_version', match: { value: analyzer.version } }] },
  );
  for await (const records of requests.scroll(outdated, { withVector: true, payload: true })) {
    const points = records.map(toStoredWirePoint);
    const stateIds = points.flatMap(({ payload }) => toStateIds(toPayload(payload)));
    const stored = await requests.retrieve([...new Set(stateIds)]);
    await requests.write(
      points.map((point) =>
        toRefreshedPoint(point, toProductState(toPayload(point.payload), stored), analyzer),
      ),
    );
  }
}

/** @throws VitrineError `model_mismatch` when the collection doesn't say what its model is */
export async function readModel(
  connection: QdrantConnection,
  collection: string,
): Promise<ModelIdentity | null> {
  const info = await readInfo(connection, collection);
  return info === undefined ? null : toModel(collection, info);
}

/** Undefined behind a proxy that hides the server's own page: that is no reason to stop. */
async function readServerVersion(connection: QdrantConnection): Promise<string | undefined> {
  const info = await connection.call(
    'get version',
    async (api, options) => ({ data: { result: (await api.root({}, options)).data } }),
    { accept: [NOT_FOUND, UNAUTHORIZED, FORBIDDEN] },
  );
  return info?.version;
}

/** @throws VitrineError `store_rejected` */
function checkVersion(version: string | undefined, least: string, what: string): void {
  const isTooOld =
    version !== undefined &&
    /^\d+\.\d+\./.test(version) &&
    version.localeCompare(least, 'en', { numeric: true }) < 0;
  if (!isTooOld) return;
  throw new VitrineError('store_rejected', `Qdrant is ${version}; ${what} needs ${least} or later.`, {
    suggestion: `Upgrade Qdrant to ${least} or later, one minor version at a time.`,
  });
}

async function readInfo(
  connection: QdrantConnection,
  collection: string,
): Promise<Schemas['CollectionInfo'] | undefined> {
  return connection.call(
    'get collection',
    (api, options) => api.getCollection({ collection_name: collection }, options),
    { accept: [NOT_FOUND] },
  );
}

/** A conflict: another process was faster, or the reply to our own request was lost. */
async function create(
  connection: QdrantConnection,
  collection: string,
  { id, dimension, fingerprint }: ModelIdentity,
): Promise<void> {
  await connection.call(
    'create collection',
    (api, options) =>
      api.createCollection(
        {
          collection_name: collection,
          vectors: { [VECTOR_NAME]: { size: dimension, distance: 'Cosine' } },
          sparse_vectors: { [WORDS_VECTOR]: { modifier: 'idf' } },
          metadata: { [METADATA_KEY]: { model: id, dimension, fingerprint } },
        },
        options,
      ),
    { accept: [CONFLICT] },
  );
}

function toModel(collection: string, { config }: Schemas['CollectionInfo']): ModelIdentity {
  const made = (config.metadata as Record<string, unknown> | null | undefined)?.[METADATA_KEY];
  const vectors = config.params.vectors as Record<string, Schemas['VectorParams']> | undefined;
  const size = vectors?.[VECTOR_NAME]?.size;
  if (
    typeof made !== 'object' ||
    made === null ||
    !('model' in made && typeof made.model === 'string') ||
    !('fingerprint' in made && typeof made.fingerprint === 'string') ||
    size === undefined
  ) {
    throw new VitrineError(
      'model_mismatch',
      `The collection "${collection}" has no vectors named "${VECTOR_NAME}" or doesn't say what their model is.`,
      { suggestion: 'Set QDRANT_COLLECTION to a new name.' },
    );
  }
  return { id: made.model, dimension: size, fingerprint: made.fingerprint };
}
