import { describe, expect, it } from 'vitest';
import { brokenImage, claim, complete, fail, newJob, release, result, retry } from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeDelivery(harness: QueueHarness): void {
  describe('delivery', () => {
    it('takes jobs in and gives them out in order, with all they carry', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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
      await using backend = await harness.open();
      const product = 'a/b c\u0000|"é🎉{}';
      await backend.queue.enqueue([newJob(product, { imageId: ' ' })]);
      const { jobs } = await claim(backend.queue);
      expect(jobs[0]!.data.productId).toBe(product);
      expect(await backend.queue.status(jobs[0]!.id)).toMatchObject({ productId: product, imageId: ' ' });
      expect(await backend.queue.forgetProduct(product)).toMatchObject({ images: [{ imageId: ' ' }] });
    });

    it('completes a job and tells its story for a while', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [{ id }] = [newJob('a')].map((job) => job) as [ReturnType<typeof newJob>];
      await queue.enqueue([newJob('a', { id })]);
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

    it('completes a job in a later attempt, and tells the earlier ones too', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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

    it('forgets a completed job after its time, and never one that waits', async () => {
      await using backend = await harness.open({ endedTtlMs: 1 });
      const { queue } = backend;
      const [done, waiting] = [newJob('a'), newJob('b')];
      await queue.enqueue([done]);
      const { jobs } = await claim(queue);
      await queue.enqueue([waiting]);
      await queue.settle([complete(jobs[0]!)]);
      await until('the completed job is forgotten', async () => {
        await queue.reap();
        return (await queue.status(done.id)) === null || undefined;
      });
      expect(await queue.status(waiting.id)).toMatchObject({ status: 'queued' });
    });

    it('gives the first answer to a repeated enqueue', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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

    it('gives the first answer to a repeated claim', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue(['a', 'b', 'c'].map((product) => newJob(product)));
      const first = await claim(queue, { max: 2, claimId: 'once' });
      const second = await claim(queue, { max: 2, claimId: 'once' });
      expect(second.jobs.map(({ id }) => id).sort()).toEqual(first.jobs.map(({ id }) => id).sort());
      expect((await queue.stats()).processing).toBe(2);
    });

    it('retries after the delay, until the attempts are spent', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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
      await using backend = await harness.open();
      const { queue } = backend;
      const jobs = ['a', 'b'].map((product) => newJob(product));
      await queue.enqueue(jobs);
      const { jobs: claimed } = await claim(queue, { max: 1 });
      expect(await queue.settle([release(claimed[0]!)])).toEqual(['settled']);
      const again = await claim(queue, { max: 1 });
      expect(again.jobs).toMatchObject([{ id: jobs[0]!.id, attempt: 1 }]);
    });

    it('does not claim a job before its time', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const later = newJob('later', { notBefore: { delayMs: 3_600_000 } });
      const soon = newJob('soon', { notBefore: { delayMs: 20 } });
      const past = newJob('past', { notBefore: { atMs: 1_000 } });
      const stored = await queue.enqueue([later, soon, past]);
      expect(stored.map(({ status }) => status)).toEqual(['delayed', 'delayed', 'queued']);
      expect((await claim(queue)).jobs.map(({ id }) => id)).toContain(past.id);
      const claimed = await until('the time has come', async () => (await claim(queue)).jobs[0]);
      expect(claimed.id).toBe(soon.id);
      const view = await queue.status(later.id);
      expect(view).toMatchObject({ status: 'delayed', position: null });
      expect(view!.availableAt! - view!.enqueuedAt).toBe(3_600_000);
      expect(await queue.stats()).toMatchObject({ delayed: 1 });
    });

    it('serves high before normal before low, and lets none starve', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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

    it('refuses what would pass the greatest number of pending jobs, and stores nothing of it', async () => {
      await using backend = await harness.open({ maxPending: 3 });
      const { queue } = backend;
      await queue.enqueue([newJob('a'), newJob('b')]);
      await expect(queue.enqueue([newJob('c'), newJob('d')])).rejects.toMatchObject({ code: 'queue_full' });
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 2 } });
      // A replacement needs no room, nor does the same product image twice.
      await queue.enqueue([newJob('a'), newJob('c'), newJob('c')]);
      await expect(queue.enqueue([newJob('d')])).rejects.toMatchObject({ code: 'queue_full' });
      expect(await queue.enqueue([newJob('b')])).toMatchObject([{ replaced: true }]);
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!)]);
      await queue.enqueue([newJob('d')]);
    });

    it('answers concurrent calls each by itself when only some find room', async () => {
      await using backend = await harness.open({ maxPending: 2 });
      const calls = ['a', 'b', 'c', 'd'].map((product) => backend.queue.enqueue([newJob(product)]));
      const outcomes = await Promise.allSettled(calls);
      expect(outcomes.map(({ status }) => status)).toEqual([
        'fulfilled',
        'fulfilled',
        'rejected',
        'rejected',
      ]);
    });

    it('takes ten thousand jobs in one call, all or none, and the same again', async () => {
      await using backend = await harness.open({ maxPending: 10_000 });
      const { queue } = backend;
      await queue.enqueue([newJob('first')]);
      const jobs = Array.from({ length: 10_000 }, (_, i) => newJob(`product-${i}`));
      await expect(queue.enqueue(jobs)).rejects.toMatchObject({ code: 'queue_full' });
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 } });
      const fits = jobs.slice(1);
      const stored = await queue.enqueue(fits);
      expect(stored.map(({ id }) => id)).toEqual(fits.map(({ id }) => id));
      const again = await queue.enqueue(fits);
      expect(again.every(({ replaced }) => !replaced)).toBe(true);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 10_000 } });
    });

    it('keeps what it answered for another process', async () => {
      await using backend = await harness.open();
      const job = newJob('a');
      await backend.queue.enqueue([job]);
      await using other = await harness.reopen();
      const { jobs } = await claim(other.queue);
      expect(jobs).toMatchObject([{ id: job.id, data: job.data }]);
      expect(await backend.queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
    });

    it('counts what it has done', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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
