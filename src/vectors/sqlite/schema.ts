import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { writeTransaction } from '../../sqlite/database.ts';

/** Of the file, kept in `PRAGMA user_version`. 0: a new file, or one from before sequences were stored. */
const FORMAT = 1;

/** A row without `deleted_at` is a point; with it, a product's tombstone, whose vector and payload are empty. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS vector_collections (
    name TEXT PRIMARY KEY,
    model_id TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    fingerprint TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS vector_points (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    image_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted_at INTEGER,
    payload TEXT NOT NULL,
    vector BLOB NOT NULL,
    sequence INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (collection, id)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS vector_points_by_product ON vector_points (collection, product_id);
`;

/**
 * Makes the tables, or upgrades them. Several processes may do it at the same time.
 * @throws VitrineError `store_rejected` for a file that a newer Vitrine wrote
 */
export async function ensureSchema(database: DatabaseSync): Promise<void> {
  const found = readFormat(database);
  if (found === FORMAT) return;
  if (found > FORMAT) {
    throw new VitrineError('store_rejected', 'The database was written by a newer version of Vitrine.', {
      suggestion: 'Start that version or a later one, or set DATA_DIR to a new folder.',
    });
  }
  await writeTransaction(database, () => {
    if (readFormat(database) === FORMAT) return;
    const columns = database.prepare("SELECT name FROM pragma_table_info('vector_points')").all();
    if (columns.length > 0 && !columns.some((column) => column['name'] === 'sequence')) {
      database.exec('ALTER TABLE vector_points ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0');
    }
    database.exec(SCHEMA);
    database.exec(`PRAGMA user_version = ${FORMAT}`);
  });
}

function readFormat(database: DatabaseSync): number {
  return database.prepare('PRAGMA user_version').get()?.['user_version'] as number;
}
