import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { PRIORITIES } from '../../src/queue/job.ts';
import type { DeadSelection, JobQueue, NewJob, Settlement } from '../../src/queue/port.ts';
import { brokenImage, cancel, complete, fail, newJob, release, retry, slowServer } from '../support/jobs.ts';
import type { QueueHarness } from './job-queue.contract.ts';
import { createModel, type Model } from './job-queue.model.ts';

const HOUR_MS = 3_600_000;
const MAX_PENDING = 6;
const RUNS = 100;

/** Four product images of two products. */
const IMAGES = [
  ['p0', 'front'],
  ['p0', 'back'],
  ['p1', 'front'],
  ['p1', 'back'],
] as const;

const one = fc.record({
  image: fc.nat(IMAGES.length - 1),
  priority: fc.constantFrom(...PRIORITIES),
  version: fc.option(fc.integer({ min: 1, max: 4 }), { freq: 2 }),
  delayed: fc.boolean(),
  /** Which earlier enqueue is sent again instead. */
  again: fc.option(fc.nat(20), { freq: 8 }),
});

const selection = fc.oneof(
  fc.constant('all' as const),
  fc.constantFrom('image_corrupt', 'image_fetch_timeout', 'job_poison').map((code) => ({ code })),
  fc.record({ ids: fc.array(fc.nat(20), { maxLength: 3 }) }),
);

const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('enqueue' as const),
      jobs: fc.array(one, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('claim' as const),
      max: fc.integer({ min: 1, max: 4 }),
      suspect: fc.boolean(),
      again: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      leases: fc.array(fc.nat(30), { minLength: 1, maxLength: 3 }),
      kind: fc.constantFrom('complete', 'fail', 'failSlow', 'retry', 'retryLater', 'release', 'cancel'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('renew' as const),
      leases: fc.array(fc.nat(30), { maxLength: 3 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('crash' as const), lease: fc.nat(30) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), job: fc.nat(20) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('forget' as const), product: fc.constantFrom('p0', 'p1') }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('redrive', 'purge'), selection }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('pause', 'resume', 'resume', 'cleanup', 'reap') }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('flush' as const), really: fc.nat(5) }) },
);

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** Random sequences of all operations against a plain model, which must foresee each answer and each state. */
export function describeRandom(harness: QueueHarness): void {
  describe('in random sequences', () => {
    it('behaves as the model says', { timeout: 300_000 }, async () => {
      await using backend = await harness.open({ maxPending: MAX_PENDING });
      await fc.assert(
        fc.asyncProperty(
          fc.array(operation, { minLength: 5, maxLength: 60, size: 'max' }),
          async (operations) => {
            await backend.queue.flush();
            await backend.queue.resume();
            const base = await backend.queue.stats();
            const run = createRun(backend.queue, createModel(MAX_PENDING));
            for (const operation of operations) {
              await run.step(operation);
              await run.compare(base);
            }
            await run.compareJobs();
            expect(await backend.queue.cleanup()).toMatchObject({ mended: 0 });
          },
        ),
        { numRuns: RUNS },
      );
    });
  });
}

