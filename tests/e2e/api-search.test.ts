import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createWorker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { root } from '../support/program.ts';

let context: Context;
let api: ApiClient;
let images: readonly Buffer[];
const stack = new AsyncDisposableStack();

const toBase64 = (seed: number) => images[seed]!.toString('base64');

async function index(jobs: readonly object[]): Promise<void> {
  const { body } = await api.post('/queue/enqueue/batch', jobs);
  expect(body).toMatchObject({ accepted: jobs.length, rejected: [] });
  await createWorker(context).run({ once: true });
}

beforeAll(async () => {
  const folder = stack.use(await createTempFolder());
  images = await Promise.all(Array.from({ length: 8 }, (_, seed) => drawImage(seed)));
  await writeFile(join(folder.path, 'query.png'), images[2]!);
  context = stack.use(await createTestContext({ IMAGE_ROOTS: folder.path, IMAGE_ALLOW_HOSTS: '127.0.0.1' }));
  api = await createApiClient(context);
  await index(
    Array.from({ length: 6 }, (_, seed) => ({
      product_id: `p${seed}`,
      image_base64: toBase64(seed),
      name: `Product ${seed}`,
      category: seed % 2 === 0 ? 'even' : 'odd',
      price: seed,
      tags: [`t${seed}`],
      metadata: { seed, nested: { deep: [1] } },
    })),
  );
  await index([
    { product_id: 'p2', image_id: 'side', image_base64: toBase64(6) },
    { product_id: 'many', image_id: 'a', image_base64: toBase64(3) },
    { product_id: 'many', image_id: 'b', image_base64: toBase64(7) },
  ]);
});
afterAll(() => stack.disposeAsync());

interface Found {
  readonly product_id: string;
  readonly image_id: string;
  readonly score: number;
  readonly payload: Record<string, unknown>;
}

async function search(body: object): Promise<readonly Found[]> {
  const answer = await api.post('/search', body);
  expect(answer).toMatchObject({ status: 200, body: { model: 'builtin' } });
  return answer.body['hits'] as Found[];
}

