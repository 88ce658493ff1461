import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Decoder } from '../models/decoding/decoder.ts';
import type { Embedder } from '../models/embedder.ts';
import type { Config } from '../src/config/config.ts';
import type { ErrorCode } from '../src/errors/error-table.ts';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { ImageSource } from '../src/images/port.ts';
import type { Clock } from '../src/observability/clock.ts';
import type { Logger } from '../src/observability/logger.ts';
import type { Stage } from '../src/queue/job.ts';
import {
  type Claim,
  type JobQueue,
  REAPS_PER_LEASE,
  type Settlement,
  type WorkerState,
} from '../src/queue/port.ts';
import type { ThumbnailCache } from '../src/thumbnails/cache.ts';
import type { VectorStore } from '../src/vectors/port.ts';
import type { WebhookSender } from '../src/webhooks/sender.ts';
import { type Processor, runAttempt } from './attempt.ts';
import { createBreaker } from './breaker.ts';
import { createDeliveries } from './deliver.ts';
import { createHeartbeat } from './heartbeat.ts';
import { createHeldJobs, type HeldJob, isDelivery, isImage } from './held-jobs.ts';
import { createPipeline } from './pipeline.ts';
import { createClaimLimit, createRate } from './rate.ts';
import { createSettling } from './settling.ts';
import { untilAborted } from './until-aborted.ts';

/** What a worker is made of. Several workers may share the same parts. */
export interface WorkerParts {
  readonly config: Pick<Config, 'worker' | 'queue' | 'images' | 'store' | 'model' | 'thumbnails'>;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly queue: JobQueue;
  readonly store: VectorStore;
  readonly embedder: Embedder;
  readonly images: ImageSource;
  readonly webhooks: WebhookSender;
  readonly decoder: Decoder;
  readonly thumbnails: ThumbnailCache;
}

export interface WorkerCounts {
  readonly done: number;
  readonly failed: number;
}

export interface Worker {
  readonly id: string;
  /**
   * Works until it is stopped; with `once`, until nothing can be claimed and nothing is due within a minute.
   * @throws VitrineError `model_unavailable`, `device_unavailable`, `model_mismatch`, `store_rejected` when it can't begin; `worker_stuck` when
   * all slots of a stage are held by work that never returned: the process should end
   */
  run(options?: { readonly once?: boolean }): Promise<WorkerCounts>;
  /** Claims no more, finishes what it holds within the grace period, hands back the rest. */
  stop(): void;
}

/** Between calls to a backend that is unreachable. */
const RECONNECT_MS = 1_000;
/** How long the end of a worker waits for a queue that may be unreachable. */
const FAREWELL_MS = 1_000;
const MIN_WAIT_MS = 10;
const MAX_WAIT_MS = 1_000;
/** With `once`, a job that is due later is left to another worker. */
const ONCE_WAITS_MS = 60_000;
/** Jobs that have crashed a worker run alone for so long; then ordinary jobs have their turn for as long. */
const SUSPECTS_TURN_MS = 10_000;
const SWEEP_EVERY_MS = 3_600_000;
const TOMBSTONE_TTL_MS = 30 * 24 * 3_600_000;

const OUTAGES: readonly ErrorCode[] = ['queue_unavailable', 'queue_unsafe', 'store_unavailable'];

