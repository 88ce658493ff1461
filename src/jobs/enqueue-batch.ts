import type { ErrorCode } from '../errors/error-table.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue, NewJob } from '../queue/port.ts';
import type { JobDraft } from './idempotency.ts';

/** Jobs a call of the queue: large enough to be quick, small enough that others get their turn between. */
const CHUNK_JOBS = 500;

export interface Rejection {
  /** Place in the request, from 0. */
  readonly index: number;
  readonly code: ErrorCode;
  readonly detail: string;
}

/** The jobs of a batch: the good ones, and the bad ones by their place. */
export interface Batch {
  readonly good: { readonly index: number; readonly draft: JobDraft }[];
  readonly rejected: Rejection[];
  size: number;
}

export const createBatch = (): Batch => ({ good: [], rejected: [], size: 0 });

/**
 * Takes the next job; `make` may throw, which rejects it.
 * @throws VitrineError `body_too_large` when the batch already has `maxJobs`
 */
export function addToBatch(batch: Batch, maxJobs: number, make: () => JobDraft): void {
  if (batch.size === maxJobs)
    throw new VitrineError('body_too_large', `A batch has at most ${maxJobs} jobs.`);
  const index = batch.size++;
  try {
    batch.good.push({ index, draft: make() });
  } catch (error) {
    const { code, message } = toVitrineError(error);
    batch.rejected.push({ index, code, detail: message });
  }
}

/**
 * Stores the jobs in order, some at a time. Where the queue takes no more in the middle, `stopped` has its reason
 * and the jobs from there on are not stored.
 * @throws VitrineError of the queue when it takes none at all
 */
export async function enqueueInChunks(
  queue: JobQueue,
  jobs: readonly NewJob[],
): Promise<{ readonly ids: readonly string[]; readonly stopped: VitrineError | null }> {
  const ids: string[] = [];
  while (ids.length < jobs.length) {
    try {
      const enqueued = await queue.enqueue(jobs.slice(ids.length, ids.length + CHUNK_JOBS));
      ids.push(...enqueued.map(({ id }) => id));
    } catch (error) {
      if (ids.length === 0) throw error;
      return { ids, stopped: toVitrineError(error) };
    }
  }
  return { ids, stopped: null };
}
