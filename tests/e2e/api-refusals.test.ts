import { type LoggerOptions, pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { createLogger } from '../../src/observability/logger.ts';
import { type ApiClient, createApiClient } from '../support/api-client.ts';
import { createTestContext } from '../support/context.ts';

let context: Context;
let api: ApiClient;
let app: ReturnType<typeof createApp>;
beforeAll(async () => {
  context = await createTestContext();
  api = await createApiClient(context);
  app = createApp(context);
});
afterAll(() => context[Symbol.asyncDispose]());

const ask = async (path: string, init: RequestInit = {}, over: Partial<Context> = {}) => {
  const response = await (Object.keys(over).length > 0 ? createApp({ ...context, ...over }) : app).request(
    path,
    init,
  );
  return {
    status: response.status,
    headers: response.headers,
    body: JSON.parse(await response.text()) as unknown,
  };
};

describe('every failure is a problem document', () => {
  test('an unknown address', async () => {
    const { status, headers, body } = await ask('/nowhere?secret=1', {
      headers: { 'X-Request-Id': 'mine-1' },
    });
    expect({ status, body }).toEqual({
      status: 404,
      body: {
        type: '/errors#route_not_found',
        title: 'No such address',
        status: 404,
        code: 'route_not_found',
        detail: 'Nothing is at this address.',
        suggestion: 'See /docs for the addresses that exist.',
        instance: '/nowhere',
        request_id: 'mine-1',
      },
    });
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(api.check.accepts('Problem', body)).toBe(true);
  });

  test('a method that the address does not know', async () => {
    const { status, headers, body } = await ask('/queue/enqueue', { method: 'GET' });
    expect({ status, body }).toMatchObject({ status: 405, body: { code: 'method_not_allowed' } });
    expect(headers.get('allow')).toBe('POST');
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(api.check.accepts('Problem', body)).toBe(true);
  });

  test('what a dependency throws, with Retry-After where it is known', async () => {
    const stats = async (): Promise<never> => {
      throw new VitrineError('queue_unavailable', 'Redis is down.', { retryAfterMs: 1500 });
    };
    const { status, headers, body } = await ask('/queue/stats', {}, { queue: { ...context.queue, stats } });
    expect({ status, body }).toMatchObject({ status: 503, body: { code: 'queue_unavailable' } });
    expect(headers.get('retry-after')).toBe('2');
    const down = async (): Promise<never> => {
      throw new VitrineError('queue_unavailable', 'Redis is down.');
    };
    const unknown = await ask('/queue/stats', {}, { queue: { ...context.queue, stats: down } });
    expect(unknown.headers.get('retry-after')).toBe('5');
  });

  test('an unforeseen error, without its message or stack', async () => {
    const stats = async (): Promise<never> => {
      throw new TypeError('cannot read redis://user:hunter2@host/');
    };
    const { status, body } = await ask('/queue/stats', {}, { queue: { ...context.queue, stats } });
    expect({ status, body }).toMatchObject({ status: 500, body: { code: 'internal_error' } });
    expect(JSON.stringify(body)).not.toMatch(/hunter2|TypeError|at /);
  });
});

test('the log has one line per request, without the query, and without passwords of failures', async () => {
  const lines: Record<string, unknown>[] = [];
  const ours = createLogger({ level: 'silent', file: undefined });
  // The same serializers, for they take the passwords out; only the destination is the test's.
  const { [pino.symbols.serializersSym]: serializers } = ours as unknown as Record<
    symbol,
    LoggerOptions['serializers']
  >;
  const write = (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>);
  const logger = pino({ serializers: serializers! }, { write });
  const stats = async (): Promise<never> => {
    throw new Error('redis://user:hunter2@host/ is down');
  };
  await ask('/queue/stats?key=secret', {}, { logger, queue: { ...context.queue, stats } });
  expect(lines).toMatchObject([
    { msg: 'request failed', request_id: expect.any(String) },
    { msg: 'request', method: 'GET', path: '/queue/stats', status: 500, ms: expect.any(Number) },
  ]);
  expect(JSON.stringify(lines)).not.toMatch(/hunter2|secret/);
});

describe('a page of another site', () => {
  const flush = (headers: Record<string, string>) => ask('/queue/flush', { method: 'POST', headers });

  test('cannot post here', async () => {
    for (const headers of [
      { Origin: 'https://evil.example' },
      { Origin: 'null' },
      { 'Sec-Fetch-Site': 'cross-site' },
    ]) {
      expect(await flush(headers)).toMatchObject({ status: 403, body: { code: 'cross_origin_refused' } });
    }
  });

  test('is not our own page, nor a program', async () => {
    for (const headers of [{}, { Origin: 'http://localhost' }, { 'Sec-Fetch-Site': 'same-origin' }]) {
      expect(await flush(headers)).toMatchObject({ body: { code: 'flush_not_allowed' } });
    }
  });

  test('may read nothing: no CORS header is ever sent', async () => {
    const { headers } = await ask('/queue/stats', { headers: { Origin: 'https://evil.example' } });
    expect([...headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
  });
});

test('answers tell browsers not to guess, frame or run anything', async () => {
  const { headers } = await ask('/queue/stats');
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'");
  expect(headers.get('cross-origin-resource-policy')).toBe('same-origin');
});
