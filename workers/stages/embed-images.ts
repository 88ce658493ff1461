import type { Embedder, PreparedImage } from '../../models/embedder.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { type Batcher, createBatcher, runOrSplit } from '../batcher.ts';

/** Prepared images of many jobs to vectors, a batch an inference call. */
export function createEmbedStage(
  embedder: Embedder,
  batchSize: number,
): Batcher<PreparedImage, Float32Array> {
  return createBatcher({
    maxSize: batchSize,
    maxWaitMs: 10,
    // One in inference, one that already waits in its thread: the thread never idles for want of a batch.
    concurrency: 2,
    run: (images) =>
      runOrSplit(
        images,
        (batch) => embedder.embedImages(batch),
        (error) => error instanceof VitrineError && error.code !== 'model_unavailable',
      ),
  });
}
