import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../src/observability/clock.ts';
import type { VectorStore } from '../../src/vectors/port.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { byImage, TEST_MODEL, toPoint } from '../support/points.ts';
import { type FaultOptions, type QdrantDouble, startQdrantDouble } from '../support/qdrant-double.ts';
import { until } from '../support/until.ts';

const apiKey = 'very-secret-key';
const COLLECTION = 'products';
/** No call runs into it, however slow the machine. */
const AMPLE_MS = 60_000;
const onUpsert: FaultOptions = { only: (seen) => seen.method === 'PUT' && seen.path.endsWith('/points') };

let double: QdrantDouble;
const opened: VectorStore[] = [];

interface OpenSettings {
  readonly url?: string;
  readonly timeoutMs?: number;
  readonly apiKey?: string;
  readonly clock?: Clock;
}

const open = (settings: OpenSettings = {}): VectorStore => {
  const store = createQdrantVectorStore({
    url: double.url,
    apiKey,
    collection: COLLECTION,
    timeoutMs: AMPLE_MS,
    ...settings,
  });
  opened.push(store);
  return store;
};

/** Time passes only in sleeps, which return at once. */
function createSleepingClock(): Clock & { readonly slept: number[] } {
  const slept: number[] = [];
  const passed = (): number => slept.reduce((sum, ms) => sum + ms, 0);
  return {
    slept,
    now: () => Date.UTC(2030, 0, 1) + passed(),
    monotonic: passed,
    startTimer: () => ({ [Symbol.dispose]: () => undefined }),
    sleep: async (ms) => void slept.push(ms),
  };
}

beforeEach(async () => {
  double = await startQdrantDouble({ apiKey });
  await open().ensureCollection(TEST_MODEL);
});

afterEach(async () => {
  for (const store of opened.splice(0)) await store[Symbol.asyncDispose]();
  await double[Symbol.asyncDispose]();
  expect(double.violations).toEqual([]);
});

describe('what may pass is tried again', () => {
  it.each([
    ['a connection that is cut', 'reset'],
    ['an answer that breaks off', 'cut'],
    ['an update that is only acknowledged', 'acknowledged'],
    ['HTTP 500', { status: 500 }],
    ['HTTP 503', { status: 503 }],
    ['HTTP 429 without Retry-After', { status: 429 }],
    ['HTTP 408', { status: 408 }],
    ['a page of a proxy', { status: 200, headers: { 'content-type': 'text/html' }, body: '<h1>Hello</h1>' }],
  ] as const)('%s', async (_, fault) => {
    const store = open({ clock: createSleepingClock() });
    double.fail(fault, { ...onUpsert, times: 2 });
    await store.upsert([toPoint('p', 0)]);
    expect(await store.count()).toBe(1);
    expect(double.requests.filter((seen) => onUpsert.only?.(seen))).toHaveLength(3);
  });

  it('a server that is unreachable for a while', async () => {
    const port = Number(new URL(double.url).port);
    const clock = createSleepingClock();
    const back: QdrantDouble[] = [];
    const sleep = async (ms: number): Promise<void> => {
      if (clock.slept.push(ms) === 3) back.push(await startQdrantDouble({ apiKey, port }));
    };
    const store = open({ clock: { ...clock, sleep } });
    await double[Symbol.asyncDispose]();
    expect(await store.collectionModel()).toBeNull();
    expect(clock.slept).toHaveLength(3);
    await back[0]?.[Symbol.asyncDispose]();
  });

  it('with growing pauses, until the deadline', async () => {
    const clock = createSleepingClock();
    double.fail({ status: 500 }, { ...onUpsert, times: Number.POSITIVE_INFINITY });
    await expect(open({ clock }).upsert([toPoint('p', 0)])).rejects.toMatchObject({
      code: 'store_unavailable',
      message: 'Qdrant answered with HTTP status 500.',
    });
    expect(clock.slept.length).toBeGreaterThan(5);
    expect(clock.slept.at(-1)!).toBeGreaterThan(clock.slept[0]! * 4);
    expect(clock.monotonic()).toBeLessThan(AMPLE_MS);
  });

  it('an update that is never completed is an error', async () => {
    double.fail('acknowledged', { ...onUpsert, times: Number.POSITIVE_INFINITY });
    await expect(open({ clock: createSleepingClock() }).upsert([toPoint('p', 0)])).rejects.toMatchObject({
      code: 'store_unavailable',
      message: 'Qdrant reports the update as "acknowledged", not completed.',
    });
  });
});

