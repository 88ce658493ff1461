import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/observability/system-clock.ts';
import { type JobQueue, type NewJob, toLeaseTimes } from '../../src/queue/port.ts';
import { createRedisQueue } from '../../src/queue/redis/queue.ts';
import { createSpooledQueue, type SpooledQueue } from '../../src/queue/spool/spooled-queue.ts';
import { createTempFolder } from '../support/context.ts';
import { newJob, toImageData } from '../support/jobs.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.log(`spooled queue: skipped, ${reason}`);

const logger = pino({ level: 'silent' });
const settings = {
  lease: toLeaseTimes(15_000),
  maxPending: 10,
  endedTtlMs: 86_400_000,
  maxEnded: 1_000,
  maxDead: 1_000,
  maxDeadInlineBytes: 1_000_000,
};
const toJobs = (from: number, to: number): readonly NewJob[] =>
  Array.from({ length: to - from }, (_, index) => newJob(`product-${from + index}`));

describe.skipIf(reason !== null)('a queue with a spool, before a real Redis', () => {
  let stack: AsyncDisposableStack;
  let redis: RedisServer;
  let backend: JobQueue;
  let file: string;
  const create = () =>
    createSpooledQueue(backend, { file, maxBytes: 1e9, clock: systemClock, logger, forwardEveryMs: 50 });
  const untilForwarded = (queue: SpooledQueue) =>
    until('the forwarding', () => (queue.spooledCount() === 0 ? true : undefined));

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    file = join(stack.use(await createTempFolder()).path, 'spool.sqlite');
    // Redis is killed: what it answered must be in its file by then.
    redis = stack.use(await startRedis(['--appendfsync', 'always']));
    const target = { kind: 'single', options: { host: '127.0.0.1', port: redis.port, db: 0 } } as const;
    backend = stack.use(await createRedisQueue({ target, prefix: 't', logger, ...settings }));
    await backend.ping();
  });
  afterEach(() => stack.disposeAsync());

  test('is the queue itself while Redis is there', async () => {
    const queue = stack.use(create());
    const [answer] = await queue.enqueue(toJobs(0, 1));
    expect(answer).toMatchObject({ status: 'queued', position: 1 });
    expect(answer).not.toHaveProperty('spooled', true);
    expect(await queue.stats()).toMatchObject({ spooled: 0 });
  });

  test('keeps jobs while Redis is down, and forwards them in their order, whatever MAX_PENDING is', async () => {
    const queue = stack.use(create());
    await redis.kill();
    const jobs = [...toJobs(0, 3), ...toJobs(3, 20)];
    const first = await queue.enqueue(jobs.slice(0, 3));
    expect(first).toMatchObject(jobs.slice(0, 3).map(({ id }) => ({ spooled: true, id, version: null })));
    expect(await queue.status(jobs[1]!.id)).toMatchObject({ status: 'queued', productId: 'product-1' });
    await queue.enqueue(jobs.slice(3));
    expect(queue.spooledCount()).toBe(20);

    await redis.restart();
    await untilForwarded(queue);
    const views = await Promise.all(jobs.map(({ id }) => queue.status(id)));
    expect(views.map((view) => view?.status)).toEqual(Array(20).fill('queued'));
    const versions = views.map((view) => view?.version ?? 0);
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 20 }, spooled: 0 });
  });

  test('keeps its jobs when the process restarts', async () => {
    await redis.kill();
    const jobs = toJobs(0, 2);
    {
      await using queue = create();
      await queue.enqueue(jobs);
    }
    await redis.restart();
    const queue = stack.use(create());
    await untilForwarded(queue);
    expect(await queue.status(jobs[1]!.id)).toMatchObject({ status: 'queued' });
  });

  test('a spooled job does not replace a newer one that reached Redis before it', async () => {
    await redis.kill();
    const [old, newer] = [
      newJob('a', { url: 'http://old.example/' }),
      newJob('a', { url: 'http://new.example/' }),
    ];
    {
      await using queue = create();
      await queue.enqueue([old]);
    }
    await redis.restart();
    await until('Redis', () => backend.enqueue([newer]).catch(() => undefined));
    const queue = stack.use(create());
    await untilForwarded(queue);
    const { jobs } = await queue.claim({ workerId: 'worker', claimId: 'claim', max: 10 });
    expect(jobs.map((job) => toImageData(job).image)).toEqual([newer.data.image]);
  });

  test('a job that is cancelled in the spool is reported to its callback address', async () => {
    const queue = stack.use(create());
    await redis.kill();
    const callbackUrl = 'https://shop.example/hook';
    const [sent, spooled, deleted] = ['a', 'b', 'c'].map((id) => newJob(id, { callbackUrl })) as [
      NewJob,
      NewJob,
      NewJob,
    ];
    for (const job of [sent, spooled, deleted]) await queue.enqueue([job]);
    expect(await queue.cancel(sent.id)).toBe('requested');
    expect(await queue.cancel(spooled.id)).toBe('requested');
    await redis.restart();
    await untilForwarded(queue);
    await queue.forgetProduct('c');
    const { jobs } = await queue.deliveries({ limit: 10 });
    expect(jobs.map(({ delivery }) => delivery?.jobId).toSorted()).toEqual(
      [sent, spooled, deleted].map(({ id }) => id).toSorted(),
    );
    expect(await queue.status(spooled.id)).toMatchObject({ status: 'cancelled' });
  });

  test('a delay counts from the acceptance', async () => {
    const queue = stack.use(create());
    await redis.kill();
    const acceptedAt = Date.now();
    const job = newJob('a', { notBefore: { delayMs: 60_000 } });
    await queue.enqueue([job]);
    await systemClock.sleep(500);
    await redis.restart();
    await untilForwarded(queue);
    const view = await queue.status(job.id);
    expect(view?.status).toBe('delayed');
    // The call that found Redis down took its time, and counts too.
    expect(view?.availableAt).toBeLessThan(acceptedAt + 60_000 + 5_500);
    expect(view?.availableAt).toBeGreaterThanOrEqual(acceptedAt + 60_000 - 1_000);
  });

  test('a job that is cancelled while its first enqueue was never answered is cancelled in Redis', async () => {
    const [job] = toJobs(0, 1) as [NewJob];
    const queue = stack.use(create());
    await backend.enqueue([job]);
    await redis.kill();
    await queue.enqueue([job]);
    expect(await queue.cancel(job.id)).toBe('requested');
    await redis.restart();
    await untilForwarded(queue);
    expect(await queue.status(job.id)).toMatchObject({ status: 'cancelled' });
  });

  test('a spooled job that replaces a waiting one is known by its own id too', async () => {
    const queue = stack.use(create());
    const [older, newer] = [newJob('a'), newJob('a')];
    await queue.enqueue([older]);
    await redis.kill();
    await queue.enqueue([newer]);
    await redis.restart();
    await untilForwarded(queue);
    expect(await queue.status(newer.id)).toMatchObject({ id: older.id, status: 'queued' });
  });

  test('a Redis that is full does not fill the spool', async () => {
    const queue = stack.use(create());
    await redis.client.config('SET', 'maxmemory', '1');
    await expect(queue.enqueue(toJobs(0, 1))).rejects.toMatchObject({ code: 'queue_full' });
    expect(queue.spooledCount()).toBe(0);
  });
});
