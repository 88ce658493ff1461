import { describe, expect, it } from 'vitest';
import {
  brokenImage,
  claim,
  complete,
  fail,
  inAnHour,
  newJob,
  release,
  result,
  retry,
  toImageData,
} from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeDelivery(harness: QueueHarness): void {
  describe('delivery', () => {
    it('stores jobs and hands them out in order, with all they carry', async () => {
      await using queue = await harness.open();
      const jobs = ['a', 'b', 'c'].map((product) => newJob(product));
      const stored = await queue.enqueue(jobs);
      expect(stored.map(({ id }) => id)).toEqual(jobs.map(({ id }) => id));
      expect(stored.map(({ position }) => position)).toEqual([1, 2, 3]);
      expect(stored.map(({ status }) => status)).toEqual(['queued', 'queued', 'queued']);
      expect(stored[0]!.version).toBeLessThan(stored[1]!.version ?? 0);

      const { jobs: claimed } = await claim(queue, { max: 2, claimId: 'token' });
      expect(claimed).toMatchObject([
        { id: jobs[0]!.id, key: jobs[0]!.key, data: jobs[0]!.data, token: 'token', attempt: 1, crashes: 0 },
        { id: jobs[1]!.id, version: stored[1]!.version, priority: 'normal', maxAttempts: 3 },
      ]);
      expect((await claim(queue)).jobs.map(({ id }) => id)).toEqual([jobs[2]!.id]);
      expect((await claim(queue)).jobs).toEqual([]);
    });

    it('keeps any character of ids and payloads', async () => {
      await using queue = await harness.open();
      const product = 'a/b c\u0000|"é🎉{}';
      await queue.enqueue([newJob(product, { imageId: ' ' })]);
      const { jobs } = await claim(queue);
      expect(toImageData(jobs[0]!).productId).toBe(product);
      expect(await queue.status(jobs[0]!.id)).toMatchObject({ productId: product, imageId: ' ' });
      expect(await queue.forgetProduct(product)).toMatchObject({ imageIds: [' '] });
    });

    it('completes a job and keeps its history', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      const { id } = job;
      await queue.enqueue([job]);
      expect(await queue.status(id)).toMatchObject({
        status: 'queued',
        position: 1,
        attempts: 0,
        startedAt: null,
      });
      const { jobs } = await claim(queue);
      expect(await queue.status(id)).toMatchObject({ status: 'processing', workerId: 'worker', attempts: 1 });
      expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
      expect(await queue.status(id)).toMatchObject({
        status: 'completed',
        result,
        processingMs: 7,
        position: null,
        lastError: null,
        history: [{ outcome: 'completed', workerId: 'worker' }],
      });
      expect(await queue.status('unheard of')).toBeNull();
    });

    it('counts a job once that one call completes twice', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      const twice = [complete(jobs[0]!), complete(jobs[0]!), { ...complete(jobs[1]!), token: 'stale' }];
      expect(await queue.settle(twice)).toEqual(['settled', 'settled', 'lost']);
      expect(await queue.stats()).toMatchObject({ completed: 1, processing: 1 });
    });

    it('completes a job in a later attempt, and keeps the history of the earlier ones', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      await queue.settle([retry((await claim(queue)).jobs[0]!, 0)]);
      await queue.settle([complete((await claim(queue)).jobs[0]!)]);
      expect(await queue.status(job.id)).toMatchObject({
        status: 'completed',
        attempts: 2,
        history: [{ outcome: 'retried' }, { outcome: 'completed' }],
      });
    });

    it('returns the first answer to a repeated enqueue', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      const first = await queue.enqueue([job]);
      expect(await queue.enqueue([job])).toEqual(first);
      const newer = newJob('a', { url: 'http://images.example/newer' });
      const replaced = await queue.enqueue([newer]);
      const newest = newJob('a', { url: 'http://images.example/newest' });
      await queue.enqueue([newest]);
      // Sent again late: it must not come back over the newest.
      expect(await queue.enqueue([newer])).toEqual(replaced);
      expect((await claim(queue)).jobs).toMatchObject([{ id: job.id, data: newest.data }]);
    });

    it('returns the first answer to a repeated claim', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['a', 'b', 'c'].map((product) => newJob(product)));
      const first = await claim(queue, { max: 2, claimId: 'once' });
      const second = await claim(queue, { max: 2, claimId: 'once' });
      expect(second.jobs.map(({ id }) => id)).toEqual(first.jobs.map(({ id }) => id));
      expect(second.jobs).toMatchObject([{ attempt: 1, redelivered: false }, { attempt: 1 }]);
      expect((await queue.stats()).processing).toBe(2);
      await queue.settle(first.jobs.map((job) => retry(job, 0)));
      // Its leases have ended: nothing is claimed under the same token again.
      expect((await claim(queue, { max: 2, claimId: 'once' })).jobs).toEqual([]);
    });

    it('retries after the delay, until the attempts are spent', async () => {
      await using queue = await harness.open();
      const job = newJob('a', { maxAttempts: 2 });
      await queue.enqueue([job]);
      const first = await claim(queue);
      await queue.settle([retry(first.jobs[0]!, 60_000)]);
      expect(await queue.status(job.id)).toMatchObject({
        status: 'delayed',
        attempts: 1,
        lastError: { code: 'image_fetch_timeout' },
        history: [{ outcome: 'retried', error: { code: 'image_fetch_timeout' } }],
      });
      expect((await queue.status(job.id))!.availableAt).toBeGreaterThan(0);
      expect((await claim(queue)).jobs).toEqual([]);

      const other = newJob('b', { maxAttempts: 2 });
      await queue.enqueue([other]);
      const { jobs } = await claim(queue);
      await queue.settle([retry(jobs[0]!, 20)]);
      const again = await until('the delay is over', async () => (await claim(queue)).jobs[0]);
      expect(again).toMatchObject({ id: other.id, attempt: 2 });
      await queue.settle([retry(again, 20)]);
      expect(await queue.status(other.id)).toMatchObject({ status: 'failed', attempts: 2 });
    });

    it('counts no attempt for a released job and puts it first in line again', async () => {
      await using queue = await harness.open();
      const jobs = ['a', 'b'].map((product) => newJob(product));
      await queue.enqueue(jobs);
      const { jobs: claimed } = await claim(queue, { max: 1 });
      expect(await queue.settle([release(claimed[0]!)])).toEqual(['settled']);
      const again = await claim(queue, { max: 1 });
      expect(again.jobs).toMatchObject([{ id: jobs[0]!.id, attempt: 1 }]);
    });

    it('does not claim a job before its time', async () => {
      await using queue = await harness.open();
      const later = newJob('later', { notBefore: inAnHour });
      const soon = newJob('soon', { notBefore: { delayMs: 20 } });
      const past = newJob('past', { notBefore: { atMs: 1_000 } });
      const stored = await queue.enqueue([later, soon, past]);
      expect(stored.map(({ status }) => status)).toEqual(['delayed', 'delayed', 'queued']);
      const claimed: string[] = [];
      await until('the time has come', async () => {
        claimed.push(...(await claim(queue)).jobs.map(({ id }) => id));
        return claimed.includes(soon.id) || undefined;
      });
      expect(claimed.toSorted()).toEqual([past.id, soon.id].toSorted());
      const view = await queue.status(later.id);
      expect(view).toMatchObject({ status: 'delayed', position: null });
      expect(view!.availableAt! - view!.enqueuedAt).toBe(3_600_000);
      expect(await queue.stats()).toMatchObject({ delayed: 1 });
    });

    it('serves high before normal before low, and lets none starve', async () => {
      await using queue = await harness.open();
      const low = newJob('low', { priority: 'low' });
      const normal = newJob('normal');
      const high = Array.from({ length: 20 }, (_, i) => newJob(`high-${i}`, { priority: 'high' }));
      const stored = await queue.enqueue([low, normal, ...high]);
      expect(stored.map(({ position }) => position)).toEqual([22, 21, ...high.map((_, i) => i + 1)]);
      expect(await queue.stats()).toMatchObject({ waiting: { high: 20, normal: 1, low: 1 } });
      const order: string[] = [];
      for (let i = 0; i < 22; i += 1) order.push((await claim(queue, { max: 1 })).jobs[0]!.id);
      // Each eighth turn is the oldest's.
      expect(order.indexOf(low.id)).toBe(7);
      expect(order.indexOf(normal.id)).toBe(15);
      expect(order.slice(0, 7)).toEqual(high.slice(0, 7).map(({ id }) => id));
    });

    it('keeps what it answered for another process', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      await using other = await harness.reopen();
      const { jobs } = await claim(other);
      expect(jobs).toMatchObject([{ id: job.id, data: job.data }]);
      expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
    });

    it('counts what it has done', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newJob(product)));
      const { jobs } = await claim(queue, { max: 3 });
      await queue.settle([complete(jobs[0]!), complete(jobs[1]!), fail(jobs[2]!, brokenImage)]);
      const stats = await queue.stats();
      expect(stats).toMatchObject({
        waiting: { high: 0, normal: 1, low: 0 },
        processing: 0,
        dead: 1,
        completed: 2,
        failed: 1,
        cancelled: 0,
        recentlyDead: 1,
        paused: false,
      });
      expect(stats.completedPerSecond).toBeCloseTo(2 / 60);
      expect(stats.failureRate).toBeCloseTo(1 / 3);
      expect(stats.oldestWaitingMs).toBeGreaterThanOrEqual(0);
    });
  });
}
