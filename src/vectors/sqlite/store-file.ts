import type { DatabaseSync } from 'node:sqlite';
import { getLoadablePath } from 'sqlite-vec';
import type { Language } from '../../config/languages.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import { systemClock } from '../../observability/system-clock.ts';
import { isBusy, openDatabase, readSnapshot, toSqliteCode } from '../../sqlite/database.ts';
import { loadWordAnalyzer } from '../words.ts';
import type { SqliteCollection } from './collection.ts';
import { ensureSchema } from './schema.ts';

export interface SqliteVectorStoreSettings {
  readonly file: string;
  readonly collection: string;
  /** Of the products' texts; English by default. */
  readonly language?: Language;
  /** Dates tombstones. */
  readonly clock?: Clock;
}

/** A connection of this thread to the store's file, opened with the first call. */
export interface StoreFile extends AsyncDisposable {
  /** Turns SQLite's errors into ours. */
  use<T>(work: (collection: SqliteCollection) => T | Promise<T>): Promise<T>;
  /** For what only reads: it waits for no writer. */
  read<T>(work: (collection: SqliteCollection) => T): Promise<T>;
}

export function createStoreFile(settings: SqliteVectorStoreSettings): StoreFile {
  const { file, collection: name, language = 'english', clock = systemClock } = settings;
  let opening: Promise<SqliteCollection> | null = null;
  let closed = false;

  async function use<T>(work: (collection: SqliteCollection) => T | Promise<T>): Promise<T> {
    try {
      if (closed) throw new VitrineError('store_unavailable', 'The store is closed.');
      opening ??= open().catch((error) => {
        opening = null;
        throw error;
      });
      return await work(await opening);
    } catch (error) {
      throw toStoreError(error);
    }
  }

  async function open(): Promise<SqliteCollection> {
    const analyzer = await loadWordAnalyzer(language);
    return { database: await openStore(file), name, analyzer, clock };
  }

  return {
    use,
    read: (work) => use((collection) => readSnapshot(collection.database, () => work(collection))),
    async [Symbol.asyncDispose]() {
      closed = true;
      const { database } = (await opening?.catch(() => null)) ?? {};
      if (database?.isOpen) database.close();
    },
  };
}

async function openStore(file: string): Promise<DatabaseSync> {
  const database = openDatabase(file);
  try {
    database.loadExtension(getLoadablePath());
    database.enableLoadExtension(false);
    await ensureSchema(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** A statement that can't work however often it is tried; sqlite.org/rescode.html. */
const REJECTED: readonly number[] = [1, 18, 19, 20, 21, 25];

function toStoreError(error: unknown): VitrineError {
  if (error instanceof VitrineError) return error;
  const suggestion = 'Check DATA_DIR, its free space and its permissions. `vitrine doctor` shows more.';
  if (isBusy(error)) {
    return new VitrineError('store_unavailable', 'The database is busy.', { cause: error, suggestion });
  }
  if (REJECTED.includes(toSqliteCode(error) ?? 0)) {
    return new VitrineError('store_rejected', 'The database refused the statement.', { cause: error });
  }
  return new VitrineError('store_unavailable', 'The database file is not usable.', {
    cause: error,
    suggestion,
  });
}
