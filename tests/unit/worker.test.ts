import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../src/errors/error-table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Settlement } from '../../src/queue/port.ts';
import { newClaimedJob } from '../support/fake-queue.ts';
import { createFakeDecoder, createFakeWorld, type FakeWorld } from '../support/fake-worker.ts';

const hang = () => new Promise<never>(() => undefined);
const away = new VitrineError('queue_unavailable', 'Unreachable.');
const byKind = ({ queue }: FakeWorld, kind: Settlement['kind']) =>
  queue.settlements.filter((settlement) => settlement.kind === kind);
const logged = ({ log }: FakeWorld, words: string) => log.filter(({ msg }) => msg.includes(words));

describe('a hung stage', () => {
  test('costs only the jobs in its slots an attempt; the others go back, and the worker ends', async () => {
    const world = createFakeWorld();
    world.images.fetch = hang;
    world.enqueueFiles(100);
    const { ended } = await world.start();
    await world.clock.advance(34_999);
    expect(ended()).toBeUndefined();
    await world.clock.advance(1);

    expect(ended()).toMatchObject({ code: 'worker_stuck' });
    expect(byKind(world, 'retry')).toHaveLength(8);
    for (const settlement of byKind(world, 'retry'))
      expect(settlement).toMatchObject({ error: { code: 'image_fetch_timeout' } });
    expect(byKind(world, 'release').length).toBeGreaterThanOrEqual(8);
    expect(byKind(world, 'fail')).toEqual([]);
    expect(world.queue.waiting).toHaveLength(92);
    expect(world.queue.leased.size).toBe(0);
    expect(world.log.filter(({ level }) => level === 'error')).toHaveLength(1);
    expect(world.queue.removed).toHaveLength(1);
  });

  test('ends the worker only when no slot is left', async () => {
    const world = createFakeWorld({ WORKER_CONCURRENCY: '3' });
    world.images.fetch = async (image) => {
      if (image.kind === 'path') await hang();
      return new Uint8Array([1]);
    };
    world.enqueueFiles(2, 'hang');
    world.enqueue(50);
    const { ended } = await world.start();
    await world.clock.advance(300_000);
    expect(ended()).toBeUndefined();
    expect(byKind(world, 'complete')).toHaveLength(50);
    expect(byKind(world, 'retry')).toHaveLength(2);
  });

  test('gets a slot back when its work returns after all', async () => {
    const world = createFakeWorld({ WORKER_CONCURRENCY: '2' });
    const late = Promise.withResolvers<Uint8Array>();
    world.images.fetch = (image) => {
      if (image.kind !== 'path') return Promise.resolve(new Uint8Array([1]));
      return image.path.includes('late') ? late.promise : hang();
    };
    world.enqueueFiles(1, 'late');
    const { ended } = await world.start();
    await world.clock.advance(40_000);
    late.resolve(new Uint8Array([1]));
    world.enqueueFiles(1, 'hang');
    await world.clock.advance(60_000);
    expect(ended()).toBeUndefined();
    world.enqueue(5);
    await world.clock.advance(1_000);
    expect(byKind(world, 'complete')).toHaveLength(5);
  });

  test('of writes hands its jobs back without an attempt', async () => {
    const world = createFakeWorld();
    world.store.upsert = hang;
    world.store.ping = async () => {
      throw new VitrineError('store_unavailable', 'Unreachable.');
    };
    world.enqueue(3);
    const { ended } = await world.start();
    await world.clock.advance(200_000);
    expect(byKind(world, 'release')).toHaveLength(3);
    expect(ended()).toBeUndefined();
  });
});

