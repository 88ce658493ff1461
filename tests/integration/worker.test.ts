import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { ImageRef } from '../../src/catalog/product-image.ts';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { systemClock } from '../../src/observability/system-clock.ts';
import type { JobQueue, JobView, NewJob } from '../../src/queue/port.ts';
import type { VectorStore } from '../../src/vectors/port.ts';
import { createWorker, type Worker } from '../../workers/worker.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage, newInlineJob } from '../support/images.ts';
import { newJob } from '../support/jobs.ts';
import { until } from '../support/until.ts';

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

/** The worker, run until the test ends. */
function start(context: Context): Worker {
  const worker = createWorker(context);
  const ended = worker.run();
  stack.defer(async () => {
    worker.stop();
    await ended;
  });
  return worker;
}

async function openContext(
  environment: Readonly<Record<string, string>> = {},
  overrides: Parameters<typeof createTestContext>[1] = {},
): Promise<Context> {
  return stack.use(await createTestContext({ RETRY_BASE_MS: '1', ...environment }, overrides));
}

const untilEnded = (context: Context, id: string): Promise<JobView> =>
  until(`the end of job ${id}`, async () => {
    const view = await context.queue.status(id);
    return view !== null && view.endedAt !== null ? view : undefined;
  });

async function enqueueImages(context: Context, count: number): Promise<readonly NewJob[]> {
  const jobs = await Promise.all(
    Array.from({ length: count }, async (_, seed) => newInlineJob(`product-${seed}`, await drawImage(seed))),
  );
  await context.queue.enqueue(jobs);
  return jobs;
}

/** The context with images from elsewhere. */
function withImages(outer: Context, fetch: () => Promise<Uint8Array>): Context {
  return Object.create(outer, { images: { value: { ...outer.images, fetch } } });
}

