import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRedisBackend, type RedisBackendSettings } from '../../src/queue/redis/redis-backend.ts';
import { SCRIPTS } from '../../src/queue/redis/redis-scripts.ts';
import { claim, complete, crash, fail, newJob, retry } from '../support/jobs.ts';
import { freePort, type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, what Redis can suffer: ${reason}.`);
const logger = pino({ level: 'silent' });

const connect = (over: Partial<RedisBackendSettings> & { url: string }) =>
  createRedisBackend({ prefix: randomUUID(), logger, maxPending: 0, ...over });

describe.skipIf(reason !== null)('the queue while Redis suffers', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.[Symbol.asyncDispose]());

  describe('a lost reply', () => {
    it('adds nothing twice when an enqueue is sent again', async () => {
      await using proxy = await startTcpProxy(redis.port);
      await using backend = await connect({ url: `redis://127.0.0.1:${proxy.port}` });
      const { queue } = backend;
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

    it('gives a claim that is sent again the jobs of the first one', async () => {
      await using proxy = await startTcpProxy(redis.port);
      await using backend = await connect({ url: `redis://127.0.0.1:${proxy.port}` });
      const { queue } = backend;
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
      await using backend = await connect({ url: `redis://127.0.0.1:${proxy.port}` });
      const { queue } = backend;
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      const lost = proxy.loseReplyTo(SCRIPTS.settle.sha);
      expect(await queue.settle([complete(jobs[0]!), fail(jobs[1]!)])).toEqual(['settled', 'settled']);
      await lost;
      expect(await queue.stats()).toMatchObject({ completed: 1, failed: 1, dead: 1 });
    });
  });

  it('loads its scripts again when Redis has forgotten them', async () => {
    await using backend = await connect({ url: redis.url });
    const { queue } = backend;
    await queue.enqueue([newJob('a')]);
    await redis.client.script('FLUSH');
    const { jobs } = await claim(queue);
    await redis.client.script('FLUSH');
    expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
    await redis.client.script('FLUSH');
    expect(await queue.stats()).toMatchObject({ completed: 1 });
  });

  it('goes on when its connections are cut under load', async () => {
    await using proxy = await startTcpProxy(redis.port);
    await using backend = await connect({ url: `redis://127.0.0.1:${proxy.port}` });
    const { queue } = backend;
    const jobs = Array.from({ length: 300 }, (_, i) => newJob(`product-${i}`));
    const stored: Promise<unknown>[] = [];
    for (const [i, job] of jobs.entries()) {
      stored.push(queue.enqueue([job]));
      if (i % 100 === 50) proxy.cut();
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await Promise.all(stored);
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 300 } });
    expect(await queue.cleanup()).toMatchObject({ mended: 0, checked: 300 });
  });

  it('waits for a read-only replica to become a master again', async () => {
    await using other = await startRedis();
    await using backend = await connect({ url: other.url });
    const { queue } = backend;
    await queue.enqueue([newJob('before')]);
    await other.client.replicaof('127.0.0.1', String(await freePort()));
    const stored = queue.enqueue([newJob('a')]);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await other.client.replicaof('NO', 'ONE');
    await stored;
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 2 } });
  });

  it('says that the queue is away while Redis stays read-only', async () => {
    await using other = await startRedis();
    await using backend = await connect({ url: other.url, commandTimeoutMs: 300 });
    await other.client.replicaof('127.0.0.1', String(await freePort()));
    await expect(backend.queue.enqueue([newJob('a')])).rejects.toMatchObject({ code: 'queue_unavailable' });
  });

  it('drains while Redis is full, and takes jobs again when it has', async () => {
    await using full = await startRedis(['--maxmemory', '8mb']);
    await using backend = await connect({ url: full.url, endedTtlMs: 1 });
    const { queue } = backend;
    const stored: string[] = [];
    // Large ones first, so that few fill it; then small ones into what is left.
    for (const size of [200_000, 20_000, 1_000]) {
      for (let full = false; !full; ) {
        const job = newJob(`product-${stored.length}`, { url: `http://images.example/${'x'.repeat(size)}` });
        await queue.enqueue([job]).then(
          () => stored.push(job.id),
          (error: unknown) => {
            expect(error).toMatchObject({ code: 'queue_full' });
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
    expect(await queue.renew(jobs, 60_000)).toEqual(jobs.map(() => 'renewed'));
    expect(await queue.settle([fail(jobs[0]!), retry(jobs[1]!, 0)])).toEqual(['settled', 'settled']);
    expect(await queue.redrive('all')).toBe(1);
    expect(await queue.cancel(jobs[2]!.id)).toBe('requested');
    await queue.pause();
    await queue.resume();
    await crash(queue, { max: 1 });
    expect(await queue.reap()).toEqual({ recovered: 1, poisoned: 0 });
    expect(await queue.forgetProduct('product-3')).toMatchObject({ images: [{ imageId: 'main' }] });
    expect(await queue.status(stored[5]!)).toMatchObject({ status: 'queued' });
    expect(await queue.cleanup()).toMatchObject({ mended: 0 });
    await backend.registry.beat({ id: 'w' } as never, 1_000);
    expect(await backend.registry.list()).toHaveLength(1);

    await queue.settle(jobs.slice(2).map(complete));
    for (const suspect of [false, true]) {
      const rest = await claim(queue, { max: 10_000, suspect });
      await queue.settle(rest.jobs.map(complete));
    }
    await until('the memory is free', () =>
      queue.enqueue([newJob('after')]).then(
        () => true as const,
        () => undefined,
      ),
    );
  });

  it('keeps what it answered through a kill of Redis, and comes back by itself', async () => {
    await using other = await startRedis(['--appendfsync', 'always']);
    await using backend = await connect({ url: other.url, commandTimeoutMs: 2_000 });
    const { queue } = backend;
    const jobs = [newJob('a'), newJob('b')];
    await queue.enqueue(jobs);
    const { jobs: claimed } = await claim(queue, { max: 1 });
    await other.kill();
    await expect(queue.stats()).rejects.toMatchObject({ code: 'queue_unavailable' });
    await other.restart();
    await until('the queue is back', () =>
      queue.ping().then(
        () => true as const,
        () => undefined,
      ),
    );
    expect(await queue.stats()).toMatchObject({ processing: 1, waiting: { normal: 1 } });
    expect(await queue.settle(claimed.map(complete))).toEqual(['settled']);
  });

  it('hides a quick restart from its callers', async () => {
    await using other = await startRedis(['--appendfsync', 'always']);
    await using backend = await connect({ url: other.url, commandTimeoutMs: 30_000 });
    await other.kill();
    const [, answers] = await Promise.all([other.restart(), backend.queue.enqueue([newJob('a')])]);
    expect(answers).toHaveLength(1);
  });

  it('gives up on a Redis that answers nothing, and finds it again', async () => {
    await using other = await startRedis();
    await using backend = await connect({ url: other.url, commandTimeoutMs: 300 });
    const { queue } = backend;
    const job = newJob('a');
    other.process.kill('SIGSTOP');
    await expect(queue.enqueue([job])).rejects.toMatchObject({ code: 'queue_unavailable' });
    await expect(queue.ping()).rejects.toMatchObject({ code: 'queue_unavailable' });
    other.process.kill('SIGCONT');
    await until('the queue is back', () =>
      queue.ping().then(
        () => true as const,
        () => undefined,
      ),
    );
    await queue.enqueue([job]);
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 } });
  });

  it('starts without Redis, and works as soon as it is there', async () => {
    await using other = await startRedis();
    await other.kill();
    await using backend = await connect({ url: other.url, commandTimeoutMs: 500 });
    await expect(backend.queue.enqueue([newJob('a')])).rejects.toMatchObject({ code: 'queue_unavailable' });
    await other.restart();
    await until('the queue is there', () =>
      backend.queue.enqueue([newJob('a')]).then(
        () => true as const,
        () => undefined,
      ),
    );
  });

  it('gives out nothing by a stray entry of a line', async () => {
    const prefix = randomUUID();
    await using backend = await connect({ url: redis.url, prefix });
    const { queue } = backend;
    await queue.enqueue([newJob('a'), newJob('b'), newJob('c')]);
    const { jobs } = await claim(queue, { max: 2 });
    const [ended, running] = [jobs[0]!, jobs[1]!];
    await queue.settle([complete(ended)]);
    await redis.client.zadd(`{${prefix}}:waiting:high`, 1, ended.id, 2, 'unheard of', 3, running.id);
    expect((await claim(queue)).jobs).toMatchObject([{ data: { productId: 'c' } }]);
    expect(await queue.status(ended.id)).toMatchObject({ status: 'completed' });
    expect(await queue.renew([running], 1_000)).toEqual(['renewed']);
  });

  it('mends what was damaged from outside', async () => {
    const prefix = randomUUID();
    await using backend = await connect({ url: redis.url, prefix });
    const { queue } = backend;
    const key = (name: string) => `{${prefix}}:${name}`;
    const [lost, doubled, slotless, orphan] = ['lost', 'doubled', 'slotless', 'orphan'].map((name) =>
      newJob(name),
    );
    // A large payload is kept apart from its job.
    const bare = newJob('bare', { url: `http://images.example/${'x'.repeat(2_000)}` });
    const all = [lost!, doubled!, bare, slotless!, orphan!];
    await queue.enqueue(all);
    await redis.client.zrem(key('waiting:normal'), lost!.id);
    await redis.client.zadd(key('waiting:high'), 1, doubled!.id);
    await redis.client.hdel(key('data'), bare.id);
    await redis.client.hdel(key('slots'), slotless!.key);
    await redis.client.hdel(key('jobs'), orphan!.id);
    await redis.client.hset(key('leases'), 'unheard of', ['00', 1, 2, 'token', 'worker'].join('\0'));
    const report = await queue.cleanup();
    expect(report.mended).toBeGreaterThanOrEqual(6);
    expect(await redis.client.hlen(key('leases'))).toBe(0);
    expect(await queue.cleanup()).toMatchObject({ mended: 0, checked: 4 });
    const { jobs } = await claim(queue);
    expect(new Set(jobs.map(({ id }) => id))).toEqual(new Set([lost!.id, doubled!.id, slotless!.id]));
    expect(await queue.status(bare.id)).toMatchObject({
      status: 'failed',
      lastError: { code: 'internal_error' },
    });
  });

  it('forgets what ended long ago also when its entry was lost from outside', async () => {
    const prefix = randomUUID();
    await using backend = await connect({ url: redis.url, prefix, endedTtlMs: 1 });
    const { queue } = backend;
    await queue.enqueue([newJob('a')]);
    await queue.settle((await claim(queue)).jobs.map(complete));
    await redis.client.del(`{${prefix}}:ended`);
    await until('it is forgotten', async () => {
      await queue.cleanup();
      return (await redis.client.hlen(`{${prefix}}:jobs`)) === 0 || undefined;
    });
  });

  it('takes back a job whose claim was lost from outside', async () => {
    const prefix = randomUUID();
    await using backend = await connect({ url: redis.url, prefix });
    const { queue } = backend;
    await queue.enqueue([newJob('a')]);
    const { jobs } = await claim(queue, { leaseMs: 100 });
    await redis.client.del(`{${prefix}}:claims`, `{${prefix}}:claims-due`);
    expect(await queue.cleanup()).toMatchObject({ recovered: 0, mended: 1 });
    await until('it is taken back', async () => (await queue.reap()).recovered === 1 || undefined);
    expect(await queue.status(jobs[0]!.id)).toMatchObject({ status: 'queued', crashes: 1 });
  });

  it('stores the same whether the worker that claimed a job completes it or another process does', async () => {
    const prefix = randomUUID();
    await using backend = await connect({ url: redis.url, prefix });
    await using other = await connect({ url: redis.url, prefix });
    await backend.queue.enqueue([newJob('a'), newJob('b', { url: 'http://images.example/"b"' })]);
    const { jobs } = await claim(backend.queue);
    await backend.queue.settle([complete(jobs[0]!)]);
    await other.queue.settle([complete(jobs[1]!)]);
    const [own, others] = await Promise.all(jobs.map(({ id }) => backend.queue.status(id)));
    const { id, key: image, productId, version, enqueuedAt, endedAt, history, ...same } = own!;
    expect(others).toMatchObject(same);
    expect(others?.history.map(({ outcome, workerId }) => [outcome, workerId])).toEqual(
      history.map(({ outcome, workerId }) => [outcome, workerId]),
    );
    const fields = await Promise.all(
      jobs.map(async (job) => String(await redis.client.hget(`{${prefix}}:jobs`, job.id)).split('\0').length),
    );
    expect(fields[0]).toBe(fields[1]);
  });

  it('leaves no keys of jobs behind', async () => {
    const prefix = randomUUID();
    await using backend = await connect({ url: redis.url, prefix, endedTtlMs: 1 });
    const { queue } = backend;
    const large = newJob('large', { url: `http://images.example/${'x'.repeat(2_000)}` });
    await queue.enqueue([newJob('a'), newJob('b'), newJob('a'), newJob('c'), large]);
    const { jobs } = await claim(queue, { leaseMs: 50 });
    await queue.settle([complete(jobs[0]!), fail(jobs[1]!), complete(jobs[3]!)]);
    await queue.cancel(jobs[2]!.id);
    await queue.settle([retry(jobs[2]!, 0)]);
    await queue.purgeDead('all');
    await until('all is forgotten', async () => {
      await queue.reap();
      const left = await redis.client.keys(`{${prefix}}:*`);
      return left.every((name) => name.endsWith(':meta') || name.endsWith(':rates')) || undefined;
    });
  });
});
