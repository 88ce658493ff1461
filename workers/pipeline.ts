import type { DecodedImage, Decoder } from '../models/decoding/decoder.ts';
import type { Embedder, PreparedImage } from '../models/embedder.ts';
import { freeBytes } from '../models/free-bytes.ts';
import { type ImageRef, toImageHost } from '../src/catalog/product-image.ts';
import { toVitrineError, VitrineError } from '../src/errors/vitrine-error.ts';
import type { ImageSource } from '../src/images/port.ts';
import type { Clock } from '../src/observability/clock.ts';
import type { ImageResult, Outcome, Stage } from '../src/queue/job.ts';
import type { ThumbnailCache } from '../src/thumbnails/cache.ts';
import type { Point, PointPayload, UpsertOutcome, VectorStore } from '../src/vectors/port.ts';
import { createBatcher, runOrSplit } from './batcher.ts';
import type { HeldImage } from './held-jobs.ts';
import { createSlots, type Slots } from './slots.ts';

export interface PipelineParts {
  readonly images: Pick<ImageSource, 'fetch'>;
  readonly embedder: Pick<Embedder, 'model' | 'parallelCalls' | 'embedImages'>;
  readonly store: Pick<VectorStore, 'collection' | 'getPayloads' | 'upsert'>;
  readonly clock: Clock;
  readonly decoder: Pick<Decoder, 'prepare'>;
  readonly thumbnails: Pick<ThumbnailCache, 'write' | 'remove' | 'removeOthers'>;
}

export interface PipelineSettings {
  /** Images that are fetched at once. */
  readonly concurrency: number;
  /** Images per inference call. */
  readonly batchSize: number;
  /** Time in which one image may be fetched and prepared, unless its job has a limit of its own. */
  readonly softTimeoutMs: number;
  /** Whether images that come with their jobs get thumbnails: later, there is nothing to make them from. */
  readonly withThumbnails: boolean;
  /** What the image source needs at most for one image. */
  readonly imageTimeoutMs: number;
  /** What the vector store needs at most for one call. */
  readonly storeTimeoutMs: number;
  /** Called when all slots of a stage are held by work that never returned. */
  onStuck(stage: Stage): void;
  /** Called when a job's image turns out to come slowly, and when its fetch has ended after that. */
  onSlow(held: HeldImage, isSlow: boolean): void;
}

/** The walk of one image: its bytes, its pixels, its vector, its point. */
export interface Pipeline {
  /**
   * Resolves when the store has applied the point. Many calls run at once: their stages overlap, and the images of
   * different calls meet in one inference call and one write. What stops a job aborts its `abort` with the reason.
   * @throws VitrineError of the stage that failed
   */
  process(held: HeldImage): Promise<ImageResult>;
}

/** What a stage may take longer than its own limit before it counts as hung. */
const SLOT_MARGIN_MS = 5_000;
/** A write asks the store a few times: it reads deletions afterwards, and removes what they cover. */
const CALLS_PER_WRITE = 4;
/** Points per request: Qdrant advises 64 to 256 for upserts. */
const MAX_POINTS = 128;
/** A batch waits so long for images that are being decoded: each is written and settled together. */
const FILL_MS = 50;
/** One write, and another one under load; reads share these. */
const STORE_CALLS = 2;

