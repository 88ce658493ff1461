import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { createSqliteVectorStore } from '../../src/vectors/sqlite/vector-store.ts';
import { AXIS, TEST_MODEL, toPoint } from '../support/points.ts';
import { describeVectorStore } from './vector-store.contract.ts';

/** As files were made before sequences were stored. */
const PREVIOUS_SCHEMA = `
  CREATE TABLE vector_collections (
    name TEXT PRIMARY KEY, model_id TEXT NOT NULL, dimension INTEGER NOT NULL, fingerprint TEXT NOT NULL
  ) STRICT;
  CREATE TABLE vector_points (
    collection TEXT NOT NULL, id TEXT NOT NULL, product_id TEXT NOT NULL, image_id TEXT NOT NULL,
    version INTEGER NOT NULL, deleted_at INTEGER, payload TEXT NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (collection, id)
  ) STRICT;
  CREATE INDEX vector_points_by_product ON vector_points (collection, product_id);
`;

const SEARCH = {
  parts: [{ by: 'image', vector: AXIS, weight: 1 }],
  limit: 1,
  groupByProduct: true,
} as const;

const folder = mkdtempSync(join(tmpdir(), 'vitrine-store-'));
const file = join(folder, 'store.db');

describeVectorStore('SQLite', {
  open: (collection) => createSqliteVectorStore({ file, collection }),
  // All collections share the file, as they do in use: the folder goes with all of them.
  drop: async () => undefined,
});

