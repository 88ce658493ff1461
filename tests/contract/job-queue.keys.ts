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
  retry,
  toImageData,
} from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeKeys(harness: QueueHarness): void {
  describe('one image, one job', () => {
    it('replaces a waiting job in place by the newer payload', async () => {
      await using queue = await harness.open();
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
      await using queue = await harness.open();
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
      await using queue = await harness.open();
      await queue.enqueue([newJob('a', { priority: 'high' }), newJob('b', { priority: 'low' })]);
      await queue.enqueue([newJob('a', { priority: 'low' }), newJob('b', { priority: 'high' })]);
      expect(await queue.stats()).toMatchObject({ waiting: { high: 2, normal: 0, low: 0 } });
    });

    it('makes a replaced job claimable at once, with fresh attempts', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      await queue.settle([retry((await claim(queue)).jobs[0]!, 3_600_000)]);
      expect(await queue.enqueue([newJob('a')])).toMatchObject([
        { id: job.id, status: 'queued', position: 1 },
      ]);
      expect((await claim(queue)).jobs).toMatchObject([
        { id: job.id, attempt: 1, redelivered: false, leasedMs: 0 },
      ]);
    });

    it('keeps exactly one follow-up of a running job, which waits for it to end', async () => {
      await using queue = await harness.open();
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
      await using queue = await harness.open();
      const running = newJob('a');
      await queue.enqueue([running]);
      const { jobs } = await claim(queue);
      const follow = newJob('a');
      await queue.enqueue([follow]);
      expect(await queue.settle([settlement(jobs[0] as never)])).toEqual(['settled']);
      expect(await queue.status(running.id)).toMatchObject({ status });
      expect((await claim(queue)).jobs).toMatchObject([{ id: follow.id }]);
      expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
    });

    it('counts the crashes of the running job for its follow-up too', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const [running, follow] = [newJob('a'), newJob('a')];
      await queue.enqueue([running]);
      const { jobs } = await claim(dying);
      await queue.enqueue([follow]);
      expect(await reapUntilGone(dying, jobs)).toEqual({ recovered: 0, poisoned: 0 });
      expect(await queue.status(running.id)).toMatchObject({ status: 'cancelled' });
      expect(await claim(queue)).toMatchObject({ jobs: [], suspectsWaiting: 1 });
      expect((await claim(queue, { suspect: true })).jobs).toMatchObject([{ id: follow.id, crashes: 1 }]);
    });

    it('runs the follow-up of a poisoned job alone', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const [poison, follow] = [newJob('a'), newJob('a')];
      await queue.enqueue([poison]);
      await crash(dying);
      await crash(dying, { suspect: true });
      const { jobs } = await claim(dying, { suspect: true });
      await queue.enqueue([follow]);
      expect(await reapUntilGone(dying, jobs)).toEqual({ recovered: 0, poisoned: 1 });
      expect((await claim(queue)).jobs).toEqual([]);
      expect((await claim(queue, { suspect: true })).jobs).toMatchObject([{ id: follow.id, crashes: 3 }]);
    });

    it('drops what is older than what waits or runs, and says so', async () => {
      await using queue = await harness.open();
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
      // The same version again is not older: someone wants it done again.
      expect(await queue.enqueue([newJob('a', { version: 10 })])).toMatchObject([{ superseded: false }]);
      expect(await queue.enqueue([newJob('a')])).toMatchObject([{ replaced: true }]);
    });

    it('stores a job without a version after one of the greatest version there is', async () => {
      await using queue = await harness.open();
      const version = Number.MAX_SAFE_INTEGER;
      await queue.enqueue([newJob('a', { version })]);
      const newer = newJob('a');
      expect(await queue.enqueue([newJob('b'), newer])).toMatchObject([
        { replaced: false },
        { replaced: true, version },
      ]);
      const { jobs } = await claim(queue);
      const job = jobs.find((job) => toImageData(job).productId === 'a')!;
      expect(job).toMatchObject({ data: newer.data, version });
      expect(job.sequence).toBeGreaterThan(jobs.find((job) => toImageData(job).productId === 'b')!.sequence);
      // The same while one runs.
      expect(await queue.enqueue([newJob('a')])).toMatchObject([{ superseded: false, version }]);
    });

    it('keeps the last of the same product image within one call', async () => {
      await using queue = await harness.open();
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

  describe('delays of jobs of one image', () => {
    it('keep a job that is due sooner: both run, each at its own time', async () => {
      await using queue = await harness.open();
      const [now, tomorrow] = [newJob('a'), newJob('a', { notBefore: inAnHour })];
      await queue.enqueue([now]);
      expect(await queue.enqueue([tomorrow])).toMatchObject([
        { id: tomorrow.id, replaced: false, superseded: false, status: 'delayed', position: null },
      ]);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, delayed: 1 });
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ id: now.id, data: now.data }]);
      await queue.settle([complete(jobs[0]!)]);
      expect(await queue.status(tomorrow.id)).toMatchObject({ status: 'delayed' });
    });

    it('let a changing product be indexed: each of its jobs stays due at its own time', async () => {
      await using queue = await harness.open();
      const jobs = [300, 100_000, 200_000].map((delayMs) => newJob('a', { notBefore: { delayMs } }));
      for (const job of jobs) expect(await queue.enqueue([job])).toMatchObject([{ replaced: false }]);
      expect(await queue.stats()).toMatchObject({ delayed: 3 });
      const first = await until('the first is due', async () => (await claim(queue)).jobs[0]);
      expect(first.id).toBe(jobs[0]!.id);
    });

    it('give way to a newer job that is due no later: the first carries it, the others are cancelled', async () => {
      await using queue = await harness.open();
      const [second, first, before] = [2, 1, 0.5].map((hours) =>
        newJob('a', { notBefore: { delayMs: hours * 3_600_000 } }),
      );
      await queue.enqueue([second!]);
      // Due sooner than the other, and newer: it takes its place.
      expect(await queue.enqueue([first!])).toMatchObject([{ id: second!.id, replaced: true }]);
      const third = newJob('a', { notBefore: { delayMs: 3 * 3_600_000 } });
      expect(await queue.enqueue([third])).toMatchObject([{ id: third.id, replaced: false }]);
      expect(await queue.enqueue([before!])).toMatchObject([
        { id: second!.id, replaced: true, status: 'delayed' },
      ]);
      expect(await queue.status(third.id)).toMatchObject({ status: 'cancelled' });
      const now = newJob('a');
      expect(await queue.enqueue([now])).toMatchObject([{ id: second!.id, replaced: true, position: 1 }]);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, delayed: 0, cancelled: 1 });
      expect((await claim(queue)).jobs).toMatchObject([{ id: second!.id, data: now.data }]);
    });

    it('do not supersede an older version that is due sooner', async () => {
      await using queue = await harness.open();
      const later = newJob('a', { version: 10, notBefore: inAnHour });
      const sooner = newJob('a', { version: 5 });
      await queue.enqueue([later]);
      expect(await queue.enqueue([sooner])).toMatchObject([
        { id: sooner.id, replaced: false, superseded: false, status: 'queued' },
      ]);
      expect(await queue.status(later.id)).toMatchObject({ status: 'delayed', version: 10 });
    });

    it('replace an older job in line when their time comes', async () => {
      await using queue = await harness.open();
      const old = newJob('a', { priority: 'high' });
      const newer = newJob('a', { notBefore: { delayMs: 200 }, priority: 'low' });
      await queue.enqueue([old]);
      await queue.enqueue([newer]);
      await queue.pause();
      const enqueuedAt = performance.now();
      await until('it is due', () => performance.now() > enqueuedAt + 250 || undefined);
      await queue.resume();
      expect((await claim(queue)).jobs).toMatchObject([{ id: newer.id, data: newer.data, priority: 'high' }]);
      expect(await queue.status(old.id)).toMatchObject({ status: 'cancelled' });
      expect(await queue.stats()).toMatchObject({ cancelled: 1, processing: 1, delayed: 0 });
    });

    it('make a job the follow-up when its time comes while one of its image runs', async () => {
      await using queue = await harness.open();
      const later = newJob('a', { notBefore: { delayMs: 100 } });
      await queue.enqueue([newJob('a')]);
      const { jobs } = await claim(queue);
      await queue.enqueue([later]);
      await until('it is due', async () => {
        expect((await claim(queue)).jobs).toEqual([]);
        return (await queue.stats()).delayed === 0 || undefined;
      });
      expect((await claim(queue)).jobs).toEqual([]);
      expect(await queue.status(later.id)).toMatchObject({ status: 'queued', position: null });
      await queue.settle([complete(jobs[0]!)]);
      expect((await claim(queue)).jobs).toMatchObject([{ id: later.id }]);
    });

    it('do not cancel the retry of a running job that is due sooner', async () => {
      await using queue = await harness.open();
      const running = newJob('a');
      await queue.enqueue([running]);
      const [lease] = (await claim(queue)).jobs;
      const tomorrow = newJob('a', { notBefore: inAnHour });
      await queue.enqueue([tomorrow]);
      await queue.settle([retry(lease!, 0)]);
      expect(await queue.status(running.id)).toMatchObject({ status: 'queued' });
      expect(await queue.status(tomorrow.id)).toMatchObject({ status: 'delayed' });
      expect((await claim(queue)).jobs).toMatchObject([{ id: running.id, attempt: 2 }]);
    });

    it.each([
      ['retried later than that', (lease: never) => retry(lease, 7_200_000), 'cancelled'],
      ['retried before that', (lease: never) => retry(lease, 60_000), 'delayed'],
      ['released', release, 'queued'],
      ['deferred', defer, 'delayed'],
    ] as const)('with a job due in an hour, one that is %s', async (_, settlement, status) => {
      await using queue = await harness.open();
      const running = newJob('a');
      await queue.enqueue([running]);
      const { jobs } = await claim(queue);
      const later = newJob('a', { notBefore: inAnHour });
      await queue.enqueue([later]);
      await queue.settle([settlement(jobs[0] as never)]);
      expect(await queue.status(running.id)).toMatchObject({ status });
      expect(await queue.status(later.id)).toMatchObject({ status: 'delayed' });
    });
  });

  describe('the age of a job that waited in the spool', () => {
    it('shifts its sequence, its version and its delay into the past', async () => {
      await using queue = await harness.open();
      const hourMs = 3_600_000;
      const [direct, aged] = [newJob('a'), newJob('b', { ageMs: hourMs })];
      const due = newJob('c', { ageMs: hourMs, notBefore: { delayMs: hourMs - 1_000 } });
      const waits = newJob('d', { ageMs: hourMs, notBefore: { delayMs: 3 * hourMs } });
      const stored = await queue.enqueue([direct, aged, due, waits]);
      const back = stored[0]!.version! - stored[1]!.version!;
      expect(Math.abs(back / 1_000 - hourMs)).toBeLessThan(1_000);
      expect(stored.map(({ status }) => status)).toEqual(['queued', 'queued', 'queued', 'delayed']);
      const view = await queue.status(waits.id);
      expect(view!.availableAt! - view!.enqueuedAt).toBe(3 * hourMs);
      const { jobs } = await claim(queue);
      const [first, second] = [direct, aged].map(({ id }) => jobs.find((job) => job.id === id)!);
      expect(second!.sequence).toBeLessThan(first!.sequence);
    });

    it('lets it not overwrite newer data of its image, waiting or running', async () => {
      await using queue = await harness.open();
      const newer = newJob('a');
      await queue.enqueue([newer]);
      expect(await queue.enqueue([newJob('a', { ageMs: 60_000 })])).toMatchObject([
        { id: newer.id, superseded: true, replaced: false },
      ]);
      expect((await claim(queue)).jobs).toMatchObject([{ id: newer.id, data: newer.data }]);
      expect(await queue.enqueue([newJob('a', { ageMs: 60_000 })])).toMatchObject([{ superseded: true }]);
    });

    it('orders jobs of the same explicit version too', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a', { version: 5 })]);
      expect(await queue.enqueue([newJob('a', { version: 5, ageMs: 60_000 })])).toMatchObject([
        { superseded: true },
      ]);
      expect(await queue.enqueue([newJob('a', { version: 5 })])).toMatchObject([{ replaced: true }]);
    });
  });
}
