import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Context } from '../src/context.ts';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Claim, Settled, Settlement } from '../src/queue/port.ts';
import type { WorkerState } from '../src/queue/worker-registry.ts';
import { OUTAGE_CODES, runAttempt } from './attempt.ts';
import { createBatcher } from './batcher.ts';
import { createBreaker } from './breaker.ts';
import { createHeartbeat } from './heartbeat.ts';
import { createHeldJobs, type HeldJob } from './held-jobs.ts';
import { createPipeline } from './pipeline.ts';
import { createRate } from './rate.ts';

export interface WorkerCounts {
  readonly done: number;
  readonly failed: number;
}

export interface Worker {
  readonly id: string;
  /**
   * Works until it is stopped; with `once`, until nothing waits any more.
   * @throws VitrineError `model_unavailable`, `model_mismatch`, `store_rejected` when it can't begin
   */
  run(options?: { readonly once?: boolean }): Promise<WorkerCounts>;
  /** Claims no more, finishes what it holds within the grace period, gives back the rest. */
  stop(): void;
}

const REAP_EVERY_MS = 2_000;
const IDLE_MIN_MS = 50;
const IDLE_MAX_MS = 1_000;
/** Between tries of a queue that doesn't answer. */
const RECONNECT_MS = 1_000;

/** Waits for the work, or until the signal is aborted; what the work comes to after that is nobody's. */
async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  const end = () => aborted.resolve();
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  await Promise.race([work, aborted.promise]).finally(() => signal.removeEventListener('abort', end));
}

