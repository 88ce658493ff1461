import { toVitrineError, VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import type { JobStatus } from '../job.ts';
import type { EnqueuedJob, JobQueue, JobView, NewJob } from '../port.ts';
import { openSpool, type SpooledJob, tryLock } from './spool.ts';

export interface SpooledQueueOptions {
  /** The spool's own file; the API processes of one machine may share it. */
  readonly file: string;
  /** Greatest size of all spooled jobs. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly forwardEveryMs?: number;
}

export interface SpooledQueue extends JobQueue {
  /** Jobs that were accepted and wait for the queue, without I/O; those of other processes up to a second late. */
  spooledCount(): number;
}

/** Jobs forwarded in one call: at most so many, and of so many bytes unless a single one is larger. */
const FORWARD_JOBS = 500;
const FORWARD_BYTES = 8_000_000;

/**
 * A queue that accepts jobs while its backend is unreachable: they are kept durably in a file, and forwarded in their
 * order when the backend is back. Nothing else that goes wrong there fills the spool. Disposing does not close the
 * queue behind it.
 * @throws VitrineError `queue_format` when the file is of another version, `invalid_configuration` when it can't be opened
 */
export function createSpooledQueue(queue: JobQueue, options: SpooledQueueOptions): SpooledQueue {
  const { clock, logger, forwardEveryMs = 1_000 } = options;
  const spool = open(options);
  const closing = new AbortController();
  /** Why the last forwarding ended early. */
  let problem: VitrineError | undefined;
  /** The slowest call since the spool was last empty. */
  let slowestCallMs = 0;

  async function enqueue(
    jobs: readonly NewJob[],
    enqueueOptions?: { readonly accepted?: boolean },
  ): Promise<readonly EnqueuedJob[]> {
    // Behind what is spooled, unless the queue can be reached and takes nothing: then it says so itself.
    if (spool.count() > 0 && (problem === undefined || isUnreachable(problem))) return add(jobs, 'waiting');
    try {
      return await queue.enqueue(jobs, enqueueOptions);
    } catch (error) {
      if (!isUnreachable(error)) throw error;
      // Should only the reply have been lost: the queue knows the ids when they are forwarded, and adds nothing.
      return add(jobs, 'sent');
    }
  }

  async function add(jobs: readonly NewJob[], state: 'waiting' | 'sent'): Promise<readonly EnqueuedJob[]> {
    await spool.add(jobs, state).catch((error: unknown) => {
      throw toVitrineError(error, 'queue_unavailable', 'Neither the queue nor the spool can be written.');
    });
    const answer = { position: null, replaced: false, superseded: false, spooled: true };
    return jobs.map((job) => ({ ...answer, id: job.id, version: job.version, status: toWaitingStatus(job) }));
  }

  /** Forwards until nothing is left. Only one process does at a time; the others leave it to that one. */
  async function forward(): Promise<void> {
    spool.refresh();
    if (spool.count() === 0) return;
    // While the queue is surely unreachable, nothing is noted as sent: such jobs can be cancelled for good.
    await queue.ping();
    using lock = tryLock(`${options.file}-lock`);
    if (lock === null) return;
    let maxJobs = FORWARD_JOBS;
    while (!closing.signal.aborted) {
      const batch = await spool.take(maxJobs, FORWARD_BYTES);
      if (batch.length === 0) break;
      const cancelled = batch.filter(({ state }) => state === 'cancelling');
      const live = batch.filter(({ state }) => state !== 'cancelling');
      for (const entry of cancelled) await forwardCancel(entry);
      const isTaken = live.length === 0 || (await forwardJobs(live));
      // A smaller batch finds the job that is refused; larger ones again after it.
      maxJobs = isTaken ? Math.min(maxJobs * 2, FORWARD_JOBS) : Math.ceil(live.length / 2);
    }
    if (spool.count() > 0) return;
    slowestCallMs = 0;
    logger.info('all spooled jobs are forwarded');
  }

  /** False when the queue refused them, which says nothing about which one. */
  async function forwardJobs(entries: readonly SpooledJob[]): Promise<boolean> {
    const startedMs = clock.monotonic();
    // One instant for all: a clock that moves on between two jobs would make the later one look older.
    const nowMs = clock.now();
    const jobs = entries.map((entry) => ({ ...entry.job, ageMs: toAgeMs(entry, nowMs) }));
    try {
      const stored = await queue.enqueue(jobs, { accepted: true });
      await spool.remove(entries.slice(0, stored.length), 'sent');
      return true;
    } catch (error) {
      if (!(error instanceof VitrineError) || error.code !== 'queue_refused') throw error;
      const [entry] = entries;
      if (entries.length > 1 || entry === undefined) return false;
      logger.error({ error, job: entry.job.id }, 'the queue refused a spooled job: it is given up');
      const { code, message, suggestion } = error;
      await spool.end(entry, 'refused', { code, message, suggestion });
      return true;
    } finally {
      slowestCallMs = Math.max(slowestCallMs, clock.monotonic() - startedMs);
    }
  }

  /**
   * The queue subtracts the age from its own time, at any moment of a call. A later call that is quicker than an
   * earlier one must not turn the order of their jobs around: later jobs look younger by the slowest call.
   */
  function toAgeMs({ acceptedUs }: SpooledJob, nowMs: number): number {
    return Math.max(0, nowMs - acceptedUs / 1_000 - slowestCallMs);
  }

  async function forwardCancel(entry: SpooledJob): Promise<void> {
    const { job } = entry;
    const isUnknown = (await queue.cancel(job.id)) === 'unknown';
    if (isUnknown && job.callbackUrl === undefined) return spool.end(entry, 'cancelled', null);
    if (isUnknown) {
      await queue.enqueue([{ ...job, cancelled: true, ageMs: toAgeMs(entry, clock.now()) }], {
        accepted: true,
      });
    }
    await spool.remove([entry], 'cancelling');
  }

  let forwarding = Promise.resolve();
  async function forwardLoop(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        forwarding = forward();
        await forwarding;
        problem = undefined;
      } catch (error) {
        const failure = toVitrineError(error);
        const isNew = failure.code !== problem?.code;
        if (isNew) logger.warn({ error, spooled: spool.count() }, 'spooled jobs cannot be forwarded now');
        problem = failure;
      }
      await clock.sleep(forwardEveryMs, closing.signal);
    }
  }
  const loop = forwardLoop();

  return {
    ...queue,
    enqueue,
    spooledCount: () => spool.count(),
    async status(id) {
      const spooled = spool.find(id);
      if (spooled === null) return queue.status(id);
      const known = isMaybeSent(spooled) ? await queue.status(id).catch(() => null) : null;
      return known ?? toView(spooled);
    },
    async cancel(id) {
      await spool.cancel('id', id);
      const spooled = spool.find(id);
      if (spooled === null) return queue.cancel(id);
      if (isMaybeSent(spooled)) return 'requested';
      return spooled.state === 'cancelled' ? 'cancelled' : 'ended';
    },
    async forgetProduct(productId, imageId) {
      const forgotten = await queue.forgetProduct(productId, imageId);
      const spooled = await spool.cancel('productId', productId, imageId);
      const imageIds = [...forgotten.imageIds, ...spooled.map(({ job }) => job.data.imageId)];
      const cancelled = spooled.filter(({ state }) => state === 'cancelled').length;
      return { ...forgotten, cancelled: forgotten.cancelled + cancelled, imageIds: [...new Set(imageIds)] };
    },
    async jobsOf(productId) {
      const known = await queue.jobsOf(productId);
      const spooled = spool.ofProduct(productId).filter(({ job }) => !known.some(({ id }) => id === job.id));
      return [...known, ...spooled.map(toView)];
    },
    async flush() {
      await queue.ping();
      const spooled = await spool.clear();
      // What is being sent must arrive before the flush.
      await forwarding.catch(() => undefined);
      return spooled + (await queue.flush());
    },
    async stats() {
      return { ...(await queue.stats()), spooled: spool.count() };
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await loop;
      spool.close();
    },
  };
}

