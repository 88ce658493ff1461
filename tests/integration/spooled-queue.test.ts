import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/observability/system-clock.ts';
import type { JobQueue, NewJob } from '../../src/queue/port.ts';
import { createRedisBackend, type QueueBackend } from '../../src/queue/redis/redis-backend.ts';
import { createSpooledQueue } from '../../src/queue/spool/spooled-queue.ts';
import { createTempFolder } from '../support/context.ts';
import { newInlineJob } from '../support/images.ts';
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.log(`spooled queue: skipped, ${reason}`);

const logger = pino({ level: 'silent' });
const toJobs = (from: number, to: number): NewJob[] =>
  Array.from({ length: to - from }, (_, index) =>
    newInlineJob(`product-${from + index}`, new Uint8Array([1])),
  );

describe.skipIf(reason !== null)('a queue with a spool', () => {
  let stack: AsyncDisposableStack;
  let redis: RedisServer;
  let backend: QueueBackend;
  let file: string;
  const open = (changes: { maxPending?: number; file?: string } = {}): JobQueue =>
    stack.use(
      createSpooledQueue(backend.queue, {
        file,
        maxPending: 0,
        clock: systemClock,
        logger,
        forwardEveryMs: 50,
        ...changes,
      }),
    );
  const spooledCount = async (queue: JobQueue) => (await queue.stats()).spooled;

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    const folder = stack.use(await createTempFolder());
    file = join(folder.path, 'spool.sqlite');
    redis = stack.use(await startRedis());
    backend = stack.use(
      await createRedisBackend({ url: redis.url, prefix: 't', logger, maxPending: 0, commandTimeoutMs: 500 }),
    );
  });
  afterEach(() => stack.disposeAsync());

  test('is the queue itself while the backend is there', async () => {
    const queue = open();
    const [answer] = await queue.enqueue(toJobs(0, 1));
    expect(answer).toMatchObject({ status: 'queued', position: 1 });
    expect(answer).not.toHaveProperty('spooled', true);
    expect(await spooledCount(queue)).toBe(0);
  });

  test('keeps jobs while the backend is away, and forwards them in their order', async () => {
    const queue = open();
    await redis.kill();
    const first = toJobs(0, 3);
    const answers = await queue.enqueue(first);
    expect(answers.map(({ spooled, id }) => ({ spooled, id }))).toEqual(
      first.map(({ id }) => ({ spooled: true, id })),
    );
    expect(await queue.status(first[1]!.id)).toMatchObject({ status: 'queued', productId: 'product-1' });
    const second = toJobs(3, 5);
    await queue.enqueue(second);

    await redis.restart();
    await until('the forwarding', async () =>
      (await spooledCount(queue).catch(() => undefined)) === 0 ? true : undefined,
    );
    const views = await Promise.all([...first, ...second].map(({ id }) => queue.status(id)));
    expect(views.map((view) => view?.status)).toEqual(Array(5).fill('queued'));
    const versions = views.map((view) => view?.version ?? 0);
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 5 } });
  });

  test('holds its jobs over a restart of the process', async () => {
    await redis.kill();
    const jobs = toJobs(0, 2);
    {
      await using queue = createSpooledQueue(backend.queue, {
        file,
        maxPending: 0,
        clock: systemClock,
        logger,
      });
      await queue.enqueue(jobs);
    }
    await redis.restart();
    const queue = open();
    await until('the forwarding', async () =>
      (await spooledCount(queue).catch(() => undefined)) === 0 ? true : undefined,
    );
    expect(await queue.status(jobs[1]!.id)).toMatchObject({ status: 'queued' });
  });

  test('a spooled job can be cancelled: it is not forwarded, and its end is remembered', async () => {
    await redis.kill();
    const [sent, cancelled, kept] = toJobs(0, 3) as [NewJob, NewJob, NewJob];
    {
      const queue = open();
      // The first may have arrived, for all that is known: only its answer may have been lost.
      await queue.enqueue([sent]);
      await queue.enqueue([cancelled, kept]);
      expect(await queue.cancel(cancelled.id)).toBe('cancelled');
      expect(await queue.cancel(cancelled.id)).toBe('cancelled');
      expect(await queue.status(cancelled.id)).toMatchObject({ status: 'cancelled' });
      expect(await queue.cancel(sent.id)).toBe('requested');
    }
    await redis.restart();
    const queue = open();
    await until('the forwarding', async () =>
      (await spooledCount(queue).catch(() => undefined)) === 0 ? true : undefined,
    );
    const statuses = [sent, cancelled, kept].map(async ({ id }) => (await queue.status(id))?.status);
    expect(await Promise.all(statuses)).toEqual(['cancelled', 'cancelled', 'queued']);
    expect(await backend.queue.status(cancelled.id)).toBeNull();
    expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, spooled: 0 });
  });

  test('cancelling a job whose enqueueing was answered to nobody cancels it in the queue', async () => {
    const [job] = toJobs(0, 1) as [NewJob];
    const queue = open();
    await backend.queue.enqueue([job]);
    await redis.kill();
    await queue.enqueue([job]);
    expect(await queue.cancel(job.id)).toBe('requested');
    expect(await queue.status(job.id)).toMatchObject({ status: 'queued', cancelRequested: true });
    await redis.restart();
    await until('the cancelling', async () => {
      const status = (await backend.queue.status(job.id).catch(() => null))?.status;
      return status === 'cancelled' ? true : undefined;
    });
  });

  test('a spooled job that replaces a waiting one is known by its own id too', async () => {
    const queue = open();
    const [older, newer] = [toJobs(0, 1), toJobs(0, 1)].flat() as [NewJob, NewJob];
    await queue.enqueue([older]);
    await redis.kill();
    await queue.enqueue([newer]);
    await redis.restart();
    await until('the forwarding', async () =>
      (await spooledCount(queue).catch(() => undefined)) === 0 ? true : undefined,
    );
    expect(await queue.status(newer.id)).toMatchObject({ id: older.id, status: 'queued' });
  });

  test('takes no more than MAX_PENDING, and nothing when the spool cannot be written either', async () => {
    await redis.kill();
    const small = open({ maxPending: 2 });
    await small.enqueue(toJobs(0, 2));
    await expect(small.enqueue(toJobs(2, 3))).rejects.toMatchObject({ code: 'queue_full' });

    const folder = join(file, '..', 'a-folder');
    mkdirSync(folder);
    const broken = open({ file: folder });
    await expect(broken.enqueue(toJobs(3, 4))).rejects.toMatchObject({ code: 'queue_unavailable' });
  });
});
