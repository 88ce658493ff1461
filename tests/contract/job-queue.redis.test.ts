import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe } from 'vitest';
import { createRedisBackend } from '../../src/queue/redis/redis-backend.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { type BackendOptions, describeJobQueue } from './job-queue.contract.ts';
import { describeWorkerRegistry } from './worker-registry.contract.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, the queue on Redis: ${reason}.`);

describe.skipIf(reason !== null)('with redis-server', () => {
  let redis: RedisServer;
  let prefix = '';
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  const connect = ({ maxPending = 0, ...options }: BackendOptions = {}) =>
    createRedisBackend({ url: redis.url, prefix, logger: pino({ level: 'silent' }), maxPending, ...options });
  const harness = {
    open: (options?: BackendOptions) => {
      prefix = randomUUID();
      return connect(options);
    },
    reopen: connect,
  };
  describeJobQueue('Redis', harness);
  describeWorkerRegistry('Redis', harness);
});
