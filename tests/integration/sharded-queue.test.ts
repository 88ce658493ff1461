import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JobView } from '../../src/queue/port.ts';
import { createRedisBackend, type QueueBackend } from '../../src/queue/redis/redis-backend.ts';
import { brokenImage, claim, complete, crash, fail, newJob } from '../support/jobs.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, the queue in shards: ${reason}.`);

const SHARDS = 3;
const products = Array.from({ length: 30 }, (_, index) => `product-${index}`);

describe.skipIf(reason !== null)('a queue in three shards', () => {
  let stack: AsyncDisposableStack;
  let redis: RedisServer;
  const connect = async (maxPending = 0): Promise<QueueBackend> =>
    stack.use(
      await createRedisBackend({
        url: redis.url,
        prefix: 'q',
        shards: SHARDS,
        maxPending,
        logger: pino({ level: 'silent' }),
      }),
    );

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    redis = stack.use(await startRedis());
  });
  afterEach(() => stack.disposeAsync());

  test('spreads products over groups of keys, each with one hash tag, and answers in the order of the call', async () => {
    const { queue } = await connect();
    const jobs = products.map((product) => newJob(product));
    const answers = await queue.enqueue(jobs);
    expect(answers.map(({ id }) => id)).toEqual(jobs.map(({ id }) => id));
    expect(await queue.stats()).toMatchObject({ waiting: { normal: products.length } });
    const tags = (await redis.client.keys('*')).map((key) => /^\{(.*?)\}/.exec(key)?.[1]);
    expect(new Set(tags)).toEqual(new Set(['q:0', 'q:1', 'q:2']));
    for (const shard of [0, 1, 2])
      expect(await redis.client.zcard(`{q:${shard}}:waiting:normal`)).toBeGreaterThan(0);
  });

  test('hands out each job once, settles it where it is, and keeps one job a product image', async () => {
    const { queue } = await connect();
    const jobs = products.map((product) => newJob(product));
    await queue.enqueue(jobs);
    const [again] = await queue.enqueue([newJob('product-7')]);
    expect(again).toMatchObject({ replaced: true, id: jobs[7]!.id });

    const first = (await claim(queue, { max: 20 })).jobs;
    const second = (await claim(queue, { max: 20 })).jobs;
    expect(new Set([...first, ...second].map(({ id }) => id))).toEqual(new Set(jobs.map(({ id }) => id)));
    expect(await queue.renew(first, 60_000)).toEqual(first.map(() => 'renewed'));
    expect(await queue.settle(first.map(complete))).toEqual(first.map(() => 'settled'));
    expect(await queue.settle(first.map((job) => complete({ ...job, token: 'stale' })))).toEqual(
      first.map(() => 'lost'),
    );
    expect(await queue.status(first[0]!.id)).toMatchObject({ status: 'completed' });
    expect(await queue.stats()).toMatchObject({ processing: 10, completed: 20 });
    expect(await queue.active(100)).toHaveLength(10);
    expect(await queue.cleanup()).toMatchObject({ mended: 0 });
  });

  test("another process, which didn't claim the jobs, finds them by asking every shard", async () => {
    const { queue } = await connect();
    await queue.enqueue(products.map((product) => newJob(product)));
    const { jobs } = await claim(queue, { max: 30 });
    const other = (await connect()).queue;
    expect(await other.renew(jobs, 60_000)).toEqual(jobs.map(() => 'renewed'));
    expect(await other.settle(jobs.map(complete))).toEqual(jobs.map(() => 'settled'));
    expect(await other.cancel(jobs[0]!.id)).toBe('ended');
  });

  test('gives the first answer to a repeated claim', async () => {
    const { queue } = await connect();
    await queue.enqueue(products.map((product) => newJob(product)));
    const { jobs } = await claim(queue, { max: 12, claimId: 'c' });
    expect((await claim(queue, { max: 12, claimId: 'c' })).jobs.map(({ id }) => id)).toEqual(
      jobs.map(({ id }) => id),
    );
  });

  test('pages through all dead letters, and redrives, purges and counts them', async () => {
    const { queue } = await connect();
    await queue.enqueue(products.map((product) => newJob(product)));
    await queue.settle((await claim(queue, { max: 30 })).jobs.map((job) => fail(job)));
    const seen: JobView[] = [];
    let cursor: string | undefined;
    do {
      const page = await queue.dead({ limit: 7, ...(cursor !== undefined && { cursor }) });
      expect(page.total).toBe(30);
      seen.push(...page.jobs);
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    expect(new Set(seen.map(({ productId }) => productId))).toEqual(new Set(products));
    expect(await queue.stats()).toMatchObject({ dead: 30, failureRate: 1, recentlyDead: 30 });

    expect(await queue.redrive({ ids: [seen[0]!.id, seen[20]!.id] })).toBe(2);
    expect(await queue.purgeDead({ code: brokenImage.code })).toBe(28);
    expect(await queue.dead({ limit: 7 })).toEqual({ jobs: [], nextCursor: null, total: 0 });
    expect(await queue.flush()).toBe(2);
  });

  test('hands out one suspect at a time, whichever shard it is in', async () => {
    const { queue } = await connect();
    await queue.enqueue(products.slice(0, 6).map((product) => newJob(product)));
    await crash(queue);
    expect(await queue.reap()).toEqual({ recovered: 6, poisoned: 0 });
    expect(await claim(queue)).toEqual({ jobs: [], suspectsWaiting: 6 });
    expect((await claim(queue, { suspect: true })).jobs).toHaveLength(1);
  });

  test('is paused, resumed and limited as one', async () => {
    const { queue } = await connect(9);
    await queue.pause();
    expect(await queue.stats()).toMatchObject({ paused: true });
    await queue.resume();
    await expect(queue.enqueue(products.map((product) => newJob(product)))).rejects.toMatchObject({
      code: 'queue_full',
    });
  });
});
