import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRedisBackend } from '../../src/queue/redis/redis-backend.ts';
import { claim, complete, crash, fail, newJob, retry } from '../support/jobs.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, the queue over several groups of keys: ${reason}.`);
const SHARDS = 3;

describe.skipIf(reason !== null)('the queue over several groups of keys, on a Cluster', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis(['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1']);
    await redis.client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await until(
      'the cluster is ready',
      async () =>
        String(await redis.client.call('CLUSTER', 'INFO')).includes('cluster_state:ok') || undefined,
    );
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  const connect = (prefix: string = randomUUID(), maxPending = 0) =>
    createRedisBackend({
      url: `redis+cluster://127.0.0.1:${redis.port}`,
      prefix,
      shards: SHARDS,
      maxPending,
      logger: pino({ level: 'silent' }),
    });
  const products = (count: number) => Array.from({ length: count }, (_, i) => newJob(`product-${i}`));

  it('spreads products, answers in order, and gives each job to one claim', async () => {
    const prefix = randomUUID();
    await using backend = await connect(prefix);
    const { queue } = backend;
    const jobs = products(300);
    const stored = await queue.enqueue(jobs);
    expect(stored.map(({ id }) => id)).toEqual(jobs.map(({ id }) => id));
    const sizes = await Promise.all(
      [0, 1, 2].map((n) => redis.client.zcard(`{${prefix}:${n}}:waiting:normal`)),
    );
    expect(Math.min(...sizes)).toBeGreaterThan(50);
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 300 } });
    const claims = await Promise.all(Array.from({ length: 40 }, () => claim(queue, { max: 9 })));
    const claimed = claims.flatMap(({ jobs }) => jobs);
    expect(new Set(claimed.map(({ id }) => id))).toEqual(new Set(jobs.map(({ id }) => id)));
    expect(claimed).toHaveLength(300);
    expect(await queue.settle(claimed.map(complete))).toEqual(claimed.map(() => 'settled'));
    expect(await queue.stats()).toMatchObject({ completed: 300, processing: 0 });
    expect(await queue.cleanup()).toEqual({ recovered: 0, poisoned: 0, mended: 0, checked: 300 });
  });

  it('keeps to one job a product image, and to the limit of all groups together', async () => {
    await using backend = await connect(randomUUID(), 10);
    const { queue } = backend;
    await queue.enqueue(products(9));
    await expect(queue.enqueue([newJob('x'), newJob('y')])).rejects.toMatchObject({ code: 'queue_full' });
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 9 } });
    const answers = await queue.enqueue([...products(9), newJob('x')]);
    expect(answers.map(({ replaced }) => replaced)).toEqual([...Array(9).fill(true), false]);
    const { images, cancelled } = await queue.forgetProduct('product-4');
    expect([cancelled, images.length]).toEqual([1, 1]);
  });

  it('pages through the dead letters of all groups, newest first', async () => {
    await using backend = await connect();
    const { queue } = backend;
    await queue.enqueue(products(10));
    const dead: string[] = [];
    for (let n = 0; n < 10; n += 1) {
      const { jobs } = await claim(queue, { max: 1 });
      await queue.settle(jobs.map((job) => fail(job)));
      dead.unshift(jobs[0]!.id);
    }
    const seen: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: Awaited<ReturnType<typeof queue.dead>> = await queue.dead({
        limit: 4,
        ...(cursor === '' ? {} : { cursor }),
      });
      expect(page.total).toBe(10);
      seen.push(...page.jobs.map(({ id }) => id));
      cursor = page.nextCursor;
    }
    expect(seen).toEqual(dead);
    expect(await queue.redrive({ ids: dead.slice(0, 3) })).toBe(3);
    expect(await queue.redrive('all')).toBe(7);
    expect(await queue.flush()).toBe(10);
  });

  it('recovers, retries, pauses and remembers as one queue', async () => {
    await using backend = await connect();
    const { queue } = backend;
    await queue.enqueue(products(6));
    await crash(queue, { max: 3 });
    expect(await queue.reap()).toEqual({ recovered: 3, poisoned: 0 });
    const ordinary = await claim(queue);
    expect(ordinary).toMatchObject({ suspectsWaiting: 3 });
    expect(ordinary.jobs).toHaveLength(3);
    await queue.settle(ordinary.jobs.map((job) => retry(job, 3_600_000)));
    expect((await claim(queue, { suspect: true })).jobs).toHaveLength(1);
    expect(await queue.stats()).toMatchObject({ delayed: 3, processing: 1, waiting: { normal: 2 } });
    expect(await queue.active(10)).toHaveLength(1);
    await queue.pause();
    expect((await claim(queue, { suspect: true })).jobs).toEqual([]);
    expect(await queue.stats()).toMatchObject({ paused: true });
    await queue.resume();
    expect(await queue.remember('key', 'answer', 60_000)).toBeNull();
    expect(await queue.recall('key')).toBe('answer');
  });
});
