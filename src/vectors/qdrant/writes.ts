import {
  toImageTombstoneId,
  toPointId,
  toProductChangesId,
  toProductTombstoneId,
} from '../../catalog/product-image.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Point, PointPayload, ProductPatch, UpsertOutcome } from '../port.ts';
import { mergePatch } from '../product-data.ts';
import type { WordAnalyzer } from '../words.ts';
import { IS_TOMBSTONE, isOfProducts, toPointFilter } from './filter.ts';
import {
  isTombstone,
  NOTHING,
  toChanges,
  toChangesRecord,
  toPayload,
  toProductState,
  toRefreshedPoint,
  toRevision,
  toStateIds,
  toStoredWirePoint,
  toTombstone,
  toWirePoint,
  type WirePayload,
} from './points.ts';
import { POINTS_PER_REQUEST, type QdrantRequests, toChunks } from './requests.ts';

export interface WriteParts {
  readonly requests: QdrantRequests;
  readonly analyzer: WordAnalyzer;
  readonly clock: Clock;
}

type Stored = Map<string, WirePayload>;
type ImageKey = Pick<PointPayload, 'productId' | 'imageId'>;

/** Each further attempt means that another process changed the product between a read and a write. */
const MAX_ATTEMPTS = 20;

/**
 * Qdrant compares a point with the stored one of the same id, and inserts what is new: it can't know of the product's
 * deletion or of its changed data. So both are read before the write, for the comparison, and again after it, together
 * with what is stored now: `settle` completes what the write has missed. One of a write and a deletion, or of a write
 * and a change, that run at the same time always sees the other.
 */
export async function upsert(parts: WriteParts, points: readonly Point[]): Promise<readonly UpsertOutcome[]> {
  const outcomes: UpsertOutcome[] = [];
  for (const batch of toChunks(points, POINTS_PER_REQUEST))
    outcomes.push(...(await upsertBatch(parts, batch)));
  return outcomes;
}

async function upsertBatch(
  parts: WriteParts,
  batch: readonly Point[],
  attempt = 1,
): Promise<readonly UpsertOutcome[]> {
  const { requests, analyzer } = parts;
  const stateIds = [...new Set(batch.flatMap(({ payload }) => toStateIds(payload)))];
  const ids = [...new Set([...batch.map(({ id }) => id), ...stateIds])];
  const before = await requests.retrieve(ids);
  await completeChanges(requests, batch, before);
  const alive = batch.filter(
    ({ payload }) => payload.sequence > toProductState(payload, before).lastDeletion,
  );
  await requests.write(
    toNewest(alive).map((point) => {
      const storedRevision = toRevision(before.get(point.id));
      return toWirePoint(point, toProductState(point.payload, before), analyzer, storedRevision);
    }),
  );
  const after = await settle(
    parts,
    batch.map(({ payload }) => payload),
    await requests.retrieve(ids),
  );
  const outcomes = batch.map((point) => toOutcome(point, after));
  const refused = batch.filter((_, index) => outcomes[index] === null);
  if (refused.length === 0) return outcomes as readonly UpsertOutcome[];
  if (attempt === MAX_ATTEMPTS) throw toContention();
  const again = new Map<Point, UpsertOutcome | undefined>();
  for (const [index, outcome] of (await upsertBatch(parts, refused, attempt + 1)).entries()) {
    const point = refused[index];
    if (point !== undefined) again.set(point, outcome);
  }
  return batch.map((point, index) => outcomes[index] ?? again.get(point) ?? 'superseded');
}

/**
 * A point can show changes whose record was not there yet when it was read a moment before. Then the record is read
 * again; if it still isn't there, it was swept.
 */
async function completeChanges(
  requests: QdrantRequests,
  batch: readonly Point[],
  stored: Stored,
): Promise<void> {
  const missing = batch.flatMap(({ id, payload }) => {
    const changesId = toProductChangesId(payload.productId);
    const own = stored.get(id);
    return isPoint(own) && toRevision(own) > toRevision(stored.get(changesId)) ? [changesId] : [];
  });
  for (const [id, payload] of await requests.retrieve([...new Set(missing)])) stored.set(id, payload);
}

/**
 * Completes what a write has missed, or one that was cut off: a point whose product or image was deleted after its
 * sequence gets its tombstone, one that was made without the product's last change gets that.
 * @returns what is stored under the images' ids then, and their products' state
 */
export async function settle(
  { requests, analyzer, clock }: WriteParts,
  images: readonly ImageKey[],
  stored: Stored,
): Promise<Stored> {
  const late: string[] = [];
  const stale: string[] = [];
  const keys = new Map(images.map((image) => [toPointId(image.productId, image.imageId), image]));
  for (const [id, image] of keys) {
    const own = stored.get(id);
    if (!isPoint(own)) continue;
    const { lastDeletion, revision } = toProductState(image, stored);
    if (Number(own['sequence'] ?? 0) <= lastDeletion) late.push(id);
    else if (toRevision(own) < revision) stale.push(id);
  }
  const deletedAt = clock.now();
  await requests.write(
    late.flatMap((id) => {
      const image = keys.get(id);
      if (image === undefined) return [];
      return [toTombstone(id, image.productId, toProductState(image, stored).lastDeletion, deletedAt)];
    }),
  );
  const points = (await requests.retrieveWithVectors(stale)).map(toStoredWirePoint);
  await requests.write(
    points.flatMap((point) => {
      const image = keys.get(point.id);
      if (image === undefined || isTombstone(point.payload)) return [];
      return [toRefreshedPoint(point, toProductState(image, stored), analyzer)];
    }),
  );
  const touched = [...late, ...stale];
  if (touched.length > 0)
    for (const [id, payload] of await requests.retrieve(touched)) stored.set(id, payload);
  return stored;
}