/** Claims jobs, runs them through the pipeline and settles them. */
export function createWorker(parts: WorkerParts): Worker {
  const { config, clock, queue, store, embedder } = parts;
  const id = `${hostname()}-${process.pid}-${randomUUID().slice(0, 4)}`;
  const logger = parts.logger.child({ worker_id: id });
  const { concurrency, batchSize, softTimeoutMs, shutdownGraceMs } = config.worker;
  const { leaseMs } = config.queue.settings.lease;

  const draining = new AbortController();
  /** Aborted when the worker ends: what is unsettled then is left to its lease. */
  const ended = new AbortController();
  /** False from a call that found the queue unreachable until the leases are renewed: before that, nothing is claimed or reaped. */
  let queueAnswers = true;
  let stuck: VitrineError | null = null;
  let state: WorkerState = 'starting';
  let model = config.model.id;
  let done = 0;
  let failed = 0;
  let suspectsFrom = Number.NEGATIVE_INFINITY;

  const rate = createRate(30);
  const limit = createClaimLimit({ clock, concurrency, batchSize, embedder });
  const breaker = createBreaker({ clock, probe: () => store.ping(), firstWaitMs: 500, maxWaitMs: 15_000 });
  const held = createHeldJobs({
    workerId: id,
    queue,
    clock,
    logger,
    leaseMs,
    onRenewalFailed: (error) => noteFailure('renewing leases', error),
  });
  const pipeline = createPipeline(parts, {
    concurrency,
    batchSize,
    softTimeoutMs,
    withThumbnails: config.thumbnails.maxBytes > 0,
    imageTimeoutMs: config.images.timeoutMs,
    storeTimeoutMs: config.store.timeoutMs,
    onStuck,
    onSlow: held.setSlow,
  });
  const deliveries = createDeliveries(parts.webhooks);
  const processor: Processor = {
    async process(entry) {
      if (isImage(entry)) return pipeline.process(entry);
      if (isDelivery(entry)) return deliveries.process(entry);
      throw new Error('There is no such kind of job.');
    },
  };
  const settling = createSettling(
    (settlements) => askQueue('settling', () => queue.settle(settlements), ended.signal),
    logger,
  );
  const heartbeat = createHeartbeat({
    queue,
    clock,
    logger,
    toVitals: () => ({
      id,
      state,
      model,
      concurrency,
      inFlight: held.size,
      done,
      failed,
      imagesPerSecond: rate.perSecond(clock.monotonic()),
      memoryBytes: process.memoryUsage.rss() + parts.decoder.memoryBytes(),
    }),
  });

  function enter(next: WorkerState): void {
    if (state === next) return;
    state = next;
    void heartbeat.send();
  }

  /** No slot of the stage will ever be free again: the worker hands back what it holds, and ends. */
  function onStuck(stage: Stage): void {
    if (stuck !== null) return;
    stuck = new VitrineError('worker_stuck', `All work of the stage "${stage}" hangs and never returned.`);
    logger.error({ error: stuck, stage }, 'the worker is stuck: it hands back its jobs and ends');
    draining.abort();
    held.stopAll('draining');
  }

  // Calls that outlast an outage

  /** The call's answer; while its backend is unreachable it is repeated, until the signal is aborted. */
  async function untilAnswered<T>(what: string, call: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let isFirst = true; ; isFirst = false) {
      try {
        return await call();
      } catch (error) {
        if (signal.aborted || !isOutage(error)) throw error;
        if (isFirst) logger.warn({ error }, `${what} failed; trying again every second`);
        await clock.sleep(RECONNECT_MS, signal);
      }
    }
  }

  /** The same for the queue. After an outage the leases are renewed first: they may be about to run out. */
  async function askQueue<T>(what: string, call: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return untilAnswered(
      what,
      async () => {
        try {
          if (!queueAnswers) await held.renew();
          queueAnswers = true;
          return await call();
        } catch (error) {
          if (isOutage(error)) queueAnswers = false;
          throw error;
        }
      },
      signal,
    );
  }

  function noteFailure(what: string, error: unknown): void {
    if (isOutage(error)) queueAnswers = false;
    logger.warn({ error }, `${what} failed`);
  }

  // One job

  function begin(job: HeldJob['job']): void {
    const entry = held.hold(job);
    runJob(entry)
      .catch((error: unknown) => logger.error({ job_id: job.id, error }, 'the job could not be settled'))
      .finally(() => held.drop(entry));
  }

  async function runJob(entry: HeldJob): Promise<void> {
    const { settlement, error } = await runAttempt(entry, processor, config, clock);
    if (error?.retry === 'release') breaker.open();
    if (settlement === null) return;
    held.setEnded(entry);
    const settled = await settling.add(settlement);
    if (settled === 'lost')
      logger.warn({ job_id: entry.job.id }, 'the lease was lost before the job was settled');
    else count(entry, settled === 'refused' ? 'fail' : settlement.kind, error);
  }

  function count(entry: HeldJob, kind: Settlement['kind'], error: VitrineError | null): void {
    const { job } = entry;
    if (isImage(entry)) countImage(entry.workedMs, kind);
    if (error === null) logger.debug({ job_id: job.id, end: kind }, 'job settled');
    else if (kind === 'defer') logger.debug({ job_id: job.id, error }, 'job deferred');
    else logger.warn({ job_id: job.id, attempt: job.attempt, next: kind, error }, 'job failed');
  }

  function countImage(workedMs: number, kind: Settlement['kind']): void {
    if (kind === 'complete') {
      done++;
      rate.add(clock.monotonic());
      breaker.succeed();
    }
    if (kind === 'fail') failed++;
    if (kind === 'complete' || kind === 'fail' || kind === 'retry') limit.addEnded(workedMs);
  }

  // Claiming

  async function claim(max: number, suspect: boolean): Promise<Claim> {
    const request = { workerId: id, claimId: randomUUID(), max, suspect };
    const claimed = await askQueue('claiming', () => queue.claim(request), draining.signal);
    for (const job of claimed.jobs) begin(job);
    if (claimed.jobs.length > 0) enter('working');
    return claimed;
  }

  /** Resolves with how many jobs may be claimed, when that is at least one or the drain begins. */
  async function whenRoom(): Promise<number> {
    for (;;) {
      const room = limit.max - held.busy;
      if (room > 0 || draining.signal.aborted) return room;
      await held.whenFewer(draining.signal);
    }
  }

  /** Until the drain begins, or with `once` until there is nothing to do. */
  async function claimLoop(once: boolean): Promise<void> {
    const { signal } = draining;
    for (;;) {
      await breaker.whenClosed(signal);
      const room = await whenRoom();
      if (signal.aborted) return;
      // Room may come from jobs that were released because the store is unreachable.
      if (breaker.isOpen) continue;
      const { jobs, suspectsWaiting, nextDueMs } = await claim(room, false);

      const suspectsAreDue = jobs.length === 0 || clock.monotonic() >= suspectsFrom;
      if (suspectsWaiting > 0 && suspectsAreDue && (await runSuspects())) continue;
      if (jobs.length > 0) continue;

      if (held.size === 0) enter('idle');
      if (!once) await waitForWork(nextDueMs);
      else if (held.size > 0) await held.whenIdle(signal);
      else if (nextDueMs !== null && nextDueMs <= ONCE_WAITS_MS) await waitForWork(nextDueMs);
      else return logRest();
    }
  }

  /**
   * Runs jobs that have crashed a worker, one at a time with nothing else in the process: another crash harms only
   * them. Resolves with true when at least one ran.
   */
  async function runSuspects(): Promise<boolean> {
    const { signal } = draining;
    let ran = false;
    await held.handBackSlow(signal);
    const startedAt = clock.monotonic();
    const turnEnds = startedAt + SUSPECTS_TURN_MS;
    while (!signal.aborted && !breaker.isOpen && clock.monotonic() < turnEnds) {
      const { jobs } = await claim(1, true);
      if (jobs.length === 0) break;
      ran = true;
      await held.whenIdle(signal);
    }
    suspectsFrom = 2 * clock.monotonic() - startedAt;
    return ran;
  }

  async function waitForWork(nextDueMs: number | null): Promise<void> {
    const waitMs = Math.max(MIN_WAIT_MS, Math.min(MAX_WAIT_MS, nextDueMs ?? MAX_WAIT_MS));
    try {
      await queue.waitForWork(waitMs, draining.signal);
    } catch (error) {
      noteFailure('waiting for work', error);
      await clock.sleep(MAX_WAIT_MS, draining.signal);
    }
  }

  async function logRest(): Promise<void> {
    const { waiting, delayed } = await askQueue('reading the queue', () => queue.stats(), draining.signal);
    const rest = { waiting: waiting.high + waiting.normal + waiting.low, delayed };
    logger.info(rest, 'nothing to claim now or within a minute: the worker ends');
  }

  // In the background

  async function reapLoop(): Promise<void> {
    const { signal } = ended;
    while (!signal.aborted) {
      await untilAborted(
        askQueue('reaping', () => queue.reap(), signal),
        signal,
      ).then(
        (reaped) => {
          if (reaped.recovered + reaped.poisoned > 0) logger.warn(reaped, 'took back jobs of a lost worker');
        },
        (error: unknown) => {
          if (!signal.aborted) noteFailure('reaping', error);
        },
      );
      await clock.sleep(leaseMs / REAPS_PER_LEASE, signal);
    }
  }

  async function sweepLoop(): Promise<void> {
    const { signal } = ended;
    while (!signal.aborted) {
      await untilAborted(store.sweepTombstones(TOMBSTONE_TTL_MS), signal).then(
        (swept) => {
          if (swept > 0) logger.info({ swept }, 'removed old tombstones');
        },
        (error: unknown) => {
          if (!signal.aborted) logger.warn({ error }, 'removing old tombstones failed');
        },
      );
      await clock.sleep(SWEEP_EVERY_MS, signal);
    }
  }

  // Start and end

  /** Loads the model and prepares the collection. False when the worker was stopped before that was done. */
  async function start(): Promise<boolean> {
    const { signal } = draining;
    enter('loading');
    try {
      const load = () => untilAborted(embedder.start(), signal);
      const loaded = await untilAnswered('loading the model', load, signal);
      model = loaded.id;
      const prepare = () => untilAborted(store.ensureCollection(loaded), signal);
      await untilAnswered('preparing the collection', prepare, signal);
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
    logger.info({ model, concurrency, batch_size: batchSize }, 'worker ready');
    return true;
  }

  async function work(once: boolean): Promise<void> {
    const loops = [held.keepRenewing(ended.signal), reapLoop(), sweepLoop()];
    try {
      await claimLoop(once);
    } catch (error) {
      // A backend that was unreachable when the drain began is no failure of the drain.
      if (!draining.signal.aborted) throw error;
    } finally {
      await drain();
      ended.abort();
      await Promise.all(loops);
    }
    if (stuck !== null) throw stuck;
  }

  async function drain(): Promise<void> {
    enter('draining');
    const grace = new AbortController();
    using _grace = clock.startTimer(shutdownGraceMs, () => grace.abort());
    await held.whenIdle(grace.signal);
    if (held.size === 0) return;
    logger.warn({ held: held.size }, 'the grace period is over: handing back the rest');
    held.stopAll('draining');
    using _farewell = clock.startTimer(FAREWELL_MS, () => ended.abort());
    await held.whenIdle(ended.signal);
  }

  async function sayGoodbye(): Promise<void> {
    const farewell = new AbortController();
    using _farewell = clock.startTimer(FAREWELL_MS, () => farewell.abort());
    await untilAborted(heartbeat.remove(), farewell.signal).catch(() => undefined);
    logger.info({ done, failed }, 'worker stopped');
  }

  return {
    id,
    stop() {
      draining.abort();
    },
    async run({ once = false } = {}) {
      const sending = heartbeat.keepSending(ended.signal);
      try {
        if (await start()) await work(once);
        return { done, failed };
      } finally {
        ended.abort();
        await sending;
        await sayGoodbye();
      }
    },
  };
}

/** True for failures of a backend that may pass; the call is then worth repeating. */
function isOutage(error: unknown): boolean {
  return error instanceof VitrineError && OUTAGES.includes(error.code);
}
