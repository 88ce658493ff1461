import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { createWorker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { until } from '../support/until.ts';
import { newWorkerReport } from '../support/worker-reports.ts';

let context: Context;
let api: ApiClient;
let png: string;

beforeAll(async () => {
  context = await createTestContext({
    ALLOW_FLUSH: 'true',
    MAX_PENDING: '1200',
    ALERT_BACKLOG: '2',
    ALERT_DEAD_LETTERS: '1',
    ALERT_FAILURE_RATE: '0.5',
  });
  api = await createApiClient(context);
  png = (await drawImage(1)).toString('base64');
});
beforeEach(async () => {
  await api.post('/queue/flush');
  await api.post('/queue/resume');
});
afterAll(() => context[Symbol.asyncDispose]());

const unknownId = '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b';
const enqueue = async (productId: string, changes: object = {}) =>
  (await api.post('/queue/enqueue', { product_id: productId, image_base64: png, ...changes })).body[
    'job_id'
  ] as string;
const stateOf = async (id: string) => (await api.get(`/queue/status/${id}`)).body['status'];
const work = () => createWorker(context).run({ once: true });

/** Jobs that fail for good, by their ids. */
async function fail(...productIds: readonly string[]): Promise<readonly string[]> {
  const ids = await Promise.all(productIds.map((id) => enqueue(id, { image_base64: 'bm90IGFuIGltYWdl' })));
  await work();
  return ids;
}

describe('POST /queue/jobs/{job_id}/cancel', () => {
  test('cancels a waiting job at once', async () => {
    const id = await enqueue('c1');
    expect(await api.post(`/queue/jobs/${id}/cancel`)).toMatchObject({
      status: 200,
      body: { job_id: id, status: 'cancelled' },
    });
    // Repeated, as after a lost reply: the same answer.
    expect(await api.post(`/queue/jobs/${id}/cancel`)).toMatchObject({ status: 200 });
  });

  test('asks a running job to stop', async () => {
    const id = await enqueue('c2');
    await context.queue.claim({ workerId: 'w', claimId: uuidv7(), max: 1 });
    expect(await api.post(`/queue/jobs/${id}/cancel`)).toMatchObject({
      status: 202,
      body: { status: 'processing', cancel_requested: true },
    });
  });

  test('comes too late for an ended job', async () => {
    const id = await enqueue('c3');
    await work();
    expect(await api.post(`/queue/jobs/${id}/cancel`)).toMatchObject({
      status: 409,
      body: { code: 'job_already_ended' },
    });
  });

  test('does not know other jobs', async () => {
    expect(await api.post(`/queue/jobs/${unknownId}/cancel`)).toMatchObject({ status: 404 });
    expect(await api.post('/queue/jobs/seven/cancel')).toMatchObject({ status: 400 });
  });
});

describe('POST /queue/jobs/{job_id}/retry', () => {
  test('puts a failed job back; repeated before it has ended, it returns its state', async () => {
    const [id] = await fail('r1');
    expect(await stateOf(id!)).toBe('failed');
    const retry = () => api.post(`/queue/jobs/${id}/retry`);
    expect(await retry()).toMatchObject({ status: 202, body: { status: 'queued' } });
    expect(await retry()).toMatchObject({ status: 202, body: { status: 'queued' } });
    await context.queue.claim({ workerId: 'w', claimId: uuidv7(), max: 1 });
    expect(await retry()).toMatchObject({ status: 202, body: { status: 'processing' } });
  });

  test('is refused for a job that ended otherwise, and for an unknown one', async () => {
    const id = await enqueue('r2');
    await api.post(`/queue/jobs/${id}/cancel`);
    expect(await api.post(`/queue/jobs/${id}/retry`)).toMatchObject({
      status: 409,
      body: { code: 'job_not_dead', detail: 'The job is cancelled.' },
    });
    expect(await api.post(`/queue/jobs/${unknownId}/retry`)).toMatchObject({ status: 404 });
  });
});

describe('dead letters', () => {
  test('are listed by pages and by code', async () => {
    const ids = await fail('d1', 'd2', 'd3');
    const first = await api.get('/queue/dead?limit=2');
    expect(first.body).toMatchObject({ total: 3, next_cursor: expect.any(String) });
    const second = await api.get(
      `/queue/dead?limit=2&cursor=${encodeURIComponent(first.body['next_cursor'] as string)}`,
    );
    expect(second.body).toMatchObject({ total: 3, next_cursor: null });
    const seen = [first, second].flatMap(
      ({ body }) => body['jobs'] as { job_id: string; last_error: object }[],
    );
    expect(seen.map(({ job_id }) => job_id).toSorted()).toEqual(ids.toSorted());
    expect(seen[0]!.last_error).toMatchObject({ code: 'image_unsupported' });
    expect((await api.get('/queue/dead?code=image_unsupported')).body['total']).toBe(3);
    expect((await api.get('/queue/dead?code=image_not_found')).body).toEqual({
      jobs: [],
      next_cursor: null,
      total: 0,
    });
    expect(await api.get('/queue/dead?limit=0')).toMatchObject({ status: 400 });
    expect(await api.get('/queue/dead?limit=many')).toMatchObject({ status: 400 });
    // A misspelt condition must not select everything.
    expect(await api.get('/queue/dead?cod=image_not_found')).toMatchObject({ status: 400 });
  });

  test.each(['nonsense', 'W10', '-1', '{}', '%00', '99999999999999999999'])(
    'have no page of the cursor %j',
    async (cursor) => {
      expect(await api.get(`/queue/dead?cursor=${cursor}`)).toMatchObject({
        status: 400,
        body: { code: 'invalid_request', faults: [{ path: 'cursor' }] },
      });
    },
  );

  test('are exported as lines', async () => {
    const ids = await fail('e1', 'e2');
    const app = createApp(context);
    const response = await app.request('/queue/dead/export');
    expect(response.headers.get('content-type')).toBe('application/x-ndjson');
    const lines = (await response.text()).trimEnd().split('\n');
    const jobs = lines.map((line) => JSON.parse(line) as { job_id: string });
    expect(jobs.map(({ job_id }) => job_id).toSorted()).toEqual(ids.toSorted());
    expect(jobs.every((job) => api.check.accepts('Job', job))).toBe(true);
    expect(await (await app.request('/queue/dead/export?code=image_not_found')).text()).toBe('');
    const list = async (): Promise<never> => {
      throw new VitrineError('queue_unavailable', 'Redis is down.');
    };
    const unreachable = createApp({ ...context, queue: { ...context.queue, list } });
    expect((await unreachable.request('/queue/dead/export')).status).toBe(503);
  });

  test('are put back by ids, by code, or all together', async () => {
    const [one, two] = await fail('f1', 'f2', 'f3', 'f4');
    const redrive = async (body: object) => (await api.post('/queue/dead/redrive', body)).body['redriven'];
    expect(await redrive({ ids: [one, unknownId] })).toBe(1);
    expect(await redrive({ ids: [one] })).toBe(0);
    expect(await redrive({ code: 'image_not_found' })).toBe(0);
    expect(await redrive({ all: true })).toBe(3);
    expect(await stateOf(two!)).toBe('queued');
    expect((await api.get('/queue/stats')).body).toMatchObject({ dead: 0, total_pending: 4 });
    for (const body of [{}, { all: false }, { ids: [] }, { ids: ['x'] }, { all: true, code: 'x' }]) {
      expect(await api.post('/queue/dead/redrive', body)).toMatchObject({ status: 400 });
    }
  });

  test('are removed by id, by code, or all together, never by default', async () => {
    const [one, two, three] = await fail('g1', 'g2', 'g3', 'g4');
    const purge = async (query: string) => (await api.ask('DELETE', `/queue/dead${query}`)).body;
    for (const query of ['', '?all=false', '?all=true&code=x', '?id=7']) {
      expect(await purge(query), query).toMatchObject({ code: 'invalid_request' });
    }
    expect(await purge(`?id=${one}`)).toEqual({ removed: 1 });
    expect(await purge(`?id=${two}&id=${three}&id=${unknownId}`)).toEqual({ removed: 2 });
    expect(await purge('?code=image_not_found')).toEqual({ removed: 0 });
    expect(await purge('?all=true')).toEqual({ removed: 1 });
    expect((await api.get('/queue/dead')).body['total']).toBe(0);
  });

  test('are removed by many ids in a body', async () => {
    const ids = await fail('gb1', 'gb2');
    const purge = (body: unknown, query = '') =>
      api.ask('DELETE', `/queue/dead${query}`, {
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
      });
    for (const body of [{}, [], null, { ids: [] }, { all: false }, { all: true, code: 'x' }]) {
      expect(await purge(body), JSON.stringify(body)).toMatchObject({ status: 400 });
    }
    expect(await purge({ all: true }, `?id=${ids[0]}`)).toMatchObject({ status: 400 });
    expect((await api.get('/queue/dead')).body['total']).toBe(2);
    const many = [ids[0]!.toUpperCase(), ...Array.from({ length: 2000 }, () => uuidv7())];
    expect(await purge({ ids: many })).toMatchObject({ status: 200, body: { removed: 1 } });
    expect(await purge({ code: 'image_unsupported' })).toMatchObject({ body: { removed: 1 } });
  });
});

describe('the queue', () => {
  test('shows what runs', async () => {
    const id = await enqueue('a1');
    expect((await api.get('/queue/active')).body).toEqual({ jobs: [], count: 0 });
    await context.queue.claim({ workerId: 'w7', claimId: uuidv7(), max: 5 });
    expect((await api.get('/queue/active?limit=5')).body).toMatchObject({
      count: 1,
      jobs: [{ job_id: id, status: 'processing', worker_id: 'w7' }],
    });
  });

  test('is paused and resumed', async () => {
    await enqueue('p1');
    expect((await api.post('/queue/pause')).body).toEqual({ paused: true });
    expect((await api.get('/queue/stats')).body['paused']).toBe(true);
    const claim = (claimId: string) => context.queue.claim({ workerId: 'w', claimId, max: 5 });
    expect((await claim('one')).jobs).toHaveLength(0);
    expect((await api.post('/queue/resume')).body).toEqual({ paused: false });
    expect((await claim('two')).jobs).toHaveLength(1);
  });

  test('is cleaned up: a stale lease is recovered now', async () => {
    await using short = await createTestContext({ LEASE_MS: '1000' });
    const client = await createApiClient(short);
    const { body } = await client.post('/queue/enqueue', { product_id: 's1', image_base64: png });
    await short.queue.claim({ workerId: 'w', claimId: uuidv7(), max: 1 });
    const report = await until('the recovery', async () => {
      const { body } = await client.post('/queue/cleanup');
      return body['recovered'] === 1 ? body : undefined;
    });
    expect(report).toMatchObject({ recovered: 1, poisoned: 0, repaired: 0 });
    expect(await client.get(body['status_url'] as string)).toMatchObject({ body: { status: 'queued' } });
  });

  test('raises its alerts', async () => {
    const codes = async () =>
      ((await api.get('/queue/stats')).body['alerts'] as { code: string }[]).map(({ code }) => code);
    expect(await codes()).toEqual([]);
    await fail('h1', 'h2');
    expect(await codes()).toEqual(['failure_rate', 'dead_letters']);
    await enqueue('h3');
    await enqueue('h4');
    expect(await codes()).toContain('no_workers');
    expect(await codes()).not.toContain('backlog');
    await enqueue('h5');
    expect((await api.get('/queue/stats')).body['alerts']).toContainEqual({
      code: 'backlog',
      message: expect.any(String),
      value: 3,
      threshold: 2,
    });
  });

  test('raises an alert when as many dead letters are kept as may be, and when some were dropped', async () => {
    const stats = await context.queue.stats();
    const { maxDead } = context.config.queue.settings;
    const alertsAt = async (over: Partial<typeof stats>) => {
      const queue = { ...context.queue, stats: async () => ({ ...stats, ...over }) };
      const { body } = await (await createApiClient({ ...context, queue })).get('/queue/stats');
      return (body['alerts'] as { code: string }[]).map(({ code }) => code);
    };
    expect(await alertsAt({ dead: maxDead - 1 })).toEqual([]);
    expect(await alertsAt({ dead: maxDead })).toEqual(['dead_letters_dropped']);
    expect(await alertsAt({ deadDropped: 1 })).toEqual(['dead_letters_dropped']);
  });

  test('shows its size, its workers by state, how long jobs take, and hosts that asked to slow down', async () => {
    await context.queue.heartbeat(newWorkerReport('w1'));
    await context.queue.heartbeat({ ...newWorkerReport('w2'), state: 'idle' });
    await enqueue('q1');
    await work();
    await enqueue('q2');
    const stats = await context.queue.stats();
    const hosts = [{ host: 'cdn.example', waiting: 3, nextInMs: 1500, perSecond: 4 }];
    const queue = { ...context.queue, stats: async () => ({ ...stats, hosts }) };
    const client = await createApiClient({ ...context, queue });
    const { body } = await client.get('/queue/stats');
    expect(body).toMatchObject({
      queue_size: 1,
      processing_ms: { p50: expect.any(Number), p95: expect.any(Number) },
      workers: { starting: 0, loading: 0, idle: 1, working: 1, draining: 0 },
      hosts: [{ host: 'cdn.example', waiting: 3, next_in_ms: 1500, per_second: 4 }],
    });
    expect(await client.get('/queue/status')).toMatchObject({ status: 200, body: { queue_size: 1 } });
    await context.queue.removeWorker('w1');
    await context.queue.removeWorker('w2');
  });

  test('takes no more than MAX_PENDING, and says when to come again', async () => {
    const lines = Array.from({ length: 1300 }, (_, index) =>
      JSON.stringify({ product_id: `m${index}`, image_url: 'https://example.com/a.jpg' }),
    );
    const { body } = await api.postLines('/queue/enqueue/batch', lines);
    expect(body).toMatchObject({ accepted: 1200 });
    const rejected = body['rejected'] as { index: number; code: string }[];
    expect(rejected).toHaveLength(100);
    expect(rejected[0]).toMatchObject({ index: 1200, code: 'queue_full' });
    const refused = await api.post('/queue/enqueue', { product_id: 'last', image_base64: png });
    expect(refused).toMatchObject({ status: 429, body: { code: 'queue_full' } });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await api.postLines('/queue/enqueue/batch', lines.slice(1200))).status).toBe(429);
    expect((await api.get('/queue/stats')).body['total_pending']).toBe(1200);
  });
});

