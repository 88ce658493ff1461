import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { type JobStatus, PRIORITIES } from '../../src/queue/job.ts';
import {
  type DeadSelection,
  type JobQueue,
  type Lease,
  type NewJob,
  type Settlement,
  toLeaseTimes,
} from '../../src/queue/port.ts';
import {
  brokenImage,
  cancel,
  complete,
  crashing,
  fail,
  newJob,
  reapUntilGone,
  release,
  renew,
  retry,
  slowServer,
} from '../support/jobs.ts';
import type { QueueHarness } from './job-queue.contract.ts';
import { createModel, type Model } from './job-queue.model.ts';

const HOUR_MS = 3_600_000;
const MAX_PENDING = 5;
const RUNS = 200;

/** Six product images of three products. */
const IMAGES = [
  ['p0', 'front'],
  ['p0', 'back'],
  ['p1', 'front'],
  ['p1', 'back'],
  ['p2', 'front'],
  ['p2', 'back'],
] as const;

const one = fc.record({
  image: fc.nat(IMAGES.length - 1),
  priority: fc.constantFrom(...PRIORITIES),
  version: fc.option(fc.integer({ min: 1, max: 4 }), { freq: 2 }),
  /** Due in so many hours. */
  due: fc.constantFrom(0, 0, 0, 1, 2),
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
      jobs: fc.array(one, { minLength: 1, maxLength: 5 }),
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
      /** Counted from the last one that was claimed. */
      leases: fc.array(fc.nat(8), { minLength: 1, maxLength: 3 }),
      kind: fc.constantFrom(
        'complete',
        'fail',
        'failSlow',
        'retry',
        'retrySoon',
        'retryLater',
        'release',
        'cancel',
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('renew' as const),
      leases: fc.array(fc.nat(8), { maxLength: 3 }),
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
      const lease = toLeaseTimes(100 * HOUR_MS);
      await using queue = await harness.open({ maxPending: MAX_PENDING, lease });
      await using dying = await harness.reopen(crashing);
      await fc.assert(
        fc.asyncProperty(
          fc.array(operation, { minLength: 5, maxLength: 60, size: 'max' }),
          async (operations) => {
            await queue.flush();
            await queue.resume();
            const run = createRun(queue, dying, createModel(MAX_PENDING));
            for (const operation of operations) {
              await run.step(operation);
              await run.compare();
            }
            await run.compareJobs();
            expect(await queue.cleanup()).toMatchObject({ repaired: 0 });
          },
        ),
        { numRuns: RUNS },
      );
    });
  });
}

