import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cancel, claim, complete, defer, fail, newJob, renew, retry } from '../support/jobs.ts';
import { openRedisQueue } from '../support/redis-queue.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, damage in Redis: ${reason}.`);

describe.skipIf(reason !== null)('what is stored in Redis', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  function open(over: Parameters<typeof openRedisQueue>[1] = {}) {
    const prefix = randomUUID();
    const queue = openRedisQueue(redis.url, { prefix, ...over });
    return { queue, key: (name: string) => `{${prefix}}:${name}` };
  }

  it('is readable JSON: what a job is, its payload, and what became of it', async () => {
    const { queue, key } = open();
    await using _ = queue;
    const job = newJob('a', { version: 7, priority: 'high' });
    await queue.enqueue([job]);
    const record = JSON.parse((await redis.client.hget(key('jobs'), job.id)) ?? '');
    expect(record).toEqual({
      key: job.key,
      product: 'a',
      image: 'main',
      host: 'images.example',
      priority: 'high',
      max_attempts: 3,
      version: '7',
      sequence: expect.stringMatching(/^\d{16}$/),
      enqueued_at: expect.any(Number),
    });
    expect(await redis.client.hget(key('data'), job.id)).toBe(JSON.stringify(job.data));
    expect(await redis.client.hlen(key('states'))).toBe(0);

    const { jobs } = await claim(queue);
    await queue.settle([complete(jobs[0]!)]);
    const state = JSON.parse((await redis.client.hget(key('states'), job.id)) ?? '');
    expect(state).toMatchObject({ state: 'completed', worker: 'worker', result: { outcome: 'indexed' } });
  });

  it('leads to no claim by a stray entry of a line', async () => {
    const { queue, key } = open();
    await using _ = queue;
    await queue.enqueue([newJob('a'), newJob('b'), newJob('c')]);
    const { jobs } = await claim(queue, { max: 2 });
    const [ended, running] = [jobs[0]!, jobs[1]!];
    await queue.settle([complete(ended)]);
    await redis.client.zadd(key('queued:high'), 1, ended.id, 2, 'unheard of', 3, running.id);
    expect((await claim(queue)).jobs).toMatchObject([{ data: { productId: 'c' } }]);
    expect(await queue.status(ended.id)).toMatchObject({ status: 'completed' });
    expect(await renew(queue, [running])).toEqual(['renewed']);
    expect(await redis.client.zcard(key('queued:high'))).toBe(0);
  });

  it('is repaired: a job that is in no line, and a follow-up of nothing, get back in line', async () => {
    const { queue, key } = open();
    await using _ = queue;
    const [lost, hidden, running, follow] = ['lost', 'hidden', 'c', 'c'].map((name) => newJob(name));
    await queue.enqueue([lost!, hidden!, running!]);
    const { jobs } = await claim(queue);
    await queue.enqueue([follow!]);
    await queue.settle(jobs.slice(0, 2).map((lease) => retry(lease, 0)));
    await redis.client.zrem(key('queued:normal'), lost!.id);
    await redis.client.del(key('images'));
    await redis.client.hdel(key('jobs'), running!.id);
    expect(await queue.cleanup()).toMatchObject({ repaired: 3, checked: 3 });
    expect(await queue.cleanup()).toMatchObject({ repaired: 0, checked: 3 });
    const again = await claim(queue);
    expect(new Set(again.jobs.map(({ id }) => id))).toEqual(new Set([lost!.id, hidden!.id, follow!.id]));
  });

  it('is repaired by reaping alone, a few jobs at a time', async () => {
    const { queue, key } = open();
    await using _ = queue;
    await queue.enqueue(Array.from({ length: 200 }, (_, i) => newJob(`p${i}`)));
    await redis.client.del(key('queued:normal'));
    await until('all are back in line', async () => {
      await queue.reap();
      return (await redis.client.zcard(key('queued:normal'))) === 200 || undefined;
    });
  });

  it('holds up nobody when it is unreadable: that job is a dead letter', async () => {
    const { queue, key } = open();
    await using _ = queue;
    const [garbled, foreign, bare, good] = ['a', 'b', 'c', 'd'].map((name) => newJob(name));
    await queue.enqueue([garbled!, foreign!, bare!, good!]);
    await redis.client.hset(key('jobs'), garbled!.id, '{"state":"queu', foreign!.id, '[1]');
    await redis.client.hdel(key('data'), bare!.id);
    expect((await claim(queue)).jobs).toMatchObject([{ id: good!.id }]);
    for (const job of [garbled!, foreign!, bare!]) {
      expect(await queue.status(job.id)).toMatchObject({
        status: 'failed',
        lastError: { code: 'job_unreadable' },
      });
    }
    expect(await queue.list({ status: 'failed', code: 'job_unreadable', limit: 10 })).toMatchObject({
      total: 3,
    });
    expect(await queue.redrive('all')).toBe(0);
    expect(await queue.purgeDead('all')).toBe(3);
  });

  it('is a dead letter too when it becomes unreadable while the job runs', async () => {
    const { queue, key } = open({ lease: { leaseMs: 50, staleHeartbeatMs: 0, outageMs: 10_000 } });
    await using _ = queue;
    await queue.enqueue([newJob('a')]);
    const { jobs } = await claim(queue);
    await redis.client.hset(key('jobs'), jobs[0]!.id, 'x');
    expect(await renew(queue, jobs)).toEqual(['lost']);
    expect(await queue.settle([complete(jobs[0]!)])).toEqual(['lost']);
    await until('it is found', async () => {
      await queue.reap();
      return (await queue.status(jobs[0]!.id))?.status === 'failed' || undefined;
    });
    expect(await queue.stats()).toMatchObject({ processing: 0, dead: 1 });
  });

  it('is refused when another version of Vitrine wrote it, until it is gone', async () => {
    const prefix = randomUUID();
    await redis.client.hset(`{${prefix}}:jobs`, 'id', 'a record of format 1');
    await using old = openRedisQueue(redis.url, { prefix });
    await expect(old.enqueue([newJob('a')])).rejects.toMatchObject({
      code: 'queue_format',
      message: expect.stringContaining('format 1'),
    });
    await redis.client.del(`{${prefix}}:jobs`);
    await until('it is usable', () =>
      old.enqueue([newJob('a')]).then(
        () => true as const,
        () => undefined,
      ),
    );

    await redis.client.set(`{${prefix}}:format`, '3');
    await using newer = openRedisQueue(redis.url, { prefix });
    await expect(newer.claim({ workerId: 'w', claimId: 'c', max: 1 })).rejects.toMatchObject({
      code: 'queue_format',
      message: expect.stringContaining('format 3'),
    });
  });

  it('is gone when it has ended and its time is over', async () => {
    const { queue, key } = open({ endedTtlMs: 1, lease: { leaseMs: 20, staleHeartbeatMs: 5, outageMs: 5 } });
    await using _ = queue;
    await queue.enqueue(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => newJob(name)));
    await queue.pause();
    await queue.resume();
    const { jobs } = await claim(queue);
    await queue.settle([
      complete(jobs[0]!),
      fail(jobs[1]!),
      cancel(jobs[2]!),
      retry(jobs[3]!, 0),
      defer(jobs[4]!, 5),
      defer(jobs[5]!, 5),
    ]);
    await queue.purgeDead('all');
    for (const { id } of jobs.slice(3)) await queue.cancel(id);
    const kept = new Set(['format', 'meta', 'rates', 'durations', 'hosts', 'failed_by_code'].map(key));
    await until('only numbers are left', async () => {
      await queue.reap();
      await claim(queue);
      const left = await redis.client.keys(key('*'));
      return left.every((name) => kept.has(name) || name.includes(':heartbeats')) || undefined;
    });
  });
});