function open({ file, maxBytes, clock }: SpooledQueueOptions) {
  try {
    return openSpool(file, maxBytes, clock);
  } catch (cause) {
    if (cause instanceof VitrineError) throw cause;
    const suggestion = 'Make DATA_DIR a folder that can be written, or set SPOOL=off.';
    throw new VitrineError('invalid_configuration', `The spool ${file} can't be opened.`, {
      cause,
      suggestion,
    });
  }
}

const isUnreachable = (error: unknown) => error instanceof VitrineError && error.code === 'queue_unavailable';
const isMaybeSent = ({ state }: SpooledJob) => state === 'sent' || state === 'cancelling';
const toWaitingStatus = (job: NewJob): JobStatus => (job.notBefore === undefined ? 'queued' : 'delayed');

function toView({ job, acceptedUs, endedAt, state, error }: SpooledJob): JobView {
  const { id, key, priority, version, maxAttempts, data } = job;
  const ends: Partial<Record<typeof state, JobStatus>> = { cancelled: 'cancelled', refused: 'failed' };
  return {
    ...{ id, key, priority, version, maxAttempts, productId: data.productId, imageId: data.imageId },
    ...{ status: ends[state] ?? toWaitingStatus(job), enqueuedAt: Math.floor(acceptedUs / 1_000), endedAt },
    ...{ lastError: error, cancelRequested: state === 'cancelling' || state === 'cancelled' },
    ...{ stage: null, position: null, etaMs: null, availableAt: null, startedAt: null, processingMs: null },
    ...{ attempts: 0, crashes: 0, workerId: null, result: null, history: [], delivery: null },
  };
}
