import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe } from 'vitest';
import { parseRedisUrl } from '../../src/config/redis-target.ts';
import type { QueueSettings } from '../../src/queue/port.ts';
import { createRedisQueue } from '../../src/queue/redis/queue.ts';
import { queueSettings } from '../support/jobs.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { describeJobQueue } from './job-queue.contract.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, the queue on Redis: ${reason}.`);

describe.skipIf(reason !== null)('with redis-server', () => {
  let redis: RedisServer;
  let prefix = '';
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  const logger = pino({ level: 'silent' });
  const connect = async (settings: Partial<QueueSettings> = {}) =>
    createRedisQueue({ target: parseRedisUrl(redis.url), prefix, logger, ...queueSettings, ...settings });
  describeJobQueue('Redis', {
    open: (settings) => {
      prefix = randomUUID();
      return connect(settings);
    },
    reopen: connect,
    spoil: async (id) => {
      await redis.client.hset(`{${prefix}}:data`, id, '{"image":');
    },
  });
});
