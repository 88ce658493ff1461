import { describe, expect, it } from 'vitest';
import { cancel, claim, complete, crash, fail, newJob, release, retry } from '../support/jobs.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeKeys(harness: QueueHarness): void {
  describe('one image, one job', () => {
    it('replaces a waiting job in place by the newer payload', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [old, other] = [newJob('a', { priority: 'low' }), newJob('b', { priority: 'low' })];
      await queue.enqueue([old, other]);
      const newer = newJob('a', { priority: 'low', maxAttempts: 5, url: 'http://images.example/newer' });
      const [answer] = await queue.enqueue([newer]);
      expect(answer).toMatchObject({
        id: old.id,
        replaced: true,
        superseded: false,
        status: 'queued',
        position: 1,
      });
      expect(await queue.status(newer.id)).toMatchObject({ id: old.id, status: 'queued' });
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ id: old.id, data: newer.data, maxAttempts: 5 }, { id: other.id }]);
    });

    it('takes the id of an absorbed enqueue for the job that carries its data', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [first, second, third] = [newJob('a'), newJob('a'), newJob('a')];
      await queue.enqueue([first]);
      await queue.enqueue([second]);
      await queue.enqueue([third]);
      expect(await queue.status(second.id)).toMatchObject({ id: first.id });
      // Its data were replaced by newer ones, which nobody asked to cancel.
      expect(await queue.cancel(second.id)).toBe('ended');
      expect(await queue.cancel(third.id)).toBe('cancelled');
      expect(await queue.cancel(third.id)).toBe('cancelled');
      expect(await queue.status(third.id)).toMatchObject({ id: first.id, status: 'cancelled' });

      await queue.enqueue([newJob('b', { version: 2 })]);
      const stale = newJob('b', { version: 1 });
      const [{ id } = { id: '' }] = await queue.enqueue([stale]);
      expect(await queue.status(stale.id)).toMatchObject({ id, version: 2 });
      expect(await queue.cancel(stale.id)).toBe('ended');
      expect(await queue.status(id)).toMatchObject({ status: 'queued' });
    });

    it('lets the replaced job keep the higher priority', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue([newJob('a', { priority: 'high' }), newJob('b', { priority: 'low' })]);
      await queue.enqueue([newJob('a', { priority: 'low' }), newJob('b', { priority: 'high' })]);
      expect(await queue.stats()).toMatchObject({ waiting: { high: 2, normal: 0, low: 0 } });
    });

    it('makes a replaced job claimable at once, with fresh attempts, unless it is asked to wait', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a');
      await queue.enqueue([job]);
      await queue.settle([retry((await claim(queue)).jobs[0]!, 3_600_000)]);
      expect(await queue.enqueue([newJob('a')])).toMatchObject([
        { id: job.id, status: 'queued', position: 1 },
      ]);
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ id: job.id, attempt: 1 }]);
      await queue.settle([retry(jobs[0]!, 0)]);
      const [waits] = await queue.enqueue([newJob('a', { notBefore: { delayMs: 3_600_000 } })]);
      expect(waits).toMatchObject({ id: job.id, status: 'delayed', position: null });
    });

    it('gives a running job exactly one follow-up, which waits for it to end', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const running = newJob('a');
      await queue.enqueue([running]);
      const { jobs } = await claim(queue);
      const follow = newJob('a', { url: 'http://images.example/2' });
      expect(await queue.enqueue([follow])).toMatchObject([
        { id: follow.id, replaced: false, status: 'queued', position: null },
      ]);
      const newest = newJob('a', { url: 'http://images.example/3' });
      expect(await queue.enqueue([newest])).toMatchObject([{ id: follow.id, replaced: true }]);
      expect((await claim(queue)).jobs).toEqual([]);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, processing: 1 });
      await queue.settle([complete(jobs[0]!)]);
      expect((await claim(queue)).jobs).toMatchObject([{ id: follow.id, data: newest.data }]);
    });

    it.each([
      ['fails', fail, 'failed'],
      ['is cancelled', cancel, 'cancelled'],
      [
        'is to be retried: the newer one makes it needless',
        (lease: never) => retry(lease, 3_600_000),
        'cancelled',
      ],
      ['is released: the newer one makes it needless', release, 'cancelled'],
    ] as const)('lets the follow-up go when the running job %s', async (_, settlement, status) => {
      await using backend = await harness.open();
      const { queue } = backend;
      const running = newJob('a');
      await queue.enqueue([running]);
      const { jobs } = await claim(queue);
      const follow = newJob('a');
      await queue.enqueue([follow]);
      expect(await queue.settle([settlement(jobs[0] as never)])).toEqual(['settled']);
      expect(await queue.status(running.id)).toMatchObject({ status });
      expect((await claim(queue)).jobs).toMatchObject([{ id: follow.id }]);
      expect(await queue.cleanup()).toMatchObject({ mended: 0 });
    });

    it('hands the suspicion on to the follow-up when the running job crashes its worker', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const running = newJob('a');
      await queue.enqueue([running]);
      await crash(queue);
      const follow = newJob('a');
      await queue.enqueue([follow]);
      expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 0 });
      expect(await queue.status(running.id)).toMatchObject({ status: 'cancelled' });
      expect(await claim(queue)).toMatchObject({ jobs: [], suspectsWaiting: 1 });
      expect((await claim(queue, { suspect: true })).jobs).toMatchObject([{ id: follow.id, crashes: 1 }]);
    });

    it('drops what is older than what waits or runs, and says so', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a', { version: 10 });
      await queue.enqueue([job]);
      const older = newJob('a', { version: 9 });
      const answer = await queue.enqueue([older]);
      expect(answer).toMatchObject([
        { id: job.id, superseded: true, replaced: false, version: 10, position: 1 },
      ]);
      expect(await queue.enqueue([older])).toEqual(answer);
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ data: job.data, version: 10 }]);
      expect(await queue.enqueue([newJob('a', { version: 9 })])).toMatchObject([
        { id: job.id, superseded: true, status: 'processing' },
      ]);
      // The same version again is not older: someone wants it done anew.
      expect(await queue.enqueue([newJob('a', { version: 10 })])).toMatchObject([{ superseded: false }]);
      expect(await queue.enqueue([newJob('a')])).toMatchObject([{ replaced: true }]);
    });

    it('orders what has no version after what waits, even after a version from the future', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const version = Number.MAX_SAFE_INTEGER - 10;
      await queue.enqueue([newJob('a', { version })]);
      expect(await queue.enqueue([newJob('a')])).toMatchObject([{ replaced: true, version: version + 1 }]);
    });

    it('keeps the last of the same product image within one call', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const jobs = [1, 2, 3].map((n) => newJob('a', { url: `http://images.example/${n}` }));
      const stored = await queue.enqueue(jobs);
      expect(stored.map(({ id, replaced }) => [id, replaced])).toEqual([
        [jobs[0]!.id, false],
        [jobs[0]!.id, true],
        [jobs[0]!.id, true],
      ]);
      expect((await claim(queue)).jobs).toMatchObject([{ data: jobs[2]!.data }]);
    });
  });
}
