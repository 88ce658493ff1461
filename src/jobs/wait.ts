import type { Clock } from '../observability/clock.ts';
import { ENDED_STATUSES } from '../queue/job.ts';
import type { JobQueue, JobView } from '../queue/port.ts';

const MAX_WAIT_SECONDS = 60;
const FIRST_POLL_MS = 25;
const LAST_POLL_MS = 250;

/** The seconds of `Prefer: wait=N` (RFC 7240), at most 60; null without one. What isn't understood is ignored. */
export function toWaitSeconds(prefer: string | undefined): number | null {
  const seconds = /(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:[,;]|$)/i.exec(prefer ?? '')?.[1];
  return seconds === undefined || Number(seconds) === 0 ? null : Math.min(Number(seconds), MAX_WAIT_SECONDS);
}

/** The job as soon as it has ended; null when it has not within the time, and when the signal is aborted. */
export async function waitForEnd(
  queue: Pick<JobQueue, 'status'>,
  id: string,
  timeoutMs: number,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<JobView | null> {
  const deadline = clock.monotonic() + timeoutMs;
  for (let pauseMs = FIRST_POLL_MS; ; pauseMs = Math.min(pauseMs * 1.5, LAST_POLL_MS)) {
    const leftMs = deadline - clock.monotonic();
    if (leftMs <= 0 || signal.aborted) return null;
    await clock.sleep(Math.min(pauseMs, leftMs), signal);
    // The job is accepted: an outage of the queue only means that its end isn't seen.
    const job = await queue.status(id).catch(() => null);
    if (job !== null && ENDED_STATUSES.includes(job.status)) return job;
  }
}
