import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createWorker, type Worker } from '../../workers/worker.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { type Receiver, SECRETS, startReceiver, verify } from '../support/receiver.ts';
import { until } from '../support/until.ts';

interface WireDelivery {
  readonly job_id: string;
  readonly status: string;
  readonly attempts: number;
  readonly last_answer: object | null;
}

const TIMEOUT_MS = 500;
const stack = new AsyncDisposableStack();
let receiver: Receiver;
let context: Context;
let api: ApiClient;
let image_base64: string;
let failures = 0;

beforeAll(async () => {
  receiver = stack.use(
    await startReceiver({
      '/fails-first': (_, response) => response.writeHead(failures++ === 0 ? 500 : 200).end(),
      '/slow': () => undefined,
      '/moved': (_, response) => response.writeHead(307, { location: '/target' }).end(),
      '/gone': (_, response) => response.writeHead(410).end(),
    }),
  );
  context = stack.use(
    await createTestContext({
      WEBHOOK_SECRETS: SECRETS.join(','),
      WEBHOOK_ALLOWED_HOSTS: '127.0.0.1',
      WEBHOOK_TIMEOUT_MS: String(TIMEOUT_MS),
    }),
  );
  api = await createApiClient(context);
  image_base64 = (await drawImage(1)).toString('base64');
});
afterAll(() => stack.disposeAsync());

async function enqueue(productId: string, changes: object = {}): Promise<string> {
  const job = { product_id: productId, image_base64, ...changes };
  const { status, body } = await api.post('/queue/enqueue', job);
  expect(status).toBe(202);
  return body['job_id'] as string;
}

async function deliveries(): Promise<readonly WireDelivery[]> {
  return (await api.get('/webhooks/deliveries')).body['deliveries'] as WireDelivery[];
}

const deliveryOf = async (jobId: string) => (await deliveries()).find(({ job_id }) => job_id === jobId);

/** The delivery of the job's end, as soon as its last attempt was answered and it looks like that. */
const untilDelivery = (jobId: string, isReady: (delivery: WireDelivery) => boolean) =>
  until('the delivery is so far', async () => {
    const delivery = await deliveryOf(jobId);
    return delivery !== undefined && isReady(delivery) ? delivery : undefined;
  });

