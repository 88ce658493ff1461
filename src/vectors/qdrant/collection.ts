import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { ModelIdentity } from '../port.ts';
import { assertSameModel } from '../vector.ts';
import { assertCompleted, type QdrantConnection } from './connection.ts';
import { PAYLOAD_INDEXES, VECTOR_NAME } from './points.ts';

/**
 * The first Qdrant with both things that Vitrine can't do without: `update_filter` in upserts, and metadata of a
 * collection. (Grouped queries came with 1.11.)
 */
const MIN_VERSION = '1.16';

/** Where the collection's metadata says which model it was made for. */
const METADATA_KEY = 'vitrine';

const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const NOT_FOUND = 404;
const CONFLICT = 409;

/**
 * Makes what is missing: the collection, then its indexes, also those of a collection that an earlier version of
 * Vitrine made. Several processes may do it at the same time.
 * @throws VitrineError `model_mismatch`; `store_rejected` when Qdrant is too old
 */
export async function ensureCollection(
  connection: QdrantConnection,
  collection: string,
  model: ModelIdentity,
): Promise<void> {
  await checkServerVersion(connection);
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
  for (const [field, type] of Object.entries(PAYLOAD_INDEXES)) {
    if (info.payload_schema[field]?.data_type === type) continue;
    await connection.call(
      'create payload index',
      (api, options) =>
        api.createFieldIndex(
          { collection_name: collection, wait: true, field_name: field, field_schema: type },
          options,
        ),
      { check: assertCompleted },
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

/** A proxy that hides the server's own page leaves the version unknown: that is no reason to stop. */
async function checkServerVersion(connection: QdrantConnection): Promise<void> {
  const info = await connection.call(
    'get version',
    async (api, options) => ({ data: { result: (await api.root({}, options)).data } }),
    { accept: [NOT_FOUND, UNAUTHORIZED, FORBIDDEN] },
  );
  const version = info?.version ?? '';
  const isTooOld =
    /^\d+\.\d+\./.test(version) && version.localeCompare(MIN_VERSION, 'en', { numeric: true }) < 0;
  if (!isTooOld) return;
  throw new VitrineError('store_rejected', `Qdrant is ${version}; Vitrine needs ${MIN_VERSION} or later.`, {
    suggestion: `Upgrade Qdrant to ${MIN_VERSION} or later, one minor version at a time.`,
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
