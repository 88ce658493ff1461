import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { createWorker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';

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
    // Asked again, as after a lost reply, it gives the same answer.
    expect(await api.post(`/queue/jobs/${id}/cancel`)).toMatchObject({ status: 200 });
  });

  test('asks a running job to stop', async () => {
    const id = await enqueue('c2');
    await context.queue.claim({ workerId: 'w', claimId: uuidv7(), max: 1, leaseMs: 60_000 });
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
  test('puts a failed job back, once', async () => {
    const [id] = await fail('r1');
    expect(await stateOf(id!)).toBe('failed');
    expect(await api.post(`/queue/jobs/${id}/retry`)).toMatchObject({
      status: 202,
      body: { status: 'queued' },
    });
    expect(await api.post(`/queue/jobs/${id}/retry`)).toMatchObject({
      status: 409,
      body: { code: 'job_not_dead' },
    });
    expect(await api.post(`/queue/jobs/${unknownId}/retry`)).toMatchObject({ status: 404 });
  });
});

describe('the dead letter', () => {
  test('is listed by pages and by code', async () => {
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

  test('is exported as lines', async () => {
    const ids = await fail('e1', 'e2');
    const app = createApp(context);
    const response = await app.request('/queue/dead/export');
    expect(response.headers.get('content-type')).toBe('application/x-ndjson');
    const lines = (await response.text()).trimEnd().split('\n');
    const jobs = lines.map((line) => JSON.parse(line) as { job_id: string });
    expect(jobs.map(({ job_id }) => job_id).toSorted()).toEqual(ids.toSorted());
    expect(jobs.every((job) => api.check.accepts('Job', job))).toBe(true);
    expect(await (await app.request('/queue/dead/export?code=image_not_found')).text()).toBe('');
    const dead = async (): Promise<never> => {
      throw new VitrineError('queue_unavailable', 'Redis is away.');
    };
    const away = createApp({ ...context, queue: { ...context.queue, dead } });
    expect((await away.request('/queue/dead/export')).status).toBe(503);
  });

  test('is put back by ids, by code, or as a whole', async () => {
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

  test('is removed by id, by code, or as a whole, never by default', async () => {
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
});

describe('the queue', () => {
  test('shows what runs', async () => {
    const id = await enqueue('a1');
    expect((await api.get('/queue/active')).body).toEqual({ jobs: [], count: 0 });
    await context.queue.claim({ workerId: 'w7', claimId: uuidv7(), max: 5, leaseMs: 60_000 });
    expect((await api.get('/queue/active?limit=5')).body).toMatchObject({
      count: 1,
      jobs: [{ job_id: id, status: 'processing', worker_id: 'w7' }],
    });
  });

  test('is paused and resumed', async () => {
    await enqueue('p1');
    expect((await api.post('/queue/pause')).body).toEqual({ paused: true });
    expect((await api.get('/queue/stats')).body['paused']).toBe(true);
    const claim = (claimId: string) =>
      context.queue.claim({ workerId: 'w', claimId, max: 5, leaseMs: 60_000 });
    expect((await claim('one')).jobs).toHaveLength(0);
    expect((await api.post('/queue/resume')).body).toEqual({ paused: false });
    expect((await claim('two')).jobs).toHaveLength(1);
  });

  test('is cleaned up: a stale lease is recovered now', async () => {
    const id = await enqueue('s1');
    await context.queue.claim({ workerId: 'w', claimId: uuidv7(), max: 1, leaseMs: 1 });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await api.post('/queue/cleanup')).body).toMatchObject({ recovered: 1, poisoned: 0, mended: 0 });
    expect((await api.get(`/queue/status/${id}`)).body).toMatchObject({ status: 'queued', crashes: 1 });
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

  test('takes no more than MAX_PENDING, and says when to come again', async () => {
    const lines = Array.from({ length: 1300 }, (_, index) =>
      JSON.stringify({ product_id: `m${index}`, image_url: 'https://example.com/a.jpg' }),
    );
    const { body } = await api.postLines('/queue/enqueue/batch', lines);
    expect(body).toMatchObject({ accepted: 1000 });
    const rejected = body['rejected'] as { index: number; code: string }[];
    expect(rejected).toHaveLength(300);
    expect(rejected[0]).toMatchObject({ index: 1000, code: 'queue_full' });
    await api.postLines('/queue/enqueue/batch', lines.slice(1000, 1200));
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

  test('gives the first answer again, and adds nothing', async () => {
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
    // Either the process ended in between, or the memory could not be reached: the ids do without it.
    const failures = [
      async () => null,
      () => Promise.reject(new VitrineError('queue_unavailable', 'It is away.')),
    ];
    for (const [index, recall] of failures.entries()) {
      const remember = async (key: string, answer: string, ttlMs: number) =>
        key.startsWith('answer:') ? recall() : context.queue.remember(key, answer, ttlMs);
      const lossy = await createApiClient({ ...context, queue: { ...context.queue, remember, recall } });
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
