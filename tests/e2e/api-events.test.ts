import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { startServer } from '../../src/http/server.ts';
import { createQueueMonitor } from '../../src/monitor/monitor.ts';
import { createWorker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { readEvents } from '../support/event-stream.ts';
import { createFakeClock } from '../support/fake-clock.ts';
import { drawImage } from '../support/images.ts';
import { startRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';
import { newWorkerReport } from '../support/worker-reports.ts';

let context: Context;
let api: ApiClient;
let png: string;

beforeAll(async () => {
  context = await createTestContext({ ALLOW_FLUSH: 'true', PORT: '0' });
  api = await createApiClient(context);
  png = (await drawImage(1)).toString('base64');
});
beforeEach(async () => {
  await api.post('/queue/flush');
});
afterAll(() => context[Symbol.asyncDispose]());

const enqueue = async (productId: string, changes: object = {}) =>
  (await api.post('/queue/enqueue', { product_id: productId, image_base64: png, ...changes })).body[
    'job_id'
  ] as string;
const work = () => createWorker(context).run({ once: true });
const listen = async (app: ReturnType<typeof createApp>, headers = {}) =>
  readEvents(await app.request('/events', { headers }));

test('a stream begins with the stats and the workers, and goes on with what changes', async () => {
  await using events = await listen(createApp(context));
  expect((await events.next('stats')).data).toMatchObject({ queue_size: 0, workers_alive: 0 });
  expect((await events.next('workers')).data).toEqual({ workers: [], count: 0 });
  await context.queue.heartbeat(newWorkerReport('w1'));
  expect((await events.next('workers')).data).toMatchObject({ count: 1, workers: [{ id: 'w1' }] });
  await context.queue.removeWorker('w1');
  expect((await events.next('workers')).data).toMatchObject({ count: 0 });
  const id = await enqueue('waits');
  expect((await events.next('stats')).data).toMatchObject({ queue_size: 1 });
  expect((await api.post(`/queue/jobs/${id}/cancel`)).status).toBe(200);
  const ended = await events.next('job');
  expect(ended.data).toMatchObject({ job_id: id, status: 'cancelled', product_id: 'waits' });
  expect(ended.data).toEqual((await api.get(`/queue/jobs/${id}`)).body);
});

test('Last-Event-ID brings what ended in between, also from another process', async () => {
  const first = createApp(context);
  const seen = await enqueue('seen');
  const lastId = await (async () => {
    await using events = await listen(first);
    await events.next('stats');
    await api.post(`/queue/jobs/${seen}/cancel`);
    return (await events.next('job')).id!;
  })();
  const missed = [await enqueue('missed-1'), await enqueue('missed-2', { image_base64: 'bm90IGFuIGltYWdl' })];
  await work();
  for (const app of [first, createApp(context)]) {
    await using events = await listen(app, { 'Last-Event-ID': lastId });
    const got = [await events.next('job'), await events.next('job')];
    expect(got.map(({ data }) => data['job_id']).toSorted()).toEqual(missed.toSorted());
    expect(got.map(({ data }) => data['status']).toSorted()).toEqual(['completed', 'failed']);
  }
});

test('a client that was gone for longer than jobs are kept is sent a gap, and the last hundred', async () => {
  const ids = await Promise.all(Array.from({ length: 130 }, (_, i) => enqueue(`many-${i}`)));
  await Promise.all(ids.map((id) => context.queue.cancel(id)));
  await using late = await listen(createApp(context), { 'Last-Event-ID': '1-older' });
  expect((await late.next('gap')).data).toEqual({});
  for (let count = 0; count < 100; count += 1) await late.next('job');
});

test('a hundred listeners cost Redis no more than one', async () => {
  await using redis = await startRedis();
  await using onRedis = await createTestContext({ REDIS_URL: redis.url });
  const commands = async () =>
    Number(/total_commands_processed:(\d+)/.exec(await redis.client.info('stats'))?.[1]);
  const callsOf = async (listeners: number) => {
    const app = createApp(onRedis);
    const streams = await Promise.all(Array.from({ length: listeners }, () => listen(app)));
    await Promise.all(streams.map((stream) => stream.next('stats')));
    const before = await commands();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    const calls = (await commands()) - before;
    await Promise.all(streams.map((stream) => stream[Symbol.asyncDispose]()));
    return calls;
  };
  const [one, hundred] = [await callsOf(1), await callsOf(100)];
  expect(one).toBeGreaterThan(0);
  // A poll more or less fits into the time.
  expect(hundred).toBeLessThan(2 * one + 10);
});

test('an unreachable queue is a problem event, and the stream goes on', async () => {
  let isDown = true;
  const queue = {
    ...context.queue,
    stats: () =>
      isDown
        ? Promise.reject(new VitrineError('queue_unavailable', 'Redis is unreachable.'))
        : context.queue.stats(),
  };
  await using events = await listen(createApp({ ...context, queue }));
  expect((await events.next('problem')).data).toEqual({
    code: 'queue_unavailable',
    detail: 'Redis is unreachable.',
    suggestion: expect.any(String),
  });
  isDown = false;
  expect((await events.next('stats')).data).toMatchObject({ queue_size: 0 });
});

test('a server that is being stopped ends its streams at once', async () => {
  const server = await startServer(context);
  const response = await fetch(`${server.url}/events`);
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  const all = response.text();
  const from = performance.now();
  await server.stop();
  expect(await all).toContain(': connected');
  // The grace for running requests is 10 seconds.
  expect(performance.now() - from).toBeLessThan(9_000);
});

test('the history has a minute for each that has passed', async () => {
  const clock = createFakeClock();
  using monitor = createQueueMonitor({ ...context, clock });
  monitor.startHistory();
  const app = createApp(context, { monitor });
  const read = async () =>
    ((await (await app.request('/queue/history')).json()) as { minutes: unknown[] }).minutes;
  expect(await read()).toEqual([]);
  await enqueue('history-1');
  await work();
  await enqueue('history-2');
  await until('the first minute', async () => {
    await clock.advance(30_000);
    return (await read()).length > 0 || undefined;
  });
  const minutes = await read();
  expect(minutes[0]).toMatchObject({ completed: 1, failed: 0, cancelled: 0, waiting: 1, workers_alive: 0 });
});