describe('Idempotency-Key', () => {
  const keyed = (key: string, body: unknown, path = '/queue/enqueue') =>
    api.post(path, body, { 'Idempotency-Key': key });
  const job = (productId: string) => ({ product_id: productId, image_base64: png });

  test('returns the first answer again, and adds nothing', async () => {
    const first = await keyed('k1', job('i1'));
    await work();
    const second = await keyed('k1', job('i1'));
    expect(second.body).toEqual(first.body);
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect((await api.get('/queue/stats')).body).toMatchObject({ total_pending: 0 });
  });

  test('refuses other jobs under the same key', async () => {
    await keyed('k2', job('i2'));
    expect(await keyed('k2', job('i3'))).toMatchObject({
      status: 409,
      body: { code: 'idempotency_conflict' },
    });
    const asBatch = await keyed('k2', [job('i2')], '/queue/enqueue/batch');
    expect(asBatch).toMatchObject({ status: 409, body: { code: 'idempotency_conflict' } });
    expect((await api.get('/queue/stats')).body).toMatchObject({ total_pending: 1 });
  });

  test('holds for requests at the same time, for batches, and for forms', async () => {
    const [one, two] = await Promise.all([keyed('k3', job('i4')), keyed('k3', job('i4'))]);
    expect(one.body['job_id']).toBe(two.body['job_id']);
    const batch = [job('i5'), { wrong: true }, job('i6')];
    const first = await keyed('k4', batch, '/queue/enqueue/batch');
    expect((await keyed('k4', batch, '/queue/enqueue/batch')).body).toEqual(first.body);
    expect(await keyed('k4', batch.slice(0, 3).reverse(), '/queue/enqueue/batch')).toMatchObject({
      status: 409,
    });
    expect(await keyed('k4', [job('i5'), job('i6')], '/queue/enqueue/batch')).toMatchObject({ status: 409 });
    expect((await api.get('/queue/stats')).body).toMatchObject({ total_pending: 3 });
    const form = async () => {
      const body = new FormData();
      body.append('product_id', 'i7');
      body.append('image', new Blob([Buffer.from(png, 'base64')]));
      return (await api.ask('POST', '/queue/enqueue', { body, headers: { 'Idempotency-Key': 'k5' } })).body;
    };
    expect(await form()).toEqual(await form());
  });

  test('adds nothing when the first answer was lost before it was kept', async () => {
    // The process ended in between, or the queue could not be reached for a moment: the ids are the same.
    const failures = [
      async () => null,
      () => Promise.reject(new VitrineError('queue_unavailable', 'Redis is down.')),
    ];
    for (const [index, fail] of failures.entries()) {
      const remember = async (key: string, value: string, ttlMs: number) =>
        key.startsWith('answer:') ? fail() : context.queue.remember(key, value, ttlMs);
      const lossy = await createApiClient({ ...context, queue: { ...context.queue, remember } });
      const ask = (client: ApiClient) =>
        client.post('/queue/enqueue', job(`i8${index}`), { 'Idempotency-Key': `k6${index}` });
      const first = await ask(lossy);
      expect(first.status).toBe(202);
      await work();
      expect((await ask(lossy)).body['job_id']).toBe(first.body['job_id']);
      expect((await ask(api)).body['job_id']).toBe(first.body['job_id']);
      expect(await stateOf(first.body['job_id'] as string)).toBe('completed');
      expect((await api.get('/queue/stats')).body).toMatchObject({ total_pending: 0 });
    }
  });

  test('is about the request as it was sent: other defaults after a restart make no conflict', async () => {
    const first = await keyed('k7', job('i10'));
    const { config } = context;
    const queue = { ...config.queue, retry: { ...config.queue.retry, attempts: 42 } };
    const restarted = await createApiClient({ ...context, config: { ...config, queue } });
    const again = await restarted.post('/queue/enqueue', job('i10'), { 'Idempotency-Key': 'k7' });
    expect(again).toMatchObject({ status: 202, body: first.body });
  });

  test('stores nothing while the queue cannot remember it', async () => {
    const remember = () => Promise.reject(new VitrineError('queue_unavailable', 'Redis is down.'));
    const client = await createApiClient({ ...context, queue: { ...context.queue, remember } });
    const ask = (path: string, body: unknown) => client.post(path, body, { 'Idempotency-Key': 'k8' });
    for (const answer of [
      await ask('/queue/enqueue', job('i11')),
      await ask('/queue/enqueue/batch', [job('i11')]),
    ]) {
      expect(answer).toMatchObject({ status: 503, body: { code: 'queue_unavailable' } });
    }
    expect((await api.get('/queue/stats')).body).toMatchObject({ total_pending: 0 });
  });

  test('forgets its answers with a flush', async () => {
    await keyed('k9', job('i12'));
    await api.post('/queue/flush');
    const again = await keyed('k9', job('i12'));
    expect(again.headers.get('idempotency-replayed')).toBeNull();
    expect((await api.get('/queue/stats')).body).toMatchObject({ total_pending: 1 });
  });

  test('must be a plain token', async () => {
    expect(await keyed('two words', job('i9'))).toMatchObject({ status: 400 });
    expect(await keyed('x'.repeat(256), job('i9'))).toMatchObject({ status: 400 });
  });
});

