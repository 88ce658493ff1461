import { describe, expect, it } from 'vitest';
import type { ClaimedJob, JobQueue, NewJob } from '../../src/queue/port.ts';
import { DELIVERY_RETRY } from '../../src/queue/retry-policy.ts';
import {
  cancel,
  claim,
  complete,
  crash,
  crashing,
  defer,
  fail,
  inAnHour,
  newInlineJob,
  newJob,
  reapUntilGone,
  release,
  retry,
} from '../support/jobs.ts';
import type { QueueHarness } from './job-queue.contract.ts';

const url = 'https://shop.example/hook?token=1';
const withCallback = (productId: string, over: Partial<NewJob> & { imageId?: string } = {}) =>
  newJob(productId, { callbackUrl: url, ...over });

/** Which ends of which jobs are reported, and where, in order. */
async function reports(queue: JobQueue) {
  const { jobs, total } = await queue.deliveries({ limit: 100 });
  expect(total).toBe(jobs.length);
  return jobs.map(({ delivery }) => delivery).toReversed();
}

async function claimOne(queue: JobQueue, id: string): Promise<ClaimedJob> {
  const { jobs } = await claim(queue);
  const job = jobs.find((each) => each.id === id);
  if (job === undefined) throw new Error('The job was not claimed.');
  return job;
}

type Ending = (queue: JobQueue, job: NewJob, harness: QueueHarness) => Promise<unknown>;

/** Ends the job, and makes each call that ends it twice. */
const ENDINGS: readonly (readonly [string, 'completed' | 'failed' | 'cancelled', Ending])[] = [
  [
    'completed',
    'completed',
    async (queue, { id }) => {
      const job = await claimOne(queue, id);
      await queue.settle([complete(job)]);
      await queue.settle([complete(job)]);
    },
  ],
  [
    'failed for good',
    'failed',
    async (queue, { id }) => {
      const job = await claimOne(queue, id);
      await queue.settle([fail(job)]);
      await queue.settle([fail(job)]);
    },
  ],
  [
    'out of attempts',
    'failed',
    async (queue, { id }) => {
      for (let attempt = 1; attempt <= 3; attempt++) {
        expect(await reports(queue)).toEqual([]);
        const job = await claimOne(queue, id);
        await queue.settle([retry(job, 0)]);
        await queue.settle([retry(job, 0)]);
      }
    },
  ],
  [
    'cancelled while it waited',
    'cancelled',
    async (queue, { id }) => {
      await queue.cancel(id);
      await queue.cancel(id);
    },
  ],
  [
    'cancelled while it ran',
    'cancelled',
    async (queue, { id }) => {
      const job = await claimOne(queue, id);
      await queue.cancel(id);
      expect(await reports(queue)).toEqual([]);
      await queue.settle([cancel(job)]);
      await queue.settle([cancel(job)]);
    },
  ],
  [
    'cancelled, and released by its worker',
    'cancelled',
    async (queue, { id }) => {
      const job = await claimOne(queue, id);
      await queue.cancel(id);
      await queue.settle([release(job)]);
      await queue.settle([release(job)]);
    },
  ],
  [
    'cancelled, and lost by its worker',
    'cancelled',
    async (queue, { id }, harness) => {
      await using impatient = await harness.reopen(crashing);
      await queue.cancel((await claimOne(impatient, id)).id);
      await reapUntilGone(impatient, [{ id }]);
      await impatient.reap();
    },
  ],
  [
    'the end of three workers',
    'failed',
    async (queue, _job, harness) => {
      await using impatient = await harness.reopen(crashing);
      await crash(impatient);
      await crash(impatient, { suspect: true });
      expect(await reports(queue)).toEqual([]);
      await crash(impatient, { suspect: true });
      await impatient.reap();
    },
  ],
  [
    'unreadable',
    'failed',
    async (queue, { id }, harness) => {
      await harness.spoil(id);
      expect((await claim(queue)).jobs.filter(({ data }) => data.kind === 'image')).toEqual([]);
    },
  ],
  [
    'of a product that was deleted',
    'cancelled',
    async (queue, { data }) => {
      await queue.forgetProduct(data.productId);
      await queue.forgetProduct(data.productId);
    },
  ],
  [
    'of a product that was deleted while it ran',
    'cancelled',
    async (queue, { id, data }) => {
      const job = await claimOne(queue, id);
      await queue.forgetProduct(data.productId);
      await queue.settle([cancel(job)]);
    },
  ],
  [
    'made needless by its follow-up',
    'cancelled',
    async (queue, { id, data }) => {
      const job = await claimOne(queue, id);
      await queue.enqueue([newJob(data.productId)]);
      await queue.settle([release(job)]);
    },
  ],
  [
    'a delayed one, made needless by a newer one',
    'cancelled',
    async (queue, { id, data }) => {
      const job = await claimOne(queue, id);
      await queue.settle([retry(job, 60_000)]);
      await queue.enqueue([newJob(data.productId, { version: 0, notBefore: { delayMs: 30_000 } })]);
      // It replaces both: the one that is due first goes on with its data, and the other ends.
      await queue.enqueue([newJob(data.productId)]);
    },
  ],
];