describe('with a worker', () => {
  let worker: Worker;
  let working: Promise<unknown>;
  beforeAll(() => {
    worker = createWorker(context);
    working = worker.run();
  });
  afterAll(async () => {
    worker.stop();
    await working;
  });

  test('a completed job is reported to its callback_url, signed', async () => {
    const id = await enqueue('completed', { callback_url: `${receiver.origin}/ok?token=1` });
    const delivery = await untilDelivery(id, ({ status }) => status === 'completed');
    expect(delivery).toMatchObject({
      type: 'job.completed',
      url: `${receiver.origin}/ok`,
      attempts: 1,
      last_answer: { code: null, message: expect.stringContaining('answered 204') },
    });
    const [message] = receiver.of('/ok?token=1');
    const { body } = await api.get(`/queue/status/${id}`);
    for (const secret of SECRETS) {
      expect(verify(message!, secret)).toEqual({
        type: 'job.completed',
        timestamp: body['ended_at'],
        data: {
          ...Object.fromEntries(Object.entries(body).filter(([name]) => name !== 'worker_id')),
          history: [
            {
              started_at: expect.any(String),
              ended_at: expect.any(String),
              outcome: 'completed',
              error: null,
            },
          ],
        },
      });
    }
    expect(message!.body).not.toContain(worker.id);
    expect(api.check.accepts('WebhookEvent', JSON.parse(message!.body))).toBe(true);
  });

  test('a failed job is reported with its error, and without its bytes', async () => {
    const broken = Buffer.from('not an image at all, and never was').toString('base64');
    const id = await enqueue('failed', {
      image_base64: broken,
      callback_url: `${receiver.origin}/failed`,
    });
    await untilDelivery(id, ({ status }) => status === 'completed');
    const [message] = receiver.of('/failed');
    expect(verify(message!, SECRETS[0])).toMatchObject({
      type: 'job.failed',
      data: { job_id: id, status: 'failed', last_error: { code: 'image_unsupported' } },
    });
    expect(message!.body).not.toContain(broken);
  });

  test('a cancelled job is reported, though no worker ever saw it', async () => {
    const id = await enqueue('cancelled', {
      delay_seconds: 3600,
      callback_url: `${receiver.origin}/cancelled`,
    });
    await api.post(`/queue/jobs/${id}/cancel`);
    await untilDelivery(id, ({ status }) => status === 'completed');
    expect(verify(receiver.of('/cancelled')[0]!, SECRETS[0])).toMatchObject({
      type: 'job.cancelled',
      data: { job_id: id },
    });
  });

  test('a delivery that fails is repeated with the same id and a new timestamp', async () => {
    const id = await enqueue('fails-first', { callback_url: `${receiver.origin}/fails-first` });
    const first = await untilDelivery(id, ({ attempts, status }) => attempts === 1 && status === 'delayed');
    expect(first).toMatchObject({ last_answer: { code: 'webhook_failed' } });
    expect(await untilDelivery(id, ({ status }) => status === 'completed')).toMatchObject({ attempts: 2 });
    const [one, other, ...more] = receiver.of('/fails-first');
    expect(more).toEqual([]);
    expect(verify(other!, SECRETS[1])).toEqual(verify(one!, SECRETS[1]));
    const stamp = ({ headers }: typeof one & object) => Number(headers['webhook-timestamp']);
    expect(other!.headers['webhook-id']).toBe(one!.headers['webhook-id']);
    expect(stamp(other!)).toBeGreaterThan(stamp(one!));
  });

  test('a redirect is not followed', async () => {
    const id = await enqueue('moved', { callback_url: `${receiver.origin}/moved` });
    const delivery = await untilDelivery(id, ({ attempts }) => attempts === 1);
    expect(await untilDelivery(id, ({ last_answer }) => last_answer !== null)).toMatchObject({
      job_id: delivery.job_id,
      last_answer: { code: 'webhook_failed', message: expect.stringContaining('answered 307') },
    });
    expect(receiver.of('/target')).toEqual([]);
  });

  test('a receiver that is gone is not asked again, and the delivery is a dead letter', async () => {
    const id = await enqueue('gone', { callback_url: `${receiver.origin}/gone` });
    const delivery = await untilDelivery(id, ({ status }) => status === 'failed');
    expect(delivery).toMatchObject({ attempts: 1, last_answer: { code: 'webhook_gone' } });
    expect((await api.get('/queue/dead?code=webhook_gone')).body).toMatchObject({
      jobs: [{ kind: 'delivery', product_id: 'gone', status: 'failed', result: null }],
      total: 1,
    });
    expect(receiver.of('/gone')).toHaveLength(1);
  });

  test('an address that the guard refuses gets nothing', async () => {
    const address = receiver.origin.replace('127.0.0.1', '[::ffff:127.0.0.1]');
    const id = await enqueue('blocked', { callback_url: `${address}/blocked` });
    expect(await untilDelivery(id, ({ status }) => status === 'failed')).toMatchObject({
      last_answer: { code: 'webhook_address_blocked' },
    });
    expect(receiver.of('/blocked')).toEqual([]);
  });

  // The last one: it pauses the receiver's host.
  test('a slow receiver is put off without a counted attempt, and images go on', async () => {
    const id = await enqueue('slow', { callback_url: `${receiver.origin}/slow` });
    const delivery = await untilDelivery(id, ({ last_answer }) => last_answer !== null);
    expect(delivery).toMatchObject({
      status: 'delayed',
      attempts: 0,
      last_answer: { code: 'webhook_busy', message: expect.stringContaining(`within ${TIMEOUT_MS} ms`) },
    });
    const { host } = new URL(receiver.origin);
    expect((await api.get('/queue/stats')).body).toMatchObject({ hosts: [{ host: `webhook:${host}` }] });
    const other = await enqueue('after the slow one');
    await until('it is indexed', async () => {
      const { body } = await api.get(`/queue/status/${other}`);
      return body['status'] === 'completed' || undefined;
    });
  });
});

describe('the list of deliveries', () => {
  test('has pages', async () => {
    const all = await deliveries();
    const first = (await api.get('/webhooks/deliveries?limit=3')).body;
    expect(first).toMatchObject({ deliveries: all.slice(0, 3), total: all.length });
    const rest = await api.get(`/webhooks/deliveries?cursor=${first['next_cursor']}`);
    expect(rest.body).toMatchObject({ deliveries: all.slice(3), next_cursor: null });
    expect(await api.get('/webhooks/deliveries?cursor=x')).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', faults: [{ path: 'cursor' }] },
    });
  });
});

describe('callback_url', () => {
  const url = 'https://shop.example.com/hook';

  test('is refused where no secret is set', async () => {
    await using bare = await createTestContext();
    const client = await createApiClient(bare);
    const job = { product_id: 'a', image_base64, callback_url: url };
    expect(await client.post('/queue/enqueue', job)).toMatchObject({
      status: 422,
      body: { code: 'webhooks_not_configured', suggestion: expect.stringContaining('WEBHOOK_SECRETS') },
    });
    const form = await client.postForm('/queue/enqueue', [
      ['product_id', 'a'],
      ['callback_url', url],
      ['image', new Blob(['x'])],
    ]);
    expect(form).toMatchObject({ status: 422, body: { code: 'webhooks_not_configured' } });
    const { body } = await client.post('/queue/enqueue/batch', [job, { ...job, callback_url: undefined }]);
    expect(body).toMatchObject({
      accepted: 1,
      rejected: [{ index: 0, code: 'webhooks_not_configured' }],
    });
  });

  test.each([
    'ftp://shop.example.com/',
    'https://me:secret@shop.example.com/',
    '/hook',
    `${url}?${'x'.repeat(3000)}`,
  ])('is refused when it is %s', async (callback_url) => {
    expect(await api.post('/queue/enqueue', { product_id: 'a', image_base64, callback_url })).toMatchObject({
      status: 400,
      body: { faults: [{ path: 'callback_url' }] },
    });
  });
});
