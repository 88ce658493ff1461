import type { Config } from '../src/config/config.ts';
import { toVitrineError, VitrineError } from '../src/errors/vitrine-error.ts';
import type { Clock } from '../src/observability/clock.ts';
import type { JobResult } from '../src/queue/job.ts';
import type { Settlement } from '../src/queue/port.ts';
import { DELIVERY_RETRY, mayRetry, toRetryDelayMs, toRetryPolicy } from '../src/queue/retry-policy.ts';
import { type HeldJob, Stopped } from './held-jobs.ts';
import { untilAborted } from './until-aborted.ts';

/** How an attempt ended: what the queue is to do (null: nothing, the lease is lost) and the error, if there was one. */
export interface AttemptOutcome {
  readonly settlement: Settlement | null;
  readonly error: VitrineError | null;
}

/** Does the work of a job. */
export interface Processor {
  process(held: HeldJob): Promise<JobResult>;
}

export type AttemptSettings = Pick<Config, 'worker' | 'queue'>;

/** For so long a host may put a job off. Then its answer counts as a failed attempt; a delivery is given up. */
const MAX_DEFERRED_MS = 24 * 3_600_000;
const DEFAULT_DEFER_MS = 1_000;

/**
 * One attempt of one held job. The soft limit ends the attempt; the pipeline counts it, since only work on the image
 * counts. The hard limit ends the job: it counts all time under a lease. A delivery has neither: its sender has a
 * deadline, and its retries end by themselves.
 */
export async function runAttempt(
  held: HeldJob,
  processor: Processor,
  settings: AttemptSettings,
  clock: Clock,
): Promise<AttemptOutcome> {
  const { job, abort } = held;
  using _hardLimit = startHardLimit(held, settings, clock);
  try {
    const result = await untilAborted(processor.process(held), abort.signal);
    const processingMs = toProcessingMs(held, clock);
    const { id, token } = job;
    return { settlement: { id, token, kind: 'complete', result, processingMs }, error: null };
  } catch (thrown) {
    // Work that was stopped may fail with any error: what stopped it is the reason.
    const reason: unknown = abort.signal.aborted ? abort.signal.reason : thrown;
    if (reason instanceof Stopped) return { settlement: toStoppedSettlement(held, reason), error: null };
    const error = toVitrineError(reason);
    return { settlement: toFailedSettlement(held, error, settings, toProcessingMs(held, clock)), error };
  }
}

function startHardLimit({ job, abort }: HeldJob, settings: AttemptSettings, clock: Clock): Disposable | null {
  if (job.data.kind === 'delivery') return null;
  const hardMs = job.data.hardTimeoutMs ?? settings.worker.hardTimeoutMs;
  return clock.startTimer(hardMs - job.leasedMs, () => abort.abort(toHardTimeout(hardMs)));
}

function toHardTimeout(limitMs: number): VitrineError {
  return new VitrineError('job_out_of_time', `The job was not done within ${limitMs} ms of work on it.`);
}

function toProcessingMs({ heldAt }: HeldJob, clock: Clock): number {
  return Math.round(clock.monotonic() - heldAt);
}

function toStoppedSettlement({ job: { id, token } }: HeldJob, { reason }: Stopped): Settlement | null {
  if (reason === 'lost') return null;
  return { id, token, kind: reason === 'cancelled' ? 'cancel' : 'release' };
}

function toFailedSettlement(
  { job }: HeldJob,
  error: VitrineError,
  settings: AttemptSettings,
  processingMs: number,
): Settlement {
  const { id, token } = job;
  const failure = { code: error.code, message: error.message, suggestion: error.suggestion };
  const wasPutOffTooLong = error.retry === 'defer' && job.deferredMs >= MAX_DEFERRED_MS;
  const isDelivery = job.data.kind === 'delivery';
  const retry = !wasPutOffTooLong ? error.retry : isDelivery ? 'never' : 'later';
  if (retry === 'release') return { id, token, kind: 'release' };
  if (retry === 'defer') {
    return { id, token, kind: 'defer', error: failure, delayMs: error.retryAfterMs ?? DEFAULT_DEFER_MS };
  }
  if (retry !== 'never') {
    const { data, maxAttempts } = job;
    const policy =
      data.kind === 'delivery' ? DELIVERY_RETRY : toRetryPolicy(retry, { data, maxAttempts }, settings.queue);
    if (mayRetry(policy, job.attempt)) {
      const delayMs = toRetryDelayMs(policy, job.attempt, Math.random(), error.retryAfterMs);
      return { id, token, kind: 'retry', error: failure, delayMs, processingMs };
    }
  }
  return { id, token, kind: 'fail', error: failure, processingMs };
}