export function describeCallbacks(harness: QueueHarness): void {
  describe('callbacks', () => {
    it.each(ENDINGS)('report once a job that is %s', async (_, end, finish) => {
      await using queue = await harness.open();
      const job = withCallback('a');
      await queue.enqueue([job]);
      expect(await reports(queue)).toEqual([]);
      await finish(queue, job, harness);
      expect(await reports(queue)).toEqual([{ jobId: job.id, url, end }]);
      expect(await queue.status(job.id)).toMatchObject({ status: end });
    });

    it('report once a job that was cancelled before it came here, and that replaces nothing', async () => {
      await using queue = await harness.open();
      const [waiting, job] = [newJob('a'), withCallback('a', { cancelled: true })];
      await queue.enqueue([waiting]);
      expect(await queue.enqueue([job])).toMatchObject([
        { id: job.id, status: 'cancelled', replaced: false },
      ]);
      expect(await queue.enqueue([job])).toMatchObject([{ id: job.id, status: 'cancelled' }]);
      expect(await reports(queue)).toEqual([{ jobId: job.id, url, end: 'cancelled' }]);
      const { jobs } = await claim(queue);
      expect(jobs).toMatchObject([{ data: { kind: 'delivery' } }, { id: waiting.id, data: waiting.data }]);
      expect((await queue.cleanup()).repaired).toBe(0);
    });

    it('report the job as it ended, whatever becomes of it later', async () => {
      await using queue = await harness.open();
      const job = withCallback('a', { maxAttempts: 2 });
      await queue.enqueue([job]);
      await queue.settle([retry(await claimOne(queue, job.id), 0)]);
      await queue.settle([fail(await claimOne(queue, job.id))]);
      const ended = await queue.status(job.id);
      await queue.purgeDead('all');
      expect(await queue.status(job.id)).toBeNull();

      const { jobs } = await claim(queue);
      expect(jobs).toHaveLength(1);
      expect(jobs[0]!.data).toEqual({ kind: 'delivery', url, job: ended });
      expect(jobs[0]).toMatchObject({ attempt: 1, maxAttempts: DELIVERY_RETRY.attempts, priority: 'high' });
      expect(jobs[0]!.key).toBe(jobs[0]!.id);
    });

    it('report nothing of jobs without one, and no inline image', async () => {
      await using queue = await harness.open();
      const inline = { ...newInlineJob('b', 10_000), callbackUrl: url };
      await queue.enqueue([newJob('a'), inline]);
      await queue.settle((await claim(queue)).jobs.map((job) => complete(job)));
      expect(await reports(queue)).toMatchObject([{ jobId: inline.id }]);
      expect(JSON.stringify((await claim(queue)).jobs).length).toBeLessThan(5_000);
    });

    it('go to each address once when newer data took over, and the enqueues with the old ones are answered', async () => {
      await using queue = await harness.open();
      const first = withCallback('a');
      await queue.enqueue([first]);
      await queue.enqueue([withCallback('a')]);
      await queue.enqueue([withCallback('a', { callbackUrl: 'https://other.example/' })]);
      await queue.enqueue([newJob('a')]);
      await queue.settle([complete(await claimOne(queue, first.id))]);
      expect(await reports(queue)).toEqual([
        { jobId: first.id, url, end: 'completed' },
        { jobId: first.id, url: 'https://other.example/', end: 'completed' },
      ]);
    });

    it('of an enqueue that was too old hear of the job that has newer data', async () => {
      await using queue = await harness.open();
      const [newer, older] = [newJob('a', { version: 2 }), withCallback('a', { version: 1 })];
      await queue.enqueue([newer]);
      const job = await claimOne(queue, newer.id);
      expect(await queue.enqueue([older])).toMatchObject([{ id: newer.id, superseded: true }]);
      expect(await queue.enqueue([older])).toMatchObject([{ id: newer.id, superseded: true }]);
      await queue.settle([complete(job)]);
      expect(await reports(queue)).toEqual([{ jobId: newer.id, url, end: 'completed' }]);
    });

    it('are at most ten, the last ones', async () => {
      await using queue = await harness.open();
      const jobs = Array.from({ length: 12 }, (_, n) =>
        newJob('a', { callbackUrl: `https://${n}.example/` }),
      );
      for (const job of jobs) await queue.enqueue([job]);
      await queue.cancel(jobs[0]!.id);
      const urls = (await reports(queue)).map((delivery) => delivery?.url);
      expect(urls).toEqual(jobs.slice(2).map(({ callbackUrl }) => callbackUrl));
    });

    it('report a dead letter again only when it was redriven and ended again', async () => {
      await using queue = await harness.open();
      const [job, dead] = [withCallback('a'), withCallback('b')];
      await queue.enqueue([job, dead]);
      await queue.settle((await claim(queue)).jobs.map((each) => fail(each)));
      expect(await reports(queue)).toHaveLength(2);
      await queue.redrive({ ids: [job.id] });
      await queue.forgetProduct('b');
      expect(await queue.status(dead.id)).toMatchObject({ status: 'cancelled' });
      expect(await reports(queue)).toHaveLength(2);
      await queue.settle([complete(await claimOne(queue, job.id))]);
      expect(await reports(queue)).toMatchObject([
        { end: 'failed' },
        { end: 'failed' },
        { end: 'completed' },
      ]);
    });
  });

  describe('deliveries', () => {
    /** A queue in which one job has ended: its delivery, claimed. */
    async function openWithDelivery(productId = 'a') {
      const queue = await harness.open();
      const job = withCallback(productId);
      await queue.enqueue([job]);
      await queue.settle([complete(await claimOne(queue, job.id))]);
      const [delivery] = (await claim(queue)).jobs;
      if (delivery === undefined) throw new Error('There is no delivery.');
      return { queue, job, delivery };
    }

    it('are claimed before images, and several of one job at once', async () => {
      await using queue = await harness.open();
      const jobs = [withCallback('a'), withCallback('a', { imageId: 'b' })];
      await queue.enqueue(jobs);
      await queue.settle((await claim(queue)).jobs.map((job) => complete(job)));
      await queue.enqueue([newJob('c')]);
      expect((await claim(queue)).jobs.map(({ data }) => data.kind)).toEqual([
        'delivery',
        'delivery',
        'image',
      ]);
    });

    it('are retried, end as completed with what was answered, and report nothing themselves', async () => {
      const { queue, job, delivery } = await openWithDelivery();
      await using _ = queue;
      await queue.settle([retry(delivery, 0)]);
      const again = await claimOne(queue, delivery.id);
      expect(again).toMatchObject({ attempt: 2, redelivered: true });
      const result = { outcome: 'delivered', httpStatus: 204 } as const;
      await queue.settle([{ id: again.id, token: again.token, kind: 'complete', result, processingMs: 3 }]);
      const { jobs } = await queue.deliveries({ limit: 10 });
      expect(jobs).toMatchObject([
        {
          status: 'completed',
          attempts: 2,
          result,
          productId: 'a',
          delivery: { jobId: job.id, end: 'completed' },
          history: [{ outcome: 'retried' }, { outcome: 'completed' }],
        },
      ]);
      expect(await queue.status(delivery.id)).toMatchObject(jobs[0]!);
    });

    it('survive the deletion of their product, and their workers', async () => {
      const { queue, job, delivery } = await openWithDelivery();
      await using _ = queue;
      expect(await queue.forgetProduct('a')).toMatchObject({ cancelled: 0, imageIds: [] });
      await queue.settle([release(delivery)]);
      await using impatient = await harness.reopen(crashing);
      await crash(impatient);
      expect((await claim(impatient, { suspect: true })).jobs).toMatchObject([
        { id: delivery.id, crashes: 1, attempt: 1, data: { job: { id: job.id, status: 'completed' } } },
      ]);
    });

    it('become dead letters that can be listed, redriven, cancelled and purged', async () => {
      const { queue, delivery } = await openWithDelivery();
      await using _ = queue;
      const error = { code: 'webhook_failed', message: 'It answered 500.', suggestion: 'Look.' } as const;
      await queue.settle([fail(delivery, error)]);
      expect(await queue.list({ status: 'failed', code: 'webhook_failed', limit: 10 })).toMatchObject({
        jobs: [{ id: delivery.id, delivery: { url } }],
        total: 1,
      });
      expect(await queue.redrive({ code: 'webhook_failed' })).toBe(1);
      await queue.settle([fail(await claimOne(queue, delivery.id), error)]);
      expect(await queue.purgeDead({ ids: [delivery.id] })).toBe(1);
      expect(await queue.deliveries({ limit: 10 })).toMatchObject({ jobs: [], total: 0 });
      expect((await queue.cleanup()).repaired).toBe(0);
    });

    it('are slowed down by their receiver, and images of the same host are not', async () => {
      const { queue, delivery } = await openWithDelivery();
      await using _ = queue;
      await queue.settle([defer(delivery, 60_000)]);
      const other = withCallback('b', { callbackUrl: 'https://other.example/' });
      await queue.enqueue([newJob('c', { url: 'https://shop.example/c.jpg' }), withCallback('a'), other]);
      const { jobs } = await claim(queue);
      expect(jobs.map(({ data }) => data.kind)).toEqual(['image', 'image', 'image']);
      await queue.settle(jobs.map((job) => complete(job)));
      expect((await claim(queue)).jobs).toMatchObject([{ data: { url: 'https://other.example/' } }]);
      expect(await queue.stats()).toMatchObject({ hosts: [{ host: 'webhook:shop.example', waiting: 2 }] });
    });

    it('count among what waits and is dead, and not in totals, rates and times', async () => {
      const { queue, delivery } = await openWithDelivery();
      await using _ = queue;
      const before = await queue.stats();
      expect(before).toMatchObject({ processing: 1, completed: 1, failureRate: 0 });
      await queue.settle([retry(delivery, 0)]);
      expect(await queue.stats()).toMatchObject({ waiting: { high: 1, normal: 0 }, failureRate: 0 });
      await queue.settle([fail(await claimOne(queue, delivery.id))]);
      const { completedPerSecond, processingMs } = before;
      expect(await queue.stats()).toMatchObject({
        ...{ dead: 1, recentlyDead: 1, completed: 1, failed: 0, failureRate: 0 },
        ...{ completedPerSecond, processingMs },
      });
      await queue.redrive('all');
      const again = await claimOne(queue, delivery.id);
      await queue.settle([complete(again, 60_000)]);
      expect(await queue.stats()).toMatchObject({ completed: 1, processingMs });
    });

    it('are made even when the queue takes no more jobs', async () => {
      await using queue = await harness.open({ maxPending: 1 });
      const job = withCallback('a');
      await queue.enqueue([job]);
      await queue.settle([complete(await claimOne(queue, job.id))]);
      expect(await reports(queue)).toHaveLength(1);
      await expect(queue.enqueue([newJob('b')])).rejects.toMatchObject({ code: 'queue_full' });
    });

    it('are listed page by page, the last one first, and dropped like other jobs', async () => {
      await using queue = await harness.open({ maxEnded: 2 });
      const jobs = ['a', 'b', 'c'].map((productId) => withCallback(productId));
      await queue.enqueue(jobs);
      for (const { id } of jobs) await queue.cancel(id);
      const first = await queue.deliveries({ limit: 2 });
      expect(first).toMatchObject({
        jobs: [{ delivery: { jobId: jobs[2]!.id } }, { delivery: { jobId: jobs[1]!.id } }],
        total: 3,
      });
      const rest = await queue.deliveries({ limit: 2, cursor: first.nextCursor! });
      expect(rest).toMatchObject({ jobs: [{ delivery: { jobId: jobs[0]!.id } }], nextCursor: null });
      await expect(queue.deliveries({ limit: 2, cursor: '?' })).rejects.toMatchObject({
        code: 'invalid_request',
      });
      await queue.settle((await claim(queue)).jobs.map((job) => complete(job)));
      await queue.reap();
      expect(await queue.deliveries({ limit: 10 })).toMatchObject({ total: 2 });
      await queue.flush();
      expect(await queue.deliveries({ limit: 10 })).toEqual({ jobs: [], nextCursor: null, total: 0 });
    });

    it('wait for their time as other jobs do', async () => {
      const { queue, delivery } = await openWithDelivery();
      await using _ = queue;
      await queue.settle([retry(delivery, 60_000)]);
      expect((await claim(queue)).jobs).toEqual([]);
      expect(await queue.status(delivery.id)).toMatchObject({ status: 'delayed' });
      await queue.enqueue([newJob('b', { notBefore: inAnHour })]);
      expect(await queue.cancel(delivery.id)).toBe('cancelled');
      expect((await queue.cleanup()).repaired).toBe(0);
    });
  });
}
