import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { startServer } from '../../src/http/server.ts';
import { createWorker, type Worker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { until } from '../support/until.ts';

let context: Context;
let api: ApiClient;
let png: string;

beforeAll(async () => {
  context = await createTestContext({ ALLOW_FLUSH: 'true', PORT: '0' });
  api = await createApiClient(context);
  png = (await drawImage(1)).toString('base64');
});
beforeEach(() => context.queue.flush());
afterAll(() => context[Symbol.asyncDispose]());

const job = (productId: string, changes: object = {}) => ({
  product_id: productId,
  image_base64: png,
  ...changes,
});
const enqueue = (body: object, headers: Record<string, string>) => api.post('/queue/enqueue', body, headers);

async function whileWorking<T>(work: () => Promise<T>): Promise<T> {
  const worker: Worker = createWorker(context);
  const working = worker.run();
  try {
    return await work();
  } finally {
    worker.stop();
    await working;
  }
}

describe('Prefer: wait=N', () => {
  test('returns the state of the job when it has ended', () =>
    whileWorking(async () => {
      const good = await enqueue(job('w1'), { Prefer: 'wait=60' });
      expect(good).toMatchObject({
        status: 200,
        body: { product_id: 'w1', status: 'completed', result: { outcome: 'indexed' } },
      });
      expect(good.headers.get('preference-applied')).toBe('wait=60');
      expect(good.headers.get('location')).toBe(`/queue/status/${good.body['job_id']}`);
      const bad = await enqueue(job('w2', { image_base64: 'bm90IGFuIGltYWdl' }), { Prefer: 'wait=60' });
      expect(bad).toMatchObject({ status: 200, body: { status: 'failed' } });
    }));

  test('returns what it would have without it when the time is over first', async () => {
    const from = performance.now();
    const answer = await enqueue(job('w3'), { Prefer: 'respond-async, wait=1' });
    expect(performance.now() - from).toBeGreaterThan(900);
    expect(answer).toMatchObject({ status: 202, body: { status: 'queued', position: 1 } });
    expect(answer.headers.get('preference-applied')).toBe('wait=1');
  });

  test.each(['wait', 'wait=', 'wait=0', 'wait=soon', 'wait=-1', 'await=5', 'respond-async'])(
    'is ignored when it is %j',
    async (prefer) => {
      const answer = await enqueue(job('w4'), { Prefer: prefer });
      expect(answer.status).toBe(202);
      expect(answer.headers.get('preference-applied')).toBeNull();
    },
  );

  test('waits at most a minute, however the preference is spelt', () =>
    whileWorking(async () => {
      for (const [index, prefer] of ['wait=600', 'Wait = "600"', 'x, wait=600; y'].entries()) {
        const { headers } = await enqueue(job(`w5${index}`), { Prefer: prefer });
        expect(headers.get('preference-applied'), prefer).toBe('wait=60');
      }
    }));

  test('waits for the first request’s job when it is repeated with its key', async () => {
    const ask = () => enqueue(job('w6'), { Prefer: 'wait=60', 'Idempotency-Key': 'w6' });
    const [one, two] = await whileWorking(() => Promise.all([ask(), ask()]));
    expect([one.status, two.status]).toEqual([200, 200]);
    expect(two.body['job_id']).toBe(one.body['job_id']);
  });

  test('asks the queue no more once the client has left', async () => {
    let asked = 0;
    const status: Context['queue']['status'] = (id) => {
      asked++;
      return context.queue.status(id);
    };
    const server = await startServer({ ...context, queue: { ...context.queue, status } });
    try {
      const { hostname, port } = new URL(server.url);
      const socket = connect(Number(port), hostname);
      const body = JSON.stringify(job('w7'));
      socket.write(
        `POST /queue/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: wait=60\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      await until('the first question', () => asked > 1 || undefined);
      socket.destroy();
      await once(socket, 'close');
      const isQuiet = async () => {
        const before = asked;
        await new Promise((resolve) => setTimeout(resolve, 600));
        return asked === before || undefined;
      };
      await until('the end of the questions', isQuiet);
    } finally {
      await server.stop();
    }
  });

  test('keeps nobody waiting when the server is stopped', async () => {
    const server = await startServer(context);
    const answer = fetch(`${server.url}/queue/enqueue`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Prefer: 'wait=60' },
      body: JSON.stringify(job('w8')),
    });
    await until('the job', async () => (await context.queue.stats()).waiting.normal === 1 || undefined);
    const from = performance.now();
    await server.stop();
    expect((await answer).status).toBe(202);
    expect(performance.now() - from).toBeLessThan(10_000);
  });
});
