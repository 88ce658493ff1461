import { readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createApiKey } from '../../src/config/api-keys.ts';
import type { Context } from '../../src/context.ts';
import { createApp } from '../../src/http/app.ts';
import { createWorker } from '../../workers/worker.ts';
import { png } from '../fixtures/hostile/containers.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { root } from '../support/program.ts';
import { until } from '../support/until.ts';

let stack: AsyncDisposableStack;
let folder: string;
let context: Context;
let app: ReturnType<typeof createApp>;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = stack.use(await createTempFolder()).path;
  context = stack.use(await createTestContext({ IMAGE_ROOTS: folder, IMAGE_ALLOWED_HOSTS: '127.0.0.1' }));
  app = createApp(context);
});
afterEach(() => stack.disposeAsync());

async function index(...jobs: readonly object[]): Promise<void> {
  const answer = await app.request('/queue/enqueue/batch', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(jobs),
  });
  expect(await answer.json()).toMatchObject({ accepted: jobs.length, rejected: [] });
  await createWorker(context).run({ once: true });
}

const thumbnailOf = async (productId: string, headers: Record<string, string> = {}, imageId = 'main') =>
  app.request(`/products/${productId}/images/${imageId}/thumbnail`, { headers });

async function readPicture(answering: Promise<Response>) {
  const answer = await answering;
  expect(answer.status, await answer.clone().text()).toBe(200);
  expect(answer.headers.get('content-type')).toBe('image/jpeg');
  return sharp(await answer.arrayBuffer());
}

async function readFailure(answering: Promise<Response>) {
  const answer = await answering;
  return { status: answer.status, code: ((await answer.json()) as { code: string }).code };
}

