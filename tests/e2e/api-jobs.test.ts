import { gzipSync } from 'node:zlib';
import { v4 as uuidv4, v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createWorker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { newWorkerReport } from '../support/worker-reports.ts';

let context: Context;
let api: ApiClient;
let png: Buffer;

beforeAll(async () => {
  context = await createTestContext({ ALLOW_FLUSH: 'true', IMAGE_MAX_BYTES: '100000' });
  api = await createApiClient(context);
  png = await drawImage(1);
});
afterAll(() => context[Symbol.asyncDispose]());

const job = (productId: string, changes: object = {}) => ({
  product_id: productId,
  image_base64: png.toString('base64'),
  ...changes,
});

describe('POST /queue/enqueue', () => {
  test('stores a job and returns the address of its state', async () => {
    const { status, body, headers } = await api.post('/queue/enqueue', job('one', { priority: 'high' }));
    expect(status).toBe(202);
    expect(body).toMatchObject({ status: 'queued', position: 1, replaced: false, superseded: false });
    expect(body['status_url']).toBe(`/queue/status/${body['job_id']}`);
    expect(headers.get('location')).toBe(body['status_url']);
    const state = await api.get(body['status_url'] as string);
    expect(state.body).toMatchObject({
      job_id: body['job_id'],
      product_id: 'one',
      image_id: 'main',
      status: 'queued',
      priority: 'high',
      attempts: 0,
      max_attempts: context.config.queue.retry.attempts,
      stage: null,
      started_at: null,
      last_error: null,
      result: null,
      history: [],
    });
  });

  test('takes a form with a file', async () => {
    const { status, body } = await api.postForm('/queue/enqueue', [
      ['product_id', 'form/é 1'],
      ['image', new Blob([new Uint8Array(png)], { type: 'image/png' })],
      ['price', '12.5'],
      ['currency', 'EUR'],
      ['tags', 'a'],
      ['tags', 'b'],
      ['metadata', '{"colour":"red"}'],
    ]);
    expect(status).toBe(202);
    expect((await api.get(body['status_url'] as string)).body).toMatchObject({ product_id: 'form/é 1' });
  });

  test('takes base64 without padding, and the image is indexed', async () => {
    const bytes = Buffer.concat([png, Buffer.alloc((4 - (png.length % 3)) % 3)]);
    expect(bytes.toString('base64')).toContain('=');
    const image_base64 = bytes.toString('base64').replaceAll('=', '');
    const { body } = await api.post('/queue/enqueue', job('unpadded', { image_base64 }));
    await createWorker(context).run({ once: true });
    expect((await api.get(body['status_url'] as string)).body).toMatchObject({ status: 'completed' });
  });

  test('replaces a waiting job of the same product image', async () => {
    const first = await api.post('/queue/enqueue', job('twice'));
    const second = await api.post('/queue/enqueue', job('twice', { name: 'newer' }));
    expect(second.body).toMatchObject({ job_id: first.body['job_id'], replaced: true });
  });

  test('takes a delayed job, with its own retries', async () => {
    const { body } = await api.post(
      '/queue/enqueue',
      job('later', { delay_seconds: 60, retry: { attempts: 7 } }),
    );
    expect(body).toMatchObject({ status: 'delayed', position: null });
    expect((await api.get(body['status_url'] as string)).body).toMatchObject({
      max_attempts: 7,
      available_at: expect.any(String),
    });
  });

  test.each([
    [{ image_url: 'https://example.com/a.jpg' }, 'product_id is required.'],
    [{ product_id: 'p', imageUrl: 'https://example.com/a.jpg' }, 'did you mean image_url?'],
    [{ product_id: 'p', image_base64: 'n o' }, 'image_base64 must be base64'],
    [{ product_id: 'p', image_base64: 'bm90+base64!' }, 'image_base64 must be base64'],
    [{ product_id: 'p', image_base64: 'YQ==', price: -1 }, 'price must be at least 0.'],
  ])('refuses %j', async (body, detail) => {
    const answer = await api.post('/queue/enqueue', body);
    expect(answer).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', title: 'Invalid request' },
    });
    expect(answer.body['detail']).toContain(detail);
    expect(answer.body['faults']).not.toHaveLength(0);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(answer.headers.get('x-request-id')).toBe(answer.body['request_id']);
  });

  test('refuses what it cannot read', async () => {
    const ask = (headers: Record<string, string>, body: string) =>
      api.ask('POST', '/queue/enqueue', { headers, body });
    expect(await ask({ 'Content-Type': 'application/json' }, '{')).toMatchObject({
      body: { code: 'invalid_json' },
    });
    expect(await ask({ 'Content-Type': 'text/plain' }, '{}')).toMatchObject({
      status: 415,
      body: { code: 'unsupported_media_type' },
    });
    const huge = JSON.stringify(job('huge', { name: 'x'.repeat(400_000) }));
    expect(await ask({ 'Content-Type': 'application/json' }, huge)).toMatchObject({
      status: 413,
      body: { code: 'body_too_large' },
    });
    expect(await api.post('/queue/enqueue', job('big', { image_base64: 'A'.repeat(140_000) }))).toMatchObject(
      {
        status: 422,
        body: { code: 'image_too_large' },
      },
    );
    expect(await api.post('/queue/enqueue', { product_id: 'p', image_path: 'a.jpg' })).toMatchObject({
      status: 422,
      body: { code: 'image_path_forbidden' },
    });
  });
});