describe('a file', () => {
  it('is shared by processes that make it and write to it at the same time', async () => {
    const shared = join(folder, 'new folder', 'shared.db');
    const [processes, points] = [4, 25];
    const script = join(import.meta.dirname, '..', 'support', 'vector-store-child.ts');
    const codes = await Promise.all(
      Array.from({ length: processes }, async (_, index) => {
        const args = ['--disable-warning=ExperimentalWarning', script, shared, 'c', `p${index}`, `${points}`];
        const [code] = await once(
          spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] }),
          'exit',
        );
        return code;
      }),
    );
    expect(codes).toEqual(Array(processes).fill(0));
    await using store = createSqliteVectorStore({ file: shared, collection: 'c' });
    expect(await store.count()).toBe(processes * points + 1);
    expect((await store.getProduct('shared'))[0]?.payload.version).toBe(points - 1);
  });

  it('that another process is just making is waited for', async () => {
    const fresh = join(folder, 'fresh.db');
    // Holds the write lock of a file that is not in WAL mode yet, where SQLite's own busy timeout doesn't apply to
    // the switch. The holder needs one itself: its commit can meet one of the opener's attempts.
    const holder = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const { DatabaseSync } = require('node:sqlite');
       const database = new DatabaseSync(workerData, { timeout: 10_000 });
       database.exec('BEGIN IMMEDIATE; CREATE TABLE t (a)');
       parentPort.postMessage('held');
       setTimeout(() => database.exec('COMMIT'), 200);`,
      { eval: true, workerData: fresh },
    );
    const exited = once(holder, 'exit');
    await once(holder, 'message');
    await using store = createSqliteVectorStore({ file: fresh, collection: 'c' });
    await expect(store.ensureCollection(TEST_MODEL)).resolves.toBeUndefined();
    await exited;
  });

  it('that is no database is store_unavailable, until it is one', async () => {
    const text = join(folder, 'text.db');
    writeFileSync(text, 'This is text, and a good deal of it. '.repeat(100));
    await using store = createSqliteVectorStore({ file: text, collection: 'c' });
    await expect(store.ping()).rejects.toMatchObject({ code: 'store_unavailable' });
    rmSync(text);
    await expect(store.ping()).resolves.toBeUndefined();
  });

  it('is opened with the first call', async () => {
    const unused = join(folder, 'unused.db');
    await using store = createSqliteVectorStore({ file: unused, collection: 'c' });
    expect(existsSync(unused)).toBe(false);
    await store.ping();
    expect(existsSync(unused)).toBe(true);
  });

  it('of the previous format is upgraded, with its points and tombstones', async () => {
    const old = join(folder, 'old.db');
    const database = new DatabaseSync(old);
    database.exec(PREVIOUS_SCHEMA);
    database
      .prepare('INSERT INTO vector_collections VALUES (?, ?, ?, ?)')
      .run('c', TEST_MODEL.id, TEST_MODEL.dimension, TEST_MODEL.fingerprint);
    const insert = database.prepare('INSERT INTO vector_points VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
    const payload = { productId: 'same', imageId: 'main', version: 5, indexedAt: 1 };
    const vector = new Uint8Array(AXIS.buffer);
    const write = (productId: string, version: number, deletedAt: number | null) => {
      const json = deletedAt === null ? JSON.stringify({ ...payload, productId, version }) : '{}';
      insert.run('c', toPoint(productId, 0).id, productId, 'main', version, deletedAt, json, vector);
    };
    write('same', 5, null);
    write('higher', 9, null);
    write('gone', 6, 1);
    write('deleted', 9, null);
    database.close();

    const stores = [1, 2, 3].map(() => createSqliteVectorStore({ file: old, collection: 'c' }));
    await Promise.all(stores.map((store) => store.ensureCollection(TEST_MODEL)));
    const store = stores[0]!;
    expect(await store.count()).toBe(3);
    expect((await store.getProduct('same'))[0]?.payload).toEqual({
      ...payload,
      imageRef: null,
      contentHash: '',
      sequence: 0,
    });
    const writes = ['same', 'higher', 'gone'].map((id) => toPoint(id, 0, { version: 5, sequence: 100 }));
    expect(await store.upsert(writes)).toEqual(['indexed', 'superseded', 'indexed']);
    expect(await store.deleteProduct('deleted', 200, [])).toBe(1);
    const back = toPoint('deleted', 0, { version: 1, sequence: 201 });
    expect(await store.upsert([back])).toEqual(['indexed']);
    expect(await store.count()).toBe(4);
    for (const opened of stores) await opened[Symbol.asyncDispose]();
  });

  it('without what facets count in its index gets it', async () => {
    const old = join(folder, 'index.db');
    const facets = { fields: ['category'], metadataKeys: [], priceRanges: [{ gte: 5 }], limit: 10 } as const;
    await using before = createSqliteVectorStore({ file: old, collection: 'c' });
    await before.ensureCollection(TEST_MODEL);
    await before.upsert([toPoint('p', 0, { category: 'mugs', price: 5 })]);
    await before[Symbol.asyncDispose]();
    const database = new DatabaseSync(old);
    database.exec(`
      DROP INDEX vector_points_by_product;
      CREATE INDEX vector_points_by_product ON vector_points (collection, product_id);
      PRAGMA user_version = 2;
    `);
    database.close();
    await using store = createSqliteVectorStore({ file: old, collection: 'c' });
    await store.ensureCollection(TEST_MODEL);
    expect(await store.facets(facets)).toMatchObject({
      fields: { category: [{ value: 'mugs', products: 1 }] },
      prices: [1],
    });
    const upgraded = new DatabaseSync(old);
    const [index] = upgraded
      .prepare("SELECT sql FROM sqlite_schema WHERE name = 'vector_points_by_product'")
      .all();
    expect(index?.['sql']).toContain('$.category');
    upgraded.close();
  });

  it('of a newer format is refused', async () => {
    const newer = join(folder, 'newer.db');
    const database = new DatabaseSync(newer);
    database.exec('PRAGMA user_version = 99');
    database.close();
    await using store = createSqliteVectorStore({ file: newer, collection: 'c' });
    await expect(store.count()).rejects.toMatchObject({
      code: 'store_rejected',
      message: 'The database was written by a newer version of Vitrine.',
    });
  });

  it('that another process has locked can be read, and a write waits without blocking the process', async () => {
    const locked = join(folder, 'locked.db');
    await using store = createSqliteVectorStore({ file: locked, collection: 'c' });
    await store.ensureCollection(TEST_MODEL);
    await store.upsert([toPoint('p', 0)]);
    const holder = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const { DatabaseSync } = require('node:sqlite');
       const database = new DatabaseSync(workerData, { timeout: 10_000 });
       database.exec('BEGIN IMMEDIATE');
       parentPort.postMessage('held');
       setTimeout(() => database.exec('COMMIT'), 1_000);`,
      { eval: true, workerData: locked },
    );
    const exited = once(holder, 'exit');
    await once(holder, 'message');
    const delays = monitorEventLoopDelay({ resolution: 10 });
    delays.enable();
    const write = store.upsert([toPoint('q', 0)]);
    expect(await store.count()).toBe(1);
    expect(await store.getProduct('p')).toHaveLength(1);
    expect(await write).toEqual(['indexed']);
    delays.disable();
    expect(delays.max / 1e6).toBeLessThan(500);
    await exited;
  });

  it('that was closed is store_unavailable, and may be closed twice', async () => {
    const store = createSqliteVectorStore({ file, collection: 'closed' });
    await store.ensureCollection(TEST_MODEL);
    await store[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await expect(store.upsert([toPoint('p', 0)])).rejects.toMatchObject({ code: 'store_unavailable' });
    await expect(store.ping()).rejects.toMatchObject({ code: 'store_unavailable' });
    await expect(store.search(SEARCH)).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  it('is searched in another thread: this one does other things meanwhile', async () => {
    await using store = createSqliteVectorStore({ file, collection: 'threads' });
    await store.ensureCollection(TEST_MODEL);
    await store.upsert([toPoint('p', 0)]);
    const queries = {
      search: () => store.search(SEARCH),
      facets: () => store.facets({ fields: ['brand'], metadataKeys: [], priceRanges: [], limit: 1 }),
      listProducts: () => store.listProducts({ limit: 1 }),
      duplicates: () => store.duplicates({ threshold: 0.98, limit: 1 }),
    };
    for (const [name, query] of Object.entries(queries)) {
      const events: string[] = [];
      const asked = query().then(() => events.push('answered'));
      setImmediate(() => events.push('did other things'));
      await asked;
      expect(events, name).toEqual(['did other things', 'answered']);
    }
  });

  it('that is closed during a search ends the search', async () => {
    const store = createSqliteVectorStore({ file, collection: 'closing' });
    await store.ensureCollection(TEST_MODEL);
    const searches = Array.from({ length: 20 }, () => store.search(SEARCH));
    const settled = Promise.allSettled(searches);
    await store[Symbol.asyncDispose]();
    for (const search of await settled) {
      if (search.status === 'rejected') expect(search.reason).toMatchObject({ code: 'store_unavailable' });
      else expect(search.value).toEqual([]);
    }
  });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));
