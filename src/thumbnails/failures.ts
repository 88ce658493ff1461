import type { ErrorCode } from '../errors/error-table.ts';
import type { VitrineError } from '../errors/vitrine-error.ts';
import type { Clock } from '../observability/clock.ts';

const KEPT_MS = 60_000;
/** For what passes by itself, such as a host that is busy. */
const DEFERRED_MS = 5_000;
/** Of what a host asks for. */
const LEAST_MS = 1_000;
const MOST_MS = 600_000;
const MAX_KEPT = 10_000;

/** They are true of all images of the host. */
const OF_HOST: readonly ErrorCode[] = ['image_host_busy', 'image_host_unknown'];
/** So are these, when so many images fail with none in between that doesn't. */
const PERHAPS_OF_HOST: readonly ErrorCode[] = [
  'image_fetch_timeout',
  'image_fetch_failed',
  'image_server_error',
];
const IN_A_ROW = 4;

/**
 * Remembers for a minute what failed, so that a page that is viewed again and again doesn't ask a failing host each
 * time, and doesn't wait for one that is down with each of its pictures.
 */
export interface Failures {
  add(key: string, host: string | null, error: VitrineError): void;
  succeed(host: string | null): void;
  /** @throws VitrineError what is remembered of the picture or of its host */
  throwKnown(key: string, host: string | null): void;
}

interface Failure {
  readonly error: VitrineError;
  /** By the monotonic clock. */
  readonly until: number;
}

export function createFailures(clock: Pick<Clock, 'monotonic'>): Failures {
  const pictures = new Map<string, Failure>();
  const hosts = new Map<string, Failure>();
  const inARow = new Map<string, number>();

  return {
    add(key, host, error) {
      const usualMs = error.retry === 'defer' ? DEFERRED_MS : KEPT_MS;
      const ms = Math.min(MOST_MS, Math.max(LEAST_MS, error.retryAfterMs ?? usualMs));
      const failure = { error, until: clock.monotonic() + ms };
      keep(pictures, key, failure);
      if (host === null) return;
      if (PERHAPS_OF_HOST.includes(error.code)) keep(inARow, host, (inARow.get(host) ?? 0) + 1);
      if (OF_HOST.includes(error.code) || (inARow.get(host) ?? 0) >= IN_A_ROW) keep(hosts, host, failure);
    },
    succeed(host) {
      if (host !== null) inARow.delete(host);
    },
    throwKnown(key, host) {
      const known = [pictures.get(key), host === null ? undefined : hosts.get(host)];
      for (const failure of known) {
        if (failure !== undefined && failure.until > clock.monotonic()) throw failure.error;
      }
    },
  };
}

/** The oldest entry makes room. */
function keep<T>(map: Map<string, T>, key: string, value: T): void {
  const [oldest] = map.keys();
  map.delete(key);
  if (map.size >= MAX_KEPT && oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}
