import { describe, expect, it } from 'vitest';
import { cancel, claim, complete, crash, fail, newJob, release, retry } from '../support/jobs.ts';
import type { QueueHarness } from './job-queue.contract.ts';

export function describeLeases(harness: QueueHarness): void {
  describe('leases', () => {
    it('keeps a renewed job and takes back one whose lease ran out', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [kept, lost] = [newJob('kept'), newJob('lost')];
      await queue.enqueue([kept, lost]);
      const { jobs } = await crash(queue);
      expect(await queue.renew([jobs[0]!], 60_000)).toEqual(['renewed']);
      expect(await queue.reap()).toEqual({ recovered: 1, poisoned: 0 });
      expect(await queue.renew(jobs, 60_000)).toEqual(['renewed', 'lost']);
      expect(await queue.status(lost.id)).toMatchObject({
        status: 'queued',
        attempts: 0,
        crashes: 1,
        history: [{ outcome: 'crashed', workerId: 'worker' }],
      });
      expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 0 });
    });

    it('looks past many renewed jobs for one whose lease ran out', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const jobs = Array.from({ length: 30 }, (_, n) => newJob(`p${n}`));
      await queue.enqueue(jobs);
      const leases = [];
      for (const _ of jobs) leases.push(...(await crash(queue, { max: 1 })).jobs);
      await queue.renew(leases.slice(0, -1), 60_000);
      expect(await queue.reap()).toEqual({ recovered: 1, poisoned: 0 });
      expect((await queue.active(100)).length).toBe(29);
    });

    it('refuses every call with a stale token', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const job = newJob('a');
      await queue.enqueue([job]);
      const stale = (await crash(queue)).jobs[0]!;
      await queue.reap();
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
      expect(await queue.renew([stale], 1_000)).toEqual(['lost']);
      expect(await queue.renew([present], 60_000)).toEqual(['renewed']);
      expect(await queue.settle([{ ...complete(present), token: 'made up' }])).toEqual(['lost']);
      expect(await queue.settle([complete({ id: 'unheard of', token: 'x' })])).toEqual(['lost']);
      expect(await queue.settle([complete(present)])).toEqual(['settled']);
    });

    it('gives the first answer to a repeated settlement, and counts it once', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
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
      expect(await queue.renew(again.jobs, 60_000)).toEqual(['renewed']);
    });

    it('counts crashes apart from attempts, and runs the suspect alone', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [one, two, fresh] = [newJob('one'), newJob('two'), newJob('fresh')];
      await queue.enqueue([one, two]);
      await crash(queue);
      await queue.reap();
      await queue.enqueue([fresh]);
      const ordinary = await claim(queue);
      expect(ordinary).toMatchObject({ jobs: [{ id: fresh.id }], suspectsWaiting: 2 });
      const suspect = await claim(queue, { suspect: true, max: 10 });
      expect(suspect).toMatchObject({ jobs: [{ id: one.id, attempt: 1, crashes: 1 }], suspectsWaiting: 1 });
      expect(await queue.stats()).toMatchObject({ waiting: { normal: 1 }, processing: 2 });
    });

    it('takes a job for poison after three crashes, its batch-mates unharmed', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      const [poison, mate] = [newJob('poison'), newJob('mate')];
      await queue.enqueue([poison, mate]);
      await crash(queue);
      expect(await queue.reap()).toEqual({ recovered: 2, poisoned: 0 });
      await crash(queue, { suspect: true });
      expect(await queue.reap()).toEqual({ recovered: 1, poisoned: 0 });
      const suspects = [
        (await claim(queue, { suspect: true })).jobs[0]!,
        (await claim(queue, { suspect: true })).jobs[0]!,
      ];
      const bad = suspects.find(({ id }) => id === poison.id)!;
      await queue.settle(suspects.filter((job) => job !== bad).map(complete));
      await queue.renew([bad], 1);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 1 });
      expect(await queue.status(poison.id)).toMatchObject({
        status: 'failed',
        crashes: 3,
        attempts: 0,
        lastError: { code: 'job_poison' },
      });
      expect(await queue.status(mate.id)).toMatchObject({ status: 'completed' });
    });

    it('gives each job to one of many that claim at once', async () => {
      await using backend = await harness.open();
      await using other = await harness.reopen();
      const jobs = Array.from({ length: 200 }, (_, i) => newJob(`product-${i}`));
      await backend.queue.enqueue(jobs);
      const claims = await Promise.all(
        Array.from({ length: 40 }, (_, i) => claim((i % 2 ? backend : other).queue, { max: 7 })),
      );
      const ids = claims.flatMap((claimed) => claimed.jobs.map(({ id }) => id));
      expect(new Set(ids)).toEqual(new Set(jobs.map(({ id }) => id)));
      expect(ids).toHaveLength(200);
    });

    it('lists the running jobs, longest first', async () => {
      await using backend = await harness.open();
      const { queue } = backend;
      await queue.enqueue([newJob('a'), newJob('b')]);
      const first = await claim(queue, { max: 1 });
      await new Promise((resolve) => setTimeout(resolve, 5));
      const second = await claim(queue, { max: 1 });
      const ids = [first, second].map(({ jobs }) => jobs[0]!.id);
      expect((await queue.active(10)).map(({ id }) => id)).toEqual(ids);
      expect((await queue.active(1)).map(({ id }) => id)).toEqual([ids[0]]);
    });
  });
}
