// A process of its own that writes to a SQLite store: `node vector-store-child.ts FILE COLLECTION NAME POINTS`.
import { createSqliteVectorStore } from '../../src/vectors/sqlite/vector-store.ts';
import { TEST_MODEL, toPoint } from './points.ts';

const [file = '', collection = '', name = '', points = '0'] = process.argv.slice(2);
await using store = createSqliteVectorStore({ file, collection });
await store.ensureCollection(TEST_MODEL);
for (let index = 0; index < Number(points); index += 1) {
  // One point of its own, and one that all processes write: in the end it must be of the greatest version.
  await store.upsert([
    toPoint(`${name}-${index}`, index),
    toPoint('shared', 0, { version: index, category: `of ${index}` }),
  ]);
}
