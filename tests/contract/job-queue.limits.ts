import { describe, expect, it } from 'vitest';
import { claim, complete, fail, newInlineJob, newJob, retry, toImageData } from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeLimits(harness: QueueHarness): void {
  describe('limits', () => {
    it('stores as many jobs as there is room for, in order, and refuses when there is none', async () => {
      await using queue = await harness.open({ maxPending: 3 });
      await queue.enqueue([newJob('a'), newJob('b')]);
      const [c, d] = [newJob('c'), newJob('d')];
      expect(await queue.enqueue([c, d])).toMatchObject([{ id: c.id, position: 3 }]);
      expect(await queue.status(d.id)).toBeNull();
      await expect(queue.enqueue([d])).rejects.toMatchObject({
        code: 'queue_full',
        retryAfterMs: expect.any(Number),
      });
      // A replacement needs no room, nor does a repeated enqueue, but nothing behind a job without room is stored.
      expect(await queue.enqueue([newJob('a'), c, d, newJob('b')])).toMatchObject([
        { replaced: true },
        { id: c.id },
      ]);
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!)]);
      expect(await queue.enqueue([d])).toHaveLength(1);
    });

    it('lets in no more through ten concurrent batches of two processes', async () => {
      await using queue = await harness.open({ maxPending: 50 });
      await using other = await harness.reopen({ maxPending: 50 });
      const batches = Array.from({ length: 10 }, (_, batch) =>
        Array.from({ length: 40 }, (_, i) => newJob(`product-${batch}-${i}`)),
      );
      const outcomes = await Promise.allSettled(
        batches.map((jobs, i) => (i % 2 ? queue : other).enqueue(jobs)),
      );
      const stored = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []));
      expect(stored).toHaveLength(50);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 50 } });
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'queue_full' });
    });

    it('takes jobs that were accepted before, however many wait', async () => {
      await using queue = await harness.open({ maxPending: 1 });
      await queue.enqueue([newJob('a')]);
      expect(await queue.enqueue([newJob('b'), newJob('c')], { accepted: true })).toHaveLength(2);
      await expect(queue.enqueue([newJob('d')])).rejects.toMatchObject({ code: 'queue_full' });
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 3 } });
    });

    it('answers concurrent calls each by itself when only some find room', async () => {
      await using queue = await harness.open({ maxPending: 2 });
      const calls = ['a', 'b', 'c', 'd'].map((product) => queue.enqueue([newJob(product)]));
      const outcomes = await Promise.allSettled(calls);
      expect(outcomes.map(({ status }) => status)).toEqual([
        'fulfilled',
        'fulfilled',
        'rejected',
        'rejected',
      ]);
    });

    it('takes ten thousand jobs in one call, and some of them again', { timeout: 120_000 }, async () => {
      await using queue = await harness.open({ maxPending: 10_000 });
      const jobs = Array.from({ length: 10_001 }, (_, i) => newJob(`product-${i}`));
      const stored = await queue.enqueue(jobs);
      expect(stored.map(({ id }) => id)).toEqual(jobs.slice(0, -1).map(({ id }) => id));
      const again = await queue.enqueue(jobs.slice(9_500));
      expect(again.map(({ id, replaced }) => [id, replaced])).toEqual(
        jobs.slice(9_500, -1).map(({ id }) => [id, false]),
      );
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 10_000 } });
    });

    it('claims no more bytes than asked for, but at least one job', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newInlineJob(product, 100_000)));
      const products = async (maxBytes: number) =>
        (await claim(queue, { maxBytes })).jobs.map((job) => toImageData(job).productId);
      expect(await products(250_000)).toEqual(['a', 'b']);
      expect(await products(1)).toEqual(['c']);
      expect(await products(250_000)).toEqual(['d']);
    });

    it('claims no more than its default number of bytes', { timeout: 60_000 }, async () => {
      await using queue = await harness.open();
      for (const product of ['a', 'b', 'c']) await queue.enqueue([newInlineJob(product, 7_000_000)]);
      expect((await claim(queue)).jobs).toHaveLength(2);
    });

    it('ends a job whose stored payload cannot be read, and claims the others', async () => {
      await using queue = await harness.open();
      const [bad, good] = [newJob('bad'), newJob('good')];
      await queue.enqueue([bad, good]);
      await harness.spoil(bad.id);
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ id: good.id }]);
      expect(await queue.status(bad.id)).toMatchObject({
        status: 'failed',
        attempts: 0,
        lastError: { code: 'job_unreadable' },
      });
      expect(await queue.stats()).toMatchObject({ dead: 1, failed: 1, processing: 1 });
    });

    it('drops a completed job after its time, and never one that waits', async () => {
      await using queue = await harness.open({ endedTtlMs: 1 });
      const [done, waiting] = [newJob('a'), newJob('b')];
      await queue.enqueue([done]);
      const { jobs } = await claim(queue);
      await queue.enqueue([waiting]);
      await queue.settle([complete(jobs[0]!)]);
      await until('the completed job is dropped', async () => {
        await queue.reap();
        return (await queue.status(done.id)) === null || undefined;
      });
      expect(await queue.status(waiting.id)).toMatchObject({ status: 'queued' });
    });

    it('keeps no more completed and cancelled jobs than it may, the latest', async () => {
      await using queue = await harness.open({ maxEnded: 3 });
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newJob(product)));
      const { jobs } = await claim(queue, { max: 3 });
      await queue.settle([complete(jobs[0]!), complete(jobs[1]!), fail(jobs[2]!)]);
      const waiting = newJob('e');
      await queue.enqueue([waiting]);
      const [last] = (await claim(queue, { max: 1 })).jobs;
      await queue.cancel(waiting.id);
      await queue.settle([complete(last!)]);
      await until('the oldest is dropped', async () => {
        await queue.reap();
        return (await queue.status(jobs[0]!.id)) === null || undefined;
      });
      expect(await queue.status(jobs[1]!.id)).toMatchObject({ status: 'completed' });
      expect(await queue.status(jobs[2]!.id)).toMatchObject({ status: 'failed' });
      expect(await queue.status(waiting.id)).toMatchObject({ status: 'cancelled' });
      expect(await queue.stats()).toMatchObject({ completed: 3, cancelled: 1, dead: 1 });
    });

    it('knows the exact position of each job in line', async () => {
      await using queue = await harness.open();
      const jobs = Array.from({ length: 300 }, (_, i) => newJob(`product-${i}`));
      await queue.enqueue(jobs);
      await queue.enqueue([newJob('high', { priority: 'high' })]);
      const { jobs: claimed } = await claim(queue, { max: 101 });
      await queue.settle([retry(claimed[1]!, 0)]);
      expect(await queue.status(jobs[100]!.id)).toMatchObject({ position: 1 });
      expect(await queue.status(jobs[250]!.id)).toMatchObject({ position: 151 });
      expect(await queue.status(claimed[1]!.id)).toMatchObject({ position: 201 });
    });
  });
}