export function createPipeline(parts: PipelineParts, settings: PipelineSettings): Pipeline {
  const { clock, images, decoder, embedder, store, thumbnails } = parts;

  const openSlots = (stage: Stage, count: number, toTimeout: (deadlineMs: number) => VitrineError): Slots =>
    createSlots({ count, clock, toTimeout, onAllLost: () => settings.onStuck(stage) });
  const fetching = openSlots('fetching', settings.concurrency, toFetchTimeout);
  const storing = openSlots('writing', STORE_CALLS, toStoreTimeout);
  let preparing = 0;

  async function process(held: HeldImage): Promise<ImageResult> {
    const { job, abort } = held;
    const toResult = (outcome: Outcome): ImageResult => ({
      outcome,
      pointId: job.key,
      collection: store.collection,
      model: embedder.model.id,
    });
    if (job.redelivered && (await wasWritten(held))) return toResult('unchanged');

    const bytes = await fetchImage(held);
    const { contentHash, thumbnail, ...image } = await prepareImage(held, bytes);
    const vector = await embedding.add({ held, image });
    freeBytes(image.pixels);
    abort.signal.throwIfAborted();
    const point = toPoint(held, vector, contentHash);
    // Written first, so that a deletion of the point finds it.
    if (thumbnail !== null) await thumbnails.write(point.payload, thumbnail);
    const outcome = await writing.add({ held, point });
    if (thumbnail !== null) await keepCurrentThumbnail(point, outcome);
    abort.signal.throwIfAborted();
    if (outcome === null) throw new Error('The store did not say what became of the point.');
    return toResult(outcome);
  }

  /** Removes the thumbnail that the image no longer has: the last version's, or this one's when it was not written. */
  async function keepCurrentThumbnail({ id, payload }: Point, outcome: UpsertOutcome | null): Promise<void> {
    if (outcome === 'indexed') return thumbnails.removeOthers(payload);
    const stored = await reading.add(id);
    if (stored?.contentHash !== payload.contentHash) await thumbnails.remove(payload);
  }

  /** True when an earlier delivery of this job wrote its point, and was lost before it could say so. */
  async function wasWritten({ job }: HeldImage): Promise<boolean> {
    const stored = await reading.add(job.key);
    return stored?.version === job.version && stored.sequence === job.sequence;
  }

  function fetchImage(held: HeldImage): Promise<Uint8Array> {
    const { job, abort } = held;
    const host = toImageHost(job.data.image);
    const onSlow = (isSlow: boolean) => settings.onSlow(held, isSlow);
    const fetch = () =>
      images.fetch(job.data.image, abort.signal).catch((error: unknown) => {
        throw toVitrineError(error, 'image_fetch_failed');
      });
    return fetching.run(
      abort,
      settings.imageTimeoutMs + SLOT_MARGIN_MS,
      () => timed('fetching', held, fetch),
      host === null ? undefined : { host, onSlow },
    );
  }

  /** The decoder has lines, limits and deadlines of its own. */
  async function prepareImage(held: HeldImage, bytes: Uint8Array): Promise<DecodedImage> {
    preparing++;
    try {
      return await decoder.prepare(bytes, embedder.model.preprocessing, {
        signal: held.abort.signal,
        withThumbnail: settings.withThumbnails && held.job.data.image.kind === 'inline',
        timed: (work) => timed('preparing', held, work),
      });
    } finally {
      preparing--;
    }
  }

  /** Runs the work; the time that it takes, and no other, counts against the job's soft limit. */
  async function timed<T>(stage: Stage, held: HeldImage, work: () => Promise<T>): Promise<T> {
    const softMs = toSoftMs(held);
    const startedAt = clock.monotonic();
    held.stage = stage;
    using _softLimit = clock.startTimer(softMs - held.workedMs, () =>
      held.abort.abort(toSoftTimeout(softMs)),
    );
    try {
      return await work();
    } finally {
      held.stage = 'waiting';
      held.workedMs += clock.monotonic() - startedAt;
    }
  }

  function toSoftMs({ job }: HeldImage): number {
    return job.data.softTimeoutMs ?? settings.softTimeoutMs;
  }

  /** Prepared images of many jobs to vectors. The embedder has deadlines of its own. */
  const embedding = createBatcher<{ held: HeldImage; image: PreparedImage }, Float32Array>({
    maxSize: settings.batchSize,
    // No call waits in the embedder: a search would wait behind it.
    concurrency: () => embedder.parallelCalls,
    filling: { isMoreComing: () => preparing > 0, maxMs: FILL_MS, clock },
    run: (items) =>
      inStage('embedding', items, () =>
        runOrSplit(items, (batch) => embedder.embedImages(batch.map(({ image }) => image)), isFaultOfAnItem),
      ),
  });

  /** Points of many jobs to the store; null for a job that was stopped before its point was written. */
  const writing = createBatcher<{ held: HeldImage; point: Point }, UpsertOutcome | null>({
    maxSize: MAX_POINTS,
    concurrency: () => 1,
    fullAhead: 1,
    run: (items) => inStage('writing', items, () => runOrSplit(items, writePoints, isFaultOfAnItem)),
  });

  function writePoints(
    items: readonly { readonly held: HeldImage; readonly point: Point }[],
  ): Promise<readonly (UpsertOutcome | null)[]> {
    return askStore(CALLS_PER_WRITE, async () => {
      // The last moment at which a cancelled job's point can still be kept out.
      const wanted = items.filter(({ held }) => !held.abort.signal.aborted);
      const outcomes = wanted.length === 0 ? [] : await store.upsert(wanted.map(({ point }) => point));
      const byItem = new Map(wanted.map((item, index) => [item, outcomes[index]]));
      return items.map((item) => byItem.get(item) ?? null);
    });
  }

  const reading = createBatcher<string, PointPayload | null>({
    maxSize: MAX_POINTS,
    concurrency: () => 1,
    run: (ids) =>
      runOrSplit(
        ids,
        (batch) => askStore(1, () => store.getPayloads(batch)),
        () => false,
      ),
  });

  function askStore<T>(calls: number, work: () => Promise<T>): Promise<T> {
    return storing.run(new AbortController(), settings.storeTimeoutMs * calls + SLOT_MARGIN_MS, work);
  }

  function toPoint({ job }: HeldImage, vector: Float32Array, contentHash: string): Point {
    const { data, version, sequence } = job;
    const payload: PointPayload = {
      ...data.product,
      productId: data.productId,
      imageId: data.imageId,
      imageRef: toImageRef(data.image),
      contentHash,
      version,
      sequence,
      indexedAt: clock.now(),
    };
    return { id: job.key, vector, payload };
  }

  return { process };
}

/** Runs the work of a batch, and shows its stage in each of its jobs. */
async function inStage<T>(
  stage: Stage,
  items: readonly { readonly held: HeldImage }[],
  work: () => Promise<T>,
): Promise<T> {
  for (const { held } of items) held.stage = stage;
  try {
    return await work();
  } finally {
    for (const { held } of items) held.stage = 'waiting';
  }
}

/** True when one item of a batch may have made the others fail: each is then tried by itself. */
function isFaultOfAnItem(error: unknown): boolean {
  return error instanceof VitrineError && error.retry !== 'release';
}

function toImageRef(image: ImageRef): string | null {
  if (image.kind === 'inline') return null;
  return image.kind === 'url' ? image.url : image.path;
}

function toFetchTimeout(deadlineMs: number): VitrineError {
  return new VitrineError('image_fetch_timeout', `Fetching the image did not end within ${deadlineMs} ms.`);
}

function toSoftTimeout(limitMs: number): VitrineError {
  return new VitrineError(
    'job_timed_out',
    `Fetching and preparing the image took longer than ${limitMs} ms.`,
  );
}

function toStoreTimeout(deadlineMs: number): VitrineError {
  return new VitrineError('store_unavailable', `The vector store did not answer within ${deadlineMs} ms.`);
}
