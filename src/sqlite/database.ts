import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';

/** How long a statement blocks this thread while another process writes. */
const BUSY_TIMEOUT_MS = 20;

/** How long a call waits for other processes in all, without blocking. */
const DEADLINE_MS = 10_000;

/**
 * Opens a database that several processes share: a write-ahead log, so that readers don't wait for a writer, and
 * `synchronous = FULL`, so that what is committed survives a loss of power. Creates the file and its folder.
 * @throws what SQLite throws; each caller knows which of Vitrine's codes that is.
 */
export function openDatabase(file: string): DatabaseSync {
  mkdirSync(dirname(file), { recursive: true });
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, allowExtension: true });
  try {
    // SQLite doesn't wait for its busy timeout here: two processes that open a new file at once would collide.
    blockWhileBusy(() => database.exec('PRAGMA journal_mode = WAL'));
    database.exec('PRAGMA synchronous = FULL');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Repeats the work while another process holds what it needs. It blocks this one: for opening a file, and no more. */
export function blockWhileBusy<T>(work: () => T): T {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    try {
      return work();
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
export const inTransaction = <T>(database: DatabaseSync, work: () => T): T =>
  runBetween(database, 'BEGIN IMMEDIATE', work);

interface Write {
  readonly deadline: number;
  work(): unknown;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** What waits to be written, for each connection that is writing. */
const waitingWrites = new WeakMap<DatabaseSync, Write[]>();

/** A transaction takes no more writes after this: it blocks the thread. */
const GROUP_MS = 20;

/**
 * Runs the work in a write transaction. Calls on the same connection run in order; those that wait at the same time
 * share a transaction, since each commit waits for the disk, but one that fails changes nothing. While another process
 * holds the write lock, they wait without blocking the event loop, up to 10 s by default. The work may run more than
 * once.
 * @throws what SQLite throws; `isBusy` when the lock wasn't free in time
 */
export function writeTransaction<T>(
  database: DatabaseSync,
  work: () => T,
  timeoutMs = DEADLINE_MS,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const write = { deadline: performance.now() + timeoutMs, work, resolve, reject } as Write;
    const waiting = waitingWrites.get(database);
    if (waiting !== undefined) waiting.push(write);
    else {
      const first = [write];
      waitingWrites.set(database, first);
      void writeAll(database, first);
    }
  });
}

async function writeAll(database: DatabaseSync, waiting: Write[]): Promise<void> {
  while (waiting.length > 0) {
    // In a later turn of the event loop: each transaction may block for a moment.
    await nextTurn();
    const deadline = waiting[0]?.deadline ?? 0;
    try {
      const settled = await retryWhileBusy(
        () => inTransaction(database, () => runGroup(database, waiting)),
        deadline,
      );
      waiting.splice(0, settled.length);
      for (const settle of settled) settle();
    } catch (error) {
      waiting.shift()?.reject(error);
    }
  }
  waitingWrites.delete(database);
}

/** Runs waiting writes, inside a transaction; returns what tells each how it ended, once that is committed. */
function runGroup(database: DatabaseSync, waiting: readonly Write[]): readonly (() => void)[] {
  const until = performance.now() + GROUP_MS;
  const settled: (() => void)[] = [];
  for (const { work, resolve, reject } of waiting) {
    if (settled.length > 0 && performance.now() > until) break;
    database.exec('SAVEPOINT write');
    try {
      const result = work();
      settled.push(() => resolve(result));
    } catch (error) {
      // Some errors, such as a full disk, end the transaction for all.
      if (!database.isTransaction) throw error;
      database.exec('ROLLBACK TO write');
      settled.push(() => reject(error));
    }
    database.exec('RELEASE write');
  }
  return settled;
}

/** Runs the work on one snapshot of the database. It waits for no writer and takes no write lock. */
export function readSnapshot<T>(database: DatabaseSync, work: () => T): Promise<T> {
  return retryWhileBusy(() => runBetween(database, 'BEGIN', work), performance.now() + DEADLINE_MS);
}

async function retryWhileBusy<T>(work: () => T, deadline: number): Promise<T> {
  for (;;) {
    try {
      return work();
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error;
    }
    await delay(5 + Math.random() * 20);
  }
}

function runBetween<T>(database: DatabaseSync, begin: string, work: () => T): T {
  database.exec(begin);
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

export interface Statements {
  get<Row>(sql: string, ...values: StatementValues): Row | undefined;
  all<Row>(sql: string, ...values: StatementValues): Row[];
  /** @returns how many rows changed */
  run(sql: string, ...values: StatementValues): number;
}

type StatementValues = readonly (SQLInputValue | Record<string, SQLInputValue>)[];

/** Runs statements by their text, and prepares each once. Named parameters come in an object. */
export function createStatements(database: DatabaseSync): Statements {
  const prepared = new Map<string, StatementSync>();
  function prepare(sql: string): StatementSync {
    const known = prepared.get(sql);
    if (known !== undefined) return known;
    const statement = database.prepare(sql);
    statement.setAllowUnknownNamedParameters(true);
    prepared.set(sql, statement);
    return statement;
  }
  // SQLite knows values by position and by name; TypeScript's overloads know one of them per call.
  const spread = (values: StatementValues) => values as SQLInputValue[];
  return {
    get: <Row>(sql: string, ...values: StatementValues) =>
      prepare(sql).get(...spread(values)) as Row | undefined,
    all: <Row>(sql: string, ...values: StatementValues) => prepare(sql).all(...spread(values)) as Row[],
    run: (sql, ...values) => Number(prepare(sql).run(...spread(values)).changes),
  };
}
