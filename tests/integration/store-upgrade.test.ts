import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, describe, expect, it } from 'vitest';
import type { VectorStore } from '../../src/vectors/port.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { createSqliteVectorStore } from '../../src/vectors/sqlite/vector-store.ts';
import { byImage, byWords, TEST_MODEL, toPoint } from '../support/points.ts';
import { type QdrantDouble, startQdrantDouble } from '../support/qdrant-double.ts';

// Collections of an earlier version of Vitrine, or of another LANGUAGE, become searchable by words without embedding.

const POINTS = 300;
const folder = mkdtempSync(join(tmpdir(), 'vitrine-upgrade-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const find = async (store: VectorStore, text: string): Promise<number> =>
  (await store.search({ parts: [byWords(text)], limit: 1_000, groupByProduct: true })).length;

/** As the first version with sequences wrote its points: no words, no changes. */
const toOldPayload = (index: number) => ({
  name: `Red mug ${index}`,
  version: 5,
  sequence: 5,
});

describe('a SQLite file of the previous format', () => {
  it('is upgraded with its points, and its products are found by their words', async () => {
    const file = join(folder, 'old.sqlite');
    const database = new DatabaseSync(file);
    database.exec(`
      CREATE TABLE vector_collections (
        name TEXT PRIMARY KEY, model_id TEXT NOT NULL, dimension INTEGER NOT NULL, fingerprint TEXT NOT NULL
      ) STRICT;
      CREATE TABLE vector_points (
        collection TEXT NOT NULL, id TEXT NOT NULL, product_id TEXT NOT NULL, image_id TEXT NOT NULL,
        version INTEGER NOT NULL, deleted_at INTEGER, payload TEXT NOT NULL, vector BLOB NOT NULL,
        sequence INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (collection, id)
      ) STRICT;
      CREATE INDEX vector_points_by_product ON vector_points (collection, product_id);
      PRAGMA user_version = 1;
    `);
    database
      .prepare('INSERT INTO vector_collections VALUES (?, ?, ?, ?)')
      .run('c', TEST_MODEL.id, TEST_MODEL.dimension, TEST_MODEL.fingerprint);
    const insert = database.prepare('INSERT INTO vector_points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)');
    for (let index = 0; index < POINTS; index += 1) {
      const { id, vector, payload } = toPoint(`p${index}`, index / 10, toOldPayload(index));
      const blob = new Uint8Array(vector.buffer);
      insert.run('c', id, payload.productId, 'main', 5, null, JSON.stringify(payload), blob, 5);
    }
    database.close();

    const stores = [1, 2, 3].map(() => createSqliteVectorStore({ file, collection: 'c' }));
    await Promise.all(stores.map((store) => store.ensureCollection(TEST_MODEL)));
    const [store] = stores as [VectorStore];
    expect(await store.count()).toBe(POINTS);
    expect(await find(store, 'red mug')).toBe(POINTS);
    const [best] = await store.search({ parts: [byImage()], limit: 1, groupByProduct: true });
    expect(best?.payload).toEqual(toPoint('p0', 0, toOldPayload(0)).payload);
    expect(await store.upsert([toPoint('p0', 0, { version: 4 })])).toEqual(['superseded']);
    for (const opened of stores) await opened[Symbol.asyncDispose]();
  });
});

describe('a Qdrant collection of the previous version', () => {
  async function startOld(version?: string): Promise<QdrantDouble> {
    const double = await startQdrantDouble(version === undefined ? {} : { version });
    const send = async (method: string, path: string, body: object): Promise<void> => {
      const response = await fetch(`${double.url}/collections/old${path}`, {
        method,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      expect(response.status).toBe(200);
    };
    await send('PUT', '', {
      vectors: { image: { size: TEST_MODEL.dimension, distance: 'Cosine' } },
      metadata: { vitrine: { model: TEST_MODEL.id, dimension: 4, fingerprint: TEST_MODEL.fingerprint } },
    });
    const points = Array.from({ length: POINTS }, (_, index) => {
      const { id, vector } = toPoint(`p${index}`, index / 10);
      const payload = { product_id: `p${index}`, image_id: 'main', ...toOldPayload(index) };
      return { id, vector: { image: [...vector] }, payload };
    });
    await send('PUT', '/points?wait=true', { points });
    return double;
  }
  const openAt = (double: QdrantDouble): VectorStore =>
    createQdrantVectorStore({ url: double.url, collection: 'old', timeoutMs: 30_000 });

  it('is upgraded by several processes at once, and its products are found by their words', async () => {
    await using double = await startOld();
    const stores = [1, 2, 3].map(() => openAt(double));
    await Promise.all(stores.map((store) => store.ensureCollection(TEST_MODEL)));
    const [store] = stores as [VectorStore];
    expect(await store.count()).toBe(POINTS);
    expect(await find(store, 'red mug')).toBe(POINTS);
    const [best] = await store.search({ parts: [byImage()], limit: 1, groupByProduct: true });
    expect(best).toMatchObject({ score: 1, payload: { name: 'Red mug 0', version: 5, sequence: 5 } });
    expect(await store.upsert([toPoint('p0', 0, { version: 4 })])).toEqual(['superseded']);
    expect(await store.updateProduct('p1', { name: 'Cup' }, 10)).toBe(1);
    expect(await find(store, 'mug')).toBe(POINTS - 1);

    const written = () =>
      double.requests.filter(({ method, path }) => method === 'PUT' && path.endsWith('/points'));
    const before = written().length;
    await store.ensureCollection(TEST_MODEL);
    expect(written().length).toBe(before);
    for (const opened of stores) await opened[Symbol.asyncDispose]();
    expect(double.violations).toEqual([]);
  });

  it('goes on where an upgrade was cut off', async () => {
    await using double = await startOld();
    await using store = openAt(double);
    const isWrite = ({ method, path }: { method: string; path: string }) =>
      method === 'PUT' && path.endsWith('/points');
    let writes = 0;
    double.fail({ status: 400 }, { only: (seen) => isWrite(seen) && ++writes === 2 });
    await expect(store.ensureCollection(TEST_MODEL)).rejects.toMatchObject({ code: 'store_rejected' });
    await store.ensureCollection(TEST_MODEL);
    expect(await find(store, 'red mug')).toBe(POINTS);
    // 128 before, then the rest.
    const sizes = double.requests
      .filter(isWrite)
      .map(({ body }) => (body as { points: unknown[] }).points.length);
    expect(sizes).toEqual([POINTS, 128, 128, 128, POINTS - 256]);
  });

  it("doesn't overwrite what is written in the meantime", async () => {
    await using double = await startOld();
    await using store = openAt(double);
    await using other = openAt(double);
    double.before(
      ({ method, path }) => method === 'PUT' && path.endsWith('/points'),
      async () => {
        await other.upsert([toPoint('p0', 0, { name: 'Green cup', version: 6 })]);
        await other.updateProduct('p1', { name: 'Blue cup' }, 7);
        await other.deleteProduct('p2', 8, ['main']);
      },
    );
    await store.ensureCollection(TEST_MODEL);
    expect(await find(store, 'mug')).toBe(POINTS - 3);
    expect(await find(store, 'cup')).toBe(2);
    expect(await store.count()).toBe(POINTS - 1);
  });

  it('needs Qdrant 1.18, and says so', async () => {
    await using double = await startOld('1.17.1');
    await using store = openAt(double);
    await expect(store.ensureCollection(TEST_MODEL)).rejects.toMatchObject({
      code: 'store_rejected',
      message: 'Qdrant is 1.17.1; the upgrade of the collection "old" needs 1.18 or later.',
    });
  });

  it('is made new by Qdrant 1.16 already', async () => {
    await using double = await startQdrantDouble({ version: '1.16.0' });
    await using store = openAt(double);
    await store.ensureCollection(TEST_MODEL);
    await store.upsert([toPoint('p', 0, { name: 'Red mug' })]);
    expect(await find(store, 'mugs')).toBe(1);
  });
});

describe('another LANGUAGE', () => {
  const points = [
    toPoint('haus', 0, { name: 'Häuser aus Holz' }),
    toPoint('mug', 10, { name: 'Running track' }),
  ];

  it.each(['SQLite', 'Qdrant'])('makes the words of all products again: %s', async (kind) => {
    await using double = await startQdrantDouble();
    const open = (language: 'english' | 'german' | 'none'): VectorStore =>
      kind === 'SQLite'
        ? createSqliteVectorStore({ file: join(folder, 'language.sqlite'), collection: 'c', language })
        : createQdrantVectorStore({ url: double.url, collection: 'c', timeoutMs: 30_000, language });
    await using english = open('english');
    await english.ensureCollection(TEST_MODEL);
    await english.upsert(points);
    expect([await find(english, 'run now'), await find(english, 'haus now')]).toEqual([1, 0]);
    await using german = open('german');
    await german.ensureCollection(TEST_MODEL);
    expect([await find(german, 'run now'), await find(german, 'haus now')]).toEqual([0, 1]);
    await using none = open('none');
    await none.ensureCollection(TEST_MODEL);
    expect([
      await find(none, 'haus now'),
      await find(none, 'hauser now'),
      await find(none, 'running'),
    ]).toEqual([0, 1, 1]);
  });
});
