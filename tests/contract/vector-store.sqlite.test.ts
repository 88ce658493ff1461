import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { createSqliteVectorStore } from '../../src/vectors/sqlite/vector-store.ts';
import { TEST_MODEL, toPoint } from '../support/points.ts';
import { describeVectorStore } from './vector-store.contract.ts';

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
    await once(holder, 'message');
    await using store = createSqliteVectorStore({ file: fresh, collection: 'c' });
    await expect(store.ensureCollection(TEST_MODEL)).resolves.toBeUndefined();
    await once(holder, 'exit');
  });

  it('that is no database is store_unavailable', () => {
    const text = join(folder, 'text.db');
    writeFileSync(text, 'This is text, and a good deal of it. '.repeat(100));
    expect(() => createSqliteVectorStore({ file: text, collection: 'c' })).toThrow(
      expect.objectContaining({ code: 'store_unavailable' }),
    );
  });

  it('that was closed is store_unavailable, and may be closed twice', async () => {
    const store = createSqliteVectorStore({ file, collection: 'closed' });
    await store.ensureCollection(TEST_MODEL);
    await store[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await expect(store.upsert([toPoint('p', 0)])).rejects.toMatchObject({ code: 'store_unavailable' });
    await expect(store.ping()).rejects.toMatchObject({ code: 'store_unavailable' });
  });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));