describe('Retry-After', () => {
  it.each([
    ['in seconds', '12', 12_000],
    ['as a date', 'Tue, 01 Jan 2030 00:00:37 GMT', 37_000],
  ])('%s is waited for in full', async (_, header, expectedMs) => {
    const clock = createSleepingClock();
    double.fail({ status: 429, headers: { 'retry-after': header } }, onUpsert);
    await open({ clock }).upsert([toPoint('p', 0)]);
    expect(clock.slept).toHaveLength(1);
    expect(clock.slept[0]).toBeGreaterThanOrEqual(expectedMs);
  });

  it('beyond the deadline is reported to the caller, not cut short', async () => {
    double.fail({ status: 429, headers: { 'retry-after': '3600' } }, onUpsert);
    await expect(open().upsert([toPoint('p', 0)])).rejects.toMatchObject({
      code: 'store_unavailable',
      retryAfterMs: 3_600_000,
    });
    expect(double.requests.filter((seen) => onUpsert.only?.(seen))).toHaveLength(1);
  });
});

describe('answers that come too late', () => {
  it('end in store_unavailable', async () => {
    double.fail('silent', { times: Number.POSITIVE_INFINITY });
    await expect(open({ timeoutMs: 300 }).count()).rejects.toMatchObject({
      code: 'store_unavailable',
      message: 'Qdrant did not answer in time.',
    });
  });

  it('end a ping after a second, with a single request', async () => {
    double.fail('silent', { times: Number.POSITIVE_INFINITY });
    const [seenBefore, startedAt] = [double.requests.length, performance.now()];
    await expect(open().ping()).rejects.toMatchObject({
      code: 'store_unavailable',
      message: 'Qdrant did not answer in time.',
    });
    const tookMs = performance.now() - startedAt;
    expect(tookMs).toBeGreaterThan(900);
    expect(tookMs).toBeLessThan(AMPLE_MS / 3);
    expect(double.requests).toHaveLength(seenBefore + 1);
  });

  it('are not awaited by a ping of a server that is unreachable: it fails at once', async () => {
    const clock = createSleepingClock();
    const store = open({ clock });
    await double[Symbol.asyncDispose]();
    await expect(store.ping()).rejects.toMatchObject({ message: 'No connection to Qdrant.' });
    expect(clock.slept).toEqual([]);
  });

  it("don't let the repeated write undo a newer one", async () => {
    const slow = open({ timeoutMs: 6_000 });
    double.fail('late', onUpsert);
    const write = slow.upsert([toPoint('p', 0, { version: 1, category: 'old' })]);
    await until('the write is seen', () => double.requests.find((seen) => onUpsert.only?.(seen)));
    await open().upsert([toPoint('p', 0, { version: 2, category: 'new' })]);
    await write;
    expect((await slow.getProduct('p')).map((point) => point.payload.category)).toEqual(['new']);
  });

  it("don't make two collections", async () => {
    const store = createQdrantVectorStore({ url: double.url, apiKey, collection: 'late', timeoutMs: 6_000 });
    opened.push(store);
    double.fail('late', { only: (seen) => seen.method === 'PUT' && seen.path === '/collections/late' });
    await store.ensureCollection(TEST_MODEL);
    expect(await store.collectionModel()).toEqual(TEST_MODEL);
  });

  it('are not waited for after the store is closed', async () => {
    const store = open();
    double.fail('silent', { times: Number.POSITIVE_INFINITY });
    const seenBefore = double.requests.length;
    const ping = expect(store.ping()).rejects.toMatchObject({ code: 'store_unavailable' });
    await until('the ping is seen', () => double.requests[seenBefore]);
    await store[Symbol.asyncDispose]();
    await ping;
  });
});

