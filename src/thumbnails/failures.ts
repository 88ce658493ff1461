import type { VitrineError } from '../errors/vitrine-error.ts';
import type { Clock } from '../observability/clock.ts';

const KEPT_MS = 60_000;
/** For hosts that ask to slow down without saying for how long, or ask for long. */
const LEAST_MS = 1_000;
const MOST_MS = 600_000;
const MAX_KEPT = 10_000;

/** Remembers for a minute what could not be made, so that not every view of a page asks a failing host again. */
export interface Failures {
  /** @param host that the image comes from: all of its images have failed when it asked to slow down */
  add(key: string, host: string | null, error: VitrineError): void;
  /** @throws VitrineError what is remembered */
  throwKnown(key: string, host: string | null): void;
}

interface Failure {
  readonly error: VitrineError;
  /** By the monotonic clock. */
  readonly until: number;
}

export function createFailures(clock: Pick<Clock, 'monotonic'>): Failures {
  const kept = new Map<string, Failure>();

  function keep(key: string, failure: Failure): void {
    const [oldest] = kept.keys();
    if (kept.size >= MAX_KEPT && oldest !== undefined) kept.delete(oldest);
    kept.set(key, failure);
  }

  return {
    add(key, host, error) {
      const ms = Math.min(MOST_MS, Math.max(LEAST_MS, error.retryAfterMs ?? KEPT_MS));
      const failure = { error, until: clock.monotonic() + ms };
      keep(key, failure);
      if (host !== null && error.code === 'image_host_busy') keep(toHostKey(host), failure);
    },
    throwKnown(key, host) {
      for (const each of host === null ? [key] : [key, toHostKey(host)]) {
        const failure = kept.get(each);
        if (failure === undefined) continue;
        if (failure.until > clock.monotonic()) throw failure.error;
        kept.delete(each);
      }
    },
  };
}

const toHostKey = (host: string): string => `host:${host}`;