/** A host of images that counts what it is asked for. */
async function serve(handle: RequestListener): Promise<{ readonly url: string; readonly asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    handle(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** The names of what is kept. */
async function files(): Promise<readonly string[]> {
  const names = await readdir(context.config.thumbnails.folder, { recursive: true }).catch(() => []);
  return names.filter((name) => name.endsWith('.jpg'));
}

const drawLarge = (seed: number) => drawImage(seed, 800);

describe('GET /products/{product_id}/images/{image_id}/thumbnail', () => {
  test('makes a small picture from a URL once, and keeps it', async () => {
    const image = await drawLarge(1);
    const host = await serve((_, response) => response.end(image));
    await index({ product_id: 'p', image_url: `${host.url}/a.png` });
    expect(host.asked).toHaveLength(1);

    const picture = await readPicture(thumbnailOf('p'));
    expect(await picture.metadata()).toMatchObject({ format: 'jpeg', width: 320, height: 320 });
    await readPicture(thumbnailOf('p'));
    expect(host.asked).toHaveLength(2);
    expect(await files()).toHaveLength(1);
  });

  test('makes one from a file', async () => {
    await writeFile(join(folder, 'a.png'), await drawImage(1, 100));
    await index({ product_id: 'p', image_path: 'a.png' });
    const picture = await readPicture(thumbnailOf('p'));
    // A small picture stays as it is.
    expect(await picture.metadata()).toMatchObject({ width: 100, height: 100 });
  });

  test('has one of an image that was sent inline, and of an uploaded file', async () => {
    const image = await drawLarge(1);
    await index({ product_id: 'inline', image_base64: image.toString('base64') });
    const form = new FormData();
    form.append('product_id', 'form');
    form.append('image', new Blob([new Uint8Array(await drawLarge(2))]));
    expect((await app.request('/queue/enqueue', { method: 'POST', body: form })).status).toBe(202);
    await createWorker(context).run({ once: true });
    for (const id of ['inline', 'form']) {
      const picture = await readPicture(thumbnailOf(id));
      expect(await picture.metadata()).toMatchObject({ width: 320, height: 320 });
    }
  });

  test('shows it upright, without metadata, in its own proportions', async () => {
    const upright = sharp(join(root, 'tests/fixtures/golden/images/baseline-420.jpg'));
    const { width, height } = await upright.metadata();
    const rotated = await upright
      .clone()
      .rotate(90)
      .withMetadata({ orientation: 8 })
      .jpeg({ quality: 100 })
      .toBuffer();
    await writeFile(join(folder, 'rotated.jpg'), rotated);
    await index({ product_id: 'p', image_path: 'rotated.jpg' });
    const picture = await readPicture(thumbnailOf('p'));
    const metadata = await picture.metadata();
    expect(metadata.exif).toBeUndefined();
    expect(metadata.width / metadata.height).toBeCloseTo(width / height, 1);
    const size = { width: 32, height: 32, fit: 'fill' } as const;
    const [seen, meant] = await Promise.all(
      [picture, upright].map((each) => each.resize(size).removeAlpha().raw().toBuffer()),
    );
    const difference = seen!.reduce((sum, level, at) => sum + Math.abs(level - meant![at]!), 0);
    expect(difference / seen!.length).toBeLessThan(8);
  });
});

describe('a cached thumbnail', () => {
  test('has an ETag, is private where keys are required, and is answered with 304', async () => {
    await index({ product_id: 'p', image_base64: (await drawLarge(1)).toString('base64') });
    const first = await thumbnailOf('p');
    const etag = first.headers.get('etag')!;
    expect(first.headers.get('cache-control')).toBe('public, max-age=60');
    const again = await thumbnailOf('p', { 'If-None-Match': `"other", ${etag}` });
    expect([again.status, again.headers.get('etag'), await again.text()]).toEqual([304, etag, '']);
    expect((await thumbnailOf('p', { 'If-None-Match': '"other"' })).status).toBe(200);

    const { key, entry } = createApiKey('page', ['search']);
    const config = { ...context.config, access: { ...context.config.access, keys: [entry] } };
    app = createApp({ ...context, config, thumbnails: context.thumbnails });
    expect(await readFailure(thumbnailOf('p'))).toMatchObject({ status: 401 });
    const mine = await thumbnailOf('p', { Authorization: `Bearer ${key}` });
    expect([mine.status, mine.headers.get('cache-control')]).toEqual([200, 'private, max-age=60']);
  });

  test('goes with its image and with its product', async () => {
    const inline = async (seed: number) => ({ image_base64: (await drawLarge(seed)).toString('base64') });
    await index(
      { product_id: 'p', image_id: 'a', ...(await inline(1)) },
      { product_id: 'p', image_id: 'b', ...(await inline(2)) },
      { product_id: 'q', ...(await inline(3)) },
    );
    expect(await files()).toHaveLength(3);
    await app.request('/products/p/images/a', { method: 'DELETE' });
    expect(await readFailure(thumbnailOf('p', {}, 'a'))).toEqual({ status: 404, code: 'product_not_found' });
    expect(await files()).toHaveLength(2);
    await app.request('/products/p', { method: 'DELETE' });
    expect(await readFailure(thumbnailOf('p', {}, 'b'))).toEqual({ status: 404, code: 'product_not_found' });
    expect(await files()).toHaveLength(1);
    await readPicture(thumbnailOf('q'));
  });

  test.each(['inline', 'URL'])('of an image by %s is replaced with a new version', async (kind) => {
    const images = [await drawLarge(1), await drawLarge(2)];
    const host = await serve(({ url }, response) => response.end(images[Number(url?.slice(1))]));
    const toJob = (index: number) => ({
      product_id: 'p',
      ...(kind === 'URL'
        ? { image_url: `${host.url}/${index}` }
        : { image_base64: images[index]!.toString('base64') }),
    });
    await index(toJob(0));
    const first = await thumbnailOf('p');
    await index(toJob(1));
    const second = await thumbnailOf('p', { 'If-None-Match': first.headers.get('etag')! });
    expect(second.status).toBe(200);
    expect(Buffer.from(await second.arrayBuffer())).not.toEqual(Buffer.from(await first.arrayBuffer()));
    expect(await files()).toHaveLength(1);
  });

  test('is not kept for a product that was deleted while it was made', async () => {
    const image = await drawLarge(1);
    const begun = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const host = await serve(async (_, response) => {
      if (host.asked.length > 1) {
        begun.resolve();
        await go.promise;
      }
      response.end(image);
    });
    await index({ product_id: 'p', image_url: `${host.url}/a.png` });
    const asked = thumbnailOf('p');
    await begun.promise;
    await app.request('/products/p', { method: 'DELETE' });
    go.resolve();
    await asked;
    expect(await files()).toEqual([]);
  });
});

describe('what has none', () => {
  test('is not found when the product or the image is unknown', async () => {
    await index({ product_id: 'p', image_base64: (await drawImage(1)).toString('base64') });
    const missing = { status: 404, code: 'product_not_found' };
    expect(await readFailure(thumbnailOf('nothing'))).toEqual(missing);
    expect(await readFailure(thumbnailOf('p', {}, 'other'))).toEqual(missing);
    const optional = '/products/nothing/images/main/thumbnail?optional=true';
    expect((await createApp(context).request(optional)).status).toBe(204);
  });

  test('is not found when an inline image lost its own', async () => {
    await index({ product_id: 'p', image_base64: (await drawImage(1)).toString('base64') });
    await rm(context.config.thumbnails.folder, { recursive: true });
    expect(await readFailure(thumbnailOf('p'))).toEqual({ status: 404, code: 'thumbnail_not_found' });
  });

  test('says why its source fails, and does not ask it at every view', async () => {
    const image = await drawLarge(1);
    let isGone = false;
    const host = await serve((_, response) => {
      response.statusCode = isGone ? 404 : 200;
      response.end(image);
    });
    await index({ product_id: 'p', image_url: `${host.url}/a.png` });
    isGone = true;
    const failure = { status: 422, code: 'image_not_found' };
    expect(await readFailure(thumbnailOf('p'))).toEqual(failure);
    expect(await readFailure(thumbnailOf('p'))).toEqual(failure);
    expect(host.asked).toHaveLength(2);
  });

  test.each([
    ['is a bomb', async () => png({ width: 20_000, height: 20_000 }, 1_000), 'image_too_many_pixels'],
    ['is no image', async () => Buffer.from('<html>'), 'image_unsupported'],
    ['is cut off', async () => (await drawLarge(1)).subarray(0, 900), 'image_corrupt'],
  ])('has the code of indexing when the picture %s by now', async (_, draw, code) => {
    let image = await drawLarge(1);
    const host = await serve((__, response) => response.end(image));
    await index({ product_id: 'p', image_url: `${host.url}/a.png` });
    image = await draw();
    expect(await readFailure(thumbnailOf('p'))).toEqual({ status: 422, code });
    expect(await files()).toEqual([]);
  });
});

describe('many thumbnails', () => {
  test('of one picture share one fetch', async () => {
    const image = await drawLarge(1);
    const host = await serve((_, response) => void setTimeout(() => response.end(image), 50));
    await index({ product_id: 'p', image_url: `${host.url}/a.png` });
    await Promise.all(Array.from({ length: 20 }, async () => readPicture(thumbnailOf('p'))));
    expect(host.asked).toHaveLength(2);
  });

  test('are made few at a time, and those that nobody waits for any more are not begun', async () => {
    const image = await drawLarge(1);
    const held: (() => void)[] = [];
    let holds = false;
    const host = await serve((_, response) => {
      const answer = () => response.end(image);
      if (holds) held.push(answer);
      else answer();
    });
    const ids = Array.from({ length: 40 }, (_, index) => `p${index}`);
    await index(...ids.map((id) => ({ product_id: id, image_url: `${host.url}/${id}` })));
    host.asked.length = 0;
    holds = true;
    const leaving = new AbortController();
    const ask = (id: string, signal: AbortSignal | null) =>
      app.request(new Request(`http://localhost/products/${id}/images/main/thumbnail`, { signal }));
    const gone = ids.slice(0, 30).map((id) => ask(id, leaving.signal));
    await until('as many fetches as are allowed', () => held.length >= 8 || undefined);
    await delay(200);
    expect(held).toHaveLength(8);

    leaving.abort();
    holds = false;
    for (const id of ids.slice(30)) expect((await ask(id, null)).status).toBe(200);
    await Promise.all(gone);
    expect(host.asked).toHaveLength(8 + 10);
  });

  test('of a host that hangs hold up no others, no search and no probe', async () => {
    const image = await drawLarge(1);
    let hangs = false;
    const host = await serve((_, response) => void (hangs || response.end(image)));
    const quick = await serve((_, response) => response.end(image));
    await writeFile(join(folder, 'a.png'), image);
    const ids = Array.from({ length: 60 }, (_, index) => `p${index}`);
    await index(
      ...ids.map((id) => ({ product_id: id, image_url: `${host.url}/${id}` })),
      { product_id: 'file', image_path: 'a.png' },
      { product_id: 'quick', image_url: `${quick.url}/a.png` },
    );
    hangs = true;
    host.asked.length = 0;
    const leaving = new AbortController();
    const { signal } = leaving;
    const hanging = ids.map((id) =>
      app.request(new Request(`http://localhost/products/${id}/images/main/thumbnail`, { signal })),
    );
    await until('fetches that hang', () => host.asked.length === 8 || undefined);

    await readPicture(thumbnailOf('file'));
    await readPicture(thumbnailOf('quick'));
    const search = await app.request('/search', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ image_url: `${quick.url}/a.png`, limit: 1 }),
    });
    expect(search.status).toBe(200);
    expect((await app.request('/livez')).status).toBe(200);
    expect(host.asked).toHaveLength(8);
    leaving.abort();
    await Promise.all(hanging);
  });
});
