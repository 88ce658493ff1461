import type { RequestListener } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/observability/system-clock.ts';
import { createWebhookSender, type WebhookSender } from '../../src/webhooks/sender.ts';
import { type Receiver, SECRETS, startReceiver, verify } from '../support/receiver.ts';
import { until } from '../support/until.ts';

const answer =
  (status: number, headers: Record<string, string> = {}): RequestListener =>
  (_, response) =>
    response.writeHead(status, headers).end();

let receiver: Receiver;
let sender: WebhookSender;
const stack = new AsyncDisposableStack();
const never = new AbortController().signal;
const open = (over: object = {}) =>
  stack.use(
    createWebhookSender({
      webhooks: {
        secrets: SECRETS,
        allowedHosts: ['127.0.0.1'],
        allowedNetworks: [],
        timeoutMs: 5_000,
        ...over,
      },
      clock: systemClock,
    }),
  );
const send = (path: string, from = sender) =>
  from.send(
    { id: 'message-1', url: path.startsWith('/') ? receiver.origin + path : path, body: '{"a":"é"}' },
    never,
  );

beforeAll(async () => {
  receiver = stack.use(
    await startReceiver({
      '/201': answer(201),
      '/404': answer(404),
      '/500': answer(500),
      '/503': answer(503),
      '/410': answer(410),
      '/429': answer(429),
      '/429-7': answer(429, { 'retry-after': '7' }),
      '/503-7': answer(503, { 'retry-after': '7' }),
      '/429-for-ever': answer(429, { 'retry-after': '99999999' }),
      '/moved': answer(302, { location: '/target' }),
      '/moved-for-good': answer(308, { location: '/target' }),
      '/silent': () => undefined,
      '/drips': (_, response) => {
        const timer = setInterval(() => response.write('x'), 20);
        response.on('close', () => clearInterval(timer));
      },
      '/endless': (_, response) => {
        const more = () => {
          while (!response.destroyed && response.write(Buffer.alloc(5_000)));
        };
        response.on('drain', more);
        more();
      },
      '/closes': (request) => request.socket.destroy(),
    }),
  );
  sender = open();
});
afterAll(() => stack.disposeAsync());

describe('a webhook', () => {
  it('is signed with every secret, over its id, the time of the attempt and its body', async () => {
    expect(await send('/signed')).toBe(204);
    const [message] = receiver.of('/signed');
    for (const secret of SECRETS) expect(verify(message!, secret)).toEqual({ a: 'é' });
    expect(message!.headers).toMatchObject({ 'webhook-id': 'message-1', 'content-type': 'application/json' });
    expect(message!.headers['webhook-signature']).toMatch(/^v1,\S{44} v1,\S{44}$/);
    const other = `whsec_${Buffer.alloc(32).toString('base64')}`;
    expect(() => verify(message!, other)).toThrow('No matching signature');
    expect(() => verify({ ...message!, body: '{"a":"e"}' }, SECRETS[0])).toThrow('No matching signature');
    const headers = { ...message!.headers, 'webhook-id': 'message-2' };
    expect(() => verify({ ...message!, headers }, SECRETS[0])).toThrow('No matching signature');
  });

  it.each([
    ['/404', 'webhook_failed', 'answered 404'],
    ['/500', 'webhook_failed', 'answered 500'],
    ['/503', 'webhook_failed', 'answered 503'],
    ['/closes', 'webhook_failed', 'broke off'],
    ['/moved', 'webhook_failed', 'answered 302'],
    ['/moved-for-good', 'webhook_failed', 'answered 308'],
    ['/410', 'webhook_gone', 'answered 410'],
  ])('to %s fails with %s', async (path, code, detail) => {
    await expect(send(path)).rejects.toMatchObject({ code, message: expect.stringContaining(detail) });
  });

  it('is never taken to where it is redirected', () => {
    expect(receiver.of('/moved')).toHaveLength(1);
    expect(receiver.of('/target')).toEqual([]);
  });

  it.each([
    ['/429', 60_000],
    ['/429-7', 7_000],
    ['/503-7', 7_000],
    ['/429-for-ever', 3_600_000],
  ])('to %s is put off for %i ms', async (path, retryAfterMs) => {
    await expect(send(path)).rejects.toMatchObject({ code: 'webhook_busy', retryAfterMs });
  });

  it('is put off when there is no answer in time, and delivered when only the body is slow', async () => {
    const impatient = open({ timeoutMs: 300 });
    const startedAt = performance.now();
    await expect(send('/silent', impatient)).rejects.toMatchObject({
      code: 'webhook_busy',
      retryAfterMs: 60_000,
    });
    expect(performance.now() - startedAt).toBeLessThan(900);
    expect(await send('/drips', impatient)).toBe(200);
    expect(await send('/endless', impatient)).toBe(200);
  });

  it('ends with the reason of its signal', async () => {
    const abort = new AbortController();
    const message = { id: 'message-2', url: `${receiver.origin}/silent`, body: '{}' };
    const answered = sender.send(message, abort.signal);
    const expected = expect(answered).rejects.toThrow('drained');
    await until('it was sent', () => receiver.of('/silent').length > 1 || undefined);
    abort.abort(new Error('drained'));
    await expected;
  });

  it.each(['http://127.0.0.1:PORT/', 'http://localhost:PORT/', 'http://[::ffff:7f00:1]:PORT/', 'http://0/'])(
    'is not sent to the forbidden address %s',
    async (address) => {
      const strict = open({ allowedHosts: [] });
      const before = receiver.messages.length;
      await expect(
        send(address.replace('PORT', new URL(receiver.origin).port), strict),
      ).rejects.toMatchObject({ code: 'webhook_address_blocked' });
      expect(receiver.messages).toHaveLength(before);
    },
  );

  it('is not sent unsigned', async () => {
    await expect(send('/unsigned', open({ secrets: [] }))).rejects.toMatchObject({
      code: 'webhooks_not_configured',
    });
    expect(receiver.of('/unsigned')).toEqual([]);
  });

  it('says where it failed without the query, which may hold a token', async () => {
    const error = await send('http://127.0.0.1:1/?token=secret').catch((thrown: Error) => thrown);
    expect(error).toMatchObject({ message: '127.0.0.1:1 refused the connection.' });
  });
});