describe('POST /search', () => {
  test('finds the image itself first, with what the catalog said of it', async () => {
    const [best] = await search({ image_base64: `data:image/png;base64,${toBase64(4)}` });
    expect(best).toMatchObject({
      product_id: 'p4',
      image_id: 'main',
      payload: {
        name: 'Product 4',
        category: 'even',
        price: 4,
        tags: ['t4'],
        metadata: { seed: 4, nested: { deep: [1] } },
        indexed_at: expect.any(String),
      },
    });
    expect(best!.score).toBeCloseTo(1, 3);
  });

  test('takes a path, a URL and a form alike', async () => {
    const server = createServer((_, response) => response.end(images[2]));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const byUrl = await search({ image_url: `http://127.0.0.1:${port}/x.png` });
      expect(byUrl[0]).toMatchObject({ product_id: 'p2' });
      expect(await search({ image_path: 'query.png' })).toEqual(byUrl);
      const form = await api.postForm('/search', [
        ['image', new Blob([new Uint8Array(images[2]!)])],
        ['limit', '3'],
        ['filter', '{"category":"even"}'],
        ['group_by_product', 'false'],
      ]);
      expect(form.status).toBe(200);
      expect((form.body['hits'] as Found[])[0]).toMatchObject({ product_id: 'p2' });
      expect(form.body['hits']).toHaveLength(3);
    } finally {
      server.close();
    }
  });

  test('groups by product unless asked not to', async () => {
    const products = (await search({ image_base64: toBase64(2), limit: 100 })).map((hit) => hit.product_id);
    expect(products).toHaveLength(7);
    expect(new Set(products).size).toBe(7);
    const all = await search({ image_base64: toBase64(2), limit: 100, group_by_product: false });
    expect(all).toHaveLength(9);
  });

  test('filters', async () => {
    const ids = async (filter: object) =>
      (await search({ image_base64: toBase64(0), filter })).map((hit) => hit.product_id).toSorted();
    expect(await ids({ category: 'even' })).toEqual(['p0', 'p2', 'p4']);
    expect(await ids({ category: ['even', 'odd'], price: { gte: 2, lt: 4 } })).toEqual(['p2', 'p3']);
    expect(await ids({ tags: ['t1', 't5'] })).toEqual(['p1', 'p5']);
    expect(await ids({ metadata: { seed: [3, 4] } })).toEqual(['p3', 'p4']);
    expect(await ids({ product_id: 'many', image_id: 'b' })).toEqual(['many']);
    expect(await ids({ category: 'none' })).toEqual([]);
  });

  test('by a product leaves it out, and takes its main image or the mean of all', async () => {
    const byMain = await search({ product_id: 'p3', limit: 100 });
    expect(byMain.map((hit) => hit.product_id)).not.toContain('p3');
    expect(byMain[0]).toMatchObject({ product_id: 'many', image_id: 'a' });
    const byItsMainImage = await search({ image_base64: toBase64(2), limit: 100 });
    expect(await search({ product_id: 'p2', limit: 100 })).toEqual(
      byItsMainImage
        .filter((hit) => hit.product_id !== 'p2')
        .map((hit) => ({ ...hit, score: expect.closeTo(hit.score, 4) })),
    );
    const byMean = await search({ product_id: 'many', limit: 100 });
    expect(byMean.map((hit) => hit.product_id)).not.toContain('many');
    expect(byMean[0]).toMatchObject({ product_id: 'p3' });
    expect(byMean[0]!.score).toBeLessThan(byMain[0]!.score);
  });

  test.each([
    [{ product_id: 'nowhere' }, 404, 'product_not_found'],
    [{ text: 'a brass lamp' }, 422, 'text_not_supported'],
    [{ image_base64: 'bm90IGFuIGltYWdl' }, 422, 'image_unsupported'],
    [{ image_path: 'missing.png' }, 422, 'image_not_found'],
    [{ image_path: '../etc/passwd' }, 422, 'image_path_forbidden'],
    [{ image_url: 'http://10.0.0.1/a.png' }, 422, 'image_address_blocked'],
    [{}, 400, 'invalid_request'],
    [{ text: 'a', limit: 'many' }, 400, 'invalid_request'],
    [{ text: 'a', filters: {} }, 400, 'invalid_request'],
  ])('answers %j with %i %s', async (body, status, code) => {
    expect(await api.post('/search', body)).toMatchObject({ status, body: { code } });
  });

  test('names the models that know words, where its own does not', async () => {
    const { body } = await api.post('/search', { text: 'a brass lamp' });
    expect(body['suggestion']).toContain('clip-vit-base-patch32');
  });

  test('by words finds the image that the model puts nearest to them', async () => {
    await using clip = await createTestContext({
      MODELS_DIR: join(root, 'tests/fixtures'),
      MODEL: 'tiny-clip',
    });
    const client = await createApiClient(clip);
    const jobs = images
      .slice(0, 4)
      .map((bytes, at) => ({ product_id: `p${at}`, image_base64: bytes.toString('base64') }));
    await client.post('/queue/enqueue/batch', jobs);
    await createWorker(clip).run({ once: true });
    const { status, body } = await client.post('/search', { text: 'a red lamp' });
    expect(status).toBe(200);
    expect(body['model']).toBe('tiny-clip');
    const hits = body['hits'] as Found[];
    const [words] = await clip.embedder.embedTexts(['a red lamp']);
    const points = await Promise.all(
      jobs.map(async (job) => (await clip.store.getProduct(job.product_id))[0]!),
    );
    const expected = points
      .map((point) => ({
        id: point.payload.productId,
        score: point.vector.reduce((sum, value, at) => sum + value * words![at]!, 0),
      }))
      .toSorted((one, other) => other.score - one.score);
    expect(hits.map((hit) => hit.product_id)).toEqual(expected.map(({ id }) => id));
    expect(hits[0]!.score).toBeCloseTo(expected[0]!.score, 4);
  });

  test('never tells the bytes of an image', async () => {
    const secret = Buffer.from('not an image but a secret').toString('base64');
    const { body } = await api.post('/search', { image_base64: secret });
    expect(JSON.stringify(body)).not.toContain(secret);
  });
});

