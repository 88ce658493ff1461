import { describe, expect, it } from 'vitest';
import type { ClaimedJob, JobQueue } from '../../src/queue/port.ts';
import { claim, complete, defer, newJob, queueSettings, toImageData } from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

const SLOW = 'slow.example';
const onSlowHost = (product: string) => newJob(product, { url: `http://${SLOW}/${product}` });

/** Claims once and settles all of it; what was claimed. */
async function work(
  queue: JobQueue,
  settle: typeof complete | typeof defer,
  max = 10,
): Promise<ClaimedJob[]> {
  const { jobs } = await claim(queue, { max });
  await queue.settle(jobs.map((job) => settle(job)));
  return [...jobs];
}

export function describeHosts(harness: QueueHarness): void {
  describe('a host that asks to slow down', () => {
    it('gets its job back without an attempt, after the delay', async () => {
      await using queue = await harness.open();
      await queue.enqueue([onSlowHost('a')]);
      const [first] = (await claim(queue)).jobs;
      expect(first).toMatchObject({ deferredMs: 0 });
      const deferredAt = performance.now();
      expect(await queue.settle([defer(first!, 300)])).toEqual(['settled']);
      expect(await queue.settle([defer(first!, 300)])).toEqual(['settled']);
      expect(await queue.status(first!.id)).toMatchObject({
        status: 'delayed',
        attempts: 0,
        availableAt: null,
        lastError: { code: 'image_host_busy' },
        history: [{ outcome: 'deferred', error: { code: 'image_host_busy' } }],
      });
      const again = await until('the host is ready', async () => (await claim(queue)).jobs[0]);
      expect(performance.now() - deferredAt).toBeGreaterThanOrEqual(290);
      expect(again).toMatchObject({ id: first!.id, attempt: 1, redelivered: true });
      expect(again.deferredMs).toBeGreaterThanOrEqual(290);
    });

    it('is left alone until the delay is over, while jobs of others are claimed', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['a', 'b', 'c'].map(onSlowHost));
      await queue.enqueue([newJob('other'), newJob('another')]);
      const [first] = (await claim(queue, { max: 1 })).jobs;
      await queue.settle([defer(first!, 60_000)]);
      await queue.enqueue([onSlowHost('d')]);
      const claimed = await work(queue, complete);
      expect(claimed.map((job) => toImageData(job).productId).sort()).toEqual(['another', 'other']);
      expect(await work(queue, complete)).toEqual([]);
      const stats = await queue.stats();
      expect(stats).toMatchObject({ delayed: 4, hosts: [{ host: SLOW, waiting: 4 }] });
      expect(stats.hosts[0]!.nextInMs).toBeGreaterThan(50_000);
      const { nextDueMs } = await claim(queue);
      expect(nextDueMs).toBeGreaterThan(50_000);
      expect(nextDueMs).toBeLessThanOrEqual(60_000);
    });

    it('holds up nobody else, however many of its jobs wait in front', { timeout: 120_000 }, async () => {
      await using queue = await harness.open();
      await queue.enqueue(Array.from({ length: 3_000 }, (_, i) => onSlowHost(`slow-${i}`)));
      const others = Array.from({ length: 200 }, (_, i) => newJob(`other-${i}`));
      await queue.enqueue(others);
      const [first] = (await claim(queue, { max: 1 })).jobs;
      await queue.settle([defer(first!, 600_000)]);
      const done: ClaimedJob[] = [];
      // Some claims are spent on moving what waits in front, each job once.
      for (let claims = 0; claims < 40 && done.length < 200; claims += 1)
        done.push(...(await work(queue, complete, 50)));
      expect(done.map(({ id }) => id)).toEqual(others.map(({ id }) => id));
      expect(await queue.stats()).toMatchObject({ delayed: 3_000, processing: 0 });
    });

    it('gets its jobs in order, slowly at first, and faster with each that is settled', async () => {
      await using queue = await harness.open();
      const jobs = Array.from({ length: 40 }, (_, i) => onSlowHost(`p${i}`));
      await queue.enqueue(jobs);
      const [first] = (await claim(queue, { max: 1 })).jobs;
      await queue.settle([defer(first!)]);
      const startedAt = performance.now();
      expect((await work(queue, complete)).length).toBeLessThan(10);
      const start = (await queue.stats()).hosts[0]!.perSecond;
      const order: string[] = [];
      await until('some are done', async () => {
        order.push(...(await work(queue, complete)).map(({ id }) => id));
        return order.length >= 12 || undefined;
      });
      // At the rate of the start, so many take longer than a second.
      expect(performance.now() - startedAt).toBeGreaterThan(400);
      expect(order).toEqual(
        jobs
          .slice(jobs.findIndex(({ id }) => id === order[0]))
          .slice(0, order.length)
          .map(({ id }) => id),
      );
      expect((await queue.stats()).hosts[0]!.perSecond).toBeGreaterThan(start);
    });

    it('gets them more slowly after it has asked again, and never stops', async () => {
      await using queue = await harness.open();
      await queue.enqueue(Array.from({ length: 20 }, (_, i) => onSlowHost(`p${i}`)));
      const next = () => until('one is claimed', async () => (await claim(queue, { max: 1 })).jobs[0]);
      await queue.settle([defer(await next())]);
      const rates = [(await queue.stats()).hosts[0]!.perSecond];
      for (let i = 0; i < 4; i += 1) {
        await queue.settle([defer(await next())]);
        rates.push((await queue.stats()).hosts[0]!.perSecond);
      }
      expect(rates[1]).toBeLessThan(rates[0]!);
      expect(rates).toEqual(rates.toSorted((a, b) => b - a));
      expect(rates.at(-1)).toBeGreaterThanOrEqual(0.5);
    });

    it('gets all its jobs done with at most five claims for each', { timeout: 60_000 }, async () => {
      await using queue = await harness.open();
      const perSecond = 20;
      const jobs = Array.from({ length: 60 }, (_, i) => onSlowHost(`p${i}`));
      await queue.enqueue(jobs);
      const claims = new Map<string, number>();
      let [done, served, windowEnd] = [0, 0, 0];
      await until('all are done', async () => {
        const { jobs: claimed } = await claim(queue, { max: 32 });
        await queue.settle(
          claimed.map((job) => {
            claims.set(job.id, (claims.get(job.id) ?? 0) + 1);
            // What a host with a limit per second does.
            if (performance.now() > windowEnd) [served, windowEnd] = [0, performance.now() + 1_000];
            served += 1;
            if (served > perSecond) return defer(job, 1_000);
            done += 1;
            return complete(job);
          }),
        );
        return done === jobs.length || undefined;
      });
      expect(Math.max(...claims.values())).toBeLessThanOrEqual(5);
      expect(await queue.stats()).toMatchObject({ completed: 60, dead: 0, delayed: 0 });
    });

    it('is paused for every process, and its jobs can be cancelled and flushed', async () => {
      await using queue = await harness.open();
      await using other = await harness.reopen(queueSettings);
      await queue.enqueue([onSlowHost('a'), onSlowHost('b')]);
      const [first] = (await claim(queue, { max: 1 })).jobs;
      await queue.settle([defer(first!, 60_000)]);
      expect((await claim(other)).jobs).toEqual([]);
      expect(await other.cancel(first!.id)).toBe('cancelled');
      expect(await other.stats()).toMatchObject({ delayed: 1, hosts: [{ host: SLOW, waiting: 1 }] });
      expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
      await queue.flush();
      await queue.enqueue([onSlowHost('a')]);
      expect((await claim(queue)).jobs).toHaveLength(1);
    });

    it('does not hold back a newer job of the image on another host', async () => {
      await using queue = await harness.open();
      await queue.enqueue([onSlowHost('a')]);
      const [first] = (await claim(queue)).jobs;
      await queue.settle([defer(first!, 60_000)]);
      expect(await queue.enqueue([newJob('a')])).toMatchObject([
        { id: first!.id, replaced: true, status: 'queued', position: 1 },
      ]);
      expect((await claim(queue)).jobs).toMatchObject([{ id: first!.id, deferredMs: 0 }]);
    });
  });
}
