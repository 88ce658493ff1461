import { describe, expect, test } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { newClaimedJob } from '../support/fake-queue.ts';
import { createFakeWorld, type FakeWorld } from '../support/fake-worker.ts';

/** An embedder with one thread that needs this time per image. */
function slowDown({ embedder, clock }: FakeWorld, msPerImage: number): void {
  let last: Promise<void> = Promise.resolve();
  embedder.embedImages = async (images) => {
    last = last.then(() => clock.sleep(images.length * msPerImage));
    await last;
    return images.map(() => Float32Array.of(1, 0));
  };
}

/** Runs the clock in steps, and returns the greatest number of jobs that were held. */
async function advance({ clock, queue }: FakeWorld, ms: number, stepMs = 100): Promise<number> {
  let most = 0;
  for (let at = 0; at < ms; at += stepMs) {
    await clock.advance(stepMs);
    most = Math.max(most, queue.leased.size);
  }
  return most;
}

const kinds = ({ queue }: FakeWorld) => [...new Set(queue.settlements.map(({ kind }) => kind))];

describe('claims', () => {
  test('stay in proportion to a slow embedder, and no job times out', async () => {
    const world = createFakeWorld({ WORKER_CONCURRENCY: '256', JOB_SOFT_TIMEOUT_MS: '5000' });
    slowDown(world, 200);
    world.enqueue(1_000);
    await world.start();
    const most = await advance(world, 120_000);
    // Two batches; with all slots of its fetch stage full, the last of 256 would wait 51 seconds.
    expect(most).toBeLessThanOrEqual(16);
    expect(kinds(world)).toEqual(['complete']);
    expect(world.queue.settlements.length).toBeGreaterThan(580);
  });

  test('grow with the rate until the slots of slow reads are full', async () => {
    const world = createFakeWorld({ WORKER_CONCURRENCY: '64' });
    let fetching = 0;
    let most = 0;
    world.images.fetch = async () => {
      most = Math.max(most, ++fetching);
      await world.clock.sleep(4_000);
      fetching--;
      return new Uint8Array([1]);
    };
    world.enqueueFiles(3_000);
    await world.start();
    await advance(world, 30_000, 1_000);
    expect(most).toBe(64);
  });

  test('grow also when every image fails', async () => {
    const world = createFakeWorld({ WORKER_CONCURRENCY: '64' });
    world.images.fetch = async () => {
      await world.clock.sleep(1_000);
      throw new VitrineError('image_not_found', 'Nothing there.');
    };
    world.enqueue(1_000);
    await world.start();
    await advance(world, 20_000, 1_000);
    expect(world.queue.settlements.length).toBe(1_000);
  });

  test('never exceed what the stages can hold at once', async () => {
    const world = createFakeWorld();
    slowDown(world, 1);
    world.enqueue(4_000);
    await world.start();
    const most = await advance(world, 3_000);
    expect(most).toBeLessThanOrEqual(32);
    expect(world.queue.settlements.length).toBeGreaterThan(2_000);
  });

  test('follow an enqueue at once, without a wait for a poll or for a batch to fill', async () => {
    const world = createFakeWorld();
    await world.start();
    await world.clock.advance(345);
    world.enqueue(1);
    await world.queue.enqueue([]);
    await world.clock.advance(0);
    expect(kinds(world)).toEqual(['complete']);
  });

  test('come when the next delayed job is due', async () => {
    const world = createFakeWorld();
    world.queue.delayed.push({ at: 400, job: newClaimedJob('later') });
    await world.start();
    await world.clock.advance(399);
    expect(world.queue.settlements).toEqual([]);
    await world.clock.advance(1);
    expect(kinds(world)).toEqual(['complete']);
  });

  test('wait while the store is unreachable, and go on when it answers', async () => {
    const world = createFakeWorld();
    const { upsert, ping } = world.store;
    let away = true;
    world.store.upsert = async (points) => {
      if (away) throw new VitrineError('store_unavailable', 'Unreachable.');
      return upsert(points);
    };
    world.store.ping = async () => {
      await ping();
      if (away) throw new VitrineError('store_unavailable', 'Unreachable.');
    };
    world.enqueue(100);
    await world.start();
    await world.clock.advance(20_000);
    expect(kinds(world)).toEqual(['release']);
    expect(world.queue.settlements).toHaveLength(16);
    expect(world.store.pings).toBeGreaterThan(3);
    away = false;
    await world.clock.advance(20_000);
    expect(world.queue.settlements.filter(({ kind }) => kind === 'complete')).toHaveLength(100);
  });

  test('wait longer each time the embedding times out, and no attempt is counted', async () => {
    const world = createFakeWorld();
    world.embedder.embedImages = async () => {
      await world.clock.sleep(10_000);
      throw new VitrineError('embedding_timed_out', 'It hangs.');
    };
    world.enqueue(4);
    await world.start();
    await world.clock.advance(60_000);
    expect(kinds(world)).toEqual(['release']);
    expect(world.queue.settlements.length).toBeLessThanOrEqual(5 * 4);
  });
});

