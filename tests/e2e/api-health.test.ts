import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { createReadiness } from '../../src/http/readiness.ts';
import { createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';

let context: Context;
beforeAll(async () => {
  context = await createTestContext();
});
afterAll(() => context[Symbol.asyncDispose]());

const down = (code: 'queue_unavailable' | 'store_unavailable') => async (): Promise<never> => {
  throw new VitrineError(code, 'It is away.');
};

describe('health', () => {
  test('names each dependency with its state and latency', async () => {
    const readiness = createReadiness(context);
    const app = createApp(context, readiness);
    await readiness.prepare();
    expect(await (await app.request('/health')).json()).toMatchObject({
      status: 'ok',
      dependencies: {
        queue: { kind: 'sqlite', state: 'up', latency_ms: expect.any(Number), error: null },
        store: { kind: 'sqlite', state: 'up', latency_ms: expect.any(Number), error: null },
        model: { state: 'ready', id: 'builtin' },
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

  test('is not ready before the model is loaded, nor while it drains; alive all the time', async () => {
    const readiness = createReadiness(context);
    const app = createApp(context, readiness);
    const ready = async () => (await app.request('/readyz')).status;
    expect(await ready()).toBe(503);
    await readiness.prepare();
    expect(await ready()).toBe(200);
    const later = createApp(
      { ...context, store: { ...context.store, ping: down('store_unavailable') } },
      readiness,
    );
    expect((await later.request('/readyz')).status).toBe(200);
    readiness.drain();
    expect(await ready()).toBe(503);
    expect((await app.request('/livez')).status).toBe(200);
  });

  test('tells when the collection is of another model', async () => {
    const other = { ...context.embedder, model: { ...context.embedder.model, fingerprint: 'another' } };
    await context.store.ensureCollection(context.embedder.model);
    const api = await createApiClient({ ...context, embedder: other });
    expect(await api.post('/search', { product_id: 'p' })).toMatchObject({
      status: 409,
      body: { code: 'model_mismatch', suggestion: expect.stringContaining('QDRANT_COLLECTION') },
    });
  });
});