describe('POST /queue/enqueue/batch', () => {
  const mixed = () => [job('b1'), { product_id: 'b2' }, 'text', job('b4', { image_id: 'side' }), job('b1')];

  test('accepts the good ones of an array and names the bad ones by index', async () => {
    const { status, body } = await api.post('/queue/enqueue/batch', mixed());
    expect(status).toBe(202);
    expect(body).toMatchObject({
      accepted: 3,
      rejected: [
        {
          index: 1,
          code: 'invalid_request',
          detail: 'Exactly one of image_url, image_path, image_base64 must be given.',
        },
        { index: 2, code: 'invalid_request', detail: 'Must be an object.' },
      ],
    });
    // The last is of the first's product image, whose waiting job it replaces.
    const [first, , last] = body['job_ids'] as string[];
    expect(last).toBe(first);
  });

  test('does the same with lines', async () => {
    const lines = [...mixed().map((value) => JSON.stringify(value)), '{"product_id":'];
    const { body } = await api.postLines('/queue/enqueue/batch', lines);
    expect(body).toMatchObject({
      accepted: 3,
      rejected: [{ index: 1 }, { index: 2 }, { index: 5, code: 'invalid_json' }],
    });
  });

  test('takes 10,000 jobs and no more', async () => {
    const line = (index: number) =>
      JSON.stringify({ product_id: `n${index}`, image_url: `https://example.com/${index}.jpg` });
    const lines = Array.from({ length: 10_000 }, (_, index) => line(index));
    const before = (await api.get('/queue/stats')).body['total_pending'] as number;
    expect(await api.postLines('/queue/enqueue/batch', [...lines, line(10_000)])).toMatchObject({
      status: 413,
      body: { code: 'body_too_large' },
    });
    expect((await api.get('/queue/stats')).body['total_pending']).toBe(before);
    const { body } = await api.postLines('/queue/enqueue/batch', lines);
    expect(body).toMatchObject({ accepted: 10_000, rejected: [] });
    expect(new Set(body['job_ids'] as string[]).size).toBe(10_000);
    expect((await api.get('/queue/stats')).body['total_pending']).toBe(before + 10_000);
  }, 120_000);

  test('takes a body that is compressed with gzip', async () => {
    const ask = (path: string, type: string, body: Buffer) =>
      api.ask('POST', path, {
        headers: { 'Content-Type': type, 'Content-Encoding': 'gzip', 'Content-Length': String(body.length) },
        body: new Uint8Array(body),
      });
    const lines = `${JSON.stringify(job('z1'))}\n${JSON.stringify(job('z2'))}`;
    expect(await ask('/queue/enqueue/batch', 'application/x-ndjson', gzipSync(lines))).toMatchObject({
      status: 202,
      body: { accepted: 2 },
    });
    expect(
      await ask('/queue/enqueue', 'application/json', gzipSync(JSON.stringify(job('z3')))),
    ).toMatchObject({ status: 202 });
    expect(await ask('/queue/enqueue', 'application/json', Buffer.from('{}'))).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', detail: expect.stringContaining('gzip') },
    });
    const bomb = gzipSync(Buffer.alloc(70_000_000, ' '));
    expect(await ask('/queue/enqueue/batch', 'application/x-ndjson', bomb)).toMatchObject({
      status: 413,
      body: { code: 'body_too_large' },
    });
  });

  test('refuses what has no jobs', async () => {
    expect(await api.post('/queue/enqueue/batch', [])).toMatchObject({ status: 400 });
    expect(await api.post('/queue/enqueue/batch', {})).toMatchObject({ status: 400 });
    expect(await api.postLines('/queue/enqueue/batch', ['', ' '])).toMatchObject({ status: 400 });
  });
});

