import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Decoder } from '../../models/decoding/decoder.ts';
import type { ImageRef } from '../../src/catalog/product-image.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { ClaimedJob } from '../../src/queue/port.ts';
import type { Pictured, ThumbnailCache } from '../../src/thumbnails/cache.ts';
import { newClaimedJob } from '../support/fake-queue.ts';
import {
  createFakeDecoder,
  createFakeEmbedder,
  createFakeWorld,
  type FakeWorld,
} from '../support/fake-worker.ts';

async function run(world: FakeWorld, ...jobs: readonly ClaimedJob[]): Promise<void> {
  world.queue.waiting.push(...jobs);
  await world.start();
  await world.clock.advance(0);
}

const withImage = (image: ImageRef) => {
  const job = newClaimedJob('job');
  return { ...job, data: { ...job.data, image } };
};

describe('the point of a job', () => {
  test('carries its product, its version and sequence, and a hash of its encoded bytes', async () => {
    const world = createFakeWorld();
    const bytes = new Uint8Array([9, 8, 7]);
    world.images.fetch = async () => bytes;
    const job = newClaimedJob('job', { version: 7, sequence: 1_234 });
    await run(world, { ...job, data: { ...job.data, product: { name: 'Mug', price: 12 } } });
    expect(world.store.payloads.get('key-job')).toEqual({
      name: 'Mug',
      price: 12,
      productId: 'job',
      imageId: 'main',
      imageRef: 'http://images.example/job',
      contentHash: createHash('sha256').update(bytes).digest('hex'),
      version: 7,
      sequence: 1_234,
      indexedAt: world.clock.now(),
    });
  });

  test.each([
    [{ kind: 'url', url: 'https://shop.example/a.jpg?size=2' }, 'https://shop.example/a.jpg?size=2'],
    [{ kind: 'path', path: '/photos/a.jpg' }, '/photos/a.jpg'],
    [{ kind: 'inline', base64: 'AAAA' }, null],
  ] as const)('says where the image came from: %j', async (image, imageRef) => {
    const world = createFakeWorld();
    await run(world, withImage(image));
    expect(world.store.payloads.get('key-job')?.imageRef).toBe(imageRef);
  });
});

describe('the outcome of a job', () => {
  test.each(['indexed', 'superseded', 'deleted'] as const)('is what the store says: %s', async (outcome) => {
    const world = createFakeWorld();
    world.store.upsert = async (points) => points.map(() => outcome);
    await run(world, newClaimedJob('job'));
    expect(world.queue.settlements).toMatchObject([
      {
        kind: 'complete',
        result: { outcome, pointId: 'key-job', collection: 'products', model: 'fake-model' },
      },
    ]);
  });

  test('belongs to the job, also when a cancelled one is left out of the write at the last moment', async () => {
    const world = createFakeWorld();
    const written: string[] = [];
    const open = Promise.withResolvers<void>();
    world.store.upsert = async (points) => {
      await open.promise;
      written.push(...points.map(({ id }) => id));
      return points.map(({ payload }) => (payload.productId === 'b' ? 'superseded' : 'deleted'));
    };
    // A write runs already, so that the points of a, b and c wait together.
    await run(world, newClaimedJob('first'));
    world.queue.waiting.push(...['a', 'b', 'c'].map((name) => newClaimedJob(name)));
    await world.queue.enqueue([]);
    await world.clock.advance(0);
    world.queue.renewals.set('a', 'cancel');
    await world.clock.advance(5_000);
    open.resolve();
    await world.clock.advance(0);
    const outcomes = world.queue.settlements.map((settlement) => [
      settlement.id,
      settlement.kind === 'complete' ? settlement.result.outcome : settlement.kind,
    ]);
    expect(outcomes).toEqual([
      ['a', 'cancel'],
      ['first', 'deleted'],
      ['b', 'superseded'],
      ['c', 'deleted'],
    ]);
    expect(written).toEqual(['key-first', 'key-b', 'key-c']);
  });
});

describe('a job that is delivered again', () => {
  async function deliverAgain(stored: { version: number; sequence: number } | null): Promise<FakeWorld> {
    const world = createFakeWorld();
    const fetched: string[] = [];
    world.images.fetch = async (image) => {
      fetched.push(image.kind);
      return new Uint8Array([1]);
    };
    if (stored !== null) {
      world.store.payloads.set('key-job', {
        ...stored,
        productId: 'job',
        imageId: 'main',
        imageRef: null,
        contentHash: '',
        indexedAt: 0,
      });
    }
    await run(world, newClaimedJob('job', { version: 5, sequence: 50, redelivered: true }));
    const outcome = world.queue.settlements.map((settlement) =>
      settlement.kind === 'complete' ? settlement.result.outcome : settlement.kind,
    );
    expect(outcome).toEqual([fetched.length === 0 ? 'unchanged' : 'indexed']);
    return Object.assign(world, { fetched });
  }

  test('fetches nothing when its point is already there', async () => {
    expect(await deliverAgain({ version: 5, sequence: 50 })).toMatchObject({ fetched: [] });
  });

  test.each([null, { version: 5, sequence: 49 }, { version: 4, sequence: 50 }])(
    'is done again when the stored point is %j',
    async (stored) => {
      expect(await deliverAgain(stored)).toMatchObject({ fetched: ['url'] });
    },
  );

  test('goes back without an attempt when the store cannot say', async () => {
    const world = createFakeWorld();
    world.store.getPayloads = async () => {
      throw new VitrineError('store_unavailable', 'Unreachable.');
    };
    world.store.ping = () => new Promise(() => undefined);
    await run(world, newClaimedJob('job', { redelivered: true }));
    expect(world.queue.settlements).toMatchObject([{ kind: 'release' }]);
  });
});

