import { describe, expect, it } from 'vitest';
import {
  cancel,
  claim,
  complete,
  crash,
  crashing,
  fail,
  newJob,
  reapUntilGone,
  release,
  renew,
  retry,
} from '../support/jobs.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

const NEVER = Number.POSITIVE_INFINITY;

export function describeLeases(harness: QueueHarness): void {
  describe('leases', () => {
    it('keeps a renewed job and takes back one whose lease ran out', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const [kept, lost] = [newJob('kept'), newJob('lost')];
      await queue.enqueue([kept, lost]);
      const { jobs } = await claim(dying);
      expect(await renew(queue, [jobs[0]!])).toEqual(['renewed']);
      expect(await reapUntilGone(dying, [lost])).toEqual({ recovered: 1, poisoned: 0 });
      expect(await renew(queue, jobs)).toEqual(['renewed', 'lost']);
      expect(await queue.status(lost.id)).toMatchObject({
        status: 'queued',
        attempts: 0,
        crashes: 1,
        history: [{ outcome: 'crashed', workerId: 'worker' }],
      });
      expect(await dying.reap()).toEqual({ recovered: 0, poisoned: 0 });
    });

    it('looks past many renewed jobs for one whose lease ran out', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      await queue.enqueue(Array.from({ length: 30 }, (_, n) => newJob(`p${n}`)));
      const { jobs } = await claim(dying, { max: 30 });
      await renew(queue, jobs.slice(0, -1));
      expect(await reapUntilGone(dying, [jobs.at(-1)!])).toEqual({ recovered: 1, poisoned: 0 });
      expect((await queue.list({ status: 'processing', limit: 100 })).jobs.length).toBe(29);
    });

    it('refuses every call with a stale token', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      await queue.enqueue([newJob('a')]);
      const stale = (await crash(dying)).jobs[0]!;
      const present = (await claim(queue, { suspect: true })).jobs[0]!;
      for (const settlement of [
        complete(stale),
        fail(stale),
        retry(stale, 0),
        release(stale),
        cancel(stale),
      ]) {
        expect(await queue.settle([settlement])).toEqual(['lost']);
      }
      expect(await renew(queue, [stale])).toEqual(['lost']);
      expect(await renew(queue, [present])).toEqual(['renewed']);
      expect(await queue.settle([{ ...complete(present), token: 'made up' }])).toEqual(['lost']);
      expect(await queue.settle([complete({ id: 'unheard of', token: 'x' })])).toEqual(['lost']);
      expect(await queue.settle([complete(present)])).toEqual(['settled']);
    });

    it('returns the first answer to a repeated settlement, and counts it once', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a'), newJob('b')]);
      const { jobs } = await claim(queue);
      const settlements = [complete(jobs[0]!), retry(jobs[1]!, 0)];
      expect(await queue.settle(settlements)).toEqual(['settled', 'settled']);
      expect(await queue.settle(settlements)).toEqual(['settled', 'settled']);
      expect(await queue.stats()).toMatchObject({ completed: 1, waiting: { normal: 1 } });
      const again = await claim(queue);
      expect(again.jobs).toMatchObject([{ id: jobs[1]!.id, attempt: 2 }]);
      // Even now the old call changes nothing.
      expect(await queue.settle([retry(jobs[1]!, 0)])).toEqual(['settled']);
      expect(await renew(queue, again.jobs)).toEqual(['renewed']);
    });

    it('counts crashes apart from attempts, and runs the suspect alone', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const [one, two, fresh] = [newJob('one'), newJob('two'), newJob('fresh')];
      await queue.enqueue([one, two]);
      await crash(dying);
      await queue.enqueue([fresh]);
      const ordinary = await claim(queue);
      expect(ordinary).toMatchObject({ jobs: [{ id: fresh.id }], suspectsWaiting: 2 });
      const suspect = await claim(queue, { suspect: true, max: 10 });
      expect(suspect).toMatchObject({ jobs: [{ id: one.id, attempt: 1, crashes: 1 }], suspectsWaiting: 1 });
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, processing: 2 });
    });

    it('lets several workers run a suspect each at the same time', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      await queue.enqueue([newJob('one'), newJob('two')]);
      await crash(dying);
      const first = await claim(queue, { suspect: true, workerId: 'w1' });
      const second = await claim(queue, { suspect: true, workerId: 'w2' });
      expect([first.jobs.length, second.jobs.length]).toEqual([1, 1]);
    });

    it('takes a job for poison after three crashes, its batch-mates unharmed', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const [poison, mate] = [newJob('poison'), newJob('mate')];
      await queue.enqueue([poison, mate]);
      expect(await crash(dying)).toMatchObject({ recovered: 2, poisoned: 0 });
      expect(await crash(dying, { suspect: true })).toMatchObject({ recovered: 1, poisoned: 0 });
      const suspects = [
        (await claim(queue, { suspect: true })).jobs[0]!,
        (await claim(queue, { suspect: true })).jobs[0]!,
      ];
      const bad = suspects.find(({ id }) => id === poison.id)!;
      await queue.settle(suspects.filter((job) => job !== bad).map((job) => complete(job)));
      await renew(dying, [bad]);
      expect(await reapUntilGone(dying, [bad])).toEqual({ recovered: 0, poisoned: 1 });
      expect(await queue.status(poison.id)).toMatchObject({
        status: 'failed',
        crashes: 3,
        attempts: 0,
        lastError: { code: 'job_poison' },
      });
      expect(await queue.status(mate.id)).toMatchObject({ status: 'completed' });
    });

    it('hands each job to one of many that claim at once', async () => {
      await using queue = await harness.open();
      await using other = await harness.reopen();
      const jobs = Array.from({ length: 200 }, (_, i) => newJob(`product-${i}`));
      await queue.enqueue(jobs);
      const claims = await Promise.all(
        Array.from({ length: 40 }, (_, i) => claim(i % 2 ? queue : other, { max: 7 })),
      );
      const ids = claims.flatMap((claimed) => claimed.jobs.map(({ id }) => id));
      expect(new Set(ids)).toEqual(new Set(jobs.map(({ id }) => id)));
      expect(ids).toHaveLength(200);
    });

    it('counts only the time under leases, not the time between them', async () => {
      await using queue = await harness.open();
      await queue.enqueue([newJob('a', { notBefore: { delayMs: 500 } })]);
      let leasedMs = 0;
      /** Claims the job when it is due, holds it for a while, and has it retried after the delay. */
      async function hold(holdMs: number, delayMs: number) {
        const { job, claimedAt } = await until('it is due', async () => {
          const startedAt = performance.now();
          const [first] = (await claim(queue)).jobs;
          return first === undefined ? undefined : { job: first, claimedAt: startedAt };
        });
        await until('it was held', () => performance.now() - claimedAt >= holdMs || undefined);
        await queue.settle([retry(job, delayMs)]);
        leasedMs += performance.now() - claimedAt;
        return job;
      }
      expect(await hold(0, 500)).toMatchObject({ leasedMs: 0, redelivered: false });
      const second = await hold(100, 0);
      expect(second).toMatchObject({ redelivered: true });
      const [third] = (await claim(queue)).jobs;
      expect(third!.leasedMs).toBeGreaterThanOrEqual(98);
      // What passed under leases, by this clock; the second spent waiting is not in it.
      expect(third!.leasedMs).toBeLessThanOrEqual(leasedMs + 10);
    });
  });

  describe('expired leases', () => {
    it('count no crash when their worker was heard from since: it never learned of them', async () => {
      await using queue = await harness.open({
        lease: { leaseMs: 1, staleHeartbeatMs: 60_000, outageMs: NEVER },
      });
      const job = newJob('a');
      await queue.enqueue([job]);
      const { jobs } = await claim(queue);
      expect(await reapUntilGone(queue, jobs)).toEqual({ recovered: 1, poisoned: 0 });
      expect(await queue.status(job.id)).toMatchObject({
        status: 'queued',
        crashes: 0,
        attempts: 0,
        history: [{ outcome: 'released' }],
      });
      expect((await claim(queue)).jobs).toMatchObject([{ id: job.id, attempt: 1 }]);
    });

    it('count no crash when the worker renews without leases', async () => {
      await using queue = await harness.open();
      await using brief = await harness.reopen({
        lease: { leaseMs: 1, staleHeartbeatMs: 200, outageMs: NEVER },
      });
      await queue.enqueue([newJob('a')]);
      const { jobs } = await claim(brief);
      const claimedAt = performance.now();
      await until(
        'the claim is an old heartbeat',
        async () => performance.now() > claimedAt + 250 || undefined,
      );
      await brief.renew('worker', []);
      await reapUntilGone(brief, jobs);
      expect(await queue.status(jobs[0]!.id)).toMatchObject({ crashes: 0 });
    });

    it('are left alone for a full lease after an outage, so that workers can renew first', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      // Nobody has ever reaped: for this view that is an outage.
      await using afterOutage = await harness.reopen({
        lease: { leaseMs: 60_000, staleHeartbeatMs: 0, outageMs: 20_000 },
      });
      await queue.enqueue([newJob('a')]);
      const { jobs } = await claim(dying);
      expect(await afterOutage.reap()).toEqual({ recovered: 0, poisoned: 0 });
      expect(await afterOutage.reap()).toEqual({ recovered: 0, poisoned: 0 });
      expect(await queue.status(jobs[0]!.id)).toMatchObject({ status: 'processing' });
      expect(await renew(queue, jobs)).toEqual(['renewed']);
    });

    it('are left alone after a gap in which nobody reaped, and not without one', async () => {
      await using queue = await harness.open();
      await using dying = await harness.reopen(crashing);
      const patient = { leaseMs: 60_000, staleHeartbeatMs: 0 };
      await using noticing = await harness.reopen({ lease: { ...patient, outageMs: 100 } });
      await using unconcerned = await harness.reopen({ lease: { ...patient, outageMs: 60_000 } });
      await dying.reap();
      await queue.enqueue([newJob('a'), newJob('b')]);
      const [first] = (await claim(dying, { max: 1 })).jobs;
      expect(await reapUntilGone(unconcerned, [first!])).toEqual({ recovered: 1, poisoned: 0 });
      const reapedAt = performance.now();
      const [second] = (await claim(dying, { max: 1 })).jobs;
      await until('it is a gap', () => performance.now() - reapedAt > 150 || undefined);
      expect(await noticing.reap()).toEqual({ recovered: 0, poisoned: 0 });
      expect(await queue.status(second!.id)).toMatchObject({ status: 'processing', crashes: 0 });
    });

    it('count as crashes again when a full lease has passed since the outage', async () => {
      await using queue = await harness.open({
        lease: { leaseMs: 50, staleHeartbeatMs: 0, outageMs: 20_000 },
      });
      await queue.enqueue([newJob('a')]);
      const { jobs } = await claim(queue);
      expect(await reapUntilGone(queue, jobs)).toEqual({ recovered: 1, poisoned: 0 });
      expect(await queue.status(jobs[0]!.id)).toMatchObject({ crashes: 1 });
    });
  });
}
