import type { ImageJobData, RetryPolicy } from './job.ts';

/** For failures that either pass within seconds or stay: more attempts would only delay the answer. */
export const SOON: RetryPolicy = { attempts: 3, baseMs: 2_000, factor: 2, capMs: 10_000, jitter: 0.2 };

/** Deliveries are tried for a day: after 5 s, 15 s, 45 s and so on, then every four hours. */
export const DELIVERY_RETRY: RetryPolicy = {
  attempts: 14,
  baseMs: 5_000,
  factor: 3,
  capMs: 4 * 3_600_000,
  jitter: 0.2,
};

/**
 * The policy for a failure. Failures of the kind `soon` follow SOON, unless an operator or the job itself has set how
 * to retry: that holds for every kind.
 *
 * @param settings the operator's policy, and whether it was set explicitly or is the default
 */
export function toRetryPolicy(
  kind: 'soon' | 'later',
  job: { readonly data: Pick<ImageJobData, 'retry'>; readonly maxAttempts: number },
  settings: { readonly retry: RetryPolicy; readonly retryIsExplicit: boolean },
): RetryPolicy {
  if (kind === 'soon' && !settings.retryIsExplicit && job.data.retry === undefined) {
    return { ...SOON, attempts: Math.min(SOON.attempts, job.maxAttempts) };
  }
  return { ...settings.retry, ...job.data.retry, attempts: job.maxAttempts };
}

/**
 * The delay before the next attempt, in milliseconds: exponential backoff with proportional jitter,
 * `min(cap, base · factor^(attempt − 1)) · (1 ± jitter)`.
 *
 * @param attempt the attempt that failed, counted from 1
 * @param retryAfterMs what the failing side asked for; the delay is never shorter, and never longer than it needs
 * @param random a number in [0, 1)
 */
export function toRetryDelayMs(
  policy: RetryPolicy,
  attempt: number,
  random: number,
  retryAfterMs = 0,
): number {
  const backoff = Math.min(policy.capMs, policy.baseMs * policy.factor ** (attempt - 1));
  const spread = 1 + policy.jitter * (2 * random - 1);
  return Math.round(Math.max(retryAfterMs, backoff * spread));
}

/** True when an attempt that failed with a retryable error was not the last one. */
export function mayRetry(policy: RetryPolicy, attempt: number): boolean {
  return attempt < policy.attempts;
}
