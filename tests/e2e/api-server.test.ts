import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { startServer } from '../../src/http/server.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

test('serves, becomes ready, and stops', async () => {
  await using context = await createTestContext({ PORT: '0' });
  const server = await startServer(context);
  await until('readiness', async () => ((await fetch(`${server.url}/readyz`)).ok ? true : undefined));
  const { status } = await fetch(`${server.url}/queue/enqueue`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ product_id: 'a/b', image_url: 'https://example.com/a.jpg' }),
  });
  expect(status).toBe(202);
  expect((await fetch(`${server.url}/products/a%2Fc`)).status).toBe(404);
  const product = await fetch(`${server.url}/products/a%2Fb`);
  expect(await product.json()).toMatchObject({ product_id: 'a/b', images: [{ state: 'pending' }] });
  await server.stop();
  await expect(fetch(`${server.url}/livez`)).rejects.toThrow();
});

test('finishes a running request before it stops, and cuts one that never ends', async () => {
  let answer = (): void => {};
  const asked = Promise.withResolvers<void>();
  await using context = await createTestContext({ PORT: '0', SHUTDOWN_GRACE_MS: '1500' });
  const list: Context['queue']['list'] = async (request) => {
    asked.resolve();
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    return context.queue.list(request);
  };
  const server = await startServer({ ...context, queue: { ...context.queue, list } });
  const { hostname, port } = new URL(server.url);
  const stuck = connect(Number(port), hostname);
  stuck.on('error', () => undefined).resume();
  const cut = once(stuck, 'close');
  stuck.write(
    'POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n',
  );
  const running = fetch(`${server.url}/queue/active`);
  await asked.promise;
  const stopped = server.stop();
  answer();
  expect((await running).status).toBe(200);
  await stopped;
  await cut;
});

test('listens before it connects to anything, and is never ready on a collection of another model', async () => {
  await using context = await createTestContext({ PORT: '0' });
  await context.embedder.start();
  await context.store.ensureCollection({ ...context.embedder.model, fingerprint: 'of another model' });
  const server = await startServer(context);
  try {
    const response = await fetch(`${server.url}/readyz`);
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ code: 'model_mismatch' });
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  } finally {
    await server.stop();
  }
});

test('answers at once although Redis and Qdrant accept connections and say nothing', async () => {
  const connected: Socket[] = [];
  const silent = createServer((socket) => void connected.push(socket));
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as { port: number };
  await using folder = await createTempFolder();
  await using program = startProgram('src/main.ts', {
    PORT: '0',
    DATA_DIR: folder.path,
    MODEL: 'builtin',
    REDIS_URL: `redis://127.0.0.1:${port}`,
    QDRANT_URL: `http://127.0.0.1:${port}`,
  });
  try {
    const url = await until('the address', () => /"url":"([^"]+)"/.exec(program.output)?.[1], 30_000);
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    const from = performance.now();
    const health = await fetch(`${url}/health`);
    expect(performance.now() - from).toBeLessThan(3 * 1_000);
    expect(await health.json()).toMatchObject({
      status: 'degraded',
      dependencies: { queue: { state: 'down', pending: null, spooled: 0 }, store: { state: 'down' } },
    });
    expect((await fetch(`${url}/readyz`)).status).toBe(503);
  } finally {
    for (const socket of connected) socket.destroy();
    silent.close();
  }
});

test('starts without its store, and is ready once it is there', async () => {
  await using context = await createTestContext({ PORT: '0' });
  let isDown = true;
  const ensureCollection: typeof context.store.ensureCollection = async (model) => {
    if (isDown) throw new VitrineError('store_unavailable', 'It is down.');
    return context.store.ensureCollection(model);
  };
  const server = await startServer({ ...context, store: { ...context.store, ensureCollection } });
  const ready = async () => (await fetch(`${server.url}/readyz`)).json() as Promise<{ code?: string }>;
  // Nobody searches: the model is loaded all the same.
  await until('the store to be all that is missing', async () =>
    (await ready()).code === 'store_unavailable' ? true : undefined,
  );
  expect((await fetch(`${server.url}/products/p`)).status).toBe(503);
  isDown = false;
  expect(await ready()).toEqual({ status: 'ok' });
  expect((await fetch(`${server.url}/products/p`)).status).toBe(404);
  await server.stop();
});

test('says plainly that the port is taken', async () => {
  const other = createServer();
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  try {
    const { port } = other.address() as { port: number };
    await using folder = await createTempFolder();
    await using program = startProgram('src/main.ts', {
      PORT: String(port),
      DATA_DIR: folder.path,
      MODEL: 'builtin',
    });
    expect(await program.ended).toBe(1);
    expect(program.output).toContain(`Port ${port} on 127.0.0.1 is used by another program.`);
    expect(program.output).not.toContain('    at ');
  } finally {
    other.close();
  }
});

test('names every faulty setting, and none of their values', async () => {
  await using program = startProgram('src/main.ts', { PORT: 'hunter2', RETRY_JITTER: '7' });
  expect(await program.ended).toBe(1);
  expect(program.output).toMatch(/PORT must be .*RETRY_JITTER must be/s);
  expect(program.output).not.toContain('hunter2');
});

test('ends by itself on SIGTERM, with code 0', async () => {
  await using folder = await createTempFolder();
  await using program = startProgram('src/main.ts', { PORT: '0', DATA_DIR: folder.path, MODEL: 'builtin' });
  await until('the address', () => (program.output.includes('"listening"') ? true : undefined));
  expect(await program.stop()).toBe(0);
});
