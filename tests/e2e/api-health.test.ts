import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Embedder } from '../../models/embedder.ts';
import type { Context } from '../../src/context.ts';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { createReadiness } from '../../src/http/readiness.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { newJob } from '../support/jobs.ts';
import { until } from '../support/until.ts';

let context: Context;
let api: ApiClient;
beforeAll(async () => {
  context = await createTestContext();
  await context.embedder.start();
  api = await createApiClient(context);
});
afterAll(() => context[Symbol.asyncDispose]());

const down = (code: ErrorCode) => async (): Promise<never> => {
  throw new VitrineError(code, 'It is down.');
};

describe('health', () => {
  test('names each dependency with its state and latency', async () => {
    const readiness = createReadiness(context);
    const app = createApp(context, { readiness });
    await readiness.prepare();
    expect(await (await app.request('/health')).json()).toMatchObject({
      status: 'ok',
      dependencies: {
        queue: {
          kind: 'sqlite',
          state: 'up',
          latency_ms: expect.any(Number),
          error: null,
          pending: 0,
          spooled: 0,
        },
        store: { kind: 'sqlite', state: 'up', latency_ms: expect.any(Number), error: null },
        model: { state: 'ready', id: 'builtin', dimension: expect.any(Number) },
      },
    });
    expect((await app.request('/readyz')).status).toBe(200);
  });

  test('is degraded without the store or the model, and down without the queue', async () => {
    const noStore = await createApiClient({
      ...context,
      store: { ...context.store, ping: down('store_unavailable') },
    });
    expect(await noStore.get('/health')).toMatchObject({
      status: 200,
      body: {
        status: 'degraded',
        dependencies: { store: { state: 'down', latency_ms: null, error: { code: 'store_unavailable' } } },
      },
    });
    const noQueue = await createApiClient({
      ...context,
      queue: { ...context.queue, ping: down('queue_unavailable') },
    });
    expect(await noQueue.get('/health')).toMatchObject({ status: 503, body: { status: 'down' } });
  });

  test('counts the jobs that have not ended, and those that wait in the spool', async () => {
    await context.queue.enqueue([newJob('pending')]);
    expect(await api.get('/health')).toMatchObject({
      body: { dependencies: { queue: { pending: 1, spooled: 0 } } },
    });
    const spooling = { ...context.queue, spooledCount: () => 7 };
    const unreachable = { ping: down('queue_unavailable'), stats: down('queue_unavailable') };
    const spoolingApi = await createApiClient({ ...context, queue: { ...spooling, ...unreachable } });
    expect(await spoolingApi.get('/health')).toMatchObject({
      status: 200,
      body: { status: 'degraded', dependencies: { queue: { state: 'down', pending: null, spooled: 7 } } },
    });
    // An unsafe queue is reached, and what it refuses is not spooled.
    const unsafe = { ping: down('queue_unsafe') };
    const unsafeApi = await createApiClient({ ...context, queue: { ...spooling, ...unsafe } });
    expect(await unsafeApi.get('/health')).toMatchObject({ status: 503, body: { status: 'down' } });
    expect(await unsafeApi.get('/readyz')).toMatchObject({ status: 503, body: { code: 'queue_unsafe' } });
    await context.queue.flush();
  });

  test('is answered within a second although nothing else answers', async () => {
    const never = () => new Promise<never>(() => {});
    const silent = await createApiClient({
      ...context,
      queue: { ...context.queue, ping: never, stats: never },
      store: { ...context.store, ping: never, collectionModel: never, ensureCollection: never },
      embedder: { ...context.embedder, start: never },
    });
    for (const path of ['/health', '/readyz']) {
      const from = performance.now();
      expect(await silent.get(path)).toMatchObject({ status: 503 });
      expect(performance.now() - from, path).toBeLessThan(3 * 1_000);
    }
    expect(await silent.get('/livez')).toMatchObject({ status: 200 });
    expect(await silent.get('/health')).toMatchObject({
      body: { dependencies: { model: { state: 'loading', id: null, dimension: null } } },
    });
  });

  test('is not ready before the model is loaded, nor while it drains; alive all the time', async () => {
    const loading = Promise.withResolvers<void>();
    const embedder = {
      ...context.embedder,
      start: () => loading.promise.then(() => context.embedder.start()),
    };
    const readiness = createReadiness({ ...context, embedder });
    const app = createApp(context, { readiness });
    const ready = async () => {
      const response = await app.request('/readyz');
      return response.ok || ((await response.json()) as { code: string; detail: string });
    };
    expect(await ready()).toMatchObject({ code: 'not_ready', detail: 'The model is being loaded.' });
    loading.resolve();
    await readiness.prepare();
    expect(await ready()).toBe(true);
    const later = createApp(
      { ...context, store: { ...context.store, ping: down('store_unavailable') } },
      { readiness },
    );
    expect((await later.request('/readyz')).status).toBe(200);
    readiness.drain();
    expect(await ready()).toMatchObject({ code: 'not_ready', detail: 'The server is being stopped.' });
    expect((await app.request('/livez')).status).toBe(200);
  });

  test('tries a model again that could not be loaded, and says why until then', async () => {
    let attempts = 0;
    const start: Embedder['start'] = () => {
      if (++attempts > 1) return context.embedder.start();
      throw new VitrineError('model_unavailable', 'The download failed.');
    };
    const embedder = { ...context.embedder, start };
    const readiness = createReadiness({ ...context, embedder });
    const app = createApp({ ...context, embedder }, { readiness });
    await expect(readiness.prepare()).rejects.toThrow('The download failed.');
    const health = await (await app.request('/health')).json();
    expect(health).toMatchObject({
      status: 'degraded',
      dependencies: { model: { state: 'failed', error: { code: 'model_unavailable' } } },
    });
    expect(await (await app.request('/readyz')).json()).toMatchObject({ code: 'model_unavailable' });
    await until('readiness', async () => (await app.request('/readyz')).ok || undefined);
  });

  test('a product is read and deleted although the model cannot be loaded', async () => {
    await context.store.ensureCollection(context.embedder.model);
    const start = async (): Promise<never> => {
      throw new VitrineError('model_unavailable', 'The download failed.');
    };
    const noModel = await createApiClient({ ...context, embedder: { ...context.embedder, start } });
    expect(await noModel.get('/products/p')).toMatchObject({ status: 404 });
    expect(await noModel.ask('DELETE', '/products/p')).toMatchObject({ status: 200 });
    expect(await noModel.post('/search', { product_id: 'p' })).toMatchObject({
      status: 503,
      body: { code: 'model_unavailable' },
    });
  });

  test('says when the collection is of another model', async () => {
    const { model } = context.embedder;
    const other = { ...context.embedder, model: { ...model, fingerprint: 'another' } };
    await context.store.ensureCollection(model);
    const otherApi = await createApiClient({ ...context, embedder: other });
    const mismatch = {
      status: 409,
      body: { code: 'model_mismatch', suggestion: expect.stringContaining('QDRANT_COLLECTION') },
    };
    expect(await otherApi.post('/search', { product_id: 'p' })).toMatchObject(mismatch);
    expect(await otherApi.get('/readyz')).toMatchObject(mismatch);
  });
});
