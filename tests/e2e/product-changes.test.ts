import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createWorker, type WorkerParts } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { listTestStores } from '../support/stores.ts';

vi.setConfig({ hookTimeout: 120_000 });

/** The part with some of its methods replaced; the others, and its getters, stay. */
const override = <Part extends object>(part: Part, methods: Partial<Part>): Part =>
  Object.assign(Object.create(part) as Part, methods);

/** Where a worker stands still until it is let on. */
interface Gate {
  readonly reached: Promise<void>;
  open(): void;
  pass(): Promise<void>;
}

function createGate(): Gate {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  return {
    reached: reached.promise,
    open: opened.resolve,
    pass() {
      reached.resolve();
      return opened.promise;
    },
  };
}

/** Workers that stand still before a stage, or after the last one. */
const STAGES: Readonly<Record<string, (context: Context, gate: Gate) => Partial<WorkerParts>>> = {
  'it is fetched': ({ images }, gate) => ({
    images: override(images, {
      fetch: async (...args) => {
        await gate.pass();
        return images.fetch(...args);
      },
    }),
  }),
  'it is embedded': ({ embedder }, gate) => ({
    embedder: override(embedder, {
      embedImages: async (pixels) => {
        await gate.pass();
        return embedder.embedImages(pixels);
      },
    }),
  }),
  'it is written': ({ store }, gate) => ({
    store: override(store, {
      upsert: async (points) => {
        await gate.pass();
        return store.upsert(points);
      },
    }),
  }),
  'it is settled': ({ queue }, gate) => ({
    queue: override(queue, {
      settle: async (settlements) => {
        await gate.pass();
        return queue.settle(settlements);
      },
    }),
  }),
};