/** Runs operations on the queue and on the model. `dying` is a view whose leases run out at once. */
function createRun(queue: JobQueue, dying: JobQueue, model: Model) {
  /** Every enqueue and lease so far, for what is sent again. */
  const sent: { job: NewJob; due: number }[] = [];
  const leases: Lease[] = [];
  const run = randomUUID();
  const startedAt = Date.now();
  let [claims, lastDeletion] = [0, 0];
  const pick = <T>(from: readonly T[], index: number): T | undefined =>
    from[index % Math.max(1, from.length)];

  async function enqueue(given: readonly { job: NewJob; due: number }[]): Promise<void> {
    sent.push(...given);
    const answers = await queue.enqueue(given.map(({ job }) => job)).catch((error: unknown) => {
      expect(error).toMatchObject({ name: VitrineError.name, code: 'queue_full' });
      return [];
    });
    // As many as there is room for, in order.
    const foreseen = [];
    for (const [index, { job, due }] of given.entries()) {
      if (!model.fits(job, due)) break;
      foreseen.push(model.add(job, due, answers[index]?.version ?? 0));
    }
    expect(answers).toHaveLength(foreseen.length);
    for (const [index, answer] of answers.entries()) {
      const job = model.find(foreseen[index]!.id);
      const now = job ? { status: model.status(job), position: model.position(job) } : { status: 'failed' };
      expect(answer).toMatchObject({ ...foreseen[index], ...now });
      if (given[index]!.job.version === null && !answer.superseded)
        expect(answer.version).toBeGreaterThan(1e15);
    }
  }

  async function crash(lease: number): Promise<void> {
    const job = pick(model.running(), lease);
    if (job === undefined) return;
    await renew(dying, [{ id: job.id, token: job.token! }]);
    const outcome = model.crash(job);
    expect(await reapUntilGone(dying, [job])).toEqual({
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
    complete: (lease: Lease) => complete(lease),
    fail: (lease: Lease) => fail(lease),
    failSlow: (lease: Lease) => fail(lease, slowServer),
    retry: (lease: Lease) => retry(lease, 0),
    retrySoon: (lease: Lease) => retry(lease, HOUR_MS / 2),
    retryLater: (lease: Lease) => retry(lease, 1.5 * HOUR_MS),
    release,
    cancel,
  } satisfies Record<string, (lease: Lease) => Settlement>;

  async function step(operation: Operation): Promise<void> {
    switch (operation.do) {
      case 'enqueue':
        return enqueue(
          operation.jobs.map(({ image, priority, version, due, again }) => {
            const earlier = again === null ? undefined : pick(sent, again);
            if (earlier !== undefined) return earlier;
            const [productId, imageId] = IMAGES[image]!;
            const notBefore = due > 0 ? { notBefore: { atMs: startedAt + due * HOUR_MS } } : {};
            return {
              job: newJob(productId, { imageId, priority, version, maxAttempts: 2, ...notBefore }),
              due,
            };
          }),
        );
      case 'claim': {
        const { max, suspect, again } = operation;
        if (!again) claims += 1;
        const claimId = `${run}-${claims}`;
        const foreseen = model.claim(claimId, max, suspect);
        const claim = await queue.claim({ workerId: 'w', claimId, max, suspect });
        expect(claim.jobs).toMatchObject(
          foreseen.map(({ id, data, version, crashes, attempts, priority }) => ({
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
        const chosen = operation.leases.flatMap((index) => leases.at(-1 - index) ?? []);
        const given = chosen.map((lease) => settlements[operation.kind as keyof typeof settlements](lease));
        expect(await queue.settle(given)).toEqual(given.map((settlement) => model.settle(settlement)));
        return;
      }
      case 'renew': {
        const chosen = operation.leases.flatMap((index) => leases.at(-1 - index) ?? []);
        expect(await renew(queue, chosen)).toEqual(chosen.map(({ id, token }) => model.renew(id, token)));
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
        const { sequence, cancelled, imageIds } = await queue.forgetProduct(operation.product);
        expect({ cancelled, imageIds: new Set(imageIds) }).toEqual(foreseen);
        expect(sequence).toBeGreaterThan(lastDeletion);
        lastDeletion = sequence;
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
        expect(await queue.cleanup()).toMatchObject({ recovered: 0, poisoned: 0, repaired: 0 });
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

  async function compare(): Promise<void> {
    expect(await queue.stats()).toMatchObject({
      ...model.totals,
      waiting: Object.fromEntries(PRIORITIES.map((priority) => [priority, model.waiting(priority)])),
      delayed: model.delayed(),
      processing: model.running().length,
      dead: model.dead().length,
      paused: model.isPaused(),
    });
  }

  async function list(status: JobStatus, code?: string): Promise<string[]> {
    const page = await queue.list({ status, limit: 1_000, ...(code === undefined ? {} : { code }) });
    expect(page.total).toBe(page.jobs.length);
    return page.jobs.map(({ id }) => id);
  }

  async function compareJobs(): Promise<void> {
    const ids = (jobs: readonly { id: string }[]) => jobs.map(({ id }) => id);
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
    expect(await list('failed')).toEqual(ids(model.dead()));
    const broken = model.dead().filter(({ error }) => error?.code === brokenImage.code);
    expect(await list('failed', brokenImage.code)).toEqual(ids(broken));
    for (const status of ['queued', 'delayed', 'processing', 'completed', 'cancelled'] as const) {
      const foreseen = model.jobs().filter((job) => model.status(job) === status);
      expect((await list(status)).sort()).toEqual(ids(foreseen).sort());
    }
  }

  return { step, compare, compareJobs };
}