test('an older version never replaces a newer one', async () => {
  const newer = await api.post('/queue/enqueue', { product_id: 'v', image_base64: png, version: 5 });
  const older = await api.post('/queue/enqueue', { product_id: 'v', image_base64: png, version: 4 });
  expect(older.body).toMatchObject({
    job_id: newer.body['job_id'],
    superseded: true,
    replaced: false,
    version: 5,
  });
});

test('a job waits until run_at', async () => {
  const at = new Date(Date.now() + 3_600_000).toISOString();
  const id = await enqueue('when', { run_at: at });
  expect((await api.get(`/queue/status/${id}`)).body).toMatchObject({ status: 'delayed', available_at: at });
});

describe('GET /queue/jobs', () => {
  const ids = (body: Record<string, unknown>) =>
    (body['jobs'] as { job_id: string }[]).map(({ job_id }) => job_id);

  test('lists the jobs of a state page by page, the last first', async () => {
    const made = [await enqueue('l1'), await enqueue('l2'), await enqueue('l3')];
    const first = (await api.get('/queue/jobs?status=queued&limit=2')).body;
    expect(first).toMatchObject({ total: 3, next_cursor: expect.any(String) });
    const second = (await api.get(`/queue/jobs?status=queued&limit=2&cursor=${first['next_cursor']}`)).body;
    expect(second).toMatchObject({ total: 3, next_cursor: null });
    expect([...ids(first), ...ids(second)]).toEqual(made.toReversed());
  });

  test('lists the jobs of a product, of one state if asked', async () => {
    const [failed = ''] = await fail('of-product');
    const waiting = await enqueue('of-product', { image_id: 'back' });
    await enqueue('other');
    const all = (await api.get('/queue/jobs?product_id=of-product')).body;
    expect(all).toMatchObject({ total: 2, next_cursor: null });
    expect(ids(all).toSorted()).toEqual([failed, waiting].toSorted());
    expect(ids((await api.get('/queue/jobs?product_id=of-product&status=failed')).body)).toEqual([failed]);
  });

  test.each([
    ['', 'status'],
    ['status=unknown', 'status'],
    ['status=queued&cursor=x', 'cursor'],
    ['product_id=p&cursor=x', 'cursor'],
    ['status=queued&code=image_not_found', 'code'],
  ])('refuses ?%s, naming %s', async (query, field) => {
    expect(await api.get(`/queue/jobs?${query}`)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', faults: [expect.objectContaining({ path: field })] },
    });
  });
});

test('GET /settings shows every setting, and no secret', async () => {
  await using shown = await createTestContext({
    REDIS_URL: 'redis://user:hidden-1@127.0.0.1:1/0',
    QDRANT_API_KEY: 'hidden-2',
    SESSION_SECRET: 'hidden-3-hidden-3-hidden-3-hidden-3',
    BATCH_SIZE: '3',
  });
  const text = await (await createApp(shown).request('/settings')).text();
  expect(text).not.toContain('hidden');
  const { settings } = JSON.parse(text) as { settings: { name: string }[] };
  const named = (name: string) => settings.find((each) => each.name === name);
  expect(named('BATCH_SIZE')).toMatchObject({ value: '3', is_default: false, is_secret: false });
  expect(named('PORT')).toMatchObject({ topic: 'The process' });
  expect(named('QDRANT_API_KEY')).toMatchObject({ value: null, is_default: false, is_secret: true });
  expect(named('REDIS_PASSWORD')).toMatchObject({ value: null, is_default: true, is_secret: true });
});
