import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createApp } from '../../src/http/app.ts';
import { type RunningServer, startServer } from '../../src/http/server.ts';
import { createTestContext } from '../support/context.ts';
import { until } from '../support/until.ts';

let context: Context;
let server: RunningServer;
beforeAll(async () => {
  context = await createTestContext({ PORT: '0', IMAGE_MAX_BYTES: '10000' });
  server = await startServer(context);
});
afterAll(async () => {
  await server.stop();
  await context[Symbol.asyncDispose]();
});

const JSON_TYPE = { 'Content-Type': 'application/json' };

describe('whatever is sent', () => {
  const jobish = fc.record(
    {
      product_id: fc.oneof(fc.string(), fc.jsonValue()),
      image_url: fc.oneof(fc.constant('https://example.com/a.jpg'), fc.webUrl(), fc.jsonValue()),
      image_base64: fc.oneof(fc.base64String(), fc.jsonValue()),
      price: fc.oneof(fc.double(), fc.jsonValue()),
      tags: fc.oneof(fc.array(fc.string()), fc.jsonValue()),
      metadata: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue()),
      version: fc.oneof(fc.integer(), fc.jsonValue()),
      run_at: fc.oneof(
        fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
        fc.jsonValue(),
      ),
      delay_seconds: fc.oneof(fc.double(), fc.jsonValue()),
      retry: fc.oneof(fc.record({ attempts: fc.integer() }), fc.jsonValue()),
    },
    { requiredKeys: [] },
  );
  const searchish = fc.record(
    {
      product_id: fc.oneof(fc.string(), fc.jsonValue()),
      limit: fc.oneof(fc.integer(), fc.jsonValue()),
      filter: fc.oneof(
        fc.record({
          category: fc.oneof(fc.string(), fc.array(fc.string())),
          metadata: fc.dictionary(
            fc.string(),
            fc.oneof(fc.string(), fc.double(), fc.record({ gt: fc.double() })),
          ),
        }),
        fc.jsonValue(),
      ),
    },
    { requiredKeys: [] },
  );

  test.each([
    ['/queue/enqueue', jobish],
    ['/queue/enqueue/batch', fc.array(jobish)],
    ['/queue/dead/redrive', fc.oneof(fc.jsonValue(), fc.record({ ids: fc.array(fc.string()) }))],
    ['/search', searchish],
  ])('%s answers with a success or a refusal, never with a failure of its own', async (path, bodies) => {
    const app = createApp(context);
    await fc.assert(
      fc.asyncProperty(bodies as fc.Arbitrary<unknown>, async (body) => {
        const response = await app.request(path, {
          method: 'POST',
          headers: JSON_TYPE,
          body: JSON.stringify(body),
        });
        const answer = await response.text();
        expect(response.status, answer).toBeLessThan(500);
        expect(() => JSON.parse(answer)).not.toThrow();
      }),
      { numRuns: 150 },
    );
  });
});

describe('over a socket', () => {
  /** Writes the text and returns all that is received until the server closes. */
  async function exchange(text: string): Promise<string> {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname).setEncoding('utf8');
    let answer = '';
    socket.on('data', (part: string) => {
      answer += part;
    });
    socket.on('error', () => undefined);
    socket.write(text);
    await once(socket, 'close');
    return answer;
  }

  test('a body that is too large is refused, however it comes', async () => {
    const large = 'x'.repeat(1_000_000);
    const stated = await fetch(`${server.url}/queue/enqueue`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: large,
    });
    expect(stated.status).toBe(413);
    const streamed = await fetch(`${server.url}/queue/enqueue`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: ReadableStream.from(Array(20).fill(Buffer.from(large))),
      duplex: 'half',
    }).then(
      (response) => response.status,
      // The server may close before the client has sent everything.
      () => 413,
    );
    expect(streamed).toBe(413);
  });

  test('what is not HTTP, or has too many headers, is refused', async () => {
    expect(await exchange('nonsense\r\n\r\n')).toMatch(/^HTTP\/1.1 400/);
    const headers = `X-Long: ${'x'.repeat(20_000)}\r\n`;
    expect(await exchange(`GET /livez HTTP/1.1\r\nHost: x\r\n${headers}\r\n`)).toMatch(/^HTTP\/1.1 431/);
  });

  test('ids arrive as they were encoded', async () => {
    for (const id of ['a/b', '100%', '%2F', '漢 🙂', '?&=#', '\\', '..;', '+']) {
      const response = await fetch(`${server.url}/products/${encodeURIComponent(id)}`);
      expect(await response.json(), id).toMatchObject({ code: 'product_not_found' });
    }
  });

  test('a client that leaves stops its search, and is no failure', async () => {
    const entered = Promise.withResolvers<AbortSignal>();
    const lines: string[] = [];
    const logger = Object.assign(Object.create(context.logger), {
      error: (_: object, message: string) => lines.push(message),
    }) as Context['logger'];
    const images: Context['images'] = {
      ...context.images,
      fetch: (_, signal) => {
        entered.resolve(signal);
        return new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        });
      },
    };
    const other = await startServer({ ...context, logger, images });
    const leaving = new AbortController();
    const search = fetch(`${other.url}/search`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: JSON.stringify({ image_url: 'https://example.com/slow.jpg' }),
      signal: leaving.signal,
    });
    const signal = await entered.promise;
    leaving.abort();
    await expect(search).rejects.toThrow();
    await until('the abort', () => signal.aborted || undefined);
    await other.stop();
    expect(lines).toEqual([]);
  });
});