describe('a host whose images come slowly', () => {
  /** Images of `slow.example` never come; those of other hosts at once. */
  function openWorld(): FakeWorld {
    const world = createFakeWorld();
    world.images.fetch = async (image) => {
      if (image.kind === 'url' && image.url.includes('slow')) await hang();
      return new Uint8Array([1]);
    };
    return world;
  }

  function enqueueSlow({ queue }: FakeWorld, count: number): void {
    for (let n = 0; n < count; n++) {
      const job = newClaimedJob(`slow-${n}`);
      const image = { kind: 'url' as const, url: `http://slow.example/${n}` };
      queue.waiting.push({ ...job, data: { ...job.data, image } });
    }
  }

  test.each([40, 400])('does not hold up another one behind %i of its images', async (count) => {
    const world = openWorld();
    enqueueSlow(world, count);
    world.enqueue(1, 'other');
    await world.start();
    for (let second = 0; second < 3; second++) await world.clock.advance(1_000);
    expect(byKind(world, 'complete')).toMatchObject([{ id: 'other-0' }]);
    // Those beyond its share (three per slot) wait in the queue, which keeps them from the workers for a while.
    expect(byKind(world, 'defer').length).toBeGreaterThanOrEqual(count - 24);
    expect(byKind(world, 'defer')[0]).toMatchObject({ error: { code: 'image_host_slow' }, delayMs: 1_000 });
  });

  test('does not hold up jobs that have to run alone', async () => {
    const world = openWorld();
    enqueueSlow(world, 8);
    world.queue.suspects.push(newClaimedJob('suspect', { crashes: 1 }));
    await world.start();
    for (let second = 0; second < 3; second++) await world.clock.advance(1_000);
    expect(byKind(world, 'complete')).toMatchObject([{ id: 'suspect' }]);
    expect(byKind(world, 'release')).toHaveLength(8);
    expect([...world.queue.leased.keys()].toSorted()).toEqual(
      Array.from({ length: 8 }, (_, n) => `slow-${n}`),
    );
  });

  test('never makes the worker stuck: its images end at their deadline', async () => {
    const world = openWorld();
    enqueueSlow(world, 100);
    const { ended } = await world.start();
    await world.clock.advance(120_000);
    world.enqueue(20, 'other');
    await world.queue.enqueue([]);
    await world.clock.advance(1_000);
    expect(ended()).toBeUndefined();
    expect(byKind(world, 'complete')).toHaveLength(20);
    const retried = byKind(world, 'retry');
    expect(retried.length).toBeGreaterThanOrEqual(16);
    expect(retried.length).toBeLessThan(24);
  });
});

describe('the soft limit', () => {
  test('ends an attempt that is really worked on for longer', async () => {
    const world = createFakeWorld({ JOB_SOFT_TIMEOUT_MS: '5000' });
    world.images.fetch = hang;
    world.enqueue(1);
    await world.start();
    await world.clock.advance(4_999);
    expect(world.queue.settlements).toEqual([]);
    await world.clock.advance(1);
    expect(world.queue.settlements).toMatchObject([{ kind: 'retry', error: { code: 'job_timed_out' } }]);
  });

  test('does not count time in which the job waits for a slot, for a batch or for the store', async () => {
    const world = createFakeWorld({
      WORKER_CONCURRENCY: '1',
      BATCH_SIZE: '8',
      JOB_SOFT_TIMEOUT_MS: '5000',
      QDRANT_TIMEOUT_MS: '60000',
    });
    const { clock, store, embedder, images } = world;
    images.fetch = async () => {
      await clock.sleep(3_000);
      return new Uint8Array([1]);
    };
    const { upsert } = store;
    store.upsert = async (points) => {
      await clock.sleep(20_000);
      return upsert(points);
    };
    embedder.embedImages = async (batch) => {
      await clock.sleep(20_000);
      return batch.map(() => Float32Array.of(1, 0));
    };
    // The last of them waits 24 s for the only slot.
    world.enqueueFiles(9);
    await world.start();
    await clock.advance(120_000);
    expect(byKind(world, 'complete')).toHaveLength(9);
    expect(world.queue.settlements).toHaveLength(9);
  });

  test('adds up fetching and preparing', async () => {
    const world: FakeWorld = createFakeWorld(
      { JOB_SOFT_TIMEOUT_MS: '5000' },
      {
        decoder: createFakeDecoder(async () => {
          await world.clock.sleep(3_000);
          return new Uint8Array(3);
        }),
      },
    );
    world.images.fetch = async () => {
      await world.clock.sleep(3_000);
      return new Uint8Array([1]);
    };
    world.enqueue(1);
    await world.start();
    await world.clock.advance(5_000);
    expect(world.queue.settlements).toMatchObject([{ kind: 'retry', error: { code: 'job_timed_out' } }]);
  });

  test("of the job itself wins over the worker's", async () => {
    const world = createFakeWorld();
    world.images.fetch = hang;
    const job = newClaimedJob('own');
    world.queue.waiting.push({ ...job, data: { ...job.data, softTimeoutMs: 700 } });
    await world.start();
    await world.clock.advance(700);
    expect(world.queue.settlements).toMatchObject([{ kind: 'retry', error: { code: 'job_timed_out' } }]);
  });
});

