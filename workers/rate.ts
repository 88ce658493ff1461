import type { Embedder } from '../models/embedder.ts';
import type { Clock } from '../src/observability/clock.ts';

/** Counts events over a sliding window of whole seconds. */
export interface Rate {
  add(nowMs: number): void;
  /** Events per second over the window, or over the time since the first event while that is shorter. */
  perSecond(nowMs: number): number;
}

export function createRate(windowSeconds: number): Rate {
  const counts = new Map<number, number>();
  let first: number | undefined;
  return {
    add(nowMs) {
      const second = Math.floor(nowMs / 1000);
      first ??= second;
      counts.set(second, (counts.get(second) ?? 0) + 1);
      for (const old of counts.keys()) if (old < second - windowSeconds) counts.delete(old);
    },
    perSecond(nowMs) {
      if (first === undefined) return 0;
      const second = Math.floor(nowMs / 1000);
      let sum = 0;
      for (const [at, count] of counts) if (at > second - windowSeconds) sum += count;
      return sum / Math.min(windowSeconds, Math.max(1, second - first + 1));
    },
  };
}

/** How many jobs a worker holds at most: those that it will begin within a few seconds, judged by its own rate. */
export interface ClaimLimit {
  readonly max: number;
  /** Counts an attempt that ended. @param workedMs how long its image was fetched and prepared */
  addEnded(workedMs: number): void;
}

const RATE_WINDOW_SECONDS = 5;
/** Jobs are claimed for this time ahead, or for twice the time that one is fetched and prepared. */
const AHEAD_MS = 2_000;
/** The weight of the latest job in the mean of their times. */
const WEIGHT = 0.1;

/**
 * Starts with what keeps inference busy: a batch per thread, and the next one. The rate raises it: by Little's law, rate ×
 * time per job is what a worker needs to keep its rate, and twice that lets the rate grow until a stage is full. What
 * the stages can hold at once is the most.
 */
export function createClaimLimit(options: {
  readonly clock: Clock;
  readonly concurrency: number;
  readonly batchSize: number;
  readonly embedder: Pick<Embedder, 'parallelCalls'>;
}): ClaimLimit {
  const { clock, concurrency, batchSize, embedder } = options;
  const rate = createRate(RATE_WINDOW_SECONDS);
  let meanWorkedMs = 0;
  return {
    get max() {
      const { parallelCalls } = embedder;
      const least = Math.min(concurrency, batchSize) + parallelCalls * batchSize;
      const most = 2 * concurrency + (parallelCalls + 1) * batchSize;
      const aheadMs = Math.max(AHEAD_MS, 2 * meanWorkedMs);
      const wanted = Math.ceil((rate.perSecond(clock.monotonic()) * aheadMs) / 1000);
      return Math.min(most, Math.max(least, wanted));
    },
    addEnded(workedMs) {
      rate.add(clock.monotonic());
      meanWorkedMs += WEIGHT * (workedMs - meanWorkedMs);
    },
  };
}