describe('what will not pass is reported at once', () => {
  it('a refusal, in the words of Qdrant but without the key', async () => {
    const sentence = `Wrong input: the key ${apiKey} is no vector`;
    const body = JSON.stringify({ status: { error: sentence }, time: 0 });
    double.fail({ status: 400, headers: { 'content-type': 'application/json' }, body }, onUpsert);
    await expect(open().upsert([toPoint('p', 0)])).rejects.toMatchObject({
      code: 'store_rejected',
      message: 'Qdrant refused: Wrong input: the key *** is no vector',
    });
  });

  it.each([
    ['another API key', { apiKey: 'wrong' }],
    ['no API key', { apiKey: '' }],
  ])('%s', async (_, settings) => {
    const seenBefore = double.requests.length;
    await expect(open(settings).count()).rejects.toMatchObject({
      code: 'store_unavailable',
      message: 'Qdrant refused the API key.',
    });
    expect(double.requests).toHaveLength(seenBefore + 1);
  });

  it('a redirect, which would carry the API key elsewhere', async () => {
    await using elsewhere = await startQdrantDouble();
    double.fail({ status: 307, headers: { location: `${elsewhere.url}/collections/products/exists` } });
    await expect(open().ping()).rejects.toMatchObject({ code: 'store_rejected' });
    expect(elsewhere.requests).toEqual([]);
  });

  it.each(['1.15.5', '1.9.7', '0.11.0'])('a server that is too old: %s', async (version) => {
    await using old = await startQdrantDouble({ version });
    const settings = { url: old.url, collection: COLLECTION, timeoutMs: AMPLE_MS };
    await using store = createQdrantVectorStore(settings);
    await expect(store.ensureCollection(TEST_MODEL)).rejects.toMatchObject({
      code: 'store_rejected',
      message: `Qdrant is ${version}; Vitrine needs 1.16 or later.`,
    });
    expect(old.requests).toHaveLength(1);
  });

  it.each(['1.16.0', '1.100.1', '2.0.0', 'dev'])('but not a server of version %s', async (version) => {
    await using newer = await startQdrantDouble({ version });
    const settings = { url: newer.url, collection: COLLECTION, timeoutMs: AMPLE_MS };
    await using store = createQdrantVectorStore(settings);
    await expect(store.ensureCollection(TEST_MODEL)).resolves.toBeUndefined();
  });

  it('a metadata key that Qdrant has no path for', async () => {
    const filter = { metadata: { 'a"b': 1 } };
    const search = open().search({
      parts: [byImage(toPoint('p', 0).vector)],
      limit: 1,
      groupByProduct: false,
      filter,
    });
    await expect(search).rejects.toMatchObject({ code: 'invalid_request' });
  });

  it('a collection that somebody else made', async () => {
    await fetch(`${double.url}/collections/foreign`, {
      method: 'PUT',
      headers: { 'api-key': apiKey, 'content-type': 'application/json' },
      body: JSON.stringify({ vectors: { image: { size: 4, distance: 'Cosine' } } }),
    });
    const store = createQdrantVectorStore({
      url: double.url,
      apiKey,
      collection: 'foreign',
      timeoutMs: AMPLE_MS,
    });
    opened.push(store);
    await expect(store.ensureCollection(TEST_MODEL)).rejects.toMatchObject({ code: 'model_mismatch' });
  });
});

describe('a deletion', () => {
  it('that breaks off at any of its requests is completed when it is repeated', async () => {
    const tried: string[] = [];
    for (let broken = 0; ; broken += 1) {
      const productId = `broken-${broken}`;
      const store = open({ clock: createSleepingClock() });
      await store.upsert([toPoint(productId, 0), toPoint(productId, 0, { imageId: 'b' })]);
      let [seen, failed] = [0, false];
      double.fail(
        { status: 418 },
        {
          only: () => {
            failed ||= seen === broken;
            return seen++ === broken;
          },
        },
      );
      const first = await store.deleteProduct(productId, 10, ['c']).catch((error) => error.code as string);
      if (!failed) break;
      tried.push(String(first));
      await store.deleteProduct(productId, 11, []);
      const late = ['main', 'b', 'c', 'd'].map((imageId) => toPoint(productId, 0, { imageId, version: 9 }));
      expect(await store.upsert(late)).toEqual(late.map(() => 'deleted'));
      expect(await store.getProduct(productId)).toEqual([]);
    }
    expect(tried).toEqual(['store_rejected', 'store_rejected', 'store_rejected']);
  });
});

