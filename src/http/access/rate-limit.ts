import type { MiddlewareHandler } from 'hono';
import type { Cluster, Redis } from 'ioredis';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import type { ApiEnv } from '../../routing/router.ts';

/** Where requests are counted for all API processes together; without one, each counts its own. */
export interface SharedCounts {
  readonly client: Redis | Cluster;
  readonly prefix: string;
}

interface RateLimit {
  readonly limit: number;
  readonly isExceeded: boolean;
  readonly remaining: number;
  /** Until the count begins again. */
  readonly resetMs: number;
}

export interface RateLimiter {
  /** Counts one request of this caller. Never fails, and never waits long. */
  count(caller: string): Promise<RateLimit>;
}

export interface RateLimiterSettings {
  /** Of the policy in the RateLimit headers. */
  readonly name: string;
  /** Requests per minute. */
  readonly limit: number;
  readonly shared: SharedCounts | null;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly logger: Logger;
}

const WINDOW_SECONDS = 60;
/** A process takes this share of a limit from Redis at once, so that it needn't ask it for each request. */
const SHARE = 0.01;
/** How long requests are counted in memory after Redis did not answer in time. */
const PAUSE_MS = 5_000;
/** Callers whose share is kept; beyond it all shares are forgotten, and taken again. */
const MAX_ALLOWANCES = 10_000;

interface Allowance {
  left: number;
  /** What is left for all processes once this process has spent its own. */
  readonly remaining: number;
  /** By the monotonic clock. */
  readonly resetAt: number;
}

export function createRateLimiter({ name, limit, shared, clock, logger }: RateLimiterSettings): RateLimiter {
  const options = { points: limit, duration: WINDOW_SECONDS };
  const inMemory = new RateLimiterMemory({ ...options, keyPrefix: name });
  const inRedis =
    shared &&
    new RateLimiterRedis({
      ...options,
      storeClient: shared.client,
      // The hash tag keeps the keys of a Cluster together with those of the queue.
      keyPrefix: `{${shared.prefix}}:rate:${name}`,
    });
  const points = inRedis === null ? 1 : Math.max(1, Math.floor(limit * SHARE));
  const allowances = new Map<string, Promise<Allowance> | Allowance>();
  let memoryUntil = 0;

  async function take(caller: string): Promise<Allowance> {
    if (inRedis !== null && shared?.client.status === 'ready' && clock.monotonic() >= memoryUntil) {
      try {
        return toAllowance(await consume(inRedis, caller, points), points);
      } catch (error) {
        memoryUntil = clock.monotonic() + PAUSE_MS;
        logger.warn({ error }, 'requests are counted in memory, for Redis does not count them');
      }
    }
    return toAllowance(await consume(inMemory, caller, 1), 1);
  }

  function toAllowance({ consumedPoints, msBeforeNext }: RateLimiterRes, taken: number): Allowance {
    // Of the last share, only what is within the limit.
    const left = Math.min(taken, Math.max(0, limit - (consumedPoints - taken)));
    const remaining = Math.max(0, limit - consumedPoints);
    return { left, remaining, resetAt: clock.monotonic() + msBeforeNext };
  }

  function current(caller: string): Promise<Allowance> | Allowance {
    const known = allowances.get(caller);
    if (known !== undefined) return known;
    if (allowances.size >= MAX_ALLOWANCES) allowances.clear();
    // Requests that come at the same time share what is taken.
    const taking = take(caller).then((taken) => {
      if (allowances.get(caller) === taking) allowances.set(caller, taken);
      return taken;
    });
    allowances.set(caller, taking);
    return taking;
  }

  return {
    async count(caller) {
      for (;;) {
        const allowance = await current(caller);
        const resetMs = allowance.resetAt - clock.monotonic();
        const isSpent = allowance.left === 0 && allowance.remaining > 0;
        if (resetMs <= 0 || isSpent) {
          if (allowances.get(caller) === allowance) allowances.delete(caller);
          continue;
        }
        const isExceeded = allowance.left === 0;
        if (!isExceeded) allowance.left--;
        return { limit, isExceeded, remaining: allowance.remaining + allowance.left, resetMs };
      }
    },
  };
}

/** What was counted, whether or not it is within the limit. @throws when it can't be counted */
async function consume(
  limiter: RateLimiterMemory | RateLimiterRedis,
  caller: string,
  points: number,
): Promise<RateLimiterRes> {
  try {
    return await limiter.consume(caller, points);
  } catch (refused) {
    if (refused instanceof RateLimiterRes) return refused;
    throw refused;
  }
}

/**
 * Counts each request, and refuses what is beyond the limit. Says how much is left in the headers of
 * draft-ietf-httpapi-ratelimit-headers.
 * @param toCaller whom a request is counted for; undefined: it is not counted
 */
export function limitRate(
  name: string,
  limiter: RateLimiter,
  toCaller: (c: Parameters<MiddlewareHandler<ApiEnv>>[0]) => string | null | undefined,
): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const caller = toCaller(c);
    if (caller === undefined || caller === null) return next();
    const { limit, isExceeded, remaining, resetMs } = await limiter.count(caller);
    c.header('RateLimit-Policy', `"${name}";q=${limit};w=${WINDOW_SECONDS}`, { append: true });
    c.header('RateLimit', `"${name}";r=${remaining};t=${Math.ceil(resetMs / 1000)}`, { append: true });
    if (!isExceeded) return next();
    throw new VitrineError('rate_limited', `More than ${limit} requests per minute from one ${name}.`, {
      retryAfterMs: resetMs,
    });
  };
}
