import pLimit from 'p-limit';
import type { Embedder } from '../models/embedder.ts';
import { prepareImage } from '../models/prepare-image.ts';
import { toPointId } from '../src/catalog/product-image.ts';
import type { ImageSource } from '../src/images/port.ts';
import type { Clock } from '../src/observability/clock.ts';
import type { JobData, JobResult } from '../src/queue/job.ts';
import type { VectorStore } from '../src/vectors/port.ts';
import { createEmbedStage } from './stages/embed-images.ts';
import { fetchImage } from './stages/fetch-image.ts';
import { createUpsertStage } from './stages/upsert-points.ts';

export interface PipelineParts {
  readonly images: ImageSource;
  readonly embedder: Embedder;
  readonly store: VectorStore;
  readonly clock: Clock;
}

export interface PipelineSettings {
  /** Images that are fetched, and as many that are decoded, at once. */
  readonly concurrency: number;
  /** Images an inference call. */
  readonly batchSize: number;
  readonly maxPixels: number;
  /** Time that decoding one image may take: libvips can't be stopped by a signal. */
  readonly timeoutMs: number;
}

/** The walk of one image: its bytes, its pixels, its vector, its point. */
export interface Pipeline {
  /**
   * Resolves when the store has applied the point. Many calls run at once: their stages overlap, and the images
   * of different calls meet in one inference call and one write.
   * @param version orders the states of the product image
   * @throws VitrineError of the stage that failed; the signal's reason when it is aborted
   */
  process(data: JobData, version: number, signal: AbortSignal): Promise<JobResult>;
}

export function createPipeline(parts: PipelineParts, settings: PipelineSettings): Pipeline {
  const fetching = pLimit(settings.concurrency);
  const preparing = pLimit(settings.concurrency);
  const embedding = createEmbedStage(parts.embedder, settings.batchSize);
  const writing = createUpsertStage(parts.store);
  const { model } = parts.embedder;

  return {
    async process(data, version, signal) {
      const bytes = await fetching(() => fetchImage(parts.images, data.image, signal));
      signal.throwIfAborted();

      const prepared = await preparing(() => prepareImage(bytes, model.preprocessing, settings));
      signal.throwIfAborted();

      const vector = await embedding.add(prepared);
      signal.throwIfAborted();

      const id = toPointId(data.productId, data.imageId);
      const payload = {
        ...data.product,
        productId: data.productId,
        imageId: data.imageId,
        version,
        indexedAt: parts.clock.now(),
      };
      await writing.add({ point: { id, vector, payload }, signal });
      signal.throwIfAborted();

      return { pointId: id, collection: parts.store.collection, model: model.id };
    },
  };
}