describe.each(listTestStores())('changed data of a product, with vectors in $name', ({ start }) => {
  const stack = new AsyncDisposableStack();
  let folder: string;
  let context: Context;
  let api: ApiClient;
  let images: readonly string[];
  let count = 0;
  let product: string;
  afterAll(() => stack.disposeAsync());

  beforeAll(async () => {
    const { environment } = stack.use(await start());
    folder = stack.use(await createTempFolder()).path;
    context = stack.use(await createTestContext({ IMAGE_ROOTS: folder, ...environment }));
    api = await createApiClient(context);
    const drawn = await Promise.all([1, 2, 3].map((seed) => drawImage(seed)));
    images = drawn.map((bytes) => bytes.toString('base64'));
  });

  const work = (parts: Partial<WorkerParts> = {}) =>
    createWorker({ ...context, ...parts }).run({ once: true });
  const enqueue = async (fields: object) => {
    const { status, body } = await api.post('/queue/enqueue', { product_id: product, ...fields });
    expect(status).toBe(202);
    return body;
  };
  const patch = (fields: object) => api.patch(`/products/${product}`, fields);
  /** What the product's indexed images say, by image id. */
  const read = async () => {
    const { body } = await api.get(`/products/${product}`);
    const found = body['images'] as { image_id: string; payload: Record<string, unknown> | null }[];
    return Object.fromEntries(
      found.flatMap(({ image_id, payload }) => {
        if (payload === null) return [];
        const { version: _, indexed_at: __, ...data } = payload;
        return [[image_id, data]];
      }),
    );
  };
  const scoreOf = async (image: number) => {
    const query = { image_base64: images[image], filter: { product_id: product } };
    const { body } = await api.post('/search', query);
    return (body['hits'] as { score: number }[])[0]!.score;
  };
  const OLD = { name: 'Old name', price: 10, tags: ['old'], metadata: { stock: 5, color: 'red' } };
  const CHANGE = { price: 8, tags: null, metadata: { stock: 0 } };
  const CHANGED = { name: 'Old name', price: 8, metadata: { stock: 0, color: 'red' } };

  describe.each(['its first picture', 'another picture'])('reach %s on its way', (which) => {
    describe.each([
      ['that names no version', {}],
      ['with a version', { version: 7 }],
    ])('of a job %s,', (_, version) => {
      test.each(['its job waits', ...Object.keys(STAGES)])('changed before %s', async (stage) => {
        product = `product-${count++}`;
        if (which === 'another picture') {
          await enqueue({ ...OLD, image_base64: images[0], ...('version' in version && { version: 1 }) });
          await work();
        }
        const job = await enqueue({ ...OLD, image_base64: images[1], ...version });
        const gate = createGate();
        const parts = STAGES[stage]?.(context, gate);
        const working = parts === undefined ? null : work(parts);
        if (working !== null) await gate.reached;

        const isPending = which === 'its first picture' && stage !== 'it is settled';
        expect(await patch(CHANGE)).toMatchObject({
          status: 200,
          body: { images: [isPending ? { state: 'pending' } : { payload: { price: 8 } }] },
        });
        gate.open();
        await (working ?? work());

        expect(await api.get(job['status_url'] as string)).toMatchObject({
          body: { status: 'completed', result: { outcome: 'indexed' } },
        });
        expect(await read()).toEqual({ main: CHANGED });
        expect(await scoreOf(1)).toBeCloseTo(1, 3);
      });
    });
  });

  test('hold for all images, change nothing else, and are found at once', async () => {
    product = `product-${count++}`;
    await enqueue({ ...OLD, image_base64: images[0] });
    await enqueue({ ...OLD, image_id: 'side', image_base64: images[1], category: 'mugs' });
    await work();
    const before = await context.store.getProduct(product);
    expect(await patch({ ...CHANGE, name: 'Walrus' })).toMatchObject({ status: 200 });
    expect(await read()).toEqual({
      main: { ...CHANGED, name: 'Walrus' },
      side: { ...CHANGED, name: 'Walrus', category: 'mugs' },
    });
    const after = await context.store.getProduct(product);
    for (const [at, { vector, payload }] of after.entries()) {
      expect(vector).toEqual(before[at]!.vector);
      expect(payload.version).toBe(before[at]!.payload.version);
      expect(payload.contentHash).toBe(before[at]!.payload.contentHash);
    }
    expect(await api.post('/search', { text: 'walrus' })).toMatchObject({
      body: { hits: [{ product_id: product }] },
    });
    expect(await api.post('/search', { text: 'walrus', filter: { tags: 'old' } })).toMatchObject({
      body: { hits: [] },
    });
  });

  test('give way to a job that is enqueued later, and not to a dead letter that is retried', async () => {
    product = `product-${count++}`;
    const dead = await enqueue({ ...OLD, image_id: 'late', image_path: `${product}.png` });
    await enqueue({ ...OLD, image_base64: images[0] });
    await work();
    await patch(CHANGE);
    await enqueue({ ...OLD, price: 12, image_base64: images[1] });
    await work();
    expect(await api.get(`/products/${product}`)).toMatchObject({
      body: {
        images: [
          { image_id: 'main', state: 'indexed', payload: { price: 12, tags: ['old'] } },
          { image_id: 'late', state: 'failed', payload: null },
        ],
        jobs: [{ job_id: dead['job_id'], status: 'failed', last_error: { code: 'image_not_found' } }],
      },
    });
    await writeFile(join(folder, `${product}.png`), Buffer.from(images[2]!, 'base64'));
    expect(await api.post(`/queue/jobs/${dead['job_id']}/retry`)).toMatchObject({ status: 202 });
    await work();
    expect(await read()).toEqual({ late: CHANGED, main: { ...OLD, price: 12 } });
  });

  test('may be sent again, by several at once', async () => {
    product = `product-${count++}`;
    await enqueue({ ...OLD, image_base64: images[0] });
    await work();
    const answers = await Promise.all([
      ...Array.from({ length: 5 }, () => patch(CHANGE)),
      ...Array.from({ length: 5 }, (_, at) => patch({ metadata: { [`key-${at}`]: at } })),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
    const keys = { 'key-0': 0, 'key-1': 1, 'key-2': 2, 'key-3': 3, 'key-4': 4 };
    expect(await read()).toEqual({ main: { ...CHANGED, metadata: { ...CHANGED.metadata, ...keys } } });
  });

  test.each([
    [{}, 'at least one of name, description'],
    [{ title: 'x' }, 'title is not a known field.'],
    [{ price: -1 }, 'price must be at least 0'],
    [{ currency: 'eur' }, 'currency must be an ISO 4217 code'],
    [{ product_id: 'other' }, 'product_id is not a known field.'],
    [{ metadata: null }, 'metadata must be an object'],
    [{ metadata: { text: 'x'.repeat(16_384) } }, 'metadata must have at most 16384 bytes'],
  ])('are refused when they are %j', async (fields, sentence) => {
    product = `product-${count++}`;
    await enqueue({ ...OLD, image_base64: images[0] });
    const { status, body } = await patch(fields);
    expect([status, body['code']]).toEqual([400, 'invalid_request']);
    expect((body['detail'] as string).toLowerCase()).toContain(sentence.toLowerCase());
  });

  test('do not let metadata grow beyond what a job may bring', async () => {
    product = `product-${count++}`;
    await enqueue({ ...OLD, image_base64: images[0] });
    await work();
    const text = 'x'.repeat(10_000);
    expect(await patch({ metadata: { one: text } })).toMatchObject({ status: 200 });
    const tooMuch = await patch({ metadata: { two: text } });
    expect(tooMuch).toMatchObject({ status: 400, body: { faults: [{ path: 'metadata' }] } });
    expect(await patch({ metadata: { one: null, two: text } })).toMatchObject({ status: 200 });
  });

  test('need a product that is there or on its way', async () => {
    product = `product-${count++}`;
    expect(await patch(CHANGE)).toMatchObject({ status: 404, body: { code: 'product_not_found' } });
    const form = new URLSearchParams({ price: '1' });
    expect(await api.ask('PATCH', `/products/${product}`, { body: form })).toMatchObject({ status: 415 });
  });

  test('one image is deleted with its jobs, and the others stay', async () => {
    product = `product-${count++}`;
    await enqueue({ ...OLD, image_base64: images[0] });
    await enqueue({ ...OLD, image_id: 'side', image_base64: images[1] });
    await work();
    const gate = createGate();
    await enqueue({ image_id: 'side', image_base64: images[2] });
    const running = work(STAGES['it is written']!(context, gate));
    await gate.reached;
    await enqueue({ image_id: 'side', image_base64: images[2], delay_seconds: 3_600 });
    await enqueue({ image_id: 'back', image_base64: images[2], delay_seconds: 3_600 });
    const remove = () => api.ask('DELETE', `/products/${product}/images/side`);
    expect(await remove()).toMatchObject({
      status: 200,
      body: { product_id: product, deleted_images: 1, cancelled_jobs: 1 },
    });
    gate.open();
    await running;
    expect(await remove()).toMatchObject({ body: { deleted_images: 0, cancelled_jobs: 0 } });
    expect(await api.get(`/products/${product}`)).toMatchObject({
      body: {
        images: [
          { image_id: 'main', state: 'indexed' },
          { image_id: 'back', state: 'pending' },
        ],
        jobs: [{ image_id: 'back', status: 'delayed' }],
      },
    });
    await enqueue({ image_id: 'side', image_base64: images[2] });
    await work();
    expect(Object.keys(await read())).toEqual(['main', 'side']);
  });
});