describe('--once', () => {
  test('ends when everything is done, and counts failures', async () => {
    const world = createFakeWorld();
    world.images.fetch = async (image) => {
      if (image.kind === 'url' && image.url.endsWith('job-3'))
        throw new VitrineError('image_not_found', 'Nothing there.');
      return new Uint8Array([1]);
    };
    world.enqueue(20);
    const { ended } = await world.start({ once: true });
    await world.clock.advance(0);
    expect(ended()).toEqual({ done: 19, failed: 1 });
  });

  test('waits for a job that is due within a minute', async () => {
    const world = createFakeWorld();
    world.queue.delayed.push({ at: 59_000, job: newClaimedJob('soon') });
    const { ended } = await world.start({ once: true });
    await world.clock.advance(58_000);
    expect(ended()).toBeUndefined();
    await world.clock.advance(2_000);
    expect(ended()).toEqual({ done: 1, failed: 0 });
  });

  test('leaves a job that is due later, and says so', async () => {
    const world = createFakeWorld();
    world.queue.delayed.push({ at: 3_600_000, job: newClaimedJob('tomorrow') });
    world.enqueue(1);
    const { ended } = await world.start({ once: true });
    await world.clock.advance(0);
    expect(ended()).toEqual({ done: 1, failed: 0 });
    expect(world.log).toContainEqual(
      expect.objectContaining({ msg: expect.stringContaining('nothing to claim now'), delayed: 1 }),
    );
  });
});

describe('jobs that have crashed a worker', () => {
  test('run one at a time with nothing else, then ordinary jobs go on', async () => {
    const world = createFakeWorld();
    let running = 0;
    const together: string[] = [];
    world.images.fetch = async (image) => {
      const name = image.kind === 'url' ? image.url.replace(/.*\//, '') : '';
      running++;
      await world.clock.sleep(100);
      if (name.startsWith('suspect')) together.push(`${name} with ${running - 1} others`);
      running--;
      return new Uint8Array([1]);
    };
    world.enqueue(40);
    world.queue.suspects.push(...[1, 2, 3].map((n) => newClaimedJob(`suspect-${n}`, { crashes: 1 })));
    await world.start();
    await world.clock.advance(10_000);
    expect(together).toEqual([1, 2, 3].map((n) => `suspect-${n} with 0 others`));
    expect(world.queue.settlements).toHaveLength(43);
    expect(kinds(world)).toEqual(['complete']);
  });

  test('leave ordinary jobs half of the time', async () => {
    const world = createFakeWorld();
    world.images.fetch = async (image) => {
      await world.clock.sleep(image.kind === 'url' && image.url.includes('suspect') ? 4_000 : 200);
      return new Uint8Array([1]);
    };
    world.queue.suspects.push(
      ...Array.from({ length: 100 }, (_, n) => newClaimedJob(`suspect-${n}`, { crashes: 1 })),
    );
    world.enqueue(5_000);
    await world.start();
    await advance(world, 15_000, 1_000);
    const count = (name: string) => world.queue.settlements.filter(({ id }) => id.startsWith(name)).length;
    expect(count('suspect')).toBe(3);
    const before = count('job');
    await advance(world, 9_000, 1_000);
    expect(count('suspect')).toBe(3);
    expect(count('job')).toBeGreaterThan(before + 150);
    await advance(world, 10_000, 1_000);
    expect(count('suspect')).toBeGreaterThan(3);
  });

  test('that another worker took do not keep this one busy', async () => {
    const world = createFakeWorld();
    const { claim } = world.queue;
    world.queue.claim = async (request) => ({ ...(await claim(request)), suspectsWaiting: 5 });
    await world.start();
    await world.clock.advance(10_000);
    expect(world.queue.claims.length).toBeLessThanOrEqual(24);
  });
});