test('pixels are freed when their vector is there, and not before the image is tried by itself', async () => {
  const decoded: Uint8Array[] = [];
  const decoder = createFakeDecoder(async () => {
    const pixels = new Uint8Array(12).fill(1);
    decoded.push(pixels);
    return pixels;
  });
  const world = createFakeWorld({}, { decoder });
  const lengths: number[] = [];
  world.embedder.embedImages = async (batch) => {
    lengths.push(...batch.map(({ pixels }) => pixels.length));
    if (batch.length > 1) throw new VitrineError('embedding_invalid', 'NaN.');
    return [Float32Array.of(1, 0)];
  };
  await run(world, newClaimedJob('job-1'), newClaimedJob('job-2'));
  expect(lengths).toEqual([12, 12, 12, 12]);
  expect(decoded.map(({ length }) => length)).toEqual([0, 0]);
});

test.each([1, 2])('an embedder that runs %i calls at once gets as many', async (parallelCalls) => {
  let running = 0;
  const embedImages = () => {
    running++;
    return new Promise<never>(() => undefined);
  };
  const embedder = { ...createFakeEmbedder(), parallelCalls, embedImages };
  const world = createFakeWorld({ BATCH_SIZE: '2' }, { embedder });
  await run(world, ...[1, 2, 3, 4, 5, 6].map((n) => newClaimedJob(`job-${n}`)));
  expect(running).toBe(parallelCalls);
});

describe('one bad item of a batch', () => {
  test('fails alone in the embedder', async () => {
    const world = createFakeWorld({}, { decoder: createFakeDecoder(async (bytes) => bytes) });
    world.images.fetch = async (image) =>
      new Uint8Array([image.kind === 'url' && image.url.endsWith('job-3') ? 13 : 1]);
    world.embedder.embedImages = async (batch) => {
      if (batch.some(({ pixels }) => pixels[0] === 13)) throw new VitrineError('embedding_invalid', 'NaN.');
      return batch.map(() => Float32Array.of(1, 0));
    };
    await run(world, ...[1, 2, 3, 4].map((n) => newClaimedJob(`job-${n}`)));
    expect(world.queue.settlements.filter(({ kind }) => kind === 'fail')).toMatchObject([{ id: 'job-3' }]);
    expect(world.store.payloads.size).toBe(3);
  });

  test('fails alone in the store', async () => {
    const world = createFakeWorld();
    const { upsert } = world.store;
    world.store.upsert = async (points) => {
      if (points.some(({ id }) => id === 'key-job-3')) throw new VitrineError('store_rejected', 'No.');
      return upsert(points);
    };
    await run(world, ...[1, 2, 3, 4].map((n) => newClaimedJob(`job-${n}`)));
    expect(world.queue.settlements.filter(({ kind }) => kind === 'fail')).toMatchObject([{ id: 'job-3' }]);
    expect(world.store.payloads.size).toBe(3);
  });
});

describe('the thumbnail of an image that came with its job', () => {
  /** A world whose decoder draws thumbnails, and what was done with them. */
  function createWorld(environment: Readonly<Record<string, string>> = {}) {
    const done: string[] = [];
    const decoder: Decoder = {
      ...createFakeDecoder(async () => new Uint8Array(3)),
      async prepare(_, __, options) {
        const thumbnail = options?.withThumbnail === true ? new Uint8Array([1]) : null;
        return { pixels: new Uint8Array(3), size: 1, contentHash: 'new', thumbnail };
      },
    };
    const note = (what: string) => async (image: Pictured) => void done.push(`${what} ${image.contentHash}`);
    const thumbnails: ThumbnailCache = {
      read: async () => null,
      write: note('write'),
      remove: note('remove'),
      removeOthers: note('remove others than'),
      removeProduct: async () => undefined,
      async [Symbol.asyncDispose]() {},
    };
    const world = createFakeWorld(environment, { decoder, thumbnails });
    const { upsert } = world.store;
    world.store.upsert = async (points) => {
      done.push('upsert');
      return upsert(points);
    };
    return Object.assign(world, { done });
  }

  const inline = withImage({ kind: 'inline', base64: 'AQ==' });

  test('is written before its point, and takes the place of the last one', async () => {
    const world = createWorld();
    await run(world, inline);
    expect(world.done).toEqual(['write new', 'upsert', 'remove others than new']);
  });

  test.each(['superseded', 'deleted'] as const)('is removed when its point is %s', async (outcome) => {
    const world = createWorld();
    world.store.upsert = async () => [outcome];
    await run(world, inline);
    expect(world.done).toEqual(['write new', 'remove new']);
  });

  test('stays when a newer point has the same picture', async () => {
    const world = createWorld();
    const payload = { productId: 'job', imageId: 'main', imageRef: null, contentHash: 'new', indexedAt: 0 };
    world.store.payloads.set('key-job', { ...payload, version: 2, sequence: 2 });
    world.store.upsert = async () => ['superseded'];
    await run(world, inline);
    expect(world.done).toEqual(['write new']);
  });

  test('is not drawn of an image that can be fetched again, nor where none are kept', async () => {
    const world = createWorld();
    await run(world, newClaimedJob('job'));
    expect(world.done).toEqual(['upsert']);
    const without = createWorld({ THUMBNAIL_CACHE_MAX_MB: '0' });
    await run(without, inline);
    expect(without.done).toEqual(['upsert']);
  });
});
