import { describe, expect, it } from 'vitest';
import type { JobStatus } from '../../src/queue/job.ts';
import type { JobPage, JobQueue } from '../../src/queue/port.ts';
import {
  brokenImage,
  cancel,
  claim,
  complete,
  defer,
  fail,
  inAnHour,
  newJob,
  renew,
  retry,
  slowServer,
} from '../support/jobs.ts';
import { until } from '../support/until.ts';
import { newWorkerReport as report } from '../support/worker-reports.ts';
import type { QueueHarness } from './job-queue.contract.ts';

/** The ids of all pages, of two jobs each. */
async function listAll(queue: JobQueue, status: JobStatus): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | null = null;
  do {
    const page: JobPage = await queue.list({ status, limit: 2, ...(cursor === null ? {} : { cursor }) });
    ids.push(...page.jobs.map(({ id }) => id));
    for (const job of page.jobs) expect(job.status).toBe(status);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return ids;
}

export function describeViews(harness: QueueHarness): void {
  describe('lists', () => {
    it('jobs of each status, the latest first, but the longest running first', async () => {
      await using queue = await harness.open();
      const jobs = Array.from({ length: 20 }, (_, i) => newJob(`p${i}`));
      const delayed = Array.from({ length: 3 }, (_, i) => newJob(`d${i}`, { notBefore: inAnHour }));
      await queue.enqueue([...jobs, ...delayed]);
      const claimed = [];
      for (let i = 0; i < 12; i += 1) claimed.push(...(await claim(queue, { max: 1 })).jobs);
      for (const job of claimed.slice(0, 3)) await queue.settle([complete(job)]);
      for (const job of claimed.slice(3, 6)) await queue.settle([fail(job)]);
      for (const job of claimed.slice(6, 9)) await queue.settle([cancel(job)]);
      const ids = (from: readonly { id: string }[]) => from.map(({ id }) => id);
      expect(await listAll(queue, 'queued')).toEqual(ids(jobs.slice(12)).reverse());
      expect(await listAll(queue, 'delayed')).toEqual(ids(delayed).reverse());
      expect(await listAll(queue, 'processing')).toEqual(ids(claimed.slice(9)));
      expect(await listAll(queue, 'completed')).toEqual(ids(claimed.slice(0, 3)).reverse());
      expect(await listAll(queue, 'failed')).toEqual(ids(claimed.slice(3, 6)).reverse());
      expect(await listAll(queue, 'cancelled')).toEqual(ids(claimed.slice(6, 9)).reverse());
      for (const [status, total] of [
        ['queued', 8],
        ['delayed', 3],
        ['processing', 3],
        ['failed', 3],
      ] as const) {
        expect(await queue.list({ status, limit: 1 })).toMatchObject({ total });
      }
    });

    it('dead letters by code, with the total of that code', async () => {
      await using queue = await harness.open();
      await queue.enqueue(['a', 'b', 'c', 'd', 'e'].map((product) => newJob(product)));
      const { jobs } = await claim(queue);
      await queue.settle(jobs.map((job, i) => fail(job, i < 3 ? brokenImage : slowServer)));
      const page = await queue.list({ status: 'failed', code: 'image_corrupt', limit: 2 });
      expect(page).toMatchObject({ total: 3, jobs: [{ id: jobs[2]!.id }, { id: jobs[1]!.id }] });
      expect(page.jobs[0]).toMatchObject({ status: 'failed', lastError: brokenImage });
      const rest = { status: 'failed', code: 'image_corrupt', limit: 2, cursor: page.nextCursor! } as const;
      expect(await queue.list(rest)).toMatchObject({
        jobs: [{ id: jobs[0]!.id }],
        nextCursor: null,
        total: 3,
      });
      expect(await queue.list({ status: 'failed', code: 'unheard_of', limit: 2 })).toEqual({
        jobs: [],
        nextCursor: null,
        total: 0,
      });
    });

    it('deferred jobs as delayed', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a')]);
      const { jobs } = await claim(queue);
      await queue.settle([defer(jobs[0]!, 60_000)]);
      expect(await listAll(queue, 'delayed')).toEqual([jobs[0]!.id]);
      expect(await listAll(queue, 'queued')).toEqual([]);
    });

    it('jobs whose time has come as queued, even while nobody claims', async () => {
      await using queue = await harness.open();
      const job = newJob('a', { notBefore: { delayMs: 50 } });
      await queue.enqueue([job]);
      await until(
        'its time has come',
        async () => (await queue.status(job.id))?.status === 'queued' || undefined,
      );
      expect(await listAll(queue, 'queued')).toEqual([job.id]);
      expect(await listAll(queue, 'delayed')).toEqual([]);
      expect(await queue.list({ status: 'queued', limit: 1 })).toMatchObject({ total: 1 });
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, delayed: 0 });
      expect((await claim(queue)).jobs).toMatchObject([{ id: job.id }]);
    });

    it.each(['', 'x', '-1', '1e3', '1.5', '99999999999999999999', "1' OR 1"])(
      'refuse the cursor "%s"',
      async (cursor) => {
        await using queue = await harness.open();
        for (const status of ['failed', 'queued', 'processing'] as const) {
          await expect(queue.list({ status, limit: 2, cursor })).rejects.toMatchObject({
            code: 'invalid_request',
          });
        }
      },
    );
  });

  describe('the view of a job', () => {
    it('shows its stage as of the last renewal, while it runs', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      expect(await queue.status(job.id)).toMatchObject({ stage: null });
      const { jobs } = await claim(queue);
      expect(await queue.status(job.id)).toMatchObject({ stage: 'waiting' });
      await renew(queue, jobs, 'embedding');
      expect(await queue.status(job.id)).toMatchObject({ status: 'processing', stage: 'embedding' });
      await queue.settle([retry(jobs[0]!, 0)]);
      expect(await queue.status(job.id)).toMatchObject({ stage: null });
      expect((await claim(queue)).jobs).toHaveLength(1);
      expect(await queue.status(job.id)).toMatchObject({ stage: 'waiting' });
    });

    it('estimates the wait from the present rate, and not while paused', async () => {
      await using queue = await harness.open();
      const [a, b] = [newJob('a'), newJob('b')];
      await queue.enqueue([a, b]);
      expect(await queue.status(b.id)).toMatchObject({ position: 2, etaMs: null });
      const { jobs } = await claim(queue, { max: 1 });
      await queue.settle([complete(jobs[0]!)]);
      expect(await queue.status(b.id)).toMatchObject({ position: 1, etaMs: 60_000 });
      await queue.pause();
      expect(await queue.status(b.id)).toMatchObject({ position: 1, etaMs: null });
    });

    it('has the result and its outcome', async () => {
      await using queue = await harness.open();
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      const settlement = complete(jobs[0]!);
      await queue.settle([settlement]);
      expect(await queue.status(job.id)).toMatchObject({ result: { outcome: 'indexed', pointId: 'point' } });
    });
  });

  describe('statistics', () => {
    it('have the p50 and p95 of the last thousand jobs', async () => {
      await using queue = await harness.open();
      expect(await queue.stats()).toMatchObject({ processingMs: null });
      const run = async (count: number, processingMs: (i: number) => number) => {
        await queue.enqueue(Array.from({ length: count }, (_, i) => newJob(`p${i}`)));
        const { jobs } = await claim(queue, { max: count });
        await queue.settle(jobs.map((job, i) => complete(job, processingMs(i))));
      };
      await run(500, () => 9_000_000);
      await run(1_000, (i) => i + 1);
      expect(await queue.stats()).toMatchObject({ processingMs: { p50: 500, p95: 950 } });
    });
  });

  describe('waiting for work', () => {
    const noSignal = new AbortController().signal;

    /** Milliseconds until it resolves, with nothing claimable at the start. */
    async function measure(queue: JobQueue, during: () => Promise<unknown>, timeoutMs = 20_000) {
      expect((await claim(queue)).jobs).toEqual([]);
      const startedAt = performance.now();
      const waiting = queue.waitForWork(timeoutMs, noSignal);
      await during();
      await waiting;
      return performance.now() - startedAt;
    }

    it('ends when a job is enqueued, by this process or another', async () => {
      await using queue = await harness.open();
      await using other = await harness.reopen();
      expect(await measure(queue, () => queue.enqueue([newJob('a')]))).toBeLessThan(5_000);
      await claim(queue);
      expect(await measure(queue, () => other.enqueue([newJob('b')]))).toBeLessThan(5_000);
      expect((await claim(queue)).jobs).toHaveLength(1);
    });

    it('ends when a job is to be retried, when one is redriven, and when the queue is resumed', async () => {
      await using queue = await harness.open();
      await using other = await harness.reopen();
      await queue.enqueue([newJob('a')]);
      const [first] = (await claim(queue)).jobs;
      expect(await measure(queue, () => other.settle([retry(first!, 0)]))).toBeLessThan(5_000);
      const [second] = (await claim(queue)).jobs;
      await queue.settle([fail(second!)]);
      expect(await measure(queue, () => other.redrive('all'))).toBeLessThan(5_000);
      await queue.pause();
      expect(await measure(queue, () => other.resume())).toBeLessThan(5_000);
    });

    it('ends at once when a job came since the last claim', async () => {
      await using queue = await harness.open();
      await using other = await harness.reopen();
      await claim(queue);
      await other.enqueue([newJob('a')]);
      const startedAt = performance.now();
      await queue.waitForWork(20_000, noSignal);
      expect(performance.now() - startedAt).toBeLessThan(5_000);
    });

    it('ends after its time, and when it is aborted', async () => {
      await using queue = await harness.open();
      const startedAt = performance.now();
      await claim(queue);
      await queue.waitForWork(100, noSignal);
      expect(performance.now() - startedAt).toBeGreaterThanOrEqual(95);
      const abort = new AbortController();
      const aborted = queue.waitForWork(20_000, abort.signal);
      abort.abort();
      await aborted;
      await queue.waitForWork(20_000, abort.signal);
      expect(performance.now() - startedAt).toBeLessThan(10_000);
    });
  });

  describe('claims', () => {
    it('say when the next delayed job is due', async () => {
      await using queue = await harness.open();
      expect(await claim(queue)).toMatchObject({ jobs: [], nextDueMs: null });
      await queue.enqueue([
        newJob('a', { notBefore: inAnHour }),
        newJob('b', { notBefore: { delayMs: 60_000 } }),
      ]);
      const { nextDueMs } = await claim(queue);
      expect(nextDueMs).toBeGreaterThan(50_000);
      expect(nextDueMs).toBeLessThanOrEqual(60_000);
    });
  });

  describe('workers', () => {
    it('are listed by id, with what they reported last', async () => {
      await using queue = await harness.open();
      expect(await queue.workers()).toEqual([]);
      await queue.heartbeat(report('b'));
      await queue.heartbeat(report('a'));
      await queue.heartbeat({ ...report('b'), done: 11 });
      const workers = await queue.workers();
      expect(workers.map(({ id }) => id)).toEqual(['a', 'b']);
      expect(workers[1]).toMatchObject({ ...report('b'), done: 11 });
      expect(workers[1]!.lastSeenMs).toBeGreaterThanOrEqual(0);
      expect(workers[1]!.lastSeenMs).toBeLessThan(60_000);
    });

    it('are gone at once when they stop', async () => {
      await using queue = await harness.open();
      await queue.heartbeat(report('stops'));
      await queue.heartbeat(report('stays'));
      await queue.removeWorker('stops');
      await queue.removeWorker('stops');
      await queue.removeWorker('unheard of');
      expect(await queue.workers()).toMatchObject([{ id: 'stays' }]);
    });
  });
}