export async function deleteProduct(
  { requests, clock }: WriteParts,
  productId: string,
  sequence: number,
  imageIds: readonly string[],
): Promise<number> {
  const deletedAt = clock.now();
  // First: a point that is written after the product's points are listed below finds it.
  await requests.write([toTombstone(toProductTombstoneId(productId), productId, sequence, deletedAt)]);
  const covered = {
    must: [isOfProducts([productId])],
    must_not: [IS_TOMBSTONE, { key: 'sequence', range: { gt: sequence } }],
  };
  const stored: string[] = [];
  for await (const records of requests.scroll(covered, { withVector: false, payload: false }))
    stored.push(...records.map(({ id }) => String(id)));
  const named = imageIds.map((imageId) => toPointId(productId, imageId));
  const ids = [...new Set([...stored, ...named])];
  await requests.write(ids.map((id) => toTombstone(id, productId, sequence, deletedAt)));
  return stored.length;
}

export async function deleteImage(
  { requests, clock }: WriteParts,
  productId: string,
  imageId: string,
  sequence: number,
): Promise<boolean> {
  const deletedAt = clock.now();
  const id = toPointId(productId, imageId);
  await requests.write([toTombstone(toImageTombstoneId(productId, imageId), productId, sequence, deletedAt)]);
  const stored = (await requests.retrieve([id])).get(id);
  await requests.write([toTombstone(id, productId, sequence, deletedAt)]);
  return isPoint(stored) && Number(stored['sequence'] ?? 0) <= sequence;
}

/** Adds the changes to the product's record, then brings its points in line with it. */
export async function updateProduct(
  parts: WriteParts,
  productId: string,
  patch: ProductPatch,
  sequence: number,
): Promise<number> {
  const { requests, analyzer } = parts;
  const changesId = toProductChangesId(productId);
  await recordChanges(parts, productId, patch, sequence);
  const images = toPointFilter({ productId });
  let updated = 0;
  for await (const records of requests.scroll(images, { withVector: true, payload: true })) {
    // Read after the points: at least as new as each of them.
    const stored = await requests.retrieve([changesId]);
    const points = records.map(toStoredWirePoint);
    await requests.write(
      points.map((point) =>
        toRefreshedPoint(point, toProductState(toPayload(point.payload), stored), analyzer),
      ),
    );
    updated += points.length;
  }
  return updated;
}

/** Replaces the record only if it is still the one that was read: two changes at the same time both stay. */
async function recordChanges(
  { requests, clock }: WriteParts,
  productId: string,
  patch: ProductPatch,
  sequence: number,
): Promise<void> {
  const id = toProductChangesId(productId);
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const { changes, revision } = toChanges((await requests.retrieve([id])).get(id));
    const merged = mergePatch(changes, patch, sequence);
    if (JSON.stringify(merged) === JSON.stringify(changes)) return;
    // Greater than that of a record which has been swept, too: a sequence is the time in microseconds.
    const next = Math.max(sequence, revision + 1);
    await requests.write([toChangesRecord(productId, merged, next, revision, clock.now())]);
    const written = toChanges((await requests.retrieve([id])).get(id));
    if (JSON.stringify(mergePatch(written.changes, patch, sequence)) === JSON.stringify(written.changes))
      return;
  }
  throw toContention();
}

function toContention(): VitrineError {
  return new VitrineError('store_unavailable', 'The product was changed by others again and again.');
}

/** Of points with the same id, only the newest: Qdrant compares each with what was stored before the request. */
function toNewest(points: readonly Point[]): readonly Point[] {
  const oldestFirst = points.toSorted(
    ({ payload: a }, { payload: b }) => a.version - b.version || a.sequence - b.sequence,
  );
  return [...new Map(oldestFirst.map((point) => [point.id, point])).values()];
}

export function isPoint(payload: WirePayload | undefined): payload is WirePayload {
  return payload !== undefined && !isTombstone(payload);
}

/** What became of a point, by what is stored after its write. Null: it was refused because of a change in between. */
function toOutcome({ id, payload }: Point, stored: Stored): UpsertOutcome | null {
  const { version, sequence } = payload;
  const own = stored.get(id);
  const deletion = Math.max(
    toProductState(payload, stored).lastDeletion,
    Number(own?.['last_deletion'] ?? NOTHING),
  );
  if (sequence <= deletion) return 'deleted';
  if (own === undefined)
    throw new VitrineError('store_unavailable', 'Qdrant completed a write, but does not have the point.');
  const [storedVersion, storedSequence] = [Number(own['version'] ?? 0), Number(own['sequence'] ?? 0)];
  if (storedVersion === version && storedSequence === sequence) return 'indexed';
  return storedVersion > version || (storedVersion === version && storedSequence > sequence)
    ? 'superseded'
    : null;
}
