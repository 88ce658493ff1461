import { describe, expect, it } from 'vitest';
import { cancel, claim, complete, crash, fail, newJob, release, retry } from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeControl(harness: QueueHarness): void {
  describe('control', () => {
    it('cancels a waiting job at once', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [job, later] = [newJob('a'), newJob('b', { notBefore: { delayMs: 3_600_000 } })];
      await queue.enqueue([job, later]);
      expect(await queue.cancel(job.id)).toBe('cancelled');
      expect(await queue.cancel(job.id)).toBe('cancelled');
      expect(await queue.cancel(later.id)).toBe('cancelled');
      expect(await queue.cancel('unheard of')).toBe('unknown');
      expect(await queue.status(job.id)).toMatchObject({ status: 'cancelled' });
      expect((await claim(queue)).jobs).toEqual([]);
      expect(await queue.stats()).toMatchObject({ cancelled: 2, delayed: 0 });
      // The key is free again.
      expect(await queue.enqueue([newJob('a')])).toMatchObject([{ replaced: false }]);
    });

    it('asks a running job to stop, by its renewal', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      expect(await queue.cancel(job.id)).toBe('requested');
      expect(await queue.status(job.id)).toMatchObject({ status: 'processing', cancelRequested: true });
      expect(await queue.renew(jobs, 60_000)).toEqual(['cancel']);
      expect(await queue.settle([cancel(jobs[0]!)])).toEqual(['settled']);
      expect(await queue.status(job.id)).toMatchObject({
        status: 'cancelled',
        history: [{ outcome: 'cancelled' }],
      });
    });

    it.each([
      ['retried', (lease: never) => retry(lease, 0)],
      ['released', release],
      ['failed', fail],
    ] as const)('ends a job that was asked to stop and is %s instead', async (_, settlement) => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      await queue.cancel(job.id);
      await queue.settle([settlement(jobs[0] as never)]);
      expect(await queue.status(job.id)).toMatchObject({ status: 'cancelled' });
    });

    it('completes a job that was asked to stop too late', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      await queue.cancel(job.id);
      expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
      expect(await queue.status(job.id)).toMatchObject({ status: 'completed', cancelRequested: true });
    });

    it('ends a job that was asked to stop and whose worker crashed', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a');
      await queue.enqueue([job]);
      await crash(queue);
      await queue.cancel(job.id);
      expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 0 });
      expect(await queue.status(job.id)).toMatchObject({ status: 'cancelled' });
    });

    it('cancels nothing that has ended', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      expect(await queue.cancel(jobs[0]!.id)).toBe('ended');
      expect(await queue.cancel(jobs[1]!.id)).toBe('ended');
    });

    it('forgets a product: cancels what waits, stops what runs, and names its images', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const jobs = ['front', 'back'].map((imageId) => newJob('a', { imageId, version: 5 }));
      const neighbour = newJob('ab');
      await queue.enqueue([jobs[0]!]);
      const { jobs: running } = await claim(queue);
      await queue.enqueue([jobs[1]!, newJob('a', { imageId: 'front', version: 7 }), neighbour]);
      const forgotten = await queue.forgetProduct('a');
      expect(forgotten.cancelled).toBe(2);
      expect([...forgotten.images].sort((x, y) => x.version - y.version)).toEqual([
        { imageId: 'back', version: 5 },
        { imageId: 'front', version: 7 },
      ]);
      expect(await queue.renew(running, 60_000)).toEqual(['cancel']);
      await queue.settle([cancel(running[0]!)]);
      expect((await claim(queue)).jobs).toMatchObject([{ id: neighbour.id }]);
      expect(await queue.forgetProduct('a')).toEqual({ cancelled: 0, images: [] });
      // It may come back, even with what was running when it was forgotten.
      expect(await queue.enqueue([newJob('a', { version: 1 })])).toMatchObject([{ superseded: false }]);
    });

    it('forgets a product with very many images', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue(Array.from({ length: 450 }, (_, i) => newJob('a', { imageId: `image-${i}` })));
      const forgotten = await queue.forgetProduct('a');
      expect(forgotten.cancelled).toBe(450);
      expect(new Set(forgotten.images.map(({ imageId }) => imageId)).size).toBe(450);
    });

    it('gives out nothing while it is paused', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue, { max: 1 });
      await queue.pause();
      await queue.pause();
      expect((await claim(queue)).jobs).toEqual([]);
      expect(await queue.stats()).toMatchObject({ paused: true, waiting: { normal: 1 } });
      expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
      await queue.resume();
      expect((await claim(queue)).jobs).toHaveLength(1);
    });

    it('recovers stale leases at a clean-up, and finds nothing to mend in a sound queue', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newJob(product)));
      await queue.enqueue([newJob('e', { notBefore: { delayMs: 3_600_000 } })]);
      await crash(queue, { max: 1 });
      const { jobs } = await claim(queue, { max: 2 });
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      expect(await queue.cleanup()).toEqual({ recovered: 1, poisoned: 0, mended: 0, checked: 5 });
    });

    it('flushes every job, whatever state it is in', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newJob(product)));
      const { jobs } = await claim(queue, { max: 3 });
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      const [before] = await queue.enqueue([newJob('z', { notBefore: { delayMs: 3_600_000 } })]);
      expect(await queue.flush()).toBe(5);
      expect(await queue.renew([jobs[2]!], 60_000)).toEqual(['lost']);
      expect(await queue.settle([complete(jobs[2]!)])).toEqual(['lost']);
      expect(await queue.stats()).toMatchObject({
        waiting: { normal: 0 },
        delayed: 0,
        processing: 0,
        dead: 0,
      });
      const [after] = await queue.enqueue([newJob('a')]);
      expect(after).toMatchObject({ replaced: false, position: 1 });
      expect(after!.version).toBeGreaterThan(before!.version ?? Infinity);
      expect(await queue.cleanup()).toMatchObject({ mended: 0 });
    });

    it('remembers the first answer under a key, for its time', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      expect(await queue.recall('key')).toBeNull();
      expect(await queue.remember('key', 'first', 60_000)).toBeNull();
      expect(await queue.recall('key')).toBe('first');
      expect(await queue.remember('key', 'second', 60_000)).toBe('first');
      expect(await queue.remember('other', 'x', 1)).toBeNull();
      await until(
        'it is forgotten',
        async () => (await queue.remember('other', 'y', 60_000)) === null || undefined,
      );
      expect(await queue.remember('other', 'z', 60_000)).toBe('y');
    });

    it('estimates the wait from the present rate', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [a, b] = [newJob('a'), newJob('b')];
      await queue.enqueue([a, b]);
      expect(await queue.status(b.id)).toMatchObject({ position: 2, etaMs: null });
      const { jobs } = await claim(queue, { max: 1 });
      await queue.settle([complete(jobs[0]!)]);
      expect(await queue.status(b.id)).toMatchObject({ position: 1, etaMs: 60_000 });
    });

    it('answers a ping', async () => {
      await using backend = await harness.open();
      await backend.queue.ping();
    });
  });
}