/** A server of images on loopback, until the test ends. */
async function startServer(answer: (response: ServerResponse, count: number) => void) {
  let count = 0;
  const server = createServer((_, response) => answer(response, ++count));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/a.jpg`, requests: () => count };
}

async function enqueueUrl(context: Context, url: string): Promise<NewJob> {
  const job = newJob('p', { url });
  await context.queue.enqueue([job]);
  return job;
}

describe('a worker', () => {
  test('writes every image into the store, and says where', async () => {
    const context = await openContext();
    const jobs = await enqueueImages(context, 40);
    const counts = await createWorker(context).run({ once: true });

    expect(counts).toEqual({ done: 40, failed: 0 });
    expect(await context.store.count()).toBe(40);
    const view = await context.queue.status(jobs[7]!.id);
    expect(view).toMatchObject({
      status: 'completed',
      attempts: 1,
      result: { pointId: jobs[7]!.key, collection: 'products', model: 'builtin' },
    });
  });

  test('finds an indexed image again as its own nearest', async () => {
    const context = await openContext();
    await enqueueImages(context, 12);
    await createWorker(context).run({ once: true });
    const [stored] = await context.store.getProduct('product-5');
    const [best] = await context.store.search({
      parts: [{ by: 'image', vector: stored!.vector, weight: 1 }],
      limit: 1,
      groupByProduct: true,
    });
    expect(best).toMatchObject({ id: stored!.id, score: expect.closeTo(1, 3) });
  });

  test('sends a damaged image to the dead-letter queue at once, the others go on', async () => {
    const context = await openContext();
    const damaged = newInlineJob('damaged', (await drawImage(1)).subarray(0, 60));
    await context.queue.enqueue([damaged]);
    await enqueueImages(context, 10);
    const counts = await createWorker(context).run({ once: true });

    expect(counts).toEqual({ done: 10, failed: 1 });
    const view = await context.queue.status(damaged.id);
    expect(view).toMatchObject({ status: 'failed', attempts: 1, lastError: { code: 'image_corrupt' } });
    expect(view?.lastError?.suggestion).not.toBe('');
  });

  test('tries a failing server again, and gives up after the last attempt', async () => {
    const { url, requests } = await startServer((response) => response.writeHead(500).end());
    const context = await openContext({ IMAGE_ALLOWED_HOSTS: '127.0.0.1' });
    const job = await enqueueUrl(context, url);
    start(context);

    const view = await untilEnded(context, job.id);
    expect(view).toMatchObject({ status: 'failed', attempts: 3, lastError: { code: 'image_server_error' } });
    expect(requests()).toBe(3);
  });

  test('waits for a host that asks to slow down, without counting an attempt', async () => {
    const png = await drawImage(1);
    const { url, requests } = await startServer((response, count) => {
      if (count < 3) response.writeHead(429).end();
      else response.end(png);
    });
    const context = await openContext({ IMAGE_ALLOWED_HOSTS: '127.0.0.1' });
    const job = await enqueueUrl(context, url);
    start(context);

    const view = await untilEnded(context, job.id);
    expect(view).toMatchObject({ status: 'completed', attempts: 1, result: { outcome: 'indexed' } });
    expect(view.history.map(({ outcome }) => outcome)).toEqual(['deferred', 'deferred', 'completed']);
    expect(requests()).toBe(3);
  });

  test('indexes a picture of another host while forty of one host come a byte at a time', async () => {
    const png = await drawImage(1);
    const slow = await startServer((response) => {
      const timer = setInterval(() => response.write('x'), 50);
      response.on('close', () => clearInterval(timer));
    });
    const quick = await startServer((response) => response.end(png));
    const context = await openContext({ IMAGE_ALLOWED_HOSTS: '127.0.0.1', SHUTDOWN_GRACE_MS: '0' });
    await context.embedder.start();
    const dripping = Array.from({ length: 40 }, (_, n) => newJob(`slow-${n}`, { url: `${slow.url}?${n}` }));
    const other = newJob('quick', { url: quick.url });
    await context.queue.enqueue([...dripping, other]);
    const startedAt = performance.now();
    start(context);

    expect(await untilEnded(context, other.id)).toMatchObject({ status: 'completed', attempts: 1 });
    // Promised within 3 s; a busy machine gets three times that.
    expect(performance.now() - startedAt).toBeLessThan(9_000);
    const views = await Promise.all(dripping.map(({ id }) => context.queue.status(id)));
    for (const view of views) expect(view).toMatchObject({ attempts: expect.any(Number), crashes: 0 });
    expect(views.filter((view) => view?.status === 'processing').length).toBeGreaterThanOrEqual(8);
    const delayed = views.filter((view) => view?.status === 'delayed');
    expect(delayed.length).toBeGreaterThan(0);
    expect(delayed.every((view) => view?.attempts === 0)).toBe(true);
  });

  test('says which of its jobs the store did not take, since a newer one was there', async () => {
    const context = await openContext();
    const outcomes = [];
    for (const version of [5, 4, null]) {
      const job = { ...newInlineJob('p', await drawImage(1)), version };
      await context.queue.enqueue([job]);
      await createWorker(context).run({ once: true });
      outcomes.push((await context.queue.status(job.id))?.result?.outcome);
    }
    expect(outcomes).toEqual(['indexed', 'superseded', 'indexed']);
  });

  test('does not fetch an image again whose point it had written before its settlement was lost', async () => {
    const outer = await openContext({ LEASE_MS: '1000' });
    let settles = 0;
    let fetches = 0;
    const queue: JobQueue = {
      ...outer.queue,
      async settle(settlements) {
        if (++settles === 1) throw new Error('The reply is lost for good.');
        return outer.queue.settle(settlements);
      },
    };
    const images = {
      ...outer.images,
      fetch(image: ImageRef, signal: AbortSignal) {
        fetches++;
        return outer.images.fetch(image, signal);
      },
    };
    const context = { ...outer, queue, images, embedder: outer.embedder };
    const [job] = await enqueueImages(context, 1);
    start(context);
    expect(await untilEnded(context, job!.id)).toMatchObject({
      status: 'completed',
      crashes: 0,
      attempts: 1,
      result: { outcome: 'unchanged' },
    });
    expect(fetches).toBe(1);
  });

  test('shows which stage a job is in', async () => {
    const outer = await openContext({ LEASE_MS: '1000', SHUTDOWN_GRACE_MS: '0' });
    const context = withImages(outer, () => new Promise<never>(() => undefined));
    const [job] = await enqueueImages(context, 1);
    start(context);
    await until('a renewal with the stage', async () =>
      (await context.queue.status(job!.id))?.stage === 'fetching' ? true : undefined,
    );
  });

  test('hands jobs back uncounted while the store is unreachable, and completes them when it is back', async () => {
    const outer = await openContext();
    let down = true;
    let refused = 0;
    const store: VectorStore = {
      ...outer.store,
      collection: outer.store.collection,
      async upsert(points) {
        if (!down) return outer.store.upsert(points);
        refused++;
        throw new VitrineError('store_unavailable', 'The store is unreachable.');
      },
      async ping() {
        if (down) throw new VitrineError('store_unavailable', 'The store is unreachable.');
      },
    };
    const context = { ...outer, store };
    const jobs = await enqueueImages(context, 5);
    start(context);
    await until('a refused write', () => (refused > 0 ? true : undefined));
    down = false;

    for (const job of jobs) {
      expect(await untilEnded(context, job.id)).toMatchObject({ status: 'completed', attempts: 1 });
    }
  });

  test('stopped without a grace period, hands back what it holds and leaves no heartbeat', async () => {
    const outer = await openContext({ SHUTDOWN_GRACE_MS: '0' });
    const arrived = Promise.withResolvers<void>();
    const context = withImages(outer, () => {
      arrived.resolve();
      return new Promise<never>(() => undefined);
    });
    const jobs = await enqueueImages(context, 3);
    const worker = createWorker(context);
    const ended = worker.run();
    await arrived.promise;
    await until('a heartbeat of a working worker', async () =>
      (await context.queue.workers())[0]?.state === 'working' ? true : undefined,
    );
    expect(await context.queue.workers()).toMatchObject([{ id: worker.id, model: 'builtin' }]);
    worker.stop();
    await ended;

    expect(await context.queue.workers()).toEqual([]);
    for (const job of jobs) {
      expect(await context.queue.status(job.id)).toMatchObject({ status: 'queued', attempts: 0, crashes: 0 });
    }
  });

  test('ends a job that hangs at its soft limit, and at its hard limit for good', async () => {
    const context = withImages(
      await openContext({ SHUTDOWN_GRACE_MS: '0' }),
      () => new Promise<never>(() => undefined),
    );
    const soft = newInlineJob('soft', await drawImage(1));
    const hard = newInlineJob('hard', await drawImage(2));
    await context.queue.enqueue([
      { ...soft, data: { ...soft.data, softTimeoutMs: 50 } },
      { ...hard, data: { ...hard.data, hardTimeoutMs: 50 } },
    ]);
    start(context);
    expect(await untilEnded(context, soft.id)).toMatchObject({
      status: 'failed',
      attempts: 3,
      lastError: { code: 'job_timed_out' },
    });
    expect(await untilEnded(context, hard.id)).toMatchObject({
      status: 'failed',
      attempts: 1,
      lastError: { code: 'job_out_of_time' },
    });
  });

  test('keeps its heartbeat and its leases during a long inference', async () => {
    // Every wait is 500 times shorter: a heartbeat and a renewal every 20 ms.
    const clock = {
      ...systemClock,
      sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 500, signal),
      startTimer: (ms: number, onTimeout: () => void) => systemClock.startTimer(ms / 500, onTimeout),
    };
    const limits = {
      JOB_SOFT_TIMEOUT_MS: '3600000',
      JOB_HARD_TIMEOUT_MS: '604800000',
      IMAGE_TIMEOUT_MS: '600000',
    };
    const outer = await openContext({ BATCH_SIZE: '256', LEASE_MS: '30000', ...limits }, { clock });
    const model = await outer.embedder.start();
    let heartbeats = 0;
    let renewals = 0;
    let during: { heartbeats: number; renewals: number } | undefined;
    const context: Context = {
      ...outer,
      queue: {
        ...outer.queue,
        heartbeat: (report) => {
          heartbeats++;
          return outer.queue.heartbeat(report);
        },
        renew: (workerId, leases) => {
          renewals++;
          return outer.queue.renew(workerId, leases);
        },
      },
      embedder: {
        ...outer.embedder,
        model,
        async embedImages(images) {
          const before = { heartbeats, renewals };
          // One call to the thread with the same images over and over: much longer than those waits.
          const repeated = Array.from({ length: 200 }, (_, index) => images[index % images.length]!);
          const vectors = await outer.embedder.embedImages(repeated);
          during = { heartbeats: heartbeats - before.heartbeats, renewals: renewals - before.renewals };
          return vectors.slice(0, images.length);
        },
      },
    };
    const [job] = await enqueueImages(context, 1);
    start(context);
    expect(await untilEnded(context, job!.id)).toMatchObject({ status: 'completed', crashes: 0 });
    expect(during?.heartbeats).toBeGreaterThan(1);
    expect(during?.renewals).toBeGreaterThan(1);
  });
});
