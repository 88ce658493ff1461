import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type JobQueue, toLeaseTimes } from '../../src/queue/port.ts';
import { SCRIPTS } from '../../src/queue/redis/scripts.ts';
import {
  brokenImage,
  claim,
  complete,
  crash,
  crashing,
  fail,
  newInlineJob,
  newJob,
  reapUntilGone,
  renew,
  retry,
} from '../support/jobs.ts';
import { openRedisQueue } from '../support/redis-queue.ts';
import { freePort, type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';
import { newWorkerReport } from '../support/worker-reports.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, failures of Redis: ${reason}.`);

const isBack = (queue: JobQueue) => () =>
  queue.ping().then(
    () => true as const,
    () => undefined,
  );

describe.skipIf(reason !== null)('the queue when Redis fails', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  describe('a lost reply', () => {
    it('adds nothing twice when an enqueue is sent again', async () => {
      await using proxy = await startTcpProxy(redis.port);
      await using queue = openRedisQueue(`redis://127.0.0.1:${proxy.port}`);
      await queue.enqueue([newJob('before')]);
      const lost = proxy.loseReplyTo(SCRIPTS.enqueue.sha);
      const jobs = [newJob('a'), newJob('b'), newJob('a')];
      const answers = await queue.enqueue(jobs);
      await lost;
      expect(answers.map(({ id, replaced }) => [id, replaced])).toEqual([
        [jobs[0]!.id, false],
        [jobs[1]!.id, false],
        [jobs[0]!.id, true],
      ]);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 3 } });
    });

    it('returns the jobs of the first claim when it is sent again', async () => {
      await using proxy = await startTcpProxy(redis.port);
      await using queue = openRedisQueue(`redis://127.0.0.1:${proxy.port}`);
      const jobs = [newJob('a'), newJob('b'), newJob('c')];
      await queue.enqueue(jobs);
      const lost = proxy.loseReplyTo(SCRIPTS.claim.sha);
      const claimed = await claim(queue, { max: 2 });
      await lost;
      expect(claimed.jobs.map(({ id }) => id)).toEqual(jobs.slice(0, 2).map(({ id }) => id));
      expect(await queue.stats()).toMatchObject({ processing: 2, waiting: { normal: 1 } });
    });

    it('settles once, and says so when asked again', async () => {
      await using proxy = await startTcpProxy(redis.port);
      await using queue = openRedisQueue(`redis://127.0.0.1:${proxy.port}`);
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      const lost = proxy.loseReplyTo(SCRIPTS.settle.sha);
      expect(await queue.settle([complete(jobs[0]!), fail(jobs[1]!)])).toEqual(['settled', 'settled']);
      await lost;
      expect(await queue.stats()).toMatchObject({ completed: 1, failed: 1, dead: 1 });
    });
  });

  it('loads its scripts again when Redis has forgotten them', async () => {
    await using queue = openRedisQueue(redis.url);
    await queue.enqueue([newJob('a')]);
    await redis.client.script('FLUSH');
    const { jobs } = await claim(queue);
    await redis.client.script('FLUSH');
    expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
    await redis.client.script('FLUSH');
    expect(await queue.stats()).toMatchObject({ completed: 1 });
  });

  it('loses and doubles nothing when its connections are cut under load', async () => {
    await using proxy = await startTcpProxy(redis.port);
    await using queue = openRedisQueue(`redis://127.0.0.1:${proxy.port}`);
    const jobs = Array.from({ length: 300 }, (_, i) => newJob(`product-${i}`));
    const stored: Promise<unknown>[] = [];
    for (const [i, job] of jobs.entries()) {
      stored.push(queue.enqueue([job]));
      if (i % 100 === 50) proxy.cut();
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await Promise.all(stored);
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 300 } });
    expect(await queue.cleanup()).toMatchObject({ repaired: 0, checked: 300 });
  });

  it('waits for a read-only replica to become a master again', async () => {
    await using other = await startRedis();
    await using queue = openRedisQueue(other.url);
    await queue.enqueue([newJob('before')]);
    await other.client.replicaof('127.0.0.1', String(await freePort()));
    const stored = queue.enqueue([newJob('a')]);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await other.client.replicaof('NO', 'ONE');
    await stored;
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 2 } });
  });

  it('reports the queue as unreachable while Redis stays read-only', async () => {
    await using other = await startRedis();
    await using queue = openRedisQueue(other.url, { commandTimeoutMs: 300 });
    await other.client.replicaof('127.0.0.1', String(await freePort()));
    await expect(queue.enqueue([newJob('a')])).rejects.toMatchObject({ code: 'queue_unavailable' });
  });

  it('drains while Redis is full, and takes jobs again when it has', async () => {
    await using full = await startRedis(['--maxmemory', '8mb']);
    const prefix = randomUUID();
    await using queue = openRedisQueue(full.url, { prefix, endedTtlMs: 1 });
    await using dying = openRedisQueue(full.url, { prefix, ...crashing });
    const stored: string[] = [];
    // Large ones first, so that few fill it; then small ones into what is left.
    for (const size of [200_000, 20_000, 1_000]) {
      for (let full = false; !full; ) {
        const job = newJob(`product-${stored.length}`, { url: `http://images.example/${'x'.repeat(size)}` });
        await queue.enqueue([job]).then(
          () => stored.push(job.id),
          (error: unknown) => {
            expect(error).toMatchObject({
              code: 'queue_full',
              suggestion: expect.stringContaining('MAX_ENDED'),
            });
            full = true;
          },
        );
        expect(stored.length).toBeLessThan(10_000);
      }
    }
    expect(stored.length).toBeGreaterThan(10);

    // Everything but enqueueing works. A long lease: nothing is to crash here but what shall.
    const { jobs } = await claim(queue, { max: 4 });
    expect(jobs).toHaveLength(4);
    expect(await renew(queue, jobs)).toEqual(jobs.map(() => 'renewed'));
    expect(await queue.settle([fail(jobs[0]!), retry(jobs[1]!, 0)])).toEqual(['settled', 'settled']);
    expect(await queue.redrive('all')).toBe(1);
    expect(await queue.cancel(jobs[2]!.id)).toBe('requested');
    await queue.pause();
    await queue.resume();
    expect(await crash(dying, { max: 1 })).toMatchObject({ recovered: 1, poisoned: 0 });
    expect(await queue.forgetProduct('product-3')).toMatchObject({ imageIds: ['main'] });
    expect(await queue.status(stored[5]!)).toMatchObject({ status: 'queued' });
    expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
    await queue.heartbeat(newWorkerReport('w'));
    expect(await queue.workers()).toHaveLength(1);

    await queue.settle(jobs.slice(2).map((lease) => complete(lease)));
    for (const suspect of [false, true]) {
      for (;;) {
        const rest = await claim(queue, { max: 1_000, suspect });
        if (rest.jobs.length === 0) break;
        await queue.settle(rest.jobs.map((lease) => complete(lease)));
      }
    }
    await until('the memory is free', () =>
      queue.enqueue([newJob('after')]).then(
        () => true as const,
        () => undefined,
      ),
    );
  });

  it('keeps acknowledged jobs when Redis is killed, and reconnects by itself', async () => {
    await using other = await startRedis(['--appendfsync', 'always']);
    await using queue = openRedisQueue(other.url, { commandTimeoutMs: 2_000 });
    const jobs = [newJob('a'), newJob('b')];
    await queue.enqueue(jobs);
    const { jobs: claimed } = await claim(queue, { max: 1 });
    await other.kill();
    await expect(queue.stats()).rejects.toMatchObject({ code: 'queue_unavailable' });
    await other.restart();
    await until('the queue is back', isBack(queue));
    expect(await queue.stats()).toMatchObject({ processing: 1, waiting: { normal: 1 } });
    expect(await queue.settle(claimed.map((lease) => complete(lease)))).toEqual(['settled']);
  });

  it('hides a quick restart from its callers', async () => {
    await using other = await startRedis(['--appendfsync', 'always']);
    await using queue = openRedisQueue(other.url, { commandTimeoutMs: 30_000 });
    await other.kill();
    const [, answers] = await Promise.all([other.restart(), queue.enqueue([newJob('a')])]);
    expect(answers).toHaveLength(1);
  });

  it('fails calls to a Redis that does not answer, and reconnects', async () => {
    await using other = await startRedis();
    await using queue = openRedisQueue(other.url, { commandTimeoutMs: 300 });
    const job = newJob('a');
    other.process.kill('SIGSTOP');
    await expect(queue.enqueue([job])).rejects.toMatchObject({ code: 'queue_unavailable' });
    await expect(queue.ping()).rejects.toMatchObject({ code: 'queue_unavailable' });
    other.process.kill('SIGCONT');
    await until('the queue is back', isBack(queue));
    await queue.enqueue([job]);
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 } });
  });

  it('starts without Redis, and works as soon as it is there', async () => {
    await using other = await startRedis();
    await other.kill();
    await using queue = openRedisQueue(other.url, { commandTimeoutMs: 500 });
    await expect(queue.enqueue([newJob('a')])).rejects.toMatchObject({ code: 'queue_unavailable' });
    await other.restart();
    await until('the queue is there', () =>
      queue.enqueue([newJob('a')]).then(
        () => true as const,
        () => undefined,
      ),
    );
  });

  it('counts no crash for workers that outlive an outage longer than their lease', async () => {
    await using other = await startRedis(['--appendfsync', 'always']);
    const lease = toLeaseTimes(300);
    await using queue = openRedisQueue(other.url, { lease, commandTimeoutMs: 1_000 });
    const job = newJob('a');
    await queue.enqueue([job]);
    await queue.reap();
    const { jobs } = await claim(queue);
    await other.kill();
    const downSince = performance.now();
    await until('the lease is long over', () => performance.now() > downSince + 1_000 || undefined);
    await other.restart();
    await until('the queue is back', isBack(queue));
    // Another worker reaps before this one has renewed.
    expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 0 });
    expect(await renew(queue, jobs)).toEqual(['renewed']);
    expect(await queue.settle(jobs.map((lease) => complete(lease)))).toEqual(['settled']);
    expect(await queue.status(job.id)).toMatchObject({ status: 'completed', crashes: 0, attempts: 1 });
  });

  it('counts a crash for a worker that an outage ended', async () => {
    await using other = await startRedis(['--appendfsync', 'always']);
    await using queue = openRedisQueue(other.url, { lease: toLeaseTimes(300), commandTimeoutMs: 1_000 });
    await queue.enqueue([newJob('a')]);
    const { jobs } = await claim(queue);
    await other.kill();
    await other.restart();
    await until('the queue is back', isBack(queue));
    expect(await reapUntilGone(queue, jobs)).toEqual({ recovered: 1, poisoned: 0 });
    expect(await queue.status(jobs[0]!.id)).toMatchObject({ crashes: 1 });
  });

  it('lets concurrent enqueues in up to the limit, and not one more', async () => {
    const prefix = randomUUID();
    await using one = openRedisQueue(redis.url, { prefix, maxPending: 50 });
    await using two = openRedisQueue(redis.url, { prefix, maxPending: 50 });
    const batches = Array.from({ length: 10 }, (_, b) =>
      Array.from({ length: 40 }, (_, i) => newJob(`p${b}-${i}`)),
    );
    const answers = await Promise.all(
      batches.map((jobs, b) => (b % 2 === 0 ? one : two).enqueue(jobs).catch(() => [])),
    );
    expect(answers.flat()).toHaveLength(50);
    expect(await one.stats()).toMatchObject({ waiting: { normal: 50 } });
    // What was accepted before needs no room.
    expect(await one.enqueue([newJob('spooled')], { accepted: true })).toHaveLength(1);
  });

  it('stores half a surrogate pair as U+FFFD', async () => {
    await using queue = openRedisQueue(redis.url);
    await queue.enqueue([newJob('broken \ud83d')]);
    const { jobs } = await claim(queue);
    expect(jobs).toMatchObject([{ data: { productId: 'broken \ufffd' } }]);
    const error = { ...brokenImage, message: 'Cut off: \ud83d' };
    expect(await queue.settle([fail(jobs[0]!, error)])).toEqual(['settled']);
    expect(await queue.status(jobs[0]!.id)).toMatchObject({ lastError: { message: 'Cut off: \ufffd' } });
    expect(await queue.forgetProduct('broken \ud83d')).toMatchObject({ cancelled: 1 });
  });

  it('reports an error of a script at once, and the job can be settled when its cause is gone', async () => {
    const prefix = randomUUID();
    await using queue = openRedisQueue(redis.url, { prefix, commandTimeoutMs: 60_000 });
    await queue.enqueue([newJob('a')]);
    const { jobs } = await claim(queue);
    await redis.client.set(`{${prefix}}:completed`, 'not a sorted set');
    await expect(queue.settle(jobs.map((lease) => complete(lease)))).rejects.toMatchObject({
      code: 'queue_refused',
    });
    await redis.client.del(`{${prefix}}:completed`);
    expect(await queue.settle(jobs.map((lease) => complete(lease)))).toEqual(['settled']);
    expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
  });

  it('claims what it can take over a slow link, by bytes', async () => {
    await using queue = openRedisQueue(redis.url);
    const jobs = Array.from({ length: 4 }, (_, i) => newInlineJob(`p${i}`, 1_000_000));
    await queue.enqueue(jobs);
    expect((await claim(queue, { maxBytes: 2_500_000 })).jobs).toHaveLength(2);
    expect((await claim(queue, { maxBytes: 10 })).jobs).toHaveLength(1);
  });
});
