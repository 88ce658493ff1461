import type { RetryPolicy } from './job.ts';

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