describe('a collection of an earlier version, without sequences', () => {
  const send = async (path: string, body: unknown, method = 'PUT'): Promise<void> => {
    const headers = { 'api-key': apiKey, 'content-type': 'application/json' };
    const answer = await fetch(`${double.url}/collections/old${path}`, {
      method,
      headers,
      body: JSON.stringify(body),
    });
    expect(answer.status).toBe(200);
  };

  it('gets the missing indexes, and its points and tombstones are older than what is written now', async () => {
    await send('', {
      vectors: { image: { size: 4, distance: 'Cosine' } },
      metadata: { vitrine: { model: TEST_MODEL.id, dimension: 4, fingerprint: TEST_MODEL.fingerprint } },
    });
    await send('/index?wait=true', { field_name: 'version', field_schema: 'integer' });
    const image = (productId: string, version: number, rest: object = {}) => ({
      id: toPoint(productId, 0).id,
      vector: 'deleted' in rest ? {} : { image: [1, 0, 0, 0] },
      payload: { product_id: productId, image_id: 'main', version, ...rest },
    });
    await send('/points?wait=true', {
      points: [
        image('same', 5, { indexed_at: 1 }),
        image('higher', 9, { indexed_at: 1 }),
        image('gone', 6, { deleted: true, deleted_at: 1 }),
        image('deleted', 9, { indexed_at: 1 }),
      ],
    });

    const store = createQdrantVectorStore({
      url: double.url,
      apiKey,
      collection: 'old',
      timeoutMs: AMPLE_MS,
    });
    opened.push(store);
    await store.ensureCollection(TEST_MODEL);
    const indexed = double.requests.filter((seen) => seen.path === '/collections/old/index').slice(1);
    const bodies = indexed.map((seen) => seen.body);
    // No search by vectors is narrowed with a sequence.
    const sequence = { field_name: 'sequence', field_schema: { type: 'integer', enable_hnsw: false } };
    expect(bodies).toContainEqual(sequence);
    expect(bodies).toContainEqual({ field_name: 'price', field_schema: 'float' });
    expect(await store.count()).toBe(3);
    expect((await store.getProduct('same'))[0]?.payload).toEqual({
      productId: 'same',
      imageId: 'main',
      imageRef: null,
      contentHash: '',
      version: 5,
      sequence: 0,
      indexedAt: 1,
    });
    const writes = ['same', 'higher', 'gone'].map((id) => toPoint(id, 0, { version: 5, sequence: 100 }));
    expect(await store.upsert(writes)).toEqual(['indexed', 'superseded', 'indexed']);
    expect(await store.deleteProduct('deleted', 200, [])).toBe(1);
    const back = toPoint('deleted', 0, { version: 1, sequence: 201 });
    expect(await store.upsert([back])).toEqual(['indexed']);
    expect(await store.count()).toBe(4);
  });
});

describe('on the wire', () => {
  it('indexes are made before the first point, and a half-made collection is completed', async () => {
    const store = createQdrantVectorStore({
      url: double.url,
      apiKey,
      collection: 'half',
      timeoutMs: AMPLE_MS,
    });
    opened.push(store);
    const isIndex = (seen: { path: string }): boolean => seen.path === '/collections/half/index';
    double.fail(
      { status: 400 },
      { only: (seen) => isIndex(seen) && JSON.stringify(seen.body).includes('"tags"') },
    );
    await expect(store.ensureCollection(TEST_MODEL)).rejects.toMatchObject({ code: 'store_rejected' });
    double.requests.length = 0;
    await store.ensureCollection(TEST_MODEL);
    const fields = double.requests
      .filter(isIndex)
      .map((seen) => (seen.body as { field_name: string }).field_name);
    expect(fields).toEqual([
      'tags',
      'price',
      'version',
      'sequence',
      'last_deletion',
      'data_revision',
      'words_version',
      'deleted',
      'deleted_at',
    ]);
  });

  it('128 points per request at most, each waited for', async () => {
    const points = Array.from({ length: 300 }, (_, index) => toPoint(`p${index}`, 0, { version: index % 7 }));
    double.requests.length = 0;
    await open().upsert(points);
    const upserts = double.requests.filter((seen) => onUpsert.only?.(seen));
    expect(upserts.map((seen) => (seen.body as { points: unknown[] }).points.length)).toEqual([128, 128, 44]);
    expect(upserts.every((seen) => seen.query === 'wait=true')).toBe(true);
    const reads = double.requests.filter((seen) => seen.method === 'POST');
    // Before and after each write: the points, and per product or image two tombstones and the changes of the data.
    expect(reads.map((seen) => (seen.body as { ids: unknown[] }).ids.length)).toEqual([
      512, 512, 512, 512, 176, 176,
    ]);
  });

  it.each([
    ['a path', '/qdrant/v1', '/qdrant/v1/collections/products/exists'],
    ['a path with a slash at its end', '/qdrant/', '/qdrant/collections/products/exists'],
  ])('%s in QDRANT_URL comes before the API', async (_, path, expected) => {
    double.fail({ status: 418 });
    await expect(open({ url: `${double.url}${path}` }).ping()).rejects.toMatchObject({
      code: 'store_rejected',
    });
    expect(double.requests.at(-1)?.path).toBe(expected);
  });

  it('no log line has the API key', async () => {
    const lines: string[] = [];
    const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const store = createQdrantVectorStore({
      url: double.url,
      apiKey,
      collection: COLLECTION,
      timeoutMs: AMPLE_MS,
      logger,
      clock: createSleepingClock(),
    });
    opened.push(store);
    double.fail({ status: 503, body: apiKey }, onUpsert);
    await store.upsert([toPoint('p', 0)]);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('Qdrant failed; trying again');
    expect(lines[0]).not.toContain(apiKey);
  });
});
