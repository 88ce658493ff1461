import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** How long a statement waits for another process's write. */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * Opens a database that several processes share: a write-ahead log, so that readers don't wait for a writer, and
 * `synchronous = FULL`, so that what is committed survives a loss of power. Makes the file and its folder.
 * @throws what SQLite throws; each caller knows which of Vitrine's codes that is.
 */
export function openDatabase(file: string): DatabaseSync {
  mkdirSync(dirname(file), { recursive: true });
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, allowExtension: true });
  try {
    switchToWal(database);
    database.exec('PRAGMA synchronous = FULL');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** SQLite doesn't wait for its busy timeout here: two processes that open a new file at once would collide. */
function switchToWal(database: DatabaseSync): void {
  const deadline = performance.now() + BUSY_TIMEOUT_MS;
  for (;;) {
    try {
      database.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;

/** True when another connection holds what the statement needs. */
export function isBusy(error: unknown): boolean {
  const code = toSqliteCode(error);
  return code === SQLITE_BUSY || code === SQLITE_LOCKED;
}

/** SQLite's primary result code (sqlite.org/rescode.html) of a thrown error; undefined when it isn't SQLite's. */
export function toSqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number')
    return undefined;
  return error.errcode & 0xff;
}

/** Runs the work in one transaction that holds the write lock from its start. Not to be nested. */
export function inTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}