/** Claims jobs, runs them through the pipeline and settles them. Several may share one context. */
export function createWorker(context: Context): Worker {
  const { config, clock, queue, store, embedder } = context;
  const id = `${hostname()}-${process.pid}-${randomUUID().slice(0, 4)}`;
  const logger = context.logger.child({ worker_id: id });
  const { concurrency, batchSize, shutdownGraceMs } = config.worker;
  /** What can be in the stages at once: being fetched, being decoded, two batches in inference, and a write. */
  const capacity = 2 * concurrency + 2 * batchSize;

  const draining = new AbortController();
  /** Aborted when the grace period is over: what is unsettled then is left to its leases. */
  const abandoned = new AbortController();
  const held = createHeldJobs({ queue, clock, logger, leaseMs: config.queue.leaseMs });
  const pipeline = createPipeline(context, {
    concurrency,
    batchSize,
    maxPixels: config.images.maxPixels,
    timeoutMs: config.worker.softTimeoutMs,
  });
  const breaker = createBreaker({ clock, probe: () => store.ping(), firstWaitMs: 500, maxWaitMs: 15_000 });
  const rate = createRate(30);
  let state: WorkerState = 'starting';
  let done = 0;
  let failed = 0;

  const heartbeat = createHeartbeat({
    registry: context.registry,
    clock,
    logger,
    vitals: () => ({
      id,
      state,
      model: embedder.model.id,
      concurrency,
      inFlight: held.size,
      done,
      failed,
      imagesPerSecond: rate.perSecond(clock.monotonic()),
    }),
  });
  const enter = async (next: WorkerState) => {
    if (state === next) return;
    state = next;
    await heartbeat.beat();
  };

  const settling = createBatcher<Settlement, Settled>({
    maxSize: 256,
    maxWaitMs: 5,
    concurrency: 1,
    async run(settlements) {
      const settled = await untilAnswered('settling', () => queue.settle(settlements), abandoned.signal);
      return settled.map((value) => ({ status: 'fulfilled', value }));
    },
  });

  /**
   * The call's answer, tried again while its backend is away. Each call may be repeated: its ids and tokens make
   * the second a no-op. When the signal is aborted it gives up, and leases that run out do the rest.
   */
  async function untilAnswered<T>(what: string, call: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        const mayHelp = error instanceof VitrineError && error.retryable;
        if (!mayHelp || signal.aborted) throw error;
        logger.warn({ error }, `${what} failed, trying again`);
        await clock.sleep(RECONNECT_MS, signal);
      }
    }
  }

  async function work(entry: HeldJob): Promise<void> {
    const { settlement, error } = await runAttempt(entry, pipeline, config, clock);
    if (error !== null && OUTAGE_CODES.includes(error.code)) breaker.open();
    if (settlement !== null) {
      const settled = await settling.add(settlement);
      if (settled === 'settled') count(entry, settlement, error);
      else logger.warn({ job_id: entry.job.id }, 'lease was lost before the job was settled');
    }
  }

  function count({ job }: HeldJob, settlement: Settlement, error: Error | null): void {
    if (settlement.kind === 'complete') {
      done++;
      rate.add(clock.monotonic());
      breaker.succeed();
    }
    if (settlement.kind === 'fail') failed++;
    if (error !== null)
      logger.warn({ job_id: job.id, attempt: job.attempt, next: settlement.kind, error }, 'job failed');
    else logger.debug({ job_id: job.id, end: settlement.kind }, 'job settled');
  }

  function begin(job: HeldJob['job']): void {
    const entry = held.hold(job);
    work(entry)
      .catch((error: unknown) => logger.error({ job_id: job.id, error }, 'job could not be settled'))
      .finally(() => held.drop(entry));
  }

  async function claim(max: number, suspect: boolean): Promise<Claim> {
    const request = { workerId: id, claimId: randomUUID(), max, leaseMs: config.queue.leaseMs, suspect };
    const claimed = await untilAnswered('claiming', () => queue.claim(request), draining.signal);
    for (const job of claimed.jobs) begin(job);
    return claimed;
  }

  /** Claims what there is room for. True when something was claimed. */
  async function claimSome(): Promise<boolean> {
    const { jobs, suspectsWaiting } = await claim(capacity - held.size, false);
    if (suspectsWaiting === 0) return jobs.length > 0;

    // A job that ended a worker before runs with nothing beside it: should it do so again, no other is harmed.
    await held.untilFewerThan(1, draining.signal);
    if (draining.signal.aborted) return true;
    const alone = await claim(1, true);
    await held.untilFewerThan(1);
    return jobs.length + alone.jobs.length > 0;
  }

  /** Until draining, or with `once` until nothing waits. */
  async function claimLoop(once: boolean): Promise<void> {
    let idleMs = IDLE_MIN_MS;
    for (;;) {
      await breaker.untilClosed(draining.signal);
      await held.untilFewerThan(capacity, draining.signal);
      if (draining.signal.aborted) return;
      if (await claimSome()) {
        idleMs = IDLE_MIN_MS;
        await enter('working');
        continue;
      }
      if (held.size === 0) await enter('idle');
      if (once && held.size === 0 && (await isEmpty())) return;
      await clock.sleep(idleMs, draining.signal);
      idleMs = Math.min(IDLE_MAX_MS, idleMs * 2);
    }
  }

  async function isEmpty(): Promise<boolean> {
    const { waiting, delayed } = await untilAnswered(
      'reading the queue',
      () => queue.stats(),
      draining.signal,
    );
    return delayed + waiting.high + waiting.normal + waiting.low === 0;
  }

  async function reapLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await queue.reap().then(
        (reaped) => {
          if (reaped.recovered + reaped.poisoned > 0) logger.warn(reaped, 'took back jobs of a lost worker');
        },
        (error: unknown) => logger.warn({ error }, 'reaping failed'),
      );
      await clock.sleep(REAP_EVERY_MS, signal);
    }
  }

  async function drain(): Promise<void> {
    await enter('draining');
    const grace = AbortSignal.timeout(shutdownGraceMs);
    await held.untilFewerThan(1, grace);
    if (held.size === 0) return;
    logger.warn({ held: held.size }, 'grace period over: giving the rest back');
    held.stopAll('draining');
    const last = AbortSignal.timeout(RECONNECT_MS);
    await held.untilFewerThan(1, last);
    abandoned.abort();
  }

  return {
    id,
    stop() {
      draining.abort();
    },
    async run({ once = false } = {}) {
      const background = new AbortController();
      const beating = heartbeat.keepBeating(background.signal);
      const loops: Promise<void>[] = [beating];
      try {
        await enter('loading');
        // A download may take minutes; whoever stops the worker meanwhile doesn't wait for it.
        await untilAborted(embedder.start(), draining.signal);
        if (draining.signal.aborted) return { done, failed };
        await untilAnswered(
          'preparing the collection',
          () => store.ensureCollection(embedder.model),
          draining.signal,
        );
        logger.info({ model: embedder.model.id, concurrency, batch_size: batchSize }, 'worker ready');
        loops.push(held.keepLeases(background.signal), reapLoop(background.signal));
        await claimLoop(once).catch((error: unknown) => {
          // A backend that was away when the drain began is no failure of the drain.
          if (!draining.signal.aborted) throw error;
        });
        await drain();
      } finally {
        background.abort();
        await Promise.all(loops);
        await heartbeat.remove();
        logger.info({ done, failed }, 'worker stopped');
      }
      return { done, failed };
    },
  };
}
