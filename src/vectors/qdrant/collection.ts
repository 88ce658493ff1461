import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { ModelIdentity } from '../port.ts';
import { assertSameModel } from '../vector.ts';
import type { QdrantConnection } from './connection.ts';
import { assertCompleted } from './failure.ts';
import { PAYLOAD_INDEXES } from './payload.ts';

/** Named from the first day, so that a second model's vectors can stand beside these. */
export const VECTOR_NAME = 'image';

/** The collection's own note of its model: Qdrant keeps metadata with a collection since 1.16. */
const METADATA_KEY = 'vitrine';

const NOT_FOUND = 404;
const CONFLICT = 409;

/**
 * Makes what is missing: the collection, then its indexes. Several processes may do it at the same time.
 * @throws VitrineError `model_mismatch`
 */
export async function ensureCollection(
  connection: QdrantConnection,
  collection: string,
  model: ModelIdentity,
): Promise<void> {
  let info = await readInfo(connection, collection);
  if (info === undefined) {
    await create(connection, collection, model);
    info = await readInfo(connection, collection);
  }
  if (info === undefined) {
    throw new VitrineError('store_unavailable', `The collection "${collection}" vanished while it was made.`);
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

/** @throws VitrineError `model_mismatch` when the collection holds no note of its model */
export async function readModel(
  connection: QdrantConnection,
  collection: string,
): Promise<ModelIdentity | null> {
  const info = await readInfo(connection, collection);
  return info === undefined ? null : toModel(collection, info);
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

/** A conflict is another process that was faster, or our own request whose reply was lost. */
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
  const note = (config.metadata as Record<string, unknown> | null | undefined)?.[METADATA_KEY];
  const vectors = config.params.vectors as Record<string, Schemas['VectorParams']> | undefined;
  const size = vectors?.[VECTOR_NAME]?.size;
  if (
    typeof note !== 'object' ||
    note === null ||
    !('model' in note && typeof note.model === 'string') ||
    !('fingerprint' in note && typeof note.fingerprint === 'string') ||
    size === undefined
  ) {
    throw new VitrineError(
      'model_mismatch',
      `The collection "${collection}" has no vectors named "${VECTOR_NAME}" or no note of their model.`,
      { suggestion: 'Set QDRANT_COLLECTION to a new name; Qdrant must be 1.16 or later.' },
    );
  }
  return { id: note.model, dimension: size, fingerprint: note.fingerprint };
}
