import type { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ProductFields } from '../../catalog/product-image.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import { writeTransaction } from '../../sqlite/database.ts';
import type { ModelIdentity } from '../port.ts';
import { assertSameModel } from '../vector.ts';
import type { DocumentWords, WordAnalyzer } from '../words.ts';

/** An open database, and the collection in it that the store is for. */
export interface SqliteCollection {
  readonly database: DatabaseSync;
  readonly name: string;
  readonly analyzer: WordAnalyzer;
  readonly clock: Clock;
}

/** Points whose words are made in one transaction. */
const POINTS_PER_TRANSACTION = 200;

export function readModel({
  database,
  name,
}: Pick<SqliteCollection, 'database' | 'name'>): ModelIdentity | null {
  const row = database
    .prepare('SELECT model_id AS id, dimension, fingerprint FROM vector_collections WHERE name = ?')
    .get(name);
  return row === undefined ? null : ({ ...row } as unknown as ModelIdentity);
}

/** @throws VitrineError `store_rejected` when the collection hasn't been made */
export function requireModel(collection: SqliteCollection): ModelIdentity {
  const model = readModel(collection);
  if (model === null)
    throw new VitrineError('store_rejected', `There is no collection "${collection.name}".`);
  return model;
}

/** @throws VitrineError `model_mismatch` */
export async function ensureCollection(collection: SqliteCollection, model: ModelIdentity): Promise<void> {
  const { database, name, analyzer } = collection;
  if (readModel(collection) === null) {
    const insert = database.prepare(
      `INSERT INTO vector_collections (name, model_id, dimension, fingerprint, words) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO NOTHING`,
    );
    await writeTransaction(database, () =>
      insert.run(name, model.id, model.dimension, model.fingerprint, analyzer.version),
    );
  }
  assertSameModel(name, requireModel(collection), model);
  const stored = database.prepare('SELECT words FROM vector_collections WHERE name = ?').get(name);
  if (stored?.['words'] !== analyzer.version) await rebuildWords(collection);
}

/** Of all points, for a file of an earlier version or of another language. Searches go on while it works. */
async function rebuildWords({ database, name, analyzer }: SqliteCollection): Promise<void> {
  const readPoints = database.prepare(
    `SELECT row, payload FROM vector_points NOT INDEXED
     WHERE collection = ? AND deleted_at IS NULL AND row > ? ORDER BY row LIMIT ${POINTS_PER_TRANSACTION}`,
  );
  const write = createWordsWriter(database);
  for (let last: number | undefined = 0; last !== undefined; ) {
    const after: number = last;
    last = await writeTransaction(database, () => {
      const rows = readPoints.all(name, after);
      for (const row of rows) {
        const fields = JSON.parse(row['payload'] as string) as ProductFields;
        write(row['row'] as number, analyzer.ofProduct(fields));
      }
      return rows.at(-1)?.['row'] as number | undefined;
    });
    await nextTurn();
  }
  const setVersion = database.prepare('UPDATE vector_collections SET words = ? WHERE name = ?');
  await writeTransaction(database, () => setVersion.run(analyzer.version, name));
}

/** A stem is repeated as often as it counts; the search's own ranking does the rest. */
export function createWordsWriter(database: DatabaseSync): (row: number, words: DocumentWords) => void {
  const write = database.prepare(
    'INSERT OR REPLACE INTO vector_words (rowid, stems, words) VALUES (?, ?, ?)',
  );
  return (row, { stems, words }) => {
    const repeated = [...stems].flatMap(([stem, count]) => Array<string>(count).fill(stem));
    write.run(row, repeated.join(' '), [...words].join(' '));
  };
}
