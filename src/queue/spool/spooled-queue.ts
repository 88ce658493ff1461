import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import type { EnqueuedJob, JobQueue, JobView, NewJob } from '../port.ts';
import { createSpool, type SpooledJob } from './spool.ts';

export interface SpooledQueueOptions {
  /** The spool's own file. */
  readonly file: string;
  /** Greatest number of jobs that wait in the spool; 0: no limit. */
  readonly maxPending: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly forwardEveryMs?: number;
}

/** Jobs forwarded in one call. */
const FORWARD_BATCH = 500;

/**
 * A queue whose backend may be away: what is enqueued meanwhile is kept in a file, durably, and forwarded in its
 * order when the backend is back. While anything is spooled, new jobs go behind it, so that the order of enqueueing
 * stays the order of versions. All else goes to the backend. Disposing doesn't close the queue behind it.
 */
export function createSpooledQueue(queue: JobQueue, options: SpooledQueueOptions): JobQueue {
  const { clock, logger, maxPending, forwardEveryMs = 1_000 } = options;
  const spool = createSpool(options.file);
  const closing = new AbortController();
  /** One change of the spool's head at a time: a cancelled job must not be in a batch that is under way. */
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work);
    turn = result.catch(() => undefined);
    return result;
  };

  /** A spool that can't be read has nothing to forward: that mustn't keep jobs from a queue that is there. */
  function read<T>(look: () => T, otherwise: T): T {
    try {
      return look();
    } catch (error) {
      logger.error({ error }, 'the spool cannot be read');
      return otherwise;
    }
  }
  const count = () => read(() => spool.count(), 0);

  function add(jobs: readonly NewJob[], isSent: boolean): readonly EnqueuedJob[] {
    if (maxPending > 0 && count() + jobs.length > maxPending) {
      throw new VitrineError('queue_full', `${maxPending} jobs wait for the queue to come back.`, {
        retryAfterMs: 30_000,
      });
    }
    try {
      spool.add(jobs, clock.now(), isSent);
    } catch (cause) {
      throw new VitrineError('queue_unavailable', 'Neither the queue nor the spool can be written.', {
        cause,
      });
    }
    wake.resolve();
    return jobs.map((job) => ({
      id: job.id,
      status: job.notBefore === undefined ? 'queued' : 'delayed',
      position: null,
      replaced: false,
      superseded: false,
      version: job.version,
      spooled: true,
    }));
  }

  async function forwardAll(): Promise<void> {
    for (;;) {
      const batch = spool.first(FORWARD_BATCH);
      if (batch.length === 0) return;
      // While the queue is surely away, nothing is noted as sent: such jobs can be cancelled for good.
      await queue.ping();
      const live = batch.filter(({ cancelledAt }) => cancelledAt === null);
      const ids = live.map(({ job }) => job.id);
      spool.markSent(ids);
      await queue.enqueue(live.map((entry) => toForwardedJob(entry, clock.now())));
      spool.remove(ids);
      for (const { job, cancelledAt } of batch) if (cancelledAt !== null) await forwardCancel(job.id);
      logger.info({ forwarded: batch.length, left: count() }, 'forwarded spooled jobs');
    }
  }

  async function forwardCancel(id: string): Promise<void> {
    if ((await queue.cancel(id)) === 'unknown') spool.settle(id);
    else spool.remove([id]);
  }

  let wake = Promise.withResolvers<void>();
  async function forwardLoop(): Promise<void> {
    while (!closing.signal.aborted) {
      if (count() === 0) await wake.promise;
      wake = Promise.withResolvers();
      if (closing.signal.aborted) return;
      await inTurn(forwardAll).catch((error: unknown) =>
        logger.warn({ error, spooled: count() }, 'jobs stay spooled until the queue is back'),
      );
      await clock.sleep(forwardEveryMs, closing.signal);
    }
  }
  const forwarding = forwardLoop();

  return {
    ...queue,
    async enqueue(jobs) {
      if (count() > 0) return add(jobs, false);
      try {
        return await queue.enqueue(jobs);
      } catch (error) {
        if (!isAway(error)) throw error;
        // Should only the reply have been lost: the ids are the same when it is forwarded, and nothing is added.
        return add(jobs, true);
      }
    },
    async status(id) {
      const spooled = read(() => spool.find(id), null);
      if (spooled === null) return queue.status(id);
      const known = spooled.isSent ? await queue.status(id).catch(() => null) : null;
      return known ?? toView(spooled);
    },
    cancel: (id) =>
      inTurn(async () => {
        const spooled = read(() => spool.cancel(id, clock.now()), null);
        if (spooled === null) return queue.cancel(id);
        wake.resolve();
        return spooled.isSent ? 'requested' : 'cancelled';
      }),
    async forgetProduct(productId) {
      // What is spooled is older than the deletion, and must reach the queue before it.
      await inTurn(forwardAll);
      return queue.forgetProduct(productId);
    },
    flush: () => inTurn(async () => spool.clear() + (await queue.flush())),
    async stats() {
      return { ...(await queue.stats()), spooled: count() };
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      wake.resolve();
      await forwarding;
      spool.close();
    },
  };
}

const isAway = (error: unknown) => error instanceof VitrineError && error.code === 'queue_unavailable';

/** A delay counts from the acceptance, not from the forwarding. */
function toForwardedJob({ job, spooledAt }: SpooledJob, nowMs: number): NewJob {
  if (job.notBefore === undefined || !('delayMs' in job.notBefore)) return job;
  const waitedMs = Math.max(0, nowMs - spooledAt);
  return { ...job, notBefore: { delayMs: Math.max(0, job.notBefore.delayMs - waitedMs) } };
}

function toView({ job, spooledAt, isSent, cancelledAt }: SpooledJob): JobView {
  const isCancelled = cancelledAt !== null && !isSent;
  return {
    id: job.id,
    key: job.key,
    productId: job.data.productId,
    imageId: job.data.imageId,
    status: isCancelled ? 'cancelled' : job.notBefore === undefined ? 'queued' : 'delayed',
    priority: job.priority,
    version: job.version,
    position: null,
    etaMs: null,
    attempts: 0,
    maxAttempts: job.maxAttempts,
    crashes: 0,
    enqueuedAt: spooledAt,
    availableAt: null,
    startedAt: null,
    endedAt: isCancelled ? cancelledAt : null,
    processingMs: null,
    workerId: null,
    lastError: null,
    result: null,
    cancelRequested: cancelledAt !== null,
    history: [],
  };
}
