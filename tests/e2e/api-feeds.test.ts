import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';

let context: Context;
let api: ApiClient;
beforeAll(async () => {
  context = await createTestContext();
  api = await createApiClient(context);
});
afterAll(() => context[Symbol.asyncDispose]());

const preview = (name: string, body: string) =>
  api.ask('POST', `/catalog/preview?name=${name}`, {
    body,
    headers: { 'Content-Type': 'application/octet-stream' },
  });

describe('POST /catalog/preview', () => {
  test('reads a CSV by the rules of the command line, and enqueues nothing', async () => {
    const { status, body } = await preview(
      'products.csv',
      'sku;title;price;image\na;Red mug;14,50 EUR;https://example.com/a.jpg\nb;Bag;7;pictures/b.jpg\n;Nameless;1;c.jpg\nd;Far;1;/srv/d.jpg\n',
    );
    expect(status).toBe(200);
    expect(body).toEqual({
      entries: [
        {
          where: 'line 2',
          product_id: 'a',
          image_id: 'main',
          name: 'Red mug',
          price: 14.5,
          currency: 'EUR',
          image_url: 'https://example.com/a.jpg',
        },
        {
          where: 'line 3',
          product_id: 'b',
          image_id: 'main',
          name: 'Bag',
          price: 7,
          image_path: 'pictures/b.jpg',
        },
        {
          where: 'line 5',
          product_id: 'd',
          image_id: 'main',
          name: 'Far',
          price: 1,
          image_path: '/srv/d.jpg',
        },
      ],
      faults: [{ where: 'line 4', detail: 'it has no product_id.' }],
      total_faults: 1,
      is_cut: false,
    });
    expect(await context.queue.stats()).toMatchObject({ waiting: { high: 0, normal: 0, low: 0 } });
  });

  test('reads JSONL, and counts what it does not list', async () => {
    const lines = Array.from({ length: 1_200 }, () => '{').join('\n');
    const { body } = await preview('a.jsonl', `{"product_id":"a","image":"a.jpg"}\n${lines}`);
    expect(body).toMatchObject({ entries: [{ product_id: 'a' }], total_faults: 1_200 });
    expect(body['faults']).toHaveLength(1_000);
  });

  test('cuts a file with more entries than a batch may have', async () => {
    const lines = Array.from({ length: 10_001 }, (_, i) => `{"product_id":"p${i}","image":"a.jpg"}`);
    const { body } = await preview('a.jsonl', lines.join('\n'));
    expect(body).toMatchObject({ is_cut: true });
    expect(body['entries']).toHaveLength(10_000);
  });

  test.each([
    ['photo.jpg', 'x', 'name'],
    ['products.csv', 'name,price\nx,1\n', undefined],
    ['products.csv', '', undefined],
  ])('refuses %s of %j', async (name, body, path) => {
    const answer = await preview(name, body);
    if (body === '') expect(answer).toMatchObject({ status: 200, body: { entries: [] } });
    else expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
    if (path !== undefined) expect(answer.body['faults']).toMatchObject([{ path }]);
  });
});
