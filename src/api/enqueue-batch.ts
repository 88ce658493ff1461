import { type ErrorCode, toVitrineError } from '../domain/errors.ts';
import type { JobQueue, NewJob } from '../ports/job-queue.ts';

/** Jobs a call of the queue: large enough to be quick, small enough that others get their turn between. */
const CHUNK_JOBS = 500;

export interface Rejection {
  /** Place in the request, from 0. */
  readonly index: number;
  readonly code: ErrorCode;
  readonly detail: string;
}

export interface BatchOutcome {
  readonly jobIds: readonly string[];
  readonly rejected: readonly Rejection[];
}

/** Collects the jobs of a batch, the bad ones by their place, and stores the good ones at the end. */
export interface Batch {
  /** Takes the next job; `make` may throw, which rejects it. */
  add(make: () => NewJob): void;
  size(): number;
  /**
   * Stores the jobs in order. Where the queue takes no more in the middle, the rest is rejected with its reason.
   * @throws VitrineError of the queue when it takes none at all
   */
  enqueue(queue: JobQueue): Promise<BatchOutcome>;
}

export function createBatch(): Batch {
  const good: { readonly index: number; readonly job: NewJob }[] = [];
  const rejected: Rejection[] = [];
  let size = 0;
  return {
    add(make) {
      const index = size++;
      try {
        good.push({ index, job: make() });
      } catch (error) {
        const { code, message } = toVitrineError(error);
        rejected.push({ index, code, detail: message });
      }
    },
    size: () => size,
    async enqueue(queue) {
      const jobIds: string[] = [];
      while (jobIds.length < good.length) {
        const chunk = good.slice(jobIds.length, jobIds.length + CHUNK_JOBS);
        try {
          const enqueued = await queue.enqueue(chunk.map(({ job }) => job));
          jobIds.push(...enqueued.map(({ id }) => id));
        } catch (error) {
          const { code, message } = toVitrineError(error);
          if (jobIds.length === 0) throw error;
          rejected.push(...good.slice(jobIds.length).map(({ index }) => ({ index, code, detail: message })));
          break;
        }
      }
      return { jobIds, rejected: rejected.toSorted((one, other) => one.index - other.index) };
    },
  };
}