describe('the queue', () => {
  test('is emptied by a flush, and only when that is allowed', async () => {
    const careful = await createTestContext();
    await using _ = careful;
    const carefulApi = await createApiClient(careful);
    await carefulApi.post('/queue/enqueue', job('kept'));
    expect(await carefulApi.post('/queue/flush')).toMatchObject({
      status: 403,
      body: { code: 'flush_not_allowed', suggestion: expect.stringContaining('ALLOW_FLUSH=true') },
    });
    expect((await carefulApi.get('/queue/stats')).body['total_pending']).toBe(1);

    await api.post('/queue/enqueue', job('flushed'));
    const { body } = await api.post('/queue/flush');
    expect(body['removed']).toBeGreaterThan(0);
    expect((await api.get('/queue/stats')).body['total_pending']).toBe(0);
  });

  test('is counted, and its jobs end as completed or failed', async () => {
    await api.post('/queue/flush');
    const good = await api.post('/queue/enqueue', job('good', { priority: 'low' }));
    const bad = await api.post('/queue/enqueue', job('bad', { image_base64: 'bm90IGFuIGltYWdl' }));
    const later = await api.post('/queue/enqueue', job('later', { delay_seconds: 3600 }));
    expect((await api.get('/queue/stats')).body).toMatchObject({
      waiting: { high: 0, normal: 1, low: 1 },
      delayed: 1,
      processing: 0,
      total_pending: 3,
      oldest_waiting_ms: expect.any(Number),
      paused: false,
      workers_alive: 0,
    });

    // A worker that runs once waits for delayed jobs too.
    await api.post(`/queue/jobs/${later.body['job_id']}/cancel`);
    await createWorker(context).run({ once: true });

    expect((await api.get(good.body['status_url'] as string)).body).toMatchObject({
      status: 'completed',
      attempts: 1,
      result: {
        outcome: 'indexed',
        collection: 'products',
        model: 'builtin',
        point_id: expect.any(String),
      },
      last_error: null,
      processing_ms: expect.any(Number),
      ended_at: expect.any(String),
      history: [{ outcome: 'completed' }],
    });
    expect((await api.get(bad.body['status_url'] as string)).body).toMatchObject({
      status: 'failed',
      last_error: { code: 'image_unsupported', suggestion: expect.any(String) },
    });
    expect((await api.get('/queue/stats')).body).toMatchObject({
      completed: 1,
      failed: 1,
      dead: 1,
      cancelled: 1,
      total_pending: 0,
    });
  });

  test('knows its workers', async () => {
    expect((await api.get('/queue/workers')).body).toEqual({ workers: [], count: 0 });
    await context.queue.heartbeat({ ...newWorkerReport('w1'), uptimeMs: 5000.5 });
    expect((await api.get('/queue/workers')).body).toMatchObject({
      count: 1,
      workers: [
        {
          id: 'w1',
          state: 'working',
          in_flight: 3,
          images_per_second: 2.5,
          last_seen_ms: expect.any(Number),
        },
      ],
    });
    expect((await api.get('/queue/stats')).body['workers_alive']).toBe(1);
    await context.queue.removeWorker('w1');
  });
});

describe('GET /queue/status/{job_id}', () => {
  test('finds a job by its id in upper case', async () => {
    const { body } = await api.post('/queue/enqueue', job('upper'));
    const id = body['job_id'] as string;
    expect(await api.get(`/queue/status/${id.toUpperCase()}`)).toMatchObject({
      status: 200,
      body: { job_id: id },
    });
    expect(await api.post(`/queue/jobs/${id.toUpperCase()}/cancel`)).toMatchObject({ status: 200 });
  });

  test('says of a young id that its job is no longer kept, and knows nothing of others', async () => {
    const code = async (id: string) => (await api.get(`/queue/status/${id}`)).body['code'];
    const madeAgo = (ms: number) => uuidv7({ msecs: Date.now() - ms });
    expect(await code(madeAgo(1000))).toBe('job_expired');
    expect(await code(madeAgo(29 * 86_400_000))).toBe('job_expired');
    expect(await code(madeAgo(31 * 86_400_000))).toBe('job_not_found');
    expect(await code(madeAgo(-60_000))).toBe('job_not_found');
    expect(await code(uuidv4())).toBe('job_not_found');
    expect(await api.post(`/queue/jobs/${madeAgo(1000)}/cancel`)).toMatchObject({ status: 404 });
  });

  test('answers an unknown id with 404 and a wrong one with 400', async () => {
    expect(await api.get('/queue/status/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b')).toMatchObject({
      status: 404,
      body: { code: 'job_not_found' },
    });
    expect(await api.get('/queue/status/17')).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', faults: [{ path: 'job_id', message: 'must be a UUID' }] },
    });
  });
});
