import type { Config } from '../src/config/config.ts';
import { toVitrineError, VitrineError } from '../src/errors/vitrine-error.ts';
import type { Clock } from '../src/observability/clock.ts';
import type { JobResult } from '../src/queue/job.ts';
import type { Settlement } from '../src/queue/port.ts';
import { mayRetry, toRetryDelayMs } from '../src/queue/retry-policy.ts';
import { type HeldJob, Stopped } from './held-jobs.ts';
import type { Pipeline } from './pipeline.ts';

/** How an attempt ended: what to tell the queue (null: nothing, the lease is lost) and the error, if one. */
export interface AttemptOutcome {
  readonly settlement: Settlement | null;
  readonly error: VitrineError | null;
}

/** Failures of what every job needs: the job is given back untouched, and the breaker opens. */
export const OUTAGE_CODES: readonly string[] = ['store_unavailable', 'model_unavailable'];

/**
 * One attempt of one held job, within its time limits. The soft limit ends this attempt, which is then retried;
 * the hard limit, counted from the first claim, ends the job.
 */
export async function runAttempt(
  held: HeldJob,
  pipeline: Pipeline,
  config: Pick<Config, 'worker' | 'queue'>,
  clock: Clock,
): Promise<AttemptOutcome> {
  const { job, abort } = held;
  const lease = { id: job.id, token: job.token };
  const startedAt = clock.monotonic();
  const softMs = job.data.softTimeoutMs ?? config.worker.softTimeoutMs;
  const hardMs = job.data.hardTimeoutMs ?? config.worker.hardTimeoutMs;
  const leftMs = hardMs - job.sinceFirstClaimMs;

  const timer = setTimeout(() => abort.abort(new Stopped('timeout')), Math.max(0, Math.min(softMs, leftMs)));
  try {
    const result: JobResult = await untilAborted(
      pipeline.process(job.data, job.version, abort.signal),
      abort.signal,
    );
    const processingMs = Math.round(clock.monotonic() - startedAt);
    return { settlement: { ...lease, kind: 'complete', result, processingMs }, error: null };
  } catch (thrown) {
    const stopped = abort.signal.reason instanceof Stopped ? abort.signal.reason.reason : undefined;
    if (stopped === 'lost') return { settlement: null, error: null };
    if (stopped === 'cancelled') return { settlement: { ...lease, kind: 'cancel' }, error: null };
    if (stopped === 'draining') return { settlement: { ...lease, kind: 'release' }, error: null };

    const error =
      stopped === 'timeout' ? toTimeoutError(leftMs <= softMs, softMs, hardMs) : toVitrineError(thrown);
    if (OUTAGE_CODES.includes(error.code)) return { settlement: { ...lease, kind: 'release' }, error };

    const processingMs = Math.round(clock.monotonic() - startedAt);
    const failure = { code: error.code, message: error.message, suggestion: error.suggestion };
    const policy = { ...config.queue.retry, ...job.data.retry, attempts: job.maxAttempts };
    if (!error.retryable || !mayRetry(policy, job.attempt)) {
      return { settlement: { ...lease, kind: 'fail', error: failure, processingMs }, error };
    }
    const delayMs = toRetryDelayMs(policy, job.attempt, Math.random(), error.retryAfterMs);
    return { settlement: { ...lease, kind: 'retry', error: failure, delayMs, processingMs }, error };
  } finally {
    clearTimeout(timer);
  }
}

function toTimeoutError(hard: boolean, softMs: number, hardMs: number): VitrineError {
  return hard
    ? new VitrineError('job_out_of_time', `The job was not done within ${hardMs} ms of its first attempt.`)
    : new VitrineError('job_timed_out', `The attempt was not done within ${softMs} ms.`);
}

/** The promise, or the signal's reason as soon as it is aborted: a stage that hangs doesn't hold the worker. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