function createRun(queue: JobQueue, model: Model) {
  const sent: NewJob[] = [];
  const leases: { id: string; token: string }[] = [];
  const run = randomUUID();
  let claims = 0;
  const pick = <T>(from: readonly T[], index: number): T | undefined =>
    from[index % Math.max(1, from.length)];

  async function enqueue(jobs: readonly NewJob[]): Promise<void> {
    sent.push(...jobs);
    if (model.isFull(jobs)) {
      await expect(queue.enqueue(jobs)).rejects.toSatisfy(
        (error) => error instanceof VitrineError && error.code === 'queue_full',
      );
      return;
    }
    const answers = await queue.enqueue(jobs);
    const foreseen = jobs.map((job, index) => model.add(job, answers[index]!.version ?? 0));
    for (const [index, answer] of answers.entries()) {
      const job = model.find(foreseen[index]!.id);
      const now = job ? { status: model.status(job), position: model.position(job) } : { status: 'failed' };
      expect(answer).toMatchObject({ ...foreseen[index], ...now });
      if (jobs[index]!.version === null && !answer.superseded) expect(answer.version).toBeGreaterThan(1e15);
    }
  }

  async function crash(lease: number): Promise<void> {
    const job = pick(model.running(), lease);
    if (job === undefined) return;
    await queue.renew([{ id: job.id, token: job.token! }], 1);
    await new Promise((resolve) => setTimeout(resolve, 3));
    const outcome = model.crash(job);
    expect(await queue.reap()).toEqual({
      recovered: outcome === 'recovered' ? 1 : 0,
      poisoned: outcome === 'poisoned' ? 1 : 0,
    });
  }

  async function emptyDead(action: 'redrive' | 'purge', given: DeadSelection): Promise<void> {
    let foreseen = 0;
    for (const job of model.select(given)) {
      if (action === 'redrive') foreseen += model.redrive(job) ? 1 : 0;
      else {
        model.remove(job);
        foreseen += 1;
      }
    }
    expect(await (action === 'redrive' ? queue.redrive(given) : queue.purgeDead(given))).toBe(foreseen);
  }

  const settlements = {
    complete,
    fail,
    failSlow: (lease: { id: string; token: string }) => fail(lease, slowServer),
    retry: (lease: { id: string; token: string }) => retry(lease, 0),
    retryLater: (lease: { id: string; token: string }) => retry(lease, HOUR_MS),
    release,
    cancel,
  } satisfies Record<string, (lease: { id: string; token: string }) => Settlement>;

  async function step(operation: Operation): Promise<void> {
    switch (operation.do) {
      case 'enqueue':
        return enqueue(
          operation.jobs.map(({ image, priority, version, delayed, again }) => {
            const earlier = again === null ? undefined : pick(sent, again);
            if (earlier !== undefined) return earlier;
            const [productId, imageId] = IMAGES[image]!;
            const notBefore = delayed ? { notBefore: { delayMs: HOUR_MS } } : {};
            return newJob(productId, { imageId, priority, version, maxAttempts: 2, ...notBefore });
          }),
        );
      case 'claim': {
        const { max, suspect, again } = operation;
        if (!again) claims += 1;
        const claimId = `${run}-${claims}`;
        const foreseen = model.claim(claimId, max, suspect);
        const claim = await queue.claim({ workerId: 'w', claimId, max, leaseMs: HOUR_MS, suspect });
        const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
        const order = again ? byId : () => 0;
        expect(claim.jobs.toSorted(order)).toMatchObject(
          foreseen.toSorted(order).map(({ id, data, version, crashes, attempts, priority }) => ({
            id,
            data,
            version,
            crashes,
            priority,
            attempt: attempts,
          })),
        );
        expect(claim.suspectsWaiting).toBe(model.suspectsWaiting());
        leases.push(...claim.jobs.map(({ id, token }) => ({ id, token })));
        return;
      }
      case 'settle': {
        const chosen = operation.leases.flatMap((index) => pick(leases, index) ?? []);
        const given = chosen.map((lease) => settlements[operation.kind as keyof typeof settlements](lease));
        expect(await queue.settle(given)).toEqual(given.map((settlement) => model.settle(settlement)));
        return;
      }
      case 'renew': {
        const chosen = operation.leases.flatMap((index) => pick(leases, index) ?? []);
        expect(await queue.renew(chosen, HOUR_MS)).toEqual(
          chosen.map(({ id, token }) => model.renew(id, token)),
        );
        return;
      }
      case 'crash':
        return crash(operation.lease);
      case 'cancel': {
        const id = pick(model.jobs(), operation.job)?.id ?? 'unheard of';
        expect(await queue.cancel(id)).toBe(model.cancel(id));
        return;
      }
      case 'forget': {
        const foreseen = model.forgetProduct(operation.product);
        const { cancelled, images } = await queue.forgetProduct(operation.product);
        expect(cancelled).toBe(foreseen.cancelled);
        expect(new Map(images.map(({ imageId, version }) => [imageId, version]))).toEqual(foreseen.images);
        return;
      }
      case 'redrive':
      case 'purge': {
        const given = operation.selection;
        const ids = typeof given === 'object' && 'ids' in given ? given.ids : null;
        const chosen = ids?.flatMap((index) => pick(model.jobs(), index)?.id ?? []);
        return emptyDead(
          operation.do,
          chosen === undefined ? (given as DeadSelection) : { ids: [...new Set(chosen)] },
        );
      }
      case 'pause':
      case 'resume':
        model.setPaused(operation.do === 'pause');
        return queue[operation.do]();
      case 'cleanup':
        expect(await queue.cleanup()).toMatchObject({ recovered: 0, poisoned: 0, mended: 0 });
        return;
      case 'reap':
        expect(await queue.reap()).toEqual({ recovered: 0, poisoned: 0 });
        return;
      case 'flush':
        if (operation.really !== 0) return;
        claims += 1;
        expect(await queue.flush()).toBe(model.flush());
        return;
    }
  }

  async function compare(base: Awaited<ReturnType<JobQueue['stats']>>): Promise<void> {
    const stats = await queue.stats();
    const { completed, failed, cancelled } = model.totals;
    expect(stats).toMatchObject({
      waiting: Object.fromEntries(PRIORITIES.map((priority) => [priority, model.waiting(priority)])),
      delayed: model.delayed(),
      processing: model.running().length,
      dead: model.dead().length,
      completed: base.completed + completed,
      failed: base.failed + failed,
      cancelled: base.cancelled + cancelled,
      paused: model.isPaused(),
    });
  }

  async function compareJobs(): Promise<void> {
    for (const job of model.jobs()) {
      const { attempts, crashes, version, priority, cancelRequested, error } = job;
      const view = await queue.status(job.id);
      expect(view).toMatchObject({
        status: model.status(job),
        position: model.position(job),
        ...{ attempts, crashes, version, priority, cancelRequested },
      });
      expect(view?.lastError?.code).toBe(error?.code);
    }
    const page = await queue.dead({ limit: 100 });
    expect(page.jobs.map(({ id }) => id)).toEqual(model.dead().map(({ id }) => id));
    const broken = await queue.dead({ limit: 100, code: brokenImage.code });
    const foreseen = model.dead().filter(({ error }) => error?.code === brokenImage.code);
    expect(broken.jobs.map(({ id }) => id)).toEqual(foreseen.map(({ id }) => id));
    expect(new Set((await queue.active(100)).map(({ id }) => id))).toEqual(
      new Set(model.running().map(({ id }) => id)),
    );
  }

  return { step, compare, compareJobs };
}
