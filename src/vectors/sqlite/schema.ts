import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { writeTransaction } from '../../sqlite/database.ts';
import { FACET_FIELDS } from '../port.ts';

/** Of the file, kept in `PRAGMA user_version`. 0: a new file, or one from before sequences were stored. */
const FORMAT = 3;

/**
 * A row of `vector_points` without `deleted_at` is a point; with it, a tombstone of a product or an image, whose vector
 * and payload are empty. `vector_words` has a row per point, under the same number: stems as often as they count, and
 * words as they are written. They are words already: the tokenizer only has to split at spaces.
 */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS vector_collections (
    name TEXT PRIMARY KEY,
    model_id TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    fingerprint TEXT NOT NULL
  ) STRICT;
  CREATE TABLE vector_points (
    row INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    image_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    deleted_at INTEGER,
    payload TEXT NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (collection, id)
  ) STRICT;
  CREATE VIRTUAL TABLE vector_words USING fts5 (
    stems, words, content = '', contentless_delete = 1,
    tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
  );
  CREATE TABLE vector_product_changes (
    collection TEXT NOT NULL,
    product_id TEXT NOT NULL,
    changes TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (collection, product_id)
  ) STRICT;
  -- Which analyzer made the rows of vector_words; NULL: some are missing.
  ALTER TABLE vector_collections ADD COLUMN words TEXT;
`;

/** What facets count of a point, in the order of FACET_FIELDS. A query with the same text gets it from the index. */
export const FACET_VALUES = `json_extract(payload, ${FACET_FIELDS.map((field) => `'$.${field}'`).join(', ')})`;
export const FACET_PRICE = "(payload ->> '$.price')";

/** Finds the points of a product, and holds what facets count, so that they needn't read vectors. */
export const PRODUCT_INDEX = 'vector_points_by_product';

const INDEX = `
  DROP INDEX IF EXISTS ${PRODUCT_INDEX};
  CREATE INDEX ${PRODUCT_INDEX} ON vector_points (collection, product_id, ${FACET_VALUES}, ${FACET_PRICE})
    WHERE deleted_at IS NULL;
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
    const current = readFormat(database);
    if (current === FORMAT) return;
    if (current < 2) createTables(database);
    database.exec(INDEX);
    database.exec(`PRAGMA user_version = ${FORMAT}`);
  });
}

/** Also from the tables of the first formats. */
function createTables(database: DatabaseSync): void {
  const columns = database
    .prepare("SELECT name FROM pragma_table_info('vector_points')")
    .all()
    .map((column) => column['name']);
  if (columns.length > 0) database.exec('ALTER TABLE vector_points RENAME TO old_vector_points');
  database.exec(SCHEMA);
  if (columns.length > 0) {
    const copied = 'collection, id, product_id, image_id, version, deleted_at, payload, vector';
    const sequence = columns.includes('sequence') ? 'sequence' : '0';
    database.exec(`
      INSERT INTO vector_points (${copied}, sequence) SELECT ${copied}, ${sequence} FROM old_vector_points;
      DROP TABLE old_vector_points;
    `);
  }
}

function readFormat(database: DatabaseSync): number {
  return database.prepare('PRAGMA user_version').get()?.['user_version'] as number;
}
