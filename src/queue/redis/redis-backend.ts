import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import { ENDED_TTL_MS } from '../job.ts';
import type { JobQueue } from '../port.ts';
import type { WorkerRegistry } from '../worker-registry.ts';
import { createRedisConnection, type RedisConnection } from './redis-connection.ts';
import { createQueueKeys } from './redis-keys.ts';
import { createRedisQueue } from './redis-queue.ts';
import { createRedisRegistry } from './redis-registry.ts';
import { parseRedisUrl } from '../../config/redis-target.ts';
import { createShardedQueue } from './sharded-queue.ts';

export interface RedisBackendSettings {
  /** See `parseRedisUrl` for the forms. */
  readonly url: string;
  /** All keys begin with it, in braces. */
  readonly prefix: string;
  readonly logger: Logger;
  /** Greatest number of jobs that have not ended; 0: no limit. */
  readonly maxPending: number;
  /** Within this each call has succeeded or failed. */
  readonly commandTimeoutMs?: number;
  /** Groups of keys that products are spread over, for a Redis Cluster; all processes must agree. Default: 1. */
  readonly shards?: number;
  /** How long ended jobs are remembered. */
  readonly endedTtlMs?: number;
}

export interface QueueBackend extends AsyncDisposable {
  readonly queue: JobQueue;
  readonly registry: WorkerRegistry;
}

/**
 * The queue and the registry of workers on Redis 7 or later. When Redis can't be reached, the backend is given
 * nevertheless, and its calls fail until Redis is there: it connects by itself.
 *
 * @throws VitrineError `invalid_configuration` when the address is wrong, `queue_unsafe` when Redis may drop jobs
 * or is too old
 */
export async function createRedisBackend(settings: RedisBackendSettings): Promise<QueueBackend> {
  const {
    logger,
    maxPending,
    prefix,
    commandTimeoutMs = 5_000,
    endedTtlMs = ENDED_TTL_MS,
    shards = 1,
  } = settings;
  const target = parseRedisUrl(settings.url);
  const connection = createRedisConnection({ target, commandTimeoutMs, logger });
  try {
    await requireSafe(connection, logger);
  } catch (error) {
    if (!(error instanceof VitrineError) || error.code !== 'queue_unavailable') {
      await connection[Symbol.asyncDispose]();
      throw error;
    }
    logger.warn({ error }, 'redis is not reachable yet');
  }
  const keys = createQueueKeys(prefix);
  const dispose = () => connection[Symbol.asyncDispose]();
  const queue =
    shards === 1
      ? createRedisQueue(connection, { keys, maxPending, endedTtlMs })
      : createShardedQueue(
          Array.from({ length: shards }, (_, n) =>
            createRedisQueue(connection, {
              keys: createQueueKeys(`${prefix}:${n}`),
              maxPending: 0,
              endedTtlMs,
            }),
          ),
          maxPending,
        );
  return {
    queue: { ...queue, [Symbol.asyncDispose]: dispose },
    registry: createRedisRegistry(connection, keys),
    [Symbol.asyncDispose]: dispose,
  };
}

/** Refuses a Redis that would drop jobs when it is full, and warns of one that forgets them when it ends. */
async function requireSafe(connection: RedisConnection, logger: Logger): Promise<void> {
  for (const info of await connection.info()) {
    const read = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]?.trim();
    const version = read('redis_version') ?? '';
    if (Number.parseInt(version, 10) < 7) {
      throw new VitrineError('queue_unsafe', `Redis ${version} is too old.`, {
        suggestion: 'Use Redis 7.0 or later.',
      });
    }
    const policy = read('maxmemory_policy') ?? 'noeviction';
    if (policy !== 'noeviction') {
      throw new VitrineError('queue_unsafe', `Redis may drop jobs: its maxmemory-policy is ${policy}.`);
    }
    if (read('aof_enabled') === '0') {
      logger.warn('redis keeps no append-only file: jobs of its last minutes are lost when it ends abruptly');
    }
  }
}