describe('an outage of the queue', () => {
  test('is waited out; leases are renewed before anything is reaped or claimed', async () => {
    const world = createFakeWorld();
    world.images.fetch = hang;
    world.enqueue(2);
    const { ended } = await world.start();
    await world.clock.advance(7_000);
    world.queue.outage = away;
    await world.clock.advance(20_000);
    expect(ended()).toBeUndefined();
    world.queue.calls.length = 0;
    world.queue.outage = null;
    await world.clock.advance(2_000);
    expect(world.queue.calls[0]).toBe('renew');
    expect(world.queue.calls).toContain('reap');
    expect(world.queue.calls).toContain('claim');
  });

  test('is logged once per loop, not every second', async () => {
    const world = createFakeWorld();
    world.queue.outage = away;
    await world.start();
    await world.clock.advance(4_000);
    expect(logged(world, 'trying again every second')).toHaveLength(2);
  });

  test('at the start is waited for, also when the queue is unsafe', async () => {
    const world = createFakeWorld();
    world.queue.outage = new VitrineError('queue_unsafe', 'It may lose jobs.');
    world.enqueue(3);
    const { ended } = await world.start();
    await world.clock.advance(60_000);
    expect(ended()).toBeUndefined();
    world.queue.outage = null;
    await world.clock.advance(2_000);
    expect(byKind(world, 'complete')).toHaveLength(3);
  });

  test('does not lose a settlement', async () => {
    const world = createFakeWorld();
    world.images.fetch = async () => {
      await world.clock.sleep(3_000);
      return new Uint8Array([1]);
    };
    world.enqueue(2);
    await world.start();
    world.queue.outage = away;
    await world.clock.advance(10_000);
    expect(world.queue.settlements).toEqual([]);
    world.queue.outage = null;
    await world.clock.advance(2_000);
    expect(byKind(world, 'complete')).toHaveLength(2);
  });

  test('is no reason to stay when the worker is stopped', async () => {
    const world = createFakeWorld({ SHUTDOWN_GRACE_MS: '1000' });
    world.enqueue(2);
    world.images.fetch = hang;
    const { worker, ended } = await world.start();
    world.queue.outage = away;
    await world.clock.advance(2_000);
    worker.stop();
    await world.clock.advance(4_000);
    expect(ended()).toEqual({ done: 0, failed: 0 });
  });

  test('ends the worker when it is no outage but a fault that stays', async () => {
    const world = createFakeWorld();
    world.queue.outage = new VitrineError('queue_format', 'Of a newer version.');
    const { ended } = await world.start();
    await world.clock.advance(1_000);
    expect(ended()).toMatchObject({ code: 'queue_format' });
  });
});

describe('a settlement that the queue refuses', () => {
  test('is sent alone, then ends its job as failed in fixed words; the others are not affected', async () => {
    const world = createFakeWorld();
    const secret = 'half of a pair \ud83d';
    world.images.fetch = async (image) => {
      if (image.kind === 'url' && image.url.endsWith('job-2'))
        throw new VitrineError('image_corrupt', secret);
      return new Uint8Array([1]);
    };
    world.queue.refuses = (settlement) => JSON.stringify(settlement).includes('half of a pair');
    world.enqueue(5);
    const { ended } = await world.start({ once: true });
    await world.clock.advance(1_000);
    expect(ended()).toEqual({ done: 4, failed: 1 });
    expect(byKind(world, 'fail')).toEqual([
      {
        id: 'job-2',
        token: 'token-job-2',
        kind: 'fail',
        processingMs: 0,
        error: {
          code: 'settlement_refused',
          message: expect.any(String),
          suggestion: ERRORS.settlement_refused.suggestion,
        },
      },
    ]);
  });

  test('in every form is logged, and left to its lease', async () => {
    const world = createFakeWorld();
    world.queue.refuses = ({ id }) => id === 'job-2';
    world.enqueue(5);
    await world.start();
    await world.clock.advance(60_000);
    expect(byKind(world, 'complete')).toHaveLength(4);
    expect([...world.queue.leased.keys()]).toEqual(['job-2']);
    expect(logged(world, 'could not be settled')).toHaveLength(1);
    expect(world.queue.calls.filter((call) => call === 'settle')).toHaveLength(1 + 5 + 1);
  });
});

