import { expect, test } from 'vitest';
import { systemClock } from '../../src/observability/system-clock.ts';
import { createWorker } from '../../workers/worker.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage, newInlineJob } from '../support/images.ts';
import { startRedis, whyNoRedis } from '../support/redis-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.log(`workers on Redis: skipped, ${reason}`);

const LEASE_MS = 1_500;

test.skipIf(reason !== null)(
  'outages of Redis that are longer than a lease cost living workers neither a job nor a crash',
  { timeout: 120_000 },
  async () => {
    await using stack = new AsyncDisposableStack();
    const redis = stack.use(await startRedis());
    const proxy = stack.use(await startTcpProxy(redis.port));
    const environment = { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, LEASE_MS: String(LEASE_MS) };
    const png = await drawImage(1);
    const gate = Promise.withResolvers<void>();
    const images = {
      async fetch() {
        await gate.promise;
        return png;
      },
      async [Symbol.asyncDispose]() {},
    };
    const observer = stack.use(await createTestContext({ REDIS_URL: redis.url }));
    for (let n = 0; n < 2; n++) {
      const context = stack.use(await createTestContext(environment, { images }));
      const worker = createWorker(context);
      const ended = worker.run();
      stack.defer(async () => {
        worker.stop();
        await ended;
      });
    }
    const jobs = Array.from({ length: 6 }, (_, n) => newInlineJob(`p-${n}`, png));
    await observer.queue.enqueue(jobs);
    const views = () => Promise.all(jobs.map(({ id }) => observer.queue.status(id)));
    await until('all jobs in work', async () =>
      (await views()).every((view) => view?.status === 'processing') ? true : undefined,
    );
    const holders = (await views()).map((view) => view?.workerId);

    for (let outage = 0; outage < 3; outage++) {
      await proxy.refuse();
      await systemClock.sleep(2 * LEASE_MS);
      await proxy.heal();
      // Long enough for the workers to come back, and for every lease that nobody renewed to be taken back.
      await systemClock.sleep(3 * LEASE_MS);
      for (const [index, view] of (await views()).entries())
        expect(view).toMatchObject({
          status: 'processing',
          workerId: holders[index],
          crashes: 0,
          attempts: 1,
        });
    }
    gate.resolve();
    await until('the end of all jobs', async () =>
      (await views()).every((view) => view?.status === 'completed') ? true : undefined,
    );
    for (const view of await views()) expect(view).toMatchObject({ crashes: 0, attempts: 1 });
  },
);
