import { describe, expect, it } from 'vitest';
import type { JobQueue } from '../../src/queue/port.ts';
import { brokenImage, claim, complete, crash, fail, newJob, slowServer } from '../support/jobs.ts';
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
      await using backend = await harness.open();
      const { queue } = backend;
      const broken = await bury(queue, ['a', 'b', 'c']);
      const slow = await bury(queue, ['d', 'e'], slowServer);
      const newest = [...broken, ...slow].reverse();
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const page: Awaited<ReturnType<JobQueue['dead']>> = await queue.dead({
          limit: 2,
          ...(cursor === null ? {} : { cursor }),
        });
        expect(page.total).toBe(5);
        seen.push(...page.jobs.map(({ id }) => id));
        cursor = page.nextCursor;
      } while (cursor !== null);
      expect(seen).toEqual(newest);

      const page = await queue.dead({ code: 'image_corrupt', limit: 2 });
      expect(page).toMatchObject({ total: 3, jobs: [{ id: broken[2] }, { id: broken[1] }] });
      expect(page.jobs[0]).toMatchObject({ status: 'failed', lastError: brokenImage });
      const rest = await queue.dead({ code: 'image_corrupt', limit: 2, cursor: page.nextCursor! });
      expect(rest).toMatchObject({ jobs: [{ id: broken[0] }], nextCursor: null });
      expect(await queue.dead({ code: 'unheard_of', limit: 2 })).toEqual({
        jobs: [],
        nextCursor: null,
        total: 0,
      });
    });

    it('outlive the memory of ended jobs', async () => {
      await using backend = await harness.open({ endedTtlMs: 1 });
      const { queue } = backend;
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
      await using backend = await harness.open();
      const { queue } = backend;
      const [id, other] = await bury(queue, ['a', 'b']);
      expect(await queue.redrive({ ids: [id!, 'unheard of'] })).toBe(1);
      expect(await queue.redrive({ ids: [id!] })).toBe(0);
      expect(await queue.status(id!)).toMatchObject({ status: 'queued', attempts: 0, endedAt: null });
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ id, attempt: 1, data: { productId: 'a' } }]);
      expect(await queue.dead({ limit: 10 })).toMatchObject({ total: 1, jobs: [{ id: other }] });
    });

    it('come back by code or all, poison with a clean slate', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await bury(queue, ['a', 'b']);
      await bury(queue, ['c'], slowServer);
      await queue.enqueue([newJob('poison')]);
      await crash(queue);
      for (const suspect of [true, true]) {
        await queue.reap();
        await crash(queue, { suspect });
      }
      expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 1 });
      expect(await queue.redrive({ code: 'image_fetch_timeout' })).toBe(1);
      expect(await queue.redrive({ code: 'job_poison' })).toBe(1);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 2 }, dead: 2 });
      expect(await queue.redrive('all')).toBe(2);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 4 }, dead: 0 });
    });

    it('more than one transaction holds come back too', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await bury(
        queue,
        Array.from({ length: 901 }, (_, i) => `product-${i}`),
      );
      expect(await queue.redrive('all')).toBe(901);
      expect(await queue.redrive('all')).toBe(0);
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 901 }, dead: 0 });
    });

    it('give way to a newer job of the same image', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [dead] = await bury(queue, ['a']);
      const newer = newJob('a');
      await queue.enqueue([newer]);
      expect(await queue.redrive('all')).toBe(0);
      expect(await queue.status(dead!)).toMatchObject({ status: 'cancelled' });
      expect((await claim(queue)).jobs).toMatchObject([{ id: newer.id }]);
    });

    it('are removed for good', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [a, b] = await bury(queue, ['a', 'b', 'c']);
      await bury(queue, ['d'], slowServer);
      expect(await queue.purgeDead({ ids: [a!] })).toBe(1);
      expect(await queue.status(a!)).toBeNull();
      expect(await queue.purgeDead({ code: 'image_fetch_timeout' })).toBe(1);
      expect(await queue.status(b!)).toMatchObject({ status: 'failed' });
      expect(await queue.purgeDead('all')).toBe(2);
      expect(await queue.dead({ limit: 10 })).toEqual({ jobs: [], nextCursor: null, total: 0 });
      expect(await queue.cleanup()).toMatchObject({ mended: 0 });
    });
  });
}