describe('a worker that is stopped', () => {
  test('finishes what it holds, and claims no more', async () => {
    const world = createFakeWorld();
    world.images.fetch = async () => {
      await world.clock.sleep(2_000);
      return new Uint8Array([1]);
    };
    world.enqueue(40);
    const { worker, ended } = await world.start();
    worker.stop();
    await world.clock.advance(1_000);
    expect(ended()).toBeUndefined();
    expect(world.queue.reports.at(-1)).toMatchObject({ state: 'draining', inFlight: 16 });
    await world.clock.advance(3_000);
    expect(ended()).toEqual({ done: 16, failed: 0 });
    expect(world.queue.waiting).toHaveLength(24);
    expect(world.queue.removed).toEqual([worker.id]);
  });

  test('renews its leases during the grace period, then hands back the rest', async () => {
    const world = createFakeWorld({ SHUTDOWN_GRACE_MS: '12000' });
    world.images.fetch = hang;
    world.enqueue(2);
    const { worker, ended } = await world.start();
    worker.stop();
    world.queue.calls.length = 0;
    await world.clock.advance(11_999);
    expect(world.queue.calls.filter((call) => call === 'renew')).toHaveLength(2);
    expect(ended()).toBeUndefined();
    await world.clock.advance(1);
    expect(ended()).toEqual({ done: 0, failed: 0 });
    expect(byKind(world, 'release')).toHaveLength(2);
  });

  test('keeps to the grace period while a job runs that has crashed a worker', async () => {
    const world = createFakeWorld({ SHUTDOWN_GRACE_MS: '1000' });
    world.images.fetch = hang;
    world.queue.suspects.push(newClaimedJob('suspect', { crashes: 1 }));
    const { worker, ended } = await world.start();
    expect(world.queue.leased.size).toBe(1);
    worker.stop();
    await world.clock.advance(1_000);
    expect(ended()).toEqual({ done: 0, failed: 0 });
    expect(byKind(world, 'release')).toHaveLength(1);
  });

  test('does not wait for a store that does not answer the probe', async () => {
    const world = createFakeWorld();
    world.store.upsert = async () => {
      throw new VitrineError('store_unavailable', 'Unreachable.');
    };
    world.store.ping = hang;
    world.enqueue(1);
    const { worker, ended } = await world.start();
    await world.clock.advance(5_000);
    worker.stop();
    await world.clock.advance(0);
    expect(ended()).toEqual({ done: 0, failed: 0 });
  });

  test.each([
    ['never answers', hang],
    [
      'is unreachable',
      async () => {
        throw new VitrineError('store_unavailable', 'Unreachable.');
      },
    ],
  ])('while it starts with a store that %s ends at once, without an error', async (_, ensureCollection) => {
    const world = createFakeWorld();
    world.store.ensureCollection = ensureCollection;
    world.enqueue(1);
    const { worker, ended } = await world.start();
    await world.clock.advance(2_500);
    worker.stop();
    await world.clock.advance(0);
    expect(ended()).toEqual({ done: 0, failed: 0 });
    expect(world.queue.claims).toEqual([]);
  });

  test('while its model loads ends at once', async () => {
    const world = createFakeWorld();
    world.embedder.start = hang;
    const { worker, ended } = await world.start();
    expect(world.queue.reports.at(-1)).toMatchObject({ state: 'loading', model: 'builtin' });
    worker.stop();
    await world.clock.advance(0);
    expect(ended()).toEqual({ done: 0, failed: 0 });
  });
});

describe('in the background a worker', () => {
  test('shows the stage of each job with its renewals', async () => {
    const world = createFakeWorld({ WORKER_CONCURRENCY: '2', BATCH_SIZE: '2' });
    world.embedder.embedImages = hang;
    world.images.fetch = (image) => (image.kind === 'path' ? hang() : Promise.resolve(new Uint8Array([1])));
    world.enqueue(1);
    world.enqueueFiles(3, 'hang');
    await world.start();
    await world.clock.advance(5_000);
    expect([...world.queue.stages].toSorted()).toEqual([
      ['hang-0', 'fetching'],
      ['hang-1', 'fetching'],
      ['hang-2', 'waiting'],
      ['job-0', 'embedding'],
    ]);
  });

  test('reaps eight times per lease, renews three times, and reports its state', async () => {
    const world = createFakeWorld();
    await world.start();
    await world.clock.advance(15_000);
    const count = (call: string) => world.queue.calls.filter((made) => made === call).length;
    expect(count('reap')).toBe(9);
    expect(count('renew')).toBe(3);
    expect(world.queue.reports.map(({ state }) => state)).toEqual(['loading', 'loading', 'idle', 'idle']);
  });

  test('removes tombstones of more than 30 days, once an hour', async () => {
    const world = createFakeWorld();
    await world.start();
    await world.clock.advance(1_000);
    expect(world.store.sweeps).toEqual([30 * 24 * 3_600_000]);
    await world.clock.advance(3_600_000);
    expect(world.store.sweeps).toHaveLength(2);
  });

  test('stops a job that was cancelled, and its point is not written', async () => {
    const world = createFakeWorld();
    const embedded = Promise.withResolvers<void>();
    world.embedder.embedImages = async (batch) => {
      await embedded.promise;
      return batch.map(() => Float32Array.of(1, 0));
    };
    world.enqueue(2);
    await world.start();
    world.queue.renewals.set('job-0', 'cancel');
    await world.clock.advance(5_000);
    expect(byKind(world, 'cancel')).toMatchObject([{ id: 'job-0' }]);
    embedded.resolve();
    await world.clock.advance(0);
    expect([...world.store.payloads.keys()]).toEqual(['key-job-1']);
  });
});