describe('/products/{product_id}', () => {
  test('shows a product with its images', async () => {
    const { body } = await api.get('/products/p2');
    expect(body).toMatchObject({
      product_id: 'p2',
      images: [{ image_id: 'main', payload: { name: 'Product 2' } }, { image_id: 'side' }],
    });
    expect(await api.get('/products/nowhere')).toMatchObject({
      status: 404,
      body: { code: 'product_not_found' },
    });
  });

  test.each([
    'a/b',
    '50%',
    '%2F',
    'é ü 漢 🙂',
    '?x=1#y',
    'a b+c&d',
    '\\',
    'a\nb',
    '%',
    '%zz',
    ' ',
    '...',
    '__proto__',
  ])('takes the id %j', async (id) => {
    await index([{ product_id: id, image_base64: toBase64(1) }]);
    const path = `/products/${encodeURIComponent(id)}`;
    expect(await api.get(path)).toMatchObject({ status: 200, body: { product_id: id } });
    expect(await api.ask('DELETE', path)).toMatchObject({
      status: 200,
      body: { product_id: id, deleted_images: 1, cancelled_jobs: 0 },
    });
    expect(await api.get(path)).toMatchObject({ status: 404 });
  });

  test('decodes any id as it was encoded', async () => {
    const ids = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 40 })
      .filter((id) => id !== '.' && id !== '..');
    await fc.assert(
      fc.asyncProperty(ids, async (id) => {
        const asked: string[] = [];
        const store = {
          ...context.store,
          getProduct: async (productId: string) => {
            asked.push(productId);
            return [];
          },
        };
        const { createApp } = await import('../../src/http/app.ts');
        await createApp({ ...context, store }).request(`/products/${encodeURIComponent(id)}`);
        expect(asked).toEqual([id]);
      }),
      { numRuns: 200 },
    );
  });

  test('a deleted product does not come back by a job that runs', async () => {
    await api.post('/queue/enqueue', { product_id: 'runs', image_base64: toBase64(0) });
    const claim = { workerId: 'w', claimId: 'claim-of-runs', max: 1, leaseMs: 60_000 };
    const [running] = (await context.queue.claim(claim)).jobs;
    expect(running).toMatchObject({ data: { productId: 'runs' } });
    expect(await api.ask('DELETE', '/products/runs')).toMatchObject({
      status: 200,
      body: { deleted_images: 0 },
    });
    // The worker was already beyond the point where it learns of the deletion.
    const vector = new Float32Array(context.embedder.model.dimension).fill(
      1 / Math.sqrt(context.embedder.model.dimension),
    );
    const { key, version } = running!;
    const payload = { productId: 'runs', imageId: 'main', version, indexedAt: 0 };
    await context.store.upsert([{ id: key, vector, payload }]);
    expect(await api.get('/products/runs')).toMatchObject({ status: 404 });
    await context.queue.settle([{ kind: 'cancel', id: running!.id, token: running!.token }]);
  });

  test('a deleted product does not come back by a job that waited', async () => {
    await api.post('/queue/enqueue', { product_id: 'gone', image_base64: toBase64(0) });
    expect(await api.ask('DELETE', '/products/gone')).toMatchObject({
      status: 200,
      body: { deleted_images: 0, cancelled_jobs: 1 },
    });
    await createWorker(context).run({ once: true });
    expect(await api.get('/products/gone')).toMatchObject({ status: 404 });
    expect(await api.ask('DELETE', '/products/never')).toMatchObject({ status: 404 });
    await index([{ product_id: 'gone', image_base64: toBase64(0) }]);
    expect(await api.get('/products/gone')).toMatchObject({ status: 200 });
  });
});
