import type { ErrorCode } from '../../src/errors/error-table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { JobQueue, NewJob } from '../../src/queue/port.ts';

/** The few methods of a queue that a spool calls, in memory, with the faults that no server shows on demand. */
export interface QueueDouble {
  readonly queue: JobQueue;
  /** Every job it stored, as it was sent, in that order. */
  readonly stored: readonly NewJob[];
  readonly cancelled: readonly string[];
  /** How many jobs each call of `enqueue` was sent. */
  readonly calls: readonly number[];
  /** From now on every call fails with it; undefined: none does. */
  fail(code: ErrorCode | undefined): void;
  /** From now on a call stores so many jobs at most. */
  limit(perCall: number): void;
  /** From now on a batch with one of these ids is refused. */
  refuse(ids: readonly string[]): void;
  /** Called by each `enqueue` before it stores. */
  onEnqueue(listener: (jobs: readonly NewJob[]) => Promise<void> | void): void;
}

export function createQueueDouble(): QueueDouble {
  const stored: NewJob[] = [];
  const cancelled: string[] = [];
  const calls: number[] = [];
  let failure: ErrorCode | undefined;
  let perCall = Number.POSITIVE_INFINITY;
  let refused: readonly string[] = [];
  let listener: (jobs: readonly NewJob[]) => Promise<void> | void = () => {};
  const check = () => {
    if (failure !== undefined) throw new VitrineError(failure, `The test says ${failure}.`);
  };
  const isKnown = (id: string) => stored.some((job) => job.id === id);
  const queue: Partial<JobQueue> = {
    async ping() {
      check();
    },
    async enqueue(jobs) {
      check();
      calls.push(jobs.length);
      await listener(jobs);
      check();
      if (jobs.some(({ id }) => refused.includes(id)))
        throw new VitrineError('queue_refused', 'Not storable.');
      const taken = jobs.slice(0, perCall);
      stored.push(...taken);
      return taken.map(({ id, version }) => ({
        id,
        status: 'queued',
        position: stored.length,
        replaced: false,
        superseded: false,
        version,
      }));
    },
    async status() {
      check();
      return null;
    },
    async cancel(id) {
      check();
      cancelled.push(id);
      return isKnown(id) ? 'cancelled' : 'unknown';
    },
    async forgetProduct() {
      check();
      return { sequence: 1, cancelled: 0, imageIds: [] };
    },
    async jobsOf() {
      check();
      return [];
    },
    async flush() {
      check();
      return stored.splice(0).length;
    },
  };
  return {
    queue: queue as JobQueue,
    stored,
    cancelled,
    calls,
    fail: (code) => {
      failure = code;
    },
    limit: (jobs) => {
      perCall = jobs;
    },
    refuse: (ids) => {
      refused = ids;
    },
    onEnqueue: (called) => {
      listener = called;
    },
  };
}
