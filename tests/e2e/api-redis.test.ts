import { describe, expect, test } from 'vitest';
import { createWorker } from '../../workers/worker.ts';
import { createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

const missing = whyNoRedis();
if (missing !== null) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== null)('while Redis is down', () => {
  test('jobs are accepted and kept, and done when it is back', async () => {
    await using redis = await startRedis();
    await using context = await createTestContext({ REDIS_URL: redis.url }, {}, { isApi: true });
    const api = await createApiClient(context);
    const image_base64 = (await drawImage(1)).toString('base64');
    const enqueue = (product_id: string, key?: string) =>
      api.post(
        '/queue/enqueue',
        { product_id, image_base64 },
        key === undefined ? {} : { 'Idempotency-Key': key },
      );

    expect((await enqueue('before')).body).toMatchObject({ spooled: false, status: 'queued', position: 1 });
    expect(await api.get('/health')).toMatchObject({
      body: { dependencies: { queue: { kind: 'redis', state: 'up', pending: 1, spooled: 0 } } },
    });

    await redis.kill();
    const during = await enqueue('during');
    expect(during).toMatchObject({ status: 202, body: { spooled: true, version: null } });
    expect((await api.get(during.body['status_url'] as string)).body).toMatchObject({ status: 'queued' });
    const batch = await api.post('/queue/enqueue/batch', [{ product_id: 'batch', image_base64 }]);
    expect(batch).toMatchObject({ status: 202, body: { accepted: 1 } });
    // Whether the key came before can't be known now.
    expect(await enqueue('keyed', 'k')).toMatchObject({ status: 503, body: { code: 'queue_unavailable' } });
    const from = performance.now();
    expect(await api.get('/health')).toMatchObject({
      status: 200,
      body: {
        status: 'degraded',
        dependencies: {
          queue: { state: 'down', error: { code: 'queue_unavailable' }, pending: null, spooled: 2 },
        },
      },
    });
    expect(performance.now() - from).toBeLessThan(3 * 1_000);
    expect(await api.get('/queue/stats')).toMatchObject({ status: 503, body: { code: 'queue_unavailable' } });
    expect(await api.ask('DELETE', '/products/before')).toMatchObject({ status: 503 });

    await redis.restart();
    await until('all three in Redis', async () => {
      const { status, body } = await api.get('/queue/stats');
      return (status === 200 && body['spooled'] === 0 && body['total_pending'] === 3) || undefined;
    });
    const keyed = await enqueue('keyed', 'k');
    expect(keyed).toMatchObject({ status: 202, body: { spooled: false } });
    await createWorker(context).run({ once: true });
    for (const { body } of [during, keyed]) {
      expect((await api.get(body['status_url'] as string)).body).toMatchObject({ status: 'completed' });
    }
    expect((await api.get('/queue/stats')).body).toMatchObject({ completed: 4, dead: 0, total_pending: 0 });
  }, 120_000);

  test('jobs are refused with SPOOL=off', async () => {
    await using redis = await startRedis();
    await using context = await createTestContext(
      { REDIS_URL: redis.url, SPOOL: 'off' },
      {},
      { isApi: true },
    );
    const api = await createApiClient(context);
    await redis.kill();
    const job = { product_id: 'p', image_url: 'https://example.com/a.jpg' };
    expect(await api.post('/queue/enqueue', job)).toMatchObject({
      status: 503,
      body: { code: 'queue_unavailable' },
    });
    expect(await api.get('/health')).toMatchObject({ status: 503, body: { status: 'down' } });
    expect(await api.get('/readyz')).toMatchObject({ status: 503, body: { code: 'queue_unavailable' } });
    expect(await api.get('/livez')).toMatchObject({ status: 200 });
  }, 120_000);
});
