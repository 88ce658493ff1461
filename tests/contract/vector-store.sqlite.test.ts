import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { createSqliteVectorStore } from '../../src/adapters/sqlite/sqlite-vector-store.ts';
import { describeVectorStore } from './vector-store.contract.ts';

const folder = mkdtempSync(join(tmpdir(), 'vitrine-store-'));
const file = join(folder, 'store.db');

describeVectorStore('SQLite', {
  open: (collection) => createSqliteVectorStore({ file, collection }),
  // All collections share the file, as they do in use: the folder goes with all of them.
  drop: async () => undefined,
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));
