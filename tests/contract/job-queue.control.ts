import { describe, expect, it } from 'vitest';
import {
  cancel,
  claim,
  complete,
  crash,
  crashing,
  defer,
  fail,
  inAnHour,
  newJob,
  reapUntilGone,
  release,
  renew,
  retry,
  toImageData,
} from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeControl(harness: QueueHarness): void {
  describe('control', () => {
    it('cancels a waiting job at once', async () => {
      await using queue = await harness.open();
      const [job, later] = [newJob('a'), newJob('b', { notBefore: inAnHour })];
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
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      expect(await queue.cancel(job.id)).toBe('requested');
      expect(await queue.status(job.id)).toMatchObject({ status: 'processing', cancelRequested: true });
      expect(await renew(queue, jobs)).toEqual(['cancel']);
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
      ['deferred', defer],
    ] as const)('ends a job that was asked to stop and is %s instead', async (_, settlement) => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      await queue.cancel(job.id);
      await queue.settle([settlement(jobs[0] as never)]);
      expect(await queue.status(job.id)).toMatchObject({ status: 'cancelled' });
    });

    it('completes a job that was asked to stop too late', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      await queue.cancel(job.id);
      expect(await queue.settle([complete(jobs[0]!)])).toEqual(['settled']);
      expect(await queue.status(job.id)).toMatchObject({ status: 'completed', cancelRequested: true });
    });

    it('ends a job that was asked to stop and whose worker crashed', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const job = newJob('a');
      await queue.enqueue([job]);
      await claim(dying);
      await queue.cancel(job.id);
      expect(await reapUntilGone(dying, [job])).toEqual({ recovered: 0, poisoned: 0 });
      expect(await queue.status(job.id)).toMatchObject({ status: 'cancelled' });
    });

    it('cancels nothing that has ended', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      expect(await queue.cancel(jobs[0]!.id)).toBe('ended');
      expect(await queue.cancel(jobs[1]!.id)).toBe('ended');
    });

    it('forgets a product: cancels what waits, stops what runs, and names its images', async () => {
      await using queue = await harness.open();
      const neighbour = newJob('ab');
      await queue.enqueue([newJob('a', { imageId: 'front', version: 5 })]);
      const { jobs: running } = await claim(queue);
      await queue.enqueue([
        newJob('a', { imageId: 'back', version: 5 }),
        newJob('a', { imageId: 'side', notBefore: inAnHour }),
        newJob('a', { imageId: 'front', version: 7 }),
        neighbour,
      ]);
      const forgotten = await queue.forgetProduct('a');
      expect(forgotten.cancelled).toBe(3);
      expect([...forgotten.imageIds].sort()).toEqual(['back', 'front', 'side']);
      expect(await renew(queue, running)).toEqual(['cancel']);
      await queue.settle([cancel(running[0]!)]);
      expect((await claim(queue)).jobs).toMatchObject([{ id: neighbour.id }]);
      expect(await queue.forgetProduct('a')).toMatchObject({ cancelled: 0, imageIds: [] });
      // It may come back, even with an older version than was running when it was forgotten.
      expect(await queue.enqueue([newJob('a', { imageId: 'front', version: 1 })])).toMatchObject([
        { superseded: false },
      ]);
    });

    it('forgets the dead letters of a product too: neither a redrive nor a retry brings it back', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      await queue.settle(jobs.map((job) => fail(job)));
      expect(await queue.forgetProduct('a')).toMatchObject({ cancelled: 1, imageIds: ['main'] });
      expect(await queue.status(jobs[0]!.id)).toMatchObject({ status: 'cancelled' });
      expect(await queue.redrive({ ids: [jobs[0]!.id] })).toBe(0);
      expect(await queue.redrive('all')).toBe(1);
      expect((await claim(queue)).jobs).toMatchObject([{ id: jobs[1]!.id }]);
      expect(await queue.stats()).toMatchObject({ dead: 0, cancelled: 1 });
    });

    it('orders a deletion after every job before it, and before every job after it', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a', { version: Number.MAX_SAFE_INTEGER }), newJob('b')]);
      const before = (await claim(queue)).jobs;
      const first = await queue.forgetProduct('a');
      const second = await queue.forgetProduct('unheard of');
      expect(first.sequence).toBeGreaterThan(Math.max(...before.map(({ sequence }) => sequence)));
      expect(second.sequence).toBeGreaterThan(first.sequence);
      await using other = await harness.reopen();
      await other.enqueue([newJob('c')]);
      const [after] = (await claim(other)).jobs;
      expect(after!.sequence).toBeGreaterThan(second.sequence);
    });

    it('forgets a product with very many images', async () => {
      await using queue = await harness.open();
      await queue.enqueue(Array.from({ length: 450 }, (_, i) => newJob('a', { imageId: `image-${i}` })));
      const forgotten = await queue.forgetProduct('a');
      expect(forgotten.cancelled).toBe(450);
      expect(new Set(forgotten.imageIds).size).toBe(450);
    });

    it('forgets one image of a product, and leaves the others alone', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a', { imageId: 'dead' }), newJob('a', { imageId: 'front' })]);
      const { jobs } = await claim(queue);
      await queue.settle([fail(jobs[0]!)]);
      await queue.enqueue([
        newJob('a', { imageId: 'front' }),
        newJob('a', { imageId: 'front', notBefore: inAnHour }),
        newJob('a', { imageId: 'side' }),
        newJob('b', { imageId: 'front' }),
      ]);
      const front = await queue.forgetProduct('a', 'front');
      expect(front).toMatchObject({ cancelled: 2, imageIds: ['front'] });
      expect(front.sequence).toBeGreaterThan(jobs[1]!.sequence);
      expect(await renew(queue, [jobs[1]!])).toEqual(['cancel']);
      expect(await queue.forgetProduct('a', 'dead')).toMatchObject({ cancelled: 1, imageIds: ['dead'] });
      expect(await queue.forgetProduct('a', 'unheard of')).toMatchObject({ cancelled: 0, imageIds: [] });
      const left = (await claim(queue)).jobs.map((job) => {
        const { productId, imageId } = toImageData(job);
        return [productId, imageId];
      });
      expect(left).toEqual([
        ['a', 'side'],
        ['b', 'front'],
      ]);
    });

    it('lists the jobs of a product that wait, run or are dead letters, by image', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['done', 'dead', 'runs', 'stopped'].map((imageId) => newJob('a', { imageId })));
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      await queue.cancel(jobs[3]!.id);
      await queue.enqueue([
        newJob('a', { imageId: 'later', notBefore: inAnHour }),
        newJob('a', { imageId: 'waits' }),
        newJob('ab'),
        newJob('A'),
      ]);
      const found = await queue.jobsOf('a');
      expect(found.map(({ imageId, status }) => [imageId, status])).toEqual([
        ['dead', 'failed'],
        ['later', 'delayed'],
        ['runs', 'processing'],
        ['stopped', 'processing'],
        ['waits', 'queued'],
      ]);
      expect(found[0]).toMatchObject({ id: jobs[1]!.id, productId: 'a', lastError: expect.any(Object) });
      expect(found.map(({ cancelRequested }) => cancelRequested)).toEqual([false, false, false, true, false]);
      expect(await queue.jobsOf('unheard of')).toEqual([]);
    });

    it('numbers a change between the jobs before it and those after it', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a', { version: Number.MAX_SAFE_INTEGER })]);
      const [before] = (await claim(queue)).jobs;
      const first = await queue.nextSequence();
      const second = await queue.nextSequence();
      await using other = await harness.reopen();
      await other.enqueue([newJob('b', { version: 1 })]);
      const [after] = (await claim(other)).jobs;
      const numbers = [before!.sequence, first, second, after!.sequence];
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      expect(new Set(numbers).size).toBe(4);
    });

    it('hands out nothing while it is paused', async () => {
      await using queue = await harness.open();
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

    it('recovers expired leases at a clean-up, and finds nothing to repair in a sound queue', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newJob(product)));
      await queue.enqueue([newJob('e', { notBefore: inAnHour })]);
      await crash(dying, { max: 1 });
      const { jobs } = await claim(queue, { max: 3 });
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!), defer(jobs[2]!, 60_000)]);
      expect(await queue.cleanup()).toEqual({ recovered: 0, poisoned: 0, repaired: 0, checked: 5 });
    });

    it('flushes every job, whatever state it is in', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['a', 'b', 'c', 'd'].map((product) => newJob(product)));
      const { jobs } = await claim(queue, { max: 3 });
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      const [before] = await queue.enqueue([newJob('z', { notBefore: inAnHour })]);
      expect(await queue.flush()).toBe(5);
      expect(await renew(queue, [jobs[2]!])).toEqual(['lost']);
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
      expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
    });

    it('flushes the totals, the remembered answers and the ids of enqueues too', async () => {
      await using queue = await harness.open();
      const [job, dead, replacing] = [newJob('a'), newJob('b'), newJob('a')];
      await queue.enqueue([job, dead, replacing]);
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!), fail(jobs[1]!)]);
      await queue.remember('key', 'answer', 60_000);
      await queue.flush();
      expect(await queue.recall('key')).toBeNull();
      expect(await queue.stats()).toMatchObject({
        ...{ completed: 0, failed: 0, cancelled: 0, deadDropped: 0, recentlyDead: 0 },
        ...{ completedPerSecond: 0, failureRate: 0, processingMs: null, oldestWaitingMs: null, hosts: [] },
      });
      expect(await queue.enqueue([job, replacing])).toMatchObject([
        { id: job.id, replaced: false },
        { id: job.id, replaced: true },
      ]);
      expect((await claim(queue)).jobs).toHaveLength(1);
    });

    it('stays paused over a flush', async () => {
      await using queue = await harness.open();
      await queue.pause();
      await queue.flush();
      expect(await queue.stats()).toMatchObject({ paused: true });
    });

    it('remembers the first answer under a key, for its time', async () => {
      await using queue = await harness.open();
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

    it('answers a ping', async () => {
      await using queue = await harness.open();
      await queue.ping();
    });
  });
}
