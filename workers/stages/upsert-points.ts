import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Point, VectorStore } from '../../src/vectors/port.ts';
import { type Batcher, createBatcher, runOrSplit } from '../batcher.ts';

/** A point on its way into the store, and the signal of the job it belongs to. */
export interface PointWrite {
  readonly point: Point;
  readonly signal: AbortSignal;
}

/** Points per request: what Qdrant's documentation advises for upserts is 64 to 256. */
const MAX_POINTS = 128;

/** Points of many jobs to the store, many a request; resolves when the store has applied them. */
export function createUpsertStage(store: VectorStore): Batcher<PointWrite, 'applied'> {
  return createBatcher({
    maxSize: MAX_POINTS,
    maxWaitMs: 20,
    concurrency: 2,
    run: (writes) =>
      runOrSplit(
        writes,
        async (batch) => {
          // The last moment at which a cancelled job's point can still be kept out.
          const wanted = batch.filter(({ signal }) => !signal.aborted);
          if (wanted.length > 0) await store.upsert(wanted.map(({ point }) => point));
          return batch.map(() => 'applied' as const);
        },
        (error) => error instanceof VitrineError && error.code !== 'store_unavailable',
      ),
  });
}
