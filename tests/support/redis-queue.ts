import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { parseRedisUrl } from '../../src/config/redis-target.ts';
import type { JobQueue } from '../../src/queue/port.ts';
import { createRedisQueue, type RedisQueueSettings } from '../../src/queue/redis/queue.ts';
import { queueSettings } from './jobs.ts';

/** A queue on the Redis at the address, by default under a prefix of its own. */
export function openRedisQueue(url: string, over: Partial<RedisQueueSettings> = {}): JobQueue {
  const logger = pino({ level: 'silent' });
  return createRedisQueue({
    target: parseRedisUrl(url),
    prefix: randomUUID(),
    logger,
    ...queueSettings,
    ...over,
  });
}
