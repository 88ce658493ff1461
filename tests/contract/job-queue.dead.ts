import { describe, expect, it } from 'vitest';
import type { JobPage, JobQueue } from '../../src/queue/port.ts';
import {
  brokenImage,
  claim,
  complete,
  crash,
  crashing,
  fail,
  inAnHour,
  newInlineJob,
  newJob,
  slowServer,
  toImageData,
} from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

async function bury(queue: JobQueue, products: readonly string[], error = brokenImage): Promise<string[]> {
  await queue.enqueue(products.map((product) => newJob(product)));
  const { jobs } = await claim(queue, { max: 1_000 });
  await queue.settle(jobs.map((job) => fail(job, error)));
  return jobs.map(({ id }) => id);
}

export function describeDeadLetters(harness: QueueHarness): void {
  describe('dead letters', () => {
    it('pages through them, newest first, and by code', async () => {
      await using queue = await harness.open();
      const broken = await bury(queue, ['a', 'b', 'c']);
      const slow = await bury(queue, ['d', 'e'], slowServer);
      const newest = [...broken, ...slow].reverse();
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const page: JobPage = await queue.list({
          status: 'failed',
          limit: 2,
          ...(cursor === null ? {} : { cursor }),
        });
        expect(page.total).toBe(5);
        seen.push(...page.jobs.map(({ id }) => id));
        cursor = page.nextCursor;
      } while (cursor !== null);
      expect(seen).toEqual(newest);
    });

    it('outlive the memory of ended jobs', async () => {
      await using queue = await harness.open({ endedTtlMs: 1 });
      await queue.enqueue([newJob('done')]);
      const { jobs } = await claim(queue);
      await queue.settle([complete(jobs[0]!)]);
      const [dead] = await bury(queue, ['dead']);
      await until('the completed job is forgotten', async () => {
        await queue.reap();
        return (await queue.status(jobs[0]!.id)) === null || undefined;
      });
      expect(await queue.status(dead!)).toMatchObject({ status: 'failed' });
    });

    it('come back with fresh attempts and the same payload, once', async () => {
      await using queue = await harness.open();
      const [id, other] = await bury(queue, ['a', 'b']);
      expect(await queue.redrive({ ids: [id!, 'unheard of'] })).toBe(1);
      expect(await queue.redrive({ ids: [id!] })).toBe(0);
      expect(await queue.status(id!)).toMatchObject({ status: 'queued', attempts: 0, endedAt: null });
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ id, attempt: 1, data: { productId: 'a' } }]);
      expect(await queue.list({ status: 'failed', limit: 10 })).toMatchObject({
        total: 1,
        jobs: [{ id: other }],
      });
    });

    it('come back by code or all, poison with a clean slate', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      await bury(queue, ['a', 'b']);
      await bury(queue, ['c'], slowServer);
      await queue.enqueue([newJob('poison')]);
      await crash(dying);
      await crash(dying, { suspect: true });
      expect(await crash(dying, { suspect: true })).toMatchObject({ recovered: 0, poisoned: 1 });
      expect(await queue.redrive({ code: 'image_fetch_timeout' })).toBe(1);
      expect(await queue.redrive({ code: 'job_poison' })).toBe(1);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 2 }, dead: 2 });
      expect(await queue.redrive('all')).toBe(2);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 4 }, dead: 0 });
      expect((await claim(queue)).jobs).toMatchObject(
        Array(4).fill({ crashes: 0, attempt: 1, redelivered: true }),
      );
    });

    it('come back with the version and the sequence they had', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a')]);
      const [first] = (await claim(queue)).jobs;
      await queue.settle([fail(first!)]);
      const { sequence } = await queue.forgetProduct('other');
      await queue.redrive('all');
      const [again] = (await claim(queue)).jobs;
      expect(again).toMatchObject({ version: first!.version, sequence: first!.sequence, leasedMs: 0 });
      expect(again!.sequence).toBeLessThan(sequence);
    });

    it('end as cancelled, as they were, while a newer job of their image runs', async () => {
      await using queue = await harness.open();
      const dead = newJob('a');
      await queue.enqueue([dead]);
      await queue.settle([fail((await claim(queue)).jobs[0]!)]);
      await queue.enqueue([newJob('a')]);
      await claim(queue);
      expect(await queue.redrive('all')).toBe(0);
      expect(await queue.status(dead.id)).toMatchObject({ status: 'cancelled', attempts: 1 });
    });

    it('more than one transaction holds come back too', async () => {
      await using queue = await harness.open();
      await bury(
        queue,
        Array.from({ length: 901 }, (_, i) => `product-${i}`),
      );
      expect(await queue.redrive('all')).toBe(901);
      expect(await queue.redrive('all')).toBe(0);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 901 }, dead: 0 });
    });

    it('give way to a newer job of the same image', async () => {
      await using queue = await harness.open();
      const [dead] = await bury(queue, ['a']);
      const newer = newJob('a');
      await queue.enqueue([newer]);
      expect(await queue.redrive('all')).toBe(0);
      expect(await queue.status(dead!)).toMatchObject({ status: 'cancelled' });
      expect((await claim(queue)).jobs).toMatchObject([{ id: newer.id }]);
    });

    it('give way to a newer job of the same image that runs', async () => {
      await using queue = await harness.open();
      const [dead] = await bury(queue, ['a']);
      await queue.enqueue([newJob('a')]);
      await claim(queue);
      expect(await queue.redrive('all')).toBe(0);
      expect(await queue.status(dead!)).toMatchObject({ status: 'cancelled' });
    });

    it('come back although a newer job of the image waits for a later time', async () => {
      await using queue = await harness.open();
      const [dead] = await bury(queue, ['a']);
      const later = newJob('a', { notBefore: inAnHour });
      await queue.enqueue([later]);
      expect(await queue.redrive('all')).toBe(1);
      expect((await claim(queue)).jobs).toMatchObject([{ id: dead }]);
      expect(await queue.status(later.id)).toMatchObject({ status: 'delayed' });
    });

    it('are removed for good', async () => {
      await using queue = await harness.open();
      const [a, b] = await bury(queue, ['a', 'b', 'c']);
      await bury(queue, ['d'], slowServer);
      expect(await queue.purgeDead({ ids: [a!] })).toBe(1);
      expect(await queue.status(a!)).toBeNull();
      expect(await queue.purgeDead({ code: 'image_fetch_timeout' })).toBe(1);
      expect(await queue.status(b!)).toMatchObject({ status: 'failed' });
      expect(await queue.purgeDead('all')).toBe(2);
      expect(await queue.list({ status: 'failed', limit: 10 })).toEqual({
        jobs: [],
        nextCursor: null,
        total: 0,
      });
      expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
    });

    it('are dropped when there are too many, the oldest first, and counted', async () => {
      await using queue = await harness.open({ maxDead: 2 });
      const ids = await bury(queue, ['a', 'b', 'c', 'd']);
      await until('the oldest are dropped', async () => {
        await queue.reap();
        return (await queue.stats()).dead === 2 || undefined;
      });
      expect(await queue.stats()).toMatchObject({ dead: 2, deadDropped: 2, failed: 4 });
      const { jobs } = await queue.list({ status: 'failed', limit: 10 });
      expect(jobs.map(({ id }) => id)).toEqual([ids[3], ids[2]]);
      expect(await queue.status(ids[0]!)).toBeNull();
    });

    it('lose their inline images, the oldest first, when these are too large: then no redrive', async () => {
      await using queue = await harness.open({ maxDeadInlineBytes: 150_000 });
      await queue.enqueue(['a', 'b', 'c'].map((product) => newInlineJob(product, 60_000)));
      await queue.enqueue([newJob('by-url')]);
      const { jobs } = await claim(queue);
      await queue.settle(jobs.map((job) => fail(job)));
      await queue.reap();
      expect(await queue.stats()).toMatchObject({ dead: 4, deadDropped: 0 });
      expect(await queue.redrive('all')).toBe(3);
      expect(await queue.status(jobs[0]!.id)).toMatchObject({ status: 'failed', lastError: brokenImage });
      const redriven = (await claim(queue)).jobs.map((job) => toImageData(job).productId);
      expect(redriven.sort()).toEqual(['b', 'by-url', 'c']);
    });
  });
}
